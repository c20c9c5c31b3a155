//! The MQTT door as a client meets it, over real sockets, with a log that can be held back.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on stops")]

mod access;
mod alerts;
mod bridge;
mod client;
mod doors;
mod durability;
mod house;
mod log;
mod orders;
mod publishing;
mod realtime;
mod rules;
mod sessions;
mod wills;

/// Longer than anything takes that is going to happen.
const SOON: std::time::Duration = std::time::Duration::from_secs(20);

const DATA: &str = "fajma/patient/p1/sensor/s1/data";
const STATUS: &str = "fajma/patient/p1/sensor/s1/status";
const ALERTS: &str = "fajma/patient/p1/alerts/critical";

/// A good reading that no other is equal to.
fn reading(seq: usize) -> String {
    format!(r#"{{"type":"heart_rate","value":72,"at":"2026-01-05T08:00:00.000Z","seq":{seq}}}"#)
}

/// A record that is refused.
const BAD: &str = r#"{"type":"heart_rate","value":"many"}"#;
