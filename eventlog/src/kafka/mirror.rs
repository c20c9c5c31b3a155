//! What stock lag tools see: the committed offsets of the group follow how far processors have come. Nobody starts from
//! them; places are claimed by the origin rule.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext};
use tokio::time::Instant;

use super::progress::Progress;
use crate::{Offset, Partition, Topic};

/// How often it is looked whether there is something to tell.
const EVERY: Duration = Duration::from_secs(1);

pub(super) struct Mirror {
    progress: Arc<Progress>,
    journal: String,
    told: BTreeMap<Partition, Offset>,
    looked: Option<Instant>,
}

impl Mirror {
    pub(super) const fn new(progress: Arc<Progress>, journal: String) -> Self {
        Self {
            progress,
            journal,
            told: BTreeMap::new(),
            looked: None,
        }
    }

    /// Tells the group how far the slowest processor of each partition has come, where that is news.
    pub(super) fn tell<C: ConsumerContext>(&mut self, consumer: &BaseConsumer<C>, mine: &BTreeSet<Partition>) {
        if self.looked.is_some_and(|looked| looked.elapsed() < EVERY) {
            return;
        }
        self.looked = Some(Instant::now());
        // Whoever has a partition now tells of it anew.
        self.told.retain(|partition, _| mine.contains(partition));
        let mut news = TopicPartitionList::new();
        for partition in mine {
            let derived = Topic::ALL.into_iter().filter(|topic| topic.is_derived());
            let reached = derived.map(|topic| self.progress.of((topic, *partition)).journal);
            let Some(slowest) = slowest(reached).filter(|at| self.told.get(partition) != Some(at)) else {
                continue;
            };
            let offset = rdkafka::Offset::Offset(slowest);
            if news
                .add_partition_offset(&self.journal, i32::from(*partition), offset)
                .is_ok()
            {
                self.told.insert(*partition, slowest);
            }
        }
        if news.count() > 0
            && let Err(error) = consumer.commit(&news, CommitMode::Async)
        {
            // The next news is told again; until then tools show an older place.
            tracing::debug!(%error, "the group was not told how far processors are");
            self.told.clear();
        }
    }
}

/// The least place of those that are known.
fn slowest(places: impl Iterator<Item = Offset>) -> Option<Offset> {
    places.filter(|place| *place > 0).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_is_as_far_as_its_slowest_processor_that_is_known() {
        assert_eq!(slowest([7, 5, 0, 9].into_iter()), Some(5));
        assert_eq!(slowest([0, 0].into_iter()), None);
    }
}
