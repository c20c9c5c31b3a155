//! The bridge to a real Mosquitto.

use schemas::time::{Span, Timestamp};
use serde_json::{Value, json};

use super::mosquitto::Mosquitto;
use super::{journal, verify};
use crate::e2e::house::ago;
use crate::e2e::program::Program;

const PATIENTS: usize = 4;

fn patients() -> Vec<String> {
    (0..PATIENTS).map(|n| format!("bridged-{n}")).collect()
}

/// The `n`th message: of devices with a clock, and of devices that only count.
fn message(n: usize, begun: Timestamp) -> (String, String) {
    let patient = n % PATIENTS;
    let topic = format!("fajma/patient/bridged-{patient}/sensor/band-{patient}/data");
    let mut reading = json!({"type": "heart_rate", "value": 60 + n % 30, "unit": "/min"});
    if patient.is_multiple_of(2) {
        reading["at"] = json!(begun + Span::millis(n as i64 * 100));
    } else {
        reading["seq"] = json!(n);
    }
    (topic, reading.to_string())
}

async fn connected(program: &Program) -> bool {
    let metrics = program.ask("/metrics").await;
    metrics
        .as_str()
        .is_some_and(|text| text.contains("fajma_bridge_connected 1"))
}

async fn is_connected(program: &Program) {
    program
        .until("the bridge", async |program| connected(program).await, |is| *is)
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_devices_publish_to_another_broker_is_counted_once_whoever_dies_between() {
    let dir = tempfile::tempdir().unwrap();
    let Some(mut broker) = Mosquitto::start(dir.path(), "the bridge to another broker") else {
        return;
    };
    let variables = [("FAJMA_BRIDGE_URL", format!("mqtt://127.0.0.1:{}", broker.port))];
    let start = || Program::start("up", dir.path(), &variables);
    let program = start();
    is_connected(&program).await;
    program.kill();

    // While nobody is there the broker keeps it.
    let begun = ago(1800);
    let (messages, acknowledged) = broker.publisher();
    let mut sent = 0;
    let mut publish = |count: usize| {
        for n in sent..sent + count {
            messages.try_send(message(n, begun)).unwrap();
        }
        sent += count;
        sent
    };
    let sum = async |program: &Program| program.readings(&patients()).await.into_iter().sum::<i64>();
    publish(400);
    let mut program = start();
    program.until("what was kept", sum, |n| *n >= 100).await;

    // Killed twice with everything under way, and its broker restarted between.
    publish(6000);
    program.until("before the first kill", sum, |n| *n >= 600).await;
    program.kill();
    program = start();
    program.until("before the broker goes", sum, |n| *n >= 2000).await;
    broker.stop();
    let away = program.ask("/readyz").await;
    broker.again();
    program.until("before the second kill", sum, |n| *n >= 4000).await;
    program.kill();
    program = start();
    publish(600);
    for (topic, payload) in [
        ("fajma/patient/bridged-0/sensor/band-0/data", "no reading"),
        ("fajma/patient/bridged-0/sensor/band-0/status", r#"{"state":"sleepy"}"#),
        (
            "fajma/patient/bridged 0/sensor/band-0/data",
            r#"{"type":"heart_rate","value":70}"#,
        ),
    ] {
        messages.try_send((topic.to_owned(), payload.to_owned())).unwrap();
    }
    let total = publish(1);
    drop(messages);
    acknowledged.await.unwrap();
    let each: Vec<i64> = (0..PATIENTS)
        .map(|patient| (0..total).filter(|n| n % PATIENTS == patient).count() as i64)
        .collect();
    program.counts(&patients(), &each).await;

    let refused = program.until(
        "what was refused",
        async |program| program.refused("bridge").await,
        |all| all.len() >= 3,
    );
    let mut refused = refused.await;
    refused.dedup();
    let codes: Vec<&str> = refused.iter().map(|(code, _)| code.as_str()).collect();
    assert_eq!(codes, ["inconsistent", "inconsistent", "unreadable"], "{refused:?}");
    let stats = program.ask("/v1/stats").await;
    let door = |door: &Value| door["door"] == "bridge" && door["accepted"].as_i64() > Some(0);
    assert!(stats["doors"].as_array().unwrap().iter().any(door), "{stats}");
    // Whether it was seen depends on how soon the end of the connection was.
    println!("while the broker was away: {away}");
    program.stop().await;
    verify(dir.path(), &[]);
    let (all, different) = journal(dir.path()).await;
    println!("{all} readings recorded, {different} different ones");
    assert_eq!(different, total);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_is_away_shows_and_devices_that_come_to_our_own_door_are_served() {
    let dir = tempfile::tempdir().unwrap();
    let variables = [("FAJMA_BRIDGE_URL", "mqtt://somebody:s3cret@127.0.0.1:9".to_owned())];
    let program = Program::start("up", dir.path(), &variables);
    let away = async |program: &Program| program.ask("/readyz").await.to_string();
    let said = program
        .until("it shows", away, |text| text.contains("bridge: 127.0.0.1:9"))
        .await;
    assert!(!said.contains("s3cret"), "{said}");
    let reading = json!({"readings": [{"patient_id": "p", "sensor_id": "s", "type": "heart_rate", "value": 70}]});
    let sent = app::client::post(&program.http, "/v1/readings", &program.token, &reading)
        .await
        .unwrap();
    assert_eq!((sent.0, &sent.1["accepted"]), (200, &json!(1)));
    program.stop().await;
}
