//! Who gets what at the doors that speak HTTP: every route, every role, about one's own, another's, and what nobody knows;
//! with a token that has run out, one that was revoked, and none.

use std::sync::Arc;

use axum::body::Body;
use axum::http::Request;
use eventlog::ManualClock;
use schemas::access::{Authenticate, Live, Principal, Refused, Role};
use schemas::ids::{PatientId, SensorId};
use schemas::time::Timestamp;

use crate::http_native::{doors_with, send};
use crate::log::{MemoryLog, NOW};
use crate::routes_of::routes_of;

/// Good tokens are those that are a role's name.
struct Tokens;

impl Authenticate for Tokens {
    fn authenticate(&self, token: &str, _: Timestamp) -> Result<Principal, Refused> {
        let role = Role::parse(token).ok_or(Refused)?;
        Ok(Principal {
            live: Live::default(),
            subject: token.into(),
            role,
            patients: if role == Role::Gateway {
                Vec::new()
            } else {
                vec![PatientId::new("p1").unwrap()]
            },
            sensors: vec![SensorId::new("s1").unwrap()],
        })
    }
}

const ROLES: [Role; 7] = [
    Role::Admin,
    Role::Auditor,
    Role::Doctor,
    Role::Patient,
    Role::Analyst,
    Role::Device,
    Role::Gateway,
];

/// What each of [`ROLES`] is answered: `y` where something was taken (or shown, where nothing is sent), a dot where not.
type Answers = &'static str;

/// Method, path, media type, body (`{r}`: a record), answers for one's own, another's, and what nobody knows.
type Case = (&'static str, &'static str, &'static str, &'static str, [Answers; 3]);

const SHOWN: [Answers; 3] = ["yyyyyyy"; 3];
const WRITTEN: [Answers; 3] = ["y....yy", "y......", "y......"];
const KAFKA: &str = "application/vnd.kafka.json.v2+json";
const JSON: &str = "application/json";

const CASES: &[Case] = &[
    ("POST", "/v1/readings", JSON, r#"{"readings":[{r}]}"#, WRITTEN),
    ("GET", "/topics", "", "", SHOWN),
    ("GET", "/topics/{topic}", "", "", SHOWN),
    (
        "POST",
        "/topics/{topic}",
        KAFKA,
        r#"{"records":[{"value":{r}}]}"#,
        WRITTEN,
    ),
    ("GET", "/topics/{topic}/partitions", "", "", SHOWN),
    ("GET", "/topics/{topic}/partitions/{partition}", "", "", SHOWN),
    (
        "POST",
        "/topics/{topic}/partitions/{partition}",
        KAFKA,
        r#"{"records":[{"value":{r}}]}"#,
        WRITTEN,
    ),
    ("GET", "/v3/clusters", "", "", SHOWN),
    ("GET", "/v3/clusters/{cluster}", "", "", SHOWN),
    ("GET", "/v3/clusters/{cluster}/topics", "", "", SHOWN),
    ("GET", "/v3/clusters/{cluster}/topics/{topic}", "", "", SHOWN),
    (
        "POST",
        "/v3/clusters/{cluster}/topics/{topic}/records",
        JSON,
        r#"{"value":{"type":"JSON","data":{r}}}"#,
        WRITTEN,
    ),
    (
        "POST",
        "/v3/clusters/{cluster}/topics/{topic}/records:batch",
        JSON,
        r#"{"entries":[{"id":"1","value":{"type":"JSON","data":{r}}}]}"#,
        WRITTEN,
    ),
];

fn request(
    (method, path, kind, body, _): &Case,
    token: &str,
    (patient, sensor): (&str, &str),
    seq: u32,
) -> Request<Body> {
    let path = path.replace("{topic}", "fajma.readings").replace("{cluster}", "any");
    let record =
        format!(r#"{{"patient_id":"{patient}","sensor_id":"{sensor}","type":"heart_rate","value":72,"seq":{seq}}}"#);
    let mut request = Request::builder().method(*method).uri(path.replace("{partition}", "0"));
    if !kind.is_empty() {
        request = request.header("content-type", *kind);
    }
    if !token.is_empty() {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    request.body(Body::from(body.replace("{r}", &record))).unwrap()
}

#[tokio::test]
async fn every_route_takes_from_every_role_what_it_may_send_and_nothing_else() {
    let log = MemoryLog::open();
    let doors = doors_with(&log, Arc::new(Tokens), Arc::new(ManualClock::at(NOW)));
    let mut seq = 0;
    for case in CASES {
        let (method, path, ..) = case;
        for (about, expected) in [("p1", "s1"), ("p2", "s2"), ("p9", "s9")].into_iter().zip(case.4) {
            let mut answers = String::new();
            for role in ROLES {
                let before = log.journal().len();
                seq += 1;
                let (status, ..) = send(&doors, request(case, role.as_str(), about, seq)).await;
                let done = if *method == "GET" {
                    status == 200
                } else {
                    log.journal().len() > before
                };
                answers.push(if done { 'y' } else { '.' });
            }
            assert_eq!(answers, expected, "{method} {path} {about:?}");
        }
        let before = (log.journal().len(), log.rejected().len());
        for token in ROLES
            .iter()
            .flat_map(|role| [format!("expired {role}"), format!("revoked {role}")])
        {
            let (status, ..) = send(&doors, request(case, &token, ("p1", "s1"), 0)).await;
            assert_eq!(status, 401, "{method} {path} {token}");
        }
        let (status, ..) = send(&doors, request(case, "", ("p1", "s1"), 0)).await;
        assert_eq!(status, 401, "{method} {path}, nobody");
        assert_eq!(
            (log.journal().len(), log.rejected().len()),
            before,
            "nothing of it is kept"
        );
    }
}

#[tokio::test]
async fn every_route_of_these_doors_is_in_the_table_above() {
    let doors = doors_with(&MemoryLog::open(), Arc::new(Tokens), Arc::new(ManualClock::at(NOW)));
    let routes = routes_of(doors).await;
    assert!(routes.len() >= 10, "{routes:?}");
    for (method, path) in routes {
        let tabled = CASES.iter().any(|case| case.0 == method && case.1 == path);
        assert!(tabled, "{method} {path}");
    }
}
