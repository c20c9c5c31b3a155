//! Reading: from memory where the records are new, from disk where they are not.

use std::sync::Arc;

use schemas::time::Timestamp;

use super::block::{self, Block};
use super::queue::closed;
use super::shared::{Log, Shared};
use super::storage::{Direction, Space};
use crate::chunks::{fitting, size};
use crate::{Batch, Limit, LogError, Offset, Partition, Topic};

/// Does what waits for a disk where it holds up nobody else.
pub(super) async fn off_the_runtime<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, LogError> + Send + 'static,
) -> Result<T, LogError> {
    if tokio::runtime::Handle::try_current().is_err() {
        return work();
    }
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|e| Err(LogError::Unavailable(format!("reading the log: {e}"))))
}

impl Shared {
    fn check_range(log: &Log, asked: Offset) -> Result<crate::Bounds, LogError> {
        let bounds = log.bounds();
        if (bounds.start..=bounds.end).contains(&asked) {
            return Ok(bounds);
        }
        Err(LogError::OutOfRange {
            topic: log.topic,
            partition: log.partition,
            asked,
            bounds,
        })
    }

    pub(super) async fn read(
        this: &Arc<Self>,
        topic: Topic,
        partition: Partition,
        from: Offset,
        limit: Limit,
    ) -> Result<Arc<Batch>, LogError> {
        let log = this.log(topic, partition)?;
        let bounds = Self::check_range(log, from)?;
        if from == bounds.end {
            return Ok(Arc::new(Batch::new(topic, partition, Vec::new())));
        }
        let here = log.tail().read(from, limit);
        if let Some(batch) = here {
            return Ok(batch);
        }
        let shared = Arc::clone(this);
        off_the_runtime(move || shared.read_disk(topic, partition, from, limit)).await
    }

    fn read_disk(
        &self,
        topic: Topic,
        partition: Partition,
        from: Offset,
        limit: Limit,
    ) -> Result<Arc<Batch>, LogError> {
        super::metrics::disk_read();
        let log = self.log(topic, partition)?;
        let end = log.bounds().end;
        let mut entries = Vec::new();
        let mut bytes = 0;
        let first = self.block_base(log, from)?;
        let (low, high) = (block::key(first), block::key(end));
        let space = Space::Log(topic, partition);
        self.storage
            .scan(space, &low, &high, Direction::Up, &mut |key, value| {
                let block = Block::unpack(topic, partition, block::base_of(key)?, &value)?;
                let wanted = block.entries.into_iter().filter(|e| e.offset >= from && e.offset < end);
                for entry in wanted {
                    bytes += size(&entry);
                    entries.push(entry);
                }
                Ok(entries.len() < limit.records && bytes < limit.bytes)
            })?;
        let bounds = Self::check_range(log, from)?;
        if entries.is_empty() {
            let place = topic.name();
            return Err(LogError::Corrupt(format!(
                "nothing at {from} of {place}/{partition}, within {bounds:?}"
            )));
        }
        entries.truncate(fitting(&entries, limit));
        Ok(Arc::new(Batch::new(topic, partition, entries)))
    }

    /// The base of the block that holds `offset`.
    fn block_base(&self, log: &Log, offset: Offset) -> Result<Offset, LogError> {
        Ok(self.block_at(log, offset)?.map_or(offset, |block| block.base))
    }

    fn block_at(&self, log: &Log, offset: Offset) -> Result<Option<Block>, LogError> {
        let mut found = None;
        let to = block::key(offset + 1);
        let space = Space::Log(log.topic, log.partition);
        self.storage.scan(space, &[], &to, Direction::Down, &mut |key, value| {
            found = Some(Block::unpack(log.topic, log.partition, block::base_of(key)?, &value)?);
            Ok(false)
        })?;
        Ok(found)
    }

    /// Visits blocks from the newest backwards until `each` says `false`.
    pub(super) fn visit_back(
        &self,
        topic: Topic,
        partition: Partition,
        each: &mut dyn FnMut(Block) -> bool,
    ) -> Result<(), LogError> {
        let space = Space::Log(topic, partition);
        self.storage
            .scan(space, &[], &[0xff; 9], Direction::Down, &mut |key, value| {
                Ok(each(Block::unpack(topic, partition, block::base_of(key)?, &value)?))
            })
    }

    /// The first offset appended at or after `at`. The latest moment of any append so far never falls, so blocks can
    /// be searched by it; the first whose own moment is late enough is the answer.
    pub(super) fn first_since(&self, log: &Log, at: Timestamp) -> Result<Offset, LogError> {
        let bounds = log.bounds();
        let (mut low, mut high) = (bounds.start, bounds.end);
        while low < high {
            let Some(block) = self.block_at(log, low + (high - low) / 2)? else {
                break;
            };
            if block.latest >= at {
                high = block.base.max(low);
            } else {
                low = block.end().max(low + 1);
            }
        }
        // Where the clock was set back before records that retention has taken, the latest moment is none of theirs.
        while low < bounds.end {
            match self.block_at(log, low)? {
                Some(block) if block.appended_at < at => low = block.end().max(low + 1),
                _ => break,
            }
        }
        Ok(low.min(bounds.end))
    }

    pub(super) async fn wait(&self, topic: Topic, partition: Partition, from: Offset) -> Result<(), LogError> {
        let log = self.log(topic, partition)?;
        Self::check_range(log, from)?;
        let mut view = log.view.subscribe();
        let view = view.wait_for(|view| view.failed || view.bounds.end > from).await;
        if view.map_err(|_| closed())?.bounds.end > from {
            return Ok(());
        }
        self.failure()
    }
}
