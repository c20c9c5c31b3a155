use schemas::metric::Metric;
use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use schemas::facts::{ConsultationRevised, SensorState};

use super::*;
use crate::testing::{Journal, MemoryShelf, conclusions, decode, fresh, run};

fn kind() -> crate::engine::erased::Kind {
    crate::engine::erased::Kind::of::<Consultations>(eventlog::Topic::Consultations)
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
    journal.open("p", "c");
    for second in 11..=40 {
        heart_rate(&mut journal, "p", second, 60.0 + second as f64);
        heart_rate(&mut journal, "q", second, 30.0);
        journal.tick(Span::seconds(second));
    }
    journal.close("p", "c", Span::seconds(10));
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
    journal.open("p", "c");
    heart_rate(&mut journal, "p", 5, 70.0);
    journal.ticks(1, 400);
    journal.close("p", "c", Span::ZERO);
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
    journal.open("p", "c");
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
    journal.open("p", "c");
    journal.open("p", "c");
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
    journal.open("p", "c");
    for second in 1..120 {
        heart_rate(&mut journal, "p", second, 70.0);
        heart_rate(&mut journal, "p", second - second % 7, 71.0);
        journal.tick(Span::seconds(second));
        if second == 80 {
            journal.close("p", "c", Span::ZERO);
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

/// Something that happens to one of two patients at the next second.
#[derive(Debug, Clone)]
enum Event {
    /// Measured so many seconds ago.
    Reading(i64, i64),
    Open(u8),
    Close(u8),
    Wait(i64),
}

fn event() -> impl Strategy<Value = (bool, Event)> {
    let event = prop_oneof![
        8 => (0..4_000_i64, 40..180_i64).prop_map(|(ago, value)| Event::Reading(ago * ago / 4_000, value)),
        2 => (0..4_u8).prop_map(Event::Open),
        1 => (0..4_u8).prop_map(Event::Close),
        2 => (1..2_500_i64).prop_map(Event::Wait),
    ];
    (any::<bool>(), event)
}

/// What a consultation should come to: when it was held, and the readings by moment and value.
#[derive(Debug, Default)]
struct Plain {
    opened: i64,
    closed: Option<i64>,
    readings: BTreeSet<(i64, i64)>,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn a_plain_fold_of_the_same_journal_comes_to_the_same(events in proptest::collection::vec(event(), 1..120)) {
        let mut journal = Journal::start();
        let (mut now, mut plain) = (1_000, BTreeMap::<String, Plain>::new());
        journal.tick(Span::seconds(now));
        for (other, event) in events {
            let patient = if other { "q" } else { "p" };
            let name = |n: u8| format!("{patient}{n}");
            match event {
                Event::Reading(ago, value) => {
                    let at = now - ago;
                    heart_rate(&mut journal, patient, at, value as f64);
                    let held = plain.iter_mut().filter(|(name, it)| {
                        name.starts_with(patient) && it.opened <= at && it.closed.is_none_or(|closed| at < closed)
                            && at < it.opened + 12 * 3_600
                    });
                    held.for_each(|(_, it)| { it.readings.insert((at, value)); });
                }
                Event::Open(n) => {
                    journal.open(patient, &name(n));
                    // As the API has it: nothing is opened twice.
                    prop_assume!(plain.insert(name(n), Plain { opened: now, ..Plain::default() }).is_none());
                }
                Event::Close(n) => {
                    if let Some(it) = plain.get_mut(&name(n)) {
                        journal.close(patient, &name(n), Span::seconds(it.opened));
                        it.closed = it.closed.or(Some(now));
                    }
                }
                Event::Wait(seconds) => {
                    now += seconds;
                    journal.tick(Span::seconds(now));
                }
            }
        }
        journal.tick(Span::seconds(now + 10));
        let mut newest = BTreeMap::new();
        for part in told(&journal) {
            newest.insert((part.consultation_id.to_string(), part.start), part.series[0].clone());
        }
        let mut sums = BTreeMap::<String, (i64, f64, f64)>::new();
        for ((name, _), series) in newest {
            let sum = sums.entry(name).or_insert((0, 0.0, f64::MAX));
            *sum = (sum.0 + series.count, sum.1 + series.mean * series.count as f64, sum.2.min(series.min));
        }
        plain.retain(|_, it| !it.readings.is_empty());
        prop_assert_eq!(sums.len(), plain.len());
        for (name, it) in plain {
            let (count, sum, min) = sums[&name];
            prop_assert_eq!(count, it.readings.len() as i64, "{}", name);
            let values = || it.readings.iter().map(|(_, value)| *value as f64);
            prop_assert!((sum - values().sum::<f64>()).abs() < 1e-3, "{}", name);
            prop_assert_eq!(min, values().fold(f64::MAX, f64::min));
        }
    }
}
