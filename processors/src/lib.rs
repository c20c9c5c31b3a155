//! Facts to facts: pure state machines turn the journal into windows, alerts and the state of devices.
//!
//! [`engine`] is what they all run on, [`runner`] the only file that waits for anything; [`all`] is the whole list.

pub mod alerts;
pub mod assignments;
pub mod consultations;
pub mod devices;
pub mod engine;
pub mod metrics;
pub mod runner;
pub mod silence;
pub mod testing;
pub mod windows;

use engine::erased::Kind;
use eventlog::Topic;

/// Every processor of the house.
#[must_use]
pub const fn all() -> [Kind; 5] {
    [
        Kind::of::<windows::Windows>(Topic::Windows),
        Kind::of::<alerts::Alerts>(Topic::Alerts),
        Kind::of::<devices::Devices>(Topic::Devices),
        Kind::of::<consultations::Consultations>(Topic::Consultations),
        Kind::of::<assignments::Assignments>(Topic::Assignments).telling(schemas::assignment::told),
    ]
}
