//! A log that ends where it is told to: what came later is not there yet.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use eventlog::{
    Append, Batch, Bounds, EventLog, Layout, Limit, LogError, Offset, Partition, Reached, Topic, Workspace,
};
use schemas::time::Timestamp;

/// A log, read only, up to fixed ends.
#[derive(Debug)]
pub(super) struct Bounded {
    log: Arc<dyn EventLog>,
    ends: BTreeMap<(Topic, Partition), Offset>,
}

impl Bounded {
    /// `log` up to `ends`; partitions that are not named are empty.
    pub(super) fn new(log: Arc<dyn EventLog>, ends: BTreeMap<(Topic, Partition), Offset>) -> Self {
        Self { log, ends }
    }

    fn end(&self, topic: Topic, partition: Partition) -> Offset {
        self.ends.get(&(topic, partition)).copied().unwrap_or_default()
    }

    fn read_only() -> LogError {
        LogError::Misuse("this log is for reading".to_owned())
    }
}

#[async_trait]
impl EventLog for Bounded {
    fn layout(&self) -> Layout {
        self.log.layout()
    }

    async fn append(&self, _: Topic, _: Vec<Append>) -> Result<Vec<Offset>, LogError> {
        Err(Self::read_only())
    }

    async fn read(
        &self,
        topic: Topic,
        partition: Partition,
        from: Offset,
        limit: Limit,
    ) -> Result<Arc<Batch>, LogError> {
        let end = self.end(topic, partition);
        if from >= end {
            return Ok(Arc::new(Batch::new(topic, partition, Vec::new())));
        }
        let batch = self.log.read(topic, partition, from, limit).await?;
        let before = batch.entries().partition_point(|entry| entry.offset < end);
        if before == batch.entries().len() {
            return Ok(batch);
        }
        Ok(Arc::new(Batch::new(
            topic,
            partition,
            batch.entries()[..before].to_vec(),
        )))
    }

    async fn wait(&self, topic: Topic, partition: Partition, from: Offset) -> Result<(), LogError> {
        if from < self.end(topic, partition) {
            self.log.wait(topic, partition, from).await
        } else {
            std::future::pending().await
        }
    }

    async fn bounds(&self, topic: Topic, partition: Partition) -> Result<Bounds, LogError> {
        let bounds = self.log.bounds(topic, partition).await?;
        let end = self.end(topic, partition).clamp(bounds.start, bounds.end);
        Ok(Bounds { end, ..bounds })
    }

    async fn offset_at(&self, topic: Topic, partition: Partition, at: Timestamp) -> Result<Offset, LogError> {
        let offset = self.log.offset_at(topic, partition, at).await?;
        Ok(offset.min(self.end(topic, partition)))
    }

    async fn claim(&self, _: &str, _: Topic, _: Partition) -> Result<Box<dyn Workspace>, LogError> {
        Err(Self::read_only())
    }

    async fn reached(&self, output: Topic, partition: Partition) -> Result<Reached, LogError> {
        self.log.reached(output, partition).await
    }
}
