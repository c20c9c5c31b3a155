//! Readers of derived topics: what one that keeps the origin rule accepts, though it crashes now and then.

use eventlog::origin::Reader;
use eventlog::prng::Prng;
use eventlog::{EventLog, Limit, LogError, Offset, Partition, Topic};
use schemas::codec::Catalogue;
use schemas::derived::{Derived, Incarnation};

use crate::home::wait;
use crate::rules::Rule;

/// A record that was accepted.
#[derive(Debug, Clone)]
pub(crate) struct Accepted {
    pub(crate) key: bytes::Bytes,
    pub(crate) value: bytes::Bytes,
    pub(crate) derived: Derived,
}

/// What a reader saves at once: how far it read, and the last origin it accepted.
#[derive(Debug, Clone)]
struct Saved {
    next: Offset,
    reader: Reader,
    accepted: usize,
}

/// One reader of one partition of a derived topic.
#[derive(Debug)]
pub(crate) struct Follower {
    topic: Topic,
    partition: Partition,
    now: Saved,
    saved: Saved,
    pub(crate) accepted: Vec<Accepted>,
    pub(crate) repeats: u64,
}

impl Follower {
    /// A reader at the start.
    pub(crate) fn new(incarnation: Incarnation, topic: Topic, partition: Partition) -> Self {
        let start = Saved {
            next: 0,
            reader: Reader::new(incarnation, None),
            accepted: 0,
        };
        Self {
            topic,
            partition,
            now: start.clone(),
            saved: start,
            accepted: Vec::new(),
            repeats: 0,
        }
    }

    /// Reads what there is, at most `records` at once.
    pub(crate) fn follow(&mut self, log: &dyn EventLog, catalogue: &Catalogue, records: usize) -> Result<(), LogError> {
        let limit = Limit {
            records,
            ..Limit::default()
        };
        let batch = wait(log.read(self.topic, self.partition, self.now.next, limit))?;
        let Some(next) = batch.next() else { return Ok(()) };
        let derived = batch
            .derived(catalogue)
            .map_err(|error| LogError::Corrupt(error.to_string()))?;
        for (entry, (offset, derived)) in batch.entries().iter().zip(derived) {
            assert_eq!(entry.offset, offset, "every derived record decodes");
            let news = self.now.reader.accept(&derived.origin)?;
            if !news {
                self.repeats += 1;
            }
            if news || Rule::StrictReader.is_out() {
                self.accepted.push(Accepted {
                    key: entry.key.clone(),
                    value: entry.value.clone(),
                    derived,
                });
            }
        }
        self.now.next = next;
        self.now.accepted = self.accepted.len();
        Ok(())
    }

    /// Saves its place, or crashes and goes on from the place it saved.
    pub(crate) fn disturb(&mut self, chance: &mut Prng) {
        if chance.percent(60) {
            self.saved = self.now.clone();
        } else {
            self.now = self.saved.clone();
            self.accepted.truncate(self.now.accepted);
        }
    }

    /// Whether everything has been read.
    pub(crate) fn is_at_end(&self, log: &dyn EventLog) -> Result<bool, LogError> {
        Ok(wait(log.bounds(self.topic, self.partition))?.end <= self.now.next)
    }
}
