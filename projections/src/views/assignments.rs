//! Who wears which sensor: `assignments`, what was said; `attachments` and `patient_sensors`, what patients' journals were
//! told; `reattributed`, the readings of which somebody has said whose they are.

use bytes::Bytes;
use schemas::facts::Reading;
use schemas::ids::{Key, SensorId};
use schemas::journal::{Fact, Recorded};
use schemas::time::{Span, Timestamp};
use smol_str::SmolStr;

use super::{owned, shard};
use crate::store::Change;
use crate::view::Type::{Blob, Bool, Int, Text, Time};
use crate::view::{APART, Cell, Column, View, column};

/// What was said about each sensor, in the order in which it was said.
pub static ASSIGNMENTS: View = View {
    name: "assignments",
    partition: &[column("sensor_id", Text)],
    clustering: &[column("position", Int)],
    columns: &[
        column("from_at", Time),
        column("said_by", Text),
        column("said_at", Time),
        column("patient_id", Text),
    ],
    apart: APART,
    grows: false,
};

const TOLD: &[Column] = &[
    column("from_at", Time),
    column("attached", Bool),
    column("told_at", Time),
    column("until_at", Time),
    column("expected_every", Int),
];

/// What patients' journals were told, by sensor: whose a sensor is at a moment is what the greatest place says.
pub static ATTACHMENTS: View = View {
    name: "attachments",
    partition: &[column("shard", Int)],
    clustering: &[
        column("sensor_id", Text),
        column("place", Int),
        column("patient_id", Text),
    ],
    columns: TOLD,
    apart: APART,
    grows: false,
};

/// The same by patient.
pub static PATIENT_SENSORS: View = View {
    name: "patient_sensors",
    partition: &[column("patient_id", Text)],
    clustering: &[column("sensor_id", Text), column("place", Int)],
    columns: TOLD,
    apart: APART,
    grows: false,
};

/// Readings of which somebody has said whose they are.
pub static REATTRIBUTED: View = View {
    name: "reattributed",
    partition: &[column("sensor_id", Text)],
    clustering: &[column("at", Time), column("id", Blob), column("patient_id", Text)],
    columns: &[column("metric", Text), column("command", Blob)],
    apart: APART,
    grows: false,
};

/// A row each, and two of what a patient's journal is told.
pub fn project(fact: &Recorded, out: &mut Vec<Change>) {
    let envelope = &fact.envelope;
    match (&envelope.key, &envelope.fact) {
        (Key::Sensor(sensor), Fact::SensorAssigned(it)) => out.push(Change {
            view: &ASSIGNMENTS,
            key: vec![Cell::Text(sensor.clone().into()), Cell::Int(fact.offset)],
            version: owned(fact.offset, 0),
            cells: Some(vec![
                Cell::Time(it.from),
                Cell::Text(it.by.clone()),
                Cell::Time(envelope.received_at),
                it.patient.clone().map(SmolStr::from).into(),
            ]),
        }),
        (Key::Patient(_), Fact::SensorAttached(it)) => {
            let told = cells((it.from, it.until), true, envelope.received_at, it.expected_every);
            both(fact, &it.sensor_id, it.order, told, out);
        }
        (Key::Patient(_), Fact::SensorDetached(it)) => {
            let told = cells((it.from, it.until), false, envelope.received_at, None);
            both(fact, &it.sensor_id, it.order, told, out);
        }
        (Key::Patient(_), Fact::Reading(reading)) if envelope.cause.is_some() => reattributed(fact, reading, out),
        _ => {}
    }
}

fn cells(
    (from, until): (Timestamp, Option<Timestamp>),
    attached: bool,
    told_at: Timestamp,
    expected_every: Option<Span>,
) -> Vec<Cell> {
    vec![
        Cell::Time(from),
        Cell::Bool(attached),
        Cell::Time(told_at),
        until.into(),
        expected_every.map(|every| every.0).into(),
    ]
}

fn both(fact: &Recorded, sensor: &SensorId, order: i64, cells: Vec<Cell>, out: &mut Vec<Change>) {
    let (patient, sensor) = (Cell::Text(fact.envelope.key.text()), SmolStr::from(sensor.clone()));
    let version = owned(fact.offset, 0);
    out.push(Change {
        view: &PATIENT_SENSORS,
        key: vec![patient.clone(), Cell::Text(sensor.clone()), Cell::Int(order)],
        version,
        cells: Some(cells.clone()),
    });
    out.push(Change {
        view: &ATTACHMENTS,
        key: vec![shard(&sensor), Cell::Text(sensor), Cell::Int(order), patient],
        version,
        cells: Some(cells),
    });
}

fn reattributed(fact: &Recorded, reading: &Reading, out: &mut Vec<Change>) {
    let envelope = &fact.envelope;
    let command = envelope.cause.map(|cause| Bytes::copy_from_slice(&cause.0));
    out.push(Change {
        view: &REATTRIBUTED,
        key: vec![
            Cell::Text(reading.sensor_id.clone().into()),
            Cell::Time(envelope.measured_at),
            Cell::Blob(Bytes::copy_from_slice(&envelope.id.0)),
            Cell::Text(envelope.key.text()),
        ],
        version: owned(fact.offset, 0),
        cells: Some(vec![reading.metric.as_str().into(), command.into()]),
    });
}
