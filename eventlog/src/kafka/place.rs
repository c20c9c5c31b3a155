//! A processor's place, by the origin rule.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use schemas::avro::Avro;
use schemas::codec::Catalogue;
use schemas::derived::Origin;
use smol_str::SmolStr;

use super::produce::{Message, Sender};
use super::{Inner, blocking, cleaning, frames, states};
use crate::{
    Checkpoint, Limit, LogError, Offset, Output, Partition, Reached, Saving, Shelf, Shelving, Stored, Topic, Work,
    Workspace, check,
};

/// How many of the last conclusions are looked at for the greatest origin: a late writer may stand behind it.
const LAST: i64 = 512;

pub(super) struct Place {
    inner: Arc<Inner>,
    name: SmolStr,
    output: Topic,
    partition: Partition,
    sender: Arc<Sender>,
    /// Whose life this is: part of the keys of what it saves.
    writer: Arc<str>,
    states: Arc<dyn Shelving>,
    position: Offset,
    context: Bytes,
    last: Option<Origin>,
    broken: bool,
    /// How often this process had been away when the place was taken.
    away: u64,
}

impl std::fmt::Debug for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Place")
            .field("name", &self.name)
            .field("partition", &self.partition)
            .field("position", &self.position)
            .finish_non_exhaustive()
    }
}

pub(super) async fn claim(
    inner: &Arc<Inner>,
    processor: &str,
    output: Topic,
    partition: Partition,
) -> Result<Place, LogError> {
    let away = inner.pulse.feel();
    let sender = inner.conclusions.now()?;
    let states = inner.shelf().await?;
    let (position, context) = states::restore(inner, processor, (output, partition), Arc::clone(&states)).await?;
    let journal = inner.watermarks(Topic::Journal, partition).await?;
    if !(journal.start..=journal.end).contains(&position) {
        return Err(LogError::OutOfRange {
            topic: Topic::Journal,
            partition,
            asked: position,
            bounds: journal,
        });
    }
    let last = last_origin(inner, output, partition).await?;
    let writer: Arc<str> = states::new_writer().into();
    cleaning::begin(inner, &writer, (output, partition));
    Ok(Place {
        inner: Arc::clone(inner),
        name: SmolStr::new(processor),
        output,
        partition,
        sender,
        writer,
        away,
        states,
        position,
        context,
        last,
        broken: false,
    })
}

/// The greatest origin among the last conclusions. Where more than these are a late writer's repeats, what is computed
/// again is written again: readers pass over it.
pub(super) async fn last_origin(
    inner: &Inner,
    output: Topic,
    partition: Partition,
) -> Result<Option<Origin>, LogError> {
    let bounds = inner.watermarks(output, partition).await?;
    let (mut from, mut last) = (bounds.start.max(bounds.end - LAST), None);
    let catalogue = Catalogue::builtin();
    let incarnation = inner.layout.incarnation;
    while from < bounds.end {
        let batch = inner.history.read(output, partition, from, Limit::default()).await?;
        let Some(next) = batch.next() else { break };
        let derived = batch.derived(&catalogue);
        for (_, derived) in derived.map_err(|e| LogError::Corrupt(e.to_string()))? {
            if derived.origin.incarnation != incarnation {
                return Err(LogError::OtherIncarnation {
                    expected: derived.origin.incarnation,
                    found: incarnation,
                });
            }
            if last.as_ref().is_none_or(|last| derived.origin > *last) {
                last = Some(derived.origin);
            }
        }
        from = next;
    }
    Ok(last)
}

impl Place {
    pub(super) const fn inner(&self) -> &Arc<Inner> {
        &self.inner
    }

    pub(super) const fn states(&self) -> &Arc<dyn Shelving> {
        &self.states
    }

    /// Somebody else wrote a conclusion.
    pub(super) fn heard(&mut self, origin: Origin) {
        if self.last.as_ref().is_none_or(|last| origin > *last) {
            self.last = Some(origin);
        }
    }

    /// Holds a checkpoint without saving it.
    ///
    /// # Errors
    /// As the shelf's: the place is to be claimed again.
    pub(super) async fn keep(&mut self, checkpoint: Checkpoint) -> Result<(), LogError> {
        (self.position, self.context) = (checkpoint.position, checkpoint.context);
        let kept = shelve(Arc::clone(&self.states), checkpoint.states, checkpoint.position).await;
        self.broken |= kept.is_err();
        kept
    }

    /// Whether something may still be committed.
    pub(super) fn check(&mut self, work: &Work) -> Result<(), LogError> {
        check::unbroken(self.broken)?;
        if self.inner.pulse.feel() != self.away {
            // Who took over has long gone on, and may have let go of what keeps our word harmless.
            self.broken = true;
            return Err(LogError::Unavailable("this process stood still for long".to_owned()));
        }
        work.check(self.inner.layout.incarnation, |key, value| {
            self.inner.check_size(key, value)
        })
    }

    /// From now on nothing may be committed: the place is to be claimed again.
    pub(super) const fn give_up(&mut self) {
        self.broken = true;
    }

    async fn write(&mut self, work: Work) -> Result<(), LogError> {
        self.outputs(&work.outputs).await?;
        if let Some(last) = work.outputs.last()
            && self.last.as_ref().is_none_or(|known| last.origin > *known)
        {
            self.last = Some(last.origin.clone());
        }
        self.reached(work.reached).await?;
        if let Some(checkpoint) = work.checkpoint {
            (self.position, self.context) = (checkpoint.position, checkpoint.context.clone());
            self.saving(checkpoint).await?;
        }
        Ok(())
    }

    /// Writes conclusions that are not there yet. Repeats stay away: who reads would pass over them.
    async fn outputs(&self, outputs: &[Output]) -> Result<(), LogError> {
        let new = outputs
            .iter()
            .filter(|output| self.last.as_ref().is_none_or(|last| output.origin > *last));
        let ids = self.inner.frames.ids();
        let new: Vec<_> = new
            .map(|output| (output, encoded(&output.origin), frames::outward(&ids, &output.value)))
            .collect();
        let topic = self.inner.options.topic(self.output);
        let messages = new.iter().map(|(output, origin, framed)| Message {
            topic: &topic,
            partition: self.partition,
            key: &output.key,
            value: Some(framed.as_ref().map_or(&output.value, |framed| &framed.value)),
            origin: Some(origin),
            appended_at: None,
            schema: framed.as_ref().map(|framed| &framed.schema[..]),
        });
        let offsets = within(self.inner.options.commit_timeout, self.sender.send(messages)).await?;
        if let (Some(tail), Some(last)) = (self.inner.tails.get(self.output, self.partition), offsets.last()) {
            tail.appended(last + 1);
        }
        Ok(())
    }

    async fn reached(&self, journal: Offset) -> Result<(), LogError> {
        let at = (self.output, self.partition);
        let end = match self.inner.tails.get(at.0, at.1) {
            Some(tail) => tail.end_known(),
            None => self.inner.watermarks(at.0, at.1).await?.end,
        };
        self.inner.progress.advance(at, Reached { journal, end });
        Ok(())
    }

    /// States, then the position, each durable before the next; then the shelf shows them.
    fn saving(&self, checkpoint: Checkpoint) -> impl Future<Output = Result<(), LogError>> + Send + use<> {
        let (inner, sender, name) = (Arc::clone(&self.inner), Arc::clone(&self.sender), self.name.clone());
        let (states, partition, output) = (Arc::clone(&self.states), self.partition, self.output);
        let (writer, journal) = (Arc::clone(&self.writer), inner.layout.incarnation);
        async move {
            let (topic, patience) = (inner.options.states(output), inner.options.commit_timeout);
            let message = |key, value| Message {
                topic: &topic,
                partition,
                key,
                value: Some(value),
                origin: None,
                appended_at: None,
                schema: None,
            };
            let records: Vec<(Vec<u8>, Vec<u8>)> = checkpoint
                .states
                .iter()
                .map(|(key, stored)| {
                    (
                        states::state_key(&name, &writer, key),
                        states::state_value(journal, stored),
                    )
                })
                .collect();
            within(
                patience,
                sender.send(records.iter().map(|(key, value)| message(key, value))),
            )
            .await?;
            let position = states::position_value(journal, checkpoint.position, &checkpoint.context);
            let key = states::position_key(&name, &writer);
            within(patience, sender.send(std::iter::once(message(&key, &position)))).await?;
            shelve(states, checkpoint.states, checkpoint.position).await
        }
    }
}

/// Shows what a checkpoint holds.
async fn shelve(shelf: Arc<dyn Shelving>, states: Vec<(SmolStr, Stored)>, position: Offset) -> Result<(), LogError> {
    let changes = states.into_iter().map(move |(key, stored)| {
        let says = !stored.is_past(position);
        (key, says.then_some(stored))
    });
    blocking(move || shelf.put(changes.collect())).await
}

fn encoded(origin: &Origin) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(64);
    origin.write(&mut bytes);
    bytes
}

/// Waits for brokers, but not for ever: what is delivered later does no harm (the origin rule).
async fn within<T>(
    patience: std::time::Duration,
    sending: impl Future<Output = Result<T, LogError>>,
) -> Result<T, LogError> {
    let late = |_| LogError::Unavailable("Kafka does not acknowledge".to_owned());
    tokio::time::timeout(patience, sending).await.map_err(late)?
}

#[async_trait]
impl Workspace for Place {
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
        Arc::<dyn Shelving>::clone(&self.states)
    }

    async fn commit(&mut self, work: Work) -> Result<(), LogError> {
        self.inner.check_serving()?;
        let checked = self.check(&work);
        // Whoever stops waiting has not committed.
        self.broken = true;
        checked?;
        let done = self.write(work).await;
        self.broken = done.is_err();
        done
    }

    fn save(&mut self, checkpoint: Checkpoint) -> Result<Saving, Checkpoint> {
        if self.broken {
            return Err(checkpoint);
        }
        (self.position, self.context) = (checkpoint.position, checkpoint.context.clone());
        Ok(Box::pin(self.saving(checkpoint)))
    }
}
