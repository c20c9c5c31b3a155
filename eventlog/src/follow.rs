//! Following the journal for a few kinds of facts: what is known from them is kept up while everything else passes by.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use schemas::codec::{self, Catalogue, DecodeError};
use schemas::journal::Envelope;
use tokio::task::JoinSet;

use crate::{EventLog, Limit, LogError, Offset, Partition, Topic};

/// So long more gathers before the journal is read on.
const GATHER: Duration = Duration::from_millis(50);
/// So long a schema that nobody has told of yet is waited for: whoever writes by it tells of it first.
const TOLD: Duration = Duration::from_secs(5);
/// How often it is looked for.
const LOOK: Duration = Duration::from_millis(20);
/// Records read at once: most are of no interest.
const AT_ONCE: Limit = Limit {
    records: 16_384,
    bytes: 4 << 20,
};

/// Waits until the schema of framed bytes is known, but not for long, and once; it is known at once but for what a newer
/// build has just begun to write.
///
/// # Errors
/// [`DecodeError::UnknownSchema`] where nobody tells of it.
pub async fn told(catalogue: &Catalogue, framed: &[u8]) -> Result<(), DecodeError> {
    let Ok((schema, _)) = codec::unframe(framed) else {
        return Ok(());
    };
    let looking = async {
        while !catalogue.knows(schema) {
            if catalogue.missed(schema) {
                return Err(DecodeError::UnknownSchema(schema));
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    };
    let told = tokio::time::timeout(TOLD, looking).await;
    told.unwrap_or_else(|_| {
        catalogue.miss(schema);
        Err(DecodeError::UnknownSchema(schema))
    })
}

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
    catalogue: Arc<Catalogue>,
    /// Each with the schemas that it wants decoded.
    readers: Vec<(Vec<u32>, Arc<dyn Follows>)>,
    /// Which partitions.
    partitions: Range<Partition>,
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
    /// Begins at the journal's start, unless it is told how far is [known](Self::known). Reads what this build knows.
    #[must_use]
    pub fn new(log: Arc<dyn EventLog>, readers: Vec<Arc<dyn Follows>>) -> Arc<Self> {
        Self::learning(log, readers, Arc::default())
    }

    /// The same, reading what `catalogue` knows or learns.
    #[must_use]
    pub fn learning(log: Arc<dyn EventLog>, readers: Vec<Arc<dyn Follows>>, catalogue: Arc<Catalogue>) -> Arc<Self> {
        let all = 0..log.layout().partitions;
        Self::reading(log, readers, catalogue, all)
    }

    /// The same of one partition alone: for facts that are all in that one.
    #[must_use]
    pub fn of_partition(
        log: Arc<dyn EventLog>,
        readers: Vec<Arc<dyn Follows>>,
        catalogue: Arc<Catalogue>,
        partition: Partition,
    ) -> Arc<Self> {
        Self::reading(log, readers, catalogue, partition..partition.saturating_add(1))
    }

    fn reading(
        log: Arc<dyn EventLog>,
        readers: Vec<Arc<dyn Follows>>,
        catalogue: Arc<Catalogue>,
        partitions: Range<Partition>,
    ) -> Arc<Self> {
        let count = usize::from(log.layout().partitions);
        let wanted = |reader: &Arc<dyn Follows>| {
            let kinds = codec::KINDS.iter().filter(|kind| reader.kinds().contains(&kind.name));
            kinds.map(|kind| kind.id).collect()
        };
        Arc::new(Self {
            log,
            catalogue,
            readers: readers.into_iter().map(|reader| (wanted(&reader), reader)).collect(),
            partitions,
            places: Mutex::new(vec![0; count]),
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
        for partition in self.partitions.clone() {
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
        for partition in self.partitions.clone() {
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
        loop {
            let bounds = self.log.bounds(Topic::Journal, partition).await?;
            let from = self.place(partition).max(bounds.start);
            if from >= bounds.end {
                return Ok(());
            }
            let batch = self.log.read(Topic::Journal, partition, from, AT_ONCE).await?;
            let Some(next) = batch.next() else { return Ok(()) };
            for entry in batch.entries() {
                self.take(&entry.value).await;
            }
            self.known(partition, next);
        }
    }

    async fn take(&self, value: &[u8]) {
        let Ok((schema, _)) = codec::unframe(value) else { return };
        let newer = if codec::KINDS.iter().any(|kind| kind.id == schema) {
            None
        } else {
            // What this build cannot read is said by its processors.
            if let Err(error) = told(&self.catalogue, value).await {
                tracing::error!(%error, "a record is passed over: what is known may be older than it");
            }
            self.catalogue.kind(schema)
        };
        let wants = |(wanted, reader): &&(Vec<u32>, Arc<dyn Follows>)| {
            wanted.contains(&schema) || newer.is_some_and(|newer| reader.kinds().contains(&newer))
        };
        let mut readers = self.readers.iter().filter(wants).peekable();
        if readers.peek().is_some()
            && let Ok(envelope) = codec::decode(value, &self.catalogue)
        {
            readers.for_each(|(_, reader)| reader.fact(&envelope));
        }
    }

    fn place(&self, partition: Partition) -> Offset {
        let places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        places.get(usize::from(partition)).copied().unwrap_or(0)
    }
}
