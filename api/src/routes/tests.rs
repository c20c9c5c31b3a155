//! The routes as callers see them: who gets what, and in which shape.

use axum::body::Body;
use axum::http::Request;
use schemas::access::Role;
use schemas::facts::AlertState;
use schemas::registry::Register;
use schemas::time::Span;
use serde_json::{Value, json};

use crate::testing::{House, NOW, alert_id, request};

/// Two patients of whom everything is known.
pub(super) async fn house() -> House {
    let house = House::new().await;
    for (p, s, a) in [("p-own", "s-own", "a-own"), ("p-other", "s-other", "a-other")] {
        house.reading(p, s, 72.0, NOW).await;
        house.window(p, 1).await;
        house.alert(p, a, AlertState::Open).await;
        house.device(p, s).await;
        house.consultation(p, &p.replace("p-", "c-")).await;
    }
    for id in ["doctor", "d-other"] {
        house
            .registered(Register::Practitioners, id, json!({"name": "Awa Diop"}))
            .await;
    }
    house.processed().await;
    house.settled().await;
    house
}

fn keys(value: &Value) -> Vec<&str> {
    let mut keys: Vec<_> = value.as_object().unwrap().keys().map(String::as_str).collect();
    keys.sort_unstable();
    keys
}

fn sorted(text: &str) -> Vec<&str> {
    let mut keys: Vec<_> = text.split(", ").collect();
    keys.sort_unstable();
    keys
}

#[tokio::test]
async fn answers_have_the_agreed_shapes() {
    let house = house().await;
    let token = house.token(Role::Doctor, &["p-own"], Span::hours(1));
    let reading = "id, patient_id, sensor_id, metric, value, unit, at, received_at, quality, marks";
    let window = "patient_id, sensor_id, metric, size, unit, start, end, revision, status, count, min, max, mean, sd, \
                  first, last, quality, coverage";
    let alert = "id, patient_id, sensor_id, metric, rule, class, severity, state, retrospective, message, message_fr, \
                 value, limit, started_at, raised_at, acknowledged_at, acknowledged_by, resolved_at, history";
    let patient = "id, name, birth_date, sex, conditions, zone, care_team, registered, revision, ended, recorded_by, \
                   recorded_at, merged_into, last_heard";
    let practitioner = "id, name, profession, speciality, organisation, zone, registered, revision, ended, \
                        recorded_by, recorded_at";
    let sensor = "id, kind, mac_address, protocol_type, place, zone, registered, revision, ended, recorded_by, \
                  recorded_at, patient_id, state, liveness, liveness_since, battery_level, firmware_version, rssi, location_lat, \
                  location_lng, last_heartbeat, expected_every";
    for (path, list, shape) in [
        ("/v1/patients", "patients", patient),
        ("/v1/practitioners", "practitioners", practitioner),
        ("/v1/patients/p-own/latest", "readings", reading),
        ("/v1/patients/p-own/readings", "readings", reading),
        (
            "/v1/patients/p-own/windows?metric=heart_rate&size=1m",
            "windows",
            window,
        ),
        ("/v1/patients/p-own/alerts?state=open", "alerts", alert),
        ("/v1/alerts?state=open&severity=CRITICAL", "alerts", alert),
        ("/v1/alerts", "alerts", alert),
        ("/v1/sensors", "sensors", sensor),
    ] {
        let (status, page) = house.get(path, &token).await;
        assert_eq!(status, 200, "{path}: {page}");
        assert_eq!(keys(&page), sorted(&format!("{list}, next_cursor")), "{path}");
        assert_eq!(
            page[list].as_array().unwrap().len(),
            1,
            "{path} is cut to one's own: {page}"
        );
        assert_eq!(keys(&page[list][0]), sorted(shape), "{path}");
        assert_eq!(page["next_cursor"], Value::Null, "{path}");
    }
    let (_, page) = house.get("/v1/patients/p-own/readings", &token).await;
    let first = &page["readings"][0];
    assert_eq!(
        (&first["unit"], &first["value"], &first["at"]),
        (&json!("/min"), &json!(72.0), &json!(NOW))
    );
    let (_, one) = house.get(&format!("/v1/alerts/{}", alert_id("a-own")), &token).await;
    assert_eq!(keys(&one), sorted(alert));
    assert_eq!(one["history"][0]["change"], "raised");
    // One second before NOW.
    let series = "/v1/patients/p-own/readings?metric=heart_rate&from=2026-11-18T11:06:39Z&points=5";
    let (_, series) = house.get(series, &token).await;
    assert_eq!(keys(&series), sorted("metric, unit, points, next_cursor"));
    assert_eq!(series["points"][0]["count"], 1);
}

#[tokio::test]
async fn lists_are_read_page_by_page() {
    let house = House::new().await;
    for n in 0..7_i64 {
        house
            .reading("p-own", "s", 60.0 + n as f64, NOW + Span::seconds(n))
            .await;
    }
    house.settled().await;
    let token = house.token(Role::Patient, &["p-own"], Span::hours(1));
    let (mut values, mut cursor) = (Vec::new(), String::new());
    loop {
        let (status, page) = house
            .get(&format!("/v1/patients/p-own/readings?limit=3{cursor}"), &token)
            .await;
        assert_eq!(status, 200, "{page}");
        values.extend(
            page["readings"]
                .as_array()
                .unwrap()
                .iter()
                .map(|r| r["value"].as_f64().unwrap()),
        );
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(values, [66.0, 65.0, 64.0, 63.0, 62.0, 61.0, 60.0]);
}

#[tokio::test]
async fn what_is_wrong_with_a_request_is_named() {
    let house = house().await;
    let token = house.token(Role::Admin, &[], Span::hours(1));
    let alert = alert_id("a-own");
    let snooze = format!("/v1/alerts/{alert}/snooze");
    let comment = format!("/v1/alerts/{alert}/comment");
    let long = format!(r#"{{"text":"{}"}}"#, "x".repeat(2001));
    let thresholds = "/v1/patients/p-own/thresholds";
    for (method, path, body, status, field) in [
        (
            "GET",
            "/v1/patients/p-own/readings?metric=pulse",
            None,
            400,
            json!("metric"),
        ),
        (
            "GET",
            "/v1/patients/p-own/readings?from=yesterday",
            None,
            400,
            json!("from"),
        ),
        ("GET", "/v1/patients/p-own/readings?limit=0", None, 400, json!("limit")),
        (
            "GET",
            "/v1/patients/p-own/readings?limit=10001",
            None,
            400,
            json!("limit"),
        ),
        (
            "GET",
            "/v1/patients/p-own/readings?cursor=zz",
            None,
            400,
            json!("cursor"),
        ),
        ("GET", "/v1/patients/p-own/readings?metrc=spo2", None, 400, Value::Null),
        ("GET", "/v1/patients/p-own/windows", None, 400, json!("metric")),
        (
            "GET",
            "/v1/patients/p-own/windows?metric=spo2&size=2m",
            None,
            400,
            json!("size"),
        ),
        ("GET", "/v1/alerts?state=closed", None, 400, json!("state")),
        ("POST", &snooze, Some(r#"{"text":"t"}"#), 400, json!("until")),
        (
            "POST",
            &snooze,
            Some(r#"{"until":"2026-11-18T12:00:00Z"}"#),
            400,
            json!("text"),
        ),
        (
            "POST",
            &snooze,
            Some(r#"{"text":"t","until":"2027-01-01T00:00:00Z"}"#),
            400,
            json!("until"),
        ),
        (
            "POST",
            &snooze,
            Some(r#"{"text":"t","until":"2020-01-01T00:00:00Z"}"#),
            400,
            json!("until"),
        ),
        ("POST", &comment, None, 400, json!("text")),
        ("POST", &comment, Some(r#"{"text":7}"#), 400, json!("text")),
        (
            "POST",
            &comment,
            Some(r#"{"text":"t","by":"someone else"}"#),
            400,
            json!("by"),
        ),
        ("POST", &comment, Some(&*long), 400, json!("text")),
        ("POST", &comment, Some("{"), 400, Value::Null),
        ("PUT", thresholds, Some(r#"{"pulse":{}}"#), 400, json!("pulse")),
        (
            "PUT",
            thresholds,
            Some(r#"{"spo2":{"critical_low":95,"warning_low":90}}"#),
            400,
            json!("spo2.warning_low"),
        ),
        ("PUT", thresholds, None, 400, Value::Null),
        ("PUT", "/v1/patients/p-own/latest", None, 405, Value::Null),
        ("GET", "/v1/patients/a%20b/latest", None, 404, Value::Null),
        ("GET", "/v1/alerts/zz", None, 404, Value::Null),
    ] {
        let (got, _, answer) = house.ask(request(method, path, &token, body)).await;
        assert_eq!(got, status, "{method} {path} {body:?}: {answer}");
        assert_eq!(answer["field"], field, "{method} {path} {body:?}: {answer}");
        assert!(!answer["detail_fr"].as_str().unwrap().is_empty());
    }
    let big = "x".repeat(70_000);
    let (status, _, _) = house.ask(request("POST", &comment, &token, Some(&big))).await;
    assert_eq!(status, 413);
    let mut form = request("POST", &comment, &token, Some("text=t"));
    form.headers_mut().insert("content-type", "text/plain".parse().unwrap());
    assert_eq!(house.ask(form).await.0, 415);
}

#[tokio::test]
async fn thresholds_that_were_set_are_read_after_and_can_be_sent_back() {
    let house = house().await;
    let token = house.token(Role::Doctor, &["p-own"], Span::hours(1));
    let path = "/v1/patients/p-own/thresholds";
    assert_eq!(house.get(path, &token).await.1, json!({}));
    let sent = r#"{"heart_rate":{"critical_low":40,"critical_high":131}}"#;
    let (status, _, done) = house.ask(request("PUT", path, &token, Some(sent))).await;
    assert_eq!(status, 200);
    assert_eq!(keys(&done), ["position"]);
    house.processed().await;
    let mut read = request("GET", path, &token, None);
    let position = done["position"].as_str().unwrap().parse().unwrap();
    read.headers_mut().insert("fajma-read-after", position);
    let (status, _, set) = house.ask(read).await;
    assert_eq!(status, 200);
    let want = json!({"heart_rate": {
        "critical_low": 40.0, "warning_low": null, "info_low": null, "info_high": null, "warning_high": null,
        "critical_high": 131.0, "set_by": "doctor", "since": NOW,
    }});
    assert_eq!(set, want);
    let (status, _, _) = house.ask(request("PUT", path, &token, Some(&set.to_string()))).await;
    assert_eq!(status, 200, "what was read can be sent back");
}

#[tokio::test]
async fn reading_after_what_the_processors_have_not_seen_yet_says_try_again() {
    let house = house().await;
    let token = house.token(Role::Admin, &[], Span::hours(1));
    let offset = house.reading("p-own", "s-own", 73.0, NOW).await;
    let partition = House::partition("p-own");
    let ask = |position: String| {
        let mut read = request("GET", "/v1/patients/p-own/latest", &token, None);
        read.headers_mut().insert("fajma-read-after", position.parse().unwrap());
        read
    };
    let here = format!("journal:{partition}:{offset}");
    let (status, headers, answer) = house.ask(ask(here.clone())).await;
    assert_eq!((status.as_u16(), &answer["code"]), (503, &json!("not_yet")));
    assert_eq!(headers["retry-after"], "1");
    house.processed().await;
    assert_eq!(house.ask(ask(here)).await.0, 200);
    for bad in ["journal:9:0", "windows:0:0", "7"] {
        assert_eq!(house.ask(ask(bad.to_owned())).await.0, 400, "{bad}");
    }
}

#[tokio::test]
async fn an_alert_that_is_over_takes_comments_alone() {
    let house = house().await;
    // Answered as soon as the log has it, as somebody does who heard of it live: the views may not have it yet.
    house.alert("p-own", "a-over", AlertState::Resolved).await;
    let token = house.token(Role::Doctor, &["p-own"], Span::hours(1));
    let path = |what: &str| format!("/v1/alerts/{}/{what}", alert_id("a-over"));
    let (status, _, answer) = house.ask(request("POST", &path("acknowledge"), &token, None)).await;
    assert_eq!((status.as_u16(), &answer["code"]), (409, &json!("conflict")));
    let (status, ..) = house
        .ask(request(
            "POST",
            &path("comment"),
            &token,
            Some(r#"{"text":"was the lead"}"#),
        ))
        .await;
    assert_eq!(status, 200);
}

#[tokio::test]
async fn a_login_link_signs_a_browser_in_once_and_only_its_own_page_changes_things() {
    let house = house().await;
    let admin = house
        .keys
        .verify(&house.token(Role::Admin, &[], Span::hours(1)), NOW)
        .unwrap()
        .0;
    let link = house.state.login_path(admin).unwrap();
    let (status, headers, _) = house.ask(request("GET", &link, "", None)).await;
    assert_eq!((status.as_u16(), &headers["location"]), (303, &"/".parse().unwrap()));
    let cookie = headers["set-cookie"].to_str().unwrap();
    assert!(
        cookie.starts_with("fajma=") && cookie.contains("; HttpOnly; SameSite=Strict"),
        "{cookie}"
    );
    assert_eq!(house.ask(request("GET", &link, "", None)).await.0, 401, "only once");
    let pair = cookie.split(';').next().unwrap();
    let with = |method: &str, path: &str, site: Option<&str>| {
        let mut request = Request::builder().method(method).uri(path).header("cookie", pair);
        if let Some(site) = site {
            request = request.header("sec-fetch-site", site);
        }
        request.body(Body::empty()).unwrap()
    };
    assert_eq!(house.ask(with("GET", "/v1/me", None)).await.2["role"], "admin");
    let path = format!("/v1/alerts/{}/acknowledge", alert_id("a-own"));
    for (site, status) in [
        (None, 403),
        (Some("cross-site"), 403),
        (Some("same-site"), 403),
        (Some("same-origin"), 200),
    ] {
        assert_eq!(house.ask(with("POST", &path, site)).await.0, status, "{site:?}");
    }
    let mut over_tls = with("GET", "/v1/me", None);
    over_tls.extensions_mut().insert(crate::server::OverTls);
    assert_eq!(
        house.ask(over_tls).await.0,
        401,
        "over TLS only the cookie that is kept to TLS counts"
    );
}

#[tokio::test]
async fn ordinary_tools_find_the_schemas() {
    let house = House::new().await;
    let token = house.token(Role::Device, &[], Span::hours(1));
    let (_, subjects) = house.get("/subjects", &token).await;
    assert!(subjects.as_array().unwrap().contains(&json!("fajma.Reading")));
    assert_eq!(
        house.get("/subjects/fajma.Reading/versions", &token).await.1,
        json!([1, 2])
    );
    let (_, latest) = house.get("/subjects/fajma.Reading/versions/latest", &token).await;
    assert_eq!(
        (&latest["subject"], &latest["version"]),
        (&json!("fajma.Reading"), &json!(2))
    );
    let id = latest["id"].as_u64().unwrap();
    let (_, by_id) = house.get(&format!("/schemas/ids/{id}?deleted=true"), &token).await;
    assert_eq!(by_id["schema"], latest["schema"]);
    let schema: Value = serde_json::from_str(by_id["schema"].as_str().unwrap()).unwrap();
    assert_eq!(schema["name"], "Reading");
    for (path, code) in [
        ("/schemas/ids/9999", 40403),
        ("/subjects/other/versions", 40401),
        ("/subjects/fajma.Reading/versions/9", 40402),
        ("/subjects/fajma.Reading/versions/x", 42202),
    ] {
        let (status, answer) = house.get(path, &token).await;
        assert_eq!(
            (u64::from(status.as_u16()), answer["error_code"].as_u64()),
            (code / 100, Some(code)),
            "{path}"
        );
    }
    // Tools that know only user name and password give the token as password.
    let pair = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, format!("any:{token}"));
    let basic = Request::builder()
        .uri("/subjects")
        .header("authorization", format!("Basic {pair}"));
    assert_eq!(house.ask(basic.body(Body::empty()).unwrap()).await.0, 200);
}

#[tokio::test]
async fn the_page_has_nothing_inline() {
    let html = include_str!("../../static/index.html");
    assert!(
        !html.contains("<script>") && !html.contains("style=") && !html.contains(" on"),
        "inline code"
    );
    let script = include_str!("../../static/app.js");
    for banned in [
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "eval(",
        ".style.",
    ] {
        assert!(!script.contains(banned), "{banned}");
    }
}
