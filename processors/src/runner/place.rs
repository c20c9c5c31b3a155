//! One processor on one partition, kept going.

use std::sync::Arc;
use std::time::Duration;

use eventlog::{Clock, EventLog, Limit, LogError, Offset, Partition, Topic, Work, Workspace};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::control::read_decisions;
use super::succession::Predecessor;
use super::{Options, State, is_passing};
use crate::engine::erased::{AnyTask, Kind};
use crate::engine::{Decided, Place, Stop};

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// All that a task's shell needs.
pub(super) struct Keeper {
    pub(super) kind: Kind,
    pub(super) partition: Partition,
    pub(super) log: Arc<dyn EventLog>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) options: Options,
    pub(super) budget: usize,
    /// Whose turn it is to save states.
    pub(super) turns: Arc<Semaphore>,
    pub(super) shutdown: CancellationToken,
}

/// A record that stops the partition.
#[derive(Debug, Clone)]
pub(super) struct Bad {
    pub(super) offset: Offset,
    /// It could not even be decoded.
    pub(super) unread: bool,
    pub(super) reason: String,
}

/// Why one life of a task ended.
pub(super) enum End {
    Shutdown,
    Superseded,
    /// Everything before it is committed.
    Stopped(Bad),
    /// The state in memory is lost; what came before the record is to be done again, up to it.
    Panicked(Bad),
    Log(LogError),
    /// Something was decided: begin again by it.
    Again,
}

impl From<LogError> for End {
    fn from(error: LogError) -> Self {
        Self::Log(error)
    }
}

impl From<Stop> for End {
    fn from(stop: Stop) -> Self {
        match stop {
            Stop::Superseded { .. } => Self::Superseded,
            Stop::Unjudgeable { offset } => Self::Stopped(Bad {
                offset,
                unread: false,
                reason: stop.to_string(),
            }),
            Stop::Shelf(error) => Self::Log(error),
        }
    }
}

/// A task with what belongs to one life of it.
pub(super) struct Life {
    pub(super) task: Box<dyn AnyTask>,
    pub(super) workspace: Box<dyn Workspace>,
    pub(super) decided: Decided,
    /// Where to read next: at or after the task's position.
    pub(super) cursor: Offset,
    /// A record that an earlier life panicked at: go up to it.
    pub(super) bad: Option<Bad>,
    pub(super) checkpointed: (Instant, Offset),
    /// A checkpoint that is being saved while the task goes on.
    pub(super) saving: Option<JoinHandle<Result<(), LogError>>>,
    pub(super) looked: Instant,
    /// What is known of the version before, until ours speaks.
    pub(super) predecessor: Option<Predecessor>,
    /// The journal was told that our version wants to speak.
    pub(super) asked: bool,
}

impl Keeper {
    /// Until `shutdown`, or until a newer version takes over.
    pub(super) async fn keep(self) {
        self.live().await;
        if self.shutdown.is_cancelled() {
            let (processor, partition) = (self.kind.name, self.partition);
            self.options.board.leave(processor, partition);
            for figure in [crate::metrics::LAG, crate::metrics::RESIDENT] {
                metrics::gauge!(figure, "processor" => processor, "partition" => partition.to_string()).set(0.0);
            }
        }
    }

    async fn live(&self) {
        let mut pause = FIRST_PAUSE;
        let mut bad = None;
        loop {
            self.show(State::Starting);
            let began = Instant::now();
            let end = match self.begin(bad.take()).await {
                Ok(mut life) => self.follow(&mut life).await,
                Err(error) => End::Log(error),
            };
            if began.elapsed() > LONGEST_PAUSE {
                pause = FIRST_PAUSE;
            }
            match end {
                End::Shutdown => return,
                End::Superseded => return self.show(State::Superseded),
                End::Panicked(at) => bad = Some(at),
                End::Again => {}
                End::Stopped(at) => {
                    if !self.stopped(&at).await {
                        return;
                    }
                }
                End::Log(error) if is_passing(&error) => {
                    if !self.retry(&error, pause).await {
                        return;
                    }
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
                End::Log(error) => {
                    tracing::error!(processor = self.kind.name, partition = self.partition, %error, "stopped for good");
                    self.show(State::Failed {
                        reason: error.to_string(),
                    });
                    return self.shutdown.cancelled().await;
                }
            }
        }
    }

    fn show(&self, state: State) {
        self.options.board.set(self.kind.name, self.partition, state);
    }

    /// Waits before another try; `false` at shutdown.
    async fn retry(&self, error: &LogError, pause: Duration) -> bool {
        metrics::counter!(crate::metrics::RETRIES, "processor" => self.kind.name).increment(1);
        tracing::warn!(processor = self.kind.name, partition = self.partition, %error, "the log failed, trying again");
        self.show(State::Retrying {
            reason: error.to_string(),
        });
        tokio::select! {
            () = self.shutdown.cancelled() => false,
            () = tokio::time::sleep(pause) => true,
        }
    }

    /// Waits until an operator decides to skip the record, or it can be read after all; `false` at shutdown.
    async fn stopped(&self, bad: &Bad) -> bool {
        let (processor, partition) = (self.kind.name, self.partition);
        tracing::error!(
            processor,
            partition,
            offset = bad.offset,
            reason = bad.reason,
            "stopped by a record"
        );
        metrics::gauge!(crate::metrics::STOPPED, "processor" => processor).increment(1.0);
        self.show(State::Stopped {
            offset: bad.offset,
            reason: bad.reason.clone(),
        });
        let skipped = tokio::select! {
            () = self.shutdown.cancelled() => false,
            () = self.released(bad) => true,
        };
        metrics::gauge!(crate::metrics::STOPPED, "processor" => processor).decrement(1.0);
        skipped
    }

    async fn released(&self, bad: &Bad) {
        loop {
            match read_decisions(&*self.log, &self.options.catalogue).await {
                Ok(decisions) if decisions.of(self.kind.name, self.partition).skips.contains(&bad.offset) => return,
                // Its schema may just have been told of.
                Ok(_) if bad.unread && self.reads(bad.offset).await => return,
                Ok(decisions) => {
                    if self.log.wait(Topic::Control, 0, decisions.next).await.is_ok() {
                        continue;
                    }
                }
                Err(error) => tracing::warn!(%error, "cannot read fajma.control"),
            }
            tokio::time::sleep(LONGEST_PAUSE).await;
        }
    }

    /// Whether a record can be read now.
    async fn reads(&self, offset: Offset) -> bool {
        let one = Limit {
            records: 1,
            ..self.options.read
        };
        let read = self.log.read(Topic::Journal, self.partition, offset, one).await;
        read.is_ok_and(|batch| !batch.entries().is_empty() && batch.facts(&self.options.catalogue).is_ok())
    }

    /// Claims the place and restores the task.
    async fn begin(&self, bad: Option<Bad>) -> Result<Life, LogError> {
        let decisions = read_decisions(&*self.log, &self.options.catalogue).await?;
        let mut decided = decisions.of(self.kind.name, self.partition);
        let version = self.kind.version;
        let (workspace, task) = match decided.cutovers.get(&version) {
            Some(from) => self.succeed(*from, &decided).await?,
            None => {
                let (output, partition) = (self.kind.output, self.partition);
                let workspace = self.log.claim(&self.kind.place(), output, partition).await?;
                if workspace.position() == 0 && self.options.alone {
                    self.take_over(&mut decided).await?;
                }
                let task = self.restore(&*workspace, &decided).await?;
                (workspace, task)
            }
        };
        let start = self.log.bounds(Topic::Journal, self.partition).await?.start;
        let cursor = if task.position() == 0 { start } else { task.position() };
        Ok(Life {
            checkpointed: (Instant::now(), task.position()),
            saving: None,
            looked: Instant::now(),
            predecessor: None,
            asked: false,
            task,
            workspace,
            decided,
            cursor,
            bad: bad.filter(|bad| bad.offset >= cursor),
        })
    }

    pub(super) async fn restore(
        &self,
        workspace: &dyn Workspace,
        decided: &Decided,
    ) -> Result<Box<dyn AnyTask>, LogError> {
        let place = Place {
            partition: self.partition,
            incarnation: self.log.layout().incarnation,
            position: workspace.position(),
            context: workspace.context(),
            shelf: workspace.shelf(),
            last_origin: workspace.last_origin().cloned(),
            decided: decided.clone(),
            budget: self.budget,
        };
        let restore = self.kind.restore;
        tokio::task::spawn_blocking(move || restore(place))
            .await
            .map_err(|error| LogError::Corrupt(format!("restoring failed: {error}")))?
    }

    /// Follows the journal until something ends it.
    async fn follow(&self, life: &mut Life) -> End {
        let position = life.task.position();
        self.options.board.change(self.kind.name, self.partition, |status| {
            (status.state, status.position) = (State::Running, position);
        });
        loop {
            if let Err(end) = self.turn(life).await {
                if matches!(end, End::Shutdown | End::Stopped(_) | End::Superseded | End::Again) {
                    // What is not saved is computed again: nothing is lost if this fails. A successor sees by it that
                    // everything up to here is said.
                    if self.saved(life).await.is_ok() {
                        let _ = self.commit(life, Work::default(), true).await;
                    }
                }
                return end;
            }
        }
    }

    /// Waits for the log, but not beyond `shutdown`. Only reads go through here: work that was handled is committed
    /// before anything else, or lost together with the task.
    pub(super) async fn unless_shutdown<T>(
        &self,
        reading: impl Future<Output = Result<T, LogError>>,
    ) -> Result<T, End> {
        tokio::select! {
            biased;
            () = self.shutdown.cancelled() => Err(End::Shutdown),
            read = reading => Ok(read?),
        }
    }
}
