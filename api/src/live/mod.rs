//! The live stream: what the log takes in, told to whoever watches, within milliseconds and without loss or repeat.
//!
//! [`Hub`] reads each partition once for everybody who watches it. [`Feed`] is one watcher: its own places in the log,
//! an inbox of bounded size, and the log itself for everything that was missed.

mod cursor;
mod feed;
mod held;
mod hub;
mod item;
mod outside;
mod socket;

pub(crate) use hub::Hub;
pub use outside::{Followed, follow_consultation};
pub(crate) use socket::{alerts, consultation, patient};

/// What is streamed; every path also with a slash at its end.
#[cfg(test)]
pub(crate) const STREAMS: [&str; 3] = [
    "/ws/patients/{patient_id}",
    "/ws/consultation/{consultation_id}",
    "/ws/alerts",
];

#[cfg(test)]
mod tests;
