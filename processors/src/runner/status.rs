//! How each task goes: for `/readyz`, `/v1/stats` and whoever is on call.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use eventlog::{Offset, Partition};

/// What a task is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// Restoring its states.
    Starting,
    /// Following the journal.
    Running,
    /// The log failed; it will be tried again.
    Retrying {
        /// What the log said.
        reason: String,
    },
    /// Stopped by a record, until an operator decides to skip it or a newer build arrives.
    Stopped {
        /// The record.
        offset: Offset,
        /// Why.
        reason: String,
    },
    /// Stopped by the log in a way that trying again does not mend: a person is needed.
    Failed {
        /// What the log said.
        reason: String,
    },
    /// A newer version has taken over.
    Superseded,
}

/// One task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// What it is doing.
    pub state: State,
    /// The next journal offset to handle.
    pub position: Offset,
    /// How many records the journal was ahead when last looked at.
    pub lag: u64,
}

impl Status {
    /// Whether what this task concludes is up to date or soon will be.
    #[must_use]
    pub const fn is_well(&self) -> bool {
        matches!(self.state, State::Running | State::Superseded)
    }
}

/// The status of every task, shared.
#[derive(Debug, Clone, Default)]
pub struct Board(Arc<Mutex<BTreeMap<(&'static str, Partition), Status>>>);

impl Board {
    /// Every task, by processor and partition.
    #[must_use]
    pub fn snapshot(&self) -> BTreeMap<(&'static str, Partition), Status> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether there are tasks and all of them are well.
    #[must_use]
    pub fn is_well(&self) -> bool {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        !all.is_empty() && all.values().all(Status::is_well)
    }

    pub(super) fn set(&self, processor: &'static str, partition: Partition, state: State) {
        self.change(processor, partition, |status| status.state = state);
    }

    /// It is somebody else's now: whatever it was doing here, and however far it was behind, is no news any more.
    pub(super) fn leave(&self, processor: &'static str, partition: Partition) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.remove(&(processor, partition));
    }

    pub(super) fn change(&self, processor: &'static str, partition: Partition, change: impl FnOnce(&mut Status)) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        change(all.entry((processor, partition)).or_insert(Status {
            state: State::Starting,
            position: 0,
            lag: 0,
        }));
    }
}
