//! Follows the log and keeps the views up with it, each partition of each topic by itself.

mod board;
mod follower;

pub use board::{Lag, NotYet, ProgressBoard, Stopped};

use std::sync::Arc;
use std::time::Duration;

use eventlog::{EventLog, Limit, LogError, Offset, Partition, Topic, Unreadable};
use schemas::codec::Catalogue;
use schemas::derived::Incarnation;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::store::{ViewError, ViewStore};
use follower::Follower;

/// The topics that views are made of.
pub const FOLLOWED: [Topic; 6] = [
    Topic::Journal,
    Topic::Windows,
    Topic::Alerts,
    Topic::Devices,
    Topic::Consultations,
    Topic::Rejected,
];

/// How to follow.
#[derive(Debug, Clone)]
pub struct Options {
    /// Which partitions; `None` for all.
    pub partitions: Option<Vec<Partition>>,
    /// Where progress is shown.
    pub board: Arc<ProgressBoard>,
    /// What records are read by.
    pub catalogue: Arc<Catalogue>,
    /// How much is read and written at once.
    pub batch: Limit,
    /// How long records gather where few have come, unless somebody waits for them: alerts are shown at once.
    pub gather: Duration,
    /// How long to wait after a failure that may pass; doubled up to 32 times this.
    pub retry: Duration,
    /// How often what is left of removed rows is cleaned away.
    pub sweep_every: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            partitions: None,
            board: Arc::default(),
            catalogue: Arc::new(Catalogue::builtin()),
            batch: Limit {
                records: 2048,
                bytes: 1 << 20,
            },
            gather: Duration::from_millis(10),
            retry: Duration::from_millis(100),
            sweep_every: Duration::from_secs(3600),
        }
    }
}

/// Why a partition's views stopped: a person decides.
#[derive(Debug, Clone, thiserror::Error)]
pub enum RunError {
    /// The log does not have the place where the views were.
    #[error("{0}")]
    Log(#[from] LogError),
    /// The views were made from another journal: rebuild them, or use the right log.
    #[error("the views were made from journal {found}, the log is {expected}")]
    OtherIncarnation {
        /// The log's.
        expected: Incarnation,
        /// The views'.
        found: Incarnation,
    },
    /// The views are ahead of the log: it lost its end, or it is the wrong log.
    #[error("the views of {topic:?}/{partition} are at {next}, but the log ends at {end}: rebuild them")]
    BeyondEnd {
        /// The topic.
        topic: Topic,
        /// Its partition.
        partition: eventlog::Partition,
        /// Where the views are.
        next: Offset,
        /// Where the log ends.
        end: Offset,
    },
    /// A record cannot be read: a newer program, or a person, is needed.
    #[error("{topic:?}/{partition}: {unreadable}")]
    Unreadable {
        /// The topic.
        topic: Topic,
        /// Its partition.
        partition: eventlog::Partition,
        /// Which record, and why.
        unreadable: Unreadable,
    },
    /// The store does not take the rows.
    #[error("{0}")]
    Views(#[from] ViewError),
    /// A program error ended a partition.
    #[error("a follower ended: {0}")]
    Ended(String),
}

/// Follows every partition of [`FOLLOWED`] until `shutdown`, or until no partition can go on. A partition that cannot go
/// on is shown on the board and logged; the others go on.
///
/// # Errors
/// The first [`RunError`] that stopped a partition, once all have ended.
pub async fn run(
    log: Arc<dyn EventLog>,
    store: Arc<dyn ViewStore>,
    options: Options,
    shutdown: CancellationToken,
) -> Result<(), RunError> {
    let mut followers = JoinSet::new();
    for topic in FOLLOWED {
        let wanted = |partition: &Partition| options.partitions.as_ref().is_none_or(|some| some.contains(partition));
        for partition in (0..topic.partitions(log.layout().partitions)).filter(wanted) {
            let follower = Follower::new(Arc::clone(&log), Arc::clone(&store), options.clone(), topic, partition);
            followers.spawn(follower.run(shutdown.clone()));
        }
    }
    let sweeping = tokio::spawn(sweep(store, options.sweep_every));
    let mut first = Ok(());
    while let Some(ended) = followers.join_next().await {
        let ended = ended.unwrap_or_else(|e| Err(RunError::Ended(e.to_string())));
        if first.is_ok() {
            first = ended;
        }
    }
    sweeping.abort();
    first
}

/// Brings the views up to where the log ends now, and ends.
///
/// # Errors
/// The first [`RunError`] that stopped a partition; the others are brought up all the same.
pub async fn catch_up(log: Arc<dyn EventLog>, store: Arc<dyn ViewStore>, options: Options) -> Result<(), RunError> {
    let mut first = Ok(());
    for topic in FOLLOWED {
        for partition in 0..topic.partitions(log.layout().partitions) {
            let follower = Follower::new(Arc::clone(&log), Arc::clone(&store), options.clone(), topic, partition);
            let ended = follower.catch_up().await;
            if first.is_ok() {
                first = ended;
            }
        }
    }
    first
}

async fn sweep(store: Arc<dyn ViewStore>, every: Duration) {
    loop {
        tokio::time::sleep(every).await;
        if let Err(error) = store.sweep().await {
            tracing::warn!(%error, "what is left of removed rows was not cleaned away");
        }
    }
}
