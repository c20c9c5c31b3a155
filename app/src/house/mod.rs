//! What a data directory holds, and what can be done with it beside serving: policy, skips, replay, verification.
//!
//! A running server and a command that opens the directory by itself hold the same [`House`].

mod bounded;
pub mod dir;
pub mod gate;
mod import;
pub mod policy;
mod rebuild;
mod replay;
mod revoke;
mod skip;
pub mod told;
mod verify;

use std::sync::Arc;

use eventlog::embedded::{Embedded, LocalShelves};
use eventlog::kafka::Kafka;
use eventlog::moving::Carriable;
use eventlog::{Clock, EventLog, LogError, Standing, SystemClock};
use projections::embedded::EmbeddedViews;
use projections::scylla::ScyllaViews;
use projections::store::{ViewError, ViewStore};
use schemas::codec::Catalogue;
use schemas::time::Timestamp;
use serde_json::Value;
use tokio::sync::Mutex;

use crate::broker_token;
use crate::config::Config;
use crate::control::Request;
use crate::failure::Failure;
use dir::DataDir;
use gate::Gate;
use told::Told;

/// A data directory, opened.
#[derive(Debug, Clone)]
pub struct House {
    /// Where it lies.
    pub dir: DataDir,
    /// The log.
    pub log: Arc<dyn EventLog>,
    /// What records are read by.
    pub catalogue: Arc<Catalogue>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Whether this log is the one to go on with.
    pub standing: Standing,
    /// The same log, where it is Kafka.
    pub kafka: Option<Arc<Kafka>>,
    /// How views are stored in the directory, and made beside those there are.
    pub views_options: projections::embedded::Options,
    /// The database of the views, where they are not in the directory.
    pub database: Option<projections::scylla::Options>,
    /// The views and what holds their projection, where a server runs.
    pub served: Option<Served>,
    /// The policy in force, and how to change it.
    pub policy: Arc<policy::Keeper>,
    /// Who is registered, where no server runs.
    own: Arc<import::OwnRegistry>,
    /// One of the long commands at a time.
    busy: Arc<Mutex<()>>,
}

/// What a running server adds.
#[derive(Debug, Clone)]
pub struct Served {
    /// The views that are served.
    pub views: Views,
    /// Holds their projection still.
    pub gate: Arc<Gate>,
    /// Who is registered.
    pub registry: Arc<api::Registry>,
}

/// Views, wherever they are.
#[derive(Debug, Clone)]
pub enum Views {
    /// In the data directory.
    Embedded(Arc<EmbeddedViews>),
    /// In a database that others share.
    Database(Arc<ScyllaViews>),
}

impl Views {
    /// As what everybody reads and writes.
    #[must_use]
    pub fn store(&self) -> Arc<dyn ViewStore> {
        match self {
            Self::Embedded(views) => Arc::<EmbeddedViews>::clone(views),
            Self::Database(views) => Arc::<ScyllaViews>::clone(views),
        }
    }
}

impl House {
    /// Opens the log: of the directory, where both are made if they are not there, or the one that the options name.
    ///
    /// # Errors
    /// [`Failure::Failed`] with what to do, in one line.
    pub async fn open(config: &Config) -> Result<Self, Failure> {
        let dir = DataDir::new(&config.data.dir);
        dir.make()?;
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let kafka = match config.log.kafka().map_err(Failure::WrongUse)? {
            None => None,
            Some(options) => {
                broker_token::begin(config).await?;
                let states = LocalShelves::new(dir.states(), config.log.disk_cache.0, config.log.memtable.0);
                let opened = Kafka::open_with(options, Arc::new(states)).await;
                Some(opened.map_err(|e| Failure::because(format_args!("the log at {}", config.log.url), e))?)
            }
        };
        let (log, standing): (Arc<dyn EventLog>, _) = match &kafka {
            Some(kafka) => (Arc::<Kafka>::clone(kafka), kafka.standing()),
            None => {
                let opened = Embedded::open(&dir.log(), config.log.options(), Arc::clone(&clock));
                let log = opened.map_err(|e| log_failure(&dir, &e))?;
                let standing = log.standing();
                (log, standing)
            }
        };
        let catalogue = Arc::new(Catalogue::builtin());
        let keeper = policy::Keeper::new(Arc::clone(&log), Arc::clone(&catalogue), dir.path());
        let house = Self {
            dir,
            log,
            catalogue,
            clock,
            standing,
            kafka,
            database: config.views.database().map_err(Failure::WrongUse)?,
            views_options: config.views.options(),
            served: None,
            policy: Arc::new(keeper),
            own: Arc::default(),
            busy: Arc::default(),
        };
        let learnt = house.learn(&mut Told::default()).await;
        learnt.map_err(|e| Failure::because("fajma.control", e))?;
        Ok(house)
    }

    /// Whether anything may be recorded here.
    ///
    /// # Errors
    /// [`Failure::Failed`]: it goes on elsewhere.
    pub fn serving(&self) -> Result<(), Failure> {
        let serving = self.standing.check_serving();
        serving.map_err(|e| Failure::because(self.dir.path().display(), e))
    }

    /// Opens the views.
    ///
    /// # Errors
    /// [`Failure::Failed`] with what to do, in one line.
    pub async fn open_views(&self) -> Result<Views, Failure> {
        if let Some(database) = &self.database {
            let opened = ScyllaViews::open(database.clone()).await;
            let failed = |e| Failure::because(format_args!("the views in {}", database.keyspace), e);
            return opened.map(Views::Database).map_err(failed);
        }
        let opened = EmbeddedViews::open(&self.dir.views(), self.views_options);
        opened.map(Views::Embedded).map_err(|e| views_failure(&self.dir, &e))
    }

    /// The time.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Does what a command asks.
    ///
    /// # Errors
    /// Why it was not done, for people.
    pub async fn answer(&self, request: Request) -> Result<Value, String> {
        match request {
            Request::PolicyShow => self.show_policy().await,
            Request::PolicyApply { policy, by } => self.apply_policy(&policy, &by).await,
            Request::Skip {
                processor,
                partition,
                offset,
                by,
                reason,
            } => self.skip(&processor, (partition, offset), &by, &reason).await,
            Request::Verify => {
                let _one = self.alone()?;
                self.verify().await
            }
            Request::Replay(what) => {
                let _one = self.alone()?;
                self.replay(what).await
            }
            Request::Import {
                register,
                rows,
                by,
                dry_run,
            } => self.import(register, rows, (&by, dry_run)).await,
            Request::Revoke { token, subject, by } => self.revoke(token, subject, &by).await,
            Request::RebuildViews => {
                let _one = self.alone()?;
                self.rebuild_views().await
            }
        }
    }

    fn alone(&self) -> Result<tokio::sync::MutexGuard<'_, ()>, String> {
        self.busy
            .try_lock()
            .map_err(|_| "another verification, replay or rebuild is under way: wait for it".to_owned())
    }
}

/// What to do about a log that does not open.
fn log_failure(dir: &DataDir, error: &LogError) -> Failure {
    let place = dir.log().display().to_string();
    match error {
        LogError::Full(why) => Failure::because(
            format_args!("the disk of {place} is full: make room, then start again"),
            why,
        ),
        LogError::Corrupt(why) => Failure::because(
            format_args!("the log in {place} is damaged: keep a copy of the directory, and restore a backup"),
            why,
        ),
        other => Failure::because(format_args!("the log in {place} cannot be opened"), other),
    }
}

/// What to do about views that do not open.
fn views_failure(dir: &DataDir, error: &ViewError) -> Failure {
    let place = dir.views().display().to_string();
    match error {
        ViewError::Outdated | ViewError::Corrupt(_) => Failure::Failed(format!(
            "the views in {place} must be made again from the log ({error}): fajma views rebuild --data {}",
            dir.path().display()
        )),
        other => Failure::because(format_args!("the views in {place} cannot be opened"), other),
    }
}
