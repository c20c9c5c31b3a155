//! The embedded home keeps what every home keeps, and what only it can be asked.

use std::sync::Arc;

use async_trait::async_trait;
use projections::conformance::Site;
use projections::embedded::{EmbeddedViews, Options};
use projections::store::ViewStore;

/// A folder of its own. fjall lets go of it a moment after the last handle is gone, so opening waits for that.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }
}

#[async_trait]
impl Site for Folder {
    async fn open(&self) -> Arc<dyn ViewStore> {
        loop {
            match EmbeddedViews::open(self.0.path(), Options::default()) {
                Ok(views) => return views,
                Err(error) if error.to_string().contains("another process") => tokio::task::yield_now().await,
                Err(error) => panic!("{error}"),
            }
        }
    }
}

projections::conformance_suite!(Folder::new());
