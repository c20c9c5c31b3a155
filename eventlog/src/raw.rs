//! Records of topics that others fill, as a home hands them out: partition by partition, in order, and marked as done once
//! what became of them is durable.
//!
//! A [`Lane`] is one partition while it is ours. Whoever fetches for it holds its [`Feed`]: it never waits, sees when
//! there is enough ahead, and is told how far everything is durable.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use schemas::ids::EventId;
use schemas::time::Timestamp;
use smol_str::SmolStr;
use tokio::sync::Notify;

use crate::{Limit, Offset};

/// A record that somebody else wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawRecord {
    /// Its place in its partition.
    pub offset: Offset,
    /// When its topic took it, or its writer made it (the topic's setting says which); `None` where nobody says.
    pub at: Option<Timestamp>,
    /// Its key, where it has one.
    pub key: Option<Bytes>,
    /// Its value, where it has one.
    pub value: Option<Bytes>,
    /// Its headers.
    pub headers: Vec<(SmolStr, Bytes)>,
}

impl RawRecord {
    /// The last header of this name, which is the one that counts in Kafka.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&Bytes> {
        self.headers
            .iter()
            .rev()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value)
    }

    fn size(&self) -> usize {
        let of = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len);
        let headers = self.headers.iter().map(|(name, value)| name.len() + value.len());
        64 + of(&self.key) + of(&self.value) + headers.sum::<usize>()
    }
}

/// One partition of a topic that others fill, while it is ours.
#[derive(Debug)]
pub struct Lane {
    /// The topic.
    pub topic: SmolStr,
    /// The partition.
    pub partition: i32,
    /// Which life of the topic this is: one that is made again under the same name is another.
    pub incarnation: EventId,
    /// Records that were gone before we had come to them.
    pub lost: i64,
    shared: Arc<Shared>,
}

/// Where a lane's records are put by whoever fetches them.
#[derive(Debug)]
pub struct Feed(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    ahead: Mutex<Ahead>,
    came: Notify,
    /// One past the last record that was taken.
    taken: AtomicI64,
    /// One past the last record of which everything is durable.
    done: AtomicI64,
}

#[derive(Debug, Default)]
struct Ahead {
    records: VecDeque<RawRecord>,
    bytes: usize,
    closed: bool,
}

impl Shared {
    fn ahead(&self) -> MutexGuard<'_, Ahead> {
        self.ahead.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A lane and its feed. `lost` says how many records were gone before we came to them.
#[must_use]
pub fn lane(topic: &str, partition: i32, incarnation: EventId, lost: i64) -> (Feed, Lane) {
    let shared = Arc::new(Shared {
        ahead: Mutex::default(),
        came: Notify::new(),
        taken: AtomicI64::new(-1),
        done: AtomicI64::new(-1),
    });
    let lane = Lane {
        topic: SmolStr::new(topic),
        partition,
        incarnation,
        lost,
        shared: Arc::clone(&shared),
    };
    (Feed(shared), lane)
}

impl Lane {
    /// The next records, in order, one at least. `None` once the lane is not ours any more; what was ahead is then
    /// somebody else's.
    pub async fn next(&self, limit: Limit) -> Option<Vec<RawRecord>> {
        loop {
            let came = self.shared.came.notified();
            {
                let mut ahead = self.shared.ahead();
                if ahead.closed {
                    return None;
                }
                let (mut bytes, mut count) = (0, 0);
                for record in &ahead.records {
                    bytes += record.size();
                    if count > 0 && (count >= limit.records || bytes > limit.bytes) {
                        break;
                    }
                    count += 1;
                }
                if count > 0 {
                    let taken: Vec<RawRecord> = ahead.records.drain(..count).collect();
                    ahead.bytes -= taken.iter().map(RawRecord::size).sum::<usize>();
                    if let Some(last) = taken.last() {
                        self.shared.taken.store(last.offset + 1, Ordering::Release);
                    }
                    return Some(taken);
                }
            }
            came.await;
        }
    }

    /// What became of every record before this offset is durable.
    pub fn done(&self, next: Offset) {
        self.shared.done.fetch_max(next, Ordering::AcqRel);
    }
}

impl Feed {
    /// Puts the next record.
    pub fn put(&self, record: RawRecord) {
        let mut ahead = self.0.ahead();
        ahead.bytes += record.size();
        ahead.records.push_back(record);
        drop(ahead);
        self.0.came.notify_one();
    }

    /// Bytes that are ahead of who takes them.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.0.ahead().bytes
    }

    /// How far everything is durable: one past the last such record, `None` where there is none yet.
    #[must_use]
    pub fn done(&self) -> Option<Offset> {
        Some(self.0.done.load(Ordering::Acquire)).filter(|done| *done >= 0)
    }

    /// Whether nothing was taken of which not everything is durable.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.0.done.load(Ordering::Acquire) >= self.0.taken.load(Ordering::Acquire)
    }

    /// Ends the lane: nothing more is taken from it.
    pub fn close(&self) {
        self.0.ahead().closed = true;
        self.0.came.notify_one();
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(offset: Offset, bytes: usize) -> RawRecord {
        RawRecord {
            offset,
            at: None,
            key: None,
            value: Some(Bytes::from(vec![0; bytes])),
            headers: Vec::new(),
        }
    }

    #[tokio::test]
    async fn records_come_in_order_within_the_limit_and_none_after_the_lane_was_taken_away() {
        let (feed, lane) = lane("t", 0, EventId([7; 16]), 0);
        for (offset, bytes) in [(3, 10), (4, 10), (7, 900), (8, 10)] {
            feed.put(record(offset, bytes));
        }
        let mut seen = Vec::new();
        let limit = Limit {
            records: 10,
            bytes: 500,
        };
        for _ in 0..3 {
            let taken = lane.next(limit).await.unwrap();
            seen.push(taken.iter().map(|r| r.offset).collect::<Vec<_>>());
        }
        assert_eq!(seen, [vec![3, 4], vec![7], vec![8]]);
        assert_eq!((feed.bytes(), feed.done(), feed.is_settled()), (0, None, false));
        lane.done(8);
        assert_eq!((feed.done(), feed.is_settled()), (Some(8), false));
        lane.done(9);
        assert!(feed.is_settled());
        feed.put(record(9, 1));
        let waiting = tokio::spawn(async move {
            let first = lane.next(limit).await.map(|taken| taken.len());
            (first, lane.next(limit).await)
        });
        while feed.bytes() > 0 {
            tokio::task::yield_now().await;
        }
        drop(feed);
        assert_eq!(waiting.await.unwrap(), (Some(1), None));
    }

    #[test]
    fn of_two_headers_of_one_name_the_last_counts() {
        let mut record = record(0, 0);
        record.headers = [("a", "1"), ("b", "2"), ("a", "3")]
            .map(|(name, value)| (name.into(), Bytes::from(value)))
            .to_vec();
        assert_eq!(record.header("a").map(|v| &v[..]), Some(&b"3"[..]));
        assert_eq!(record.header("c"), None);
    }
}
