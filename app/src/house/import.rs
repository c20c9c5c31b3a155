//! Rows of a file become registrations: through the registry of a running server, else through one of its own, whose
//! views are kept up meanwhile.

use std::sync::Arc;

use api::Registry;
use schemas::registry::Register;
use serde_json::{Map, Value};
use tokio::sync::{Mutex, OnceCell};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::House;

/// The registry of a directory on which no server runs.
#[derive(Debug, Default)]
pub(super) struct OwnRegistry {
    registry: OnceCell<Arc<Registry>>,
    projecting: Mutex<Option<JoinHandle<()>>>,
    stop: CancellationToken,
}

impl House {
    pub(super) async fn import(
        &self,
        register: Register,
        rows: Vec<Map<String, Value>>,
        (by, dry_run): (&str, bool),
    ) -> Result<Value, String> {
        let registry = match &self.served {
            Some(served) => &served.registry,
            None => self.own.registry.get_or_try_init(|| self.begin_registry()).await?,
        };
        let imported = registry
            .import(register, rows, by, dry_run)
            .await
            .map_err(|problem| format!("not imported: {}", problem.detail()))?;
        serde_json::to_value(imported).map_err(|e| e.to_string())
    }

    async fn begin_registry(&self) -> Result<Arc<Registry>, String> {
        let views = self.open_views().await.map_err(|e| e.to_string())?.store();
        let options = projections::runner::Options {
            catalogue: Arc::clone(&self.catalogue),
            ..Default::default()
        };
        let following = projections::runner::run(
            Arc::clone(&self.log),
            Arc::clone(&views),
            options,
            self.own.stop.clone(),
        );
        let following = tokio::spawn(async move {
            if let Err(error) = following.await {
                tracing::error!(%error, "the views are not kept up");
            }
        });
        *self.own.projecting.lock().await = Some(following);
        Ok(Registry::new(
            Arc::clone(&self.log),
            views,
            Arc::clone(&self.clock),
            self.kafka.is_some(),
        ))
    }

    /// Lets go of what a command began beside a house that is not served.
    pub async fn close(self) {
        self.own.stop.cancel();
        if let Some(following) = self.own.projecting.lock().await.take() {
            // It was told to end; what it has not projected is projected at the next start.
            let _ = following.await;
        }
    }
}
