//! One processor on one partition, kept going.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use eventlog::{Append, Clock, EventLog, Limit, LogError, Offset, Partition, Topic, Work, Workspace};
use schemas::codec;
use schemas::journal::Recorded;
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
/// A batch is small below this part of what is read at once.
const FEW: usize = 4;

/// States changed over and over are saved the more seldom the more they are: at `checkpoint_every` up to so many …
const MANY: usize = 500;
/// … and at most so many times as seldom.
const STRETCHED: usize = 6;
/// Where memory is short, states are saved after so long, …
const PRESSED: Duration = Duration::from_secs(1);
/// … or after so many records.
const PRESSED_RECORDS: i64 = 10_000;

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
    offset: Offset,
    /// It could not even be decoded.
    unread: bool,
    reason: String,
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
    workspace: Box<dyn Workspace>,
    pub(super) decided: Decided,
    /// Where to read next: at or after the task's position.
    cursor: Offset,
    /// A record that an earlier life panicked at: go up to it.
    bad: Option<Bad>,
    checkpointed: (Instant, Offset),
    /// A checkpoint that is being saved while the task goes on.
    saving: Option<JoinHandle<Result<(), LogError>>>,
    looked: Instant,
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

    /// Reads and handles what there is, or waits.
    async fn turn(&self, life: &mut Life) -> Result<(), End> {
        let reading = self
            .log
            .read(Topic::Journal, self.partition, life.cursor, self.options.read);
        let batch = self.unless_shutdown(reading).await?;
        let Some(next) = batch.next() else {
            return self.idle(life).await;
        };
        match batch.facts(&self.options.catalogue) {
            Ok(records) => self.advance(life, records, next).await?,
            Err(unreadable) if life.decided.skips.contains(&unreadable.offset) || unreadable.offset > life.cursor => {
                let before = batch
                    .entries()
                    .iter()
                    .take_while(|e| e.offset < unreadable.offset)
                    .count();
                if before == 0 {
                    life.cursor = unreadable.offset + 1;
                } else {
                    let limit = Limit {
                        records: before,
                        ..self.options.read
                    };
                    let part = self
                        .log
                        .read(Topic::Journal, self.partition, life.cursor, limit)
                        .await?;
                    if let (Ok(records), Some(next)) = (part.facts(&self.options.catalogue), part.next()) {
                        self.advance(life, records, next).await?;
                    }
                }
            }
            Err(unreadable) => {
                return Err(End::Stopped(Bad {
                    offset: unreadable.offset,
                    unread: true,
                    reason: unreadable.to_string(),
                }));
            }
        }
        self.look(life).await;
        if batch.entries().len() < self.options.read.records / FEW {
            self.gather().await?;
        }
        Ok(())
    }

    /// Handles as many of the records as it may now; `next` comes behind them.
    async fn advance(&self, life: &mut Life, records: &[Recorded], next: Offset) -> Result<(), End> {
        let may = self.may_handle(life, records).await?;
        self.handle(life, &records[..may]).await?;
        let rest = records.get(may).map(|first| first.offset);
        life.cursor = rest.unwrap_or_else(|| next.max(life.task.position()));
        Ok(())
    }

    /// Lets more records come where nobody is waiting for what follows from them: many at once cost little more than one.
    async fn gather(&self) -> Result<(), End> {
        if self.kind.urgent || self.options.gather.is_zero() {
            return Ok(());
        }
        let pause = async {
            tokio::time::sleep(self.options.gather).await;
            Ok(())
        };
        self.unless_shutdown(pause).await
    }

    /// Hands records to the task and commits what follows, at once.
    async fn handle(&self, life: &mut Life, records: &[Recorded]) -> Result<(), End> {
        let stop_at = life.bad.as_ref().map_or(Offset::MAX, |bad| bad.offset);
        let mut rest = &records[..records.partition_point(|r| r.offset < stop_at)];
        let reaches_bad = rest.len() < records.len();
        while !rest.is_empty() {
            let work = match catch_unwind(AssertUnwindSafe(|| life.task.handle(rest))) {
                Ok(work) => work?,
                Err(panic) => {
                    return Err(End::Panicked(Bad {
                        offset: life.task.at_hand(),
                        unread: false,
                        reason: format!("the processor panicked: {}", said(&*panic)),
                    }));
                }
            };
            let done = rest.partition_point(|r| r.offset < work.reached);
            metrics::counter!(crate::metrics::HANDLED, "processor" => self.kind.name).increment(done as u64);
            rest = &rest[done..];
            if work.checkpoint.is_some() {
                self.saved(life).await?;
            }
            self.commit(life, work, false).await?;
            self.save(life).await?;
            tokio::task::yield_now().await;
        }
        match life.bad.take_if(|_| reaches_bad) {
            Some(bad) => Err(End::Stopped(bad)),
            None => Ok(()),
        }
    }

    /// Begins to save the states where that is due and none are being saved; lets go of memory where they have been.
    async fn save(&self, life: &mut Life) -> Result<(), LogError> {
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
    async fn saved(&self, life: &mut Life) -> Result<(), LogError> {
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

    async fn commit(&self, life: &mut Life, mut work: Work, checkpoint: bool) -> Result<(), LogError> {
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

    /// Nothing to read: takes the word if it is not ours yet, saves what is due, waits.
    async fn idle(&self, life: &mut Life) -> Result<(), End> {
        self.options
            .board
            .change(self.kind.name, self.partition, |status| status.lag = 0);
        if !life.task.speaks() && !self.options.standby && !life.asked {
            self.ask_for_the_word(life).await?;
            return Ok(());
        }
        self.save(life).await?;
        let wait = self.log.wait(Topic::Journal, self.partition, life.cursor);
        let wait = tokio::time::timeout(self.options.checkpoint_every, wait);
        self.unless_shutdown(async { wait.await.unwrap_or(Ok(())) }).await
    }

    /// About once a second: how far behind.
    async fn look(&self, life: &mut Life) {
        if life.looked.elapsed() < Duration::from_secs(1) {
            return;
        }
        life.looked = Instant::now();
        let (processor, partition) = (self.kind.name, self.partition);
        let Ok(bounds) = self.log.bounds(Topic::Journal, partition).await else {
            return;
        };
        let lag = u64::try_from(bounds.end - life.cursor).unwrap_or(0);
        self.options
            .board
            .change(processor, partition, |status| status.lag = lag);
        metrics::gauge!(crate::metrics::LAG, "processor" => processor, "partition" => partition.to_string())
            .set(lag as f64);
        metrics::gauge!(crate::metrics::RESIDENT, "processor" => processor, "partition" => partition.to_string())
            .set(life.task.resident() as f64);
    }
}

fn said(panic: &(dyn std::any::Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("without a word")
}
