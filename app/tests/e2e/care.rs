//! Who may see what follows who is registered to care for whom, also on what is open already.

use std::time::Duration;

use futures::StreamExt;
use schemas::access::{Live, Principal, Role};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

use super::house::{House, PATIENCE, ago, heart_rate};
use app::client;
use axum::http::Method;

/// A token of a practitioner that names no patient.
fn doctor(house: &House, id: &str) -> String {
    let principal = Principal {
        subject: id.into(),
        role: Role::Doctor,
        patients: Vec::new(),
        live: Live::default(),
        sensors: Vec::new(),
    };
    house.server.token(&principal, Duration::from_secs(600)).unwrap()
}

async fn register(house: &House, team: &[&str]) {
    let body = json!({ "name": "Awa Diop", "care_team": team });
    let body = ("application/json", body.to_string().into());
    let answer = client::call(&house.http, Method::PUT, "/v1/patients/p1", &house.token, body)
        .await
        .unwrap();
    assert!(matches!(answer.0, 200 | 201), "{answer:?}");
}

/// Asks as somebody until the patient is there for them, or not.
async fn until_seen(house: &House, token: &str, seen: bool) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while client::get(&house.http, "/v1/patients/p1/latest", token).await.is_ok() != seen {
        assert!(tokio::time::Instant::now() < deadline, "seen: {}", !seen);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_doctor_sees_patients_from_joining_their_care_team_to_leaving_it_on_open_streams_too() {
    let house = House::new().await;
    house.send(json!([heart_rate("p1", 80.0, ago(2))])).await;
    let (ba, sow) = (doctor(&house, "dr.ba"), doctor(&house, "dr.sow"));
    until_seen(&house, &house.token, true).await;
    assert!(client::get(&house.http, "/v1/patients/p1/latest", &ba).await.is_err());

    register(&house, &["dr.ba"]).await;
    until_seen(&house, &ba, true).await;
    let listed = client::get(&house.http, "/v1/patients", &ba).await.unwrap();
    assert_eq!(listed["patients"][0]["id"], "p1", "{listed}");
    for (token, count) in [(&ba, 1), (&sow, 0)] {
        let listed = client::get(&house.http, "/v1/patients", token).await.unwrap();
        assert_eq!(listed["patients"].as_array().unwrap().len(), count, "{listed}");
    }
    assert!(client::get(&house.http, "/v1/patients/p1/latest", &sow).await.is_err());

    let plan = json!({ "patient_id": "p1", "practitioner_id": "dr.ba" });
    for (token, status) in [(&ba, 201), (&sow, 404)] {
        let (answered, answer) = client::post(&house.http, "/v1/consultations", token, &plan)
            .await
            .unwrap();
        assert_eq!(answered, status, "{answer}");
    }

    let mut request = format!("ws://{}/ws/patients/p1/", house.http)
        .into_client_request()
        .unwrap();
    let bearer = format!("Bearer {ba}").parse().unwrap();
    request.headers_mut().insert("authorization", bearer);
    let (mut socket, _) = tokio_tungstenite::connect_async(request).await.unwrap();
    socket.next().await.unwrap().unwrap();

    register(&house, &["dr.sow"]).await;
    until_seen(&house, &ba, false).await;
    until_seen(&house, &sow, true).await;
    // What comes now is not for the stream that is still open.
    house.send(json!([heart_rate("p1", 81.0, ago(0))])).await;
    let ended = async {
        loop {
            match socket.next().await {
                Some(Ok(Message::Close(frame))) => return frame,
                Some(Ok(Message::Text(text))) => {
                    let frame: Value = serde_json::from_str(&text).unwrap();
                    assert_eq!(frame["sensor_data"], json!([]), "told after the right had ended");
                }
                Some(Ok(_)) => {}
                other => panic!("{other:?}"),
            }
        }
    };
    let close = tokio::time::timeout(PATIENCE, ended).await.unwrap().unwrap();
    assert_eq!(u16::from(close.code), 4403, "{close:?}");

    let house = House::on(house.stop().await).await;
    let (ba, sow) = (doctor(&house, "dr.ba"), doctor(&house, "dr.sow"));
    assert!(client::get(&house.http, "/v1/patients/p1/latest", &sow).await.is_ok());
    assert!(client::get(&house.http, "/v1/patients/p1/latest", &ba).await.is_err());
}
