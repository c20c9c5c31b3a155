//! `POST /v1/readings` as senders see it.

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Request, StatusCode};
use eventlog::{LogError, ManualClock};
use http_body_util::BodyExt;
use ingest::bad::{CASES, Via};
use ingest::http::{HttpDoors, HttpLimits, router};
use ingest::{Clocks, Intake, Limits};
use schemas::access::{Authenticate, Principal, Refused, Role};
use schemas::ids::SensorId;
use schemas::refused::Code;
use schemas::time::Timestamp;
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::log::{MemoryLog, NOW, intake, intake_by};

/// `admin` may write everything, `s1` only for sensor s1.
struct Tokens;

impl Authenticate for Tokens {
    fn authenticate(&self, token: &str, _now: Timestamp) -> Result<Principal, Refused> {
        let of = |role, sensors| {
            Ok(Principal {
                live: schemas::access::Live::default(),
                subject: token.into(),
                role,
                patients: vec![],
                sensors,
            })
        };
        match token {
            "admin" => of(Role::Admin, vec![]),
            "s1" => of(Role::Device, vec![SensorId::new("s1").unwrap()]),
            "analyst" => of(Role::Analyst, vec![]),
            _ => Err(Refused),
        }
    }
}

pub(crate) fn doors(log: &Arc<MemoryLog>) -> Router {
    doors_with(log, Arc::new(Tokens), Arc::new(ManualClock::at(NOW)))
}

pub(crate) fn doors_with(log: &Arc<MemoryLog>, auth: Arc<dyn Authenticate>, clock: Arc<ManualClock>) -> Router {
    doors_of(intake(log, Limits::default()), auth, clock)
}

fn doors_of(intake: Arc<Intake>, auth: Arc<dyn Authenticate>, clock: Arc<ManualClock>) -> Router {
    let limits = HttpLimits {
        body_bytes: 64 << 10,
        unpacked_bytes: 256 << 10,
        patience: Duration::from_millis(100),
        ..HttpLimits::default()
    };
    router(HttpDoors {
        intake,
        auth,
        clock,
        limits,
        cluster_id: "fajma".into(),
    })
}

pub(crate) fn post(path: &str, content_type: &str, token: &str, body: impl Into<Body>) -> Request<Body> {
    Request::post(path)
        .header("content-type", content_type)
        .header("authorization", format!("Bearer {token}"))
        .body(body.into())
        .unwrap()
}

pub(crate) async fn send(doors: &Router, request: Request<Body>) -> (StatusCode, HeaderMap, Vec<u8>) {
    let (parts, body) = doors.clone().oneshot(request).await.unwrap().into_parts();
    (
        parts.status,
        parts.headers,
        body.collect().await.unwrap().to_bytes().to_vec(),
    )
}

pub(crate) async fn ask(doors: &Router, request: Request<Body>) -> (StatusCode, Value) {
    let (status, _, body) = send(doors, request).await;
    (
        status,
        serde_json::from_slice(&body).unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&body))),
    )
}

const GOOD: &str = r#"{"patient_id":"p1","sensor_id":"s1","type":"heart_rate","value":72,"seq":1}"#;

fn native(body: impl Into<Body>) -> Request<Body> {
    post("/v1/readings", "application/json", "admin", body)
}

#[tokio::test]
async fn every_record_gets_its_own_result() {
    let log = MemoryLog::open();
    let doors = doors(&log);
    let bad = GOOD.replace("72", "1000");
    let body = format!(r#"{{"readings":[{GOOD},{bad},{GOOD}]}}"#);
    let (status, answer) = ask(&doors, native(body)).await;
    assert_eq!(status, StatusCode::OK);
    let position = answer["results"][0]["position"].clone();
    assert_eq!(
        answer,
        json!({"accepted": 1, "duplicates": 1, "rejected": 1, "results": [
            {"index": 0, "status": "accepted", "position": position},
            {"index": 1, "status": "rejected", "code": "implausible", "field": "value",
             "detail": "1000 is outside what is possible.", "detail_fr": "1000 est hors de ce qui est possible."},
            {"index": 2, "status": "duplicate", "position": position},
        ]})
    );
    assert!(position.as_str().unwrap().starts_with("journal:"));
    assert_eq!(log.rejected()[0].bytes, bad);
}

#[tokio::test]
async fn a_body_that_cannot_be_read_is_a_problem_and_is_kept() {
    let log = MemoryLog::open();
    let (status, headers, body) = send(&doors(&log), native("{oh")).await;
    assert_eq!(
        (status, &headers["content-type"]),
        (StatusCode::BAD_REQUEST, &"application/problem+json".parse().unwrap())
    );
    let problem: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(
        (&problem["code"], &problem["status"], &problem["type"]),
        (
            &json!("unreadable"),
            &json!(400),
            &json!("urn:fajma:problem:unreadable")
        )
    );
    assert!(problem["detail"].is_string() && problem["detail_fr"].is_string() && problem["title"].is_string());
    assert_eq!(log.rejected()[0].bytes, "{oh");
}

#[tokio::test]
async fn every_bad_message_is_judged_by_this_door_too() {
    let log = MemoryLog::open();
    let doors = doors(&log);
    for (n, case) in CASES
        .iter()
        .filter(|c| matches!(c.via, Via::All | Via::Http))
        .enumerate()
    {
        let content_type = case.content_type.unwrap_or("application/octet-stream");
        let (status, answer) = ask(&doors, post("/v1/readings", content_type, "admin", case.bytes)).await;
        let code = if status == StatusCode::OK {
            &answer["results"][0]["code"]
        } else {
            &answer["code"]
        };
        assert_eq!(*code, json!(case.code.as_str()), "{}: {status} {answer}", case.name);
        let whole = matches!(case.code, Code::Unreadable | Code::TooLarge);
        assert!(status == StatusCode::OK || whole, "{}: {status}", case.name);
        assert_eq!(log.rejected().len(), n + 1, "{}: not kept", case.name);
    }
}

#[tokio::test]
async fn a_token_is_needed_and_a_device_writes_for_itself_only() {
    let log = MemoryLog::open();
    let doors = doors(&log);
    let nobody = Request::post("/v1/readings").body(Body::from(GOOD)).unwrap();
    let (status, headers, body) = send(&doors, nobody).await;
    assert_eq!(
        (status, &headers["www-authenticate"]),
        (StatusCode::UNAUTHORIZED, &"Bearer".parse().unwrap())
    );
    assert_eq!(
        serde_json::from_slice::<Value>(&body).unwrap()["code"],
        "unauthenticated"
    );
    assert!(log.rejected().is_empty(), "what strangers send is not kept");
    let other = GOOD.replace("\"s1\"", "\"s2\"");
    let (_, answer) = ask(
        &doors,
        post("/v1/readings", "application/json", "s1", format!("[{GOOD},{other}]")),
    )
    .await;
    assert_eq!(
        (&answer["accepted"], &answer["results"][1]["code"]),
        (&json!(1), &json!("unauthorised"))
    );
    assert_eq!(log.rejected()[0].bytes, other);
    let (_, answer) = ask(&doors, post("/v1/readings", "application/json", "analyst", GOOD)).await;
    assert_eq!(answer["rejected"], 1);
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn packed(encoding: &str, body: Vec<u8>) -> Request<Body> {
    let mut request = native(body);
    request
        .headers_mut()
        .insert("content-encoding", encoding.parse().unwrap());
    request
}

#[tokio::test]
async fn packed_bodies_are_unpacked_up_to_the_limit_and_no_further() {
    let log = MemoryLog::open();
    let doors = doors(&log);
    let zstd = |bytes: &[u8]| zstd::encode_all(bytes, 3).unwrap();
    for (encoding, body) in [
        ("gzip", gzip(GOOD.as_bytes())),
        ("zstd", zstd(GOOD.as_bytes())),
        ("identity", GOOD.into()),
    ] {
        let (status, answer) = ask(&doors, packed(encoding, body)).await;
        assert_eq!((status, &answer["rejected"]), (StatusCode::OK, &json!(0)), "{encoding}");
    }
    let bomb = vec![b' '; 8 << 20];
    for (encoding, body) in [("gzip", gzip(&bomb)), ("zstd", zstd(&bomb))] {
        let (status, problem) = ask(&doors, packed(encoding, body.clone())).await;
        assert_eq!(
            (status, &problem["code"]),
            (StatusCode::PAYLOAD_TOO_LARGE, &json!("too_large")),
            "{encoding}"
        );
        let kept = log.rejected();
        assert!(
            kept.iter().any(|r| r.bytes == body && r.code == Code::TooLarge),
            "{encoding}: the bomb is kept packed"
        );
    }
    for (encoding, body) in [
        ("gzip", b"no gzip".to_vec()),
        ("zstd", b"no zstd".to_vec()),
        ("br", vec![]),
        ("gzip, gzip", vec![]),
    ] {
        let (status, _) = ask(&doors, packed(encoding, body)).await;
        assert_eq!(status, StatusCode::UNSUPPORTED_MEDIA_TYPE, "{encoding}");
    }
    let mut truncated = gzip(GOOD.as_bytes());
    truncated.truncate(truncated.len() - 6);
    assert_eq!(
        ask(&doors, packed("gzip", truncated)).await.0,
        StatusCode::UNSUPPORTED_MEDIA_TYPE
    );
}

#[tokio::test]
async fn a_zstd_window_that_wants_too_much_memory_is_refused() {
    let log = MemoryLog::open();
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
    encoder.window_log(27).unwrap();
    encoder.write_all(GOOD.as_bytes()).unwrap();
    let (status, _) = ask(&doors(&log), packed("zstd", encoder.finish().unwrap())).await;
    assert_eq!(status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
}

#[tokio::test]
async fn a_body_longer_than_allowed_is_not_read_to_its_end() {
    let log = MemoryLog::open();
    let (status, problem) = ask(&doors(&log), native(vec![b' '; 65 << 10])).await;
    assert_eq!(
        (status, &problem["code"]),
        (StatusCode::PAYLOAD_TOO_LARGE, &json!("too_large"))
    );
}

#[tokio::test(start_paused = true)]
async fn nothing_is_answered_well_before_it_is_durable() {
    let log = MemoryLog::held();
    let doors = doors(&log);
    let (status, headers, body) = send(&doors, native(GOOD)).await;
    assert_eq!(
        (status, &headers["retry-after"]),
        (StatusCode::SERVICE_UNAVAILABLE, &"1".parse().unwrap())
    );
    assert_eq!(serde_json::from_slice::<Value>(&body).unwrap()["code"], "unavailable");
    log.gate.add_permits(1);
    let (_, answer) = ask(&doors, native(GOOD)).await;
    assert_eq!(answer["accepted"], 1, "the repeat is taken");
}

#[tokio::test]
async fn a_full_log_says_so_and_acknowledges_nothing() {
    let log = MemoryLog::open();
    *log.error.lock().unwrap() = Some(LogError::Full("no room".to_owned()));
    let (status, headers, body) = send(&doors(&log), native(format!("[{GOOD},{{}}]"))).await;
    assert_eq!(
        (status, &headers["retry-after"]),
        (StatusCode::SERVICE_UNAVAILABLE, &"30".parse().unwrap())
    );
    assert_eq!(serde_json::from_slice::<Value>(&body).unwrap()["code"], "disk_full");
}

#[tokio::test]
async fn a_door_whose_clock_cannot_be_gone_by_says_not_now_before_anything_else() {
    let log = MemoryLog::open();
    let clock = Arc::new(ManualClock::at(NOW));
    let clocks = (Arc::clone(&clock) as _, Arc::new(Clocks::others()));
    let doors = doors_of(intake_by(&log, Limits::default(), clocks), Arc::new(Tokens), clock);
    for (path, content_type, code) in [
        ("/v1/readings", "application/json", json!("clock_wrong")),
        (
            "/topics/fajma.readings",
            "application/vnd.kafka.json.v2+json",
            json!(50302),
        ),
        (
            "/v3/clusters/fajma/topics/fajma.readings/records",
            "application/json",
            json!(50302),
        ),
    ] {
        // By a wrong clock tokens are not good either.
        for token in ["admin", "expired"] {
            let response = doors
                .clone()
                .oneshot(post(path, content_type, token, "{"))
                .await
                .unwrap();
            assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE, "{path}");
            assert_eq!(response.headers()["retry-after"], "10");
            let body = response.into_body().collect().await.unwrap().to_bytes();
            let said: Value = serde_json::from_slice(&body).unwrap();
            let said = if said["code"].is_null() {
                &said["error_code"]
            } else {
                &said["code"]
            };
            assert_eq!(*said, code, "{path}");
        }
    }
    assert_eq!(log.appends.load(std::sync::atomic::Ordering::SeqCst), 0);
}
