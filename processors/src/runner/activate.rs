//! A new journal learns what it goes by: the standard policy, and which processors speak.

use std::collections::BTreeSet;

use eventlog::{Append, Clock, EventLog, Limit, LogError, Partition, Topic};
use schemas::codec::Catalogue;
use schemas::facts::{PolicyChanged, ProcessorActivated};
use schemas::journal::Fact;
use schemas::policy::Policy;
use schemas::time::Timestamp;
use smol_str::SmolStr;

use super::ticker::append;
use crate::engine::erased::Kind;

/// What a partition's journal says so far.
#[derive(Debug, Default)]
struct Known {
    policy: bool,
    speakers: BTreeSet<SmolStr>,
}

impl Known {
    fn is_whole(&self) -> bool {
        self.policy && crate::all().iter().all(|kind| self.speakers.contains(kind.name))
    }
}

/// Sees to it that every partition has a policy and that every processor speaks: appends the standard policy and the
/// activations that are missing. Doing it again changes nothing; two processes that do it at once do no harm. Call it
/// before any door opens. (A newer version of a processor that speaks already is activated by the runner, once it has
/// caught up.)
///
/// # Errors
/// As [`EventLog::append`] and [`EventLog::read`]; [`LogError::Corrupt`] where a record cannot be read.
pub async fn activate_missing(log: &dyn EventLog, clock: &dyn Clock, catalogue: &Catalogue) -> Result<(), LogError> {
    let mut missing = Vec::new();
    for partition in 0..log.layout().partitions {
        let known = look(log, partition, catalogue).await?;
        let at = clock.now();
        if !known.policy {
            let (policy, by) = (Policy::standard(), SmolStr::new_static("fajma"));
            missing.push(append(
                partition,
                at,
                "policy",
                Fact::PolicyChanged(PolicyChanged { policy, by }),
            ));
        }
        for kind in crate::all().iter().filter(|kind| !known.speakers.contains(kind.name)) {
            missing.push(activation(kind, partition, at));
        }
    }
    if !missing.is_empty() {
        log.append(Topic::Journal, missing).await?;
    }
    Ok(())
}

/// From here on this version speaks.
pub(super) fn activation(kind: &Kind, partition: Partition, at: Timestamp) -> Append {
    let (name, version) = (SmolStr::new_static(kind.name), kind.version);
    append(
        partition,
        at,
        &kind.place(),
        Fact::ProcessorActivated(ProcessorActivated { name, version }),
    )
}

/// Reads until everything is known: usually the first records, which a first start wrote.
async fn look(log: &dyn EventLog, partition: Partition, catalogue: &Catalogue) -> Result<Known, LogError> {
    let bounds = log.bounds(Topic::Journal, partition).await?;
    let mut known = Known::default();
    let (mut from, mut limit) = (
        bounds.start,
        Limit {
            records: 16,
            ..Limit::default()
        },
    );
    while from < bounds.end && !known.is_whole() {
        let batch = log.read(Topic::Journal, partition, from, limit).await?;
        let Some(next) = batch.next() else { break };
        // Facts of the house have no key: where a processor was added to a long journal, the others are not even decoded.
        // A record that cannot be read is no reason to activate twice, nor not to start: its task will say so.
        for entry in batch.entries().iter().filter(|entry| entry.key.is_empty()) {
            match schemas::codec::decode(&entry.value, catalogue).map(|envelope| envelope.fact) {
                Ok(Fact::PolicyChanged(_)) => known.policy = true,
                Ok(Fact::ProcessorActivated(it)) => {
                    known.speakers.insert(it.name);
                }
                _ => {}
            }
        }
        (from, limit) = (next, Limit::default());
    }
    Ok(known)
}
