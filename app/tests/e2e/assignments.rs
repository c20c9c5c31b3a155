//! Sensors that change hands: what they measure is the patient's who wore them then.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use app::client;
use axum::http::Method;
use eventlog::{Clock, SystemClock};
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::Packet;
use rumqttc::v5::{AsyncClient, Event, EventLoop};
use schemas::time::{Span, Timestamp};
use serde_json::{Value, json};

use super::house::{House, ago, fajma, on_engines};

pub(super) async fn put(house: &House, path: &str, body: &Value) -> (u16, Value) {
    let body = ("application/json", body.to_string().into());
    client::call(&house.http, Method::PUT, path, &house.token, body)
        .await
        .unwrap()
}

pub(super) async fn assign(house: &House, sensor: &str, patient: Option<&str>, from: Option<Timestamp>) {
    let body = json!({ "patient_id": patient, "from": from });
    let (status, answer) = put(house, &format!("/v1/sensors/{sensor}/assignment"), &body).await;
    assert_eq!(status, 200, "{answer}");
}

pub(super) async fn register(house: &House, patients: &[&str], sensors: &[&str]) {
    for (list, ids) in [("patients", patients), ("sensors", sensors)] {
        for id in ids {
            let (status, answer) = put(house, &format!("/v1/{list}/{id}"), &json!({})).await;
            assert_eq!(status, 200, "{answer}");
        }
    }
}

pub(super) fn pulse(sensor: &str, patient: Option<&str>, value: f64, at: Timestamp) -> Value {
    let mut reading = json!({"sensor_id": sensor, "type": "heart_rate", "value": value, "at": at});
    if let Some(patient) = patient {
        reading["patient_id"] = json!(patient);
    }
    reading
}

/// The values of a patient's readings that are theirs, and those that are not.
pub(super) async fn readings(house: &House, patient: &str) -> (Vec<f64>, Vec<f64>) {
    let path = format!("/v1/patients/{patient}/readings?metric=heart_rate&limit=10000");
    let answer = house.get(&path).await;
    let (mut own, mut others) = (Vec::new(), Vec::new());
    for reading in answer["readings"].as_array().unwrap() {
        let misfiled = reading["marks"].as_array().unwrap().contains(&json!("misfiled"));
        if misfiled { &mut others } else { &mut own }.push(reading["value"].as_f64().unwrap());
    }
    own.sort_by(f64::total_cmp);
    others.sort_by(f64::total_cmp);
    (own, others)
}

pub(super) fn codes(answer: &Value) -> Vec<&str> {
    let results = answer["results"].as_array().unwrap();
    results.iter().map(|r| r["code"].as_str().unwrap_or("")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sensor_that_moved_measures_for_its_new_patient_and_its_backlog_for_the_old_one() {
    let house = House::new().await;
    register(&house, &["awa", "binta"], &["patch"]).await;
    house
        .until("/v1/patients/binta", |answer| answer["id"] == "binta")
        .await;
    assign(&house, "patch", Some("awa"), Some(ago(600))).await;
    let answer = house.send(json!([
        pulse("patch", None, 70.0, ago(300)),
        pulse("patch", Some("awa"), 71.0, ago(200))
    ]));
    assert_eq!(codes(&answer.await), ["", ""]);
    // It was moved two and a half minutes ago; whoever did it says so now.
    assign(&house, "patch", Some("binta"), Some(ago(250))).await;
    let answer = house
        .send(json!([
            pulse("patch", Some("awa"), 72.0, ago(310)),
            pulse("patch", Some("awa"), 73.0, ago(100)),
            pulse("patch", Some("binta"), 74.0, ago(90)),
            pulse("patch", None, 75.0, ago(80)),
        ]))
        .await;
    assert_eq!(codes(&answer), ["", "not_this_patients_sensor", "", ""]);
    let sensor = house
        .until("/v1/sensors/patch", |answer| answer["patient_id"] == "binta")
        .await;
    assert_eq!(sensor["id"], "patch");
    house
        .until("/v1/patients/binta/readings", |a| {
            a["readings"].as_array().is_some_and(|r| r.len() == 2)
        })
        .await;
    assert_eq!(readings(&house, "awa").await, (vec![70.0, 72.0], vec![71.0]));
    assert_eq!(readings(&house, "binta").await, (vec![74.0, 75.0], vec![]));

    // What was recorded for the wrong one waits, and counts nowhere.
    let waits = house.get("/v1/sensors/patch/unattributed").await;
    assert_eq!(waits["readings"][0]["value"], 71.0, "{waits}");
    assert_eq!(waits["readings"][0]["patient_id"], "awa");
    let refused = house
        .until("/v1/rejected?sensor=patch", |a| {
            a["rejected"].as_array().is_some_and(|r| r.len() == 1)
        })
        .await;
    assert_eq!(refused["rejected"][0]["code"], "not_this_patients_sensor");
    let counted = |answer: &Value| {
        let windows = answer["windows"].as_array().cloned().unwrap_or_default();
        windows.iter().map(|w| w["count"].as_i64().unwrap()).sum::<i64>()
    };
    house
        .until("/v1/patients/awa/windows?metric=heart_rate&size=1h", |a| {
            counted(a) == 2
        })
        .await;

    let said = json!({ "from": ago(250), "to": ago(0), "patient_id": "binta" });
    let (status, answer) = client::post(&house.http, "/v1/sensors/patch/reattribute", &house.token, &said)
        .await
        .unwrap();
    assert_eq!(
        (status, &answer["readings"], &answer["more"]),
        (200, &json!(2), &json!(false)),
        "{answer}"
    );
    house
        .until("/v1/patients/binta/readings", |a| {
            a["readings"].as_array().is_some_and(|r| r.len() == 4)
        })
        .await;
    assert_eq!(readings(&house, "binta").await.0, [71.0, 73.0, 74.0, 75.0]);
    house
        .until("/v1/patients/binta/windows?metric=heart_rate&size=1h", |a| {
            counted(a) == 4
        })
        .await;
    let waits = house.get("/v1/sensors/patch/unattributed").await;
    assert_eq!(waits["readings"], json!([]));

    let history = house.get("/v1/sensors/patch/assignment").await;
    assert_eq!(history["patient_id"], "binta");
    assert_eq!(history["history"].as_array().unwrap().len(), 2);

    let house = House::on(house.stop().await).await;
    let answer = house
        .send(json!([
            pulse("patch", Some("awa"), 76.0, ago(1)),
            pulse("patch", None, 77.0, ago(500))
        ]))
        .await;
    assert_eq!(
        codes(&answer),
        ["not_this_patients_sensor", ""],
        "known after a restart"
    );
    house
        .until("/v1/patients/awa/readings", |a| {
            a["readings"].as_array().is_some_and(|r| r.len() == 4)
        })
        .await;
    house.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_wears_is_kept_until_somebody_says_whose_it_is() {
    let house = House::new().await;
    register(&house, &["awa"], &["patch"]).await;
    house.until("/v1/patients/awa", |answer| answer["id"] == "awa").await;
    let answer = house
        .send(json!([
            pulse("patch", None, 70.0, ago(60)),
            pulse("other", None, 71.0, ago(60))
        ]))
        .await;
    assert_eq!(codes(&answer), ["", "missing_field"], "of a sensor that nobody knows");
    house
        .until("/v1/sensors/patch/unattributed", |a| {
            a["readings"].as_array().is_some_and(|r| r.len() == 1)
        })
        .await;
    let said = json!({ "from": ago(120), "to": ago(0), "patient_id": "awa" });
    for _ in 0..2 {
        let (status, _) = client::post(&house.http, "/v1/sensors/patch/reattribute", &house.token, &said)
            .await
            .unwrap();
        assert_eq!(status, 200);
    }
    house
        .until("/v1/patients/awa/readings", |a| {
            a["readings"].as_array().is_some_and(|r| r.len() == 1)
        })
        .await;
    let nobody = json!({ "from": ago(120), "to": ago(0), "patient_id": "nobody" });
    let (status, answer) = client::post(&house.http, "/v1/sensors/patch/reattribute", &house.token, &nobody)
        .await
        .unwrap();
    assert_eq!((status, &answer["field"]), (400, &json!("patient_id")), "{answer}");
    let tomorrow = json!({ "patient_id": "awa", "from": SystemClock.now() + Span::days(1) });
    let (status, answer) = put(&house, "/v1/sensors/patch/assignment", &tomorrow).await;
    assert_eq!((status, &answer["field"]), (400, &json!("from")), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn where_admission_is_by_registration_only_assigned_sensors_are_taken() {
    let house = House::new().await;
    let dir = house.dir.path().to_str().unwrap().to_owned();
    let policy = house.dir.path().join("policy.json");
    let file = policy.to_str().unwrap().to_owned();
    let applied = tokio::task::spawn_blocking(move || {
        let (status, shown, error) = fajma(&["policy", "show", "--data", &dir]);
        assert_eq!(status, Some(0), "{error}");
        let mut shown: Value = serde_json::from_str(&shown).unwrap();
        assert_eq!(shown["admission"], "open");
        shown["admission"] = json!("registered");
        std::fs::write(&file, shown.to_string()).unwrap();
        fajma(&["policy", "apply", &file, "--data", &dir])
    });
    let (status, _, error) = applied.await.unwrap();
    assert_eq!(status, Some(0), "{error}");
    register(&house, &["awa"], &["patch"]).await;
    house.until("/v1/patients/awa", |answer| answer["id"] == "awa").await;
    let three = |ago_: i64| {
        json!([
            pulse("stray", Some("awa"), 70.0, ago(ago_)),
            pulse("patch", Some("awa"), 71.0, ago(ago_)),
            pulse("patch", None, 72.0, ago(ago_)),
        ])
    };
    assert_eq!(
        codes(&house.send(three(30)).await),
        ["unknown_sensor", "not_this_patients_sensor", ""]
    );
    assign(&house, "patch", Some("awa"), Some(ago(20))).await;
    assert_eq!(codes(&house.send(three(10)).await), ["unknown_sensor", "", ""]);
    house
        .until("/v1/patients/awa/readings", |a| {
            a["readings"].as_array().is_some_and(|r| r.len() == 2)
        })
        .await;
    let nothing = ("application/json", Vec::new().into());
    let answer = client::call(&house.http, Method::DELETE, "/v1/sensors/patch", &house.token, nothing)
        .await
        .unwrap();
    assert_eq!(answer.0, 200, "{answer:?}");
    // Doors hear of it a moment later.
    let deadline = tokio::time::Instant::now() + super::house::PATIENCE;
    while codes(&house.send(three(5)).await)[2] != "unknown_sensor" {
        assert!(tokio::time::Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// What a sensor measured, who wore it then, and whom the device named.
#[derive(Debug, Clone)]
struct Measured {
    sensor: usize,
    value: u32,
    at: Timestamp,
    wore: usize,
    named: Option<usize>,
}

const SENSORS: usize = 10;
const PATIENTS: usize = 10;

/// How often a sensor changes hands: one a thousand times, the others meanwhile. On real engines, which make it wait each
/// time, two hundred times: what differs there shows by then.
fn moves(sensor: usize) -> usize {
    match sensor {
        0 if on_engines() => 200,
        0 => 1_000,
        _ => 50,
    }
}

fn patient(n: usize) -> String {
    format!("p{n}")
}

/// One sensor's life: it is moved, measures, sends some at once, some again by another door, keeps some back.
async fn live(house: Arc<House>, sensor: usize) -> Vec<Measured> {
    let name = format!("s{sensor}");
    let mut mqtt = house.connect_sensor(&name, &name);
    let (mut measured, mut kept) = (Vec::new(), Vec::new());
    for turn in 0..moves(sensor) {
        let wore = (sensor + turn * 3) % PATIENTS;
        let from = SystemClock.now();
        // Now and then it measures before anybody has said that it was moved.
        let told_late = turn % 4 == 3;
        if !told_late {
            assign(&house, &name, Some(&patient(wore)), Some(from)).await;
        }
        for n in 0..4 {
            let value = ((sensor * 1_000 + turn) * 10 + n) as u32;
            // A device may know who wears it, or not; some know only who wore it before.
            let named = match n {
                0 => None,
                1 | 2 => Some(wore),
                _ => Some((sensor + turn.saturating_sub(1) * 3) % PATIENTS),
            };
            let it = Measured {
                sensor,
                value,
                at: SystemClock.now(),
                wore,
                named,
            };
            if n == 2 {
                kept.push(it.clone());
            } else {
                send(&house, std::slice::from_ref(&it)).await;
                if n == 1 {
                    again(&house, std::slice::from_ref(&it), &mut mqtt).await;
                }
            }
            measured.push(it);
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        if told_late {
            assign(&house, &name, Some(&patient(wore)), Some(from)).await;
        }
        if turn % 5 == 4 {
            let backlog = std::mem::take(&mut kept);
            send(&house, &backlog).await;
            again(&house, &backlog, &mut mqtt).await;
        }
    }
    assert!(kept.is_empty(), "the last turn sends the last of it");
    measured
}

/// Values are in steps of a thousandth, so that each is told from every other.
fn value(value: u32) -> f64 {
    60.0 + f64::from(value) / 1_000.0
}

fn sent(it: &Measured) -> Value {
    let named = it.named.map(patient);
    pulse(&format!("s{}", it.sensor), named.as_deref(), value(it.value), it.at)
}

async fn send(house: &House, some: &[Measured]) {
    house.send(some.iter().map(sent).collect()).await;
}

/// Once more, through another door: every other turn by MQTT, else as the REST proxy takes it.
async fn again(house: &House, some: &[Measured], (client, events): &mut (AsyncClient, EventLoop)) {
    if (some[0].value / 10).is_multiple_of(2) {
        for it in some {
            let topic = format!(
                "fajma/patient/{}/sensor/s{}/data",
                patient(it.named.unwrap()),
                it.sensor
            );
            let reading = sent(it).to_string();
            client.publish(topic, QoS::AtLeastOnce, false, reading).await.unwrap();
        }
        let mut open = some.len();
        while open > 0 {
            // Refused or not, it is in the log.
            if let Event::Incoming(Packet::PubAck(_)) = events.poll().await.unwrap() {
                open -= 1;
            }
        }
    } else {
        let records: Vec<Value> = some.iter().map(|it| json!({ "value": sent(it) })).collect();
        let body = json!({ "records": records });
        let body = ("application/vnd.kafka.json.v2+json", body.to_string().into());
        let answer = client::call(&house.http, Method::POST, "/topics/fajma.readings", &house.token, body)
            .await
            .unwrap();
        // Where all of it is refused the proxy's answer as a whole is a refusal.
        assert!(matches!(answer.0, 200 | 403), "{answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn moved_a_thousand_times_every_reading_is_the_patients_who_wore_it_or_waits() {
    let house = Arc::new(House::new().await);
    let (patients, sensors): (Vec<_>, Vec<_>) = (
        (0..PATIENTS).map(patient).collect(),
        (0..SENSORS).map(|n| format!("s{n}")).collect(),
    );
    register(
        &house,
        &patients.iter().map(String::as_str).collect::<Vec<_>>(),
        &sensors.iter().map(String::as_str).collect::<Vec<_>>(),
    )
    .await;
    let last = format!("/v1/patients/{}", patients[PATIENTS - 1]);
    house
        .until(&last, |answer| answer["id"] == patients[PATIENTS - 1].as_str())
        .await;
    let mut living = tokio::task::JoinSet::new();
    for sensor in 0..SENSORS {
        living.spawn(live(Arc::clone(&house), sensor));
    }
    let measured: Vec<Measured> = living.join_all().await.into_iter().flatten().collect();
    assert_eq!(measured.len(), (0..SENSORS).map(moves).sum::<usize>() * 4);
    let truth: BTreeMap<u64, usize> = measured.iter().map(|it| (value(it.value).to_bits(), it.wore)).collect();

    // Each is with the one who wore it, or waits: it counts for nobody else, once the last that was said is shown.
    let deadline = tokio::time::Instant::now() + super::house::PATIENCE;
    let right = loop {
        let (mut right, mut wrong) = (BTreeSet::new(), Vec::new());
        for patient in 0..PATIENTS {
            // The last of what was sent may not be shown yet: what is shown later is looked at below.
            let (own, _) = readings(&house, &format!("p{patient}")).await;
            for value in own {
                if truth[&value.to_bits()] == patient {
                    right.insert(value.to_bits());
                } else {
                    wrong.push((patient, value));
                }
            }
        }
        if wrong.is_empty() {
            break right;
        }
        assert!(tokio::time::Instant::now() < deadline, "{wrong:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    assert!(
        right.len() > measured.len() / 2,
        "{} of {}",
        right.len(),
        measured.len()
    );

    // Whoever knows says whose the rest are; then all are where they belong, each once.
    let mut rest: BTreeMap<(usize, usize, u32), (Timestamp, Timestamp)> = BTreeMap::new();
    for it in measured.iter().filter(|it| !right.contains(&value(it.value).to_bits())) {
        let turn = (it.sensor, it.wore, it.value / 10);
        let stretch = rest.entry(turn).or_insert((it.at, it.at));
        *stretch = (stretch.0.min(it.at), stretch.1.max(it.at));
    }
    assert!(!rest.is_empty(), "some were told late, and some named another");
    let mut saying = tokio::task::JoinSet::new();
    for ((sensor, wore, _), (first, last)) in rest {
        let said = json!({ "from": first, "to": last + Span::millis(1), "patient_id": patient(wore) });
        let (house, path) = (Arc::clone(&house), format!("/v1/sensors/s{sensor}/reattribute"));
        saying.spawn(async move {
            let (status, answer) = client::post(&house.http, &path, &house.token, &said).await.unwrap();
            assert_eq!(status, 200, "{answer}");
        });
        if saying.len() >= 8 {
            saying.join_next().await.unwrap().unwrap();
        }
    }
    saying.join_all().await;
    let mut counted = 0;
    for n in 0..PATIENTS {
        let due = measured.iter().filter(|it| it.wore == n).count();
        let path = format!("/v1/patients/p{n}/readings?metric=heart_rate&limit=10000");
        let own = |answer: &Value| {
            let all = answer["readings"].as_array().cloned().unwrap_or_default();
            let own = all
                .iter()
                .filter(|r| !r["marks"].as_array().unwrap().contains(&json!("misfiled")));
            own.count()
        };
        house.until(&path, |answer| own(answer) == due).await;
        let (own, _) = readings(&house, &format!("p{n}")).await;
        assert!(own.iter().all(|value| truth[&value.to_bits()] == n));
        let path = format!("/v1/patients/p{n}/windows?metric=heart_rate&size=1d&limit=10000");
        let sum = |answer: &Value| {
            let windows = answer["windows"].as_array().cloned().unwrap_or_default();
            windows
                .iter()
                .map(|w| w["count"].as_u64().unwrap() as usize)
                .sum::<usize>()
        };
        house.until(&path, |answer| sum(answer) == due).await;
        counted += due;
    }
    assert_eq!(counted, measured.len());
    house.verify().await;
}
