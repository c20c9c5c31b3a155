//! What can be chosen about the embedded log.

use std::time::Duration;

use schemas::time::Span;

use crate::LogError;

/// The embedded log's options.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Partitions of the journal; counts only when the log is created. 1 to 1024.
    pub partitions: u16,
    /// The largest record the log takes, key and value together, in bytes.
    pub max_record_bytes: usize,
    /// Memory for the newest records, decoded, of all partitions together, in bytes.
    pub cache_bytes: usize,
    /// Memory for blocks read from disk, in bytes.
    pub disk_cache_bytes: u64,
    /// A partition's newest records are written to a table of their own when there are so many bytes of them.
    pub memtable_bytes: u64,
    /// How many bytes may wait to be written; who comes then waits too.
    pub queue_bytes: u32,
    /// A longer checkpoint is saved in pieces of so many states, so that appends do not wait for all of it.
    pub states_at_once: usize,
    /// Records older than this are let go of; `None` keeps them for ever.
    pub retention_age: Option<Span>,
    /// Of each partition about so many bytes are kept; `None` keeps everything.
    pub retention_bytes: Option<u64>,
    /// How often old records are looked for, where one of the two is set.
    pub retention_every: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            partitions: 8,
            max_record_bytes: 1 << 20,
            cache_bytes: 64 << 20,
            disk_cache_bytes: 16 << 20,
            memtable_bytes: 2 << 20,
            queue_bytes: 32 << 20,
            states_at_once: 256,
            retention_age: None,
            retention_bytes: None,
            retention_every: Duration::from_secs(60),
        }
    }
}

impl Options {
    /// Whether they make sense.
    pub(super) fn check(&self) -> Result<(), LogError> {
        let wrong = |what: &str| Err(LogError::Misuse(format!("the log's options: {what}")));
        if !(1..=1024).contains(&self.partitions) {
            return wrong("partitions must be 1 to 1024");
        }
        if !(1..=64 << 20).contains(&self.max_record_bytes) {
            return wrong("max_record_bytes must be 1 byte to 64 MiB");
        }
        if self.states_at_once == 0 {
            return wrong("states_at_once must be at least 1");
        }
        if self.queue_bytes == 0 || self.memtable_bytes < 1 << 16 {
            return wrong("queue_bytes must be at least 1 and memtable_bytes at least 64 KiB");
        }
        if self.retention_every < Duration::from_millis(1) {
            return wrong("retention_every must be at least a millisecond");
        }
        Ok(())
    }

    /// How often old records are looked for; `None` for never.
    pub(super) fn retention_check(&self) -> Option<Duration> {
        let on = self.retention_age.is_some() || self.retention_bytes.is_some();
        on.then_some(self.retention_every)
    }
}
