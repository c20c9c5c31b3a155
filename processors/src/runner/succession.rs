//! How one version of a processor follows another, so that between them everything is said, and once.

use std::time::Duration;

use eventlog::{Limit, LogError, Topic};
use schemas::codec;
use schemas::derived::Derived;
use schemas::journal::{Fact, Recorded};
use schemas::refused::Cutover;
use smol_str::SmolStr;
use tokio::time::Instant;

use super::control::cutover;
use super::place::{End, Keeper, Life};
use crate::engine::Decided;

/// So long an older version may stand still before a newer one speaks without waiting for it.
const STANDSTILL: Duration = Duration::from_secs(10);
/// How often a newer version looks how far the older one has come.
const LOOK: Duration = Duration::from_millis(20);

impl Keeper {
    /// A version that has never run here speaks from where another fell silent, which nobody runs any more: what
    /// that one had still to say when it ended is said.
    pub(super) async fn take_over(&self, decided: &mut Decided) -> Result<(), LogError> {
        let version = self.kind.version;
        let offset = self.log.reached(self.kind.output, self.partition).await?.journal;
        if offset == 0 || decided.cutovers.contains_key(&version) || self.spoke_last().await? {
            return Ok(());
        }
        let (processor, partition) = (self.kind.name, self.partition);
        tracing::info!(
            processor,
            partition,
            version,
            offset,
            "takes over from a version that is gone"
        );
        let record = cutover(&Cutover {
            processor: SmolStr::new_static(processor),
            version,
            partition,
            offset,
            by: SmolStr::new_static("fajma"),
            at: self.clock.now(),
        });
        self.log.append(Topic::Control, vec![record]).await?;
        decided.cutovers.insert(version, offset);
        Ok(())
    }

    /// Whether the last conclusion there is was ours.
    async fn spoke_last(&self) -> Result<bool, LogError> {
        let (kind, catalogue) = (&self.kind, &self.options.catalogue);
        let bounds = self.log.bounds(kind.output, self.partition).await?;
        let from = (bounds.end - 1).max(bounds.start);
        let last = self
            .log
            .read(kind.output, self.partition, from, Limit::default())
            .await?;
        let ours = |derived: &Derived| derived.id == Derived::id_of(kind.name, kind.version, &derived.origin);
        let last = last
            .entries()
            .last()
            .map(|entry| codec::decode_derived(&entry.value, catalogue));
        Ok(matches!(last, Some(Ok(Some(derived))) if ours(&derived)))
    }

    /// Where among `records` our version takes the word from an older one, for which it has not waited yet.
    pub(super) fn own_activation(&self, life: &Life, records: &[Recorded]) -> Option<usize> {
        let older = life.task.active().is_some_and(|active| active < self.kind.version);
        let ours = |record: &Recorded| {
            matches!(&record.envelope.fact, Fact::ProcessorActivated(it)
                if it.name == self.kind.name && it.version == self.kind.version)
        };
        records.iter().position(ours).filter(|_| older && !life.may_speak)
    }

    /// Waits until the version before has said everything up to our activation: what it said after something of ours
    /// no reader would take. One that stands still is not waited for for ever.
    pub(super) async fn predecessor(&self, life: &mut Life) -> Result<(), End> {
        let here = life.task.position();
        let mut seen = (-1, Instant::now());
        loop {
            let reached = self.log.reached(self.kind.output, self.partition).await?.journal;
            if reached > seen.0 {
                seen = (reached, Instant::now());
            }
            let gone = seen.1.elapsed() >= STANDSTILL;
            if gone {
                let (processor, partition) = (self.kind.name, self.partition);
                tracing::error!(
                    processor,
                    partition,
                    from = reached,
                    until = here,
                    "the version before is gone: what it had not said is said by no one"
                );
            }
            if gone || reached >= here {
                life.may_speak = true;
                return Ok(());
            }
            let pause = async {
                tokio::time::sleep(LOOK).await;
                Ok(())
            };
            self.unless_shutdown(pause).await?;
        }
    }
}
