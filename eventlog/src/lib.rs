//! The log: where facts are kept, in one order per partition, for ever.
//!
//! [`EventLog`] is the port; what its doc comments promise is what every home keeps and what the conformance suite
//! tries to break. Records are bytes here; [`Batch`] decodes them once for everyone who reads the same stretch.

mod batch;
pub mod check;
#[cfg(any(feature = "embedded", feature = "conformance", feature = "kafka"))]
mod chunks;
mod clock;
#[cfg(feature = "conformance")]
pub mod conformance;
#[cfg(any(feature = "embedded", feature = "conformance"))]
pub mod embedded;
mod error;
#[cfg(feature = "conformance")]
pub mod faulty;
pub mod follow;
#[cfg(feature = "kafka")]
pub mod kafka;
#[cfg(feature = "conformance")]
pub mod model;
pub mod moving;
pub mod origin;
#[cfg(feature = "conformance")]
pub mod prng;
pub mod raw;
pub mod shelf;
mod standing;
mod topic;

pub use batch::{Batch, Entry, Unreadable};
pub use clock::{Clock, ManualClock, SystemClock};
pub use error::LogError;
pub use shelf::{MemoryShelf, Shelves, Shelving};
pub use standing::Standing;
pub use topic::Topic;

use std::fmt::Debug;
use std::pin::Pin;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use schemas::derived::{Incarnation, Origin};
use schemas::journal::Envelope;
use schemas::time::Timestamp;
use schemas::{codec, partition};
use smol_str::SmolStr;

/// A partition's number, from 0.
pub type Partition = u16;
/// A record's place in its partition, from 0. Offsets grow but may leave gaps.
pub type Offset = i64;

/// What a log is made of; fixed when it is created.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// Partitions of every topic but `fajma.control`, which has one.
    pub partitions: u16,
    /// Which life of the journal this is.
    pub incarnation: Incarnation,
}

/// A record to be appended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Append {
    /// Where to.
    pub partition: Partition,
    /// The key's bytes ([`schemas::ids::Key::text`]).
    pub key: Bytes,
    /// The framed record.
    pub value: Bytes,
}

impl Append {
    /// An envelope, in the partition of its key.
    #[must_use]
    pub fn of(envelope: &Envelope, partitions: u16) -> Self {
        let mut value = Vec::with_capacity(256);
        codec::encode(envelope, &mut value);
        Self {
            partition: partition::of(&envelope.key, partitions),
            key: Bytes::from(envelope.key.text().to_string()),
            value: value.into(),
        }
    }
}

/// How much to read at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// At most so many records (at least one is returned where there is one).
    pub records: usize,
    /// At most so many bytes of keys and values, but at least one record.
    pub bytes: usize,
}

impl Default for Limit {
    fn default() -> Self {
        Self {
            records: 4096,
            bytes: 1 << 20,
        }
    }
}

/// The readable stretch of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// The first offset still there.
    pub start: Offset,
    /// One past the last durable record.
    pub end: Offset,
}

/// How far a processor has come with one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reached {
    /// Every journal record below this offset has had its effect on the derived topic.
    pub journal: Offset,
    /// The end of the derived topic's partition when that was so.
    pub end: Offset,
}

/// The log. All methods may be called from many tasks at once.
#[async_trait]
pub trait EventLog: Debug + Send + Sync + 'static {
    /// What the log is made of.
    fn layout(&self) -> Layout;

    /// Appends to the journal, `rejected`, `audit` or `control`; returns each record's offset, in order, once **all**
    /// are durable. Per partition, log order is the order given. On an error some of them may be there all the same:
    /// whoever tries again relies on ids.
    ///
    /// # Errors
    /// [`LogError::Unavailable`], [`LogError::Full`], [`LogError::TooLarge`]; [`LogError::Misuse`] for a derived topic
    /// or a partition that is not there. A record too large, or misuse, and nothing at all was appended.
    async fn append(&self, topic: Topic, records: Vec<Append>) -> Result<Vec<Offset>, LogError>;

    /// Reads durable records at or after `from`, in offset order. Empty means that there is none yet.
    /// The first record may have a greater offset than `from` (a gap). Fewer records than `limit` allows does not mean
    /// that there are no more: readers who keep up get the same, already decoded batches. Go on from [`Batch::next`].
    ///
    /// # Errors
    /// [`LogError::OutOfRange`] where `from` is before the start or beyond the end.
    async fn read(
        &self,
        topic: Topic,
        partition: Partition,
        from: Offset,
        limit: Limit,
    ) -> Result<Arc<Batch>, LogError>;

    /// Returns as soon as [`read`](Self::read) from `from` would give a record.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    async fn wait(&self, topic: Topic, partition: Partition, from: Offset) -> Result<(), LogError>;

    /// What can be read now.
    ///
    /// # Errors
    /// [`LogError::Unavailable`].
    async fn bounds(&self, topic: Topic, partition: Partition) -> Result<Bounds, LogError>;

    /// The first offset whose record was appended at or after `at`; the end where there is none.
    ///
    /// # Errors
    /// [`LogError::Unavailable`].
    async fn offset_at(&self, topic: Topic, partition: Partition, at: Timestamp) -> Result<Offset, LogError>;

    /// Takes a processor's place on one partition: its states, position and last output as they stand. `output` is the
    /// derived topic it writes, and which nobody else writes. An earlier owner that still writes does no harm (the
    /// origin rule, [`origin`]).
    ///
    /// # Errors
    /// [`LogError::Unavailable`], [`LogError::Corrupt`], [`LogError::OutOfRange`] where the position is older than the
    /// journal or beyond its end, [`LogError::OtherIncarnation`], [`LogError::Misuse`] where the topic is not derived or
    /// is another processor's.
    async fn claim(&self, processor: &str, output: Topic, partition: Partition)
    -> Result<Box<dyn Workspace>, LogError>;

    /// How far the derived topic's partition follows the journal.
    ///
    /// # Errors
    /// [`LogError::Unavailable`].
    async fn reached(&self, output: Topic, partition: Partition) -> Result<Reached, LogError>;
}

/// A conclusion to be written to a derived topic.
#[derive(Debug, Clone, PartialEq)]
pub struct Output {
    /// Where it comes from: strictly greater than that of the output before it.
    pub origin: Origin,
    /// The key's bytes.
    pub key: Bytes,
    /// The framed record.
    pub value: Bytes,
}

/// The state of one key after the journal record at `applied`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// The journal offset it has applied.
    pub applied: Offset,
    /// The state; `None` where it was removed.
    pub value: Option<Bytes>,
}

impl Stored {
    /// Whether it says nothing more to whoever goes on from `position`: a removed state only says what to pass over.
    #[must_use]
    pub const fn is_past(&self, position: Offset) -> bool {
        self.value.is_none() && self.applied < position
    }
}

/// What a processor has done with a stretch of the journal.
#[derive(Debug, Default)]
pub struct Work {
    /// Outputs in origin order.
    pub outputs: Vec<Output>,
    /// Where the outputs end: every journal record below it has had its effect.
    pub reached: Offset,
    /// From time to time: the states changed since the last checkpoint.
    pub checkpoint: Option<Checkpoint>,
}

/// States and the position that goes with them.
#[derive(Debug, Default)]
pub struct Checkpoint {
    /// Every state changed since the last checkpoint.
    pub states: Vec<(SmolStr, Stored)>,
    /// The next journal offset to process after a restart.
    pub position: Offset,
    /// What the whole partition goes by at that position (recorded time, policy): it belongs to the position, not to
    /// any key, because a restored position may lie before what some keys have already applied.
    pub context: Bytes,
}

/// One processor's place on one partition.
#[async_trait]
pub trait Workspace: Debug + Send + Sync {
    /// The next journal offset to process.
    fn position(&self) -> Offset;

    /// The context saved with that position; empty at the journal's start.
    fn context(&self) -> Bytes;

    /// The origin of the last record in the output partition. What is computed again up to there is not written again.
    fn last_origin(&self) -> Option<&Origin>;

    /// The checkpointed states.
    fn shelf(&self) -> Arc<dyn Shelf>;

    /// Writes outputs and waits until they are durable; only then, where there is a checkpoint, its states, and only
    /// then its position. After an error, or where the caller stopped waiting, nothing may be committed any more: claim
    /// again. Outputs up to [`last_origin`](Self::last_origin) may be given again; they are not written twice, or refused
    /// by the strict reader ([`origin::Reader`]).
    ///
    /// # Errors
    /// [`LogError::Unavailable`], [`LogError::Full`], [`LogError::Fenced`], [`LogError::TooLarge`],
    /// [`LogError::OtherIncarnation`]; [`LogError::Misuse`] where outputs are not in origin order;
    /// [`LogError::Corrupt`] where a repeat is seen not to be what was written first.
    async fn commit(&mut self, work: Work) -> Result<(), LogError>;

    /// Saves a checkpoint as [`commit`](Self::commit) does, while outputs that come after it are committed: nobody who
    /// waits for an output waits for states. The future is driven to its end by whoever called, one at a time; an error
    /// is as one of `commit`. Everything up to the checkpoint's position must have been committed before. Where a home
    /// cannot do that the checkpoint comes back, to be committed.
    ///
    /// # Errors
    /// The checkpoint itself.
    fn save(&mut self, checkpoint: Checkpoint) -> Result<Saving, Checkpoint> {
        Err(checkpoint)
    }
}

/// A checkpoint that is being saved.
pub type Saving = Pin<Box<dyn Future<Output = Result<(), LogError>> + Send>>;

/// Checkpointed states, read synchronously by a task when a key is not in memory.
pub trait Shelf: Send + Sync {
    /// The state of a key as of the last checkpoint.
    ///
    /// # Errors
    /// [`LogError::Corrupt`], [`LogError::Unavailable`].
    fn get(&self, key: &str) -> Result<Option<Stored>, LogError>;

    /// Visits every state, in key order.
    ///
    /// # Errors
    /// [`LogError::Corrupt`], [`LogError::Unavailable`].
    fn visit(&self, each: &mut dyn FnMut(&str, Stored)) -> Result<(), LogError>;

    /// Visits the states whose key is in `from..to`, in key order. A home that can seek does better than this default.
    ///
    /// # Errors
    /// As [`visit`](Self::visit).
    fn visit_range(&self, from: &str, to: &str, each: &mut dyn FnMut(&str, Stored)) -> Result<(), LogError> {
        self.visit(&mut |key, stored| {
            if (from..to).contains(&key) {
                each(key, stored);
            }
        })
    }
}
