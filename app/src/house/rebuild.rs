//! The views, made anew from the log.

use std::sync::Arc;

use serde_json::{Value, json};

use super::House;

impl House {
    /// A running server goes on with the old ones until its next start.
    pub(super) async fn rebuild_views(&self) -> Result<Value, String> {
        let options = projections::runner::Options {
            catalogue: Arc::clone(&self.catalogue),
            ..projections::runner::Options::default()
        };
        let log = Arc::clone(&self.log);
        let rebuilt = match &self.database {
            Some(database) => projections::scylla::rebuild(log, database.clone(), options).await,
            None => projections::embedded::rebuild(log, &self.dir.views(), self.views_options, options).await,
        };
        rebuilt.map_err(|e| e.to_string())?;
        let used = if self.served.is_some() {
            "from the server's next start on"
        } else {
            "now"
        };
        let place = match &self.database {
            Some(database) => database.keyspace.clone(),
            None => self.dir.views().display().to_string(),
        };
        Ok(json!({"rebuilt": place, "used": used}))
    }
}
