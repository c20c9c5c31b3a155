//! Consultations as callers see them.

use eventlog::Clock;
use schemas::access::Role;
use schemas::consultation::PART;
use schemas::derived::Outcome;
use schemas::facts::{AlertChange, AlertChanged, AlertState, ConsultationRevised, ConsultationSeries, Stretch};
use schemas::ids::{ConsultationId, SensorId};
use schemas::metric::Metric;
use schemas::time::{Span, Timestamp};
use serde_json::{Value, json};

use crate::testing::{House, NOW, alert_id, request};

async fn post(house: &House, token: &str, path: &str, body: Option<&str>) -> (u16, Value) {
    let (status, _, answer) = house.ask(request("POST", path, token, body)).await;
    (status.as_u16(), answer)
}

/// Doctor's token, and a consultation of `p1` with the id `7`, planned.
async fn planned(house: &House) -> String {
    let token = house.token(Role::Doctor, &["p1"], Span::hours(1));
    let body = r#"{"id":"7","patient_id":"p1","practitioner_id":"dr.b","planned_for":"2026-11-18T12:00:00Z"}"#;
    let (status, answer) = post(house, &token, "/v1/consultations", Some(body)).await;
    assert_eq!((status, &answer["id"]), (201, &json!("7")), "{answer}");
    token
}

fn series(count: i64, from: Timestamp, to: Timestamp) -> ConsultationSeries {
    ConsultationSeries {
        sensor_id: SensorId::new("s1").unwrap(),
        metric: Metric::HeartRate,
        count,
        min: 60.0,
        max: 80.0,
        mean: 70.0,
        last: 71.0,
        last_at: to,
        rated: count,
        quality: Some(90.0),
        silent_after: Some(Span::seconds(90)),
        stretches: vec![Stretch { start: from, end: to }],
    }
}

#[tokio::test]
async fn a_consultation_lives_from_plan_to_closing_and_no_step_is_taken_twice() {
    let house = House::new().await;
    let token = planned(&house).await;
    let at = |verb: &str| format!("/v1/consultations/7/{verb}");
    for (verb, body, status) in [
        ("close", None, 409),
        ("notes", Some(r#"{"text":"first"}"#), 200),
        ("open", None, 200),
        ("open", None, 409),
        ("notes", Some(r#"{"text":"look","at":"2026-11-18T11:06:40Z"}"#), 200),
        ("notes", Some(r#"{"text":" "}"#), 400),
        ("notes", Some(r#"{"text":"x","when":"now"}"#), 400),
        ("close", None, 200),
        ("close", None, 409),
        ("open", None, 409),
        ("notes", Some(r#"{"text":"after"}"#), 200),
    ] {
        house.clock.advance(Span::seconds(1));
        let (got, answer) = post(&house, &token, &at(verb), body).await;
        assert_eq!(got, status, "{verb} {body:?}: {answer}");
        assert_eq!(answer["position"].is_string(), status == 200, "{answer}");
    }
    let again = r#"{"id":"7","patient_id":"p1","practitioner_id":"dr.b"}"#;
    assert_eq!(post(&house, &token, "/v1/consultations", Some(again)).await.0, 409);
    house.processed().await;
    house.settled().await;
    let (_, one) = house.get("/v1/consultations/7", &token).await;
    let notes: Vec<_> = one["notes"].as_array().unwrap().iter().map(|n| &n["text"]).collect();
    assert_eq!(notes, ["first", "look", "after"]);
    assert_eq!(one["notes"][1]["at"], "2026-11-18T11:06:40.000Z");
    assert_eq!(
        (&one["state"], &one["opened_at"], &one["closed_at"]),
        (
            &json!("closed"),
            &json!(NOW + Span::seconds(3)),
            &json!(NOW + Span::seconds(8))
        )
    );
    for (state, n) in [("closed", 1), ("open", 0), ("planned", 0)] {
        for patient in ["", "&patient=p1"] {
            let (_, page) = house
                .get(&format!("/v1/consultations?state={state}{patient}"), &token)
                .await;
            assert_eq!(page["consultations"].as_array().unwrap().len(), n, "{state}: {page}");
        }
    }
}

#[tokio::test]
async fn what_was_measured_is_told_with_gaps_refusals_and_alerts_of_that_time() {
    let house = House::new().await;
    let token = planned(&house).await;
    house.alert("p1", "raised before", AlertState::Open).await;
    house.clock.advance(Span::seconds(10));
    post(&house, &token, "/v1/consultations/7/open", None).await;
    let opened = house.clock.now();
    let part = |revision, series| {
        Outcome::Consultation(ConsultationRevised {
            consultation_id: ConsultationId::new("7").unwrap(),
            start: opened.floor(PART),
            end: opened.floor(PART) + PART,
            revision,
            series: vec![series],
        })
    };
    let topic = eventlog::Topic::Consultations;
    house.conclude("p1", topic, part(1, series(1, opened, opened))).await;
    let until = opened + Span::seconds(300);
    house.conclude("p1", topic, part(2, series(300, opened, until))).await;
    house.clock.advance(Span::seconds(600));
    post(&house, &token, "/v1/consultations/7/close", None).await;
    house.processed().await;
    house.settled().await;
    let (status, one) = house.get("/v1/consultations/7", &token).await;
    assert_eq!(status, 200, "{one}");
    assert_eq!(
        one["real_time_data"],
        json!({"heart_rate": {"count": 300, "min": 60.0, "max": 80.0, "mean": 70.0, "last": 71.0}})
    );
    assert_eq!(one["data_quality_score"], 45.0, "half of the time is a gap");
    let anomalies = one["anomalies_detected"].as_array().unwrap();
    let kinds: Vec<_> = anomalies.iter().map(|a| a["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["alert", "gap"], "{one}");
    assert_eq!(anomalies[0]["alert"]["id"], alert_id("raised before").to_string());
    assert_eq!(
        (&anomalies[1]["at"], &anomalies[1]["to"]),
        (&json!(until), &one["closed_at"])
    );
}

#[tokio::test]
async fn what_was_on_the_screen_goes_by_when_it_was_received() {
    let house = House::new().await;
    let token = planned(&house).await;
    post(&house, &token, "/v1/consultations/7/open", None).await;
    let opened = house.clock.now();
    for (second, value) in [(1, 70.0), (2, 72.0)] {
        house.clock.advance(Span::seconds(1));
        house
            .reading("p1", "s1", value, opened + Span::millis(second * 1_000 - 1))
            .await;
    }
    post(&house, &token, "/v1/consultations/7/notes", Some(r#"{"text":"n"}"#)).await;
    house.clock.advance(Span::seconds(60));
    // Measured between the two, received a minute later.
    house.reading("p1", "s1", 200.0, opened + Span::millis(1_500)).await;
    post(&house, &token, "/v1/consultations/7/close", None).await;
    house.processed().await;
    house.settled().await;
    for (after, count, last, state, notes) in [
        (1, 1, 70.0, "open", 0),
        (3, 2, 72.0, "open", 1),
        (90, 3, 72.0, "closed", 1),
    ] {
        let moment = opened + Span::seconds(after);
        let (status, seen) = house
            .get(&format!("/v1/consultations/7?seen_at={moment}"), &token)
            .await;
        assert_eq!(status, 200, "{seen}");
        let heart = &seen["real_time_data"]["heart_rate"];
        assert_eq!(
            (&heart["count"], &heart["last"]),
            (&json!(count), &json!(last)),
            "{seen}"
        );
        assert_eq!(seen["sensor_data"][0]["value"], last);
        assert_eq!(
            (&seen["state"], seen["notes"].as_array().unwrap().len()),
            (&json!(state), notes)
        );
        assert_eq!(seen["seen_at"], json!(moment));
    }
    let before = opened - Span::seconds(1);
    let (status, _) = house
        .get(&format!("/v1/consultations/7?seen_at={before}"), &token)
        .await;
    assert_eq!(status, 400);
}

#[tokio::test]
async fn what_was_on_the_screen_shows_alerts_as_they_stood_then() {
    let house = House::new().await;
    let token = planned(&house).await;
    post(&house, &token, "/v1/consultations/7/open", None).await;
    let opened = house.clock.now();
    let mut alert = House::raised("high", AlertState::Open);
    house.clock.advance(Span::seconds(10));
    alert.raised_at = house.clock.now();
    let told = async |alert: &AlertChanged| {
        let outcome = Outcome::Alert(alert.clone());
        house.conclude("p1", eventlog::Topic::Alerts, outcome).await;
        house.clock.advance(Span::seconds(50));
    };
    told(&alert).await;
    (alert.change, alert.state) = (AlertChange::Acknowledged, AlertState::Acknowledged);
    (alert.by, alert.acknowledged_by) = (Some("dr.b".into()), Some("dr.b".into()));
    alert.acknowledged_at = Some(house.clock.now());
    told(&alert).await;
    (alert.change, alert.state, alert.by) = (AlertChange::Resolved, AlertState::Resolved, None);
    alert.resolved_at = Some(house.clock.now());
    told(&alert).await;
    post(&house, &token, "/v1/consultations/7/close", None).await;
    house.processed().await;
    house.settled().await;
    let seen = async |after: i64| {
        let moment = opened + Span::seconds(after);
        let (_, one) = house
            .get(&format!("/v1/consultations/7?seen_at={moment}"), &token)
            .await;
        let mut alerts = one["anomalies_detected"].as_array().unwrap().clone();
        alerts.retain(|anomaly| anomaly["kind"] == "alert");
        alerts.pop().unwrap_or_default()["alert"].take()
    };
    assert_eq!(seen(5).await, Value::Null, "it was not raised yet");
    let (before, taken) = (seen(30).await, seen(90).await);
    let of = |it: &Value| [&it["state"], &it["acknowledged_by"], &it["resolved_at"]].map(Value::clone);
    assert_eq!(of(&before), [json!("open"), Value::Null, Value::Null]);
    assert_eq!(of(&taken), [json!("acknowledged"), json!("dr.b"), Value::Null]);
    assert_eq!(taken["acknowledged_at"], json!(opened + Span::seconds(60)));
    assert_eq!(seen(150).await["state"], "resolved");
}
