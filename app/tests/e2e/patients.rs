//! What patients' sensors send and what doctors see.

use futures::StreamExt;
use schemas::access::Role;
use schemas::ids::SensorId;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

use super::house::{House, PATIENCE, ago, heart_rate, principal, with_rule};

#[tokio::test(flavor = "multi_thread")]
async fn two_readings_of_190_ten_seconds_apart_alert_a_doctor() {
    let house = House::new().await;
    let answer = house
        .send(json!([
            heart_rate("p1", 190.0, ago(11)),
            heart_rate("p1", 190.0, ago(1))
        ]))
        .await;
    assert_eq!(answer["accepted"], 2, "{answer}");
    let alerts = house
        .until("/v1/patients/p1/alerts", |a| {
            !with_rule(a, "heart_rate_high").is_empty()
        })
        .await;
    let alert = with_rule(&alerts, "heart_rate_high")[0];
    assert_eq!(
        (&alert["severity"], &alert["state"]),
        (&json!("CRITICAL"), &json!("open")),
        "{alert}"
    );
    assert_eq!(
        (&alert["value"], &alert["retrospective"]),
        (&json!(190.0), &json!(false)),
        "{alert}"
    );
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backlog_of_three_days_never_looks_newest_and_disturbs_nobody() {
    let house = House::new().await;
    house
        .send(json!([heart_rate("p1", 72.0, ago(1)), heart_rate("p2", 74.0, ago(1))]))
        .await;
    let backlog: Vec<Value> = (0..500)
        .map(|n| heart_rate("p1", 60.0 + f64::from(n % 5), ago(3 * 86_400 - i64::from(n) * 500)))
        .collect();
    let answer = house.send(json!(backlog)).await;
    assert_eq!(
        (&answer["accepted"], &answer["rejected"]),
        (&json!(500), &json!(0)),
        "{answer}"
    );
    let position = answer["results"][499]["position"].as_str().unwrap().to_owned();
    assert!(!position.is_empty());
    let whole = |a: &Value| a["readings"].as_array().is_some_and(|r| r.len() == 501);
    house
        .until("/v1/patients/p1/readings?metric=heart_rate&limit=1000", whole)
        .await;
    let latest = house.get("/v1/patients/p1/latest").await;
    let newest: Vec<&Value> = latest
        .as_object()
        .and_then(|o| o.values().find_map(Value::as_array))
        .into_iter()
        .flatten()
        .map(|r| &r["value"])
        .collect();
    assert_eq!(newest, [&json!(72.0)], "{latest}");
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_monitors_own_alarm_is_critical_at_once_on_every_open_socket() {
    let house = House::new().await;
    let mut request = format!("ws://{}/ws/alerts", house.http).into_client_request().unwrap();
    let bearer = format!("Bearer {}", house.token).parse().unwrap();
    request.headers_mut().insert("authorization", bearer);
    let (mut socket, _) = tokio_tungstenite::connect_async(request).await.unwrap();
    let alarm = json!([{"patient_id": "p1", "sensor_id": "p1-ecg", "type": "alarm", "code": "asystole", "at": ago(0)}]);
    house.send(alarm).await;
    let told = async {
        loop {
            let Some(Ok(message)) = socket.next().await else {
                panic!("the socket closed")
            };
            let Message::Text(text) = message else { continue };
            let frame: Value = serde_json::from_str(&text).unwrap();
            if let Some(alert) = frame["alerts"].as_array().and_then(|alerts| alerts.first()) {
                return alert.clone();
            }
        }
    };
    let alert = tokio::time::timeout(PATIENCE, told).await.unwrap();
    let seen = (&alert["patient_id"], &alert["rule"], &alert["severity"]);
    assert_eq!(seen, (&json!("p1"), &json!("asystole"), &json!("CRITICAL")));
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_zero_is_a_loose_sensor_unless_the_device_knows_that_it_has_contact() {
    let house = House::new().await;
    let zero = |patient: &str, contact: Value| {
        let mut reading = heart_rate(patient, 0.0, ago(1));
        reading["contact"] = contact;
        reading
    };
    let answer = house
        .send(json!([
            zero("p1", json!(true)),
            zero("p2", json!(false)),
            zero("p3", Value::Null)
        ]))
        .await;
    let statuses: Vec<_> = (0..3)
        .map(|i| answer["results"][i]["status"].as_str().unwrap())
        .collect();
    assert_eq!(statuses[0], "accepted", "{answer}");
    assert_eq!((statuses[1], statuses[2]), ("rejected", "rejected"), "{answer}");
    assert_eq!(answer["results"][1]["code"], "implausible");
    let rejected = |a: &Value| a["rejected"].as_array().is_some_and(|r| r.len() == 2);
    house.until("/v1/rejected", rejected).await;
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_comes_in_without_a_token_and_a_device_only_to_its_own() {
    let mut house = House::new().await;
    let ours = std::mem::take(&mut house.token);
    for path in ["/v1/patients", "/v1/alerts", "/v1/stats", "/metrics"] {
        let refused = app::client::get(&house.http, path, "").await.unwrap_err();
        assert!(refused.contains(": 401"), "{refused}");
    }
    let mut device = principal(Role::Device);
    device.sensors = vec![SensorId::new("p1-ecg").unwrap()];
    house.token = house.server.token(&device, std::time::Duration::from_secs(60)).unwrap();
    let answer = house
        .send(json!([heart_rate("p1", 70.0, ago(2)), heart_rate("p2", 70.0, ago(2))]))
        .await;
    assert_eq!(
        (&answer["accepted"], &answer["rejected"]),
        (&json!(1), &json!(1)),
        "{answer}"
    );
    assert_eq!(answer["results"][1]["code"], "unauthorised");
    house.token = ours;
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_and_a_start_lose_nothing_and_repeat_nothing() {
    let house = House::new().await;
    let readings: Vec<Value> = (0..200).map(|n| heart_rate("p1", 190.0, ago(400 - n))).collect();
    house.send(json!(readings)).await;
    let path = "/v1/patients/p1/alerts";
    let before = house.until(path, |a| !with_rule(a, "heart_rate_high").is_empty()).await;
    let rows = "/v1/patients/p1/readings?metric=heart_rate&limit=1000";
    house
        .until(rows, |a| a["readings"].as_array().is_some_and(|r| r.len() == 200))
        .await;
    let dir = house.stop().await;

    let house = House::on(dir).await;
    let again = house.send(json!(readings)).await;
    assert_eq!(again["rejected"], 0);
    // What was sent again is the same fact: once the views have seen it, nothing has changed.
    let mark = house.send(json!([heart_rate("p2", 70.0, ago(1))])).await;
    assert_eq!(mark["accepted"], 1);
    house
        .until("/v1/patients/p2/readings?metric=heart_rate", |a| {
            a["readings"].as_array().is_some_and(|r| r.len() == 1)
        })
        .await;
    let after = house.get(rows).await;
    assert_eq!(after["readings"].as_array().map(Vec::len), Some(200));
    let alerts = house.get(path).await;
    let ids = |a: &Value| {
        with_rule(a, "heart_rate_high")
            .iter()
            .map(|a| a["id"].clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(ids(&alerts), ids(&before));
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_only_counts_is_counted_once_though_the_server_was_restarted() {
    let counted = |seq| json!({"patient_id": "p1", "sensor_id": "s1", "type": "heart_rate", "value": 72, "unit": "/min", "seq": seq, "epoch": 3});
    let house = House::new().await;
    let first = house.send(json!([counted(1), counted(2)])).await;
    assert_eq!(first["accepted"], 2, "{first}");
    let house = House::on(house.stop().await).await;
    let again = house.send(json!([counted(2), counted(1), counted(3)])).await;
    assert_eq!(
        (&again["duplicates"], &again["accepted"]),
        (&json!(2), &json!(1)),
        "{again}"
    );
    assert_eq!(again["results"][0]["position"], first["results"][1]["position"]);
    house
        .until("/v1/patients/p1/readings?metric=heart_rate", |a| {
            a["readings"].as_array().is_some_and(|r| r.len() == 3)
        })
        .await;
    house.stop().await;
}
