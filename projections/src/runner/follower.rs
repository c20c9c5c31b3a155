//! One partition of one topic: read, project, write rows and progress together.

use std::sync::Arc;
use std::time::Duration;

use eventlog::origin::Reader;
use eventlog::{Batch, EventLog, Limit, LogError, Offset, Partition, Topic, Unreadable};
use schemas::codec::{self, DecodeError};
use schemas::derived::Origin;
use schemas::refused::Rejection;
use tokio_util::sync::CancellationToken;

use super::{Options, RunError};
use crate::metrics;
use crate::store::{Change, Progress, ViewError, ViewStore};
use crate::views;

/// A batch is small below this part of what is read at once.
const FEW: usize = 4;
/// How often it is looked whether a schema has been told of.
const TOLD: Duration = Duration::from_millis(200);

pub(super) struct Follower {
    log: Arc<dyn EventLog>,
    store: Arc<dyn ViewStore>,
    options: Options,
    topic: Topic,
    partition: Partition,
}

/// What a stretch of the log comes to.
#[derive(Debug, Default)]
struct Projected {
    changes: Vec<Change>,
    last_origin: Option<Origin>,
    repeats: usize,
}

/// Why a batch cannot be projected whole.
enum Cannot {
    Read(Unreadable),
    Accept(RunError),
}

impl Follower {
    pub(super) const fn new(
        log: Arc<dyn EventLog>,
        store: Arc<dyn ViewStore>,
        options: Options,
        topic: Topic,
        partition: Partition,
    ) -> Self {
        Self {
            log,
            store,
            options,
            topic,
            partition,
        }
    }

    /// Follows until `shutdown`.
    pub(super) async fn run(self, shutdown: CancellationToken) -> Result<(), RunError> {
        let follow = self.follow(None);
        let ended = shutdown.run_until_cancelled(follow).await.unwrap_or(Ok(()));
        self.tell(&ended);
        if shutdown.is_cancelled() {
            self.options.board.leave(self.topic, self.partition);
        }
        ended
    }

    /// Projects what the log holds now.
    pub(super) async fn catch_up(self) -> Result<(), RunError> {
        let end = self.retrying(|| self.log.bounds(self.topic, self.partition)).await?.end;
        let ended = self.follow(Some(end)).await;
        self.tell(&ended);
        ended
    }

    fn tell(&self, ended: &Result<(), RunError>) {
        if let Err(error) = ended {
            tracing::error!(topic = self.topic.name(), partition = self.partition, %error, "views stopped");
            self.options.board.stop(self.topic, self.partition, error.to_string());
        }
    }

    /// Follows for ever, or until `end`.
    async fn follow(&self, end: Option<Offset>) -> Result<(), RunError> {
        let mut progress = self.start().await?;
        self.options.board.reached(self.topic, self.partition, progress.next);
        while end.is_none_or(|end| progress.next < end) {
            if end.is_none() {
                self.retrying(|| self.log.wait(self.topic, self.partition, progress.next))
                    .await?;
            }
            let batch = self.read(progress.next, self.options.batch).await?;
            let Some(next) = batch.next() else {
                // Before an end there may be a gap, and then nothing more.
                if end.is_some() {
                    return Ok(());
                }
                continue;
            };
            match self.project(&batch, progress.last_origin.as_ref()) {
                Ok(projected) => {
                    self.write(&mut progress, next, batch.entries().len(), projected)
                        .await?;
                    let few = batch.entries().len() < self.options.batch.records / FEW;
                    if few && end.is_none() && self.topic != Topic::Alerts {
                        tokio::time::sleep(self.options.gather).await;
                    }
                }
                Err(Cannot::Read(unreadable)) => {
                    let untold = match unreadable.error {
                        DecodeError::UnknownSchema(schema) if end.is_none() => Some(schema),
                        _ => None,
                    };
                    match (untold, self.up_to(unreadable, &batch, &mut progress).await) {
                        (Some(schema), error @ RunError::Unreadable { .. }) => self.told(schema, error).await,
                        (_, error) => return Err(error),
                    }
                }
                Err(Cannot::Accept(error)) => return Err(error),
            }
        }
        Ok(())
    }

    /// Where to go on, where that is a place of this log.
    async fn start(&self) -> Result<Progress, RunError> {
        let (topic, partition) = (self.topic, self.partition);
        let incarnation = self.log.layout().incarnation;
        let bounds = self.retrying(|| self.log.bounds(topic, partition)).await?;
        let saved = self.retrying(|| self.store.progress(topic, partition)).await?;
        let Some(progress) = saved else {
            return Ok(Progress {
                topic,
                partition,
                incarnation,
                next: bounds.start,
                last_origin: None,
            });
        };
        if progress.incarnation != incarnation {
            return Err(RunError::OtherIncarnation {
                expected: incarnation,
                found: progress.incarnation,
            });
        }
        if progress.next > bounds.end {
            return Err(RunError::BeyondEnd {
                topic,
                partition,
                next: progress.next,
                end: bounds.end,
            });
        }
        Ok(progress)
    }

    async fn read(&self, from: Offset, limit: Limit) -> Result<Arc<Batch>, RunError> {
        self.retrying(|| self.log.read(self.topic, self.partition, from, limit))
            .await
    }

    /// The rows that follow from a batch, after the origin accepted last.
    fn project(&self, batch: &Batch, last: Option<&Origin>) -> Result<Projected, Cannot> {
        let catalogue = &self.options.catalogue;
        let mut out = Projected {
            last_origin: last.cloned(),
            ..Projected::default()
        };
        match self.topic {
            Topic::Journal => {
                let facts = batch.facts(catalogue).map_err(Cannot::Read)?;
                out.changes.reserve(4 * facts.len());
                for fact in facts {
                    views::project_fact(fact, &mut out.changes);
                }
            }
            Topic::Rejected => {
                for entry in batch.entries() {
                    let offset = entry.offset;
                    let rejection = codec::decode_plain::<Rejection>(&entry.value, catalogue)
                        .map_err(|error| Cannot::Read(Unreadable { offset, error }))?;
                    if let Some(rejection) = rejection {
                        views::project_rejection(&rejection, &mut out.changes);
                    }
                }
            }
            _ => {
                let mut reader = Reader::new(self.log.layout().incarnation, out.last_origin.take());
                for (_, derived) in batch.derived(catalogue).map_err(Cannot::Read)? {
                    // What came before is a repeat of what was seen (the origin rule, DESIGN §3).
                    if reader.accept(&derived.origin).map_err(|e| Cannot::Accept(e.into()))? {
                        views::project_derived(&derived, &mut out.changes);
                    } else {
                        out.repeats += 1;
                    }
                }
                out.last_origin = reader.last().cloned();
            }
        }
        Ok(out)
    }

    async fn write(
        &self,
        progress: &mut Progress,
        next: Offset,
        records: usize,
        projected: Projected,
    ) -> Result<(), RunError> {
        let Projected {
            changes,
            last_origin,
            repeats,
        } = projected;
        *progress = Progress {
            next,
            last_origin,
            ..progress.clone()
        };
        self.retrying(|| self.store.apply(&changes, Some(progress))).await?;
        metrics::projected(self.topic.name(), records, changes.len(), repeats);
        self.options.board.reached(self.topic, self.partition, next);
        Ok(())
    }

    /// Waits until somebody tells of a schema; until then it is as if it had stopped for good.
    async fn told(&self, schema: u32, error: RunError) {
        self.tell(&Err(error));
        while !self.options.catalogue.knows(schema) {
            tokio::time::sleep(TOLD).await;
        }
        tracing::info!(
            topic = self.topic.name(),
            partition = self.partition,
            schema,
            "told of: views go on"
        );
        self.options.board.go_on(self.topic, self.partition);
    }

    /// Projects what stands before a record that cannot be read, and says why nothing more follows.
    async fn up_to(&self, unreadable: Unreadable, batch: &Batch, progress: &mut Progress) -> RunError {
        let records = batch
            .entries()
            .iter()
            .take_while(|e| e.offset < unreadable.offset)
            .count();
        let (topic, partition) = (self.topic, self.partition);
        if records > 0 {
            let before = Batch::new(topic, partition, batch.entries()[..records].to_vec());
            let next = unreadable.offset;
            let written = match self.project(&before, progress.last_origin.as_ref()) {
                Ok(projected) => self.write(progress, next, records, projected).await,
                Err(Cannot::Accept(error)) => Err(error),
                Err(Cannot::Read(_)) => Ok(()),
            };
            if let Err(error) = written {
                return error;
            }
        }
        RunError::Unreadable {
            topic,
            partition,
            unreadable,
        }
    }

    /// Tries until it succeeds, or fails in a way that trying again does not mend.
    async fn retrying<T, E, F>(&self, attempt: impl Fn() -> F) -> Result<T, RunError>
    where
        E: Passing + Into<RunError> + std::fmt::Display,
        F: Future<Output = Result<T, E>>,
    {
        let mut pause = self.options.retry;
        loop {
            match attempt().await {
                Ok(value) => return Ok(value),
                Err(error) if error.may_pass() => {
                    metrics::retried(self.topic.name());
                    tracing::warn!(topic = self.topic.name(), partition = self.partition, %error, "trying again");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(self.options.retry * 32).max(Duration::from_millis(1));
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// Whether trying again may help.
trait Passing {
    fn may_pass(&self) -> bool;
}

impl Passing for LogError {
    fn may_pass(&self) -> bool {
        matches!(self, Self::Unavailable(_))
    }
}

impl Passing for ViewError {
    fn may_pass(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::Full(_))
    }
}
