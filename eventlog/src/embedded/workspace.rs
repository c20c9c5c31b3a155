//! A processor's place in the embedded home.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use schemas::derived::Origin;
use smol_str::SmolStr;
use tokio::sync::{MutexGuard, oneshot};

use super::Shared;
use super::queue::{Piece, Request, closed};
use super::rows;
use super::storage::{Direction, Space, Storage};
use crate::{Checkpoint, LogError, Offset, Partition, Saving, Shelf, Stored, Topic, Work, Workspace, check};

/// A processor on a partition, whoever owns it.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) processor: SmolStr,
    pub(super) output: Topic,
    pub(super) partition: Partition,
    /// How often it was claimed: only the latest owner may commit.
    pub(super) claims: AtomicU64,
}

/// What the writer hands to a new owner.
pub(super) struct Claimed {
    pub(super) place: Arc<Place>,
    pub(super) epoch: u64,
    pub(super) position: Offset,
    pub(super) context: Bytes,
    pub(super) last: Option<Origin>,
}

pub(super) struct Owned {
    shared: Arc<Shared>,
    place: Arc<Place>,
    epoch: u64,
    position: Offset,
    context: Bytes,
    last: Option<Origin>,
    broken: bool,
}

impl std::fmt::Debug for Owned {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Owned")
            .field("place", &self.place)
            .field("epoch", &self.epoch)
            .field("position", &self.position)
            .finish_non_exhaustive()
    }
}

impl Owned {
    pub(super) fn new(shared: Arc<Shared>, claimed: Claimed) -> Self {
        Self {
            shared,
            place: claimed.place,
            epoch: claimed.epoch,
            position: claimed.position,
            context: claimed.context,
            last: claimed.last,
            broken: false,
        }
    }

    async fn write(&mut self, work: Work) -> Result<(), LogError> {
        let shared = &self.shared;
        work.check(shared.layout.incarnation, |key, value| shared.check_size(key, value))?;
        if work.outputs.is_empty() && work.checkpoint.is_none() {
            // Nothing to be made durable: only more is known to have had its effect.
            if self.place.claims.load(Ordering::SeqCst) != self.epoch {
                return Err(LogError::Fenced);
            }
            self.shared.failure()?;
            self.shared
                .advance(self.place.output, self.place.partition, work.reached);
            return Ok(());
        }
        let last = work.outputs.last().map(|output| output.origin.clone());
        let saved = work.checkpoint.as_ref().map(|c| (c.position, c.context.clone()));
        let _turn = self.shared.turn(&work).await;
        for piece in pieces(work, self.shared.options.states_at_once) {
            make_durable(&self.shared, &self.place, self.epoch, piece).await?;
        }
        if last > self.last {
            self.last = last;
        }
        if let Some((position, context)) = saved {
            (self.position, self.context) = (position, context);
        }
        Ok(())
    }
}

/// Has one piece made durable.
async fn make_durable(shared: &Shared, place: &Arc<Place>, epoch: u64, piece: Piece) -> Result<(), LogError> {
    let room = shared.queue.room(size(&piece)).await?;
    let (answer, answered) = oneshot::channel();
    shared.ask(Request::Commit {
        place: Arc::clone(place),
        epoch,
        piece,
        answer,
        room,
    })?;
    answered
        .await
        .map_err(|_| shared.failure().err().unwrap_or_else(closed))?
}

impl Shared {
    /// Waits for the turn to save a long checkpoint: one at a time, so that whoever appends waits for one piece at most.
    async fn turn(&self, work: &Work) -> Option<MutexGuard<'_, ()>> {
        let states = work.checkpoint.as_ref().map_or(0, |c| c.states.len());
        if states > self.options.states_at_once {
            Some(self.saving.lock().await)
        } else {
            None
        }
    }
}

/// Work in the pieces in which it becomes durable: outputs first, then states, so many at once, then the removals and
/// the position. States may so stand ahead of their position, which a restore allows (each says what it has applied); a
/// key that is gone says nothing, so what is removed goes with the position.
fn pieces(work: Work, at_once: usize) -> Vec<Piece> {
    let mut first = Piece {
        outputs: work.outputs,
        reached: work.reached,
        ..Piece::default()
    };
    let Some(checkpoint) = work.checkpoint else {
        return vec![first];
    };
    let position = Some((checkpoint.position, checkpoint.context));
    if checkpoint.states.len() <= at_once {
        (first.states, first.position) = (checkpoint.states, position);
        return vec![first];
    }
    let (kept, removed): (Vec<_>, Vec<_>) = checkpoint.states.into_iter().partition(|(_, s)| s.value.is_some());
    let reached = first.reached;
    let mut pieces = vec![first];
    let mut kept = kept.into_iter();
    loop {
        let states: Vec<_> = kept.by_ref().take(at_once).collect();
        if states.is_empty() {
            break;
        }
        pieces.push(Piece {
            reached,
            states,
            ..Piece::default()
        });
    }
    pieces.push(Piece {
        reached,
        states: removed,
        position,
        ..Piece::default()
    });
    pieces
}

/// What a piece takes up while it waits.
fn size(piece: &Piece) -> usize {
    let outputs: usize = piece.outputs.iter().map(|o| o.key.len() + o.value.len()).sum();
    let states = piece.states.iter();
    let states: usize = states
        .map(|(key, stored)| key.len() + stored.value.as_ref().map_or(0, Bytes::len))
        .sum();
    outputs + states
}

#[async_trait]
impl Workspace for Owned {
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
        Arc::new(Saved {
            storage: Arc::clone(&self.shared.storage),
            processor: self.place.processor.clone(),
            partition: self.place.partition,
        })
    }

    async fn commit(&mut self, work: Work) -> Result<(), LogError> {
        check::unbroken(self.broken)?;
        // Also broken where the caller stops waiting halfway.
        self.broken = true;
        self.write(work).await?;
        self.broken = false;
        Ok(())
    }

    fn save(&mut self, checkpoint: Checkpoint) -> Result<Saving, Checkpoint> {
        if self.broken {
            return Err(checkpoint);
        }
        let (shared, place, epoch) = (Arc::clone(&self.shared), Arc::clone(&self.place), self.epoch);
        Ok(Box::pin(async move {
            let work = Work {
                checkpoint: Some(checkpoint),
                ..Work::default()
            };
            let _turn = shared.turn(&work).await;
            for piece in pieces(work, shared.options.states_at_once) {
                make_durable(&shared, &place, epoch, piece).await?;
            }
            Ok(())
        }))
    }
}

/// The checkpointed states of one place.
struct Saved {
    storage: Arc<dyn Storage>,
    processor: SmolStr,
    partition: Partition,
}

impl Saved {
    /// Visits the states whose stored keys are in `from..to`.
    fn scan(&self, from: &[u8], to: &[u8], each: &mut dyn FnMut(&str, Stored)) -> Result<(), LogError> {
        let (_, _, prefix) = rows::state_range(&self.processor, self.partition);
        let mut visit = |key: &[u8], value: Bytes| {
            let stored = rows::unpack_state(key, value)?;
            let name = key.get(prefix..).and_then(|name| std::str::from_utf8(name).ok());
            let name = name.ok_or_else(|| LogError::Corrupt("a state's key is no text".to_owned()))?;
            each(name, stored);
            Ok(true)
        };
        self.storage.scan(Space::Places, from, to, Direction::Up, &mut visit)
    }
}

impl Shelf for Saved {
    fn get(&self, key: &str) -> Result<Option<Stored>, LogError> {
        let key = rows::state_key(&self.processor, self.partition, key);
        let value = self.storage.get(Space::Places, &key)?;
        value.map(|value| rows::unpack_state(&key, value)).transpose()
    }

    fn visit(&self, each: &mut dyn FnMut(&str, Stored)) -> Result<(), LogError> {
        let (from, to, _) = rows::state_range(&self.processor, self.partition);
        self.scan(&from, &to, each)
    }

    fn visit_range(&self, from: &str, to: &str, each: &mut dyn FnMut(&str, Stored)) -> Result<(), LogError> {
        let bound = |key| rows::state_key(&self.processor, self.partition, key);
        self.scan(&bound(from), &bound(to), each)
    }
}
