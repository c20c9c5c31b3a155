//! Who gets what: every route, every role, one's own, another's, and what does not exist; and when a right has ended.

use schemas::access::Role;
use schemas::registry::Register;
use schemas::time::Span;
use serde_json::{Value, json};

use super::routes_of::routes_of;
use super::tests::house;
use crate::testing::{House, NOW, alert_id, request};

const ROLES: [Role; 7] = [
    Role::Admin,
    Role::Auditor,
    Role::Doctor,
    Role::Patient,
    Role::Analyst,
    Role::Device,
    Role::Gateway,
];

/// What each of [`ROLES`], and then nobody, is answered.
type Answers = [u16; 8];

/// Method, path (`{p}`: patient, `{a}`: alert, `{s}`: sensor), body, answers for one's own, another's, and one that does
/// not exist.
type Case = (&'static str, &'static str, Option<&'static str>, [Answers; 3]);

const SEE: [Answers; 3] = [
    [200, 200, 200, 200, 404, 404, 404, 401],
    [200, 200, 404, 404, 404, 404, 404, 401],
    [404, 404, 404, 404, 404, 404, 404, 401],
];
const ANSWER: [Answers; 3] = [
    [200, 403, 200, 403, 404, 404, 404, 401],
    [200, 403, 404, 404, 404, 404, 404, 401],
    [404, 404, 404, 404, 404, 404, 404, 401],
];
/// Thresholds may be set before anything was heard of a patient.
const SET: [Answers; 3] = [
    [200, 403, 200, 403, 404, 404, 404, 401],
    [200, 403, 404, 404, 404, 404, 404, 401],
    [200, 403, 404, 404, 404, 404, 404, 401],
];
const LIST: [Answers; 3] = [[200, 200, 200, 200, 403, 403, 403, 401]; 3];
const RUNNING: [Answers; 3] = [[200, 200, 403, 403, 403, 403, 403, 401]; 3];
const SIGNED_IN: [Answers; 3] = [[200, 200, 200, 200, 200, 200, 200, 401]; 3];
const ANYBODY: [Answers; 3] = [[200; 8]; 3];
/// Staff: a doctor sees themselves.
const STAFF: [Answers; 3] = [
    [200, 200, 200, 404, 404, 404, 404, 401],
    [200, 200, 404, 404, 404, 404, 404, 401],
    [404, 404, 404, 404, 404, 404, 404, 401],
];
const STAFF_LIST: [Answers; 3] = [[200, 200, 200, 403, 403, 403, 403, 401]; 3];
/// Who may not register hears so about what they see; the rest does not exist for them.
const REGISTER: [Answers; 3] = [
    [200, 403, 403, 403, 404, 404, 404, 401],
    [200, 403, 404, 404, 404, 404, 404, 401],
    [200, 403, 404, 404, 404, 404, 404, 401],
];
const REGISTER_STAFF: [Answers; 3] = [
    [200, 403, 403, 404, 404, 404, 404, 401],
    [200, 403, 404, 404, 404, 404, 404, 401],
    [200, 403, 404, 404, 404, 404, 404, 401],
];
/// To a patient whose registration has ended no sensor is assigned and nothing attributed.
const ASSIGN: [Answers; 3] = [
    [400, 403, 403, 403, 404, 404, 404, 401],
    [400, 403, 404, 404, 404, 404, 404, 401],
    [400, 403, 404, 404, 404, 404, 404, 401],
];
/// Into somebody of whom nothing is known nobody is merged.
const MERGE: [Answers; 3] = [
    [400, 403, 403, 403, 404, 404, 404, 401],
    [400, 403, 404, 404, 404, 404, 404, 401],
    [400, 403, 404, 404, 404, 404, 404, 401],
];
/// A sensor may be told something before anything was heard of it.
const COMMAND: [Answers; 3] = [
    [201, 403, 403, 403, 404, 404, 404, 401],
    [201, 403, 404, 404, 404, 404, 404, 401],
    [201, 403, 404, 404, 404, 404, 404, 401],
];
/// What is wrong is told to the administrator alone.
const CREATE: [Answers; 3] = [[400, 403, 403, 403, 403, 403, 403, 401]; 3];
/// Of a patient of whom nothing was heard yet there are none.
const CONSULTATIONS_OF: [Answers; 3] = [
    [200, 200, 200, 200, 404, 404, 404, 401],
    [200, 200, 404, 404, 404, 404, 404, 401],
    [200, 200, 404, 404, 404, 404, 404, 401],
];
/// Doctors plan for their own patients.
const PLAN: [Answers; 3] = [[400, 403, 400, 403, 403, 403, 403, 401]; 3];
/// The administrator comes first; whoever else may finds it done.
const ONCE: [Answers; 3] = [
    [200, 403, 409, 403, 404, 404, 404, 401],
    [200, 403, 404, 404, 404, 404, 404, 401],
    [404, 404, 404, 404, 404, 404, 404, 401],
];
const NOT_HERE: [Answers; 3] = [[404; 8]; 3];
/// A code that was never given is nobody's.
const NO_CODE: [Answers; 3] = [[401; 8]; 3];
/// From nowhere but a page of ours.
const OWN_PAGE: [Answers; 3] = [[403; 8]; 3];

const CASES: &[Case] = &[
    ("GET", "/v1/patients", None, LIST),
    ("GET", "/v1/patients/{p}", None, SEE),
    ("GET", "/v1/patients/{p}/latest", None, SEE),
    ("GET", "/v1/patients/{p}/readings", None, SEE),
    ("GET", "/v1/patients/{p}/windows?metric=heart_rate", None, SEE),
    ("GET", "/v1/patients/{p}/alerts", None, SEE),
    ("GET", "/v1/patients/{p}/thresholds", None, SEE),
    ("GET", "/v1/alerts", None, LIST),
    ("GET", "/v1/alerts/{a}", None, SEE),
    ("POST", "/v1/alerts/{a}/acknowledge", None, ANSWER),
    (
        "POST",
        "/v1/alerts/{a}/snooze",
        Some(r#"{"text":"t","until":"2026-11-18T12:00:00Z"}"#),
        ANSWER,
    ),
    ("POST", "/v1/alerts/{a}/comment", Some(r#"{"text":"t"}"#), ANSWER),
    ("POST", "/v1/alerts/{a}/resolve", None, ANSWER),
    ("PUT", "/v1/patients/{p}/thresholds", Some("{}"), SET),
    ("GET", "/v1/sensors", None, LIST),
    ("GET", "/v1/sensors/{s}", None, SEE),
    ("GET", "/v1/rejected", None, RUNNING),
    ("GET", "/v1/stats", None, RUNNING),
    ("GET", "/metrics", None, RUNNING),
    ("POST", "/v1/tickets", None, SIGNED_IN),
    ("POST", "/v1/tokens/revoke", Some("{}"), CREATE),
    ("GET", "/v1/me", None, SIGNED_IN),
    ("GET", "/openapi.json", None, SIGNED_IN),
    ("GET", "/subjects", None, SIGNED_IN),
    ("GET", "/subjects/fajma.Reading/versions", None, SIGNED_IN),
    ("GET", "/subjects/fajma.Reading/versions/latest", None, SIGNED_IN),
    ("GET", "/subjects/fajma.Reading/versions/latest/schema", None, SIGNED_IN),
    ("GET", "/schemas/types", None, SIGNED_IN),
    ("GET", "/schemas/ids/1", None, SIGNED_IN),
    ("GET", "/schemas/ids/1/schema", None, SIGNED_IN),
    ("GET", "/schemas/ids/1/subjects", None, SIGNED_IN),
    ("GET", "/schemas/ids/1/versions", None, SIGNED_IN),
    ("GET", "/livez", None, ANYBODY),
    ("GET", "/readyz", None, ANYBODY),
    ("GET", "/", None, ANYBODY),
    ("GET", "/app.js", None, ANYBODY),
    ("GET", "/app.css", None, ANYBODY),
    ("GET", "/icon.svg", None, ANYBODY),
    ("GET", "/login?code=none", None, NO_CODE),
    ("POST", "/login", None, OWN_PAGE),
    ("POST", "/logout", None, OWN_PAGE),
    ("GET", "/v1/consultations", None, LIST),
    ("GET", "/v1/consultations?patient={p}", None, CONSULTATIONS_OF),
    ("GET", "/v1/consultations/{c}", None, SEE),
    ("POST", "/v1/consultations", Some("{}"), PLAN),
    ("POST", "/v1/consultations/{c}/notes", Some(r#"{"text":"t"}"#), ANSWER),
    ("POST", "/v1/consultations/{c}/open", None, ONCE),
    ("POST", "/v1/consultations/{c}/close", None, ONCE),
    ("POST", "/v1/sql", None, NOT_HERE),
    ("GET", "/v1/sensors/{s}/assignment", None, SEE),
    ("GET", "/v1/sensors/{s}/unattributed", None, RUNNING),
    ("GET", "/v1/sensors/{s}/commands", None, SEE),
    (
        "POST",
        "/v1/sensors/{s}/commands",
        Some(r#"{"name":"identify"}"#),
        COMMAND,
    ),
    ("GET", "/v1/practitioners", None, STAFF_LIST),
    ("GET", "/v1/practitioners/{d}", None, STAFF),
    ("POST", "/v1/patients", Some("{}"), CREATE),
    ("POST", "/v1/practitioners", Some("{}"), CREATE),
    ("POST", "/v1/sensors", Some("{}"), CREATE),
    ("POST", "/v1/patients/{p}/merge", Some(r#"{"into":"p-nobody"}"#), MERGE),
    // From here on those who did not exist do.
    ("PUT", "/v1/patients/{p}", Some("{}"), REGISTER),
    ("PUT", "/v1/practitioners/{d}", Some("{}"), REGISTER_STAFF),
    ("PUT", "/v1/sensors/{s}", Some("{}"), REGISTER),
    ("DELETE", "/v1/patients/{p}", None, REGISTER),
    ("DELETE", "/v1/practitioners/{d}", None, REGISTER_STAFF),
    ("DELETE", "/v1/sensors/{s}", None, REGISTER),
    (
        "PUT",
        "/v1/sensors/{s}/assignment",
        Some(r#"{"patient_id":"p-own"}"#),
        ASSIGN,
    ),
    (
        "POST",
        "/v1/sensors/{s}/reattribute",
        Some(r#"{"from":"2026-11-18T12:00:00Z","to":"2026-11-18T13:00:00Z","patient_id":"p-own"}"#),
        ASSIGN,
    ),
];

/// A path with names put in: one's own, another's, or some that do not exist.
fn about(path: &str, whose: &str) -> String {
    let staff = if whose == "own" {
        "doctor".to_owned()
    } else {
        format!("d-{whose}")
    };
    path.replace("{p}", &format!("p-{whose}"))
        .replace("{a}", &alert_id(&format!("a-{whose}")).to_string())
        .replace("{s}", &format!("s-{whose}"))
        .replace("{d}", &staff)
        .replace("{c}", &format!("c-{whose}"))
}

#[tokio::test]
async fn whose_token_has_run_out_or_was_revoked_is_nobody_on_every_route() {
    let house = house().await;
    for role in ROLES {
        let expired = house.token(role, &["p-own"], Span::seconds(-60));
        let revoked = house.token(role, &["p-own"], Span::hours(1));
        house.revoked(&revoked).await;
        house.known().await;
        for (token, ended) in [(expired, "expired"), (revoked, "revoked")] {
            for (method, path, body, answers) in CASES {
                for (whose, expected) in ["own", "other", "none"].iter().zip(answers) {
                    let path = about(path, whose);
                    let (got, _, answer) = house.ask(request(method, &path, &token, *body)).await;
                    assert_eq!(got.as_u16(), expected[7], "{method} {path} {role} {ended}: {answer}");
                }
            }
        }
    }
}

#[tokio::test]
async fn whose_time_in_a_care_team_is_over_is_a_doctor_of_others_on_every_route() {
    let house = house().await;
    let until = (NOW + Span::minutes(10)).to_string();
    let team = json!({"care_team": [{"id": "doctor", "until": until}]});
    house.registered(Register::Patients, "p-own", team).await;
    house.settled().await;
    house.known().await;
    let token = house.token(Role::Doctor, &[], Span::hours(1));
    let reads = CASES.iter().filter(|(method, ..)| *method == "GET");
    for (_, path, _, answers) in reads {
        let path = about(path, "own");
        let (got, answer) = house.get(&path, &token).await;
        assert_eq!(got.as_u16(), answers[0][2], "{path}, while it lasts: {answer}");
    }
    house.clock.advance(Span::minutes(11));
    for (method, path, body, answers) in CASES {
        // Who they are themselves, and what is everybody's, stays.
        let of_a_patient = ["{p}", "{a}", "{s}", "{c}"].iter().any(|name| path.contains(name));
        let expected = answers[usize::from(of_a_patient)][2];
        let path = about(path, "own");
        let (got, _, answer) = house.ask(request(method, &path, &token, *body)).await;
        assert_eq!(got.as_u16(), expected, "{method} {path}, over: {answer}");
    }
    for list in ["patients", "sensors", "alerts", "consultations"] {
        let (_, page) = house.get(&format!("/v1/{list}"), &token).await;
        assert_eq!(page[list], json!([]), "{list}");
    }
}

#[tokio::test]
async fn every_route_answers_every_role_about_own_others_and_unknown_patients_as_it_should() {
    let house = house().await;
    let mut tokens: Vec<String> = ROLES.map(|role| house.token(role, &["p-own"], Span::hours(1))).to_vec();
    tokens.push(String::new());
    for (method, path, body, answers) in CASES {
        let mut refused: Vec<Vec<Value>> = vec![Vec::new(); tokens.len()];
        for (whose, expected) in ["own", "other", "none"].iter().zip(answers) {
            let path = about(path, whose);
            for ((token, status), refused) in tokens.iter().zip(expected).zip(&mut refused) {
                let role = house.keys.verify(token, NOW).map(|(p, _)| p.role);
                let (got, headers, answer) = house.ask(request(method, &path, token, *body)).await;
                assert_eq!(got.as_u16(), *status, "{method} {path} {role:?}: {answer}");
                if *status >= 400 {
                    assert_eq!(headers["content-type"], "application/problem+json", "{path}");
                    assert_eq!(answer["status"], *status);
                }
                if *status == 404 {
                    refused.push(answer);
                }
            }
        }
        // What is not one's own and what does not exist look the same to the last byte.
        assert!(
            refused
                .iter()
                .all(|same| same.windows(2).all(|pair| pair[0] == pair[1])),
            "{path}"
        );
    }
}

/// A path without the names of its parameters.
fn shape(path: &str) -> String {
    let given = ["fajma.Reading", "latest", "1"];
    let path = path.split('?').next().unwrap_or_default();
    let parts = path.split('/').map(|part| {
        if part.starts_with('{') || given.contains(&part) {
            "{}"
        } else {
            part
        }
    });
    parts.collect::<Vec<_>>().join("/")
}

#[tokio::test]
async fn every_route_is_in_the_table_above() {
    let house = House::new().await;
    let tabled: Vec<(&str, String)> = CASES.iter().map(|(method, path, ..)| (*method, shape(path))).collect();
    let routes = routes_of(crate::router(std::sync::Arc::clone(&house.state))).await;
    assert!(routes.len() >= 50, "{routes:?}");
    for (method, path) in &routes {
        // Streams have a table of their own.
        if crate::live::STREAMS.contains(&path.trim_end_matches('/')) {
            continue;
        }
        assert!(tabled.contains(&(method.as_str(), shape(path))), "{method} {path}");
    }
    // A process that serves nobody has some of them.
    for route in routes_of(crate::running_router(std::sync::Arc::clone(&house.state))).await {
        assert!(routes.contains(&route), "{route:?}");
    }
    let (_, document) = house
        .get("/openapi.json", &house.token(Role::Admin, &[], Span::hours(1)))
        .await;
    assert_eq!(document["openapi"], "3.1.0");
    for (path, methods) in document["paths"].as_object().unwrap() {
        for method in methods.as_object().unwrap().keys().filter(|k| *k != "parameters") {
            let route = (method.to_ascii_uppercase(), path.clone());
            assert!(routes.contains(&route), "{route:?} is documented and not there");
        }
    }
    assert!(!document["paths"].to_string().contains("sql"));
}
