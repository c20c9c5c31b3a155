//! Carrying a log from one home into another: the same journal, in another place.
//!
//! Everything keeps its bytes, its order and its offset, and the journal its incarnation. So what was concluded from it
//! needs no change: origins, ids, states, saved positions and clients' cursors mean in the new place what they meant in
//! the old one. (Only `fajma.control` has offsets of its own in every home: nothing refers to them.)
//!
//! A target is begun ([`Standing::Arriving`]), filled, read back and compared whole ([`carry`]); only then does one log
//! take over from the other ([`hand_over`]). What broke off before that is begun anew.

mod carry;
mod sum;

pub use carry::{Carried, Counters, Part, carry, hand_over};
pub use sum::Sum;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use schemas::derived::Origin;
use smol_str::SmolStr;

use crate::{Entry, EventLog, LogError, Offset, Partition, Reached, Standing, Stored, Topic};

/// What one processor's place on one partition has saved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SavedPlace {
    /// The place's name.
    pub name: SmolStr,
    /// The next journal offset to process; 0 where none was saved yet.
    pub position: Offset,
    /// What the partition goes by there.
    pub context: Bytes,
    /// States in key order; removed ones only where they still say something ([`Stored::applied`] at or after the
    /// position).
    pub states: Vec<(SmolStr, Stored)>,
}

/// What all who write one partition of a derived topic have saved.
#[derive(Debug, Clone, PartialEq)]
pub struct Saved {
    /// Their places, by name.
    pub places: Vec<SavedPlace>,
    /// How far the partition follows the journal.
    pub reached: Reached,
    /// The place that wrote last, where there is any.
    pub writer: Option<SmolStr>,
    /// The greatest origin among its records.
    pub last: Option<Origin>,
}

/// A log that can be carried elsewhere, or was carried here.
#[async_trait]
pub trait Carriable: EventLog {
    /// Where it stands.
    fn standing(&self) -> Standing;

    /// Says where it stands from now on, durably. What arrived is made ready to serve first.
    ///
    /// # Errors
    /// [`LogError::Unavailable`], [`LogError::Full`].
    async fn stand(&self, standing: Standing) -> Result<(), LogError>;

    /// What was saved by those who write one partition of a derived topic.
    ///
    /// # Errors
    /// [`LogError::Unavailable`], [`LogError::Corrupt`], [`LogError::OtherIncarnation`].
    async fn saved(&self, output: Topic, partition: Partition) -> Result<Saved, LogError>;

    /// How long nothing may have been appended before it counts as stopped: somebody else may have it open.
    fn rest(&self) -> Duration {
        Duration::ZERO
    }
}

/// A log in the making: [`Standing::Arriving`] before anything of it is there.
#[async_trait]
pub trait Arriving: std::fmt::Debug + Send + Sync + 'static {
    /// Begins a partition, which is empty: its first record will be at `start` or after.
    ///
    /// # Errors
    /// [`LogError::Unavailable`], [`LogError::Full`].
    async fn begin(&self, topic: Topic, partition: Partition, start: Offset) -> Result<(), LogError>;

    /// Adds records after those that are there, durably, each at its own offset (but in `fajma.control`).
    ///
    /// # Errors
    /// [`LogError::Unavailable`], [`LogError::Full`], [`LogError::TooLarge`]; [`LogError::Misuse`] where a record cannot
    /// be put at its offset.
    async fn put(&self, topic: Topic, partition: Partition, entries: &[Entry]) -> Result<(), LogError>;

    /// Saves what was saved there.
    ///
    /// # Errors
    /// As [`put`](Self::put); [`LogError::Misuse`] where this home cannot hold it.
    async fn save(&self, output: Topic, partition: Partition, saved: Saved) -> Result<(), LogError>;

    /// Opens it for reading back what arrived.
    ///
    /// # Errors
    /// As the home's own opening.
    async fn open(self: Arc<Self>) -> Result<Arc<dyn Carriable>, LogError>;
}
