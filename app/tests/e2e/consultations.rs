//! A consultation from the plan to what is told of it a day later.

use app::client;
use app::control::{Replay, Request, ask};
use futures::StreamExt;
use schemas::time::{Span, Timestamp};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use super::house::{House, PATIENCE, ago, config, heart_rate};

/// A moment of this millisecond or the next one: after everything that was answered before.
fn now() -> Timestamp {
    ago(0) + Span::millis(1)
}

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

async fn post(house: &House, path: &str, body: Value) -> (u16, Value) {
    client::post(&house.http, path, &house.token, &body).await.unwrap()
}

/// What a browser's page does: it has a ticket and no header of its own.
async fn page(house: &House, consultation: &str) -> Socket {
    let (status, ticket) = post(house, "/v1/tickets", json!({})).await;
    assert!(status < 300, "{ticket}");
    let ticket = ticket["ticket"].as_str().unwrap();
    let url = format!("ws://{}/ws/consultation/{consultation}/?ticket={ticket}", house.http);
    tokio_tungstenite::connect_async(url).await.unwrap().0
}

/// Frames until one is as it should be; `None` where the stream ends.
async fn until(socket: &mut Socket, there: impl Fn(&Value) -> bool) -> Option<Value> {
    let found = async {
        while let Some(message) = socket.next().await {
            match message.unwrap() {
                Message::Text(text) => {
                    let data: Value = serde_json::from_str(&text).unwrap();
                    if there(&data) {
                        return Some(data);
                    }
                }
                Message::Close(_) => return None,
                _ => {}
            }
        }
        None
    };
    tokio::time::timeout(PATIENCE, found).await.unwrap()
}

fn values(data: &Value) -> Vec<f64> {
    let readings = data["sensor_data"].as_array().unwrap();
    readings
        .iter()
        .filter_map(|reading| reading["value"].as_f64())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consultation_is_held_seen_live_closed_and_looked_at_again() {
    let house = House::new().await;
    let plan = json!({"id": "7", "patient_id": "p1", "practitioner_id": "dr.b"});
    assert_eq!(post(&house, "/v1/consultations", plan).await.0, 201);
    let mut socket = page(&house, "7").await;
    assert_eq!(post(&house, "/v1/consultations/7/close", json!({})).await.0, 409);
    assert_eq!(post(&house, "/v1/consultations/7/open", json!({})).await.0, 200);
    assert_eq!(post(&house, "/v1/consultations/7/open", json!({})).await.0, 409);

    // What was measured before the opening is told live as it comes, but is no part of the consultation.
    let mut refused = heart_rate("p1", 9_999.0, ago(0));
    refused["unit"] = json!("/min");
    let alarm = json!({"patient_id": "p1", "sensor_id": "p1-ecg", "type": "alarm", "code": "asystole", "at": ago(0)});
    let sent = house
        .send(json!([
            heart_rate("p1", 61.0, ago(3_600)),
            heart_rate("p1", 70.0, now()),
            heart_rate("p2", 50.0, ago(0)),
            refused,
            alarm,
        ]))
        .await;
    assert_eq!((&sent["accepted"], &sent["rejected"]), (&json!(4), &json!(1)), "{sent}");
    let data = until(&mut socket, |data| values(data).contains(&70.0)).await.unwrap();
    assert!(!values(&data).contains(&50.0), "{data}");
    let told = |data: &Value| data["alerts"].as_array().is_some_and(|alerts| !alerts.is_empty());
    if !told(&data) {
        until(&mut socket, told).await.unwrap();
    }
    let folded = |one: &Value| one["real_time_data"]["heart_rate"]["count"] == 1;
    let one = house.until("/v1/consultations/7", folded).await;
    assert_eq!(one["state"], "open");

    let note = json!({"text": "looks pale", "at": ago(0)});
    assert_eq!(post(&house, "/v1/consultations/7/notes", note).await.0, 200);
    let seen_at = ago(0);
    house.send(json!([heart_rate("p1", 72.0, now())])).await;
    let (status, closed) = post(&house, "/v1/consultations/7/close", json!({})).await;
    assert_eq!(status, 200, "{closed}");
    let end = until(&mut socket, |data| data["cursor"].is_null()).await;
    assert_eq!(end, None, "the page is told that it is over");

    let folded = |one: &Value| one["real_time_data"]["heart_rate"]["count"] == 2;
    let one = house.until("/v1/consultations/7", folded).await;
    let expected = json!({"count": 2, "min": 70.0, "max": 72.0, "mean": 71.0, "last": 72.0});
    assert_eq!(one["real_time_data"]["heart_rate"], expected, "{one}");
    assert!(one["data_quality_score"].as_f64() > Some(0.0), "{one}");
    let kinds: Vec<&str> = one["anomalies_detected"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|a| a["kind"].as_str())
        .collect();
    assert!(kinds.contains(&"refused") && kinds.contains(&"alert"), "{one}");
    assert_eq!(
        (&one["state"], &one["notes"][0]["text"]),
        (&json!("closed"), &json!("looks pale"))
    );

    // What comes late is folded in, and was not on the screen.
    let opened_at = Timestamp::parse(one["opened_at"].as_str().unwrap()).unwrap();
    let late = opened_at + Span::millis(1);
    house.send(json!([heart_rate("p1", 90.0, late)])).await;
    let folded = |one: &Value| one["real_time_data"]["heart_rate"]["count"] == 3;
    house.until("/v1/consultations/7", folded).await;
    let seen = house.get(&format!("/v1/consultations/7?seen_at={seen_at}")).await;
    assert_eq!(seen["real_time_data"]["heart_rate"]["count"], 1, "{seen}");
    assert_eq!(
        (&seen["sensor_data"][0]["value"], &seen["state"]),
        (&json!(70.0), &json!("open")),
        "{seen}"
    );

    let list = house.get("/v1/consultations?patient=p1&state=closed").await;
    assert_eq!(list["consultations"][0]["id"], "7", "{list}");
    let there = config(house.dir.path());
    let verified = ask(&there, Request::Verify).await.unwrap();
    assert_eq!(verified["equal"], true, "{verified:#}");
    assert!(verified.to_string().contains("fajma.consultations"), "{verified:#}");
    let dir = house.stop().await;
    let into = dir.path().join("replayed");
    let replay = Request::Replay(Replay {
        into: into.clone(),
        patient: None,
        from: None,
        until: None,
    });
    let done = ask(&there, replay).await.unwrap();
    assert!(done["derived"]["fajma.consultations"].as_u64() >= Some(3), "{done}");

    // And it is all there after a start.
    let house = House::on(dir).await;
    let again = house.until("/v1/consultations/7", folded).await;
    assert_eq!(again["state"], "closed");
    house.stop().await;
}
