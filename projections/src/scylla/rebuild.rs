//! Views made anew from the log, in tables of their own, beside those in use.

use std::sync::Arc;

use eventlog::EventLog;

use super::migrate::{self, Current};
use super::{Options, ScyllaViews, connect};
use crate::runner::{self, RunError};
use crate::store::ViewStore;
use crate::views;

/// Makes the views anew from the log's beginning to its present end, then switches: who opens them from then on gets the
/// new ones. Those in use before stay until the next rebuild, so that nobody who reads them falls into a hole.
///
/// # Errors
/// [`RunError`]; then the views in use are still those of before.
pub async fn rebuild(log: Arc<dyn EventLog>, options: Options, run: runner::Options) -> Result<(), RunError> {
    let session = connect(&options).await?;
    let in_use = migrate::current(&session, &options.keyspace).await?.generation;
    let (generation, views) = (in_use.next(), views::ALL);
    let past = in_use.number() - 1;
    for view in views {
        // What an unfinished rebuild left, and what the one before the last replaced.
        for old in [generation.number(), past].into_iter().filter(|n| *n > 0) {
            let (old, keyspace) = (super::cql::Generation::of(old), &options.keyspace);
            migrate::run(
                &session,
                &format!("DROP TABLE IF EXISTS {keyspace}.{}", old.table(view)),
            )
            .await?;
            migrate::run(&session, &format!("DROP TYPE IF EXISTS {keyspace}.{}", old.said(view))).await?;
        }
    }
    let forget = format!(
        "DELETE FROM {}.progress WHERE generation = ? AND topic = ? AND \"partition\" = ?",
        options.keyspace
    );
    for topic in runner::FOLLOWED {
        for partition in 0..topic.partitions(log.layout().partitions) {
            let values = (generation.number(), topic.name(), i32::from(partition));
            session
                .query_unpaged(forget.as_str(), values)
                .await
                .map_err(super::failed)?;
        }
    }
    migrate::make(&session, &options.keyspace, generation, &views).await?;
    let store: Arc<dyn ViewStore> = ScyllaViews::with(session, options.clone(), generation, &views).await?;
    runner::catch_up(log, store, run).await?;
    let declared = views::declared(&views);
    let session = connect(&options).await?;
    migrate::switch(&session, &options.keyspace, &Current { generation, declared }).await?;
    Ok(())
}

impl ScyllaViews {
    /// Views with these declarations in a keyspace, whatever was there: for the conformance suite.
    ///
    /// # Errors
    /// [`ViewError`](crate::store::ViewError).
    #[cfg(feature = "conformance")]
    pub async fn for_suite(
        options: Options,
        views: &[&'static crate::view::View],
    ) -> Result<Arc<Self>, crate::store::ViewError> {
        migrate::apply_views(&options, &super::Replication::Simple(1), views).await?;
        let session = connect(&options).await?;
        Self::with(session, options, super::cql::Generation::FIRST, views).await
    }
}
