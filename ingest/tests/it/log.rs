//! A log in memory whose appends can be held back or made to fail.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use eventlog::{
    Append, Batch, Bounds, Clock, Entry, EventLog, Layout, Limit, LogError, ManualClock, Offset, Partition, Reached,
    Topic, Workspace,
};
use ingest::{Clocks, Intake, Limits};
use schemas::codec::{self, Catalogue};
use schemas::ids::EventId;
use schemas::journal::Envelope;
use schemas::policy::Policy;
use schemas::refused::Rejection;
use schemas::time::{Span, Timestamp};
use tokio::sync::{Semaphore, watch};

pub(crate) const PARTITIONS: u16 = 4;

/// 2026-01-05T08:00:00Z.
pub(crate) const NOW: Timestamp = Timestamp(1_767_600_000_000_000);

#[derive(Debug)]
pub(crate) struct MemoryLog {
    topics: Mutex<HashMap<(Topic, Partition), Vec<Entry>>>,
    /// An append waits for a permit.
    pub(crate) gate: Semaphore,
    pub(crate) error: Mutex<Option<LogError>>,
    /// What the log's own clock shows.
    pub(crate) appended_at: AtomicI64,
    /// By how much the clocks of some partitions' leaders are ahead of it.
    pub(crate) leaders: Mutex<HashMap<Partition, Span>>,
    /// Whose leaders do not answer who reads.
    pub(crate) away: Mutex<HashSet<Partition>>,
    pub(crate) appends: AtomicUsize,
    /// The largest record of the journal that it takes.
    pub(crate) largest: AtomicUsize,
}

impl MemoryLog {
    pub(crate) fn open() -> Arc<Self> {
        Arc::new(Self {
            topics: Mutex::default(),
            gate: Semaphore::new(Semaphore::MAX_PERMITS),
            error: Mutex::default(),
            appended_at: AtomicI64::new(NOW.0),
            leaders: Mutex::default(),
            away: Mutex::default(),
            appends: AtomicUsize::new(0),
            largest: AtomicUsize::new(usize::MAX),
        })
    }

    /// A log that takes nothing before it gets a permit.
    pub(crate) fn held() -> Arc<Self> {
        let log = Self::open();
        log.gate.forget_permits(Semaphore::MAX_PERMITS);
        log
    }

    fn entries(&self, topic: Topic) -> Vec<Entry> {
        let topics = self.topics.lock().unwrap();
        (0..PARTITIONS)
            .flat_map(|p| topics.get(&(topic, p)).cloned().unwrap_or_default())
            .collect()
    }

    pub(crate) fn journal(&self) -> Vec<Envelope> {
        let catalogue = Catalogue::builtin();
        self.entries(Topic::Journal)
            .iter()
            .map(|e| codec::decode(&e.value, &catalogue).unwrap())
            .collect()
    }

    pub(crate) fn rejected(&self) -> Vec<Rejection> {
        let catalogue = Catalogue::builtin();
        let decode = |e: &Entry| codec::decode_plain(&e.value, &catalogue).unwrap().unwrap();
        self.entries(Topic::Rejected).iter().map(decode).collect()
    }
}

#[async_trait]
impl EventLog for MemoryLog {
    fn layout(&self) -> Layout {
        Layout {
            partitions: PARTITIONS,
            incarnation: EventId([7; 16]),
        }
    }

    async fn append(&self, topic: Topic, records: Vec<Append>) -> Result<Vec<Offset>, LogError> {
        self.appends.fetch_add(1, Ordering::SeqCst);
        self.gate.acquire().await.unwrap().forget();
        if let Some(error) = self.error.lock().unwrap().clone() {
            return Err(error);
        }
        let limit = self.largest.load(Ordering::SeqCst);
        if let Some(larger) = records
            .iter()
            .find(|record| topic == Topic::Journal && record.value.len() > limit)
        {
            let bytes = larger.value.len();
            return Err(LogError::TooLarge { bytes, limit });
        }
        let appended_at = Timestamp(self.appended_at.load(Ordering::SeqCst));
        let leaders = self.leaders.lock().unwrap();
        let mut topics = self.topics.lock().unwrap();
        let append = |record: Append| {
            let appended_at = appended_at + leaders.get(&record.partition).copied().unwrap_or(Span::ZERO);
            let entries = topics.entry((topic, record.partition)).or_default();
            let offset = entries.len() as Offset;
            entries.push(Entry {
                offset,
                appended_at,
                key: record.key,
                value: record.value,
            });
            offset
        };
        Ok(records.into_iter().map(append).collect())
    }

    async fn read(
        &self,
        topic: Topic,
        partition: Partition,
        from: Offset,
        limit: Limit,
    ) -> Result<Arc<Batch>, LogError> {
        if self.away.lock().unwrap().contains(&partition) {
            std::future::pending::<()>().await;
        }
        let topics = self.topics.lock().unwrap();
        let entries = topics.get(&(topic, partition)).map_or(&[][..], Vec::as_slice);
        let read = entries
            .iter()
            .skip(from as usize)
            .take(limit.records)
            .cloned()
            .collect();
        Ok(Arc::new(Batch::new(topic, partition, read)))
    }

    async fn bounds(&self, topic: Topic, partition: Partition) -> Result<Bounds, LogError> {
        let topics = self.topics.lock().unwrap();
        Ok(Bounds {
            start: 0,
            end: topics.get(&(topic, partition)).map_or(0, |e| e.len() as Offset),
        })
    }

    async fn wait(&self, _: Topic, _: Partition, _: Offset) -> Result<(), LogError> {
        panic!("no door waits")
    }
    async fn offset_at(&self, _: Topic, _: Partition, _: Timestamp) -> Result<Offset, LogError> {
        panic!("no door asks")
    }
    async fn claim(&self, _: &str, _: Topic, _: Partition) -> Result<Box<dyn Workspace>, LogError> {
        panic!("no door claims")
    }
    async fn reached(&self, _: Topic, _: Partition) -> Result<Reached, LogError> {
        panic!("no door asks")
    }
}

pub(crate) fn intake(log: &Arc<MemoryLog>, limits: Limits) -> Arc<Intake> {
    intake_by(log, limits, (Arc::new(ManualClock::at(NOW)), Arc::default()))
}

/// An intake that goes by this clock, as long as it can be gone by.
pub(crate) fn intake_by(log: &Arc<MemoryLog>, limits: Limits, clocks: (Arc<dyn Clock>, Arc<Clocks>)) -> Arc<Intake> {
    let (_, policy) = watch::channel(Arc::new(Policy::standard()));
    let log: Arc<dyn EventLog> = Arc::<MemoryLog>::clone(log);
    Intake::learning(log, clocks, policy, Arc::default(), limits, Arc::default())
}
