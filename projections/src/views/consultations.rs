//! Consultations: what people did with each, what was measured in each, and lists of them.

use bytes::Bytes;
use schemas::derived::Derived;
use schemas::facts::ConsultationRevised;
use schemas::ids::ConsultationId;
use schemas::journal::{Envelope, Fact, Recorded};
use smol_str::SmolStr;

use super::{day, days, derived_version, owned};
use crate::store::Change;
use crate::view::Type::{Blob, Int, Text, Time};
use crate::view::{APART, Cell, Column, View, column};

/// What happened to a consultation, in the journal's order. All of it is about one patient; where two patients were given
/// the same id at once, whoever reads goes by the first.
pub static CONSULTATION_EVENTS: View = View {
    name: "consultation_events",
    partition: &[column("consultation_id", Text)],
    clustering: &[column("position", Int), column("patient_id", Text)],
    columns: &[
        column("event", Text),
        column("at", Time),
        column("done_by", Text),
        column("practitioner_id", Text),
        column("planned_for", Time),
        column("note", Text),
        column("marked_at", Time),
    ],
    apart: APART,
    grows: false,
};

/// What was measured, by hour. Of two patients with the same id each has parts of their own.
pub static CONSULTATION_PARTS: View = View {
    name: "consultation_parts",
    partition: &[column("consultation_id", Text)],
    clustering: &[column("start", Time), column("patient_id", Text)],
    columns: &[
        column("part_end", Time),
        column("revision", Int),
        // JSON: a list of series.
        column("series", Text),
    ],
    apart: APART,
    grows: false,
};

/// The order of consultations in a list.
const LISTED: &[Column] = &[column("planned_at", Time), column("consultation_id", Blob)];

/// A patient's consultations.
pub static CONSULTATIONS: View = View {
    name: "consultations",
    partition: &[column("patient_id", Text)],
    clustering: LISTED,
    columns: &[],
    apart: APART,
    grows: false,
};

/// Everybody's consultations by the day they were planned on.
pub static CONSULTATIONS_BY_DAY: View = View {
    name: "consultations_by_day",
    partition: &[column("day", Int)],
    clustering: LISTED,
    columns: &[column("patient_id", Text)],
    apart: 0,
    grows: false,
};

/// Events, as the view names them.
pub const PLANNED: &str = "planned";
/// It began.
pub const OPENED: &str = "opened";
/// It ended.
pub const CLOSED: &str = "closed";
/// Somebody wrote something.
pub const NOTED: &str = "noted";

/// What somebody did gives an event, and a planned consultation its place in the lists.
pub fn project(fact: &Recorded, out: &mut Vec<Change>) {
    let envelope = &fact.envelope;
    let Some(patient) = envelope.key.patient() else { return };
    let null = || Cell::Null;
    let (id, name, by, rest) = match &envelope.fact {
        Fact::ConsultationPlanned(it) => {
            listed(envelope, &it.consultation_id, out);
            let practitioner = Cell::Text(it.practitioner_id.clone().into());
            let rest = [practitioner, it.planned_for.into(), null(), null()];
            (&it.consultation_id, PLANNED, &it.by, rest)
        }
        Fact::ConsultationOpened(it) => (&it.consultation_id, OPENED, &it.by, [null(), null(), null(), null()]),
        Fact::ConsultationClosed(it) => (&it.consultation_id, CLOSED, &it.by, [null(), null(), null(), null()]),
        Fact::ConsultationNoted(it) => {
            let rest = [null(), null(), Cell::Text(it.text.clone()), it.at.into()];
            (&it.consultation_id, NOTED, &it.by, rest)
        }
        _ => return,
    };
    let mut cells = vec![name.into(), Cell::Time(envelope.measured_at), Cell::Text(by.clone())];
    cells.extend(rest);
    out.push(Change {
        view: &CONSULTATION_EVENTS,
        key: vec![
            Cell::Text(id.clone().into()),
            Cell::Int(fact.offset),
            Cell::Text(patient.clone().into()),
        ],
        version: owned(fact.offset, 0),
        cells: Some(cells),
    });
}

fn listed(envelope: &Envelope, id: &ConsultationId, out: &mut Vec<Change>) {
    let patient = Cell::Text(envelope.key.text());
    let (at, id) = (
        envelope.measured_at,
        Cell::Blob(Bytes::copy_from_slice(id.as_str().as_bytes())),
    );
    out.push(Change {
        view: &CONSULTATIONS,
        key: vec![patient.clone(), Cell::Time(at), id.clone()],
        version: at.0,
        cells: Some(Vec::new()),
    });
    out.push(Change {
        view: &CONSULTATIONS_BY_DAY,
        key: vec![Cell::Int(day(at)), Cell::Time(at), id],
        version: at.0,
        cells: Some(vec![patient]),
    });
    out.push(days::mark(days::CONSULTATIONS, SmolStr::default(), day(at), ""));
}

/// A revision replaces the one before it.
pub(super) fn project_part(derived: &Derived, part: &ConsultationRevised, out: &mut Vec<Change>) {
    // Numbers, names and lists always have a JSON form; NaN becomes null.
    let series = serde_json::to_string(&part.series).unwrap_or_default();
    out.push(Change {
        view: &CONSULTATION_PARTS,
        key: vec![
            Cell::Text(part.consultation_id.clone().into()),
            Cell::Time(part.start),
            Cell::Text(derived.key.text()),
        ],
        version: derived_version(&derived.origin),
        cells: Some(vec![
            Cell::Time(part.end),
            Cell::Int(part.revision.into()),
            Cell::Text(SmolStr::from(series)),
        ]),
    });
}
