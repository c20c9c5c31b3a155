//! What can go wrong with a log, by what the caller can do.

use schemas::derived::Incarnation;

use crate::{Bounds, Offset, Partition, Topic};

/// Why the log did not do what it was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LogError {
    /// Try again later; what was not acknowledged may or may not be there.
    #[error("the log is unavailable: {0}")]
    Unavailable(String),
    /// The disk is full: acknowledge nothing, make room, restart.
    #[error("the log's disk is full: {0}")]
    Full(String),
    /// Somebody else owns this place now: stop.
    #[error("another owner has taken over")]
    Fenced,
    /// There is no such offset (any more, or yet): a person decides where to go on.
    #[error("offset {asked} of {topic:?}/{partition} is outside {}..{}", bounds.start, bounds.end)]
    OutOfRange {
        /// The topic.
        topic: Topic,
        /// The partition.
        partition: Partition,
        /// What was asked for.
        asked: Offset,
        /// What there is.
        bounds: Bounds,
    },
    /// Saved places belong to another journal: this is the wrong log, or the wrong saved places.
    #[error("the journal is {found}, not {expected}")]
    OtherIncarnation {
        /// Whose places were saved.
        expected: Incarnation,
        /// Which journal is there.
        found: Incarnation,
    },
    /// This log is not the one to go on with ([`crate::Standing`]): go on where it says.
    #[error("this log does not serve: {0}")]
    Elsewhere(String),
    /// A record is larger than the log takes: refuse it, never try again.
    #[error("a record of {bytes} bytes is larger than {limit}")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// A fault in the program that calls: there is no such partition, or this log does not take that there.
    #[error("the log was asked for what it does not do: {0}")]
    Misuse(String),
    /// Stored bytes are damaged: stop and call a person.
    #[error("damaged: {0}")]
    Corrupt(String),
}
