//! Standing by: a process that computes what another one says, and says it once that one falls silent.
//!
//! It follows from the origin rule that this needs no agreement. A standby reads and computes like any owner and keeps
//! its conclusions to itself, until the owner's word (how far it has come, told within a tenth of a second) is behind its
//! own and has not come for a while. From then on it speaks: first what it kept and the output topic does not hold, then what
//! comes. Who was wrongly taken for dead does no harm, and neither does the standby: both say the same, and readers pass
//! over repeats. Once somebody else is heard who has come as far as the standby had when it began to speak, it is silent
//! again.
//!
//! States are kept here alone while it is silent. Before it saves any, it compares what it holds with what is saved
//! and adds whatever the dead owner had not saved: a position stands for every state before it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Weak};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use schemas::codec::Catalogue;
use schemas::derived::Origin;
use schemas::time::Timestamp;
use smol_str::SmolStr;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::place::{self, Place};
use super::{Inner, Kafka, blocking, states};
use crate::{
    Append, Batch, Bounds, Checkpoint, EventLog, Layout, Limit, LogError, Offset, Output, Partition, Reached, Shelf,
    Shelving, Stored, Topic, Work, Workspace,
};

/// How often the owner is listened for.
const BEAT: Duration = Duration::from_millis(50);
/// What part of its patience a standby has with an owner that has a record before it and has said nothing for so long.
const PART: u32 = 3;

/// The log as a standby works on it: places that are claimed through it keep silent until they have to speak.
#[derive(Debug, Clone)]
pub struct Standby {
    log: Arc<Kafka>,
    /// An owner that has said nothing for so long, though there is something to say, is taken for dead.
    patience: Duration,
    /// By what conclusions of owners are read.
    catalogue: Arc<Catalogue>,
}

impl Standby {
    /// Stands by on this log.
    #[must_use]
    pub const fn new(log: Arc<Kafka>, patience: Duration, catalogue: Arc<Catalogue>) -> Self {
        Self {
            log,
            patience,
            catalogue,
        }
    }
}

#[async_trait]
impl EventLog for Standby {
    fn layout(&self) -> Layout {
        self.log.layout()
    }

    async fn append(&self, topic: Topic, records: Vec<Append>) -> Result<Vec<Offset>, LogError> {
        self.log.append(topic, records).await
    }

    async fn read(
        &self,
        topic: Topic,
        partition: Partition,
        from: Offset,
        limit: Limit,
    ) -> Result<Arc<Batch>, LogError> {
        self.log.read(topic, partition, from, limit).await
    }

    async fn wait(&self, topic: Topic, partition: Partition, from: Offset) -> Result<(), LogError> {
        self.log.wait(topic, partition, from).await
    }

    async fn bounds(&self, topic: Topic, partition: Partition) -> Result<Bounds, LogError> {
        self.log.bounds(topic, partition).await
    }

    async fn offset_at(&self, topic: Topic, partition: Partition, at: Timestamp) -> Result<Offset, LogError> {
        self.log.offset_at(topic, partition, at).await
    }

    async fn claim(
        &self,
        processor: &str,
        output: Topic,
        partition: Partition,
    ) -> Result<Box<dyn Workspace>, LogError> {
        let inner = &self.log.0;
        inner.layout.check(output, partition)?;
        output.check_claim(processor)?;
        let end = inner.watermarks(output, partition).await?.end;
        let place = place::claim(inner, processor, output, partition).await?;
        Ok(Box::new(Silent::new(
            place,
            (processor, output, partition),
            (end, Arc::clone(&self.catalogue)),
            self.patience,
        )))
    }

    async fn reached(&self, output: Topic, partition: Partition) -> Result<Reached, LogError> {
        self.log.reached(output, partition).await
    }
}

/// A place that may have to speak.
struct Silent {
    /// As it was claimed.
    position: Offset,
    context: Bytes,
    last: Option<Origin>,
    shelf: Arc<dyn Shelving>,
    held: Arc<Mutex<Held>>,
}

struct Held {
    place: Place,
    at: (Topic, Partition),
    /// Conclusions that the output topic does not hold yet, as far as is known, in origin order.
    kept: VecDeque<Output>,
    /// Up to here the output topic is known.
    seen: Offset,
    catalogue: Arc<Catalogue>,
    reached: Offset,
    /// Since when the owner's word has been behind ours.
    behind: Option<Instant>,
    speaks: Option<Speaking>,
}

/// What a standby that speaks knows of.
struct Speaking {
    since: Instant,
    /// Who has come so far since has taken over from us.
    from: Offset,
    /// What is to be saved beside what changes from now on; `None` while it is still being found out.
    unsaved: Option<BTreeMap<SmolStr, Stored>>,
    /// What was checkpointed meanwhile.
    kept: BTreeMap<SmolStr, Stored>,
}

impl std::fmt::Debug for Silent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Silent")
            .field("position", &self.position)
            .finish_non_exhaustive()
    }
}

impl Silent {
    fn new(
        place: Place,
        (processor, output, partition): (&str, Topic, Partition),
        (seen, catalogue): (Offset, Arc<Catalogue>),
        patience: Duration,
    ) -> Self {
        let (position, context) = (place.position(), place.context());
        let (last, shelf, inner) = (
            place.last_origin().cloned(),
            Arc::clone(place.states()),
            Arc::clone(place.inner()),
        );
        let held = Arc::new(Mutex::new(Held {
            place,
            at: (output, partition),
            kept: VecDeque::new(),
            seen,
            catalogue,
            reached: 0,
            behind: None,
            speaks: None,
        }));
        let watched = Arc::downgrade(&held);
        tokio::spawn(watch(
            watched,
            Arc::downgrade(&inner),
            SmolStr::new(processor),
            patience,
        ));
        Self {
            position,
            context,
            last,
            shelf,
            held,
        }
    }
}

/// Listens for the owner as long as the place is held.
async fn watch(held: Weak<Mutex<Held>>, inner: Weak<Inner>, processor: SmolStr, patience: Duration) {
    loop {
        tokio::time::sleep(BEAT).await;
        let (Some(held), Some(inner)) = (held.upgrade(), inner.upgrade()) else {
            return;
        };
        let began = held.lock().await.listen(&inner, patience).await;
        match began {
            Ok(false) => {}
            Ok(true) => {
                if let Err(error) = settle(&held, &inner, &processor).await {
                    tracing::warn!(place = %processor, %error, "what is saved is not known: nothing is saved for now");
                    held.lock().await.place.give_up();
                }
            }
            Err(error) => tracing::debug!(place = %processor, %error, "standing by"),
        }
    }
}

/// Compares what is held with what is saved: from then on it may be saved. What follows is computed and said meanwhile.
async fn settle(held: &Mutex<Held>, inner: &Inner, processor: &str) -> Result<(), LogError> {
    let at = held.lock().await.at;
    let saved = inner.shelf().await?;
    states::restore(inner, processor, at, Arc::clone(&saved)).await?;
    let (ours, position) = {
        let mut held = held.lock().await;
        // What is checkpointed from here on is noted; what was before is on the shelf.
        if let Some(speaking) = &mut held.speaks {
            speaking.kept.clear();
        }
        (Arc::clone(held.place.states()), held.place.position())
    };
    let mut unsaved = blocking(move || missing(&*ours, &*saved, position)).await?;
    if let Some(speaking) = &mut held.lock().await.speaks {
        unsaved.append(&mut speaking.kept);
        speaking.unsaved = Some(unsaved);
    }
    Ok(())
}

/// What is held and not saved, removals included.
fn missing(ours: &dyn Shelf, saved: &dyn Shelf, position: Offset) -> Result<BTreeMap<SmolStr, Stored>, LogError> {
    let (mut missing, mut failed) = (BTreeMap::new(), Ok(()));
    ours.visit(&mut |key, stored| match saved.get(key) {
        Ok(known) if known.as_ref() == Some(&stored) => {}
        Ok(_) => drop(missing.insert(SmolStr::new(key), stored)),
        Err(error) => failed = Err(error),
    })?;
    saved.visit(&mut |key, stored| {
        if stored.value.is_none() || stored.applied >= position {
            return;
        }
        match ours.get(key) {
            Ok(Some(_)) => {}
            Ok(None) => {
                let removed = Stored {
                    applied: position - 1,
                    value: None,
                };
                missing.insert(SmolStr::new(key), removed);
            }
            Err(error) => failed = Err(error),
        }
    })?;
    failed.map(|()| missing)
}

impl Held {
    /// Hears what the owner said, and speaks or falls silent where it is time. Whether it has just begun to speak.
    async fn listen(&mut self, inner: &Inner, patience: Duration) -> Result<bool, LogError> {
        let others = inner.progress.others(self.at);
        if let Some(speaking) = &self.speaks {
            if others.is_some_and(|(word, heard)| heard > speaking.since && word >= speaking.from) {
                tracing::info!(
                    topic = self.at.0.name(),
                    partition = self.at.1,
                    "somebody else speaks: stands by again"
                );
                (self.speaks, self.behind) = (None, None);
                self.seen = inner.watermarks(self.at.0, self.at.1).await?.end;
            }
            return Ok(false);
        }
        self.hear(inner).await?;
        let word = others.map_or(0, |(word, _)| word);
        if self.reached <= word {
            self.behind = None;
            return Ok(false);
        }
        // A record came, and no word on it. One that is alive says something at every tick, and at once what it is at.
        let since = *self.behind.get_or_insert_with(Instant::now);
        let spoke = others.is_some_and(|(_, heard)| heard.elapsed() < patience);
        if spoke || since.elapsed() < patience / PART {
            return Ok(false);
        }
        tracing::warn!(
            topic = self.at.0.name(),
            partition = self.at.1,
            word,
            reached = self.reached,
            "the owner is silent: takes over"
        );
        self.speaks = Some(Speaking {
            since: Instant::now(),
            from: self.reached,
            unsaved: None,
            kept: BTreeMap::new(),
        });
        let work = Work {
            outputs: self.kept.drain(..).collect(),
            reached: self.reached,
            checkpoint: None,
        };
        self.place.commit(work).await?;
        Ok(true)
    }

    /// Takes in what came into the output topic: it need not be kept any more.
    async fn hear(&mut self, inner: &Inner) -> Result<(), LogError> {
        let (topic, partition) = self.at;
        loop {
            let tail = inner.tail_with(topic, partition, self.seen).await?;
            if tail.end_known() <= self.seen {
                break;
            }
            let batch = match tail.read(self.seen, Limit::default(), inner.options.failover).await? {
                Some(batch) => batch,
                None => {
                    inner
                        .history
                        .read(topic, partition, self.seen, Limit::default())
                        .await?
                }
            };
            let Some(next) = batch.next() else { break };
            let derived = batch.derived(&self.catalogue);
            for (_, derived) in derived.map_err(|e| LogError::Corrupt(e.to_string()))? {
                self.place.heard(derived.origin);
            }
            self.seen = next;
        }
        while self
            .kept
            .front()
            .is_some_and(|first| self.place.last_origin().is_some_and(|last| first.origin <= *last))
        {
            self.kept.pop_front();
        }
        Ok(())
    }
}

#[async_trait]
impl Workspace for Silent {
    fn position(&self) -> Offset {
        self.position
    }

    fn context(&self) -> Bytes {
        self.context.clone()
    }

    fn last_origin(&self) -> Option<&Origin> {
        self.last.as_ref()
    }

    fn shelf(&self) -> Arc<dyn Shelf> {
        Arc::<dyn Shelving>::clone(&self.shelf)
    }

    async fn commit(&mut self, mut work: Work) -> Result<(), LogError> {
        let mut held = self.held.lock().await;
        let held = &mut *held;
        held.place.check(&work)?;
        held.reached = held.reached.max(work.reached);
        if let Some(checkpoint) = &work.checkpoint {
            (self.position, self.context) = (checkpoint.position, checkpoint.context.clone());
        }
        match &mut held.speaks {
            None => {
                held.kept.extend(work.outputs);
                match work.checkpoint {
                    Some(checkpoint) => held.place.keep(checkpoint).await,
                    None => Ok(()),
                }
            }
            Some(speaking) => {
                match (&mut speaking.unsaved, &mut work.checkpoint) {
                    (Some(unsaved), Some(checkpoint)) => complete(checkpoint, std::mem::take(unsaved)),
                    // Not before it is known what else is to be saved.
                    (None, checkpoint) => {
                        if let Some(checkpoint) = checkpoint.take() {
                            speaking.kept.extend(checkpoint.states.iter().cloned());
                            held.place.keep(checkpoint).await?;
                        }
                    }
                    (Some(_), None) => {}
                }
                held.place.commit(work).await
            }
        }
    }
}

/// Adds states that were never saved to a checkpoint, but for those that it has itself.
fn complete(checkpoint: &mut Checkpoint, unsaved: BTreeMap<SmolStr, Stored>) {
    let states = std::mem::take(&mut checkpoint.states);
    let mut all = unsaved;
    all.extend(states);
    checkpoint.states = all.into_iter().collect();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MemoryShelf;

    #[test]
    fn what_was_never_saved_is_missing_and_so_is_the_removal_of_what_is_not_held() {
        let stored = |applied, there: bool| Stored {
            applied,
            value: there.then(Bytes::new),
        };
        let shelf = |states: &[(&str, Stored)]| {
            MemoryShelf::new(
                states
                    .iter()
                    .map(|(key, stored)| ((*key).into(), stored.clone()))
                    .collect(),
            )
        };
        let ours = shelf(&[
            ("equal", stored(3, true)),
            ("newer", stored(8, true)),
            ("never saved", stored(5, true)),
        ]);
        let saved = shelf(&[
            ("equal", stored(3, true)),
            ("newer", stored(4, true)),
            ("removed since", stored(6, true)),
            ("removed before", stored(2, false)),
            ("of somebody further on", stored(10, true)),
        ]);
        let missing = missing(&ours, &saved, 10).unwrap_or_default();
        let expected = [
            ("never saved", stored(5, true)),
            ("newer", stored(8, true)),
            ("removed since", stored(9, false)),
        ];
        let expected = expected.map(|(key, stored)| (SmolStr::new(key), stored));
        assert_eq!(missing, BTreeMap::from(expected));
    }
}
