//! The port of the store of views.

use std::fmt::Debug;
use std::ops::Bound;

use async_trait::async_trait;
use eventlog::{Offset, Partition, Topic};
use schemas::derived::{Incarnation, Origin};

use crate::view::{Cell, Row, View};

/// A whole row to be written, or its removal.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// The view.
    pub view: &'static View,
    /// Partition and clustering cells.
    pub key: Vec<Cell>,
    /// A lower version never overwrites a higher one; of equal versions a removal wins, else the greater cells, in the
    /// order of one value of CQL. Facts that may give one row in equal versions are for views that say so
    /// ([`View::apart`]).
    pub version: i64,
    /// The other cells; `None` removes the row.
    pub cells: Option<Vec<Cell>>,
}

/// How far one topic's partition has been projected.
#[derive(Debug, Clone, PartialEq)]
pub struct Progress {
    /// The topic.
    pub topic: Topic,
    /// Its partition.
    pub partition: Partition,
    /// Which life of the journal the offsets belong to.
    pub incarnation: Incarnation,
    /// The next offset to read.
    pub next: Offset,
    /// The last origin accepted, for derived topics.
    pub last_origin: Option<Origin>,
}

/// Which rows of one partition of a view.
///
/// Bounds are clustering cells or a prefix of them, as CQL compares tuples: `Excluded` of a prefix leaves out every row
/// that begins with it, `Included` takes all of those in.
#[derive(Debug, Clone, PartialEq)]
pub struct Scan {
    /// The partition key, whole.
    pub partition: Vec<Cell>,
    /// The least rows that count.
    pub from: Bound<Vec<Cell>>,
    /// The greatest rows that count.
    pub to: Bound<Vec<Cell>>,
    /// From the greatest to the smallest.
    pub descending: bool,
    /// At most so many rows.
    pub limit: usize,
}

impl Scan {
    /// The least `limit` rows of a partition.
    #[must_use]
    pub const fn of(partition: Vec<Cell>, limit: usize) -> Self {
        Self {
            partition,
            from: Bound::Unbounded,
            to: Bound::Unbounded,
            descending: false,
            limit,
        }
    }

    /// The greatest instead of the least.
    #[must_use]
    pub fn descending(self) -> Self {
        Self {
            descending: true,
            ..self
        }
    }

    /// Nothing less than this.
    #[must_use]
    pub fn from(self, from: Bound<Vec<Cell>>) -> Self {
        Self { from, ..self }
    }

    /// Nothing greater than this.
    #[must_use]
    pub fn to(self, to: Bound<Vec<Cell>>) -> Self {
        Self { to, ..self }
    }
}

/// Why the store did not do what it was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ViewError {
    /// Try again later.
    #[error("the store of views is unavailable: {0}")]
    Unavailable(String),
    /// The disk is full: make room.
    #[error("the views' disk is full: {0}")]
    Full(String),
    /// The caller's mistake: cells do not fit the view.
    #[error("the cells do not fit the view {0}")]
    Misfit(&'static str),
    /// The caller's mistake: the cursor is not one that this query gave.
    #[error("the cursor is not one that this query gave")]
    Cursor,
    /// The rows were written by another version of the views: rebuild them.
    #[error("the views were written by another version of this program: rebuild them")]
    Outdated,
    /// Stored bytes are damaged: rebuild the views.
    #[error("damaged: {0}")]
    Corrupt(String),
}

/// The store. Writing twice is writing once, in any order.
#[async_trait]
pub trait ViewStore: Debug + Send + Sync + 'static {
    /// Writes changes and then progress: progress never runs ahead of rows, and after a crash both are as of some
    /// earlier call, rows at least as far as progress.
    ///
    /// # Errors
    /// [`ViewError`]; then any part of the changes may be there, the progress not.
    async fn apply(&self, changes: &[Change], progress: Option<&Progress>) -> Result<(), ViewError>;

    /// How far one topic's partition has been projected; `None` where nothing has.
    ///
    /// # Errors
    /// [`ViewError::Unavailable`].
    async fn progress(&self, topic: Topic, partition: Partition) -> Result<Option<Progress>, ViewError>;

    /// One row.
    ///
    /// # Errors
    /// [`ViewError::Unavailable`], [`ViewError::Misfit`].
    async fn get(&self, view: &'static View, key: &[Cell]) -> Result<Option<Row>, ViewError>;

    /// Rows of one partition of a view, in clustering order.
    ///
    /// # Errors
    /// [`ViewError::Unavailable`], [`ViewError::Misfit`].
    async fn scan(&self, view: &'static View, scan: Scan) -> Result<Vec<Row>, ViewError>;

    /// Cleans away what is left of rows that were removed before the last call. Called now and then, hours apart:
    /// nobody writes an older version that late.
    ///
    /// # Errors
    /// [`ViewError::Unavailable`].
    async fn sweep(&self) -> Result<(), ViewError> {
        Ok(())
    }
}
