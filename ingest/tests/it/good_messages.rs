//! Good messages of every format become the facts they say.

use ingest::{Context, Kind, Verdict};
use schemas::codec;
use schemas::facts::{Door, Mark, Reading, SensorState, Sent};
use schemas::ids::Key;
use schemas::journal::{ClockQuality, Envelope, Fact};
use schemas::metric::Metric;
use schemas::time::{Span, Timestamp};

use crate::bad_messages::judge;
use crate::log::NOW;

fn http() -> Context<'static> {
    Context::new(Door::Http, NOW)
}

fn data() -> Context<'static> {
    Context::new(Door::Mqtt, NOW).on_topic("p1", "s1", Kind::Data)
}

fn facts(verdicts: &[Verdict]) -> Vec<&Envelope> {
    verdicts
        .iter()
        .map(|v| v.fact().unwrap_or_else(|| panic!("{v:?}")))
        .collect()
}

fn reading(envelope: &Envelope) -> &Reading {
    match &envelope.fact {
        Fact::Reading(reading) => reading,
        other => panic!("{other:?}"),
    }
}

fn one(text: &str, context: &Context<'_>) -> Envelope {
    let verdicts = judge(text.as_bytes(), context);
    let [only] = facts(&verdicts)[..] else {
        panic!("{verdicts:?}")
    };
    only.clone()
}

const FULL: &str = r#"{"type":"heart_rate","value":72,"unit":"bpm","at":"2026-01-05T07:59:58.250Z","quality":97,"contact":true,
    "seq":1041,"epoch":3,"unheard_of":{"x":[1]}}"#;

#[test]
fn a_reading_says_all_that_its_device_said() {
    let envelope = one(FULL, &data());
    assert_eq!(envelope.key.text(), "p1");
    assert_eq!(envelope.measured_at, NOW - Span::millis(1_750));
    assert_eq!((envelope.received_at, envelope.clock), (NOW, ClockQuality::Device));
    let r = reading(&envelope);
    assert_eq!(
        (r.sensor_id.as_str(), r.metric, r.value, &r.sent),
        ("s1", Metric::HeartRate, 72.0, &None)
    );
    assert_eq!(
        (r.quality, r.contact, r.seq, r.epoch),
        (Some(97), Some(true), Some(1041), Some(3))
    );
    assert_eq!((&r.marks[..], r.door), (&[][..], Door::Mqtt));
}

#[test]
fn one_object_a_list_and_readings_are_the_same() {
    let r = r#"{"patient_id":"p1","sensor_id":"s1","type":"spo2","value":97,"seq":1}"#;
    let id = one(r, &http()).id;
    for text in [
        format!("[{r}]"),
        format!(r#"{{"readings":[{r}]}}"#),
        format!(r#" {{"x":1,"readings" : [ {r} ] }} "#),
        format!("\u{feff}{r}\n"),
    ] {
        assert_eq!(one(&text, &http()).id, id, "{text}");
    }
}

#[test]
fn units_become_canonical_and_what_was_sent_is_kept() {
    for (record, value, sent) in [
        (
            r#"{"type":"body_temperature","value":98.6,"unit":"[degF]"}"#,
            37.0,
            Some((98.6, "[degF]")),
        ),
        (
            r#"{"type":"blood_glucose","value":1.1,"unit":"g/L"}"#,
            110.0,
            Some((1.1, "g/L")),
        ),
        (
            r#"{"type":"heart_rate","value":1.2,"unit":"Hz"}"#,
            72.0,
            Some((1.2, "Hz")),
        ),
        (r#"{"type":"weight","value":70,"unit":"kg"}"#, 70.0, None),
    ] {
        let envelope = one(record, &data());
        let sent = sent.map(|(value, unit): (f64, &str)| Sent {
            value,
            unit: unit.into(),
        });
        assert_eq!(
            (reading(&envelope).value, &reading(&envelope).sent),
            (value, &sent),
            "{record}"
        );
    }
}

#[test]
fn what_is_noticed_is_marked() {
    for (record, marks) in [
        (
            r#"{"type":"heart_rate","value":72}"#,
            &[Mark::TimeMissing, Mark::AtLeastOnce][..],
        ),
        (r#"{"type":"heart_rate","value":72,"seq":1}"#, &[Mark::TimeMissing]),
        (
            r#"{"type":"heart_rate","value":250,"at":"2026-01-05T08:00:00Z"}"#,
            &[Mark::Suspect],
        ),
        (
            r#"{"type":"heart_rate","value":0,"contact":true,"at":"2026-01-05T08:00:00Z"}"#,
            &[Mark::ZeroWithContact],
        ),
        (
            r#"{"type":"respiratory_rate","value":0.0,"contact":true,"at":"2026-01-05T08:04:59Z"}"#,
            &[Mark::ZeroWithContact],
        ),
    ] {
        assert_eq!(reading(&one(record, &data())).marks, marks, "{record}");
    }
    let arrived = one(r#"{"type":"heart_rate","value":72,"seq":1}"#, &data());
    assert_eq!((arrived.measured_at, arrived.clock), (NOW, ClockQuality::Arrival));
}

#[test]
fn equal_content_is_one_fact_and_different_content_is_another() {
    let later = Context {
        received_at: NOW + Span::minutes(1),
        ..data()
    };
    assert_eq!(one(FULL, &data()).id, one(FULL, &later).id, "sent again later");
    for (what, with) in [
        ("72", "73"),
        ("1041", "1042"),
        ("\"epoch\":3", "\"epoch\":4"),
        ("58.250", "58.251"),
        ("heart_rate", "respiratory_rate"),
    ] {
        assert_ne!(
            one(FULL, &data()).id,
            one(&FULL.replace(what, with).replace("\"bpm\"", "\"/min\""), &data()).id,
            "{what}"
        );
    }
    let nameless = r#"{"type":"heart_rate","value":72}"#;
    assert_ne!(
        one(nameless, &data()).id,
        one(nameless, &later).id,
        "neither time nor sequence"
    );
    let two = judge(format!("[{nameless},{nameless}]").as_bytes(), &data());
    assert_ne!(facts(&two)[0].id, facts(&two)[1].id, "twice in one message");
}

#[test]
fn a_blood_pressure_is_three_readings_with_one_sequence() {
    let text = r#"[{"type":"blood_pressure","systolic":17.06528,"diastolic":82,"mean":97,"seq":9,"unit":"mm[Hg]"},
        {"type":"blood_pressure","systolic":128,"diastolic":82,"mean":97,"seq":9,"at":"2026-01-05T08:00:00Z"},
        {"type":"blood_pressure","systolic":16,"diastolic":10,"unit":"kPa","seq":10}]"#;
    let verdicts = judge(text.as_bytes(), &data());
    assert!(verdicts[0].refused().is_some(), "17 mmHg is refused, all of it");
    let all: Vec<_> = verdicts[1..].iter().map(|v| (v.index, v.fact().unwrap())).collect();
    let said: Vec<_> = all
        .iter()
        .map(|(i, e)| (*i, reading(e).metric, reading(e).seq))
        .collect();
    assert_eq!(
        said,
        [
            (1, Metric::Systolic, Some(9)),
            (1, Metric::Diastolic, Some(9)),
            (1, Metric::MeanPressure, Some(9)),
            (2, Metric::Systolic, Some(10)),
            (2, Metric::Diastolic, Some(10)),
        ]
    );
}

#[test]
fn alarms_status_and_answers_to_commands_are_facts() {
    let alarm = one(
        r#"{"type":"alarm","code":"asystole","at":"2026-01-05T08:00:00Z"}"#,
        &data(),
    );
    assert!(matches!(&alarm.fact, Fact::DeviceAlarm(a) if a.code.is_clinical()));
    let status = Context::new(Door::Mqtt, NOW).on_topic("p1", "s1", Kind::Status);
    let text = r#"{"state":"fault","battery":40.5,"firmware":"1.2.0","rssi":-70,"lat":14.7,"lng":-17.4,"at":"2026-01-05T08:00:00Z"}"#;
    let Fact::SensorStatus(s) = one(
        text,
        &Context {
            last_will: true,
            ..status
        },
    )
    .fact
    else {
        panic!()
    };
    assert_eq!(
        (s.state, s.battery, s.rssi, s.last_will),
        (SensorState::Fault, Some(40.5), Some(-70.0), true)
    );
    for (result, confirmed) in [("confirmed", true), ("OK", true), ("no such metric", false)] {
        let text = format!(r#"{{"command_id":"c1","result":"{result}"}}"#);
        let verdicts = judge(text.as_bytes(), &status);
        let [said, answered] = facts(&verdicts)[..] else {
            panic!("{verdicts:?}")
        };
        let Fact::SensorStatus(s) = &said.fact else { panic!() };
        assert_eq!(
            (s.state, s.command_id.as_deref(), s.result.as_deref()),
            (SensorState::Active, Some("c1"), Some(result))
        );
        let Fact::CommandAnswered(a) = &answered.fact else {
            panic!()
        };
        assert_eq!((a.command_id.as_str(), a.confirmed), ("c1", confirmed), "{result}");
        assert_eq!(
            (said.key.text(), answered.key.text()),
            ("p1".into(), "sensor:s1".into())
        );
    }
    let ahead = NOW + Span::minutes(4);
    let text = format!(r#"{{"command_id":"c1","at":"{ahead}"}}"#);
    let verdicts = judge(text.as_bytes(), &status);
    let [said, answered] = facts(&verdicts)[..] else {
        panic!("{verdicts:?}")
    };
    assert_eq!(
        (said.measured_at, answered.measured_at),
        (ahead, NOW),
        "what was done was done when we hear of it"
    );
    let alone = one(r#"{"sensor_id":"s9","state":"active"}"#, &http());
    assert_eq!(
        alone.key,
        Key::parse("sensor:s9").unwrap(),
        "a sensor without a patient"
    );
    let room = one(r#"{"sensor_id":"s9","type":"ambient_humidity","value":40}"#, &http());
    assert_eq!(room.key.text(), "sensor:s9");
}

#[test]
fn a_waveform_keeps_its_samples() {
    let envelope = one(
        r#"{"type":"ecg","samples":[100,-50,0],"rate":250,"unit":"uV","seq":1}"#,
        &data(),
    );
    let samples = reading(&envelope).samples.as_ref().unwrap();
    assert_eq!((samples.rate, &samples.values[..]), (250.0, &[0.1, -0.05, 0.0][..]));
}

#[test]
fn senml_carries_names_times_and_units_on() {
    let text = r#"[{"bn":"p1/s1/","bt":1767599990,"bu":"%","n":"spo2","v":97,"t":5},{"n":"battery","v":80},
        {"n":"body_temperature","u":"Cel","v":36.6,"t":-10},{"bn":"patient/p2/sensor/s2/"},{"n":"heart_rate","u":"beat/min","v":60},
        {"n":"alarm","vs":"fall"},{"n":"fall","u":"1","vb":true}]"#;
    let verdicts = judge(text.as_bytes(), &http());
    let said: Vec<_> = facts(&verdicts)
        .iter()
        .map(|e| {
            (
                e.key.text().to_string(),
                e.measured_at,
                match &e.fact {
                    Fact::Reading(r) => r.value,
                    _ => -1.0,
                },
            )
        })
        .collect();
    let at = |s: i64| Timestamp((1_767_599_990 + s) * 1_000_000);
    let (p1, p2) = ("p1".to_owned(), "p2".to_owned());
    assert_eq!(
        said,
        [
            (p1.clone(), at(5), 97.0),
            (p1.clone(), at(0), 80.0),
            (p1, at(-10), 36.6),
            (p2.clone(), at(0), 60.0),
            (p2.clone(), at(0), -1.0),
            (p2, at(0), 1.0)
        ]
    );
}

#[test]
fn a_device_without_a_clock_says_how_long_ago() {
    let envelope = one(r#"[{"bn":"p1/s1/","n":"spo2","v":97,"t":-30}]"#, &http());
    assert_eq!(
        (envelope.measured_at, envelope.clock),
        (NOW - Span::seconds(30), ClockQuality::Arrival)
    );
    assert_eq!(reading(&envelope).marks, [Mark::TimeMissing, Mark::AtLeastOnce]);
}

#[test]
fn what_follows_base_fields_that_cannot_be_read_is_refused_too() {
    let text = r#"[{"bn":"p1/s1/","n":"spo2","v":97},{"bn":7},{"n":"spo2","v":96}]"#;
    let verdicts = judge(text.as_bytes(), &http());
    let good: Vec<_> = verdicts.iter().map(|v| v.fact().is_some()).collect();
    assert_eq!(good, [true, false, false]);
}

#[test]
fn the_same_number_in_cbor_and_avro_is_the_same_fact() {
    // [{-2: "p1/s1/", -3: 1767600000, 0: "spo2", 2: 97.0}] with a half float, and as a list without length.
    let map = b"\xa4\x21\x66p1/s1/\x22\x1a\x69\x5b\x6f\x80\x00\x64spo2\x02\xf9\x56\x10";
    let cbor = [b"\x81", &map[..]].concat();
    let endless = [b"\x9f", &map[..], b"\xff"].concat();
    let context = http();
    let first = judge(&cbor, &context);
    let envelope = facts(&first)[0];
    assert_eq!(facts(&judge(&endless, &context))[0].id, envelope.id);
    let json = one(
        r#"{"patient_id":"p1","sensor_id":"s1","type":"spo2","value":97.0,"at":"2026-01-05T08:00:00Z"}"#,
        &context,
    );
    assert_eq!(json.id, envelope.id);
    // What the sender says about id, arrival and door counts for nothing.
    let mut forged = json.clone();
    forged.id.0 = [9; 16];
    forged.received_at = NOW + Span::days(9);
    let mut bytes = Vec::new();
    codec::encode(&forged, &mut bytes);
    let avro = judge(
        &bytes,
        &Context {
            door: Door::Mqtt,
            ..context
        },
    );
    assert_eq!((facts(&avro)[0].id, facts(&avro)[0].received_at), (json.id, NOW));
}

#[test]
fn a_sensor_cannot_write_what_only_the_house_writes() {
    let mut tick = one(FULL, &data());
    tick.fact = Fact::ClockTicked(schemas::facts::ClockTicked {
        by: schemas::facts::TickedBy::Ingest,
    });
    let mut bytes = Vec::new();
    codec::encode(&tick, &mut bytes);
    let verdicts = judge(&bytes, &http());
    assert_eq!(verdicts[0].refused().map(|r| r.code.as_str()), Some("unauthorised"));
}

#[test]
fn what_is_too_large_is_refused_in_its_place() {
    let big = format!(r#"{{"type":"heart_rate","value":72,"x":"{}"}}"#, "x".repeat(300 << 10));
    let verdicts = judge(format!(r#"[{big},{FULL}]"#).as_bytes(), &data());
    assert_eq!(verdicts[0].refused().map(|r| r.code.as_str()), Some("too_large"));
    assert!(verdicts[1].fact().is_some());
    let many = format!("[{}1]", "1,".repeat(10_000));
    let verdicts = judge(many.as_bytes(), &data());
    assert_eq!(
        verdicts.len(),
        1,
        "nothing is taken of a message that is refused as a whole"
    );
    assert_eq!(verdicts[0].refused().map(|r| r.code.as_str()), Some("too_large"));
}
