//! In place of views, where a process neither makes nor serves them.

use async_trait::async_trait;
use eventlog::{Partition, Topic};
use projections::store::{Change, Progress, Scan, ViewError, ViewStore};
use projections::view::{Cell, Row, View};

/// Has nothing and takes nothing.
#[derive(Debug)]
pub(super) struct NoViews;

fn none<T>() -> Result<T, ViewError> {
    Err(ViewError::Unavailable(
        "this process has no views: ask one that serves".to_owned(),
    ))
}

#[async_trait]
impl ViewStore for NoViews {
    async fn apply(&self, _: &[Change], _: Option<&Progress>) -> Result<(), ViewError> {
        none()
    }
    async fn progress(&self, _: Topic, _: Partition) -> Result<Option<Progress>, ViewError> {
        none()
    }
    async fn get(&self, _: &'static View, _: &[Cell]) -> Result<Option<Row>, ViewError> {
        none()
    }
    async fn scan(&self, _: &'static View, _: Scan) -> Result<Vec<Row>, ViewError> {
        none()
    }
}
