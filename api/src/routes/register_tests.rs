//! Registering, changing, ending and finding patients, practitioners and sensors.

use std::sync::Arc;

use axum::http::{HeaderMap, StatusCode};
use schemas::access::Role;
use schemas::registry::{Record, Register};
use schemas::time::Span;
use serde_json::{Map, Value, json};

use crate::problem::Problem;
use crate::registry::{Condition, Registry, Wish};
use crate::testing::{House, NOW, request};

struct Admin {
    house: House,
    token: String,
}

impl Admin {
    async fn new() -> Self {
        let house = House::new().await;
        let token = house.token(Role::Admin, &[], Span::hours(1));
        Self { house, token }
    }

    async fn send(
        &self,
        method: &str,
        path: &str,
        header: Option<(&'static str, &str)>,
        body: &Value,
    ) -> (StatusCode, HeaderMap, Value) {
        let body = (*body != Value::Null).then(|| body.to_string());
        let mut request = request(method, path, &self.token, body.as_deref());
        if let Some((name, value)) = header {
            request.headers_mut().insert(name, value.parse().unwrap());
        }
        self.house.ask(request).await
    }

    async fn put(&self, path: &str, body: Value) -> Value {
        let (status, _, answer) = self.send("PUT", path, None, &body).await;
        assert_eq!(status, 200, "{answer}");
        answer
    }

    /// What a path shows once the views show everything.
    async fn get(&self, path: &str) -> Value {
        self.house.settled().await;
        let (status, answer) = self.house.get(path, &self.token).await;
        assert_eq!(status, 200, "{path}: {answer}");
        answer
    }

    async fn ids(&self, path: &str, list: &str) -> Vec<String> {
        let page = self.get(path).await;
        let rows = page[list].as_array().unwrap();
        rows.iter().map(|row| row["id"].as_str().unwrap().to_owned()).collect()
    }

    async fn import(&self, register: Register, rows: Value, dry_run: bool) -> crate::registry::Imported {
        let rows: Vec<Map<String, Value>> = serde_json::from_value(rows).unwrap();
        let registry = &self.house.state.parts.registry;
        registry.import(register, rows, "operator", dry_run).await.unwrap()
    }
}

#[tokio::test]
async fn a_registration_begins_changes_ends_and_is_taken_up_again() {
    let admin = Admin::new().await;
    for (list, id, first, second) in [
        (
            "patients",
            "p1",
            json!({"name": "Awa Diop", "birth_date": "1957-03-02", "sex": "female", "zone": "rural",
                   "conditions": ["I10"], "care_team": ["dr.b"]}),
            json!({"name": "Awa Fall"}),
        ),
        (
            "practitioners",
            "dr.b",
            json!({"name": "B", "speciality": "cardiology"}),
            json!({"name": "Binta"}),
        ),
        (
            "sensors",
            "s1",
            json!({"kind": "ecg", "mac_address": "0a1b2c3d4e5f", "protocol_type": "NB-IoT", "expected_every": 30}),
            json!({"kind": "ecg", "location_lat": 14.7}),
        ),
    ] {
        let path = format!("/v1/{list}/{id}");
        let mut body = first.clone();
        body["id"] = json!(id);
        let (status, headers, done) = admin.send("POST", &format!("/v1/{list}"), None, &body).await;
        assert_eq!(status, 201, "{done}");
        assert_eq!(
            (&headers["location"], &headers["etag"]),
            (&path.parse().unwrap(), &"\"1\"".parse().unwrap())
        );
        assert!(done["position"].as_str().unwrap().starts_with("journal:"));
        let (status, _, again) = admin.send("POST", &format!("/v1/{list}"), None, &body).await;
        assert_eq!((status.as_u16(), &again["code"]), (409, &json!("exists")));

        let shown = admin.get(&path).await;
        assert_eq!(
            (
                &shown["registered"],
                &shown["revision"],
                &shown["ended"],
                &shown["recorded_by"]
            ),
            (&json!(true), &json!(1), &json!(false), &json!("admin"))
        );
        assert_eq!(shown["recorded_at"], json!(NOW));
        for (field, value) in first.as_object().unwrap() {
            match field.as_str() {
                "mac_address" => assert_eq!(shown[field], "0A:1B:2C:3D:4E:5F"),
                "expected_every" => assert_eq!(shown[field], 30.0),
                _ => assert_eq!(&shown[field], value, "{field}"),
            }
        }
        assert_eq!(
            admin.put(&path, shown.clone()).await["revision"],
            2,
            "what was read can be sent back"
        );
        assert_eq!(admin.put(&path, second.clone()).await["revision"], 3);
        let (status, _, done) = admin.send("DELETE", &path, None, &Value::Null).await;
        assert_eq!((status.as_u16(), &done["revision"]), (200, &json!(4)));
        let (status, _, done) = admin.send("DELETE", &path, None, &Value::Null).await;
        assert_eq!((status.as_u16(), &done["code"]), (409, &json!("ended")));
        let (status, _, done) = admin.send("POST", &format!("/v1/{list}"), None, &body).await;
        assert_eq!((status.as_u16(), &done["code"]), (409, &json!("ended")));
        let shown = admin.get(&path).await;
        assert_eq!((&shown["ended"], &shown["revision"]), (&json!(true), &json!(4)));
        assert_eq!(admin.ids(&format!("/v1/{list}"), list).await, [""; 0]);
        assert_eq!(admin.ids(&format!("/v1/{list}?ended=true"), list).await, [id]);
        assert_eq!(admin.put(&path, second).await["revision"], 5);
        assert_eq!(admin.get(&path).await["ended"], false);
        let (status, _, _) = admin.send("DELETE", &format!("{path}x"), None, &Value::Null).await;
        assert_eq!(status, 404);
    }
}

#[tokio::test]
async fn a_change_goes_by_what_its_sender_has_read() {
    let admin = Admin::new().await;
    let path = "/v1/patients/p1";
    for (header, value, status) in [
        ("if-match", "*", 412),
        ("if-match", "\"1\"", 412),
        ("if-none-match", "*", 200),
        ("if-none-match", "*", 412),
        ("if-match", "\"2\"", 412),
        ("if-match", "W/\"1\"", 412),
        ("if-match", "1", 412),
        ("if-match", "\"1\"", 200),
        ("if-match", "\"1\"", 412),
        ("if-match", "*", 200),
    ] {
        let (got, _, answer) = admin.send("PUT", path, Some((header, value)), &json!({})).await;
        assert_eq!(got, status, "{header}: {value}: {answer}");
        if status == 412 {
            assert_eq!(answer["code"], "changed");
        }
    }
    let (status, _, _) = admin
        .send("DELETE", path, Some(("if-match", "\"1\"")), &Value::Null)
        .await;
    assert_eq!(status, 412);
    admin.house.settled().await;
    let (_, headers, _) = admin.send("GET", path, None, &Value::Null).await;
    assert_eq!(headers["etag"], "\"3\"");
    let (status, _, _) = admin
        .send("DELETE", path, Some(("if-match", "\"3\"")), &Value::Null)
        .await;
    assert_eq!(status, 200);
}

#[tokio::test]
async fn of_many_who_change_the_same_revision_one_succeeds() {
    let admin = Admin::new().await;
    admin.put("/v1/patients/p1", json!({})).await;
    let body = json!({"name": "x"});
    let all = (0..20).map(|_| admin.send("PUT", "/v1/patients/p1", Some(("if-match", "\"1\"")), &body));
    let answers = futures::future::join_all(all).await;
    assert_eq!(answers.iter().filter(|(status, ..)| *status == 200).count(), 1);
    let bodies: Vec<Value> = (0..20)
        .map(|n| json!({"id": format!("s{n}"), "mac_address": "001122334455"}))
        .collect();
    let all = bodies.iter().map(|body| admin.send("POST", "/v1/sensors", None, body));
    let answers = futures::future::join_all(all).await;
    assert_eq!(answers.iter().filter(|(status, ..)| *status == 201).count(), 1);
    assert!(
        answers
            .iter()
            .all(|(status, _, answer)| *status == 201 || answer["code"] == "mac_address_taken")
    );
}

#[tokio::test]
async fn what_one_process_was_answered_counts_for_the_next_change_through_another() {
    let house = House::new().await;
    let parts = &house.state.parts;
    let process = || {
        Registry::new(
            Arc::clone(&parts.log),
            Arc::clone(&parts.views),
            Arc::clone(&parts.clock),
            true,
        )
    };
    let (one, other) = (process(), process());
    let change = async |through: &Registry, register: Register, id: &str, fields: Value, condition| {
        let record = Record::from_json(register, fields.as_object().unwrap(), NOW).unwrap();
        let key = register.key(id).unwrap();
        through
            .record(key, Wish::Replace(record), condition, "admin".into())
            .await
    };
    for n in 0..100 {
        let name = json!({"name": n.to_string()});
        let by = if n == 0 { Condition::New } else { Condition::Revision(n) };
        change(&one, Register::Patients, "p1", name.clone(), by).await.unwrap();
        let late = change(&other, Register::Patients, "p1", name, by).await;
        assert_eq!(late.unwrap_err(), Problem::Changed, "{n}");
        let with = json!({"mac_address": format!("0011223344{n:02}")});
        let sensors = Register::Sensors;
        change(&one, sensors, &format!("a{n}"), with.clone(), Condition::Any)
            .await
            .unwrap();
        let late = change(&other, sensors, &format!("b{n}"), with, Condition::Any).await;
        assert_eq!(late.unwrap_err(), Problem::AddressTaken, "{n}");
    }
}

#[tokio::test]
async fn an_address_belongs_to_one_sensor_until_its_registration_ends_or_changes() {
    let admin = Admin::new().await;
    let with = json!({"mac_address": "00-11-22-33-44-55"});
    admin.put("/v1/sensors/s1", with.clone()).await;
    admin.put("/v1/sensors/s1", with.clone()).await;
    let (status, _, answer) = admin.send("PUT", "/v1/sensors/s2", None, &with).await;
    assert_eq!((status.as_u16(), &answer["field"]), (409, &json!("mac_address")));
    assert!(!answer["detail_fr"].as_str().unwrap().is_empty());
    admin.send("DELETE", "/v1/sensors/s1", None, &Value::Null).await;
    admin.put("/v1/sensors/s2", with.clone()).await;
    let (status, _, _) = admin.send("PUT", "/v1/sensors/s1", None, &with).await;
    assert_eq!(status, 409, "who comes back does not get it back");
    admin.put("/v1/sensors/s2", json!({})).await;
    admin.put("/v1/sensors/s1", with).await;
}

#[tokio::test]
async fn what_cannot_be_registered_is_named() {
    let admin = Admin::new().await;
    admin.house.device("p1", "s1").await;
    admin.house.settled().await;
    for (method, path, body, field) in [
        ("POST", "/v1/patients", json!({}), "id"),
        ("POST", "/v1/patients", json!({"id": "a b"}), "id"),
        ("POST", "/v1/patients", json!({"id": "sensor:1"}), "id"),
        ("PUT", "/v1/patients/p1", json!({"id": "p2"}), "id"),
        ("PUT", "/v1/patients/p1", json!({"birth_date": "soon"}), "birth_date"),
        ("PUT", "/v1/sensors/s1", json!({"patient_id": "p2"}), "patient_id"),
        (
            "POST",
            "/v1/sensors",
            json!({"id": "s2", "patient_id": "p2"}),
            "patient_id",
        ),
        ("PUT", "/v1/practitioners/d", json!({"sex": "female"}), "sex"),
    ] {
        let (status, _, answer) = admin.send(method, path, None, &body).await;
        assert_eq!((status.as_u16(), &answer["field"]), (400, &json!(field)), "{body}");
    }
    admin
        .put("/v1/sensors/s1", json!({"patient_id": "p1", "kind": "ecg"}))
        .await;
    let (status, _, _) = admin.send("PUT", "/v1/patients/p1", None, &Value::Null).await;
    assert_eq!(status, 400);
}

#[tokio::test]
async fn people_are_found_by_the_beginning_of_an_id_or_of_a_word_of_the_name() {
    let admin = Admin::new().await;
    for (id, name) in [
        ("p1", "Aïssatou Diop"),
        ("p2", "Binta Fall"),
        ("diop-3", "Cheikh Sarr"),
        ("p4", "Diop Diop"),
    ] {
        admin.put(&format!("/v1/patients/{id}"), json!({ "name": name })).await;
        admin
            .put(&format!("/v1/practitioners/{id}"), json!({ "name": name }))
            .await;
    }
    admin.send("DELETE", "/v1/patients/p2", None, &Value::Null).await;
    for list in ["patients", "practitioners"] {
        for (q, found) in [("diop", &["diop-3", "p1", "p4"][..]), ("AIS", &["p1"]), ("zz", &[])] {
            for limit in [1, 2, 3, 100] {
                let (mut ids, mut cursor) = (Vec::new(), String::new());
                loop {
                    let page = admin.get(&format!("/v1/{list}?q={q}&limit={limit}{cursor}")).await;
                    let rows = page[list].as_array().unwrap();
                    assert!(rows.len() <= limit);
                    ids.extend(rows.iter().map(|row| row["id"].as_str().unwrap().to_owned()));
                    match page["next_cursor"].as_str() {
                        Some(next) => cursor = format!("&cursor={next}"),
                        None => break,
                    }
                }
                ids.sort();
                assert_eq!(ids, found, "{list} {q} {limit}");
            }
        }
    }
    assert_eq!(admin.ids("/v1/patients?q=fall", "patients").await, [""; 0]);
    assert_eq!(admin.ids("/v1/patients?q=fall&ended=true", "patients").await, ["p2"]);
    assert_eq!(admin.ids("/v1/patients?prefix=diop", "patients").await, ["diop-3"]);
    let (status, _) = admin.house.get("/v1/patients?q=a&cursor=zz", &admin.token).await;
    assert_eq!(status, 400);
    let doctor = admin.house.token(Role::Doctor, &["p1", "p2"], Span::hours(1));
    let (_, page) = admin.house.get("/v1/patients?q=diop", &doctor).await;
    assert_eq!(
        page["patients"].as_array().map(Vec::len),
        Some(1),
        "cut to one's own: {page}"
    );
}

#[tokio::test]
async fn who_is_heard_without_being_registered_is_shown_and_can_be_registered() {
    let admin = Admin::new().await;
    admin.house.reading("p1", "s1", 72.0, NOW).await;
    admin.house.device("p1", "s1").await;
    for path in ["/v1/patients/p1", "/v1/sensors/s1"] {
        let shown = admin.get(path).await;
        assert_eq!(
            (&shown["registered"], &shown["revision"]),
            (&json!(false), &Value::Null)
        );
        let (status, _, _) = admin.send("DELETE", path, None, &Value::Null).await;
        assert_eq!(status, 404, "there is no registration to end");
        admin.put(path, json!({})).await;
        let shown = admin.get(path).await;
        assert_eq!((&shown["registered"], &shown["revision"]), (&json!(true), &json!(1)));
    }
    let shown = admin.get("/v1/sensors/s1").await;
    assert_eq!(
        (&shown["patient_id"], &shown["battery_level"]),
        (&json!("p1"), &json!(80.0))
    );
    assert_eq!(shown["expected_every"], 30.0, "as it promised");
}

#[tokio::test]
async fn an_import_names_bad_rows_takes_the_others_and_changes_nothing_the_second_time() {
    let admin = Admin::new().await;
    admin
        .put(
            "/v1/sensors/s1",
            json!({"kind": "ecg", "mac_address": "000000000001", "place": "ward 3"}),
        )
        .await;
    admin.put("/v1/sensors/gone", json!({})).await;
    admin.send("DELETE", "/v1/sensors/gone", None, &Value::Null).await;
    let rows = json!([
        {"id": "s1", "kind": "oximeter"},
        {"id": "s2", "mac_address": "000000000002"},
        {"id": "s3", "mac_address": "000000000002"},
        {"id": "s4", "mac_address": "000000000001"},
        {"id": "s2"},
        {"id": "gone"},
        {"id": "s5", "colour": "red"},
        {"kind": "ecg"},
        {"id": "s6"},
    ]);
    let refused = [
        (2, "mac_address", "repeated"),
        (3, "mac_address", "mac_address_taken"),
        (4, "id", "repeated"),
        (5, "id", "ended"),
        (6, "colour", "invalid"),
        (7, "id", "invalid"),
    ];
    for (dry_run, created, changed, unchanged) in [(true, 2, 1, 0), (false, 2, 1, 0), (false, 0, 0, 3), (true, 0, 0, 3)]
    {
        let done = admin.import(Register::Sensors, rows.clone(), dry_run).await;
        assert_eq!(
            (done.created, done.changed, done.unchanged),
            (created, changed, unchanged),
            "{done:?}"
        );
        let named: Vec<_> = done
            .refused
            .iter()
            .map(|r| (r.row, r.field.as_deref().unwrap_or_default(), r.code.as_str()))
            .collect();
        assert_eq!(named, refused);
    }
    let shown = admin.get("/v1/sensors/s1").await;
    assert_eq!(
        (
            &shown["kind"],
            &shown["place"],
            &shown["revision"],
            &shown["recorded_by"]
        ),
        (&json!("oximeter"), &json!("ward 3"), &json!(2), &json!("operator")),
        "a field that is not in the row stays"
    );
}
