//! Two registrations of one person: seen as one, judged as one, with the rights of both.

use std::collections::BTreeSet;
use std::time::Duration;

use app::client;
use axum::http::Method;
use futures::StreamExt;
use schemas::access::{Principal, Role};
use schemas::ids::{PatientId, SensorId};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

use super::assignments::{assign, codes, pulse, put, readings, register};
use super::house::{House, PATIENCE, ago, principal};

#[tokio::test(flavor = "multi_thread")]
async fn two_registrations_of_one_person_are_one_until_it_is_taken_back() {
    let house = House::new().await;
    register(&house, &["awa", "awa-again", "binta"], &["patch"]).await;
    house
        .until("/v1/patients/binta", |answer| answer["id"] == "binta")
        .await;
    assign(&house, "patch", Some("awa-again"), Some(ago(600))).await;
    let first = ago(300);
    let sent = json!([
        pulse("cuff", Some("awa"), 60.0, first),
        pulse("patch", Some("awa-again"), 190.0, ago(280)),
        pulse("patch", Some("awa-again"), 191.0, ago(270)),
    ]);
    assert_eq!(codes(&house.send(sent).await), ["", "", ""]);
    let high = |answer: &Value| answer["alerts"].as_array().is_some_and(|alerts| !alerts.is_empty());
    house.until("/v1/patients/awa-again/alerts", high).await;

    let merge = async |patient: &str, into: Value| {
        let body = ("application/json", json!({ "into": into }).to_string().into());
        let path = format!("/v1/patients/{patient}/merge");
        client::call(&house.http, Method::POST, &path, &house.token, body)
            .await
            .unwrap()
    };
    for wrong in [json!("awa-again"), json!("nobody"), json!(7)] {
        assert_eq!(merge("awa-again", wrong).await.0, 400);
    }
    let mut request = format!("ws://{}/ws/patients/awa-again/", house.http)
        .into_client_request()
        .unwrap();
    let bearer = format!("Bearer {}", house.token).parse().unwrap();
    request.headers_mut().insert("authorization", bearer);
    let (mut watching, _) = tokio_tungstenite::connect_async(request).await.unwrap();
    assert_eq!(merge("awa-again", json!("awa")).await.0, 200);
    let closed = tokio::time::timeout(PATIENCE, async {
        loop {
            match watching.next().await {
                Some(Ok(Message::Close(Some(frame)))) => return u16::from(frame.code),
                Some(Ok(_)) => {}
                other => panic!("{other:?}"),
            }
        }
    });
    assert_eq!(closed.await.unwrap(), 4410, "what comes now comes under the other one");
    let into = |answer: &Value| answer["merged_into"] == "awa";
    house.until("/v1/patients/awa-again", into).await;
    assert_eq!(merge("awa", json!("awa-again")).await.0, 400, "a ring");
    assert_eq!(put(&house, "/v1/patients/gone", &json!({})).await.0, 200);
    let body = ("", bytes::Bytes::new());
    let ended = client::call(&house.http, Method::DELETE, "/v1/patients/gone", &house.token, body).await;
    assert_eq!(ended.unwrap().0, 200);
    assert_eq!(
        merge("binta", json!("gone")).await.0,
        400,
        "whose registration has ended"
    );

    // Whoever had a right to one of them has it to both: the patient, and a gateway that is bound to patients.
    let of_one = |role, patient: &str| Principal {
        patients: vec![PatientId::new(patient).unwrap()],
        sensors: vec![SensorId::new("cuff").unwrap()],
        ..principal(role)
    };
    for (own, other) in [("awa", "awa-again"), ("awa-again", "awa")] {
        let hour = Duration::from_secs(3600);
        let token = house.server.token(&of_one(Role::Patient, own), hour).unwrap();
        for patient in [own, other] {
            client::get(&house.http, &format!("/v1/patients/{patient}/latest"), &token)
                .await
                .unwrap();
        }
        assert!(
            client::get(&house.http, "/v1/patients/binta/latest", &token)
                .await
                .is_err()
        );
        let token = house.server.token(&of_one(Role::Gateway, own), hour).unwrap();
        let sent =
            json!({ "readings": [pulse("cuff", Some(other), 60.0, first), pulse("cuff", Some("binta"), 1.0, ago(1))] });
        let (_, answer) = client::post(&house.http, "/v1/readings", &token, &sent).await.unwrap();
        assert_eq!(
            codes(&answer),
            ["", "unauthorised"],
            "the same reading again, by a gateway of {own}"
        );
    }

    // Whatever they are named, and whoever they name.
    let sent = json!([
        pulse("cuff", Some("awa-again"), 61.0, ago(20)),
        pulse("patch", Some("awa"), 62.0, ago(15)),
        pulse("patch", Some("awa-again"), 63.0, ago(12)),
        pulse("patch", None, 64.0, ago(10)),
        pulse("patch", Some("binta"), 65.0, ago(9)),
    ]);
    let refused = "not_this_patients_sensor";
    assert_eq!(codes(&house.send(sent).await), ["", "", "", "", refused]);
    let all = [60.0, 61.0, 62.0, 63.0, 64.0, 190.0, 191.0];
    let whole = |answer: &Value| {
        answer["readings"]
            .as_array()
            .is_some_and(|rows| rows.len() == all.len())
    };
    for patient in ["awa", "awa-again"] {
        house
            .until(&format!("/v1/patients/{patient}/readings?metric=heart_rate"), whole)
            .await;
        assert_eq!(readings(&house, patient).await, (all.to_vec(), Vec::new()), "{patient}");
        assert!(
            high(&house.get(&format!("/v1/patients/{patient}/alerts")).await),
            "{patient}"
        );
        let newest = house.get(&format!("/v1/patients/{patient}/latest")).await;
        let text = newest.to_string();
        assert!(
            text.contains("64.0") && text.contains("61.0") && !text.contains("191.0"),
            "{text}"
        );
        let sensors = |answer: &Value| {
            let windows = answer["windows"].as_array().into_iter().flatten();
            let sensors: BTreeSet<&str> = windows.filter_map(|it| it["sensor_id"].as_str()).collect();
            sensors == BTreeSet::from(["cuff", "patch"])
        };
        let windows = format!("/v1/patients/{patient}/windows?metric=heart_rate&size=1m");
        house.until(&windows, sensors).await;
    }
    // Nothing of it waits but what named another person.
    let said = json!({ "from": ago(400), "to": ago(0), "patient_id": "awa" });
    let (status, answer) = client::post(&house.http, "/v1/sensors/patch/reattribute", &house.token, &said)
        .await
        .unwrap();
    assert_eq!((status, &answer["readings"]), (200, &json!(1)), "{answer}");
    let listed = async || {
        let answer = house.get("/v1/patients").await;
        let ids = answer["patients"].as_array().unwrap().iter();
        ids.map(|it| it["id"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(listed().await, ["awa", "binta"]);

    assert_eq!(merge("awa-again", Value::Null).await.0, 200);
    house
        .until("/v1/patients/awa-again", |answer| answer["merged_into"].is_null())
        .await;
    assert_eq!(listed().await, ["awa", "awa-again", "binta"]);
    // What the patch measured before it was said, it measured when it was worn under the other registration.
    assert_eq!(readings(&house, "awa-again").await.0, [62.0, 63.0, 64.0, 190.0, 191.0]);
    assert_eq!(readings(&house, "awa").await.0, [60.0, 61.0, 65.0]);
    house.verify().await;
}
