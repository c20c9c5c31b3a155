//! Views made anew from the log, beside those in use.

use std::path::Path;
use std::sync::Arc;

use eventlog::EventLog;

use super::generation::Fresh;
use super::{EmbeddedViews, Options};
use crate::runner::{self, RunError};
use crate::store::ViewStore;

/// Makes the views of a directory anew from the log's beginning to its present end, then puts them in the place of those
/// that are there: who opens the directory from then on gets the new ones. Those in use stay as they are until closed.
///
/// # Errors
/// [`RunError`]; then the views in use are still those of before.
pub async fn rebuild(
    log: Arc<dyn EventLog>,
    dir: &Path,
    options: Options,
    run: runner::Options,
) -> Result<(), RunError> {
    let fresh = Fresh::begin(dir)?;
    let made = make(log, &fresh, options, run).await;
    if made.is_err()
        && let Err(error) = std::fs::remove_dir_all(fresh.folder())
    {
        tracing::warn!(folder = %fresh.folder().display(), %error, "unfinished views were not deleted");
    }
    made
}

async fn make(log: Arc<dyn EventLog>, fresh: &Fresh, options: Options, run: runner::Options) -> Result<(), RunError> {
    let views = EmbeddedViews::open_folder(&fresh.folder(), options)?;
    let store: Arc<dyn ViewStore> = Arc::<EmbeddedViews>::clone(&views);
    runner::catch_up(log, store, run).await?;
    views.persist().await?;
    fresh.switch()?;
    Ok(())
}
