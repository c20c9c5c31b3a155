//! Who is registered, given what was recorded: through the embedded home.

use crate::house::{Views, at, device, envelope, measured, recorded};
use projections::query::{self, Paging};
use schemas::facts::{Liveness, PatientMerged};
use schemas::ids::{Key, PatientId, SensorId};
use schemas::journal::{Fact, Recorded};
use schemas::metric::Metric;
use schemas::registry::{Record, Register};
use serde_json::{Value, json};

/// A registration at an offset of its partition.
fn registered(offset: i64, register: Register, id: &str, revision: i32, ended: bool, fields: Value) -> Recorded {
    let Value::Object(fields) = fields else {
        panic!("an object")
    };
    let record = Record::from_json(register, &fields, at(0)).unwrap();
    let key = register.key(id).unwrap();
    let fact = record.recorded(revision, ended, "admin".into());
    recorded(offset, envelope(&key.text(), at(offset), at(offset), fact))
}

fn patient(offset: i64, id: &str, name: &str) -> Recorded {
    registered(offset, Register::Patients, id, 1, false, json!({ "name": name }))
}

fn page<'a>(limit: usize, cursor: Option<&'a str>) -> Paging<'a> {
    Paging { limit, cursor }
}

#[tokio::test]
async fn the_newest_registration_stands_in_whatever_order_they_arrive() {
    use Register as R;
    for (register, id, first, second) in [
        (
            R::Patients,
            "p1",
            json!({"name": "Awa", "conditions": ["asthma"]}),
            json!({"name": "Awa Diop", "sex": "female", "care_team": ["dr.b"]}),
        ),
        (
            R::Practitioners,
            "dr.b",
            json!({"name": "B"}),
            json!({"speciality": "cardiology"}),
        ),
        (
            R::Sensors,
            "s1",
            json!({"kind": "ecg"}),
            json!({"kind": "ecg", "expected_every": 30.0}),
        ),
    ] {
        let key = register.key(id).unwrap();
        let older = registered(3, register, id, 1, false, first);
        let newer = registered(8, register, id, 2, true, second.clone());
        for order in [[&older, &newer], [&newer, &older]] {
            let views = Views::new().await;
            assert_eq!(query::registered(&*views.store, &key).await.unwrap(), None);
            for fact in order {
                views.facts(std::slice::from_ref(fact)).await;
            }
            let now = query::registered(&*views.store, &key).await.unwrap().unwrap();
            assert_eq!(
                (now.revision, now.ended, now.by.as_str(), now.since),
                (2, true, "admin", at(8))
            );
            let Value::Object(second) = second.clone() else {
                panic!()
            };
            assert_eq!(now.record, Record::from_json(register, &second, at(0)).unwrap());
        }
    }
}

#[tokio::test]
async fn what_is_registered_and_what_was_heard_never_write_over_each_other() {
    let views = Views::new().await;
    views.facts(&[measured("p1", "s1", Metric::HeartRate, 7, 72.0)]).await;
    views.derived(&[device("p1", "s1", 9, 7, Liveness::Online)]).await;
    views
        .facts(&[
            patient(8, "p1", "Awa"),
            patient(9, "p2", "Binta"),
            registered(3, Register::Sensors, "s1", 1, false, json!({"kind": "ecg"})),
            registered(4, Register::Sensors, "s0", 1, false, json!({"kind": "scale"})),
        ])
        .await;
    views.facts(&[measured("p1", "s1", Metric::HeartRate, 99, 72.0)]).await;
    let card = query::patient_card(&*views.store, &PatientId::new("p1").unwrap())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(card.registered.unwrap().record.name().unwrap(), "Awa");
    assert_eq!(card.heard.unwrap().last_heard, at(60));
    let card = query::patient_card(&*views.store, &PatientId::new("p2").unwrap())
        .await
        .unwrap()
        .unwrap();
    assert!(card.heard.is_none() && card.registered.is_some());
    let card = query::sensor_card(&*views.store, &SensorId::new("s1").unwrap())
        .await
        .unwrap()
        .unwrap();
    assert!(card.registered.is_some() && card.heard.is_some());
    let card = query::sensor_card(&*views.store, &SensorId::new("s0").unwrap())
        .await
        .unwrap()
        .unwrap();
    assert!(card.registered.is_some() && card.heard.is_none());
    assert_eq!(
        query::sensor_card(&*views.store, &SensorId::new("s9").unwrap())
            .await
            .unwrap(),
        None
    );
}

#[tokio::test]
async fn a_list_has_everybody_once_registered_or_heard_page_by_page() {
    let views = Views::new().await;
    let mut facts = Vec::new();
    for n in 0..60_i64 {
        let id = format!("p{n:02}");
        if n % 2 == 0 {
            facts.push(patient(n, &id, "X"));
        }
        if n % 3 == 0 {
            facts.push(measured(&id, "s", Metric::HeartRate, n, 1.0));
        }
    }
    views.facts(&facts).await;
    for limit in [1, 7, 40, 100] {
        let (mut seen, mut cursor) = (Vec::new(), None);
        loop {
            let found = query::patient_cards(&*views.store, "p", page(limit, cursor.as_deref()))
                .await
                .unwrap();
            assert!(found.items.len() <= limit);
            seen.extend(
                found
                    .items
                    .iter()
                    .map(|card| (card.id.to_string(), card.registered.is_some(), card.heard.is_some())),
            );
            cursor = found.next_cursor;
            if cursor.is_none() {
                break;
            }
        }
        let wanted: Vec<_> = (0..60)
            .map(|n| (format!("p{n:02}"), n % 2 == 0, n % 3 == 0))
            .filter(|(_, registered, heard)| *registered || *heard)
            .collect();
        assert_eq!(seen, wanted, "{limit}");
    }
}

fn merged(offset: i64, id: &str, into: Option<&str>, before: Option<&str>) -> Recorded {
    let id_of = |id: &str| PatientId::new(id).unwrap();
    let fact = Fact::PatientMerged(PatientMerged {
        into: into.map(id_of),
        before: before.map(id_of),
        by: "admin".into(),
    });
    recorded(offset, envelope(id, at(offset), at(offset), fact))
}

#[tokio::test]
async fn a_person_is_shown_once_also_where_two_said_at_once_that_each_is_the_other() {
    let views = Views::new().await;
    let known = ["a", "b", "c", "d"].map(|id| patient(0, id, id));
    views.facts(&known).await;
    let shown = async || {
        let page = query::patient_cards(&*views.store, "", page(10, None)).await.unwrap();
        let mut shown = String::new();
        for card in page.items {
            let person = query::person(&*views.store, &card.id).await.unwrap();
            let alone = query::patient_card(&*views.store, &card.id).await.unwrap().unwrap();
            assert_eq!(alone.merged_into, card.merged_into, "{}", card.id);
            assert_eq!(
                card.merged_into.unwrap_or_else(|| card.id.clone()),
                person,
                "{}",
                card.id
            );
            shown += person.as_str();
        }
        let mut others = query::also_known_as(&*views.store, "a").await.unwrap();
        others.sort();
        (shown, others.concat())
    };
    views
        .facts(&[merged(1, "a", Some("b"), None), merged(1, "b", Some("a"), None)])
        .await;
    views.facts(&[merged(1, "c", Some("b"), None)]).await;
    assert_eq!(
        shown().await,
        ("aaad".to_owned(), "bc".to_owned()),
        "the least id stands for a ring"
    );
    // Whoever takes `c` elsewhere does not know of a merging said meanwhile: only what `c` itself says counts.
    views
        .facts(&[merged(2, "c", Some("d"), None), merged(2, "b", None, Some("a"))])
        .await;
    assert_eq!(shown().await, ("bbdd".to_owned(), String::new()));
}

#[tokio::test]
async fn a_person_is_found_by_any_word_of_the_name_they_have_now() {
    let views = Views::new().await;
    views
        .facts(&[
            patient(1, "p1", "Aïssatou Diop"),
            patient(2, "p2", "Anna Annan"),
            patient(3, "p3", "Old Name"),
            registered(4, Register::Patients, "p3", 2, false, json!({"name": "Diouf Ndiaye"})),
            patient(5, "diop-4", "Diop Diop"),
            registered(6, Register::Practitioners, "dr", 1, false, json!({"name": "Diop"})),
        ])
        .await;
    for (q, wanted) in [
        ("dio", &["p1", "p3"][..]),
        ("AISSATOU d", &["p1"]),
        ("aïs", &["p1"]),
        ("ann", &["p2"]),
        ("old", &[]),
        ("diop", &["p1"]),
        ("x", &[]),
    ] {
        for limit in [1, 10] {
            let (mut seen, mut cursor) = (Vec::new(), None);
            loop {
                let found = query::named(&*views.store, Register::Patients, q, page(limit, cursor.as_deref()))
                    .await
                    .unwrap();
                seen.extend(found.items.into_iter().map(|r| r.id));
                cursor = found.next_cursor;
                if cursor.is_none() {
                    break;
                }
            }
            seen.sort();
            assert_eq!(seen, wanted, "{q} {limit}: whose id begins like it is found by the id");
        }
    }
}

#[tokio::test]
async fn an_address_is_held_by_who_is_registered_with_it_now() {
    let views = Views::new().await;
    let mac = "0A:1B:2C:3D:4E:5F".into();
    let with = |offset, id, revision, ended| {
        registered(
            offset,
            Register::Sensors,
            id,
            revision,
            ended,
            json!({ "mac_address": mac }),
        )
    };
    let holders = async || query::holders(&*views.store, &mac).await.unwrap();
    assert!(holders().await.is_empty());
    views.facts(&[with(1, "s1", 1, false)]).await;
    assert_eq!(holders().await, ["s1"]);
    views.facts(&[with(2, "s1", 2, true)]).await;
    assert!(holders().await.is_empty(), "whose registration has ended holds nothing");
    views
        .facts(&[
            with(3, "s2", 1, false),
            registered(4, Register::Sensors, "s2", 2, false, json!({})),
            with(5, "s3", 1, false),
        ])
        .await;
    assert_eq!(holders().await, ["s3"]);
    assert_eq!(
        query::registered(&*views.store, &Key::Sensor(SensorId::new("s2").unwrap()))
            .await
            .unwrap()
            .unwrap()
            .revision,
        2
    );
}
