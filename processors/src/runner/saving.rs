//! What a task concludes is committed at once, its states are saved now and then.

use std::sync::Arc;
use std::time::Duration;

use eventlog::{Append, LogError, Topic, Work};
use schemas::codec;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::place::{Keeper, Life};

/// States changed over and over are saved the more seldom the more they are: at `checkpoint_every` up to so many …
const MANY: usize = 500;
/// … and at most so many times as seldom.
const STRETCHED: usize = 6;
/// Where memory is short, states are saved after so long, …
const PRESSED: Duration = Duration::from_secs(1);
/// … or after so many records.
const PRESSED_RECORDS: i64 = 10_000;

impl Keeper {
    /// Begins to save the states where that is due and none are being saved; lets go of memory where they have been.
    pub(super) async fn save(&self, life: &mut Life) -> Result<(), LogError> {
        if life.saving.as_ref().is_some_and(JoinHandle::is_finished) {
            self.saved(life).await?;
        }
        if life.saving.is_some() || !self.checkpoint_is_due(life) {
            return Ok(());
        }
        // States on their way to the disk are in memory twice: those of a few tasks at a time.
        let Ok(turn) = Arc::clone(&self.turns).try_acquire_owned() else {
            return Ok(());
        };
        match life.workspace.save(life.task.checkpoint()) {
            Ok(saving) => {
                let saving = async move {
                    let _turn = turn;
                    saving.await
                };
                life.saving = Some(match &self.options.behind {
                    Some(behind) => behind.spawn(saving),
                    None => tokio::spawn(saving),
                });
                self.checkpointed(life);
                Ok(())
            }
            Err(checkpoint) => {
                let work = Work {
                    checkpoint: Some(checkpoint),
                    ..Work::default()
                };
                self.commit(life, work, false).await
            }
        }
    }

    /// Waits for the checkpoint that is being saved, where one is.
    pub(super) async fn saved(&self, life: &mut Life) -> Result<(), LogError> {
        if let Some(saving) = life.saving.take() {
            let saved = saving.await;
            saved.unwrap_or_else(|error| Err(LogError::Unavailable(format!("saving states: {error}"))))?;
            life.task.saved();
        }
        Ok(())
    }

    fn checkpointed(&self, life: &mut Life) {
        life.checkpointed = (Instant::now(), life.task.position());
        metrics::counter!(crate::metrics::CHECKPOINTS, "processor" => self.kind.name).increment(1);
    }

    fn checkpoint_is_due(&self, life: &Life) -> bool {
        let (at, position) = life.checkpointed;
        let (passed, records) = (at.elapsed(), life.task.position() - position);
        let stretched = (life.task.dirty() / MANY).clamp(1, STRETCHED) as u32;
        life.task.dirty() > 0
            && (passed >= self.options.checkpoint_every * stretched
                || records >= self.options.checkpoint_records as i64
                // Saving lets memory go, but not at every step.
                || life.task.resident() > self.budget && (passed >= PRESSED || records >= PRESSED_RECORDS))
    }

    pub(super) async fn commit(&self, life: &mut Life, mut work: Work, checkpoint: bool) -> Result<(), LogError> {
        let (processor, partition) = (self.kind.name, self.partition);
        // Who does not speak yet has made nothing of the journal visible.
        work.reached = if life.task.speaks() { life.task.position() } else { 0 };
        if checkpoint && work.checkpoint.is_none() {
            work.checkpoint = Some(life.task.checkpoint());
        }
        self.tell(&work).await?;
        let checkpoint = work.checkpoint.is_some();
        let written = work.outputs.len() as u64;
        life.workspace.commit(work).await?;
        if checkpoint {
            self.checkpointed(life);
            life.task.saved();
        }
        metrics::counter!(crate::metrics::WRITTEN, "processor" => processor).increment(written);
        let position = life.task.position();
        self.options
            .board
            .change(processor, partition, |status| status.position = position);
        Ok(())
    }

    /// Tells journals of conclusions before they are written: where this is interrupted, they are told again.
    async fn tell(&self, work: &Work) -> Result<(), LogError> {
        let Some(told) = self.kind.told else { return Ok(()) };
        let mut appends = Vec::new();
        for output in &work.outputs {
            let derived = codec::decode_derived(&output.value, &self.options.catalogue);
            let derived = derived.map_err(|error| LogError::Corrupt(format!("a conclusion: {error}")))?;
            let envelopes = derived.as_ref().map(told).unwrap_or_default();
            let partitions = self.log.layout().partitions;
            appends.extend(envelopes.iter().map(|envelope| Append::of(envelope, partitions)));
        }
        if appends.is_empty() {
            return Ok(());
        }
        self.log.append(Topic::Journal, appends).await.map(drop)
    }
}
