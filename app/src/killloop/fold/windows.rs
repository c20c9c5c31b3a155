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

/// Sizes and their lengths.
const SIZES: [(WindowSize, Span); 4] = [
    (WindowSize::Minute, Span::minutes(1)),
    (WindowSize::FiveMinutes, Span::minutes(5)),
    (WindowSize::Hour, Span::hours(1)),
    (WindowSize::Day, Span::days(1)),
];
/// A window waits at most so long under load, 120 s and 30 s until it is looked at.
const LONGEST: Span = Span::seconds(150);

/// Patient, sensor, metric, size, start.
pub(in super::super) type Name = (SmolStr, SensorId, Metric, WindowSize, Timestamp);

/// The readings of a window: where each stands in the journal, when the log took it, and its value.
type Readings = Vec<(i64, Timestamp, f64)>;

fn readings(journal: &[Recorded]) -> BTreeMap<Name, Readings> {
    let (mut windows, mut once): (BTreeMap<Name, Readings>, _) = (BTreeMap::new(), Once::default());
    for record in journal {
        let fact = &record.envelope;
        let Fact::Reading(reading) = &fact.fact else { continue };
        if !once.is_first(record) {
            continue;
        }
        for (size, length) in SIZES {
            let start = Timestamp(fact.measured_at.0.div_euclid(length.0) * length.0);
            let name = (fact.key.text(), reading.sensor_id.clone(), reading.metric, size, start);
            windows
                .entry(name)
                .or_default()
                .push((record.offset, record.appended_at, reading.value));
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
    let mut last: BTreeMap<Name, (i32, i64)> = BTreeMap::new();
    for record in derived {
        let Outcome::Window(window) = &record.outcome else {
            continue;
        };
        let name = name(record, window);
        let revision = last.get(&name).map_or(1, |(revision, _)| revision + 1);
        let before = implied.get(&name).map_or(&[][..], Vec::as_slice);
        let values: Vec<f64> = before
            .iter()
            .filter(|(offset, ..)| *offset < record.origin.offset)
            .map(|(.., value)| *value)
            .collect();
        if window.revision != revision || !agrees(window, &values) {
            wrong.push(format!(
                "window {name:?}, revision {revision} of {values:?}: {window:?}"
            ));
        }
        last.insert(name, (revision, record.origin.offset));
    }
    let Some(end) = journal.last() else {
        return derived.len();
    };
    for (name, readings) in &implied {
        let from = last.get(name).map_or(-1, |(_, offset)| *offset);
        let waits = |(offset, at, _): &&(i64, Timestamp, f64)| *offset > from && *at + LONGEST < end.appended_at;
        if let Some(waiting) = readings.iter().find(waits) {
            wrong.push(format!(
                "window {name:?} still waits with {waiting:?}, at {}",
                end.appended_at
            ));
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
