//! `rejected`: refused input by day, of everybody, of each sensor named and of each patient named.

use bytes::Bytes;
use schemas::ids::PatientId;
use schemas::refused::Rejection;
use smol_str::{SmolStr, format_smolstr};

use super::{day, days};
use crate::store::Change;
use crate::view::Type::{Blob, Int, Text, Time};
use crate::view::{Cell, View, column};

/// The empty sensor stands for all of them.
pub static REJECTED: View = View {
    name: "rejected",
    partition: &[column("of", Text), column("day", Int)],
    clustering: &[column("received_at", Time), column("id", Blob)],
    columns: &[
        column("door", Text),
        column("code", Text),
        column("detail", Text),
        column("detail_fr", Text),
        column("idx", Int),
        column("size", Int),
        column("start", Blob),
        column("field", Text),
        column("sensor_id", Text),
        column("patient_id", Text),
        column("content_type", Text),
    ],
    apart: 0,
    grows: true,
};

/// How many of a record's bytes the view shows; the log has them whole.
const SHOWN: usize = 1024;
/// Names of sensors are at most this long; what is longer is nobody's and is listed among all only.
const NAME: usize = 64;

/// What the input about a patient is listed under: no sensor is named like this.
#[must_use]
pub fn of_patient(patient: &PatientId) -> SmolStr {
    format_smolstr!("patient/{patient}")
}

/// A refused record is listed among all, under the sensor it names and under the patient it names.
pub(super) fn project(rejection: &Rejection, out: &mut Vec<Change>) {
    let sensor = rejection.sensor_id.clone().filter(|s| (1..=NAME).contains(&s.len()));
    let patient = rejection.patient_id.as_deref().and_then(|id| PatientId::new(id).ok());
    let named = sensor.into_iter().chain(patient.as_ref().map(of_patient));
    for of in std::iter::once(SmolStr::default()).chain(named) {
        let day = day(rejection.received_at);
        out.push(days::mark(days::REJECTED, of.clone(), day, ""));
        out.push(Change {
            view: &REJECTED,
            key: vec![
                Cell::Text(of),
                Cell::Int(day),
                Cell::Time(rejection.received_at),
                Cell::Blob(Bytes::copy_from_slice(&rejection.id.0)),
            ],
            version: rejection.received_at.0,
            cells: Some(cells(rejection)),
        });
    }
}

fn cells(rejection: &Rejection) -> Vec<Cell> {
    let bytes = &rejection.bytes;
    vec![
        rejection.door.as_str().into(),
        rejection.code.as_str().into(),
        Cell::Text(rejection.detail.clone()),
        Cell::Text(rejection.detail_fr.clone()),
        Cell::Int(rejection.index.into()),
        Cell::Int(i64::try_from(bytes.len()).unwrap_or(i64::MAX)),
        Cell::Blob(Bytes::copy_from_slice(bytes.get(..SHOWN).unwrap_or(bytes))),
        rejection.field.clone().into(),
        rejection.sensor_id.clone().into(),
        rejection.patient_id.clone().into(),
        rejection.content_type.clone().into(),
    ]
}
