//! The views: pure and memoryless, whole rows with absolute values.

pub mod alerts;
pub mod aliases;
pub mod assignments;
pub mod commands;
pub mod consultations;
pub mod days;
pub mod latest;
pub mod patients;
pub mod readings;
pub mod registry;
pub mod rejected;
pub mod revocations;
pub mod sensors;
pub mod thresholds;
pub mod windows;

use schemas::derived::{Derived, Origin, Outcome};
use schemas::ids::EventId;
use schemas::journal::Recorded;
use schemas::partition::murmur2;
use schemas::refused::Rejection;
use schemas::time::{Span, Timestamp};

use crate::store::Change;
use crate::view::{Cell, View};

/// Every view.
pub const ALL: [&View; 30] = [
    &alerts::ALERTS,
    &alerts::ALERT_BY_ID,
    &alerts::ALERT_HISTORY,
    &alerts::ALERTS_BY_DAY,
    &alerts::OPEN_ALERTS,
    &aliases::ALSO_KNOWN_AS,
    &aliases::MERGED_INTO,
    &assignments::ASSIGNMENTS,
    &assignments::ATTACHMENTS,
    &assignments::PATIENT_SENSORS,
    &assignments::REATTRIBUTED,
    &commands::COMMANDS,
    &consultations::CONSULTATION_EVENTS,
    &consultations::CONSULTATION_PARTS,
    &consultations::CONSULTATIONS,
    &consultations::CONSULTATIONS_BY_DAY,
    &days::DAYS,
    &latest::LATEST,
    &patients::PATIENTS,
    &readings::READINGS,
    &registry::MAC_ADDRESSES,
    &registry::NAMES,
    &registry::PRACTITIONERS,
    &registry::REGISTERED_PATIENTS,
    &registry::REGISTERED_SENSORS,
    &rejected::REJECTED,
    &revocations::REVOCATIONS,
    &sensors::SENSORS,
    &thresholds::THRESHOLDS,
    &windows::WINDOWS,
];

/// A hash of declarations: rows of other declarations are not read.
#[must_use]
pub fn declared(views: &[&'static View]) -> EventId {
    let texts: Vec<String> = views.iter().map(|view| format!("{view:?}")).collect();
    let parts: Vec<&[u8]> = texts.iter().map(String::as_bytes).collect();
    EventId::of("fajma.views", &parts)
}

/// Those whose rows are removed.
pub const REMOVING: [&View; 1] = [&alerts::OPEN_ALERTS];

/// How many partitions a list of everything (patients, sensors, open alerts) is spread over.
pub const SHARDS: i64 = 16;

/// Which of them holds this id.
#[must_use]
pub fn shard(id: &str) -> Cell {
    Cell::Int(i64::from(murmur2(id.as_bytes()) & 0x7fff_ffff) % SHARDS)
}

/// The UTC day of a moment, counted from 1970-01-01.
#[must_use]
pub const fn day(at: Timestamp) -> i64 {
    at.0.div_euclid(Span::days(1).0)
}

/// The first moment of a [`day`].
#[must_use]
pub const fn start_of(day: i64) -> Timestamp {
    Timestamp(day.saturating_mul(Span::days(1).0))
}

/// The version of a row that one partition owns: its newest fact wins.
#[must_use]
pub fn owned(offset: i64, n: i32) -> i64 {
    (offset << 12) | i64::from(n.clamp(0, 0xfff))
}

fn derived_version(origin: &Origin) -> i64 {
    owned(origin.offset, origin.n)
}

/// The rows that follow from a fact of the journal.
pub fn project_fact(fact: &Recorded, out: &mut Vec<Change>) {
    readings::project(fact, out);
    latest::project(fact, out);
    patients::project(fact, out);
    registry::project(fact, out);
    thresholds::project(fact, out);
    consultations::project(fact, out);
    assignments::project(fact, out);
    revocations::project(fact, out);
    commands::project(fact, out);
    aliases::project(fact, out);
}

/// The rows that follow from what a processor concluded.
pub fn project_derived(derived: &Derived, out: &mut Vec<Change>) {
    match &derived.outcome {
        Outcome::Window(window) => windows::project(derived, window, out),
        Outcome::Alert(alert) => alerts::project(derived, alert, out),
        Outcome::Device(device) => sensors::project(derived, device, out),
        Outcome::Consultation(part) => consultations::project_part(derived, part, out),
        // Whose a sensor is follows from what is said in its journal: `assignments::project`.
        Outcome::Assignment(_) => {}
    }
}

/// The rows that follow from a refused record.
pub fn project_rejection(rejection: &Rejection, out: &mut Vec<Change>) {
    rejected::project(rejection, out);
}
