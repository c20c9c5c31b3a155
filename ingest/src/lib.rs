//! The doors: what comes in is judged record by record, made durable, and only then acknowledged.
//!
//! [`accept`] is pure: bytes and circumstances in, verdicts out. [`intake`] puts verdicts into the log and says what
//! became of each record; every door stands before it. [`http`] is the doors that speak HTTP, [`ticker`] records time by
//! [`clocks`] that can be gone by.
//! [`raw`] and [`mqtt::bridge`] are the doors through which we fetch what lies with others.

pub mod accept;
#[cfg(feature = "conformance")]
pub mod bad;
pub mod clocks;
mod commands;
pub mod http;
pub mod intake;
mod metrics;
mod parcel;
pub mod raw;
mod refusal;
mod roster;
pub mod ticker;

pub use accept::{Bounds, Context, Kind, Outcome, Verdict};
pub use clocks::Clocks;
pub use commands::Commands;
pub use intake::{DoorTraffic, Intake, Limits, PolicyInForce, Position, Receipt, Status, Tally};
pub use refusal::{Fault, Refusal};
pub use roster::{Roster, Standing, Whose};
pub mod mqtt;
