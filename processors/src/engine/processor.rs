//! What a processor is: a pure function from a state and a fact to the next state and conclusions.

use schemas::derived::Outcome;
use schemas::facts::Zone;
use schemas::journal::{Envelope, Recorded};
use schemas::time::{Span, Timestamp};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::context::Context;
use super::keys::Keys;

/// Turns facts of the journal into conclusions, one state per key.
pub trait Processor: Send + Sync + 'static {
    /// Its name, as in activations and in the names of its places.
    const NAME: &'static str;
    /// Raised when [`step`](Self::step) or [`State`](Self::State) changes meaning: the new version starts from a silent
    /// replay of the journal and takes over at its activation.
    const VERSION: u16;
    /// Whether facts that repeat, or that are older than lateness, are of interest: they reach a step as such.
    const REPEATS: bool = false;
    /// Whether readings come with the rhythm that their sensor has promised.
    const RHYTHM: bool = false;
    /// Whether most facts that wake a key are of no interest to its state: [`concerns`](Self::concerns) is then asked
    /// first.
    const PASSES: bool = false;
    /// Whether somebody is waiting for what it concludes: the others then run behind it.
    const URGENT: bool = false;
    /// How much of the memory for states it gets, beside the others.
    const SHARE: usize = 1;
    /// Kinds of keys that carry a bucket of time, with its length: their states are dropped one day after lateness.
    const BUCKETS: &'static [(char, Span)] = &[];
    /// What one key remembers; one that equals its default is forgotten. Ordered collections only.
    type State: Default + PartialEq + Serialize + DeserializeOwned + Send;

    /// The keys that this fact wakes. They depend on the fact alone.
    fn keys(&self, fact: &Envelope, wake: &mut Keys);

    /// Appends what the fact repeats if it is not new (like `patient/sensor/metric`); `false` where repeats do not matter.
    fn series(&self, fact: &Envelope, out: &mut String) -> bool;

    /// Whether the fact is of interest to a key that it wakes, as its state is. Where it is of none, a step would leave
    /// the state as it is and conclude nothing; then nothing is done at all ([`Self::PASSES`]).
    fn concerns(&self, state: &Self::State, fact: &Envelope, ctx: &Context) -> bool {
        let _ = (state, fact, ctx);
        true
    }

    /// All the logic. No clock, no I/O, no randomness, cannot fail.
    fn step(&self, key: &str, state: Self::State, input: Input<'_>, ctx: &Context) -> Step<Self::State>;

    /// When this state wants [`Input::Deadline`].
    fn deadlines(&self, state: &Self::State) -> Deadlines;

    /// Bytes that the state holds outside itself, for the memory budget; an estimate is enough.
    fn heap(&self, state: &Self::State) -> usize {
        let _ = state;
        64
    }
}

/// What wakes a key.
#[derive(Debug, Clone, Copy)]
pub enum Input<'a> {
    /// A fact.
    Fact {
        /// The fact in its place.
        recorded: &'a Recorded,
        /// Whether it is new.
        novelty: Novelty,
        /// The rhythm that its sensor has promised so far ([`Processor::RHYTHM`]).
        expected_every: Option<Span>,
        /// Where the sensor is: as it is registered, else where its patient lives.
        zone: Option<Zone>,
    },
    /// A deadline of this state has passed.
    Deadline,
}

/// Whether a fact is new.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Novelty {
    /// The first record of this fact.
    Novel,
    /// The same fact has been recorded before: counted, never applied.
    Repeat,
    /// Older than lateness when it was recorded: nobody remembers whether it repeats. A backfill looks at it.
    Old,
}

impl Novelty {
    /// As a label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Novel => "novel",
            Self::Repeat => "repeat",
            Self::Old => "old",
        }
    }
}

/// The next state and the conclusions, in order.
#[derive(Debug)]
pub struct Step<S> {
    /// The next state.
    pub state: S,
    /// What was concluded.
    pub outcomes: Vec<Outcome>,
}

impl<S> Step<S> {
    /// A step without conclusions.
    #[must_use]
    pub const fn quiet(state: S) -> Self {
        Self {
            state,
            outcomes: Vec::new(),
        }
    }
}

/// When a state wants to be woken, by each of the two clocks. At every tick a state whose deadline is at or before that
/// clock is woken once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Deadlines {
    /// By recorded time.
    pub recorded: Option<Timestamp>,
    /// By ticks of doors only: silence of sensors.
    pub ingest: Option<Timestamp>,
}

impl Deadlines {
    /// Whether one of them has passed.
    #[must_use]
    pub fn due(&self, ctx: &Context) -> bool {
        self.recorded.is_some_and(|at| at <= ctx.recorded) || self.ingest.is_some_and(|at| at <= ctx.ingest)
    }
}
