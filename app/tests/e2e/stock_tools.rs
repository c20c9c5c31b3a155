//! What others' tools see of our log and our views: Kafka's own consumer, Avro with the schemas that `serve` hands out,
//! plain CQL. Nothing of ours takes part in the reading.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use std::time::Duration;

use apache_avro::Schema;
use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::types::Value as Avro;
use app::client;
use rdkafka::Message;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Headers;
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use serde_json::{Value, json};

use super::assignments::put;
use super::house::{House, PATIENCE, ago, config, heart_rate};

/// What a ward does in a minute, until all of it is shown.
async fn ward(house: &House) {
    for (path, body) in [
        ("/v1/practitioners/dr.ba", json!({"name": "Moussa Ba"})),
        ("/v1/patients/p1", json!({"name": "Awa Diop", "care_team": ["dr.ba"]})),
        ("/v1/sensors/p1-ecg", json!({"kind": "ecg"})),
    ] {
        let (status, answer) = put(house, path, &body).await;
        assert_eq!(status, 200, "{answer}");
    }
    let known = |answer: &Value| answer["registered"] == true;
    house.until("/v1/patients/p1", known).await;
    let plan = json!({"id": "7", "patient_id": "p1", "practitioner_id": "dr.ba"});
    let planned = client::post(&house.http, "/v1/consultations", &house.token, &plan).await;
    assert_eq!(planned.unwrap().0, 201);
    let alarm = json!({"patient_id": "p1", "sensor_id": "p1-ecg", "type": "alarm", "code": "asystole", "at": ago(1)});
    let sent = json!([
        heart_rate("p1", 71.0, ago(5)),
        heart_rate("p1", 72.0, ago(4)),
        heart_rate("p2", 80.0, ago(3)),
        heart_rate("p2", 9_999.0, ago(2)),
        alarm,
    ]);
    assert_eq!(house.send(sent).await["accepted"], 4);
    let device = json!({"state": "active", "battery": 81, "firmware": "1.2.0"}).to_string();
    let (sensor, mut events) = house.connect_sensor("p1-ecg", "p1-ecg");
    let (topic, once) = (
        "fajma/patient/p1/sensor/p1-ecg/status",
        rumqttc::v5::mqttbytes::QoS::AtLeastOnce,
    );
    sensor.publish(topic, once, false, device).await.unwrap();
    while !matches!(
        events.poll().await.unwrap(),
        rumqttc::v5::Event::Incoming(rumqttc::v5::mqttbytes::v5::Packet::PubAck(_))
    ) {}
    let some = |list: &'static str| move |answer: &Value| answer[list].as_array().is_some_and(|all| !all.is_empty());
    for (path, list) in [
        ("/v1/patients/p2/readings?metric=heart_rate", "readings"),
        ("/v1/patients/p1/windows?metric=heart_rate&size=1m", "windows"),
        ("/v1/patients/p1/alerts", "alerts"),
        ("/v1/consultations?patient=p1", "consultations"),
        ("/v1/rejected", "rejected"),
    ] {
        house.until(path, some(list)).await;
    }
    house
        .until("/v1/sensors/p1-ecg", |it| it["battery_level"] == 81.0)
        .await;
}

/// Where the test's log is: brokers, and what its topics' names begin with.
fn place(house: &House) -> (String, String) {
    let kafka = config(house.dir.path()).log.kafka().unwrap().unwrap();
    let journal = kafka.topic(eventlog::Topic::Journal);
    (kafka.brokers, journal.strip_suffix(".journal").unwrap().to_owned())
}

fn consumer(brokers: &str) -> BaseConsumer {
    rdkafka::ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("group.id", "stock")
        .create()
        .unwrap()
}

const PARTITIONS: i32 = 2;

/// How many records there are in each partition.
fn ends(brokers: &str, topic: &str) -> Vec<i64> {
    let consumer = consumer(brokers);
    let end = |partition| consumer.fetch_watermarks(topic, partition, PATIENCE).unwrap().1;
    (0..PARTITIONS).map(end).collect()
}

/// The keys that Kafka's console consumer prints, and the partitions in which it finds each.
fn printed(brokers: &str, topic: &str) -> BTreeMap<String, BTreeSet<String>> {
    let most: i64 = ends(brokers, topic).into_iter().sum();
    let output = Command::new(std::env::var("ENGINES_SCRIPT").unwrap())
        .args(["java", "kafka", "org.apache.kafka.tools.consumer.ConsoleConsumer"])
        .args(["--bootstrap-server", brokers, "--topic", topic, "--from-beginning"])
        .args(["--max-messages", &most.to_string(), "--timeout-ms", "30000"])
        .args(["--property", "print.key=true", "--property", "print.partition=true"])
        .args(["--property", "print.value=false"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let mut keys: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for line in String::from_utf8(output.stdout).unwrap().lines() {
        let (partition, key) = line.split_once('\t').unwrap_or_else(|| panic!("{line}"));
        keys.entry(key.to_owned()).or_default().insert(partition.to_owned());
    }
    keys
}

/// Records decoded, each with its key and the origin in its header.
type Decoded = (String, Option<Vec<u8>>, BTreeMap<String, Avro>);

/// Every record of a topic, decoded by the schema of its number as the registry's API hands it out.
async fn decoded(house: &House, brokers: &str, topic: &str) -> Vec<(String, Decoded)> {
    let consumer = consumer(brokers);
    let mut places = rdkafka::TopicPartitionList::new();
    for partition in 0..PARTITIONS {
        let from = rdkafka::Offset::Beginning;
        places.add_partition_offset(topic, partition, from).unwrap();
    }
    consumer.assign(&places).unwrap();
    let mut left: i64 = ends(brokers, topic).into_iter().sum();
    let mut schemas: BTreeMap<u32, Schema> = BTreeMap::new();
    let mut all = Vec::new();
    while left > 0 {
        let record = consumer.poll(PATIENCE).unwrap().unwrap().detach();
        left -= 1;
        let value = record.payload().unwrap();
        assert_eq!(value[0], 0, "framed as Confluent does");
        let id = u32::from_be_bytes(value[1..5].try_into().unwrap());
        let schema = match schemas.entry(id) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(place) => {
                let answer = house.get(&format!("/schemas/ids/{id}")).await;
                place.insert(Schema::parse_str(answer["schema"].as_str().unwrap()).unwrap())
            }
        };
        let datum = GenericDatumReader::builder(schema)
            .build()
            .unwrap()
            .read_value(&mut &value[5..])
            .unwrap();
        let Avro::Record(fields) = datum else {
            panic!("{datum:?}")
        };
        let key = String::from_utf8(record.key().unwrap_or_default().to_vec()).unwrap();
        let headers = record.headers().into_iter().flat_map(Headers::iter);
        let origin = headers
            .filter(|header| header.key == "origin")
            .find_map(|header| header.value);
        let name = schema.name().unwrap().fullname(None);
        let fields = fields.into_iter().collect();
        all.push((name, (key, origin.map(<[u8]>::to_vec), fields)));
    }
    all
}

async fn database(house: &House) -> (Session, String) {
    let options = config(house.dir.path()).views.database().unwrap().unwrap();
    let session = SessionBuilder::new().known_nodes(&options.nodes).build().await.unwrap();
    (session, options.keyspace)
}

/// What `SELECT JSON columns FROM table` prints, a row each.
async fn selected((session, keyspace): &(Session, String), columns: &str, table: &str) -> Vec<Value> {
    let statement = format!("SELECT JSON {columns} FROM {keyspace}.{table}");
    let answer = session.query_unpaged(statement.as_str(), ()).await;
    let rows = answer
        .unwrap_or_else(|e| panic!("{statement}: {e}"))
        .into_rows_result()
        .unwrap();
    let texts = rows.rows::<(String,)>().unwrap();
    texts
        .map(|row| serde_json::from_str(&row.unwrap().0).unwrap())
        .collect()
}

/// Each view with the columns that people look for, and one row that must be there.
fn expected() -> [(&'static str, &'static str, Value); 12] {
    [
        (
            "readings",
            "patient_id, sensor_id, metric, day, at, id, value, seq, epoch, said.received_at, said.quality, said.contact, \
             said.marks, said.door, said.sent_value, said.sent_unit",
            json!({"patient_id": "p1", "sensor_id": "p1-ecg", "metric": "heart_rate", "value": 71.0, "said.door": "http"}),
        ),
        (
            "latest",
            "patient_id, metric, sensor_id, said.at, said.value, said.received_at, said.quality, said.marks",
            json!({"patient_id": "p1", "metric": "heart_rate", "said.value": 72.0}),
        ),
        (
            "windows",
            "patient_id, metric, size, sensor_id, start, window_end, revision, status, count, min, max, mean, sd, first, \
             last, quality, coverage",
            json!({"patient_id": "p1", "metric": "heart_rate", "size": "1d", "sensor_id": "p1-ecg"}),
        ),
        (
            "alerts",
            "\"of\", alert_id, patient_id, sensor_id, metric, rule, class, severity, state, retrospective, message, \
             message_fr, value, limit_value, started_at, raised_at, acknowledged_at, acknowledged_by, resolved_at",
            json!({"patient_id": "p1", "class": "clinical", "severity": "CRITICAL", "state": "open"}),
        ),
        (
            "open_alerts",
            "alert_id, patient_id, rule, severity, state, raised_at",
            json!({"patient_id": "p1", "severity": "CRITICAL"}),
        ),
        (
            "alert_history",
            "alert_id, change, at, severity, state, \"by\", text, value",
            json!({"severity": "CRITICAL", "state": "open"}),
        ),
        (
            "consultations",
            "patient_id, planned_at, consultation_id",
            // An id is the bytes of its text here.
            json!({"patient_id": "p1", "consultation_id": "0x37"}),
        ),
        (
            "consultation_events",
            "consultation_id, event, at, done_by, practitioner_id, planned_for, note",
            json!({"consultation_id": "7", "event": "planned", "practitioner_id": "dr.ba"}),
        ),
        (
            "sensors",
            "sensor_id, subject, last_heard, liveness, since, state, battery, firmware, rssi, lat, lng, expected_every",
            json!({"sensor_id": "p1-ecg", "state": "active", "battery": 81.0, "firmware": "1.2.0"}),
        ),
        ("patients", "patient_id, last_heard", json!({"patient_id": "p1"})),
        (
            "practitioners",
            "practitioner_id, revision, ended, record, recorded_by, since",
            json!({"practitioner_id": "dr.ba", "ended": false}),
        ),
        (
            "rejected",
            "received_at, said.door, said.code, said.detail, said.detail_fr, said.size, said.start, said.field, \
             said.sensor_id, said.patient_id",
            json!({"said.code": "implausible", "said.patient_id": "p2", "said.sensor_id": "p2-ecg"}),
        ),
    ]
}

fn text<'a>(fields: &'a BTreeMap<String, Avro>, name: &str) -> Option<&'a str> {
    match fields.get(name) {
        Some(Avro::String(text) | Avro::Enum(_, text)) => Some(text),
        Some(Avro::Union(_, inner)) => match &**inner {
            Avro::String(text) => Some(text),
            _ => None,
        },
        _ => None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn others_tools_read_the_log_and_the_views() {
    if std::env::var("ENGINES_SCRIPT").is_err() {
        println!("NOT RUN: Kafka's console consumer, Avro and CQL by others (make test-engines)");
        return;
    }
    let house = House::new().await;
    ward(&house).await;

    let views = database(&house).await;
    for (table, columns, row) in expected() {
        let rows = selected(&views, columns, table).await;
        let is = |found: &Value| row.as_object().unwrap().iter().all(|(name, cell)| &found[name] == cell);
        assert!(rows.iter().any(is), "{table} has no {row} in {rows:#?}");
        let asked: BTreeSet<&str> = columns.split(", ").map(|name| name.trim_matches('"')).collect();
        let given: BTreeSet<&str> = rows[0].as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(asked, given, "{table}");
    }

    let (brokers, prefix) = place(&house);
    let journal = decoded(&house, &brokers, &format!("{prefix}.journal")).await;
    let hearts: Vec<_> = journal
        .iter()
        .filter(|(name, (key, ..))| name == "fajma.Reading" && key == "p1")
        .map(|(_, (.., fields))| fields)
        .collect();
    assert_eq!(hearts.len(), 2);
    assert!(
        hearts.iter().all(|fields| text(fields, "sensor_id") == Some("p1-ecg")),
        "{hearts:?}"
    );
    let alerts = decoded(&house, &brokers, &format!("{prefix}.alerts")).await;
    assert!(!alerts.is_empty());
    for (name, (key, origin, fields)) in &alerts {
        assert_eq!(text(fields, "patient_id"), Some(key.as_str()), "{name}: {fields:?}");
        for field in ["id", "origin", "alert_id"] {
            assert!(fields.contains_key(field), "{name} without {field}: {fields:?}");
        }
        assert!(origin.as_ref().is_some_and(|bytes| !bytes.is_empty()), "{name}");
    }

    // Afterwards: while it runs, the journal has a record more each second.
    let _dir = house.stop().await;
    let by_console = tokio::task::spawn_blocking(move || {
        ["journal", "alerts"].map(|name| printed(&brokers, &format!("{prefix}.{name}")))
    });
    let [journal, alerts] = tokio::time::timeout(Duration::from_secs(120), by_console)
        .await
        .unwrap()
        .unwrap();
    for key in ["p1", "p2", "sensor:p1-ecg", "staff:dr.ba"] {
        let partitions = journal.get(key).unwrap_or_else(|| panic!("{key} in {journal:?}"));
        assert_eq!(partitions.len(), 1, "{key} is in one partition: {partitions:?}");
    }
    assert_eq!(alerts.keys().collect::<Vec<_>>(), ["p1"]);
    assert_eq!(
        alerts["p1"], journal["p1"],
        "what belongs together is in the same partition"
    );
}
