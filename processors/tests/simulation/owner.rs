//! One life of a processor on a partition: what the runner does, one commit at a time, so that anything can happen
//! between two of them.

use eventlog::prng::Prng;
use eventlog::{Checkpoint, EventLog, Limit, LogError, Offset, Partition, Topic, Work, Workspace};
use processors::engine::erased::{AnyTask, Kind};
use processors::engine::{Decided, Place, Stop};
use schemas::codec::Catalogue;
use schemas::journal::{Fact, Recorded};

use crate::home::wait;
use crate::rules::Rule;
use crate::world::shuffle;

/// How an owner works.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Manner {
    /// At most so many records per batch.
    pub(crate) batch: u64,
    /// How often a batch is checkpointed, in percent.
    pub(crate) checkpoint: u8,
    /// Bytes of states in memory.
    pub(crate) budget: usize,
}

/// What came of a step.
#[derive(Debug)]
pub(crate) enum Did {
    /// It handled and committed records.
    Worked { outputs: usize },
    /// There is nothing to do.
    Idle,
    /// Nothing to do, and it may not speak yet.
    Silent,
    /// Its predecessor has not said everything yet.
    Waits,
    /// A newer version has taken over.
    Superseded,
    /// It ends.
    Died(LogError),
}

/// One life.
pub(crate) struct Owner {
    pub(crate) kind: Kind,
    pub(crate) partition: Partition,
    manner: Manner,
    task: Box<dyn AnyTask>,
    workspace: Box<dyn Workspace>,
    /// A checkpoint that is being saved while records are handled.
    saving: Option<Checkpoint>,
}

impl Owner {
    /// Claims the place and restores.
    pub(crate) fn start(
        log: &dyn EventLog,
        kind: Kind,
        partition: Partition,
        manner: Manner,
        decided: Decided,
    ) -> Result<Self, LogError> {
        let workspace = wait(log.claim(&kind.place(), kind.output, partition))?;
        let task = (kind.restore)(Place {
            partition,
            incarnation: log.layout().incarnation,
            position: workspace.position(),
            context: workspace.context(),
            shelf: workspace.shelf(),
            last_origin: workspace.last_origin().cloned(),
            decided,
            budget: manner.budget,
        })?;
        Ok(Self {
            kind,
            partition,
            manner,
            task,
            workspace,
            saving: None,
        })
    }

    /// Where it stands.
    pub(crate) fn position(&self) -> Offset {
        self.task.position()
    }

    /// One batch: read, handle, commit.
    pub(crate) fn step(&mut self, log: &dyn EventLog, catalogue: &Catalogue, chance: &mut Prng) -> Did {
        match self.turn(log, catalogue, chance) {
            Ok(did) => did,
            Err(error) => Did::Died(error),
        }
    }

    fn turn(&mut self, log: &dyn EventLog, catalogue: &Catalogue, chance: &mut Prng) -> Result<Did, LogError> {
        let limit = Limit {
            records: 1 + chance.below(self.manner.batch) as usize,
            ..Limit::default()
        };
        let batch = wait(log.read(Topic::Journal, self.partition, self.task.position(), limit))?;
        if batch.entries().is_empty() {
            return Ok(if self.task.speaks() { Did::Idle } else { Did::Silent });
        }
        let facts = batch
            .facts(catalogue)
            .map_err(|error| LogError::Corrupt(error.to_string()))?;
        let records = self.allowed(log, facts)?;
        if records.is_empty() {
            return Ok(Did::Waits);
        }
        let mut work = match self.task.handle(records) {
            Ok(work) => work,
            Err(Stop::Superseded { .. }) => {
                // All that it had to say is there: the next one may speak.
                self.commit(Work::default())?;
                return Ok(Did::Superseded);
            }
            Err(Stop::Shelf(error)) => return Err(error),
            Err(stop) => return Err(LogError::Corrupt(stop.to_string())),
        };
        match (self.saving.take(), work.checkpoint.is_some()) {
            (Some(saving), true) => {
                // One at a time, and the one that is being saved first.
                self.commit(Work {
                    checkpoint: Some(saving),
                    ..Work::default()
                })?;
            }
            (Some(saving), false) if chance.percent(40) => work.checkpoint = Some(saving),
            (saving, _) => self.saving = saving,
        }
        if work.checkpoint.is_none() && self.saving.is_none() && chance.percent(self.manner.checkpoint) {
            let mut checkpoint = self.task.checkpoint();
            // States become durable in any order.
            shuffle(&mut checkpoint.states, chance);
            if chance.percent(50) {
                work.checkpoint = Some(checkpoint);
            } else {
                self.saving = Some(checkpoint);
            }
        }
        self.commit(work)
    }

    fn commit(&mut self, mut work: Work) -> Result<Did, LogError> {
        // Who is silent has not made anything of the journal visible.
        work.reached = if self.task.speaks() { self.task.position() } else { 0 };
        let (outputs, checkpoint) = (work.outputs.len(), work.checkpoint.is_some());
        wait(self.workspace.commit(work))?;
        if checkpoint {
            self.task.saved();
        }
        Ok(Did::Worked { outputs })
    }

    /// The records up to our own activation, until the version before has said everything up to there.
    fn allowed<'a>(&self, log: &dyn EventLog, records: &'a [Recorded]) -> Result<&'a [Recorded], LogError> {
        let ours = |record: &Recorded| {
            matches!(&record.envelope.fact, Fact::ProcessorActivated(it)
                if it.name == self.kind.name && it.version == self.kind.version)
        };
        let first = records.iter().position(ours);
        let older = self.task.active().is_some_and(|active| active < self.kind.version);
        match first {
            Some(at) if older && !Rule::SuccessorWaits.is_out() => {
                let reached = wait(log.reached(self.kind.output, self.partition))?.journal;
                Ok(if at == 0 && reached >= self.task.position() {
                    records
                } else {
                    &records[..at]
                })
            }
            _ => Ok(records),
        }
    }
}
