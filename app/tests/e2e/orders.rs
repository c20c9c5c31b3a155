//! Commands to sensors: given, handed over wherever the sensor connects, answered, and what follows.

use std::time::Duration;

use app::client;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::Packet;
use rumqttc::v5::{AsyncClient, Event, EventLoop};
use schemas::access::{Principal, Role};
use schemas::ids::SensorId;
use serde_json::{Value, json};

use super::house::{House, PATIENCE, ago, principal};

fn connect(house: &House, client: &str) -> (AsyncClient, EventLoop) {
    house.connect_sensor("patch", client)
}

/// The next command that comes.
async fn told(events: &mut EventLoop) -> Value {
    let next = async {
        loop {
            if let Event::Incoming(Packet::Publish(message)) = events.poll().await.unwrap() {
                assert_eq!(message.topic, "fajma/sensor/patch/command");
                assert_eq!(message.qos, QoS::AtLeastOnce);
                return serde_json::from_slice(&message.payload).unwrap();
            }
        }
    };
    tokio::time::timeout(PATIENCE, next).await.unwrap()
}

/// Sends until it is acknowledged.
async fn say(client: &AsyncClient, events: &mut EventLoop, kind: &str, payload: Value) {
    let topic = format!("fajma/patient/awa/sensor/patch/{kind}");
    client
        .publish(topic, QoS::AtLeastOnce, false, payload.to_string())
        .await
        .unwrap();
    loop {
        if let Event::Incoming(Packet::PubAck(_)) = events.poll().await.unwrap() {
            return;
        }
    }
}

async fn give(house: &House, command: Value) -> String {
    let (status, answer) = client::post(&house.http, "/v1/sensors/patch/commands", &house.token, &command)
        .await
        .unwrap();
    assert_eq!(status, 201, "{answer}");
    answer["id"].as_str().unwrap().to_owned()
}

/// Waits until the newest command is in a state.
async fn until(house: &House, state: &str) -> Value {
    let there = |answer: &Value| answer["commands"][0]["state"] == state;
    house.until("/v1/sensors/patch/commands", there).await["commands"][0].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_waits_for_its_sensor_and_is_confirmed_once_whatever_is_lost_between() {
    let house = House::new().await;
    let id = give(&house, json!({"name": "calibrate", "metric": "spo2", "offset": -2.0})).await;
    let queued = until(&house, "queued").await;
    assert_eq!((&queued["id"], &queued["attempts"]), (&json!(id), &json!(0)));

    // The sensor comes, is told at once, and is gone again without an answer.
    let (device, mut events) = connect(&house, "patch-1");
    device
        .subscribe("fajma/sensor/patch/command", QoS::AtLeastOnce)
        .await
        .unwrap();
    let order = told(&mut events).await;
    assert_eq!(
        (&order["command_id"], &order["name"]),
        (&json!(id), &json!("calibrate"))
    );
    assert_eq!((&order["metric"], &order["offset"]), (&json!("spo2"), &json!(-2.0)));
    until(&house, "sent").await;
    drop((device, events));

    // The server is started again: nothing is forgotten. What was measured before the answer is judged as it came.
    let house = House::on(house.stop().await).await;
    until(&house, "sent").await;
    let (device, mut events) = connect(&house, "patch-2");
    device
        .subscribe("fajma/sensor/+/command", QoS::AtLeastOnce)
        .await
        .unwrap();
    assert_eq!(told(&mut events).await["command_id"], json!(id), "told again");
    let measured = |value: f64, seq: i64, at| json!({"type": "spo2", "value": value, "seq": seq, "at": at});
    say(&device, &mut events, "data", measured(97.0, 1, ago(5))).await;
    let answer = json!({"command_id": id, "result": "ok", "at": ago(3)});
    // It sends its answer twice, and later thinks better of it: the first one stands.
    say(&device, &mut events, "status", answer.clone()).await;
    say(&device, &mut events, "status", answer).await;
    say(
        &device,
        &mut events,
        "status",
        json!({"command_id": id, "result": "failed", "at": ago(1)}),
    )
    .await;
    let confirmed = until(&house, "confirmed").await;
    assert_eq!(confirmed["result"], "ok");
    assert!(confirmed["attempts"].as_i64() >= Some(2), "{confirmed}");

    // From its answer on its values are judged with the offset; what it sends late from before is not.
    let deadline = tokio::time::Instant::now() + PATIENCE;
    let latest = |answer: &Value| answer["readings"][0]["value"].as_f64();
    let mut seq = 10;
    loop {
        say(&device, &mut events, "data", measured(96.0, seq, ago(0))).await;
        let path = "/v1/patients/awa/latest";
        let shown = client::get(&house.http, path, &house.token).await.unwrap_or_default();
        if latest(&shown) == Some(94.0) {
            break;
        }
        assert!(tokio::time::Instant::now() < deadline, "{shown}");
        seq += 1;
    }
    say(&device, &mut events, "data", measured(95.0, 2, ago(4))).await;
    let all = house
        .until("/v1/patients/awa/readings?metric=spo2", |answer| {
            answer["readings"]
                .as_array()
                .is_some_and(|all| all.iter().any(|r| r["value"] == 95.0))
        })
        .await;
    let values: Vec<f64> = all["readings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|r| r["value"].as_f64().unwrap())
        .collect();
    assert!(
        values.contains(&97.0) && values.contains(&94.0) && !values.contains(&93.0),
        "{values:?}"
    );

    // One that nobody answers is given up, and that is written down.
    give(&house, json!({"name": "identify", "expires_in": 1})).await;
    assert_eq!(told(&mut events).await["name"], "identify");
    until(&house, "expired").await;
    let commands = house.get("/v1/sensors/patch/commands").await;
    assert_eq!(commands["commands"].as_array().unwrap().len(), 2);
    for (wrong, field) in [
        (json!({"name": "explode"}), "name"),
        (json!({"name": "set_interval"}), "every"),
        (json!({"name": "calibrate", "metric": "spo2"}), "offset"),
        (
            json!({"name": "calibrate", "metric": "spo2", "offset": -30.5}),
            "offset",
        ),
        (json!({"name": "identify", "every": 5}), "every"),
    ] {
        let (status, answer) = client::post(&house.http, "/v1/sensors/patch/commands", &house.token, &wrong)
            .await
            .unwrap();
        assert_eq!((status, &answer["field"]), (400, &json!(field)), "{answer}");
    }
    house.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_are_for_their_sensor_alone() {
    let house = House::new().await;
    give(&house, json!({"name": "set_interval", "every": 5})).await;
    let stranger = Principal {
        sensors: vec![SensorId::new("other").unwrap()],
        ..principal(Role::Device)
    };
    let stranger = house.server.token(&stranger, Duration::from_secs(600)).unwrap();
    let own = Principal {
        sensors: vec![SensorId::new("patch").unwrap()],
        ..principal(Role::Device)
    };
    let own = house.server.token(&own, Duration::from_secs(600)).unwrap();
    until(&house, "queued").await;
    let path = "/v1/sensors/patch/commands";
    let shown = client::get(&house.http, path, &own).await.unwrap();
    assert_eq!(
        shown["commands"][0]["every"], 5.0,
        "one that speaks HTTP looks for them itself"
    );
    assert!(client::get(&house.http, path, &stranger).await.is_err());
    let (status, _) = client::post(&house.http, path, &own, &json!({"name": "identify"}))
        .await
        .unwrap();
    assert_eq!(status, 404, "a device gives no commands");
}
