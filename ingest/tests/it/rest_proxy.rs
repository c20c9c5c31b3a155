//! Requests written for Confluent's REST Proxy, and its answers, word for word.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::body::Body;
use axum::http::{Request, StatusCode};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use eventlog::ManualClock;
use http_body_util::BodyExt;
use schemas::access::{Authenticate, Grant, Live, Principal, Refused, Revocations, Role};
use schemas::ids::SensorId;
use schemas::time::Timestamp;
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::http_native::{ask, doors, doors_with, post, send};
use crate::log::{MemoryLog, NOW};

const JSON: &str = "application/vnd.kafka.json.v2+json";
const AVRO: &str = "application/vnd.kafka.avro.v2+json";
const BINARY: &str = "application/vnd.kafka.binary.v2+json";
const TOPIC: &str = "/topics/fajma.readings";
const RECORDS: &str = "/v3/clusters/any/topics/fajma.readings/records";

fn reading(seq: u32) -> Value {
    json!({"patient_id": "p1", "sensor_id": "s1", "type": "heart_rate", "value": 72, "seq": seq})
}

async fn v2(doors: &Router, kind: &str, body: &Value) -> (StatusCode, Value) {
    ask(doors, post(TOPIC, kind, "admin", body.to_string())).await
}

#[tokio::test]
async fn v2_answers_as_its_clients_know_it() {
    let log = MemoryLog::open();
    let doors = doors(&log);
    let body =
        json!({"records": [{"key": "k", "value": reading(1)}, {"value": reading(2), "partition": 3}]}).to_string();
    let (status, headers, body) = send(&doors, post(TOPIC, JSON, "admin", body)).await;
    assert_eq!(
        (status, &headers["content-type"]),
        (StatusCode::OK, &"application/vnd.kafka.v2+json".parse().unwrap())
    );
    let partition = log_partition();
    assert_eq!(
        String::from_utf8(body).unwrap(),
        format!(
            r#"{{"offsets":[{{"partition":{partition},"offset":0,"error_code":null,"error":null}},{{"partition":{partition},"offset":1,"error_code":null,"error":null}}],"key_schema_id":null,"value_schema_id":null}}"#
        )
    );
}

fn log_partition() -> u16 {
    schemas::partition::of_bytes(b"p1", crate::log::PARTITIONS)
}

#[tokio::test]
async fn v2_a_bad_record_has_its_own_error_and_its_neighbours_their_offsets() {
    let log = MemoryLog::open();
    let doors = doors(&log);
    let bad = json!({"patient_id": "p1", "sensor_id": "s1", "type": "heart_rate", "value": 1000});
    let pressure = json!({"patient_id": "p1", "sensor_id": "s1", "type": "blood_pressure", "systolic": 120, "diastolic": 80, "seq": 1});
    let body = json!({"records": [{"value": bad}, {"value": pressure}, {"value": null}, {"value": [1]}, 7, {"value": reading(2)}]});
    let (status, answer) = v2(&doors, JSON, &body).await;
    assert_eq!(status, StatusCode::OK);
    let codes: Vec<&Value> = answer["offsets"]
        .as_array()
        .unwrap()
        .iter()
        .map(|o| &o["error_code"])
        .collect();
    assert_eq!(
        codes,
        [
            &json!(42206),
            &Value::Null,
            &json!(42206),
            &json!(42203),
            &json!(42206),
            &Value::Null
        ]
    );
    assert_eq!(
        answer["offsets"][0]["error"],
        "implausible (value): 1000 is outside what is possible."
    );
    assert_eq!(answer["offsets"][0]["offset"], Value::Null);
    assert_eq!((log.journal().len(), log.rejected().len()), (3, 4));
}

#[tokio::test]
async fn v2_requests_that_are_none_are_refused_in_its_words() {
    let log = MemoryLog::open();
    let doors = doors(&log);
    let good = json!({"records": [{"value": reading(1)}]}).to_string();
    for (path, kind, token, body, status, code, message) in [
        (
            "/topics/other",
            JSON,
            "admin",
            good.as_str(),
            404,
            40401,
            "Topic not found.",
        ),
        (
            "/topics/fajma.readings/partitions/99",
            JSON,
            "admin",
            &good,
            404,
            40402,
            "Partition not found.",
        ),
        (
            TOPIC,
            JSON,
            "nobody",
            &good,
            401,
            40101,
            "The token is missing, altered, expired or not for this house.",
        ),
        (
            TOPIC,
            "text/plain",
            "admin",
            &good,
            415,
            415,
            "HTTP 415 Unsupported Media Type",
        ),
        (TOPIC, JSON, "admin", "{}", 422, 422, "records may not be null"),
        (
            TOPIC,
            JSON,
            "admin",
            r#"{"records":[]}"#,
            422,
            422,
            "records may not be empty",
        ),
        (
            TOPIC,
            JSON,
            "admin",
            r#"{"records":[{"value":{},"partition":-1}]}"#,
            422,
            422,
            "records[].partition must be greater than or equal to 0",
        ),
        (
            TOPIC,
            JSON,
            "admin",
            "{oh",
            400,
            400,
            "The request body is not readable as JSON (a field has no name).",
        ),
        (
            TOPIC,
            AVRO,
            "admin",
            &good,
            422,
            42202,
            "Request includes values and uses a format that requires schemas but does not include the value_schema or value_schema_id fields",
        ),
        (
            TOPIC,
            AVRO,
            "admin",
            r#"{"value_schema":"\"int\"","records":[{"key":"k","value":1}]}"#,
            422,
            42201,
            "Request includes keys and uses a format that requires schemas but does not include the key_schema or key_schema_id fields",
        ),
    ] {
        let (found, answer) = ask(&doors, post(path, kind, token, body.to_owned())).await;
        assert_eq!(
            (found.as_u16(), answer),
            (status, json!({"error_code": code, "message": message})),
            "{path} {body}"
        );
    }
    let (status, answer) = ask(
        &doors,
        post(TOPIC, AVRO, "admin", r#"{"value_schema":"{","records":[{"value":1}]}"#),
    )
    .await;
    assert_eq!((status.as_u16(), &answer["error_code"]), (422, &json!(42205)));
    let (status, _) = ask(
        &doors,
        post("/topics/fajma.readings/partitions/0", JSON, "admin", good.clone()),
    )
    .await;
    assert_eq!(status, StatusCode::OK);
}

#[tokio::test]
async fn v2_a_forbidden_record_makes_the_answer_403_and_is_kept() {
    let log = MemoryLog::open();
    let doors = doors(&log);
    let mut other = reading(2);
    other["sensor_id"] = json!("s2");
    let body = json!({"records": [{"value": reading(1)}, {"value": other}]}).to_string();
    let (status, answer) = ask(&doors, post(TOPIC, JSON, "s1", body)).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert_eq!(
        (&answer["offsets"][0]["error_code"], &answer["offsets"][1]["error_code"]),
        (&Value::Null, &json!(40301))
    );
    assert_eq!((log.journal().len(), log.rejected().len()), (1, 1));
}

#[tokio::test]
async fn v2_binary_carries_any_of_our_formats() {
    let log = MemoryLog::open();
    let doors = doors(&log);
    let senml = br#"[{"bn":"p1/s1/","n":"spo2","v":97}]"#;
    let body = json!({"records": [
        {"value": STANDARD.encode(reading(1).to_string())}, {"value": STANDARD.encode(senml)}, {"value": "%%%"}, {"value": 7},
    ]});
    for kind in [BINARY, "application/json"] {
        let (_, answer) = v2(&doors, kind, &body).await;
        let codes: Vec<&Value> = answer["offsets"]
            .as_array()
            .unwrap()
            .iter()
            .map(|o| &o["error_code"])
            .collect();
        assert_eq!(codes, [&Value::Null, &Value::Null, &json!(42203), &json!(42203)]);
    }
}

#[tokio::test]
async fn v2_avro_sends_its_schema_once_and_then_its_id() {
    let log = MemoryLog::open();
    let doors = doors(&log);
    let schema = json!({"type": "record", "name": "R", "fields": [
        {"name": "patient_id", "type": "string"}, {"name": "sensor_id", "type": "string"}, {"name": "type", "type": "string"},
        {"name": "value", "type": "double"}, {"name": "unit", "type": ["null", "string"]},
        {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}}, {"name": "seq", "type": ["null", "long"]},
    ]});
    let value = json!({"patient_id": "p1", "sensor_id": "s1", "type": "body_temperature", "value": 36.6,
        "unit": {"string": "Cel"}, "at": 1_767_600_000_000_i64, "seq": null});
    let body = json!({"value_schema": schema.to_string(), "records": [{"value": value}, {"value": {"value": 1}}]});
    let (_, answer) = v2(&doors, AVRO, &body).await;
    assert_eq!(
        (&answer["offsets"][0]["error_code"], &answer["offsets"][1]["error_code"]),
        (&Value::Null, &json!(42203))
    );
    let id = &answer["value_schema_id"];
    assert!(id.is_u64(), "{answer}");
    let (_, again) = v2(
        &doors,
        AVRO,
        &json!({"value_schema_id": id, "records": [{"value": value}]}),
    )
    .await;
    assert_eq!(
        again["offsets"][0]["offset"], answer["offsets"][0]["offset"],
        "the same fact in the same place"
    );
    let (status, unknown) = v2(
        &doors,
        AVRO,
        &json!({"value_schema_id": 99, "records": [{"value": value}]}),
    )
    .await;
    assert_eq!((status.as_u16(), &unknown["error_code"]), (422, &json!(42205)));
}

#[tokio::test]
async fn v2_avro_takes_our_own_schema_by_its_id() {
    let log = MemoryLog::open();
    let value = json!({"id": "0123456789abcdef", "key": "p1", "measured_at": 1_767_600_000_000_000_i64, "gateway_at": null,
        "received_at": 0, "clock": "device", "cause": null, "sensor_id": "s1", "metric": "spo2", "value": 97.0, "sent": null,
        "quality": {"int": 90}, "contact": {"boolean": true}, "seq": {"long": 4}, "epoch": null, "samples": null,
        "marks": [], "door": "http"});
    let (_, answer) = v2(
        &doors(&log),
        AVRO,
        &json!({"value_schema_id": 1, "records": [{"value": value}]}),
    )
    .await;
    assert_eq!(answer["offsets"][0]["error_code"], Value::Null, "{answer}");
    assert_eq!(
        (log.journal()[0].key.text().as_str(), log.journal()[0].received_at),
        ("p1", crate::log::NOW)
    );
}

#[tokio::test]
async fn basic_credentials_carry_the_token_as_password() {
    let log = MemoryLog::open();
    let mut request = post(
        TOPIC,
        JSON,
        "x",
        json!({"records": [{"value": reading(1)}]}).to_string(),
    );
    let basic = format!("Basic {}", STANDARD.encode("anybody:admin"));
    request.headers_mut().insert("authorization", basic.parse().unwrap());
    assert_eq!(ask(&doors(&log), request).await.0, StatusCode::OK);
}

fn v3_record(value: &Value) -> String {
    json!({"value": {"type": "JSON", "data": value}}).to_string()
}

#[tokio::test]
async fn v3_reports_each_record() {
    let log = MemoryLog::open();
    let doors = doors(&log);
    let data = reading(1).to_string();
    let mut request = post(
        RECORDS,
        "application/json",
        "admin",
        format!(r#"{{"key":{{"type":"STRING","data":"k"}},"value":{{"data":{data}}}}}"#),
    );
    request.headers_mut().insert("content-length", "200".parse().unwrap());
    let (status, body) = ask(&doors, request).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(
        body,
        json!({"error_code": 200, "cluster_id": "fajma", "topic_name": "fajma.readings", "partition_id": log_partition(), "offset": 0,
            "timestamp": "2026-01-05T08:00:00.000Z", "key": {"type": "STRING", "size": 1}, "value": {"type": "JSON", "size": data.len()}})
    );
}

#[tokio::test]
async fn v3_many_records_are_answered_in_order_each_with_its_own_code() {
    let log = MemoryLog::open();
    let doors = doors(&log);
    let text = json!({"value": {"type": "STRING", "data": reading(2).to_string()}}).to_string();
    let binary = json!({"value": {"type": "BINARY", "data": STANDARD.encode(reading(3).to_string())}}).to_string();
    let bad = v3_record(&json!({"patient_id": "p1", "sensor_id": "s1", "type": "mood", "value": 1}));
    let odd = json!({"value": {"type": "PROTOBUF", "data": "x"}}).to_string();
    let all = [
        v3_record(&reading(1)),
        text,
        binary,
        bad,
        odd,
        "{}".to_owned(),
        v3_record(&reading(4)),
    ];
    for with_length in [true, false] {
        let mut request = post(RECORDS, "application/json", "admin", all.join("\n"));
        if with_length {
            request.headers_mut().insert("content-length", "1".parse().unwrap());
        }
        let (status, _, body) = send(&doors, request).await;
        let reports: Vec<Value> = serde_json::Deserializer::from_slice(&body)
            .into_iter()
            .map(Result::unwrap)
            .collect();
        let codes: Vec<i64> = reports.iter().map(|r| r["error_code"].as_i64().unwrap()).collect();
        assert_eq!(
            (status, &codes[..]),
            (StatusCode::OK, &[200, 200, 200, 42206, 400, 42206, 200][..])
        );
        assert_eq!(log.journal().len(), 4, "sent twice, there once");
    }
}

#[tokio::test]
async fn v3_streams_a_report_as_soon_as_its_record_is_durable() {
    let log = MemoryLog::held();
    let (sender, receiver) = tokio::sync::mpsc::channel::<Bytes>(1);
    let stream = futures::stream::unfold(receiver, |mut r| async move {
        r.recv().await.map(|b| (Ok::<_, std::io::Error>(b), r))
    });
    let request = post(RECORDS, "application/json", "admin", Body::from_stream(stream));
    let response = doors(&log).oneshot(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK, "answered before the body ends");
    let mut body = response.into_body();
    for seq in 0..3 {
        let record = v3_record(&reading(seq));
        let (head, tail) = record.split_at(20);
        sender.send(Bytes::from(head.to_owned())).await.unwrap();
        assert!(futures::poll!(body.frame()).is_pending());
        sender.send(Bytes::from(tail.to_owned())).await.unwrap();
        assert!(
            futures::poll!(body.frame()).is_pending(),
            "a report before it was durable"
        );
        log.gate.add_permits(1);
        let frame = body.frame().await.unwrap().unwrap().into_data().unwrap();
        let report: Value = serde_json::from_slice(&frame).unwrap();
        assert_eq!(report["offset"], seq);
    }
    sender.send(Bytes::from_static(b"{\"value\":")).await.unwrap();
    drop(sender);
    let last: Value = serde_json::from_slice(&body.collect().await.unwrap().to_bytes()).unwrap();
    assert_eq!(last["error_code"], 400, "what does not end is said at the end");
}

/// An administrator until [`until`](Brief::until), or until it is taken back.
#[derive(Debug, Default)]
struct Brief(AtomicBool);

impl Brief {
    const fn until() -> Timestamp {
        Timestamp(NOW.0 + 60_000_000)
    }
}

impl Revocations for Brief {
    fn is_revoked(&self, _: &str, _: &Grant) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

struct Holding(Arc<Brief>);

impl Authenticate for Holding {
    fn authenticate(&self, token: &str, now: Timestamp) -> Result<Principal, Refused> {
        self.authenticate_until(token, now).map(|(principal, _)| principal)
    }

    fn authenticate_until(&self, token: &str, _: Timestamp) -> Result<(Principal, Timestamp), Refused> {
        let role = Role::parse(token).ok_or(Refused)?;
        let principal = Principal {
            live: Live::default().with_revocations(Arc::clone(&self.0) as Arc<dyn Revocations>),
            subject: token.into(),
            role,
            patients: vec![],
            sensors: vec![SensorId::new("s1").unwrap()],
        };
        Ok((principal, Brief::until()))
    }
}

/// A record that names a patient, and one that says nothing of whose it is.
fn named_or_not(seq: u32) -> Value {
    let mut it = json!({"sensor_id": "s1", "type": "ambient_temperature", "value": 20, "unit": "Cel", "seq": seq});
    if seq.is_multiple_of(2) {
        it["patient_id"] = json!("p1");
    }
    it
}

#[tokio::test]
async fn v3_takes_nothing_more_on_an_open_stream_once_its_token_has_ended_or_was_revoked() {
    for (role, revoke, first) in [
        ("admin", true, 0),
        ("admin", true, 1),
        ("device", true, 0),
        ("device", true, 1),
        ("gateway", false, 0),
        ("device", false, 1),
    ] {
        let log = MemoryLog::open();
        let (brief, clock) = (Arc::<Brief>::default(), Arc::new(ManualClock::at(NOW)));
        let doors = doors_with(&log, Arc::new(Holding(Arc::clone(&brief))), Arc::clone(&clock));
        let (sender, receiver) = tokio::sync::mpsc::channel::<Bytes>(1);
        let stream = futures::stream::unfold(receiver, |mut r| async move {
            r.recv().await.map(|b| (Ok::<_, std::io::Error>(b), r))
        });
        let request = post(RECORDS, "application/json", role, Body::from_stream(stream));
        let mut body = doors.oneshot(request).await.unwrap().into_body();
        let mut report = async |seq: u32| -> Value {
            let record = v3_record(&named_or_not(seq));
            sender.send(Bytes::from(record)).await.unwrap();
            let frame = body.frame().await.unwrap().unwrap().into_data().unwrap();
            serde_json::from_slice(&frame).unwrap()
        };
        assert_eq!(report(first).await["error_code"], 200, "{role}");
        let taken = log.journal().len();
        if revoke {
            brief.0.store(true, Ordering::SeqCst);
        } else {
            clock.set(Brief::until());
        }
        assert_eq!(report(first + 2).await["error_code"], 40101, "{role}");
        assert!(body.frame().await.is_none(), "the stream ends");
        assert_eq!(log.journal().len(), taken, "{role}");
    }
}

#[tokio::test]
async fn v3_an_empty_body_is_422() {
    let log = MemoryLog::open();
    let mut request = post(RECORDS, "application/json", "admin", " ");
    request.headers_mut().insert("content-length", "1".parse().unwrap());
    let (status, answer) = ask(&doors(&log), request).await;
    assert_eq!((status.as_u16(), &answer["error_code"]), (422, &json!(422)));
}

#[tokio::test]
async fn v3_batch_answers_207_with_what_went_well_and_what_did_not() {
    let log = MemoryLog::open();
    let doors = doors(&log);
    let path = format!("{RECORDS}:batch");
    let entry = |id: &str, value: Value| json!({"id": id, "value": {"type": "JSON", "data": value}});
    let body = json!({"entries": [entry("a", reading(1)), entry("b", json!({"type": "mood"}))]}).to_string();
    let (status, answer) = ask(&doors, post(&path, "application/json", "admin", body)).await;
    assert_eq!(status, StatusCode::MULTI_STATUS);
    assert_eq!(
        (&answer["successes"][0]["id"], &answer["successes"][0]["error_code"]),
        (&json!("a"), &json!(200))
    );
    assert_eq!(
        (&answer["failures"][0]["id"], &answer["failures"][0]["error_code"]),
        (&json!("b"), &json!(42206))
    );
    for wrong in [
        json!({}),
        json!({"entries": []}),
        json!({"entries": [{"id": ""}]}),
        json!({"entries": [entry("a", reading(1)), entry("a", reading(1))]}),
    ] {
        let (status, answer) = ask(&doors, post(&path, "application/json", "admin", wrong.to_string())).await;
        assert_eq!(
            (status.as_u16(), &answer["error_code"]),
            (422, &json!(42208)),
            "{wrong}"
        );
    }
}

#[tokio::test]
async fn clients_find_cluster_topic_and_partitions() {
    let log = MemoryLog::open();
    let doors = doors(&log);
    let get = |path: &str| {
        Request::get(path)
            .header("authorization", "Bearer s1")
            .body(Body::empty())
            .unwrap()
    };
    assert_eq!(ask(&doors, get("/topics")).await.1, json!(["fajma.readings"]));
    assert_eq!(
        ask(&doors, get("/topics/fajma.readings")).await.1["partitions"]
            .as_array()
            .unwrap()
            .len(),
        4
    );
    assert_eq!(
        ask(&doors, get("/topics/fajma.readings/partitions/3")).await.1["partition"],
        3
    );
    assert_eq!(
        ask(&doors, get("/topics/fajma.readings/partitions/4")).await.1["error_code"],
        40402
    );
    assert_eq!(
        ask(&doors, get("/v3/clusters")).await.1["data"][0]["cluster_id"],
        "fajma"
    );
    assert_eq!(
        ask(&doors, get("/v3/clusters/x/topics/fajma.readings")).await.1["partitions_count"],
        4
    );
    assert_eq!(ask(&doors, get("/v3/clusters/x/topics/y")).await.1["error_code"], 40401);
    let nobody = Request::get("/topics").body(Body::empty()).unwrap();
    assert_eq!(ask(&doors, nobody).await.1["error_code"], 40101);
}
