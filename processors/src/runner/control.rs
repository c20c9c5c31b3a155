//! What operators have decided: records to be passed over, read before every run and every replay.

use std::collections::{BTreeMap, BTreeSet};

use eventlog::{EventLog, Limit, LogError, Offset, Partition, Topic};
use schemas::codec::{self, Catalogue, Plain};
use schemas::refused::Skip;
use smol_str::SmolStr;

/// Records to be passed over, by processor and partition, and how far the control topic was read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Skips {
    /// Journal offsets.
    pub skips: BTreeMap<(SmolStr, Partition), BTreeSet<Offset>>,
    /// Where the control topic goes on.
    pub next: Offset,
}

impl Skips {
    /// The offsets that one processor passes over on one partition.
    #[must_use]
    pub fn of(&self, processor: &str, partition: Partition) -> BTreeSet<Offset> {
        self.skips
            .get(&(SmolStr::new(processor), partition))
            .cloned()
            .unwrap_or_default()
    }
}

/// Reads every skip there is.
///
/// # Errors
/// As [`EventLog::read`]; [`LogError::Corrupt`] where a skip cannot be read: passing over it could change conclusions.
pub async fn read_skips(log: &dyn EventLog, catalogue: &Catalogue) -> Result<Skips, LogError> {
    let bounds = log.bounds(Topic::Control, 0).await?;
    let mut found = Skips {
        next: bounds.start,
        ..Skips::default()
    };
    while found.next < bounds.end {
        let batch = log.read(Topic::Control, 0, found.next, Limit::default()).await?;
        let Some(next) = batch.next() else { break };
        for entry in batch.entries() {
            if !codec::unframe(&entry.value).is_ok_and(|(id, _)| id == Skip::SCHEMA) {
                continue;
            }
            let skip = codec::decode_plain::<Skip>(&entry.value, catalogue)
                .map_err(|error| LogError::Corrupt(format!("a skip at {} of fajma.control: {error}", entry.offset)))?;
            if let Some(skip) = skip {
                found
                    .skips
                    .entry((skip.processor, skip.partition))
                    .or_default()
                    .insert(skip.offset);
            }
        }
        found.next = next;
    }
    Ok(found)
}
