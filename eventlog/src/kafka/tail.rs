//! The newest records of every partition that somebody follows: fetched once, by one client, for all who read.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use rdkafka::consumer::Consumer;
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Headers as _, Message};
use rdkafka::topic_partition_list::TopicPartitionList;
use schemas::time::Timestamp;
use tokio::sync::watch;

use super::contact::{self, Reader};
use super::frames::SCHEMA;
use super::produce::APPENDED_AT;
use super::{Options, frames};
use crate::chunks::{Chunks, cost};
use crate::{Batch, Bounds, Entry, Limit, LogError, Offset, Partition, Topic};

/// How long the client waits for records before it looks for partitions to be followed.
const POLL: Duration = Duration::from_millis(20);
/// At most so many records are handed on at once.
const BURST: usize = 2048;

type At = (Topic, Partition);

/// A record of Kafka as ours.
pub(super) fn entry(message: &BorrowedMessage<'_>) -> Entry {
    let appended_at = carried(message).unwrap_or_else(|| {
        let millis = message.timestamp().to_millis().unwrap_or(0);
        Timestamp(millis * 1000)
    });
    let schema = message.headers().and_then(|headers| {
        let mut headers = headers.iter();
        headers.find(|header| header.key == SCHEMA)?.value
    });
    let value = message.payload().map(|value| frames::inward(value.to_vec(), schema));
    Entry {
        offset: message.offset(),
        appended_at,
        key: message.key().map_or_else(Bytes::new, Bytes::copy_from_slice),
        value: value.map_or_else(Bytes::new, Bytes::from),
    }
}

/// When it was first appended, where it was carried here from another log.
fn carried(message: &BorrowedMessage<'_>) -> Option<Timestamp> {
    let header = message.headers()?.iter().find(|header| header.key == APPENDED_AT)?;
    let digits = std::str::from_utf8(header.value?).ok()?;
    digits.parse().ok().map(Timestamp)
}

/// One partition.
#[derive(Debug)]
pub(super) struct Tail {
    at: At,
    newest: Mutex<Newest>,
    end: watch::Sender<Offset>,
    /// One past the last record that this process has appended here: it is there, though it may not have come back yet.
    appended: AtomicI64,
    /// The first offset there is, as far as is known.
    start: AtomicI64,
}

#[derive(Debug)]
struct Newest {
    chunks: Chunks,
    /// What they cost in memory.
    cost: usize,
}

impl Tail {
    fn new(at: At, bounds: Bounds) -> Self {
        Self {
            at,
            newest: Mutex::new(Newest {
                chunks: Chunks::new(at.0, at.1, Some(bounds.end)),
                cost: 0,
            }),
            end: watch::channel(bounds.end).0,
            appended: AtomicI64::new(0),
            start: AtomicI64::new(bounds.start),
        }
    }

    fn newest(&self) -> MutexGuard<'_, Newest> {
        self.newest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in what has come; what is older goes where all costs more than `limit`.
    fn take(&self, entries: Vec<Entry>, limit: usize) {
        let Some(last) = entries.last().map(|entry| entry.offset) else {
            return;
        };
        let mut newest = self.newest();
        newest.cost += cost(&entries);
        newest.chunks.push(entries);
        let over = newest.cost.saturating_sub(limit);
        newest.chunks.evict(over);
        newest.cost -= over;
        // Under the lock: whoever is given these records may go on from their end, however soon.
        self.end.send_replace(last + 1);
    }

    /// This process has appended up to here.
    pub(super) fn appended(&self, end: Offset) {
        self.appended.fetch_max(end, Ordering::AcqRel);
    }

    /// What the brokers say there is.
    pub(super) fn know(&self, bounds: Bounds) {
        self.start.fetch_max(bounds.start, Ordering::AcqRel);
        self.appended(bounds.end);
    }

    /// One past the last record that is known to be there.
    pub(super) fn end_known(&self) -> Offset {
        (*self.end.borrow()).max(self.appended.load(Ordering::Acquire))
    }

    /// Whether an offset is one of the partition, as far as is known.
    pub(super) fn may_hold(&self, asked: Offset) -> bool {
        (self.start.load(Ordering::Acquire)..=self.end_known()).contains(&asked)
    }

    /// Records from an offset on, none where there are none yet; `None` where they are not in memory.
    pub(super) async fn read(
        &self,
        from: Offset,
        limit: Limit,
        patience: Duration,
    ) -> Result<Option<Arc<Batch>>, LogError> {
        if *self.end.borrow() <= from && from < self.end_known() {
            // It is there, and on its way to us.
            let mut end = self.end.subscribe();
            let came = tokio::time::timeout(patience, end.wait_for(|end| *end > from)).await;
            if !matches!(came, Ok(Ok(_))) {
                let (topic, partition) = (self.at.0.name(), self.at.1);
                return Err(LogError::Unavailable(format!(
                    "{topic}/{partition} is not delivered from {from} on"
                )));
            }
        }
        let mut newest = self.newest();
        if !newest.chunks.holds(from) {
            return Ok(None);
        }
        let found = newest.chunks.read(from, limit);
        Ok(Some(found.unwrap_or_else(|| {
            Arc::new(Batch::new(self.at.0, self.at.1, Vec::new()))
        })))
    }

    /// Waits for a record at or after an offset.
    pub(super) async fn wait(&self, from: Offset) -> Result<(), LogError> {
        let mut end = self.end.subscribe();
        let gone = |_| LogError::Unavailable("the log is closed".to_owned());
        end.wait_for(|end| *end > from).await.map(drop).map_err(gone)
    }
}

/// All partitions that are followed.
pub(super) struct Tails {
    shared: Arc<Shared>,
    follow: Mutex<Sender<(At, Offset)>>,
}

struct Shared {
    tails: Mutex<HashMap<At, Arc<Tail>>>,
    names: HashMap<String, Topic>,
    tail_bytes: usize,
    closed: AtomicBool,
}

impl Tails {
    pub(super) fn start(options: &Options) -> Result<Self, LogError> {
        let consumer = contact::reader(options, options.consumer())?;
        let shared = Arc::new(Shared {
            tails: Mutex::default(),
            names: Topic::ALL
                .into_iter()
                .map(|topic| (options.topic(topic), topic))
                .collect(),
            tail_bytes: options.tail_bytes,
            closed: AtomicBool::new(false),
        });
        let (follow, asked) = channel();
        let names = Topic::ALL.map(|topic| (topic, options.topic(topic)));
        let theirs = Arc::clone(&shared);
        std::thread::Builder::new()
            .name("kafka-tails".to_owned())
            .spawn(move || run(&theirs, &consumer, &asked, &names.into_iter().collect()))
            .map_err(|e| LogError::Unavailable(e.to_string()))?;
        Ok(Self {
            shared,
            follow: Mutex::new(follow),
        })
    }

    pub(super) fn get(&self, topic: Topic, partition: Partition) -> Option<Arc<Tail>> {
        let tails = self.shared.tails.lock().unwrap_or_else(PoisonError::into_inner);
        tails.get(&(topic, partition)).cloned()
    }

    /// Follows a partition from its present end on.
    pub(super) fn follow(&self, topic: Topic, partition: Partition, bounds: Bounds) -> Arc<Tail> {
        let at = (topic, partition);
        let mut tails = self.shared.tails.lock().unwrap_or_else(PoisonError::into_inner);
        let tail = tails.entry(at).or_insert_with(|| {
            let follow = self.follow.lock().unwrap_or_else(PoisonError::into_inner);
            // Where the thread is gone nobody waits for it: the log is being closed.
            let _ = follow.send((at, bounds.end));
            Arc::new(Tail::new(at, bounds))
        });
        Arc::clone(tail)
    }
}

impl Drop for Tails {
    fn drop(&mut self) {
        self.shared.closed.store(true, Ordering::Release);
    }
}

fn run(shared: &Shared, consumer: &Reader, asked: &Receiver<(At, Offset)>, names: &HashMap<Topic, String>) {
    let mut waiting: Vec<(At, Offset)> = Vec::new();
    while !shared.closed.load(Ordering::Acquire) {
        waiting.extend(asked.try_iter());
        waiting.retain(|(at, from)| {
            let followed = assign(consumer, &names[&at.0], at.1, *from);
            if let Err(error) = &followed {
                tracing::warn!(topic = names[&at.0], partition = at.1, %error, "cannot be followed yet");
            }
            followed.is_err()
        });
        burst(shared, consumer);
    }
}

fn assign(consumer: &Reader, topic: &str, partition: Partition, from: Offset) -> Result<(), KafkaError> {
    let mut more = TopicPartitionList::new();
    more.add_partition_offset(topic, i32::from(partition), rdkafka::Offset::Offset(from))?;
    consumer.incremental_assign(&more)
}

/// Hands on what has come, a piece per partition.
fn burst(shared: &Shared, consumer: &Reader) {
    let mut come: HashMap<At, Vec<Entry>> = HashMap::new();
    let (mut patience, mut records) = (POLL, 0);
    while records < BURST {
        match consumer.poll(patience) {
            None => break,
            Some(Ok(message)) => {
                if let (Some(topic), Ok(partition)) = (
                    shared.names.get(message.topic()),
                    Partition::try_from(message.partition()),
                ) {
                    come.entry((*topic, partition)).or_default().push(entry(&message));
                }
                (patience, records) = (Duration::ZERO, records + 1);
            }
            // What is wrong was told by the client, with its reason, and may be told without a pause.
            Some(Err(_)) => patience = Duration::ZERO,
        }
    }
    for (at, entries) in come {
        let tail = shared
            .tails
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&at)
            .cloned();
        if let Some(tail) = tail {
            tail.take(entries, shared.tail_bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(offsets: std::ops::Range<Offset>) -> Vec<Entry> {
        let entry = |offset| Entry {
            offset,
            appended_at: Timestamp(0),
            key: Bytes::new(),
            value: Bytes::from_static(&[0; 10]),
        };
        offsets.map(entry).collect()
    }

    #[tokio::test]
    async fn what_has_just_come_is_in_memory_and_older_records_make_room() {
        let tail = Tail::new((Topic::Journal, 0), Bounds { start: 0, end: 5 });
        for offsets in [5..8, 8..10, 10..14] {
            tail.take(piece(offsets), cost(&piece(8..14)));
        }
        let read = async |from| tail.read(from, Limit::default(), POLL).await.unwrap_or_default();
        let offsets = |batch: Option<Arc<Batch>>| {
            batch.map(|batch| batch.entries().iter().map(|entry| entry.offset).collect::<Vec<_>>())
        };
        assert_eq!(offsets(read(7).await), None, "gone from memory");
        assert_eq!(offsets(read(8).await), Some((8..14).collect()));
        assert_eq!(offsets(read(10).await), Some((10..14).collect()));
        assert_eq!(offsets(read(14).await), Some(vec![]));
        let (one, two) = (read(8).await, read(8).await);
        assert!(
            one.zip(two).is_some_and(|(one, two)| Arc::ptr_eq(&one, &two)),
            "decoded once"
        );
        tail.appended(20);
        assert!(
            tail.read(14, Limit::default(), Duration::ZERO).await.is_err(),
            "it must come"
        );
        assert!(tail.may_hold(20) && !tail.may_hold(21) && !tail.may_hold(-1));
    }
}
