//! What is decided beside the journal, read before every run and every replay: records that operators pass over, and
//! from where a version speaks whose predecessor is gone.

use std::collections::BTreeMap;

use bytes::Bytes;
use eventlog::{Append, EventLog, Limit, LogError, Offset, Partition, Topic};
use schemas::codec::{self, Catalogue, Plain};
use schemas::known::SchemaRecorded;
use schemas::refused::{Cutover, Skip};
use smol_str::SmolStr;

use crate::engine::Decided;

/// What is decided, by processor and partition, and how far the control topic was read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Decisions {
    decided: BTreeMap<(SmolStr, Partition), Decided>,
    /// Where the control topic goes on.
    pub next: Offset,
}

impl Decisions {
    /// What is decided for one processor on one partition.
    #[must_use]
    pub fn of(&self, processor: &str, partition: Partition) -> Decided {
        let key = (SmolStr::new(processor), partition);
        self.decided.get(&key).cloned().unwrap_or_default()
    }

    /// Takes in a decision; a schema that is told of is learnt.
    fn take(&mut self, value: &[u8], catalogue: &Catalogue) -> Result<(), codec::DecodeError> {
        let schema = codec::unframe(value).map(|(id, _)| id);
        if schema == Ok(Skip::SCHEMA)
            && let Some(skip) = codec::decode_plain::<Skip>(value, catalogue)?
        {
            let decided = self.decided.entry((skip.processor, skip.partition)).or_default();
            decided.skips.insert(skip.offset);
        }
        if schema == Ok(Cutover::SCHEMA)
            && let Some(cutover) = codec::decode_plain::<Cutover>(value, catalogue)?
        {
            let decided = self.decided.entry((cutover.processor, cutover.partition)).or_default();
            // The first word stands: two processes may have decided at once.
            decided.cutovers.entry(cutover.version).or_insert(cutover.offset);
        }
        if schema == Ok(SchemaRecorded::SCHEMA)
            && let Some(told) = codec::decode_plain::<SchemaRecorded>(value, catalogue)?
            && let Ok(id) = u32::try_from(told.schema_id)
            && !catalogue.knows(id)
            && let Err(error) = catalogue.learn(id, &told.text)
        {
            // Nothing may ever bear it; what does stops whoever reads it.
            tracing::warn!(%error, "a newer build's schema cannot be read");
        }
        Ok(())
    }
}

/// Reads every decision there is; `catalogue` learns the schemas that are told of beside them.
///
/// # Errors
/// As [`EventLog::read`]; [`LogError::Corrupt`] where one cannot be read: passing over it could change conclusions.
pub async fn read_decisions(log: &dyn EventLog, catalogue: &Catalogue) -> Result<Decisions, LogError> {
    let bounds = log.bounds(Topic::Control, 0).await?;
    let mut found = Decisions {
        next: bounds.start,
        ..Decisions::default()
    };
    while found.next < bounds.end {
        let batch = log.read(Topic::Control, 0, found.next, Limit::default()).await?;
        let Some(next) = batch.next() else { break };
        for entry in batch.entries() {
            let corrupt =
                |error| LogError::Corrupt(format!("the record at {} of fajma.control: {error}", entry.offset));
            found.take(&entry.value, catalogue).map_err(corrupt)?;
        }
        found.next = next;
    }
    Ok(found)
}

/// A cutover as a record of the control topic, which keeps the last record of each key: no two have the same, so that the
/// first that was decided stays.
pub(super) fn cutover(cutover: &Cutover) -> Append {
    let mut value = Vec::new();
    codec::encode_plain(cutover, &mut value);
    let (processor, version, partition) = (&cutover.processor, cutover.version, cutover.partition);
    let key = format!("{processor}@{version}/{partition}/{}/{}", cutover.offset, cutover.at.0);
    Append {
        partition: 0,
        key: Bytes::from(key),
        value: Bytes::from(value),
    }
}
