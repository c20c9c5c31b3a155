use schemas::facts::{ConsultationClosed, ConsultationOpened, ConsultationRevised, SensorState};
use schemas::ids::ConsultationId;

use super::*;
use crate::testing::{Journal, MemoryShelf, START, conclusions, decode, fresh, key as key_of, run};

fn kind() -> crate::engine::erased::Kind {
    crate::engine::erased::Kind::of::<Consultations>(eventlog::Topic::Consultations)
}

fn id(text: &str) -> ConsultationId {
    ConsultationId::new(text).unwrap()
}

fn open(journal: &mut Journal, of: &str, consultation: &str) {
    let opened = ConsultationOpened {
        consultation_id: id(consultation),
        by: "dr.b".into(),
    };
    journal.server(key_of(of), Fact::ConsultationOpened(opened));
}

fn close(journal: &mut Journal, of: &str, consultation: &str, opened_at: Span) {
    let closed = ConsultationClosed {
        consultation_id: id(consultation),
        opened_at: START + opened_at,
        by: "dr.b".into(),
    };
    journal.server(key_of(of), Fact::ConsultationClosed(closed));
}

fn told(journal: &Journal) -> Vec<ConsultationRevised> {
    let outputs = conclusions(&kind(), &journal.records);
    outputs
        .iter()
        .map(|output| match decode(output).outcome {
            Outcome::Consultation(part) => part,
            other => panic!("{other:?}"),
        })
        .collect()
}

fn heart_rate(journal: &mut Journal, of: &str, second: i64, value: f64) {
    journal.reading(of, "s", Metric::HeartRate, Span::seconds(second), value);
}

#[test]
fn readings_from_the_opening_to_the_closing_are_folded_and_no_others() {
    let mut journal = Journal::start();
    heart_rate(&mut journal, "p", 0, 200.0);
    journal.ticks(1, 10);
    open(&mut journal, "p", "c");
    for second in 11..=40 {
        heart_rate(&mut journal, "p", second, 60.0 + second as f64);
        heart_rate(&mut journal, "q", second, 30.0);
        journal.tick(Span::seconds(second));
    }
    close(&mut journal, "p", "c", Span::seconds(10));
    heart_rate(&mut journal, "p", 41, 250.0);
    journal.ticks(41, 50);
    let told = told(&journal);
    let last = told.last().unwrap();
    let series = &last.series[0];
    assert_eq!(
        (series.count, series.min, series.max, series.last),
        (30, 71.0, 100.0, 100.0)
    );
    assert_eq!((series.rated, series.quality), (30, Some(97.0)));
    assert!(told.len() <= 17, "at ticks, not per reading: {}", told.len());
    assert!(told.iter().zip(1..).all(|(part, n)| part.revision == n));
}

#[test]
fn late_data_revises_a_closed_consultation_and_what_is_sent_twice_counts_once() {
    let mut journal = Journal::start();
    open(&mut journal, "p", "c");
    heart_rate(&mut journal, "p", 5, 70.0);
    journal.ticks(1, 400);
    close(&mut journal, "p", "c", Span::ZERO);
    journal.ticks(401, 500);
    heart_rate(&mut journal, "p", 200, 80.0);
    heart_rate(&mut journal, "p", 5, 70.0);
    journal.ticks(501, 510);
    let told = told(&journal);
    let counts: Vec<_> = told.iter().map(|part| part.series[0].count).collect();
    assert_eq!(counts, [1, 2]);
    heart_rate(&mut journal, "p", 300, 90.0);
    let days = 8 * 86_400;
    journal.tick(Span::seconds(days));
    heart_rate(&mut journal, "p", 301, 99.0);
    journal.tick(Span::seconds(days + 10));
    let last = self::told(&journal).pop().unwrap();
    assert_eq!(last.series[0].max, 90.0, "what is older than lateness is not folded");
}

#[test]
fn a_pause_is_a_gap_by_what_the_sensor_has_promised() {
    let mut journal = Journal::start();
    journal.status("p", "s", Span::ZERO, SensorState::Active, None);
    open(&mut journal, "p", "c");
    for second in [1, 60, 140, 300] {
        heart_rate(&mut journal, "p", second, 70.0);
        journal.reading("p", "cuff", Metric::Systolic, Span::seconds(second), 120.0);
        journal.reading("p", "s", Metric::Battery, Span::seconds(second), 50.0);
        journal.tick(Span::seconds(second + 1));
    }
    let last = told(&journal).pop().unwrap();
    let [heart, cuff] = last.series.as_slice() else {
        panic!("{last:?}")
    };
    assert_eq!(
        (heart.silent_after, heart.stretches.len()),
        (Some(Span::seconds(90)), 2)
    );
    assert_eq!((cuff.metric, cuff.stretches.len()), (Metric::Systolic, 1));
}

#[test]
fn a_consultation_over_the_hour_has_a_part_in_each() {
    let mut journal = Journal::start();
    journal.ticks(3_500, 3_500);
    open(&mut journal, "p", "c");
    open(&mut journal, "p", "c");
    for second in 3_501..3_700 {
        heart_rate(&mut journal, "p", second, 70.0);
        journal.tick(Span::seconds(second));
    }
    let mut newest = std::collections::BTreeMap::new();
    for part in told(&journal) {
        newest.insert(part.start, part.series[0].count);
    }
    // The last ones are within the pause.
    let counts: Vec<_> = newest.into_values().collect();
    assert!(counts[0] == 99 && counts[1] >= 97, "{counts:?}");
}

#[test]
fn restored_from_any_checkpoint_it_says_the_same() {
    let mut journal = Journal::start();
    open(&mut journal, "p", "c");
    for second in 1..120 {
        heart_rate(&mut journal, "p", second, 70.0);
        heart_rate(&mut journal, "p", second - second % 7, 71.0);
        journal.tick(Span::seconds(second));
        if second == 80 {
            close(&mut journal, "p", "c", Span::ZERO);
        }
    }
    let whole: Vec<_> = conclusions(&kind(), &journal.records)
        .into_iter()
        .map(|o| o.value)
        .collect();
    for cut in (1..journal.records.len()).step_by(17) {
        let shelf = MemoryShelf::default();
        let mut first = (kind().restore)(fresh(shelf.clone())).unwrap();
        let mut said = run(&mut *first, &shelf, &journal.records[..cut]).unwrap();
        let checkpoint = first.checkpoint();
        shelf.save(&checkpoint);
        // It had gone on a little before it was lost.
        let mut place = fresh(shelf.clone());
        (place.position, place.context) = (checkpoint.position, checkpoint.context.clone());
        let mut second = (kind().restore)(place).unwrap();
        said.extend(run(&mut *second, &shelf, &journal.records).unwrap());
        let said: Vec<_> = said.into_iter().map(|o| o.value).collect();
        assert_eq!(said, whole, "cut at {cut}");
    }
}
