use schemas::facts::{
    AlarmCode, AlertChange, AlertChanged, AlertState, Answer, Limits, MetricLimits, Reading, SensorState,
};
use schemas::ids::EventId;
use schemas::time::Span;
use smol_str::SmolStr;

use super::*;
use crate::testing::{Journal, START, conclusions, decode, key};

const HR: Metric = Metric::HeartRate;

fn rows(journal: &Journal) -> Vec<(Timestamp, AlertChanged)> {
    let row = |output| {
        let derived = decode(output);
        match derived.outcome {
            Outcome::Alert(row) => (derived.recorded_at, row),
            other => panic!("{other:?}"),
        }
    };
    conclusions(&crate::all()[1], &journal.records)
        .iter()
        .map(row)
        .collect()
}

/// Each change as `second change SEVERITY rule`, with `past` where it pages no one.
fn told(journal: &Journal) -> Vec<String> {
    let line = |(at, row): &(Timestamp, AlertChanged)| {
        let past = if row.retrospective { " past" } else { "" };
        format!(
            "{} {} {} {}{past}",
            (*at - START).0 / 1_000_000,
            row.change,
            row.severity,
            row.rule
        )
    };
    rows(journal).iter().map(line).collect()
}

/// Readings of one sensor, each recorded when it was measured.
fn live(metric: Metric, samples: &[(i64, f64)]) -> Journal {
    let mut journal = Journal::start();
    for (second, value) in samples {
        journal.tick(Span::seconds(*second));
        journal.reading("p", "s", metric, Span::seconds(*second), *value);
    }
    journal
}

#[test]
fn a_heart_rate_of_190_twice_ten_seconds_apart_is_one_critical_alert() {
    let journal = live(HR, &[(0, 190.0), (10, 190.0)]);
    assert_eq!(told(&journal), ["10 raised CRITICAL heart_rate_high"]);
    let row = rows(&journal).remove(0).1;
    assert_eq!(
        (row.value, row.limit, row.subject.as_str()),
        (Some(190.0), Some(131.0), "heart_rate")
    );
    assert_eq!((row.started_at, row.raised_at), (START, START + Span::seconds(10)));
    assert_eq!(row.message, "Heart rate 190/min, at or above 131/min");
}

#[test]
fn an_episode_rises_eases_and_ends() {
    type Row<'a> = (Metric, &'a [(i64, f64)], &'a [&'a str]);
    let rows: &[Row<'_>] = &[
        (
            HR,
            &[
                (0, 115.0),
                (10, 115.0),
                (20, 140.0),
                (30, 140.0),
                (40, 80.0),
                (69, 80.0),
                (70, 80.0),
            ],
            &[
                "10 raised WARNING heart_rate_high",
                "30 escalated CRITICAL heart_rate_high",
                "70 resolved CRITICAL heart_rate_high",
            ],
        ),
        (
            HR,
            &[
                (0, 140.0),
                (10, 140.0),
                (20, 120.0),
                (50, 120.0),
                (60, 80.0),
                (90, 80.0),
            ],
            &[
                "10 raised CRITICAL heart_rate_high",
                "50 eased WARNING heart_rate_high",
                "90 resolved WARNING heart_rate_high",
            ],
        ),
        // hovering at the limit neither ends it nor raises it again
        (
            HR,
            &[
                (0, 140.0),
                (10, 140.0),
                (20, 129.0),
                (50, 129.0),
                (60, 140.0),
                (70, 140.0),
            ],
            &["10 raised CRITICAL heart_rate_high"],
        ),
        // two rules of one metric: each has its episode
        (
            HR,
            &[(0, 35.0), (10, 35.0), (20, 140.0), (30, 140.0), (60, 140.0)],
            &[
                "10 raised CRITICAL heart_rate_low",
                "30 raised CRITICAL heart_rate_high",
                "60 resolved CRITICAL heart_rate_low",
            ],
        ),
        (
            Metric::BloodGlucose,
            &[(0, 300.0), (60, 450.0), (120, 460.0), (180, 120.0)],
            &[
                "0 raised WARNING blood_glucose_high",
                "120 escalated CRITICAL blood_glucose_high",
                "180 resolved CRITICAL blood_glucose_high",
            ],
        ),
        (
            Metric::BloodGlucose,
            &[(0, 50.0)],
            &["0 raised CRITICAL blood_glucose_low"],
        ),
        (
            Metric::Systolic,
            &[(0, 85.0), (900, 86.0)],
            &["0 raised WARNING systolic_low", "900 escalated CRITICAL systolic_low"],
        ),
    ];
    for (metric, samples, expected) in rows {
        assert_eq!(told(&live(*metric, samples)), *expected, "{metric} {samples:?}");
    }
}

#[test]
fn readings_that_say_nothing_count_neither_way() {
    let bad: [fn(&mut Reading); 2] = [|r| r.quality = Some(49), |r| r.contact = Some(false)];
    for change in bad {
        let mut journal = Journal::start();
        for second in 0..60 {
            journal
                .with("p", "s", HR, Span::seconds(second), 190.0, change)
                .tick(Span::seconds(second));
        }
        assert!(told(&journal).is_empty());
        // and they do not break a run either
        journal.reading("p", "s", HR, Span::seconds(60), 190.0);
        journal.with("p", "s", HR, Span::seconds(65), 70.0, change);
        journal.reading("p", "s", HR, Span::seconds(70), 190.0);
        assert_eq!(told(&journal), ["59 raised CRITICAL heart_rate_high"]);
    }
}

#[test]
fn a_zero_is_a_loose_sensor_unless_it_knows_that_it_has_contact() {
    let zeros = |contact| {
        let mut journal = Journal::start();
        for second in 0..30 {
            journal.with("p", "s", HR, Span::seconds(second), 0.0, |r| r.contact = contact);
            journal.tick(Span::seconds(second));
        }
        told(&journal)
    };
    assert!(zeros(None).is_empty());
    assert!(zeros(Some(false)).is_empty());
    assert_eq!(
        zeros(Some(true)),
        ["4 raised CRITICAL heart_rate_low"],
        "five seconds of no heart beat"
    );
}

#[test]
fn limits_of_a_patient_replace_the_defaults_from_the_moment_they_are_set() {
    let mut journal = live(HR, &[(0, 135.0)]);
    let limits = Limits {
        critical_high: Some(150.0),
        ..Limits::default()
    };
    let set = ThresholdsSet {
        thresholds: vec![MetricLimits { metric: HR, limits }],
        by: SmolStr::new("dr"),
    };
    journal
        .tick(Span::seconds(5))
        .server(key("p"), Fact::ThresholdsSet(set));
    journal
        .reading("p", "s", HR, Span::seconds(10), 135.0)
        .tick(Span::seconds(10));
    journal
        .reading("p", "s", HR, Span::seconds(30), 135.0)
        .tick(Span::seconds(30));
    assert!(told(&journal).is_empty(), "135 is fine now");
    journal
        .reading("p", "s", HR, Span::seconds(31), 160.0)
        .reading("p", "s", HR, Span::seconds(41), 160.0);
    assert_eq!(told(&journal), ["30 raised CRITICAL heart_rate_high"]);
    // what another sensor measured before is judged by what was in force then
    journal
        .reading("p", "t", HR, Span::seconds(-60), 20.0)
        .reading("p", "t", HR, Span::seconds(-50), 35.0);
    assert_eq!(told(&journal)[1], "30 raised CRITICAL heart_rate_low");
    let none = ThresholdsSet {
        thresholds: Vec::new(),
        by: SmolStr::new("dr"),
    };
    journal
        .tick(Span::seconds(100))
        .server(key("q"), Fact::ThresholdsSet(none));
    assert_eq!(told(&journal).len(), 2);
}

#[test]
fn a_late_backlog_raises_retrospective_episodes_only_and_never_disturbs_the_present() {
    let mut journal = live(HR, &[(0, 140.0), (10, 140.0)]);
    for (second, value) in [(-3600, 190.0), (-3590, 190.0), (-3500, 80.0), (-3400, 80.0)] {
        journal.reading("p", "s", HR, Span::seconds(second), value);
    }
    journal.reading("p", "s", HR, Span::seconds(11), 141.0);
    assert_eq!(
        told(&journal),
        [
            "10 raised CRITICAL heart_rate_high",
            "10 raised CRITICAL heart_rate_high past",
            "10 resolved CRITICAL heart_rate_high past",
        ]
    );
}

#[test]
fn what_was_found_in_old_data_becomes_current_when_a_fresh_sample_still_holds() {
    let mut journal = Journal::start();
    journal.tick(Span::hours(2));
    journal.reading("p", "s", HR, Span::hours(1), 140.0);
    journal.reading("p", "s", HR, Span::seconds(3_610), 140.0);
    journal.reading("p", "s", HR, Span::seconds(7_199), 140.0);
    assert_eq!(
        told(&journal),
        [
            "7200 raised CRITICAL heart_rate_high past",
            "7200 became_current CRITICAL heart_rate_high"
        ]
    );
    let rows = rows(&journal);
    assert_eq!(rows[0].1.alert_id, rows[1].1.alert_id);
}

#[test]
fn a_clock_that_ran_ahead_and_is_set_right_mutes_nothing() {
    let mut journal = Journal::start();
    journal
        .reading("p", "s", HR, Span::seconds(240), 80.0)
        .tick(Span::seconds(5));
    journal
        .reading("p", "s", HR, Span::seconds(6), 140.0)
        .tick(Span::seconds(16));
    journal.reading("p", "s", HR, Span::seconds(16), 140.0);
    assert_eq!(told(&journal), ["16 raised CRITICAL heart_rate_high"]);
}

#[test]
fn another_sensor_ends_an_episode_only_when_its_own_has_nothing_newer_to_say() {
    let mut journal = live(HR, &[(0, 140.0), (10, 140.0)]);
    for second in [5, 12, 20, 35] {
        journal.reading("p", "other", HR, Span::seconds(second), 80.0);
    }
    assert_eq!(
        told(&journal).len(),
        1,
        "the other one was fine all along: whom to believe?"
    );
    journal.reading("p", "other", HR, Span::seconds(36), 115.0);
    journal
        .reading("p", "other", HR, Span::seconds(40), 80.0)
        .reading("p", "other", HR, Span::seconds(70), 80.0);
    assert_eq!(
        told(&journal)[1..],
        [
            "10 eased WARNING heart_rate_high",
            "10 resolved WARNING heart_rate_high"
        ],
        "for thirty seconds it alone had something to say"
    );
}

#[test]
fn alarms_of_devices_are_alerts_at_once() {
    for (code, expected) in [
        (AlarmCode::Asystole, "CRITICAL asystole"),
        (AlarmCode::Apnoea, "CRITICAL apnoea"),
        (AlarmCode::Fall, "CRITICAL fall"),
        (AlarmCode::PanicButton, "CRITICAL panic_button"),
        (AlarmCode::SensorOff, "WARNING sensor_off"),
        (AlarmCode::LowBattery, "WARNING low_battery"),
    ] {
        let mut journal = Journal::start();
        journal
            .alarm("p", "s", Span::seconds(1), code)
            .alarm("p", "s", Span::seconds(9), code);
        assert_eq!(
            told(&journal),
            [format!("0 raised {expected}")],
            "again changes nothing"
        );
        let row = rows(&journal).remove(0).1;
        assert_eq!(
            row.class.as_str(),
            if code.is_clinical() { "clinical" } else { "technical" }
        );
        assert_eq!(row.subject, "sensor:s");
    }
}

#[test]
fn a_clinical_alarm_of_a_sensor_that_nobody_wears_is_heard_and_ends_by_an_answer() {
    let mut journal = Journal::start();
    journal
        .alarm("sensor:s", "s", Span::seconds(1), AlarmCode::SensorOff)
        .alarm("sensor:s", "s", Span::seconds(2), AlarmCode::Asystole)
        .alarm("sensor:s", "s", Span::seconds(3), AlarmCode::Asystole)
        .reading("sensor:s", "s", HR, Span::seconds(4), 190.0)
        .reading("sensor:s", "s", HR, Span::seconds(20), 190.0);
    assert_eq!(told(&journal), ["0 raised CRITICAL asystole"]);
    let row = rows(&journal).remove(0).1;
    assert_eq!(
        (row.subject.as_str(), row.message.as_str()),
        (
            "sensor:s",
            "Asystole: no heart beat (sensor s, which nobody is said to wear)"
        )
    );
    let answer = AlertAnswered {
        alert_id: row.alert_id,
        subject: row.subject,
        answer: Answer::Resolve,
        by: SmolStr::new("admin"),
        text: None,
        until: None,
    };
    journal.server(key("sensor:s"), Fact::AlertAnswered(answer));
    assert_eq!(told(&journal).pop().unwrap(), "0 resolved CRITICAL asystole");
    journal.ticks(1, 400);
    assert_eq!(told(&journal).len(), 2, "nothing is expected of it");
}

#[test]
fn an_alarm_from_long_ago_pages_no_one_until_it_happens_now() {
    let mut journal = Journal::start();
    journal
        .alarm("p", "s", Span::hours(-2), AlarmCode::Fall)
        .alarm("p", "s", Span::seconds(0), AlarmCode::Fall);
    assert_eq!(
        told(&journal),
        ["0 raised CRITICAL fall past", "0 became_current CRITICAL fall"]
    );
}

#[test]
fn a_sensor_that_came_off_is_well_when_it_has_contact_again() {
    let mut journal = Journal::start();
    journal.alarm("p", "s", Span::seconds(1), AlarmCode::SensorOff);
    journal.reading("p", "s", HR, Span::seconds(0), 70.0);
    journal.with("p", "s", HR, Span::seconds(2), 70.0, |r| r.contact = Some(false));
    assert_eq!(told(&journal).len(), 1);
    journal.reading("p", "s", Metric::Battery, Span::seconds(3), 70.0);
    assert_eq!(told(&journal).len(), 1, "a sensor knows its charge wherever it lies");
    journal.reading("p", "s", HR, Span::seconds(3), 70.0);
    assert_eq!(
        told(&journal),
        ["0 raised WARNING sensor_off", "0 resolved WARNING sensor_off"]
    );
}

#[test]
fn a_silent_sensor_is_a_technical_warning_until_it_is_heard() {
    let mut journal = Journal::start();
    journal.status("p", "s", Span::ZERO, SensorState::Active, Some(50.0));
    journal.reading("p", "quiet", HR, Span::ZERO, 70.0).ticks(1, 200);
    journal.status("p", "s", Span::seconds(200), SensorState::Active, Some(50.0));
    assert_eq!(
        told(&journal),
        [
            "90 raised WARNING sensor_offline",
            "200 resolved WARNING sensor_offline"
        ]
    );
}

#[test]
fn faults_and_batteries_are_never_clinical() {
    let mut journal = Journal::start();
    journal.status("p", "s", Span::seconds(1), SensorState::Fault, Some(9.0));
    journal.status("p", "s", Span::seconds(2), SensorState::Active, Some(4.0));
    journal.reading("p", "s", Metric::Battery, Span::seconds(3), 12.0);
    journal.reading("p", "s", Metric::Battery, Span::seconds(4), 80.0);
    assert_eq!(
        told(&journal),
        [
            "0 raised WARNING sensor_fault",
            "0 raised WARNING low_battery",
            "0 resolved WARNING sensor_fault",
            "0 resolved WARNING low_battery",
        ]
    );
    assert!(rows(&journal).iter().all(|(_, row)| row.class.as_str() == "technical"));
}

fn answered(journal: &mut Journal, alert_id: EventId, answer: Answer, until: Option<i64>) {
    let answer = AlertAnswered {
        alert_id,
        subject: SmolStr::new("heart_rate"),
        answer,
        by: SmolStr::new("dr-b"),
        text: Some(SmolStr::new(format!("{answer} {}", journal.records.len()))),
        until: until.map(|second| START + Span::seconds(second)),
    };
    journal.server(key("p"), Fact::AlertAnswered(answer));
}

#[test]
fn people_answer_and_silence_ends_by_itself() {
    let mut journal = live(HR, &[(0, 115.0), (10, 115.0)]);
    let alert = rows(&journal)[0].1.alert_id;
    answered(&mut journal, EventId([1; 16]), Answer::Acknowledge, None);
    answered(&mut journal, alert, Answer::Snooze, Some(5));
    assert_eq!(told(&journal).len(), 1, "unknown alert, silence in the past");
    answered(&mut journal, alert, Answer::Acknowledge, None);
    answered(&mut journal, alert, Answer::Acknowledge, None);
    answered(&mut journal, alert, Answer::Comment, None);
    answered(&mut journal, alert, Answer::Snooze, Some(60));
    journal.ticks(11, 61);
    answered(&mut journal, alert, Answer::Resolve, None);
    answered(&mut journal, alert, Answer::Comment, None);
    let rows = rows(&journal);
    use AlertChange::{Acknowledged, Commented, Raised, Resolved, Snoozed, Woke};
    let changes: Vec<_> = rows.iter().map(|(_, row)| (row.change, row.state)).collect();
    assert_eq!(
        changes,
        [
            (Raised, AlertState::Open),
            (Acknowledged, AlertState::Acknowledged),
            (Commented, AlertState::Acknowledged),
            (Snoozed, AlertState::Snoozed),
            (Woke, AlertState::Acknowledged),
            (Resolved, AlertState::Resolved),
        ]
    );
    assert_eq!(rows[1].1.acknowledged_by.as_deref(), Some("dr-b"));
    assert_eq!((rows[4].0, rows[4].1.by.clone()), (START + Span::seconds(60), None));
    assert_eq!(rows[5].1.resolved_at, Some(START + Span::seconds(61)));
}

#[test]
fn a_resolved_alert_is_raised_anew_only_when_the_condition_holds_anew_and_escalation_asks_again() {
    let mut journal = live(HR, &[(0, 115.0), (10, 115.0)]);
    let alert = rows(&journal)[0].1.alert_id;
    answered(&mut journal, alert, Answer::Resolve, None);
    journal.reading("p", "s", HR, Span::seconds(11), 115.0);
    assert_eq!(told(&journal).len(), 2);
    journal.reading("p", "s", HR, Span::seconds(21), 115.0);
    let again = rows(&journal)[2].1.clone();
    assert!(again.alert_id != alert && again.started_at == START + Span::seconds(11));
    answered(&mut journal, again.alert_id, Answer::Acknowledge, None);
    journal
        .reading("p", "s", HR, Span::seconds(22), 140.0)
        .reading("p", "s", HR, Span::seconds(32), 140.0);
    let last = rows(&journal).pop().unwrap().1;
    assert_eq!((last.change, last.state), (AlertChange::Escalated, AlertState::Open));
}

#[test]
fn a_silence_ends_with_nobody_having_taken_what_got_worse_since() {
    let mut journal = live(HR, &[(0, 115.0), (10, 115.0)]);
    let alert = rows(&journal)[0].1.alert_id;
    answered(&mut journal, alert, Answer::Acknowledge, None);
    journal
        .reading("p", "s", HR, Span::seconds(11), 140.0)
        .reading("p", "s", HR, Span::seconds(21), 140.0);
    answered(&mut journal, alert, Answer::Snooze, Some(60));
    journal.ticks(11, 61);
    let last = rows(&journal).pop().unwrap().1;
    assert_eq!((last.change, last.state), (AlertChange::Woke, AlertState::Open));
    assert_eq!((last.acknowledged_at, last.acknowledged_by), (None, None));
}

#[test]
fn what_was_taken_as_past_is_asked_again_when_it_holds_now() {
    let mut journal = Journal::start();
    journal.tick(Span::hours(2));
    journal.reading("p", "s", HR, Span::hours(1), 140.0);
    journal.reading("p", "s", HR, Span::seconds(3_610), 140.0);
    let alert = rows(&journal)[0].1.alert_id;
    answered(&mut journal, alert, Answer::Acknowledge, None);
    journal.reading("p", "s", HR, Span::seconds(7_199), 140.0);
    let last = rows(&journal).pop().unwrap().1;
    assert_eq!(
        (last.change, last.state),
        (AlertChange::BecameCurrent, AlertState::Open)
    );
}

#[test]
fn repeats_raise_nothing_twice() {
    let mut journal = live(HR, &[(0, 140.0)]);
    let same = journal.records.last().unwrap().envelope.clone();
    journal
        .reading("p", "s", HR, Span::seconds(1), 70.0)
        .tick(Span::seconds(60));
    for _ in 0..30 {
        journal.again(same.clone());
    }
    journal.alarm("p", "s", Span::seconds(2), AlarmCode::SensorOff);
    let alarm = journal.records.last().unwrap().envelope.clone();
    journal.reading("p", "s", HR, Span::seconds(3), 70.0).again(alarm);
    assert_eq!(
        told(&journal),
        ["60 raised WARNING sensor_off", "60 resolved WARNING sensor_off"]
    );
}

#[test]
fn what_was_said_later_to_be_the_patients_does_not_end_a_silence() {
    let mut journal = Journal::start();
    journal
        .status("p", "s", Span::ZERO, SensorState::Active, Some(50.0))
        .ticks(1, 95);
    for metric in [HR, Metric::Battery] {
        journal.reading("p", "s", metric, Span::seconds(5), 7.0).reattributed();
    }
    journal.ticks(96, 300);
    assert_eq!(told(&journal), ["90 raised WARNING sensor_offline"]);
    journal.reading("p", "s", HR, Span::seconds(300), 70.0);
    assert_eq!(told(&journal)[1..], ["300 resolved WARNING sensor_offline"]);
}

#[test]
fn what_is_technical_ends_when_the_sensor_is_taken_off_and_what_is_clinical_does_not() {
    let mut journal = Journal::start();
    journal.status("p", "s", Span::ZERO, SensorState::Fault, Some(4.0));
    journal
        .alarm("p", "s", Span::ZERO, AlarmCode::SensorOff)
        .alarm("p", "s", Span::ZERO, AlarmCode::Fall)
        .ticks(1, 95)
        .detached("p", "s", Span::seconds(60));
    let mut raised = vec![
        "0 raised WARNING sensor_fault",
        "0 raised WARNING low_battery",
        "0 raised WARNING sensor_off",
        "0 raised CRITICAL fall",
        "90 raised WARNING sensor_offline",
    ];
    let ended = [
        "95 resolved WARNING sensor_offline",
        "95 resolved WARNING sensor_off",
        "95 resolved WARNING low_battery",
        "95 resolved WARNING sensor_fault",
    ];
    raised.extend(ended);
    assert_eq!(told(&journal), raised);
    // What it had still to say from then begins nothing that nobody would end; a person is told of a fall.
    journal.status("p", "s", Span::seconds(50), SensorState::Fault, Some(3.0));
    journal
        .alarm("p", "s", Span::seconds(51), AlarmCode::SensorOff)
        .reading("p", "s", Metric::Battery, Span::seconds(52), 2.0)
        .alarm("p", "s", Span::seconds(53), AlarmCode::PanicButton)
        .ticks(96, 300);
    assert_eq!(told(&journal)[raised.len()..], ["95 raised CRITICAL panic_button"]);
    // It is put on again, as flat as before.
    journal.attached("p", "s", Span::seconds(300), None);
    journal.reading("p", "s", Metric::Battery, Span::seconds(301), 2.0);
    assert_eq!(told(&journal)[raised.len() + 1..], ["300 raised WARNING low_battery"]);
}

#[test]
fn a_sensor_that_promised_nothing_is_loose_no_more_when_it_is_taken_off() {
    let mut journal = Journal::start();
    journal
        .alarm("p", "s", Span::ZERO, AlarmCode::SensorOff)
        .tick(Span::seconds(5))
        .detached("p", "s", Span::seconds(5));
    assert_eq!(
        told(&journal),
        ["0 raised WARNING sensor_off", "5 resolved WARNING sensor_off"]
    );
}
