//! Where the log stands, and what of it can be carried elsewhere.

use std::sync::PoisonError;
use std::time::Duration;

use async_trait::async_trait;
use smol_str::SmolStr;

use super::lineage::{self, Lineage};
use super::produce::Message;
use super::{Kafka, place, progress, states, topics};
use crate::moving::{Carriable, Saved, SavedPlace};
use crate::{LogError, Partition, Standing, Topic};

/// Doors and processors tick once a second: after so long without a record none of them runs.
const REST: Duration = Duration::from_secs(4);

#[async_trait]
impl Carriable for Kafka {
    fn standing(&self) -> Standing {
        self.0.standing.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn stand(&self, standing: Standing) -> Result<(), LogError> {
        let (options, layout) = (&self.0.options, self.0.layout);
        let found = topics::look(options).await?;
        if matches!(self.standing(), Standing::Arriving { .. }) {
            topics::settle(options, layout.partitions).await?;
        }
        let gone = || LogError::Unavailable("the journal's topic is gone".to_owned());
        let lineage = Lineage {
            topic: found.journal.ok_or_else(gone)?,
            incarnation: layout.incarnation,
            standing: standing.clone(),
        };
        lineage::write(options, &lineage, found.replication).await?;
        // Those who have it open hear it too; whoever opens it later reads the lineage.
        let (topic, text) = (options.progress(), standing.to_string());
        let told = Message::of(&topic, 0, progress::STANDING, text.as_bytes());
        self.0.appends.now()?.send(std::iter::once(told)).await?;
        *self.0.standing.write().unwrap_or_else(PoisonError::into_inner) = standing;
        Ok(())
    }

    async fn saved(&self, output: Topic, partition: Partition) -> Result<Saved, LogError> {
        let inner = &self.0;
        inner.layout.check(output, partition)?;
        let mut places = Vec::new();
        for (name, restore) in states::read(inner, output, partition).await? {
            let (states, position, context) = restore.finish();
            let says = |stored: &crate::Stored| !stored.is_past(position);
            places.push(SavedPlace {
                name,
                position,
                context,
                states: states.into_iter().filter(|(_, stored)| says(stored)).collect(),
            });
        }
        let last = place::last_origin(inner, output, partition).await?;
        // One that has saved nothing yet bears its topic's name.
        let nameless = || {
            last.as_ref()
                .map(|_| SmolStr::new(output.name().trim_start_matches("fajma.")))
        };
        let writer = places.last().map(|place| place.name.clone()).or_else(nameless);
        Ok(Saved {
            places,
            reached: inner.progress.of((output, partition)),
            writer,
            last,
        })
    }

    fn rest(&self) -> Duration {
        REST
    }
}
