//! How one version of a processor follows another, so that between them everything is said, and once.
//!
//! A version that has not the word computes in silence and goes no further than the one that has it has said. It takes the
//! word where its activation stands in the journal, once the version before has come so far; or, where that one says no
//! more, from where it fell silent. Which of the two is decided once, by the first record about it in `fajma.control`: who
//! comes second goes by that, and begins again from before there.
//!
//! The version before may only be slow, or wake: it stops at the activation in the journal. What it says until then is by its
//! rule, of records that ours judges too; of two conclusions with one origin readers take whichever was written first, and
//! nothing before the last that they took. So each origin is accepted once, whoever speaks.

use std::time::Duration;

use eventlog::{Checkpoint, Limit, LogError, Offset, Topic, Work, Workspace};
use schemas::codec;
use schemas::derived::Derived;
use schemas::journal::{Fact, Recorded};
use schemas::refused::Cutover;
use smol_str::SmolStr;
use tokio::time::Instant;

use super::activate::activation;
use super::control::{cutover, read_decisions};
use super::place::{End, Keeper, Life};
use crate::engine::Decided;
use crate::engine::erased::AnyTask;

/// So long an older version may stand still, though there is something to say, before a newer one speaks in its place.
const STANDSTILL: Duration = Duration::from_secs(10);
/// How often a newer version looks how far the older one has come.
const LOOK: Duration = Duration::from_millis(20);
/// How many of the last conclusions are looked at for the greatest origin: a late writer may stand behind it.
const LAST: i64 = 512;

/// What a version that has not the word knows of the one that has it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Predecessor {
    /// How far it has come, as was heard last.
    word: Offset,
    /// Since when it has not moved, though there is more.
    since: Instant,
}

impl Keeper {
    /// A version that has never run here speaks from where another fell silent, which nobody runs any more: what
    /// that one had still to say when it ended is said.
    pub(super) async fn take_over(&self, decided: &mut Decided) -> Result<(), LogError> {
        let version = self.kind.version;
        let offset = self.log.reached(self.kind.output, self.partition).await?.journal;
        if offset == 0 || decided.cutovers.contains_key(&version) || self.spoke_last().await? {
            return Ok(());
        }
        let from = self.decide(offset).await?;
        decided.cutovers.insert(version, from);
        Ok(())
    }

    /// Whether the last conclusion there is was ours.
    async fn spoke_last(&self) -> Result<bool, LogError> {
        let kind = &self.kind;
        let ours = |derived: &Derived| derived.id == Derived::id_of(kind.name, kind.version, &derived.origin);
        Ok(self.last_conclusions(1).await?.last().is_some_and(ours))
    }

    async fn last_conclusions(&self, count: i64) -> Result<Vec<Derived>, LogError> {
        let (output, mut last) = (self.kind.output, Vec::new());
        let bounds = self.log.bounds(output, self.partition).await?;
        let mut from = (bounds.end - count).max(bounds.start);
        while from < bounds.end {
            let batch = self.log.read(output, self.partition, from, Limit::default()).await?;
            let Some(next) = batch.next() else { break };
            for entry in batch.entries() {
                // One that cannot be read is somebody else's to complain of.
                last.extend(
                    codec::decode_derived(&entry.value, &self.options.catalogue)
                        .ok()
                        .flatten(),
                );
            }
            from = next;
        }
        Ok(last)
    }

    /// Writes down from where we speak; returns from where it is, which another may have decided before us.
    async fn decide(&self, offset: Offset) -> Result<Offset, LogError> {
        let (processor, partition, version) = (self.kind.name, self.partition, self.kind.version);
        let known = || async {
            let decisions = read_decisions(&*self.log, &self.options.catalogue).await?;
            Ok::<_, LogError>(decisions.of(processor, partition).cutovers.get(&version).copied())
        };
        if let Some(from) = known().await? {
            return Ok(from);
        }
        let record = cutover(&Cutover {
            processor: SmolStr::new_static(processor),
            version,
            partition,
            offset,
            by: SmolStr::new_static("fajma"),
            at: self.clock.now(),
        });
        self.log.append(Topic::Control, vec![record]).await?;
        let from = known().await?.unwrap_or(offset);
        tracing::info!(processor, partition, version, from, "speaks from here on");
        Ok(from)
    }

    /// How many of `records` may be handled now: whoever has not the word goes no further than who has it has said.
    pub(super) async fn may_handle(&self, life: &mut Life, records: &[Recorded]) -> Result<usize, End> {
        let version = self.kind.version;
        if life.decided.cutovers.contains_key(&version) {
            return Ok(records.len());
        }
        let activated = |record: &Recorded| match &record.envelope.fact {
            Fact::ProcessorActivated(it) if it.name == self.kind.name => Some(it.version),
            _ => None,
        };
        let Some(older) = life.task.active() else {
            // Nobody speaks yet. Up to where somebody does:
            let theirs = records.iter().position(|r| activated(r).is_some_and(|v| v < version));
            return Ok(theirs.map_or(records.len(), |at| at + 1));
        };
        let Some(here) = records.first().map(|first| first.offset).filter(|_| older < version) else {
            return Ok(records.len());
        };
        let word = self.log.reached(self.kind.output, self.partition).await?.journal;
        let ours = records.iter().position(|r| activated(r) == Some(version));
        if let Some(at) = ours.filter(|at| records[*at].offset <= word) {
            if at > 0 {
                return Ok(at);
            }
            return Err(self.take_word(here).await);
        }
        let said = records.partition_point(|record| record.offset < word);
        if said == 0 {
            self.listen(life, (word, ours.is_some())).await?;
        }
        Ok(said)
    }

    /// The version before has said everything up to here, where ours is activated. Another may have taken it for dead
    /// before; what it said since then counts nowhere.
    async fn take_word(&self, here: Offset) -> End {
        let decided = async {
            if self.options.standby {
                // The owner decides.
                return self.unless_shutdown(self.decided()).await;
            }
            self.decide(here).await?;
            Ok(())
        };
        decided.await.err().unwrap_or(End::Again)
    }

    /// The version before has said no more: waits for it, but not for ever.
    async fn listen(&self, life: &mut Life, (word, activated): (Offset, bool)) -> Result<(), End> {
        let now = Instant::now();
        let known = life.predecessor.get_or_insert(Predecessor { word, since: now });
        if known.word != word {
            *known = Predecessor { word, since: now };
        }
        let still = known.since.elapsed();
        let standby = self.options.standby;
        if !activated && !standby {
            self.ask_for_the_word(life).await?;
        }
        // Where nobody else runs processors, it is gone.
        if !standby && (self.options.alone || still >= STANDSTILL) {
            let said = self.last_conclusions(LAST).await?;
            let said = said.iter().map(|derived| derived.origin.offset).max().unwrap_or(0);
            let (processor, partition) = (self.kind.name, self.partition);
            tracing::warn!(
                processor,
                partition,
                from = word.max(said),
                "the version before is gone: what it had not said is said in its place"
            );
            self.decide(word.max(said)).await?;
            return Err(End::Again);
        }
        let pause = async {
            tokio::time::sleep(LOOK).await;
            Ok(())
        };
        self.unless_shutdown(pause).await
    }

    /// Tells the journal, once in a life, that our version speaks from there on: the one before stops there.
    pub(super) async fn ask_for_the_word(&self, life: &mut Life) -> Result<(), LogError> {
        if !life.asked {
            let activation = activation(&self.kind, self.partition, self.clock.now());
            self.log.append(Topic::Journal, vec![activation]).await?;
            life.asked = true;
        }
        Ok(())
    }

    /// Waits until it is decided from where our version speaks.
    async fn decided(&self) -> Result<(), LogError> {
        loop {
            let decisions = read_decisions(&*self.log, &self.options.catalogue).await?;
            let decided = decisions.of(self.kind.name, self.partition);
            if decided.cutovers.contains_key(&self.kind.version) {
                return Ok(());
            }
            self.log.wait(Topic::Control, 0, decisions.next).await?;
        }
    }

    /// The place of those who know that they speak from an offset on, with what is saved there; at first what those have
    /// computed in silence who did not know, unless that is already beyond there.
    pub(super) async fn succeed(
        &self,
        from: Offset,
        decided: &Decided,
    ) -> Result<(Box<dyn Workspace>, Box<dyn AnyTask>), LogError> {
        let (output, partition) = (self.kind.output, self.partition);
        let name = format!("{}/{from}", self.kind.place());
        let mut place = self.log.claim(&name, output, partition).await?;
        if place.position() == 0 {
            let silent = self.log.claim(&self.kind.place(), output, partition).await?;
            let task = self.restore(&*silent, decided).await?;
            if task.speaks() {
                // It spoke before it was carried to where others are.
                return Ok((silent, task));
            }
            match up_to(&*silent, from)? {
                Some(checkpoint) => {
                    let checkpoint = Some(checkpoint);
                    let work = Work {
                        checkpoint,
                        ..Work::default()
                    };
                    place.commit(work).await?;
                }
                None => {
                    let processor = self.kind.name;
                    tracing::warn!(processor, partition, from, "computes in silence from the start");
                }
            }
        }
        let task = self.restore(&*place, decided).await?;
        Ok((place, task))
    }
}

/// All that is saved at a place, if none of it is beyond an offset.
fn up_to(place: &dyn Workspace, offset: Offset) -> Result<Option<Checkpoint>, LogError> {
    let (mut states, mut beyond) = (Vec::new(), place.position() > offset);
    place.shelf().visit(&mut |key, stored| {
        beyond |= stored.applied >= offset;
        states.push((SmolStr::new(key), stored));
    })?;
    let checkpoint = Checkpoint {
        states,
        position: place.position(),
        context: place.context(),
    };
    Ok((!beyond && checkpoint.position > 0).then_some(checkpoint))
}
