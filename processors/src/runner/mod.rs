//! The shell around the tasks: reads batches, commits work, ticks, tries again. The only async files of this crate.
//!
//! One tokio task per (processor, partition). One that stops leaves the others going: a record that cannot be judged
//! stops its processor on its partition, loudly ([`Board`]), with everything before it committed, until an operator's
//! skip arrives in `fajma.control`; an unavailable log is tried again from a fresh claim.

mod activate;
mod control;
mod place;
mod saving;
mod status;
mod succession;
mod ticker;
mod turn;

pub use activate::activate_missing;
pub use control::{Decisions, read_decisions};
pub use status::{Board, State, Status};

use std::sync::Arc;
use std::time::Duration;

use eventlog::{Clock, EventLog, Limit, LogError, Partition};
use schemas::codec::Catalogue;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::engine::erased::Kind;

/// So many tasks save their states at a time.
const SAVING: usize = 2;

/// How processors are run.
#[derive(Debug, Clone)]
pub struct Options {
    /// Which partitions; `None` for all.
    pub partitions: Option<Vec<Partition>>,
    /// How much to read at once, per task.
    pub read: Limit,
    /// How long processors that nobody is waiting for let records gather where few have come.
    pub gather: Duration,
    /// Bytes of states that all tasks together keep in memory.
    pub state_bytes: usize,
    /// How often states are saved; up to six times as seldom where many change. A restart replays what came since.
    pub checkpoint_every: Duration,
    /// After how many journal records states are saved at the latest.
    pub checkpoint_records: usize,
    /// Whether to tick (`by: process`) once a second.
    pub tick: bool,
    /// Whether nobody else runs processors on this log. A version that this process does not run is then gone, and its
    /// successor speaks from where it fell silent, not only from its own activation.
    pub alone: bool,
    /// Whether another process is the owner: nothing is written here but what places conclude.
    pub standby: bool,
    /// Where processors run that nobody is waiting for; `None` beside the others.
    pub behind: Option<Handle>,
    /// The schemas that records are read with.
    pub catalogue: Arc<Catalogue>,
    /// Where to show how it goes.
    pub board: Board,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            partitions: None,
            read: Limit {
                records: 1024,
                bytes: 1 << 20,
            },
            gather: Duration::from_millis(20),
            state_bytes: 192 << 20,
            checkpoint_every: Duration::from_secs(5),
            checkpoint_records: 200_000,
            tick: true,
            alone: false,
            standby: false,
            behind: None,
            catalogue: Arc::new(Catalogue::builtin()),
            board: Board::default(),
        }
    }
}

/// Why nothing could be run at all.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The options name a partition that the log does not have.
    #[error("there is no partition {asked}: the log has {there}")]
    NoSuchPartition {
        /// The partition.
        asked: Partition,
        /// How many there are.
        there: u16,
    },
    /// A task of the shell itself died: a fault of this program.
    #[error("a task of the runner died: {0}")]
    Died(#[from] tokio::task::JoinError),
}

/// Runs every processor on every partition asked for, until `shutdown`; states are saved before it returns.
///
/// # Errors
/// [`RunError`]. What a single task meets is on the [`Board`].
pub async fn run(
    log: Arc<dyn EventLog>,
    clock: Arc<dyn Clock>,
    options: Options,
    shutdown: CancellationToken,
) -> Result<(), RunError> {
    run_these(&crate::all(), log, clock, options, shutdown).await
}

/// The same for these processors.
///
/// # Errors
/// As [`run`].
pub async fn run_these(
    kinds: &[Kind],
    log: Arc<dyn EventLog>,
    clock: Arc<dyn Clock>,
    options: Options,
    shutdown: CancellationToken,
) -> Result<(), RunError> {
    let there = log.layout().partitions;
    let partitions = options.partitions.clone().unwrap_or_else(|| (0..there).collect());
    if let Some(asked) = partitions.iter().find(|p| **p >= there) {
        return Err(RunError::NoSuchPartition { asked: *asked, there });
    }
    let shares: usize = kinds.iter().map(|kind| kind.share).sum();
    let unit = options.state_bytes / (partitions.len() * shares).max(1);
    let turns = Arc::new(Semaphore::new(SAVING));
    let mut tasks = JoinSet::new();
    for partition in &partitions {
        // What journals are told is for owners to tell.
        for kind in kinds.iter().filter(|kind| !options.standby || kind.told.is_none()) {
            let place = place::Keeper {
                kind: *kind,
                partition: *partition,
                log: Arc::clone(&log),
                clock: Arc::clone(&clock),
                options: options.clone(),
                budget: unit * kind.share,
                turns: Arc::clone(&turns),
                shutdown: shutdown.clone(),
            };
            match &options.behind {
                Some(behind) if !kind.urgent => tasks.spawn_on(place.keep(), behind),
                _ => tasks.spawn(place.keep()),
            };
        }
    }
    if options.tick && !options.standby {
        tasks.spawn(ticker::tick(log, clock, partitions, shutdown.clone()));
    }
    let mut died = Ok(());
    while let Some(ended) = tasks.join_next().await {
        if let Err(error) = ended {
            tracing::error!(%error, "a task of the runner died");
            shutdown.cancel();
            died = Err(RunError::Died(error));
        }
    }
    died
}

/// Whether trying again may help.
const fn is_passing(error: &LogError) -> bool {
    matches!(error, LogError::Unavailable(_) | LogError::Full(_))
}

#[cfg(test)]
mod tests;
