//! How far the log is, and how far processors have come with it, asked of Kafka itself.

use std::sync::Arc;

use eventlog::kafka::{Kafka, Options};
use eventlog::{EventLog, LogError, Partition, Topic};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use crate::Result;

/// Topics whose records are counted as conclusions: those that the embedded program's metrics count as well.
const CONCLUSIONS: [Topic; 3] = [Topic::Windows, Topic::Alerts, Topic::Devices];

/// A log that is looked at.
#[derive(Debug)]
pub struct Watch {
    runtime: Runtime,
    log: Arc<Kafka>,
}

impl Watch {
    /// Opens it.
    ///
    /// # Errors
    /// Where it is not there.
    pub fn open(options: Options) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?;
        let log = runtime.block_on(Kafka::open(options))?;
        Ok(Self { runtime, log })
    }

    fn partitions(&self) -> std::ops::Range<Partition> {
        0..self.log.layout().partitions
    }

    /// Records of topics, of all their partitions.
    fn records(&self, topics: &[Topic]) -> Result<u64> {
        let mut asking: JoinSet<std::result::Result<i64, LogError>> = JoinSet::new();
        for topic in topics {
            for partition in self.partitions() {
                let (log, topic) = (Arc::clone(&self.log), *topic);
                let ask = async move { Ok(log.bounds(topic, partition).await?.end) };
                asking.spawn_on(ask, self.runtime.handle());
            }
        }
        let ends: Vec<i64> = self
            .runtime
            .block_on(asking.join_all())
            .into_iter()
            .collect::<std::result::Result<_, _>>()?;
        Ok(u64::try_from(ends.iter().sum::<i64>())?)
    }

    /// Records of the journal.
    ///
    /// # Errors
    /// Where Kafka does not answer.
    pub fn durable(&self) -> Result<u64> {
        self.records(&[Topic::Journal])
    }

    /// Conclusions, repeats included.
    ///
    /// # Errors
    /// Where Kafka does not answer.
    pub fn concluded(&self) -> Result<u64> {
        self.records(&CONCLUSIONS)
    }

    /// Records of the journal that every processor has handled, as they tell each other.
    ///
    /// # Errors
    /// Where the log is closed.
    pub fn evaluated(&self) -> Result<u64> {
        let mut sum = 0;
        for partition in self.partitions() {
            let mut slowest = i64::MAX;
            for topic in Topic::ALL.into_iter().filter(|topic| topic.is_derived()) {
                let reached = self.runtime.block_on(self.log.reached(topic, partition))?;
                slowest = slowest.min(reached.journal);
            }
            sum += slowest;
        }
        Ok(u64::try_from(sum)?)
    }
}
