//! A log that fails as a real one does, from a seed, around any other.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use schemas::derived::Origin;
use schemas::time::Timestamp;

use crate::prng::Prng;
use crate::{
    Append, Batch, Bounds, EventLog, Layout, Limit, LogError, Offset, Partition, Reached, Shelf, Topic, Work,
    Workspace, check,
};

/// How often what goes wrong, in percent of the calls.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Faults {
    /// An append, a read, a claim or a commit fails and nothing has happened.
    pub unavailable: u8,
    /// An append or a commit succeeds, but the answer is lost: the caller is told that it failed.
    pub answer_lost: u8,
    /// An append is done twice, as by a retry; the answer is that of the second.
    pub append_twice: u8,
    /// A call is held up for up to this long first, half of the time; needs tokio's timer.
    pub delay: Duration,
}

#[derive(Debug)]
struct Chance {
    faults: Faults,
    prng: Mutex<Prng>,
}

impl Chance {
    fn percent(&self, percent: u8) -> bool {
        self.prng
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .percent(percent)
    }

    async fn delay(&self) {
        if self.faults.delay.is_zero() {
            return;
        }
        let micros = u64::try_from(self.faults.delay.as_micros()).unwrap_or(u64::MAX);
        let wait = {
            let mut prng = self.prng.lock().unwrap_or_else(PoisonError::into_inner);
            prng.percent(50).then(|| prng.below(micros + 1))
        };
        if let Some(micros) = wait {
            tokio::time::sleep(Duration::from_micros(micros)).await;
        }
    }

    async fn before(&self) -> Result<(), LogError> {
        self.delay().await;
        if self.percent(self.faults.unavailable) {
            return Err(LogError::Unavailable("injected before".to_owned()));
        }
        Ok(())
    }

    fn after<T>(&self, answer: T) -> Result<T, LogError> {
        if self.percent(self.faults.answer_lost) {
            return Err(LogError::Unavailable("injected after: the answer was lost".to_owned()));
        }
        Ok(answer)
    }
}

/// A log around another, with [`Faults`].
#[derive(Debug)]
pub struct Faulty {
    inner: Arc<dyn EventLog>,
    chance: Arc<Chance>,
}

impl Faulty {
    /// `inner` with `faults` chosen by `seed`.
    #[must_use]
    pub fn new(inner: Arc<dyn EventLog>, seed: u64, faults: Faults) -> Self {
        Self {
            inner,
            chance: Arc::new(Chance {
                faults,
                prng: Mutex::new(Prng::new(seed)),
            }),
        }
    }
}

#[async_trait]
impl EventLog for Faulty {
    fn layout(&self) -> Layout {
        self.inner.layout()
    }

    async fn append(&self, topic: Topic, records: Vec<Append>) -> Result<Vec<Offset>, LogError> {
        self.chance.before().await?;
        if self.chance.percent(self.chance.faults.append_twice) {
            self.inner.append(topic, records.clone()).await?;
        }
        self.chance.after(self.inner.append(topic, records).await?)
    }

    async fn read(
        &self,
        topic: Topic,
        partition: Partition,
        from: Offset,
        limit: Limit,
    ) -> Result<Arc<Batch>, LogError> {
        self.chance.before().await?;
        self.inner.read(topic, partition, from, limit).await
    }

    async fn wait(&self, topic: Topic, partition: Partition, from: Offset) -> Result<(), LogError> {
        self.chance.delay().await;
        self.inner.wait(topic, partition, from).await
    }

    async fn bounds(&self, topic: Topic, partition: Partition) -> Result<Bounds, LogError> {
        self.chance.delay().await;
        self.inner.bounds(topic, partition).await
    }

    async fn offset_at(&self, topic: Topic, partition: Partition, at: Timestamp) -> Result<Offset, LogError> {
        self.chance.delay().await;
        self.inner.offset_at(topic, partition, at).await
    }

    async fn claim(
        &self,
        processor: &str,
        output: Topic,
        partition: Partition,
    ) -> Result<Box<dyn Workspace>, LogError> {
        self.chance.before().await?;
        Ok(Box::new(Place {
            inner: self.inner.claim(processor, output, partition).await?,
            chance: Arc::clone(&self.chance),
            broken: false,
        }))
    }

    async fn reached(&self, output: Topic, partition: Partition) -> Result<Reached, LogError> {
        self.chance.delay().await;
        self.inner.reached(output, partition).await
    }
}

#[derive(Debug)]
struct Place {
    inner: Box<dyn Workspace>,
    chance: Arc<Chance>,
    broken: bool,
}

#[async_trait]
impl Workspace for Place {
    fn position(&self) -> Offset {
        self.inner.position()
    }

    fn context(&self) -> Bytes {
        self.inner.context()
    }

    fn last_origin(&self) -> Option<&Origin> {
        self.inner.last_origin()
    }

    fn shelf(&self) -> Arc<dyn Shelf> {
        self.inner.shelf()
    }

    async fn commit(&mut self, work: Work) -> Result<(), LogError> {
        check::unbroken(self.broken)?;
        self.broken = true;
        self.chance.before().await?;
        self.inner.commit(work).await?;
        self.chance.after(())?;
        self.broken = false;
        Ok(())
    }
}
