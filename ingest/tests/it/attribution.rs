//! Whose a record is: what has been said of its sensor, whom it names, and what it is about.

use bytes::Bytes;
use ingest::accept::Verdict;
use ingest::{Context, Roster, accept};
use schemas::codec::Catalogue;
use schemas::facts::{CommandIssued, CommandName, Door, Mark, SensorAttached, SensorDetached};
use schemas::ids::{Key, PatientId, SensorId};
use schemas::journal::{Envelope, Fact};
use schemas::metric::Metric;
use schemas::policy::{Admission, Policy};
use schemas::refused::Code;
use schemas::time::{Span, Timestamp};

use crate::log::NOW;

/// `worn` was `a`'s until half an hour ago, `b`'s since; `loose` was `a`'s until half an hour ago; `taken` too, but it
/// is not registered; `shelf` is registered and was never anybody's; of `new` nothing is known.
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
    for sensor in ["loose", "taken"] {
        attach(sensor, "a", NOW - Span::hours(5), 1);
        let gone = SensorDetached {
            sensor_id: id(sensor),
            from: half_an_hour_ago,
            until: None,
            order: 2,
        };
        roster.told(&Key::Patient(PatientId::new("a").unwrap()), &Fact::SensorDetached(gone));
    }
    for sensor in ["worn", "loose", "shelf"] {
        roster.registered(&id(sensor), 1, false);
    }
    roster
}

/// Whose it is, or why it is refused.
fn whose(roster: &Roster, admission: Admission, record: &str) -> String {
    match judged(roster, admission, record) {
        Ok(facts) => facts[0].key.text().to_string(),
        Err(code) => format!("!{code}"),
    }
}

/// The facts that a record is, or the code of its refusal.
fn judged(roster: &Roster, admission: Admission, record: &str) -> Result<Vec<Envelope>, Code> {
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
    match verdicts[0].refused() {
        Some(refused) => Err(refused.code),
        None => Ok(verdicts.iter().filter_map(Verdict::fact).cloned().collect()),
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
        ("taken", "", 1, "sensor:taken", "!unknown_sensor"),
        ("taken", "a", 1, "!not_this_patients_sensor", "!unknown_sensor"),
        ("taken", "", 60, "a", "!unknown_sensor"),
        ("taken", "", 600, "!missing_field", "!unknown_sensor"),
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
fn an_alarm_goes_to_who_wears_the_sensor_whomever_it_names_and_is_never_refused_for_it() {
    let roster = roster();
    for (sensor, named, open, registered) in [
        ("worn", "a", "b", "b"),
        ("worn", "b", "b", "b"),
        ("loose", "a", "sensor:loose", "sensor:loose"),
        ("taken", "a", "sensor:taken", "sensor:taken"),
        ("shelf", "c", "c", "sensor:shelf"),
        ("new", "c", "c", "sensor:new"),
    ] {
        let alarm = format!(r#"{{"patient_id":"{named}","sensor_id":"{sensor}","type":"alarm","code":"asystole"}}"#);
        assert_eq!(whose(&roster, Admission::Open, &alarm), open, "{alarm}");
        assert_eq!(whose(&roster, Admission::Registered, &alarm), registered, "{alarm}");
    }
    for sensor in ["loose", "taken", "shelf", "new"] {
        let alarm = format!(r#"{{"sensor_id":"{sensor}","type":"alarm","code":"asystole"}}"#);
        for admission in [Admission::Open, Admission::Registered] {
            assert_eq!(whose(&roster, admission, &alarm), format!("sensor:{sensor}"), "{alarm}");
        }
    }
}

#[test]
fn what_a_sensor_says_of_itself_is_never_refused_for_whom_it_names() {
    let roster = roster();
    for (sensor, named, then) in [
        ("worn", "a", "b"),
        ("loose", "a", "sensor:loose"),
        ("taken", "a", "sensor:taken"),
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

/// Of `cuff` these metrics were calibrated an hour ago.
fn calibrated(offsets: &[(Metric, f64)]) -> Roster {
    let (roster, sensor) = (Roster::default(), SensorId::new("cuff").unwrap());
    for (n, (metric, offset)) in offsets.iter().enumerate() {
        let issued = CommandIssued {
            command_id: format!("c{n}").into(),
            name: CommandName::Calibrate,
            metric: Some(*metric),
            offset: Some(*offset),
            every: None,
            expires_at: NOW,
            by: "x".into(),
        };
        roster.calibrating(&sensor, &issued, NOW - Span::hours(2));
        roster.answered(&sensor, &issued.command_id, true, NOW - Span::hours(1));
    }
    roster
}

#[test]
fn a_calibration_makes_no_reading_disappear() {
    use Metric::{Diastolic, HeartRate, MeanPressure, RespiratoryRate, Spo2, Systolic};
    let offsets = [
        (HeartRate, 25.0),
        (RespiratoryRate, -2.0),
        (Spo2, 2.0),
        (Systolic, -60.0),
        (Diastolic, 10.0),
    ];
    let roster = calibrated(&offsets);
    let said = |what: &str| {
        let record = format!(r#"{{"patient_id":"a","sensor_id":"cuff",{what}}}"#);
        let facts = judged(&roster, Admission::Open, &record).map_err(|code| code.as_str())?;
        let reading = |envelope: &Envelope| match &envelope.fact {
            Fact::Reading(it) => (
                it.metric,
                it.value,
                it.sent.as_ref().map(|sent| sent.value),
                it.marks.clone(),
            ),
            other => panic!("{other:?}"),
        };
        Ok::<_, &str>(facts.iter().map(reading).collect::<Vec<_>>())
    };
    let one = |what: &str| said(what).map(|readings| (readings[0].1, readings[0].2));
    let marks = |what: &str| said(what).map(|readings| readings[0].3.contains(&Mark::ZeroWithContact));

    // What the sensor itself calls nothing is nothing, where it knows that it has contact; else it is loose.
    let asystole = r#""type":"heart_rate","value":0,"contact":true"#;
    assert_eq!((one(asystole), marks(asystole)), (Ok((0.0, None)), Ok(true)));
    assert_eq!(one(r#""type":"heart_rate","value":0"#), Err("implausible"));
    let apnoea = r#""type":"respiratory_rate","value":0,"contact":true"#;
    assert_eq!((one(apnoea), marks(apnoea)), (Ok((0.0, None)), Ok(true)));
    // And something is never nothing, nor beyond what can be.
    let slow = r#""type":"respiratory_rate","value":3,"contact":true"#;
    assert_eq!((one(slow), marks(slow)), (Ok((3.0, Some(3.0))), Ok(false)));
    assert_eq!(one(r#""type":"spo2","value":99"#), Ok((100.0, Some(99.0))));
    assert_eq!(one(r#""type":"spo2","value":96"#), Ok((98.0, Some(96.0))));
    assert_eq!(one(r#""type":"heart_rate","value":290"#), Ok((300.0, Some(290.0))));
    // What it cannot have measured is no reading, whatever is added.
    assert_eq!(one(r#""type":"heart_rate","value":5"#), Err("implausible"));
    assert_eq!(one(r#""type":"spo2","value":49"#), Err("implausible"));
    // A blood pressure is in order as it was said.
    let pressure = said(r#""type":"blood_pressure","systolic":130,"diastolic":80,"mean":95"#).unwrap();
    let values: Vec<_> = pressure.iter().map(|(metric, value, ..)| (*metric, *value)).collect();
    assert_eq!(values, [(Systolic, 70.0), (Diastolic, 90.0), (MeanPressure, 95.0)]);
    assert_eq!(
        said(r#""type":"blood_pressure","systolic":80,"diastolic":80"#).unwrap_err(),
        "inconsistent"
    );
}
