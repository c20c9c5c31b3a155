//! Following the journal for a few kinds of facts: what is known from them is kept up while everything else passes by.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use schemas::codec::{self, Catalogue};
use schemas::journal::Envelope;
use tokio::task::JoinSet;

use crate::{EventLog, Limit, LogError, Offset, Partition, Topic};

/// So long more gathers before the journal is read on.
const GATHER: Duration = Duration::from_millis(50);
/// Records read at once: most are of no interest.
const AT_ONCE: Limit = Limit {
    records: 16_384,
    bytes: 4 << 20,
};

/// Whoever keeps something known from facts of the journal.
pub trait Follows: Send + Sync {
    /// The kinds of facts, by the names of their schemas.
    fn kinds(&self) -> &'static [&'static str];

    /// One of them; the same may come again, those of one partition come in order.
    fn fact(&self, envelope: &Envelope);
}

/// Reads the journal once for everybody who follows it.
pub struct Follower {
    log: Arc<dyn EventLog>,
    /// Each with the schemas that it wants decoded.
    readers: Vec<(Vec<u32>, Arc<dyn Follows>)>,
    /// The next offset of each partition.
    places: Mutex<Vec<Offset>>,
}

impl std::fmt::Debug for Follower {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Follower")
            .field("readers", &self.readers.len())
            .finish()
    }
}

impl Follower {
    /// Begins at the journal's start, unless it is told how far is [known](Self::known).
    #[must_use]
    pub fn new(log: Arc<dyn EventLog>, readers: Vec<Arc<dyn Follows>>) -> Arc<Self> {
        let partitions = usize::from(log.layout().partitions);
        let wanted = |reader: &Arc<dyn Follows>| {
            let kinds = codec::KINDS.iter().filter(|kind| reader.kinds().contains(&kind.name));
            kinds.map(|kind| kind.id).collect()
        };
        Arc::new(Self {
            log,
            readers: readers.into_iter().map(|reader| (wanted(&reader), reader)).collect(),
            places: Mutex::new(vec![0; partitions]),
        })
    }

    /// The readers know a partition up to an offset from elsewhere.
    pub fn known(&self, partition: Partition, next: Offset) {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(place) = places.get_mut(usize::from(partition)) {
            *place = next;
        }
    }

    /// Reads every partition to its end.
    ///
    /// # Errors
    /// As [`EventLog::read`].
    pub async fn catch_up(&self) -> Result<(), LogError> {
        for partition in 0..self.log.layout().partitions {
            self.read(partition).await?;
        }
        Ok(())
    }

    /// Follows the journal for as long as it is let. After an error it may be called again.
    ///
    /// # Errors
    /// As [`EventLog::read`].
    pub async fn follow(self: Arc<Self>) -> Result<(), LogError> {
        let mut following = JoinSet::new();
        for partition in 0..self.log.layout().partitions {
            let this = Arc::clone(&self);
            following.spawn(async move { this.follow_one(partition).await });
        }
        match following.join_next().await {
            Some(Ok(ended)) => ended,
            Some(Err(error)) => Err(LogError::Unavailable(error.to_string())),
            None => Ok(()),
        }
    }

    async fn follow_one(&self, partition: Partition) -> Result<(), LogError> {
        loop {
            self.read(partition).await?;
            self.log.wait(Topic::Journal, partition, self.place(partition)).await?;
            tokio::time::sleep(GATHER).await;
        }
    }

    async fn read(&self, partition: Partition) -> Result<(), LogError> {
        let catalogue = Catalogue::builtin();
        loop {
            let bounds = self.log.bounds(Topic::Journal, partition).await?;
            let from = self.place(partition).max(bounds.start);
            if from >= bounds.end {
                return Ok(());
            }
            let batch = self.log.read(Topic::Journal, partition, from, AT_ONCE).await?;
            let Some(next) = batch.next() else { return Ok(()) };
            for entry in batch.entries() {
                // What this build cannot read is said by its processors.
                if let Ok((schema, _)) = codec::unframe(&entry.value)
                    && self.readers.iter().any(|(wanted, _)| wanted.contains(&schema))
                    && let Ok(envelope) = codec::decode(&entry.value, &catalogue)
                {
                    let wants = |(wanted, _): &&(Vec<u32>, _)| wanted.contains(&schema);
                    for (_, reader) in self.readers.iter().filter(wants) {
                        reader.fact(&envelope);
                    }
                }
            }
            self.known(partition, next);
        }
    }

    fn place(&self, partition: Partition) -> Offset {
        let places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        places.get(usize::from(partition)).copied().unwrap_or(0)
    }
}
