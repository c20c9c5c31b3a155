//! `days`: on which days a list has rows, so that nobody looks for them day by day.

use smol_str::SmolStr;

use crate::store::Change;
use crate::view::Type::{Int, Text};
use crate::view::{APART, Cell, View, column};

/// One row per list, day and part of the list (for readings: the metric).
pub static DAYS: View = View {
    name: "days",
    partition: &[column("list", Text), column("of", Text)],
    clustering: &[column("day", Int), column("part", Text)],
    columns: &[],
    apart: APART,
    grows: false,
};

/// The readings of a patient; the part is the metric.
pub const READINGS: &str = "readings";
/// The alerts of everybody.
pub const ALERTS: &str = "alerts";
/// The consultations of everybody, by the day they were planned on.
pub const CONSULTATIONS: &str = "consultations";
/// Refused input: of one sensor, of one patient ([`super::rejected::of_patient`]), or of all where that is empty.
pub const REJECTED: &str = "rejected";

/// There are rows on this day. Says the same however often it is said.
pub(crate) fn mark(list: &'static str, of: SmolStr, day: i64, part: &'static str) -> Change {
    Change {
        view: &DAYS,
        key: vec![list.into(), Cell::Text(of), Cell::Int(day), part.into()],
        version: 0,
        cells: Some(Vec::new()),
    }
}
