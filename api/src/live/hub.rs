//! One reader per watched partition, who tells everybody that watches it.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use eventlog::{Batch, EventLog, Limit, LogError, Offset, Partition, Topic};
use schemas::codec::Catalogue;
use tokio::sync::mpsc::Sender;
use tokio::sync::mpsc::error::TrySendError;
use tokio_util::sync::CancellationToken;

use super::item::{self, Item};

/// How long to wait before a log that was unavailable is asked again.
const PAUSE: Duration = Duration::from_millis(200);

/// New records of one partition, as far as one watcher is concerned.
#[derive(Debug)]
pub(super) struct Delta {
    pub(super) topic: Topic,
    pub(super) partition: Partition,
    /// Everything before this has been told.
    pub(super) next: Offset,
    pub(super) items: Vec<Item>,
}

/// How a watcher is told.
#[derive(Debug, Clone)]
pub(super) struct Inbox {
    pub(super) sender: Sender<Arc<Delta>>,
    /// Something did not fit, or its partition could not be read on: what is not in the inbox must be read from the log.
    pub(super) missed: Arc<AtomicBool>,
}

/// The key whose records are watched; `None`: every key's.
pub(super) type Watched = Option<Bytes>;

#[derive(Debug, Default)]
struct Watchers {
    /// The next offset to be told.
    next: Offset,
    by_key: HashMap<Bytes, Vec<Inbox>>,
    of_all: Vec<Inbox>,
    /// The reader has ended: start another one.
    ended: bool,
}

impl Watchers {
    fn nobody(&self) -> bool {
        self.by_key.is_empty() && self.of_all.is_empty()
    }

    /// Everybody watching has to read on from the log.
    fn abandon(&mut self) {
        self.ended = true;
        for inbox in self.by_key.values().flatten().chain(&self.of_all) {
            inbox.missed.store(true, Ordering::Release);
        }
        self.by_key.clear();
        self.of_all.clear();
    }
}

/// One reader of one partition.
#[derive(Debug, Default)]
struct Tail(Mutex<Watchers>);

impl Tail {
    fn lock(&self) -> MutexGuard<'_, Watchers> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug)]
struct Shared {
    log: Arc<dyn EventLog>,
    catalogue: Arc<Catalogue>,
    shutdown: CancellationToken,
}

/// The readers of all watched partitions.
#[derive(Debug)]
pub(crate) struct Hub {
    shared: Arc<Shared>,
    tails: tokio::sync::Mutex<BTreeMap<(Topic, Partition), Arc<Tail>>>,
}

impl Hub {
    pub(crate) fn new(log: Arc<dyn EventLog>, catalogue: Arc<Catalogue>, shutdown: CancellationToken) -> Self {
        Self {
            shared: Arc::new(Shared {
                log,
                catalogue,
                shutdown,
            }),
            tails: tokio::sync::Mutex::default(),
        }
    }

    pub(super) fn log(&self) -> &dyn EventLog {
        &*self.shared.log
    }

    pub(super) fn catalogue(&self) -> &Catalogue {
        &self.shared.catalogue
    }

    /// Tells `inbox` everything from the returned offset on.
    ///
    /// # Errors
    /// As [`EventLog::bounds`].
    pub(super) async fn join(
        &self,
        topic: Topic,
        partition: Partition,
        watched: Watched,
        inbox: Inbox,
    ) -> Result<Offset, LogError> {
        let mut tails = self.tails.lock().await;
        if let Some(tail) = tails.get(&(topic, partition)) {
            let mut watchers = tail.lock();
            if !watchers.ended {
                return Ok(add(&mut watchers, watched, inbox));
            }
        }
        let next = self.shared.log.bounds(topic, partition).await?.end;
        let tail = Arc::new(Tail::default());
        {
            let mut watchers = tail.lock();
            watchers.next = next;
            add(&mut watchers, watched, inbox);
        }
        tails.insert((topic, partition), Arc::clone(&tail));
        drop(tails);
        let shared = Arc::clone(&self.shared);
        tokio::spawn(async move { shared.follow(&tail, topic, partition).await });
        Ok(next)
    }

    /// Up to where everything has been told, where somebody reads this partition. Whoever finds the inbox empty *after*
    /// asking this has heard it all.
    pub(super) async fn told(&self, topic: Topic, partition: Partition) -> Option<Offset> {
        let tails = self.tails.lock().await;
        let watchers = tails.get(&(topic, partition))?.lock();
        (!watchers.ended).then_some(watchers.next)
    }
}

fn add(watchers: &mut Watchers, watched: Watched, inbox: Inbox) -> Offset {
    match watched {
        Some(key) => watchers.by_key.entry(key).or_default().push(inbox),
        None => watchers.of_all.push(inbox),
    }
    watchers.next
}

impl Shared {
    /// Reads on and tells, until nobody watches any more or the log fails.
    async fn follow(&self, tail: &Tail, topic: Topic, partition: Partition) {
        let mut from = tail.lock().next;
        loop {
            let read = async {
                self.log.wait(topic, partition, from).await?;
                self.log.read(topic, partition, from, Limit::default()).await
            };
            let read = tokio::select! {
                () = self.shutdown.cancelled() => return,
                read = read => read,
            };
            let failed = match read {
                Ok(batch) => match self.tell(tail, topic, &batch) {
                    Ok(Some(next)) => {
                        from = next;
                        continue;
                    }
                    Ok(None) => return,
                    Err(error) => error.to_string(),
                },
                Err(LogError::Unavailable(error)) => {
                    tracing::warn!(
                        topic = topic.name(),
                        partition,
                        error,
                        "the live stream waits for the log"
                    );
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
                Err(error) => error.to_string(),
            };
            // Watchers read on from the log themselves and meet the same error, each at its own place.
            tracing::error!(
                topic = topic.name(),
                partition,
                failed,
                "the live stream cannot read on"
            );
            tokio::time::sleep(PAUSE).await;
            return tail.lock().abandon();
        }
    }

    /// Tells a batch; where to read on, or `None` where nobody watches any more.
    fn tell(&self, tail: &Tail, topic: Topic, batch: &Batch) -> Result<Option<Offset>, schemas::codec::DecodeError> {
        let mut watchers = tail.lock();
        let watchers = &mut *watchers;
        let Some(next) = batch.next() else {
            return Ok(Some(watchers.next));
        };
        let mut all = Vec::new();
        let mut by_key: HashMap<&Bytes, Vec<Item>> = HashMap::new();
        for entry in batch.entries() {
            // Records that nobody watches are not even decoded.
            let watched = watchers.by_key.contains_key(&entry.key);
            if !watched && watchers.of_all.is_empty() {
                continue;
            }
            let Some(item) = item::read(topic, entry, &self.catalogue)? else {
                continue;
            };
            if watched {
                by_key.entry(&entry.key).or_default().push(item.clone());
            }
            if !watchers.of_all.is_empty() {
                all.push(item);
            }
        }
        let delta = |items| {
            Arc::new(Delta {
                topic,
                partition: batch.partition(),
                next,
                items,
            })
        };
        for (key, items) in by_key {
            let delta = delta(items);
            if let Some(inboxes) = watchers.by_key.get_mut(key) {
                inboxes.retain(|inbox| send(inbox, &delta));
            }
        }
        if !all.is_empty() {
            let delta = delta(all);
            watchers.of_all.retain(|inbox| send(inbox, &delta));
        }
        watchers.by_key.retain(|_, inboxes| {
            inboxes.retain(|inbox| !inbox.sender.is_closed());
            !inboxes.is_empty()
        });
        watchers.of_all.retain(|inbox| !inbox.sender.is_closed());
        watchers.next = next;
        if watchers.nobody() {
            watchers.ended = true;
            return Ok(None);
        }
        Ok(Some(next))
    }
}

/// Whether the watcher goes on being told. A full inbox is not waited for: its watcher reads on from the log.
fn send(inbox: &Inbox, delta: &Arc<Delta>) -> bool {
    match inbox.sender.try_send(Arc::clone(delta)) {
        Ok(()) => true,
        Err(TrySendError::Full(_)) => {
            inbox.missed.store(true, Ordering::Release);
            false
        }
        Err(TrySendError::Closed(_)) => false,
    }
}
