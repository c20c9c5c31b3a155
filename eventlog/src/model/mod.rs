//! A log in memory that behaves like Kafka at its worst, from a seed.
//!
//! Outputs, states and positions are separate durable writes. An owner may crash between any two of them, and what it
//! had still to write may reach the log later, beside its successor's; a stale owner is not fenced. State topics are
//! compacted at any moment. An append may fail and be there all the same, or be there twice. What keeps all this
//! harmless is the origin rule; [`Rules`] takes parts of it away so that a simulation can show that each is needed.
//!
//! Every method completes at once; the same seed and the same calls give the same run.

mod cluster;
mod place;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use schemas::time::Timestamp;
use tokio::sync::watch;

use cluster::Cluster;
use place::Place;

use crate::{
    Append, Batch, Bounds, Clock, EventLog, Layout, Limit, LogError, Offset, Partition, Reached, Topic, Workspace,
};

/// The largest record the model takes, in bytes.
const MAX_RECORD_BYTES: usize = 1_000_000;

/// The parts of the origin rule, each of which can be left out. The first five are kept by the home, the last three by
/// who uses it: a simulation looks at them there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a rule of its own")]
pub struct Rules {
    /// Checkpoints of different writers do not overwrite each other.
    pub writer_in_key: bool,
    /// Restore takes the greatest applied offset and the greatest position, not what was written last.
    pub greatest_applied: bool,
    /// Outputs are durable before states.
    pub outputs_first: bool,
    /// States are durable before the position.
    pub states_first: bool,
    /// One owner's outputs reach the log in origin order.
    pub in_order: bool,
    /// A key skips what its restored state has applied.
    pub skip_applied: bool,
    /// An origin is (offset, key, n), not (offset, count of outputs).
    pub key_in_origin: bool,
    /// A reader accepts only a greater origin.
    pub strict_reader: bool,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            writer_in_key: true,
            greatest_applied: true,
            outputs_first: true,
            states_first: true,
            in_order: true,
            skip_applied: true,
            key_in_origin: true,
            strict_reader: true,
        }
    }
}

/// How often what goes wrong, in percent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Faults {
    /// An append fails; half of the time it is there all the same.
    pub append_fails: u8,
    /// An append is there twice, by a retry below us.
    pub append_twice: u8,
    /// An offset is left out before a record.
    pub gap: u8,
    /// An owner crashes before a write of its commit; half of the time what is left comes late.
    pub crash: u8,
    /// With every call: one late write reaches the log.
    pub late: u8,
    /// With every call: a state topic is compacted.
    pub compaction: u8,
}

impl Faults {
    /// All of them, often.
    #[must_use]
    pub const fn harsh() -> Self {
        Self {
            append_fails: 10,
            append_twice: 10,
            gap: 0,
            crash: 15,
            late: 30,
            compaction: 20,
        }
    }
}

/// The log. Clones are handles to the same one.
#[derive(Debug, Clone)]
pub struct Model(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    cluster: Mutex<Cluster>,
    layout: Layout,
    clock: Arc<dyn Clock>,
    /// Told whenever anything was written.
    written: watch::Sender<u64>,
}

impl Model {
    /// An empty log of `layout` under `rules`, with `faults` chosen by `seed`.
    #[must_use]
    pub fn new(layout: Layout, seed: u64, rules: Rules, faults: Faults, clock: Arc<dyn Clock>) -> Self {
        Self(Arc::new(Inner {
            cluster: Mutex::new(Cluster::new(seed, rules, faults)),
            layout,
            clock,
            written: watch::channel(0).0,
        }))
    }

    /// No more faults from here on: what was late stays away.
    pub fn calm(&self) {
        self.cluster().calm();
    }

    /// The processes that used it are gone; what is durable stays, and what they had on the way may still come.
    pub fn restart(&self) {
        self.cluster().forget();
    }

    fn cluster(&self) -> MutexGuard<'_, Cluster> {
        self.0.cluster.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A moment passes: something late may come, something may be compacted.
    fn tick(&self) -> MutexGuard<'_, Cluster> {
        let mut cluster = self.cluster();
        cluster.tick(self.0.clock.now());
        self.0.written.send_modify(|n| *n += 1);
        cluster
    }

    fn in_range(cluster: &Cluster, topic: Topic, partition: Partition, asked: Offset) -> Result<Bounds, LogError> {
        let bounds = cluster.bounds(topic, partition);
        if (bounds.start..=bounds.end).contains(&asked) {
            return Ok(bounds);
        }
        Err(LogError::OutOfRange {
            topic,
            partition,
            asked,
            bounds,
        })
    }
}

fn check_size(key: &[u8], value: &[u8]) -> Result<(), LogError> {
    let bytes = key.len() + value.len();
    if bytes > MAX_RECORD_BYTES {
        return Err(LogError::TooLarge {
            bytes,
            limit: MAX_RECORD_BYTES,
        });
    }
    Ok(())
}

#[async_trait]
impl EventLog for Model {
    fn layout(&self) -> Layout {
        self.0.layout
    }

    async fn append(&self, topic: Topic, records: Vec<Append>) -> Result<Vec<Offset>, LogError> {
        topic.check_append()?;
        for record in &records {
            self.0.layout.check(topic, record.partition)?;
            check_size(&record.key, &record.value)?;
        }
        let now = self.0.clock.now();
        let done = self.tick().append(topic, &records, now);
        self.0.written.send_modify(|n| *n += 1);
        done
    }

    async fn read(
        &self,
        topic: Topic,
        partition: Partition,
        from: Offset,
        limit: Limit,
    ) -> Result<Arc<Batch>, LogError> {
        self.0.layout.check(topic, partition)?;
        let cluster = self.tick();
        Self::in_range(&cluster, topic, partition, from)?;
        let entries = cluster.read(topic, partition, from, limit);
        Ok(Arc::new(Batch::new(topic, partition, entries)))
    }

    async fn wait(&self, topic: Topic, partition: Partition, from: Offset) -> Result<(), LogError> {
        self.0.layout.check(topic, partition)?;
        let mut written = self.0.written.subscribe();
        loop {
            let bounds = Self::in_range(&self.cluster(), topic, partition, from)?;
            if bounds.end > from {
                return Ok(());
            }
            let gone = |_| LogError::Unavailable("the log is gone".to_owned());
            written.changed().await.map_err(gone)?;
        }
    }

    async fn bounds(&self, topic: Topic, partition: Partition) -> Result<Bounds, LogError> {
        self.0.layout.check(topic, partition)?;
        Ok(self.cluster().bounds(topic, partition))
    }

    async fn offset_at(&self, topic: Topic, partition: Partition, at: Timestamp) -> Result<Offset, LogError> {
        self.0.layout.check(topic, partition)?;
        Ok(self.cluster().first_since(topic, partition, at))
    }

    async fn claim(
        &self,
        processor: &str,
        output: Topic,
        partition: Partition,
    ) -> Result<Box<dyn Workspace>, LogError> {
        self.0.layout.check(output, partition)?;
        output.check_claim(processor)?;
        let mut cluster = self.tick();
        let claimed = cluster.claim(processor, output, partition);
        Self::in_range(&cluster, Topic::Journal, partition, claimed.position)?;
        drop(cluster);
        Ok(Box::new(Place::new(
            self.clone(),
            (processor, output, partition),
            claimed,
        )))
    }

    async fn reached(&self, output: Topic, partition: Partition) -> Result<Reached, LogError> {
        self.0.layout.check(output, partition)?;
        Ok(self.cluster().reached(output, partition))
    }
}
