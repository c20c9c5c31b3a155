//! The newest records of a partition in memory, cut so that readers who keep up share the same batches.
//!
//! What becomes readable at once is a chunk. What nobody has read yet is joined when the first reader comes, and then
//! handed to everyone who asks from the same offset: decoded once. A reader far behind many small chunks gets them joined,
//! so that one who pauses after each is not left behind by them.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::{Batch, Entry, Limit, Offset, Partition, Topic};

/// What a record costs in memory beside its bytes: the entry and the decoded fact.
const OVERHEAD: usize = 512;
/// A chunk is joined with others up to this size.
const JOINED: Limit = Limit {
    records: 4096,
    bytes: 1 << 20,
};
/// So many chunks that others have read already are joined for a reader who is behind.
const BEHIND: usize = 8;

/// The bytes of a record.
pub(crate) fn size(entry: &Entry) -> usize {
    entry.key.len() + entry.value.len()
}

/// What `entries` cost in memory.
pub(crate) fn cost(entries: &[Entry]) -> usize {
    entries.iter().map(|entry| size(entry) + OVERHEAD).sum()
}

#[derive(Debug)]
struct Chunk {
    base: Offset,
    next: Offset,
    batch: Arc<Batch>,
    cost: usize,
    /// Somebody has it: joining it with what follows would have it decoded again.
    read: bool,
}

/// The newest records of one partition: chunks in their order, the newest last.
#[derive(Debug)]
pub(crate) struct Chunks {
    topic: Topic,
    partition: Partition,
    /// Everything from here on is in memory; nothing is known where it is `None`.
    start: Option<Offset>,
    chunks: VecDeque<Chunk>,
    evicted: usize,
}

impl Chunks {
    /// None yet; `start`: what will come begins there, if not with the first chunk.
    pub(crate) const fn new(topic: Topic, partition: Partition, start: Option<Offset>) -> Self {
        Self {
            topic,
            partition,
            start,
            chunks: VecDeque::new(),
            evicted: 0,
        }
    }

    fn batch(&self, entries: Vec<Entry>) -> Arc<Batch> {
        Arc::new(Batch::new(self.topic, self.partition, entries))
    }

    fn chunk(&self, entries: Vec<Entry>, cost: usize) -> Option<Chunk> {
        Some(Chunk {
            base: entries.first()?.offset,
            next: entries.last()?.offset + 1,
            batch: self.batch(entries),
            cost,
            read: false,
        })
    }

    /// Adds what has just become readable.
    pub(crate) fn push(&mut self, entries: Vec<Entry>) {
        let cost = cost(&entries);
        if let Some(chunk) = self.chunk(entries, cost) {
            self.start.get_or_insert(chunk.base);
            self.chunks.push_back(chunk);
        }
    }

    /// Lets go of the oldest chunks worth `cost`, sooner or later.
    pub(crate) fn evict(&mut self, cost: usize) {
        self.evicted += cost;
        while let Some(front) = self.chunks.front().filter(|chunk| chunk.cost <= self.evicted) {
            self.evicted -= front.cost;
            self.start = Some(front.next);
            self.chunks.pop_front();
        }
    }

    /// Whether records from `from` on would be in memory, whether there are any yet or not.
    pub(crate) fn holds(&self, from: Offset) -> bool {
        self.start.is_some_and(|start| start <= from)
    }

    /// Records from `from` on; `None` where they are not in memory, or there are none yet.
    pub(crate) fn read(&mut self, from: Offset, limit: Limit) -> Option<Arc<Batch>> {
        if !self.holds(from) {
            return None;
        }
        let at = self.chunks.partition_point(|chunk| chunk.next <= from);
        if self.chunks.get(at)?.base >= from {
            self.join(at);
        }
        let chunk = self.chunks.get_mut(at)?;
        let part = cut(&chunk.batch, from, limit);
        chunk.read |= Arc::ptr_eq(&part, &chunk.batch);
        Some(part)
    }

    /// Joins the chunk at `at` with those that follow.
    fn join(&mut self, at: usize) {
        if self.chunks[at].read && self.chunks.len() - at <= BEHIND {
            return;
        }
        let (mut records, mut bytes, mut until) = (0, 0, at);
        for chunk in self.chunks.range(at..) {
            records += chunk.batch.entries().len();
            bytes += chunk.cost;
            if until > at && (records > JOINED.records || bytes > JOINED.bytes) {
                break;
            }
            until += 1;
        }
        if until - at < 2 {
            return;
        }
        let mut entries = Vec::with_capacity(records);
        let mut cost = 0;
        for chunk in self.chunks.drain(at..until) {
            entries.extend_from_slice(chunk.batch.entries());
            cost += chunk.cost;
        }
        if let Some(joined) = self.chunk(entries, cost) {
            self.chunks.insert(at, joined);
        }
    }
}

/// The part of a batch that begins at `from`, within a limit; the batch itself where that is all of it.
pub(crate) fn cut(batch: &Arc<Batch>, from: Offset, limit: Limit) -> Arc<Batch> {
    let entries = batch.entries();
    let rest = &entries[entries.partition_point(|entry| entry.offset < from)..];
    let taken = fitting(rest, limit);
    if taken == entries.len() {
        return Arc::clone(batch);
    }
    Arc::new(Batch::new(batch.topic(), batch.partition(), rest[..taken].to_vec()))
}

/// How many of `entries` fit into `limit`: at least one.
pub(crate) fn fitting(entries: &[Entry], limit: Limit) -> usize {
    let mut bytes = 0;
    let within = entries.iter().take(limit.records).take_while(|entry| {
        bytes += size(entry);
        bytes <= limit.bytes
    });
    within.count().max(1).min(entries.len())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use schemas::time::Timestamp;

    use super::*;

    fn entries(offsets: std::ops::Range<Offset>) -> Vec<Entry> {
        offsets
            .map(|offset| Entry {
                offset,
                appended_at: Timestamp(0),
                key: Bytes::new(),
                value: Bytes::from_static(b"0123456789"),
            })
            .collect()
    }

    fn tail(chunks: &[(Offset, Offset)]) -> Chunks {
        let mut tail = Chunks::new(Topic::Journal, 0, None);
        for (from, until) in chunks {
            tail.push(entries(*from..*until));
        }
        tail
    }

    fn offsets(batch: &Batch) -> Vec<Offset> {
        batch.entries().iter().map(|e| e.offset).collect()
    }

    #[test]
    fn what_nobody_has_read_is_joined_and_then_shared() {
        let mut tail = tail(&[(0, 2), (2, 3), (3, 5)]);
        let first = tail.read(0, Limit::default()).unwrap();
        assert_eq!(offsets(&first), [0, 1, 2, 3, 4]);
        tail.push(entries(5..6));
        assert!(Arc::ptr_eq(&first, &tail.read(0, Limit::default()).unwrap()));
        assert_eq!(offsets(&tail.read(5, Limit::default()).unwrap()), [5]);
    }

    #[test]
    fn a_reader_far_behind_gets_small_chunks_joined() {
        let mut tail = tail(&[]);
        for offset in 0..20 {
            tail.push(entries(offset..offset + 1));
            tail.read(offset, Limit::default()).unwrap();
        }
        assert_eq!(offsets(&tail.read(15, Limit::default()).unwrap()), [15]);
        assert_eq!(tail.read(0, Limit::default()).unwrap().entries().len(), 20);
    }

    #[test]
    fn limits_hold_but_one_record_is_always_given() {
        let mut tail = tail(&[(0, 10)]);
        for (records, bytes, given) in [(3, 1000, 3), (10, 35, 3), (10, 1, 1), (0, 0, 1), (100, 1000, 10)] {
            assert_eq!(tail.read(0, Limit { records, bytes }).unwrap().entries().len(), given);
        }
        assert_eq!(offsets(&tail.read(7, Limit::default()).unwrap()), [7, 8, 9]);
    }

    #[test]
    fn what_was_let_go_is_not_in_memory() {
        let mut tail = tail(&[(0, 2), (2, 4)]);
        tail.evict(cost(&entries(0..2)) - 1);
        assert_eq!(tail.chunks.len(), 2);
        tail.evict(1);
        assert!(tail.read(1, Limit::default()).is_none());
        assert!(tail.read(4, Limit::default()).is_none());
        assert_eq!(offsets(&tail.read(2, Limit::default()).unwrap()), [2, 3]);
    }

    #[test]
    fn a_log_with_gaps_is_read_across_them() {
        let mut tail = Chunks::new(Topic::Control, 0, Some(3));
        assert!(tail.holds(3) && !tail.holds(2));
        for offsets in [5..7, 9..10, 12..13] {
            tail.push(entries(offsets));
        }
        assert_eq!(offsets(&tail.read(3, Limit::default()).unwrap()), [5, 6, 9, 12]);
        assert_eq!(offsets(&tail.read(8, Limit::default()).unwrap()), [9, 12]);
        assert!(tail.read(13, Limit::default()).is_none() && tail.holds(13));
    }
}
