//! What is refused because somebody, or something, would fall silent.

use schemas::access::Role;
use schemas::facts::{SensorAttached, SensorDetached};
use schemas::ids::SensorId;
use schemas::journal::Fact;
use schemas::registry::Register;
use schemas::time::{Span, Timestamp};
use serde_json::{Value, json};

use crate::testing::{House, NOW, request};

async fn house() -> (House, String) {
    let house = House::new().await;
    for id in ["p1", "p2"] {
        house.registered(Register::Patients, id, json!({})).await;
    }
    let admin = house.token(Role::Admin, &[], Span::hours(1));
    (house, admin)
}

/// Status and code.
async fn ask(house: &House, token: &str, method: &str, path: &str, body: &Value) -> (u16, Value) {
    let body = (!body.is_null()).then(|| body.to_string());
    let (status, _, mut answer) = house.ask(request(method, path, token, body.as_deref())).await;
    if status.as_u16() == 409 {
        let french = answer["detail_fr"].as_str().unwrap();
        assert!(!french.is_empty() && french != answer["detail"], "{answer}");
    }
    (status.as_u16(), answer["code"].take())
}

fn refused(code: &str) -> (u16, Value) {
    (409, json!(code))
}

const DONE: (u16, Value) = (200, Value::Null);

async fn merge(house: &House, token: &str) -> (u16, Value) {
    ask(house, token, "POST", "/v1/patients/p1/merge", &json!({"into": "p2"})).await
}

#[tokio::test]
async fn a_patient_who_wears_a_sensor_is_not_ended() {
    let (house, admin) = house().await;
    let sensor_id = SensorId::new("s1").unwrap();
    let attached = SensorAttached {
        sensor_id: sensor_id.clone(),
        from: NOW,
        until: None,
        order: 1,
        expected_every: None,
        zone: None,
    };
    house.fact("p1", NOW, Fact::SensorAttached(attached)).await;
    let end = async |id: &str| ask(&house, &admin, "DELETE", &format!("/v1/patients/{id}"), &Value::Null).await;
    assert_eq!(end("p1").await, refused("wears_sensors"));
    assert_eq!(end("p2").await, DONE);
    house.clock.advance(Span::seconds(10));
    let detached = SensorDetached {
        sensor_id,
        from: Timestamp(NOW.0 + 1),
        until: None,
        order: 2,
    };
    house.fact("p1", NOW, Fact::SensorDetached(detached)).await;
    assert_eq!(end("p1").await, DONE);
}

#[tokio::test]
async fn nobody_is_merged_while_a_consultation_is_open_and_none_is_opened_after() {
    let (house, admin) = house().await;
    for id in ["c1", "c2"] {
        house.consultation("p1", id).await;
    }
    house.settled().await;
    let done = async |verb: &str| {
        ask(
            &house,
            &admin,
            "POST",
            &format!("/v1/consultations/{verb}"),
            &Value::Null,
        )
        .await
    };
    assert_eq!(done("c1/open").await, DONE);
    assert_eq!(merge(&house, &admin).await, refused("consultation_open"));
    assert_eq!(done("c1/close").await, DONE);
    assert_eq!(merge(&house, &admin).await, DONE);
    house.settled().await;
    assert_eq!(done("c2/open").await, refused("merged"));
}

#[tokio::test]
async fn limits_that_would_hold_no_more_are_set_for_the_other_first() {
    let (house, admin) = house().await;
    let limits = json!({"heart_rate": {"critical_high": 150}, "spo2": {"critical_low": 85}});
    let set = async |id: &str, limits: &Value| {
        let path = format!("/v1/patients/{id}/thresholds");
        let done = ask(&house, &admin, "PUT", &path, limits).await;
        house.settled().await;
        done
    };
    assert_eq!(set("p1", &limits).await, DONE);
    assert_eq!(merge(&house, &admin).await, refused("other_thresholds"));
    let part = json!({"heart_rate": {"critical_high": 150}, "spo2": {"critical_low": 80}});
    assert_eq!(set("p2", &part).await, DONE);
    assert_eq!(merge(&house, &admin).await, refused("other_thresholds"));
    assert_eq!(set("p2", &limits).await, DONE);
    assert_eq!(merge(&house, &admin).await, DONE);
}
