//! `latest`: the newest reading per patient, metric and sensor, by measured time.

use bytes::Bytes;
use schemas::journal::{Fact, Recorded};

use super::readings;
use crate::store::Change;
use crate::view::Type::{Blob, Bool, Double, Int, Text, Time};
use crate::view::{Cell, View, column};

/// Its version is when it was measured: a late backlog never looks newest. Of one moment the greater id is the newest, as it
/// is in windows; of one id, what was told last.
pub static LATEST: View = View {
    name: "latest",
    partition: &[column("patient_id", Text)],
    clustering: &[column("metric", Text), column("sensor_id", Text)],
    columns: &[
        column("at", Time),
        column("id", Blob),
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
        column("cause", Blob),
    ],
    apart: 0,
    grows: false,
};

/// A reading gives the whole row; an older one loses to what is there.
pub fn project(fact: &Recorded, out: &mut Vec<Change>) {
    let Fact::Reading(reading) = &fact.envelope.fact else {
        return;
    };
    let envelope = &fact.envelope;
    let mut cells = Vec::with_capacity(LATEST.columns.len());
    cells.push(Cell::Time(envelope.measured_at));
    cells.push(Cell::Blob(Bytes::copy_from_slice(&envelope.id.0)));
    cells.append(&mut readings::cells(fact, reading));
    out.push(Change {
        view: &LATEST,
        key: vec![
            Cell::Text(envelope.key.text()),
            reading.metric.as_str().into(),
            Cell::Text(reading.sensor_id.clone().into()),
        ],
        version: envelope.measured_at.0,
        cells: Some(cells),
    });
}
