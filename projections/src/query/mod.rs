//! What can be asked of the views: typed reads over any store, each one or a few bounded scans.
//!
//! Lists come in pages. A cursor is opaque, says after which row to go on, and stays good while rows are written. A page
//! may be shorter than asked for, even empty, and still have a cursor, where a filter let little through.

mod alerts;
mod aliases;
mod anomalies;
mod assignments;
mod commands;
mod consultations;
mod fields;
mod misfiled;
mod readings;
mod register;
mod registry;
mod rejected;
mod revocations;
mod series;
mod stood;
mod walk;
mod windows;

pub use alerts::{Alert, AlertEvent, AlertFilter, alert, alert_with_history, alerts, alerts_all};
pub use aliases::{also_known_as, merged, merged_into, person, stands};
pub use anomalies::{Anomalies, Anomaly, anomalies};
pub use assignments::{
    Assignment, Attachment, assignments, attachments, attachments_of, settled, timeline, unattributed, worn_now,
};
pub use commands::{Answered, Command, commands, commands_of};
pub use consultations::{
    Consultation, Happened, Note, consultation, consultation_parts, consultations, consultations_all, received_by,
};
pub use readings::{ReadingRow, latest, readings};
pub use register::{
    PatientCard, Registered, SensorCard, holders, named, patient_card, patient_cards, register, registered,
    sensor_card, sensor_cards,
};
pub use registry::{PatientRow, SensorRow, Thresholds, patient, patients, sensor, sensors, thresholds};
pub use rejected::{RejectedRow, rejected};
pub use revocations::{Revocations, revocations};
pub use series::{MOST_POINTS, Point, series};
pub use windows::{WindowRow, windows};

use schemas::time::Timestamp;
use serde::Serialize;

/// Part of a list.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Page<T> {
    /// The rows.
    pub items: Vec<T>,
    /// Where to go on; `None` at the end.
    pub next_cursor: Option<String>,
}

/// Which part of a list.
#[derive(Debug, Clone, Copy, Default)]
pub struct Paging<'a> {
    /// At most so many rows; more than [`MOST`] are never given, and 0 means [`USUAL`].
    pub limit: usize,
    /// A cursor of the page before.
    pub cursor: Option<&'a str>,
}

/// The most rows in a page.
pub const MOST: usize = 10_000;
/// Rows in a page where nobody says how many.
pub const USUAL: usize = 100;

impl Paging<'_> {
    fn rows(&self) -> usize {
        if self.limit == 0 { USUAL } else { self.limit.min(MOST) }
    }
}

/// A stretch of time: `from` belongs to it, `to` does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    /// The first moment in it.
    pub from: Timestamp,
    /// The first moment after it.
    pub to: Timestamp,
}

impl Range {
    /// All time.
    pub const ALL: Self = Self {
        from: Timestamp::MIN,
        to: Timestamp::MAX,
    };
}
