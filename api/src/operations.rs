//! How the house runs: a port that `app` fills, because it alone knows every room.

use serde::Serialize;
use utoipa::ToSchema;

/// Answers about the running process.
pub trait Operations: Send + Sync + 'static {
    /// What keeps the process from being ready; empty where nothing does.
    fn unready(&self) -> Vec<String>;

    /// Traffic, lag and disk as they stand.
    fn stats(&self) -> Stats;

    /// The metrics in Prometheus' text format.
    fn metrics(&self) -> String;
}

/// Traffic, lag and disk.
#[derive(Debug, Clone, Default, PartialEq, Serialize, ToSchema)]
pub struct Stats {
    /// Seconds since the process started.
    pub uptime_s: f64,
    /// Traffic since then, per door.
    pub doors: Vec<DoorTraffic>,
    /// How far readers are behind the log.
    pub lag: Vec<Lag>,
    /// Room on disk; absent where nothing is kept here.
    pub disk: Option<Disk>,
}

/// What came in through one door since the process started.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct DoorTraffic {
    /// The door, like `mqtt`.
    pub door: String,
    /// Messages or requests.
    pub messages: u64,
    /// Records in them.
    pub records: u64,
    /// Their bytes, as sent.
    pub bytes: u64,
    /// Records that were recorded.
    pub accepted: u64,
    /// Records that had been recorded before.
    pub duplicates: u64,
    /// Records that were refused.
    pub rejected: u64,
}

/// How far a reader of the log is behind.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct Lag {
    /// Who reads, like `alerts` or `views`.
    pub reader: String,
    /// What it reads, like `fajma.journal`.
    pub topic: String,
    /// Records not yet read, over all partitions.
    pub records: u64,
}

/// Room on disk, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct Disk {
    /// Used by the log and the views.
    pub used_bytes: u64,
    /// Left on the volume.
    pub free_bytes: u64,
    /// The volume's size.
    pub total_bytes: u64,
}
