//! Builds of different ages on one log, and a registry of schemas that comes and goes.

use std::net::SocketAddr;
use std::time::Duration;

use app::client;
use app::config::{Config, Time};
use app::control::Request;
use app::house::told::Told;
use app::up::{Duties, start};
use bytes::Bytes;
use eventlog::{Append, Topic};
use schemas::access::Role;
use schemas::codec::{self, KINDS, Kind};
use schemas::facts::Reading;
use schemas::ids::{EventId, Key, PatientId, SensorId};
use schemas::journal::{ClockQuality, Envelope, Fact};
use schemas::known::SchemaRecorded;
use schemas::metric::Metric;
use schemas::partition;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use super::house::{House, PATIENCE, ago, config, heart_rate, prepare, principal};

/// What a newer build tells of a schema before it writes by it.
async fn tell(house: &House, id: i32, text: &str) {
    let told = SchemaRecorded {
        schema_id: id,
        text: text.into(),
        registry: None,
        registry_id: None,
        at: ago(0),
    };
    let mut value = Vec::new();
    codec::encode_plain(&told, &mut value);
    append(house, Topic::Control, 0, format!("schema/{id}").into(), value).await;
}

async fn append(house: &House, topic: Topic, partition: u16, key: Bytes, value: Vec<u8>) {
    let record = Append {
        partition,
        key,
        value: value.into(),
    };
    house.server.house.log.append(topic, vec![record]).await.unwrap();
}

/// The reading of a heart as a newer build writes it: with a field at the end that nobody knew, under an id of its own.
fn newer(patient: &str, value: f64, id: u32) -> (Key, Vec<u8>) {
    let reading = Reading {
        sensor_id: SensorId::new(&format!("{patient}-ecg")).unwrap(),
        metric: Metric::HeartRate,
        value,
        sent: None,
        quality: None,
        contact: None,
        seq: None,
        epoch: None,
        samples: None,
        marks: Vec::new(),
        door: schemas::facts::Door::Http,
    };
    let key = Key::Patient(PatientId::new(patient).unwrap());
    let envelope = Envelope {
        id: EventId([id.to_be_bytes()[3]; 16]),
        key: key.clone(),
        measured_at: ago(1),
        gateway_at: None,
        received_at: ago(0),
        clock: ClockQuality::Device,
        cause: None,
        fact: Fact::Reading(reading),
    };
    let mut bytes = Vec::new();
    codec::encode(&envelope, &mut bytes);
    bytes[1..5].copy_from_slice(&id.to_be_bytes());
    bytes.push(0);
    (key, bytes)
}

fn text_of(name: &str, change: impl FnOnce(&mut Value)) -> String {
    let kind: &Kind = codec::newest(name).unwrap();
    let mut schema: Value = serde_json::from_str(kind.text).unwrap();
    change(&mut schema);
    schema.to_string()
}

fn with_posture(schema: &mut Value) {
    let posture = json!({"name": "posture", "type": ["null", "string"], "default": null});
    schema["fields"].as_array_mut().unwrap().push(posture);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_newer_build_writes_is_read_by_its_schema_whenever_that_is_told() {
    let house = House::new().await;
    house.send(json!([heart_rate("p1", 72.0, ago(2))])).await;
    let write = async |id: u32, value: f64| {
        let (key, bytes) = newer("p1", value, id);
        let partition = partition::of(&key, house.server.house.log.layout().partitions);
        append(&house, Topic::Journal, partition, key.text().to_string().into(), bytes).await;
    };
    let shown = async |value: f64| {
        let there = |answer: &Value| {
            let readings = answer["readings"].as_array();
            readings.is_some_and(|all| all.iter().any(|reading| reading["value"] == value))
        };
        house.until("/v1/patients/p1/readings?metric=heart_rate", there).await
    };
    tell(&house, 4_801, &text_of("Reading", with_posture)).await;
    write(4_801, 81.0).await;
    shown(81.0).await;
    // Told too late: what cannot be read stops its partition, and it goes on once it can.
    write(4_802, 82.0).await;
    house
        .until("/readyz", |answer| {
            answer.to_string().contains("schema 4802 is not known")
        })
        .await;
    tell(&house, 4_802, &text_of("Reading", with_posture)).await;
    shown(82.0).await;
    house.server.ready(PATIENCE).await.unwrap();
    // A kind that nobody knew, and that may be passed over.
    let ignorable = text_of("Reading", |schema| {
        schema["name"] = json!("BedMoved");
        schema["fajma.ignorable"] = json!(true);
        with_posture(schema);
    });
    tell(&house, 4_803, &ignorable).await;
    write(4_803, 83.0).await;
    house.send(json!([heart_rate("p1", 73.0, ago(1))])).await;
    let readings = shown(73.0).await;
    assert!(!readings.to_string().contains("\"value\":83"), "{readings}");
    house.server.ready(PATIENCE).await.unwrap();
    house.stop().await;
}

/// The address of a real registry, where there is one, and a Kafka.
fn registry() -> Option<(SocketAddr, String)> {
    let url = std::env::var("ENGINES_REGISTRY").ok()?;
    std::env::var("FAJMA_TEST_KAFKA").ok()?;
    let rest = url.strip_prefix("http://").unwrap();
    let (address, path) = rest.split_once('/').unwrap();
    Some((address.parse().unwrap(), format!("/{path}")))
}

/// Hands connections on to a registry, from when it is opened until it is cancelled: one that comes and goes.
async fn hand_on(listener: TcpListener, to: SocketAddr) -> CancellationToken {
    let stop = CancellationToken::new();
    let until = stop.clone();
    tokio::spawn(until.run_until_cancelled_owned(async move {
        while let Ok((mut from, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut to = TcpStream::connect(to).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut from, &mut to).await;
            });
        }
    }));
    stop
}

async fn up(config: &Config) -> app::up::Server {
    let server = Box::pin(start(config, Duties::ALL)).await.unwrap();
    server.ready(PATIENCE).await.unwrap();
    server
}

async fn given(server: &app::up::Server, url: &str) -> usize {
    let mut told = Told::default();
    server.house.learn(&mut told).await.unwrap();
    told.ids(url).len()
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_waits_for_a_registry_and_what_it_gave_is_kept() {
    let Some((real, path)) = registry() else {
        eprintln!("NOT RUN: a registry of schemas (docker/engines/engines run)");
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let place = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let url = format!("http://{place}{path}");
    let mut config = config(dir.path());
    let kafka = std::env::var("FAJMA_TEST_KAFKA").unwrap();
    config.log.url = format!("kafka://{kafka}/registry_{}", std::process::id());
    config.views.url = String::new();
    config.registry.url.clone_from(&url);
    config.registry.retry = Time(Duration::from_millis(200));
    prepare(&config).await;
    // Nobody is there, and nobody has ever been asked.
    let server = up(&config).await;
    assert_eq!(given(&server, &url).await, 0);
    let token = server.token(&principal(Role::Admin), PATIENCE).unwrap();
    let send = async |server: &app::up::Server, value: f64| {
        let readings = json!({ "readings": [heart_rate("p1", value, ago(1))] });
        let sent = client::post(&server.http.to_string(), "/v1/readings", &token, &readings).await;
        assert_eq!(sent.unwrap().0, 200);
    };
    send(&server, 71.0).await;
    // It comes.
    let gate = hand_on(TcpListener::bind(place).await.unwrap(), real).await;
    let waiting = async {
        while given(&server, &url).await < KINDS.len() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.unwrap();
    let (_, subjects) = client::call(
        &real.to_string(),
        hyper::Method::GET,
        &format!("{path}/subjects"),
        "",
        ("", Bytes::new()),
    )
    .await
    .unwrap();
    for kind in KINDS {
        let name = json!(format!("fajma.{}", kind.name));
        assert!(subjects.as_array().unwrap().contains(&name), "{name} in {subjects}");
    }
    send(&server, 72.0).await;
    assert!(server.stop().await);
    // It goes: what it gave is still used, and all that was stored is there.
    gate.cancel();
    let server = up(&config).await;
    assert_eq!(given(&server, &url).await, KINDS.len());
    send(&server, 73.0).await;
    let asked = async {
        let path = "/v1/patients/p1/readings?metric=heart_rate";
        loop {
            let shown = client::get(&server.http.to_string(), path, &token)
                .await
                .unwrap_or_default();
            let values: Vec<f64> = shown["readings"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(|r| r["value"].as_f64())
                .collect();
            if values.len() == 3 {
                return values;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let mut values = tokio::time::timeout(PATIENCE, asked).await.unwrap();
    values.sort_by(f64::total_cmp);
    assert_eq!(values, [71.0, 72.0, 73.0]);
    let verified = server.house.answer(Request::Verify).await.unwrap();
    assert_eq!(verified["equal"], true, "{verified}");
    assert!(server.stop().await);
}
