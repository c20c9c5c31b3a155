//! How a command reaches the house: through the socket of a server that runs on its directory, else by opening the
//! directory itself. Both ways end in [`crate::house::House::answer`].
//!
//! On the socket: one JSON request on a line, one JSON reply on a line, then the connection ends. Whoever may open the
//! socket (mode 0600) owns the data.

mod client;
mod server;

use std::path::PathBuf;

use schemas::ids::PatientId;
use schemas::registry::Register;
use schemas::time::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub use client::{Conversation, ask};
pub use server::Door;

/// What a command asks of the house.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub enum Request {
    /// The policy in force.
    PolicyShow,
    /// Another policy from now on.
    PolicyApply {
        /// The whole policy, as `policy show` prints it.
        policy: Value,
        /// Who.
        by: String,
    },
    /// A processor is to pass over a record.
    Skip {
        /// The processor.
        processor: String,
        /// The journal partition.
        partition: u16,
        /// The journal offset.
        offset: i64,
        /// Who.
        by: String,
        /// Why.
        reason: String,
    },
    /// Compare what the journal implies with what was recorded.
    Verify,
    /// Rebuild windows, alerts and views from the journal.
    Replay(Replay),
    /// Register what rows of a file say.
    Import {
        /// What they are.
        register: Register,
        /// The fields of each.
        rows: Vec<Map<String, Value>>,
        /// Who.
        by: String,
        /// Judge them, change nothing.
        dry_run: bool,
    },
    /// Take tokens back.
    Revoke {
        /// One, by its id.
        token: Option<String>,
        /// All that a subject was given up to now.
        subject: Option<String>,
        /// Who.
        by: String,
    },
    /// Throw the views away and make them again.
    RebuildViews,
}

/// What to replay.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Replay {
    /// Where to: an absolute path that is not there yet, or is empty.
    pub into: PathBuf,
    /// Of this patient alone.
    pub patient: Option<PatientId>,
    /// Of what was recorded at or after.
    pub from: Option<Timestamp>,
    /// Of what was recorded before.
    pub until: Option<Timestamp>,
}

/// What the house answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// It was done; what came of it.
    Done(Value),
    /// It was not, and why.
    Refused(String),
}

/// The longest request, in bytes: a policy is a few kilobytes, rows come in batches of half of this.
const LONGEST: u64 = 1 << 20;
