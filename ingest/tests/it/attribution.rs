//! Whose a record is: what has been said of its sensor, whom it names, and what it is about.

use bytes::Bytes;
use ingest::{Context, Roster, accept};
use schemas::codec::Catalogue;
use schemas::facts::{Door, SensorAttached, SensorDetached};
use schemas::ids::{Key, PatientId, SensorId};
use schemas::journal::Fact;
use schemas::policy::{Admission, Policy};
use schemas::time::{Span, Timestamp};

use crate::log::NOW;

/// `worn` was `a`'s until half an hour ago, `b`'s since; `loose` was `a`'s until half an hour ago; `shelf` is registered
/// and was never anybody's; of `new` nothing is known.
fn roster() -> Roster {
    let roster = Roster::default();
    let half_an_hour_ago = NOW - Span::minutes(30);
    let id = |sensor: &str| SensorId::new(sensor).unwrap();
    let attach = |sensor: &str, patient: &str, from: Timestamp, order| {
        let sensor_id = id(sensor);
        let fact = SensorAttached {
            sensor_id,
            from,
            until: None,
            order,
            expected_every: None,
            zone: None,
        };
        roster.told(
            &Key::Patient(PatientId::new(patient).unwrap()),
            &Fact::SensorAttached(fact),
        );
    };
    attach("worn", "a", NOW - Span::hours(5), 1);
    attach("worn", "b", half_an_hour_ago, 2);
    attach("loose", "a", NOW - Span::hours(5), 1);
    let gone = SensorDetached {
        sensor_id: id("loose"),
        from: half_an_hour_ago,
        until: None,
        order: 2,
    };
    roster.told(&Key::Patient(PatientId::new("a").unwrap()), &Fact::SensorDetached(gone));
    for sensor in ["worn", "loose", "shelf"] {
        roster.registered(&id(sensor), 1, false);
    }
    roster
}

/// Whose it is, or why it is refused.
fn whose(roster: &Roster, admission: Admission, record: &str) -> String {
    let policy = Policy {
        admission,
        ..Policy::standard()
    };
    let catalogue = Catalogue::builtin();
    let rules = accept::Rules {
        policy: &policy,
        catalogue: &catalogue,
        roster,
        bounds: accept::Bounds::default(),
    };
    let context = Context::new(Door::Http, NOW);
    let verdicts = accept::accept(&Bytes::copy_from_slice(record.as_bytes()), &context, &rules);
    match (verdicts[0].fact(), verdicts[0].refused()) {
        (Some(envelope), _) => envelope.key.text().to_string(),
        (_, Some(refused)) => format!("!{}", refused.code),
        _ => unreachable!(),
    }
}

#[test]
fn a_record_is_the_patients_who_wore_the_sensor_when_it_measured() {
    let roster = roster();
    let pulse = |sensor: &str, named: &str, ago: i64| {
        let named = if named.is_empty() {
            String::new()
        } else {
            format!(r#""patient_id":"{named}","#)
        };
        let at = NOW - Span::minutes(ago);
        format!(r#"{{{named}"sensor_id":"{sensor}","type":"heart_rate","value":70,"at":"{at}"}}"#)
    };
    for (sensor, named, ago, open, registered) in [
        ("worn", "", 1, "b", "b"),
        ("worn", "b", 1, "b", "b"),
        ("worn", "a", 1, "!not_this_patients_sensor", "!not_this_patients_sensor"),
        ("worn", "", 60, "a", "a"),
        ("worn", "a", 60, "a", "a"),
        (
            "worn",
            "b",
            60,
            "!not_this_patients_sensor",
            "!not_this_patients_sensor",
        ),
        ("worn", "a", 600, "a", "!not_this_patients_sensor"),
        ("worn", "", 600, "sensor:worn", "sensor:worn"),
        ("loose", "", 1, "sensor:loose", "sensor:loose"),
        (
            "loose",
            "a",
            1,
            "!not_this_patients_sensor",
            "!not_this_patients_sensor",
        ),
        ("loose", "a", 60, "a", "a"),
        ("shelf", "", 1, "sensor:shelf", "sensor:shelf"),
        ("shelf", "c", 1, "c", "!not_this_patients_sensor"),
        ("new", "", 1, "!missing_field", "!unknown_sensor"),
        ("new", "c", 1, "c", "!unknown_sensor"),
    ] {
        let record = pulse(sensor, named, ago);
        assert_eq!(whose(&roster, Admission::Open, &record), open, "{record}");
        assert_eq!(whose(&roster, Admission::Registered, &record), registered, "{record}");
    }
}

#[test]
fn an_alarm_goes_to_who_wears_the_sensor_whomever_it_names_and_never_to_nobody() {
    let roster = roster();
    for (sensor, named, then) in [
        ("worn", "a", "b"),
        ("worn", "b", "b"),
        ("loose", "a", "!not_this_patients_sensor"),
        ("new", "c", "c"),
    ] {
        let alarm = format!(r#"{{"patient_id":"{named}","sensor_id":"{sensor}","type":"alarm","code":"asystole"}}"#);
        assert_eq!(whose(&roster, Admission::Open, &alarm), then, "{alarm}");
    }
    for sensor in ["loose", "shelf", "new"] {
        let alarm = format!(r#"{{"sensor_id":"{sensor}","type":"alarm","code":"asystole"}}"#);
        assert_eq!(whose(&roster, Admission::Open, &alarm), "!missing_field", "{alarm}");
    }
}

#[test]
fn what_a_sensor_says_of_itself_is_never_refused_for_whom_it_names() {
    let roster = roster();
    for (sensor, named, then) in [
        ("worn", "a", "b"),
        ("loose", "a", "sensor:loose"),
        ("shelf", "c", "c"),
        ("new", "c", "c"),
    ] {
        for said in [
            r#""state":"active""#,
            r#""type":"battery","value":80"#,
            r#""type":"alarm","code":"low_battery""#,
        ] {
            let record = format!(r#"{{"patient_id":"{named}","sensor_id":"{sensor}",{said}}}"#);
            assert_eq!(whose(&roster, Admission::Open, &record), then, "{record}");
        }
    }
    let unknown = r#"{"patient_id":"c","sensor_id":"new","state":"active"}"#;
    assert_eq!(whose(&roster, Admission::Registered, unknown), "!unknown_sensor");
}
