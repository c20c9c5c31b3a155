//! Tasks of all processors under one type.

use eventlog::{Checkpoint, LogError, Offset, Topic, Work};
use schemas::derived::Derived;
use schemas::journal::{Envelope, Recorded};

use super::processor::Processor;
use super::task::{Place, Stop, Task};

/// A [`Task`] whose processor is not named.
pub trait AnyTask: Send {
    /// [`Task::handle`].
    ///
    /// # Errors
    /// As there.
    fn handle(&mut self, records: &[Recorded]) -> Result<Work, Stop>;
    /// [`Task::checkpoint`].
    fn checkpoint(&mut self) -> Checkpoint;
    /// [`Task::saved`].
    fn saved(&mut self);
    /// [`Task::position`].
    fn position(&self) -> Offset;
    /// [`Task::at_hand`].
    fn at_hand(&self) -> Offset;
    /// [`Task::dirty`].
    fn dirty(&self) -> usize;
    /// [`Task::resident`].
    fn resident(&self) -> usize;
    /// [`Task::speaks`].
    fn speaks(&self) -> bool;
    /// The version that speaks at its position.
    fn active(&self) -> Option<u16>;
}

impl<P: Processor> AnyTask for Task<P> {
    fn handle(&mut self, records: &[Recorded]) -> Result<Work, Stop> {
        Self::handle(self, records)
    }
    fn checkpoint(&mut self) -> Checkpoint {
        Self::checkpoint(self)
    }
    fn saved(&mut self) {
        Self::saved(self);
    }
    fn position(&self) -> Offset {
        Self::position(self)
    }
    fn at_hand(&self) -> Offset {
        Self::at_hand(self)
    }
    fn dirty(&self) -> usize {
        Self::dirty(self)
    }
    fn resident(&self) -> usize {
        Self::resident(self)
    }
    fn speaks(&self) -> bool {
        Self::speaks(self)
    }
    fn active(&self) -> Option<u16> {
        self.context().active
    }
}

/// One processor of the house.
#[derive(Debug, Clone, Copy)]
pub struct Kind {
    /// Its name.
    pub name: &'static str,
    /// Its version.
    pub version: u16,
    /// The topic it writes.
    pub output: Topic,
    /// Whether somebody is waiting for what it concludes.
    pub urgent: bool,
    /// How much of the memory for states it gets, beside the others.
    pub share: usize,
    /// What journals are told of a conclusion before it is written.
    pub told: Option<fn(&Derived) -> Vec<Envelope>>,
    /// Starts it at a place.
    pub restore: fn(Place) -> Result<Box<dyn AnyTask>, LogError>,
}

impl Kind {
    /// The kind of a processor that needs nothing to be made.
    #[must_use]
    pub const fn of<P: Processor + Default>(output: Topic) -> Self {
        Self {
            name: P::NAME,
            version: P::VERSION,
            output,
            urgent: P::URGENT,
            share: P::SHARE,
            told: None,
            restore: |place| Ok(Box::new(Task::restore(P::default(), place)?)),
        }
    }

    /// The same, of whose conclusions journals are told. What is told goes by ids and order: it may be told twice, where
    /// a conclusion was told and not written.
    #[must_use]
    pub const fn telling(mut self, told: fn(&Derived) -> Vec<Envelope>) -> Self {
        self.told = Some(told);
        self
    }

    /// The name of its places in the log: another version has its own.
    #[must_use]
    pub fn place(&self) -> String {
        format!("{}@{}", self.name, self.version)
    }
}
