//! `readings`: every reading, by whom, what and day.

use bytes::Bytes;
use schemas::facts::{Mark, Reading, Samples};
use schemas::journal::{Fact, Recorded};
use smol_str::SmolStr;

use super::{day, days};
use crate::store::Change;
use crate::view::Type::{Blob, Bool, Double, Int, Text, Time};
use crate::view::{Cell, View, column};

/// Columns that follow from the id. The others say how a reading came, which may be told twice in one moment: by two ways,
/// or read again after a crash.
const SETTLED: usize = 5;

/// Keyed by content, so a reading that was sent twice is one row.
pub static READINGS: View = View {
    name: "readings",
    partition: &[column("patient_id", Text), column("metric", Text), column("day", Int)],
    clustering: &[column("at", Time), column("sensor_id", Text), column("id", Blob)],
    columns: &[
        column("value", Double),
        column("seq", Int),
        column("epoch", Int),
        column("rate", Double),
        column("samples", Blob),
        column("received_at", Time),
        column("position", Int),
        column("clock", Text),
        column("door", Text),
        column("quality", Int),
        column("contact", Bool),
        column("marks", Text),
        column("sent_value", Double),
        column("sent_unit", Text),
        column("gateway_at", Time),
        // The command by which somebody said whose it is.
        column("cause", Blob),
    ],
    apart: SETTLED,
    grows: true,
};

/// A reading gives its row, and says that there are rows on its day.
pub fn project(fact: &Recorded, out: &mut Vec<Change>) {
    let Fact::Reading(reading) = &fact.envelope.fact else {
        return;
    };
    let envelope = &fact.envelope;
    let (subject, day) = (envelope.key.text(), day(envelope.measured_at));
    let metric = reading.metric.as_str();
    out.push(Change {
        view: &READINGS,
        key: vec![
            Cell::Text(subject.clone()),
            metric.into(),
            Cell::Int(day),
            Cell::Time(envelope.measured_at),
            Cell::Text(reading.sensor_id.clone().into()),
            Cell::Blob(Bytes::copy_from_slice(&envelope.id.0)),
        ],
        version: envelope.received_at.0,
        cells: Some(cells(fact, reading)),
    });
    out.push(days::mark(days::READINGS, subject, day, metric));
}

/// What `readings` and `latest` say about a reading, in the order of [`READINGS`]' columns.
pub(super) fn cells(fact: &Recorded, reading: &Reading) -> Vec<Cell> {
    let envelope = &fact.envelope;
    vec![
        Cell::Double(reading.value),
        reading.seq.into(),
        reading.epoch.into(),
        reading.samples.as_ref().map(|s| s.rate).into(),
        reading.samples.as_ref().map(samples).into(),
        Cell::Time(envelope.received_at),
        Cell::Int(fact.offset),
        envelope.clock.as_str().into(),
        reading.door.as_str().into(),
        reading.quality.map(i64::from).into(),
        reading.contact.into(),
        marks(&reading.marks),
        reading.sent.as_ref().map(|s| s.value).into(),
        reading.sent.as_ref().map(|s| s.unit.clone()).into(),
        envelope.gateway_at.into(),
        envelope.cause.map(|cause| Bytes::copy_from_slice(&cause.0)).into(),
    ]
}

/// Names of marks, separated by commas; null where there is none.
fn marks(marks: &[Mark]) -> Cell {
    match marks {
        [] => Cell::Null,
        [one] => one.as_str().into(),
        many => {
            let names: Vec<_> = many.iter().map(|m| m.as_str()).collect();
            Cell::Text(SmolStr::from(names.join(",")))
        }
    }
}

/// Samples as 32-bit floats, little-endian.
fn samples(samples: &Samples) -> Bytes {
    samples.values.iter().flat_map(|v| v.to_le_bytes()).collect()
}
