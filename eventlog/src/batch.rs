//! A stretch of a partition, as read.

use std::sync::OnceLock;

use bytes::Bytes;
use schemas::codec::{self, Catalogue, DecodeError};
use schemas::derived::Derived;
use schemas::journal::Recorded;
use schemas::time::Timestamp;

use crate::{Offset, Partition, Topic};

/// A record as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its place.
    pub offset: Offset,
    /// When the log took it, by the log's clock.
    pub appended_at: Timestamp,
    /// The key's bytes.
    pub key: Bytes,
    /// The framed record.
    pub value: Bytes,
}

/// Records in offset order. Decoded at most once, however many read it.
#[derive(Debug)]
pub struct Batch {
    topic: Topic,
    partition: Partition,
    entries: Vec<Entry>,
    facts: OnceLock<Vec<Recorded>>,
}

/// A record that cannot be decoded, and where it stands. Records before it are lost to nobody: read up to it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the record at offset {offset} cannot be read: {error}")]
pub struct Unreadable {
    /// Its place.
    pub offset: Offset,
    /// Why.
    pub error: DecodeError,
}

impl Batch {
    /// A batch of `entries`, which are in offset order.
    #[must_use]
    pub const fn new(topic: Topic, partition: Partition, entries: Vec<Entry>) -> Self {
        Self {
            topic,
            partition,
            entries,
            facts: OnceLock::new(),
        }
    }

    /// Whose records these are.
    #[must_use]
    pub const fn topic(&self) -> Topic {
        self.topic
    }

    /// Which partition's.
    #[must_use]
    pub const fn partition(&self) -> Partition {
        self.partition
    }

    /// The records.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The offset to read from next; `None` where the batch is empty.
    #[must_use]
    pub fn next(&self) -> Option<Offset> {
        self.entries.last().map(|e| e.offset + 1)
    }

    /// The journal facts in it, decoded once; what cannot be read today may be once its schema is known.
    ///
    /// # Errors
    /// The first [`Unreadable`] record.
    pub fn facts(&self, catalogue: &Catalogue) -> Result<&[Recorded], Unreadable> {
        if let Some(facts) = self.facts.get() {
            return Ok(facts);
        }
        let decode = |entry: &Entry| {
            codec::decode(&entry.value, catalogue)
                .map(|envelope| Recorded {
                    offset: entry.offset,
                    appended_at: entry.appended_at,
                    envelope,
                })
                .map_err(|error| Unreadable {
                    offset: entry.offset,
                    error,
                })
        };
        let facts = self.entries.iter().map(decode).collect::<Result<_, _>>()?;
        Ok(self.facts.get_or_init(|| facts))
    }

    /// The derived records in it, with their offsets; those that may be ignored are left out.
    ///
    /// # Errors
    /// The first [`Unreadable`] record.
    pub fn derived(&self, catalogue: &Catalogue) -> Result<Vec<(Offset, Derived)>, Unreadable> {
        let mut derived = Vec::with_capacity(self.entries.len());
        for entry in &self.entries {
            match codec::decode_derived(&entry.value, catalogue) {
                Ok(Some(record)) => derived.push((entry.offset, record)),
                Ok(None) => {}
                Err(error) => {
                    return Err(Unreadable {
                        offset: entry.offset,
                        error,
                    });
                }
            }
        }
        Ok(derived)
    }
}
