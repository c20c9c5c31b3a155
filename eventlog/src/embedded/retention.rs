//! Letting go of old records, where the options say so. What a processor has still to read stays.

use bytes::{BufMut, Bytes, BytesMut};
use schemas::time::Timestamp;

use super::block::{self, Block};
use super::rows;
use super::storage::{Change, Direction, Space};
use super::{Log, Shared};
use crate::{LogError, Offset, Partition, Topic};

/// So many blocks are removed by one commit.
const AT_ONCE: usize = 4096;

/// What the keys of first offsets begin with.
pub(super) const STARTS: &str = "start.";

impl Log {
    /// The key of a partition's first offset.
    pub(super) fn start_key(topic: Topic, partition: Partition) -> Bytes {
        Bytes::from(format!("{STARTS}{}.{partition}", topic.name()))
    }
}

/// Lets go of what is too old or too much, partition by partition.
pub(super) fn apply(shared: &Shared, now: Timestamp) -> Result<(), LogError> {
    if shared.check_serving().is_err() {
        // What left, or is a copy, stays as it was carried.
        return Ok(());
    }
    for log in &shared.logs {
        let needed = match log.topic {
            Topic::Journal => shared.least_position(log.partition)?,
            _ => Offset::MAX,
        };
        let start = first_kept(shared, log, now)?.min(needed);
        cut(shared, log, start)?;
    }
    Ok(())
}

/// Where the options would have the partition start.
fn first_kept(shared: &Shared, log: &Log, now: Timestamp) -> Result<Offset, LogError> {
    let bounds = log.bounds();
    let mut start = bounds.start;
    if let Some(age) = shared.options.retention_age {
        start = start.max(shared.first_since(log, now - age)?);
    }
    if let Some(limit) = shared.options.retention_bytes {
        let (from, to) = (block::key(bounds.start), block::key(bounds.end));
        let mut bytes = 0_u64;
        let mut kept = bounds.end;
        let space = Space::Log(log.topic, log.partition);
        shared
            .storage
            .scan(space, &from, &to, Direction::Down, &mut |key, value| {
                bytes += value.len() as u64;
                let within = bytes <= limit;
                if within {
                    kept = block::base_of(key)?;
                }
                Ok(within)
            })?;
        start = start.max(kept);
    }
    Ok(start)
}

/// Removes whole blocks before `until`.
fn cut(shared: &Shared, log: &Log, until: Offset) -> Result<(), LogError> {
    loop {
        let bounds = log.bounds();
        let space = Space::Log(log.topic, log.partition);
        let (from, to) = (block::key(bounds.start), block::key(bounds.end));
        let mut start = bounds.start;
        let mut changes = Vec::new();
        shared
            .storage
            .scan(space, &from, &to, Direction::Up, &mut |key, value| {
                let base = block::base_of(key)?;
                let end = Block::unpack(log.topic, log.partition, base, &value)?.end();
                if end > until || changes.len() == AT_ONCE {
                    return Ok(false);
                }
                start = end;
                changes.push(Change::remove(space, Bytes::copy_from_slice(key)));
                Ok(true)
            })?;
        if changes.is_empty() {
            return Ok(());
        }
        let key = Log::start_key(log.topic, log.partition);
        let mut value = BytesMut::new();
        value.put_i64(start);
        let sealed = rows::seal(&key, value);
        changes.push(Change::put(Space::Meta, key, sealed));
        // Readers are told first: nobody finds a hole.
        log.begin(start);
        shared.storage.commit(changes)?;
        tracing::info!(
            topic = log.topic.name(),
            partition = log.partition,
            start,
            "old records are gone"
        );
    }
}
