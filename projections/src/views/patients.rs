//! `patients`: whom something was heard of, and when last.

use schemas::journal::{Fact, Recorded};
use schemas::time::Span;

use super::shard;
use crate::store::Change;
use crate::view::Type::{Int, Text, Time};
use crate::view::{APART, Cell, View, column};

/// To the minute: a patient who is heard a hundred times a minute is one row written once a minute.
pub static PATIENTS: View = View {
    name: "patients",
    partition: &[column("shard", Int)],
    clustering: &[column("patient_id", Text)],
    columns: &[column("last_heard", Time)],
    apart: APART,
    grows: false,
};

/// Whatever a sensor says about a patient is a sign of the patient.
pub fn project(fact: &Recorded, out: &mut Vec<Change>) {
    let envelope = &fact.envelope;
    let heard = matches!(
        envelope.fact,
        Fact::Reading(_) | Fact::DeviceAlarm(_) | Fact::SensorStatus(_) | Fact::ThresholdsSet(_)
    );
    let (true, Some(patient)) = (heard, envelope.key.patient()) else {
        return;
    };
    let minute = envelope.received_at.floor(Span::minutes(1));
    out.push(Change {
        view: &PATIENTS,
        key: vec![shard(patient.as_str()), Cell::Text(patient.clone().into())],
        version: minute.0,
        cells: Some(vec![Cell::Time(minute)]),
    });
}
