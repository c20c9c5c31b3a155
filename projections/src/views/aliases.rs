//! `merged_into` and `also_known_as`: registrations that are of one person, by either.

use schemas::ids::PatientId;
use schemas::journal::{Fact, Recorded};
use smol_str::SmolStr;

use super::{owned, shard};
use crate::store::Change;
use crate::view::Type::{Bool, Int, Text, Time};
use crate::view::{APART, Cell, View, column};

/// Of each registration that was ever merged, which one stands for the person.
pub static MERGED_INTO: View = View {
    name: "merged_into",
    partition: &[column("shard", Int)],
    clustering: &[column("patient_id", Text)],
    columns: &[
        column("since", Time),
        column("said_by", Text),
        // Null where it stands for itself again.
        column("into_id", Text),
    ],
    apart: APART,
    grows: false,
};

/// Of each registration that stands for a person, which others are of them.
pub static ALSO_KNOWN_AS: View = View {
    name: "also_known_as",
    partition: &[column("patient_id", Text)],
    clustering: &[column("merged_id", Text)],
    columns: &[column("is_merged", Bool)],
    apart: APART,
    grows: false,
};

/// The newest in the merged one's journal wins.
pub fn project(fact: &Recorded, out: &mut Vec<Change>) {
    let Fact::PatientMerged(it) = &fact.envelope.fact else {
        return;
    };
    let merged = fact.envelope.key.text();
    let version = owned(fact.offset, 0);
    let mut known_as = |patient: &PatientId, is_merged| {
        out.push(Change {
            view: &ALSO_KNOWN_AS,
            key: vec![Cell::Text(patient.clone().into()), Cell::Text(merged.clone())],
            version,
            cells: Some(vec![Cell::Bool(is_merged)]),
        });
    };
    if let Some(before) = it.before.as_ref().filter(|before| Some(*before) != it.into.as_ref()) {
        known_as(before, false);
    }
    if let Some(into) = &it.into {
        known_as(into, true);
    }
    out.push(Change {
        view: &MERGED_INTO,
        key: vec![shard(&merged), Cell::Text(merged)],
        version,
        cells: Some(vec![
            Cell::Time(fact.envelope.received_at),
            Cell::Text(it.by.clone()),
            it.into.clone().map(SmolStr::from).into(),
        ]),
    });
}
