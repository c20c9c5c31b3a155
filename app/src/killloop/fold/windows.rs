//! Windows, each revision recomputed from the readings that the journal held before it.

use std::collections::BTreeMap;

use schemas::derived::{Derived, Outcome};
use schemas::facts::{WindowRevised, WindowSize};
use schemas::ids::SensorId;
use schemas::journal::{Fact, Recorded};
use schemas::metric::Metric;
use schemas::time::{Span, Timestamp};
use smol_str::SmolStr;

use super::Once;

/// Sizes, their lengths, and how long one is left alone after it was written.
const SIZES: [(WindowSize, Span, Span); 4] = [
    (WindowSize::Minute, Span::minutes(1), Span::seconds(5)),
    (WindowSize::FiveMinutes, Span::minutes(5), Span::seconds(10)),
    (WindowSize::Hour, Span::hours(1), Span::seconds(20)),
    (WindowSize::Day, Span::days(1), Span::seconds(30)),
];

/// Patient, sensor, metric, size, start.
pub(in super::super) type Name = (SmolStr, SensorId, Metric, WindowSize, Timestamp);

/// The readings of a window: where each stands in the journal, and its value.
type Readings = Vec<(i64, f64)>;

fn readings(journal: &[Recorded]) -> BTreeMap<Name, Readings> {
    let (mut windows, mut once): (BTreeMap<Name, Readings>, _) = (BTreeMap::new(), Once::default());
    for record in journal {
        let fact = &record.envelope;
        let Fact::Reading(reading) = &fact.fact else { continue };
        if !once.is_first(record) {
            continue;
        }
        for (size, length, _) in SIZES {
            let start = Timestamp(fact.measured_at.0.div_euclid(length.0) * length.0);
            let name = (
                fact.key.text(),
                reading.sensor_id.clone(),
                reading.metric,
                size,
                start,
            );
            windows.entry(name).or_default().push((record.offset, reading.value));
        }
    }
    windows
}

/// The name of a derived window.
pub(in super::super) fn name(derived: &Derived, window: &WindowRevised) -> Name {
    (
        derived.key.text(),
        window.sensor_id.clone(),
        window.metric,
        window.size,
        window.start,
    )
}

/// Compares every revision with the readings before it, and looks whether one is missing. How many revisions were
/// compared.
pub(in super::super) fn compare(journal: &[Recorded], derived: &[Derived], wrong: &mut Vec<String>) -> usize {
    let implied = readings(journal);
    let mut last: BTreeMap<Name, (i32, i64, Timestamp)> = BTreeMap::new();
    for record in derived {
        let Outcome::Window(window) = &record.outcome else { continue };
        let name = name(record, window);
        let revision = last.get(&name).map_or(1, |(revision, ..)| revision + 1);
        let before = implied.get(&name).map_or(&[][..], Vec::as_slice);
        let values: Vec<f64> = before
            .iter()
            .filter(|(offset, _)| *offset < record.origin.offset)
            .map(|(_, value)| *value)
            .collect();
        if window.revision != revision || !agrees(window, &values) {
            wrong.push(format!("window {name:?}, revision {revision} of {values:?}: {window:?}"));
        }
        last.insert(name, (revision, record.origin.offset, record.recorded_at));
    }
    let ticks = journal.iter().rev();
    let tick = ticks.into_iter().find_map(|record| match record.envelope.fact {
        Fact::ClockTicked(_) if record.envelope.measured_at <= record.appended_at => {
            Some((record.offset, record.envelope.measured_at))
        }
        _ => None,
    });
    let Some((tick, time)) = tick else { return derived.len() };
    for (name, readings) in &implied {
        let pause = SIZES.iter().find(|(size, ..)| *size == name.3).map_or(Span::ZERO, |s| s.2);
        let written = last.get(name);
        let from = written.map_or(-1, |(_, offset, _)| *offset);
        let unwritten = readings.iter().any(|(offset, _)| *offset > from && *offset < tick);
        if unwritten && written.is_none_or(|(.., at)| *at + pause <= time) {
            wrong.push(format!("window {name:?} was not written: {written:?}, last tick {time}"));
        }
    }
    derived.len()
}

fn agrees(window: &WindowRevised, values: &[f64]) -> bool {
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    let (min, max) = (
        values.iter().copied().fold(f64::INFINITY, f64::min),
        values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
    );
    let near = |a: f64, b: f64| (a - b).abs() <= 1e-9 * (1.0 + b.abs());
    window.count == values.len() as i64 && window.min == min && window.max == max && near(window.mean, mean)
}
