//! `windows`: the newest revision of each window.

use schemas::derived::Derived;
use schemas::facts::{WindowRevised, WindowSize};
use schemas::time::Timestamp;

use super::derived_version;
use crate::store::Change;
use crate::view::Type::{Double, Int, Text, Time};
use crate::view::{APART, Cell, View, column};

/// Bounded partitions: each holds the same number of windows per sensor, whatever their size.
pub static WINDOWS: View = View {
    name: "windows",
    partition: &[
        column("patient_id", Text),
        column("metric", Text),
        column("size", Text),
        column("bucket", Int),
    ],
    clustering: &[column("start", Time), column("sensor_id", Text)],
    columns: &[
        column("window_end", Time),
        column("revision", Int),
        column("status", Text),
        column("count", Int),
        column("min", Double),
        column("max", Double),
        column("mean", Double),
        column("sd", Double),
        column("first", Double),
        column("last", Double),
        column("quality", Double),
        column("coverage", Double),
    ],
    apart: APART,
    grows: false,
};

/// Windows in one bucket: a week of minutes, five weeks of five minutes, 60 weeks of hours, 27 years of days.
const PER_BUCKET: i64 = 7 * 24 * 60;

/// The bucket of a window that starts here.
#[must_use]
pub const fn bucket(size: WindowSize, start: Timestamp) -> i64 {
    start.0.div_euclid(size.span().0 * PER_BUCKET)
}

/// A revision replaces the one before it.
pub(super) fn project(derived: &Derived, window: &WindowRevised, out: &mut Vec<Change>) {
    out.push(Change {
        view: &WINDOWS,
        key: vec![
            Cell::Text(derived.key.text()),
            window.metric.as_str().into(),
            window.size.as_str().into(),
            Cell::Int(bucket(window.size, window.start)),
            Cell::Time(window.start),
            Cell::Text(window.sensor_id.clone().into()),
        ],
        version: derived_version(&derived.origin),
        cells: Some(vec![
            Cell::Time(window.end),
            Cell::Int(window.revision.into()),
            window.status.as_str().into(),
            Cell::Int(window.count),
            Cell::Double(window.min),
            Cell::Double(window.max),
            Cell::Double(window.mean),
            Cell::Double(window.sd),
            Cell::Double(window.first),
            Cell::Double(window.last),
            window.quality.into(),
            window.coverage.into(),
        ]),
    });
}
