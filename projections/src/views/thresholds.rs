//! `thresholds`: what is set for a patient over the defaults, by whom, since when.

use schemas::journal::{Fact, Recorded};
use smol_str::SmolStr;

use super::owned;
use crate::store::Change;
use crate::view::Type::{Text, Time};
use crate::view::{APART, Cell, View, column};

/// One row per patient, because what is set is set whole.
pub static THRESHOLDS: View = View {
    name: "thresholds",
    partition: &[column("patient_id", Text)],
    clustering: &[],
    columns: &[
        // JSON: a list of {"metric", "limits"}.
        column("thresholds", Text),
        column("set_by", Text),
        column("since", Time),
    ],
    apart: APART,
    grows: false,
};

/// The newest in the journal wins.
pub fn project(fact: &Recorded, out: &mut Vec<Change>) {
    let Fact::ThresholdsSet(set) = &fact.envelope.fact else {
        return;
    };
    // Numbers, names and options always have a JSON form; NaN becomes null.
    let json = serde_json::to_string(&set.thresholds).unwrap_or_default();
    out.push(Change {
        view: &THRESHOLDS,
        key: vec![Cell::Text(fact.envelope.key.text())],
        version: owned(fact.offset, 0),
        cells: Some(vec![
            Cell::Text(SmolStr::from(json)),
            Cell::Text(set.by.clone()),
            Cell::Time(fact.envelope.received_at),
        ]),
    });
}
