//! Facts in, rows kept, answers out: what every home of the views keeps, and what each alone can be asked.
#![cfg(all(feature = "embedded", feature = "conformance"))]
#![allow(clippy::unwrap_used, reason = "a test")]

mod anomalies;
mod embedded;
#[cfg(feature = "engine-tests")]
mod engines;
mod follow;
mod house;
mod registry;
mod views;
