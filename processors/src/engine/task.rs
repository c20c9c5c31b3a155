//! One processor on one partition: records in, work out. Sync and sans-io, so that the runner, the simulation, a
//! replay and the audit all call the same thing.
//!
//! Same records in the same order give the same outputs, however they are cut and whatever restarts in between:
//!
//! - what decides is a state (of a key, saved with the offset it has applied), the [`Context`] (of the partition, saved
//!   with the position) or the first offset of a fact ([`super::seen`], true for ever);
//! - after a restore each key skips what its state has already applied, so keys may be restored ahead of the position;
//! - keys woken by one record act in byte order, and [`Origin`] is (offset, key, n).

mod worn;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use eventlog::{Checkpoint, LogError, Offset, Output, Partition, Shelf, Stored, Work};
use schemas::assignment::{Home, Worn};
use schemas::codec;
use schemas::derived::{Derived, Incarnation, Origin, Outcome};
use schemas::ids::EventId;
use schemas::journal::{Envelope, Fact, Recorded};
use schemas::time::{Span, Timestamp};
use smol_str::SmolStr;

use super::context::Context;
use super::deadlines::Index;
use super::keys::{self, Keys};
use super::processor::{Deadlines, Input, Novelty, Processor, Step};
use super::rules::Rule;
use super::seen::{SEGMENT, Segment};
use super::store::{self, Store};

/// The rhythm that every sensor promises with its first status message (DESIGN §4).
pub const RHYTHM: Span = Span::seconds(30);
/// Recorded time never moves further than this between two checkpoints: a replay then finds every bucket it needs.
const CHECKPOINT_WITHIN: Span = Span::hours(1);
/// So long after its end a bucket that is not used is let go from memory.
const PAST_AFTER: Span = Span::seconds(10);
/// Keys of the engine's own memory: from here …
const ENGINE_FROM: &str = "r";
/// … up to here.
const ENGINE_TO: &str = "t";
/// Where the context stands as if it were a state of its own, when a simulation takes its rule out.
const ASTRAY: &str = "\u{7f}context";

/// What is decided beside the journal for one processor on one partition.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Decided {
    /// Offsets that an operator has decided to pass over.
    pub skips: BTreeSet<Offset>,
    /// Versions that speak from an offset on, whether the journal activates them there or later.
    pub cutovers: BTreeMap<u16, Offset>,
}

/// Where a task works and from where it goes on.
pub struct Place {
    /// The journal's partition.
    pub partition: Partition,
    /// The journal.
    pub incarnation: Incarnation,
    /// The next offset to handle.
    pub position: Offset,
    /// The context saved with that position; empty at the journal's start.
    pub context: Bytes,
    /// The checkpointed states.
    pub shelf: Arc<dyn Shelf>,
    /// The origin of the last output that is already there.
    pub last_origin: Option<Origin>,
    /// What is decided beside the journal.
    pub decided: Decided,
    /// How many bytes of states may stay in memory.
    pub budget: usize,
}

/// Why a task does not go on. What it has returned before stands.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Stop {
    /// A newer version speaks from here on: end, quietly.
    #[error("version {by} took over at offset {offset}")]
    Superseded {
        /// Which.
        by: u16,
        /// Where.
        offset: Offset,
    },
    /// A fact that this build may neither read nor ignore: a newer build, or an operator's skip, is needed.
    #[error("the fact at offset {offset} cannot be judged by this version")]
    Unjudgeable {
        /// Where.
        offset: Offset,
    },
    /// The shelf failed: claim again.
    #[error(transparent)]
    Shelf(#[from] LogError),
}

/// One processor on one partition.
pub struct Task<P: Processor> {
    processor: P,
    partition: Partition,
    shelf: Arc<dyn Shelf>,
    decided: Decided,
    last: Option<Origin>,
    budget: usize,
    context: Context,
    next: Offset,
    states: Store<P::State>,
    seen: Store<Segment>,
    worn: Store<Worn>,
    homes: Store<Home>,
    index: Index,
    wake: Keys,
    text: String,
    /// Position and recorded time of the last checkpoint.
    checkpointed: (Offset, Timestamp),
}

impl<P: Processor> Task<P> {
    /// Takes up the work at a place.
    ///
    /// # Errors
    /// [`LogError::Corrupt`] where what was saved cannot be read; what the shelf says.
    pub fn restore(processor: P, place: Place) -> Result<Self, LogError> {
        let astray = if Rule::ContextWithPosition.is_out() {
            place.shelf.get(ASTRAY)?
        } else {
            None
        };
        let astray = astray.and_then(|stored| stored.value);
        let context = Context::decode(astray.as_ref().unwrap_or(&place.context), place.incarnation)
            .map_err(|error| LogError::Corrupt(format!("the context of {}: {error}", P::NAME)))?;
        let mut index = Index::default();
        let mut each = |key: &str, stored: eventlog::Stored| {
            let wanted = stored
                .value
                .as_deref()
                .and_then(store::deadlines_of)
                .map(|(wanted, _)| wanted);
            if let Some(wanted) = wanted.filter(|wanted| *wanted != Deadlines::default()) {
                index.want(&SmolStr::new(key), wanted, &mut Deadlines::default());
            }
        };
        place.shelf.visit_range("", ENGINE_FROM, &mut each)?;
        place.shelf.visit_range(ENGINE_TO, "\u{7f}", &mut each)?;
        let checkpointed = (place.position, context.recorded);
        Ok(Self {
            processor,
            partition: place.partition,
            shelf: place.shelf,
            decided: place.decided,
            last: place.last_origin,
            budget: place.budget,
            context,
            next: place.position,
            states: Store::default(),
            seen: Store::default(),
            worn: Store::default(),
            homes: Store::default(),
            index,
            wake: Keys::default(),
            text: String::new(),
            checkpointed,
        })
    }

    /// The next offset to handle.
    pub const fn position(&self) -> Offset {
        self.next
    }

    /// The offset of the record at hand: where a panic came from.
    pub const fn at_hand(&self) -> Offset {
        self.context.offset
    }

    /// Which partition.
    pub const fn partition(&self) -> Partition {
        self.partition
    }

    /// What the partition goes by.
    pub const fn context(&self) -> &Context {
        &self.context
    }

    /// Whether this version has been activated.
    pub fn speaks(&self) -> bool {
        self.context.active == Some(P::VERSION)
    }

    /// How many keys have changed since the last checkpoint.
    pub fn dirty(&self) -> usize {
        self.states.dirty() + self.seen.dirty() + self.worn.dirty() + self.homes.dirty()
    }

    /// Bytes of states in memory, estimated.
    pub const fn resident(&self) -> usize {
        self.states.bytes() + self.seen.bytes() + self.worn.bytes() + self.homes.bytes()
    }

    /// Handles records of the partition, in offset order. What is below [`Work::reached`] has had its effect; give the
    /// others again. What was returned must be committed before the next call; a checkpoint that it holds must also be
    /// [`saved`](Self::saved).
    ///
    /// # Errors
    /// [`Stop`], with nothing handled by this call. After [`Stop::Shelf`] throw the task away.
    pub fn handle(&mut self, records: &[Recorded]) -> Result<Work, Stop> {
        let mut work = Work::default();
        let mut handled = false;
        for record in records {
            if record.offset < self.next {
                continue;
            }
            if self.needs_checkpoint_before(record) {
                work.checkpoint = Some(self.checkpoint());
                break;
            }
            match self.apply(record, &mut work.outputs) {
                Ok(()) => self.next = record.offset + 1,
                Err(stop @ Stop::Shelf(_)) => return Err(stop),
                Err(stop) if !handled => return Err(stop),
                Err(_) => break,
            }
            handled = true;
        }
        work.reached = self.next;
        Ok(work)
    }

    /// Every state changed since the last checkpoint, with the position. Records may be handled while it is being saved;
    /// one checkpoint at a time.
    pub fn checkpoint(&mut self) -> Checkpoint {
        let mut states = Vec::with_capacity(self.dirty());
        let processor = &self.processor;
        self.states
            .drain(|s| processor.deadlines(s), |s| processor.heap(s), &mut states);
        self.seen.drain(|_| Deadlines::default(), Segment::heap, &mut states);
        self.worn.drain(|_| Deadlines::default(), Worn::heap, &mut states);
        self.homes.drain(|_| Deadlines::default(), Home::heap, &mut states);
        self.checkpointed = (self.next, self.context.recorded);
        let context = Bytes::from(self.context.encode());
        if Rule::ContextWithPosition.is_out() {
            let stored = Stored {
                applied: self.next - 1,
                value: Some(context.clone()),
            };
            states.push((SmolStr::new_static(ASTRAY), stored));
        }
        Checkpoint {
            states,
            position: self.next,
            context,
        }
    }

    /// The last checkpoint stands: lets go of what is past, and of what the budget does not allow. Where everything may
    /// stay there may be no shelf either.
    pub fn saved(&mut self) {
        let seen: Vec<String> = self.past('s', SEGMENT).into_iter().collect();
        let states = P::BUCKETS.iter().filter_map(|(kind, size)| self.past(*kind, *size));
        let states: Vec<String> = states.collect();
        self.seen.evict(self.budget / 2, |key| keys::is_before(key, &seen));
        self.worn.evict(self.budget / 8, |_| false);
        self.homes.evict(self.budget / 16, |_| false);
        let budget = self
            .budget
            .saturating_sub(self.seen.bytes() + self.worn.bytes() + self.homes.bytes());
        self.states.evict(budget, |key| keys::is_before(key, &states));
    }

    /// What the keys of one kind begin with from where a bucket is not past: only what comes late asks for one before.
    fn past(&self, kind: char, size: Span) -> Option<String> {
        let mut text = String::new();
        keys::bucket(&mut text, kind, self.context.recorded - size - PAST_AFTER, size);
        (self.budget < usize::MAX).then_some(text)
    }

    fn needs_checkpoint_before(&self, record: &Recorded) -> bool {
        let (position, recorded) = self.checkpointed;
        matches!(record.envelope.fact, Fact::ClockTicked(_))
            && self.next > position
            && !Rule::CheckpointBeforeJump.is_out()
            && self.context.accepts(record)
            && record.envelope.measured_at - recorded > CHECKPOINT_WITHIN
    }

    fn apply(&mut self, record: &Recorded, outputs: &mut Vec<Output>) -> Result<(), Stop> {
        let offset = record.offset;
        let taking_over = self.decided.cutovers.iter().filter(|(_, from)| **from <= offset);
        if let Some(version) = taking_over.map(|(version, _)| *version).max() {
            self.activate(version, offset)?;
        }
        if self.decided.skips.contains(&offset) {
            return Ok(());
        }
        self.context.offset = offset;
        match &record.envelope.fact {
            Fact::Unknown { .. } => Ok(()),
            Fact::Sealed(_) => Err(Stop::Unjudgeable { offset }),
            Fact::PolicyChanged(change) => {
                self.context.change_policy(change.policy.clone());
                Ok(())
            }
            Fact::ProcessorActivated(it) if it.name == P::NAME => self.activate(it.version, offset),
            Fact::ProcessorActivated(_) => Ok(()),
            Fact::ClockTicked(tick) if self.context.accepts(record) => {
                self.tick(record.envelope.measured_at, tick.by, outputs)
            }
            Fact::ClockTicked(_) => Ok(()),
            _ => {
                self.context.count();
                self.fact(record, outputs)
            }
        }
    }

    /// The greatest version activated so far speaks.
    fn activate(&mut self, version: u16, offset: Offset) -> Result<(), Stop> {
        if version > P::VERSION {
            if Rule::StopAtNewer.is_out() {
                return Ok(());
            }
            return Err(Stop::Superseded { by: version, offset });
        }
        self.context.active = self.context.active.max(Some(version));
        Ok(())
    }

    fn tick(&mut self, at: Timestamp, by: schemas::facts::TickedBy, outputs: &mut Vec<Output>) -> Result<(), Stop> {
        self.context.tick(at, by);
        for key in self.index.take_due(self.context.recorded, self.context.ingest) {
            let (slot, _) = self.states.slot(&key, &*self.shelf)?;
            slot.indexed = Deadlines::default();
            let wanted = self.processor.deadlines(&slot.state);
            let skip = slot.applied >= self.context.offset && !Rule::SkipApplied.is_out();
            if !skip && wanted.due(&self.context) {
                self.wake(&key, Input::Deadline, self.context.recorded, outputs)?;
            } else {
                self.index.want(&key, wanted, &mut slot.indexed);
            }
        }
        match self.context.drop_now() {
            Some((from, to)) => self.sweep(from, to),
            None => Ok(()),
        }
    }

    /// Drops the buckets of a stretch of measured time.
    fn sweep(&mut self, before: Timestamp, after: Timestamp) -> Result<(), Stop> {
        let bucket = |kind, at, size| {
            let mut text = String::with_capacity(11);
            keys::bucket(&mut text, kind, at, size);
            text
        };
        let offset = self.context.offset;
        let (from, to) = (bucket('s', before, SEGMENT), bucket('s', after, SEGMENT));
        self.seen.sweep(&from, &to, offset, &*self.shelf)?;
        for (kind, size) in P::BUCKETS {
            let (from, to) = (bucket(*kind, before, *size), bucket(*kind, after, *size));
            if from < to {
                self.states.sweep(&from, &to, offset, &*self.shelf)?;
            }
        }
        Ok(())
    }

    fn fact(&mut self, record: &Recorded, outputs: &mut Vec<Output>) -> Result<(), Stop> {
        let fact = &record.envelope;
        self.move_sensor(fact)?;
        self.settle(fact)?;
        let promises = matches!(fact.fact, Fact::SensorStatus(_));
        if P::RHYTHM && promises {
            self.rhythm(fact)?;
        }
        let mut wake = std::mem::take(&mut self.wake);
        wake.clear();
        self.processor.keys(fact, &mut wake);
        if !wake.is_empty() && self.is_foreign(fact)? {
            metrics::counter!(crate::metrics::NOT_APPLIED, "processor" => P::NAME, "why" => "foreign").increment(1);
        } else if !wake.is_empty() && self.is_concerned(&wake, fact)? {
            let expected_every = if P::RHYTHM && !promises {
                self.rhythm(fact)?
            } else {
                None
            };
            let zone = self.zone(fact)?;
            let novelty = self.novelty(fact, record.offset)?;
            if novelty == Novelty::Novel || P::REPEATS {
                if !Rule::ByteOrder.is_out() {
                    wake.sort();
                }
                let recorded_at = self.context.recorded_or(fact);
                let input = Input::Fact {
                    recorded: record,
                    novelty,
                    expected_every,
                    zone,
                };
                for key in wake.iter() {
                    self.wake(key, input, recorded_at, outputs)?;
                }
            } else {
                metrics::counter!(crate::metrics::NOT_APPLIED, "processor" => P::NAME, "why" => novelty.as_str())
                    .increment(1);
            }
        }
        self.wake = wake;
        Ok(())
    }

    /// Whether the fact is of interest to one of the keys that it wakes. A state that was restored ahead of the fact skips
    /// it whatever is answered here.
    fn is_concerned(&mut self, wake: &Keys, fact: &Envelope) -> Result<bool, Stop> {
        if !P::PASSES {
            return Ok(true);
        }
        for key in wake.iter() {
            let (slot, _) = self.states.slot(key, &*self.shelf)?;
            if self.processor.concerns(&slot.state, fact, &self.context) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether this record is the first of its fact.
    fn novelty(&mut self, fact: &Envelope, offset: Offset) -> Result<Novelty, Stop> {
        let text = &mut self.text;
        text.clear();
        keys::bucket(text, 's', fact.measured_at, SEGMENT);
        text.push('/');
        if !self.processor.series(fact, text) {
            return Ok(Novelty::Novel);
        }
        if self.context.is_old(fact.measured_at) {
            return Ok(Novelty::Old);
        }
        let (slot, dirty) = self.seen.slot(text, &*self.shelf)?;
        let (first, added) = slot.state.first(fact.measured_at, &fact.id, offset);
        if added {
            slot.touch(offset, dirty);
        }
        let novel = if Rule::FirstOffset.is_out() {
            added
        } else {
            first == offset
        };
        Ok(if novel || Rule::Dedupe.is_out() {
            Novelty::Novel
        } else {
            Novelty::Repeat
        })
    }

    fn wake(
        &mut self,
        key: &str,
        input: Input<'_>,
        recorded_at: Timestamp,
        outputs: &mut Vec<Output>,
    ) -> Result<(), Stop> {
        let offset = self.context.offset;
        let (slot, dirty) = self.states.slot(key, &*self.shelf)?;
        if slot.applied >= offset && !Rule::SkipApplied.is_out() {
            return Ok(());
        }
        let state = std::mem::take(&mut slot.state);
        let Step { state, outcomes } = self.processor.step(key, state, input, &self.context);
        self.index
            .want(&slot.key, self.processor.deadlines(&state), &mut slot.indexed);
        slot.state = state;
        slot.touch(offset, dirty);
        if self.speaks() || Rule::EmitOnlyWhenActive.is_out() {
            for (n, outcome) in outcomes.into_iter().enumerate() {
                self.emit(key, n as i32, outcome, recorded_at, outputs);
            }
        }
        Ok(())
    }

    fn emit(&self, key: &str, n: i32, outcome: Outcome, recorded_at: Timestamp, outputs: &mut Vec<Output>) {
        let mut origin = Origin {
            incarnation: self.context.incarnation,
            offset: self.context.offset,
            key: SmolStr::new(key),
            n,
        };
        if Rule::KeyInOrigin.is_out() {
            let same = outputs.iter().filter(|output| output.origin.offset == origin.offset);
            (origin.key, origin.n) = (SmolStr::default(), same.count() as i32);
        }
        if self.last.as_ref().is_some_and(|last| last.place() >= origin.place()) {
            return;
        }
        let derived = Derived {
            id: Derived::id_of(P::NAME, P::VERSION, &origin),
            key: keys::subject_of(key),
            origin,
            recorded_at,
            outcome,
        };
        let mut value = Vec::with_capacity(256);
        codec::encode_derived(&derived, &mut value);
        outputs.push(Output {
            key: Bytes::copy_from_slice(derived.key.text().as_bytes()),
            value: value.into(),
            origin: derived.origin,
        });
    }
}

/// The id of an alert's episode: who, which rule, where it was raised, since when.
#[must_use]
pub fn alert_id(key: &str, rule: &str, started_at: Timestamp, ctx: &Context) -> EventId {
    EventId::of(
        "fajma.alert",
        &[
            key.as_bytes(),
            rule.as_bytes(),
            &ctx.incarnation.0,
            &ctx.offset.to_be_bytes(),
            &started_at.0.to_be_bytes(),
        ],
    )
}
