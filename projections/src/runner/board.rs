//! How far the views are: who waits for a place, and who asks how far behind they are.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use eventlog::{EventLog, LogError, Offset, Partition, Topic};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout_at};

/// Where every followed partition stands. Shared by the runner, which writes it, and those who wait.
#[derive(Debug, Default)]
pub struct ProgressBoard {
    places: Mutex<BTreeMap<(Topic, Partition), watch::Sender<Place>>>,
}

#[derive(Debug, Clone, Default)]
struct Place {
    next: Offset,
    stopped: Option<String>,
    /// It was followed here, and is somebody else's now.
    left: bool,
}

/// A partition that needs a person before its views go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stopped {
    /// The topic.
    pub topic: Topic,
    /// Its partition.
    pub partition: Partition,
    /// Why.
    pub reason: String,
}

/// How far one partition's views are behind the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lag {
    /// The topic.
    pub topic: Topic,
    /// Its partition.
    pub partition: Partition,
    /// The next offset to be projected.
    pub next: Offset,
    /// One past the last durable record.
    pub end: Offset,
}

impl Lag {
    /// Offsets not yet projected.
    #[must_use]
    pub const fn records(&self) -> i64 {
        self.end.saturating_sub(self.next)
    }
}

/// The views were not there in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the views have not come that far yet")]
pub struct NotYet;

impl ProgressBoard {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<(Topic, Partition), watch::Sender<Place>>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn place(&self, topic: Topic, partition: Partition) -> watch::Receiver<Place> {
        self.lock().entry((topic, partition)).or_default().subscribe()
    }

    /// Everything before `next` has been projected.
    pub(super) fn reached(&self, topic: Topic, partition: Partition, next: Offset) {
        let mut places = self.lock();
        places
            .entry((topic, partition))
            .or_default()
            .send_modify(|place| (place.next, place.left) = (next, false));
    }

    /// It is not followed here any more: where it stood, and how far behind, is no news of it.
    pub(super) fn leave(&self, topic: Topic, partition: Partition) {
        let mut places = self.lock();
        let place = places.entry((topic, partition)).or_default();
        place.send_modify(|place| (place.stopped, place.left) = (None, true));
        crate::metrics::stopped(places.values().filter(|p| p.borrow().stopped.is_some()).count());
    }

    /// Nothing more will be projected here until a person has looked.
    pub(super) fn stop(&self, topic: Topic, partition: Partition, reason: String) {
        let mut places = self.lock();
        places
            .entry((topic, partition))
            .or_default()
            .send_modify(|place| place.stopped = Some(reason));
        crate::metrics::stopped(places.values().filter(|p| p.borrow().stopped.is_some()).count());
    }

    /// It goes on after all.
    pub(super) fn go_on(&self, topic: Topic, partition: Partition) {
        let mut places = self.lock();
        places
            .entry((topic, partition))
            .or_default()
            .send_modify(|place| place.stopped = None);
        crate::metrics::stopped(places.values().filter(|p| p.borrow().stopped.is_some()).count());
    }

    /// The next offset to be projected; 0 where nothing is known.
    #[must_use]
    pub fn next(&self, topic: Topic, partition: Partition) -> Offset {
        self.lock()
            .get(&(topic, partition))
            .map_or(0, |place| place.borrow().next)
    }

    /// Waits until everything before `next` has been projected.
    ///
    /// # Errors
    /// [`NotYet`] where it has not in time.
    pub async fn wait(
        &self,
        topic: Topic,
        partition: Partition,
        next: Offset,
        timeout: Duration,
    ) -> Result<(), NotYet> {
        self.wait_until(topic, partition, next, Instant::now() + timeout).await
    }

    async fn wait_until(
        &self,
        topic: Topic,
        partition: Partition,
        next: Offset,
        deadline: Instant,
    ) -> Result<(), NotYet> {
        let mut place = self.place(topic, partition);
        let there = place.wait_for(|place| place.next >= next);
        match timeout_at(deadline, there).await {
            Ok(Ok(_)) => Ok(()),
            _ => Err(NotYet),
        }
    }

    /// Waits until the views show everything that follows from the journal's record at `offset`: the journal has been
    /// projected beyond it, every processor has come beyond it, and what they wrote has been projected too.
    ///
    /// # Errors
    /// [`NotYet`] where that is not so in time.
    pub async fn read_after(
        &self,
        log: &dyn EventLog,
        partition: Partition,
        offset: Offset,
        timeout: Duration,
    ) -> Result<(), NotYet> {
        let deadline = Instant::now() + timeout;
        self.wait_until(Topic::Journal, partition, offset.saturating_add(1), deadline)
            .await?;
        for topic in self.derived(partition) {
            let end = processed(log, topic, partition, offset, deadline).await?;
            self.wait_until(topic, partition, end, deadline).await?;
        }
        Ok(())
    }

    /// The derived topics that are followed.
    fn derived(&self, partition: Partition) -> Vec<Topic> {
        let places = self.lock();
        places
            .keys()
            .filter(|(t, p)| t.is_derived() && *p == partition)
            .map(|(t, _)| *t)
            .collect()
    }

    /// Partitions that need a person.
    #[must_use]
    pub fn stopped(&self) -> Vec<Stopped> {
        let places = self.lock();
        let stopped = places.iter().filter_map(|((topic, partition), place)| {
            let reason = place.borrow().stopped.clone()?;
            Some(Stopped {
                topic: *topic,
                partition: *partition,
                reason,
            })
        });
        stopped.collect()
    }

    /// How far each followed partition is behind the log; those that were followed before, not at all.
    ///
    /// # Errors
    /// [`LogError`] where the log's end cannot be found out.
    pub async fn lag(&self, log: &dyn EventLog) -> Result<Vec<Lag>, LogError> {
        let places: Vec<_> = self
            .lock()
            .iter()
            .map(|(at, place)| (*at, place.borrow().clone()))
            .collect();
        let mut lags = Vec::with_capacity(places.len());
        for ((topic, partition), Place { next, left, .. }) in places {
            let end = if left {
                next
            } else {
                log.bounds(topic, partition).await?.end
            };
            lags.push(Lag {
                topic,
                partition,
                next,
                end,
            });
        }
        Ok(lags)
    }
}

/// How often a processor is asked how far it is, while somebody waits for it.
const ASK_EVERY: Duration = Duration::from_millis(2);

/// Waits until a processor has come beyond a journal offset; its topic's end then.
async fn processed(
    log: &dyn EventLog,
    topic: Topic,
    partition: Partition,
    offset: Offset,
    deadline: Instant,
) -> Result<Offset, NotYet> {
    loop {
        let now = Instant::now();
        match log.reached(topic, partition).await {
            Ok(reached) if reached.journal > offset => return Ok(reached.end),
            _ if now >= deadline => return Err(NotYet),
            _ => sleep_until(deadline.min(now + ASK_EVERY)).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn whoever_waits_is_told_when_the_place_is_reached_and_not_before() {
        let board = std::sync::Arc::new(ProgressBoard::default());
        board.reached(Topic::Journal, 3, 9);
        let wait = |next| board.wait(Topic::Journal, 3, next, Duration::from_secs(1));
        assert_eq!(wait(9).await, Ok(()));
        assert_eq!(wait(10).await, Err(NotYet));
        let told = tokio::join!(wait(10), async { board.reached(Topic::Journal, 3, 10) });
        assert_eq!(told.0, Ok(()));
        assert_eq!((board.next(Topic::Journal, 3), board.next(Topic::Alerts, 3)), (10, 0));
    }

    #[test]
    fn a_partition_that_stopped_is_named_with_the_reason() {
        let board = ProgressBoard::default();
        board.reached(Topic::Alerts, 1, 5);
        assert_eq!(board.stopped(), []);
        board.stop(Topic::Alerts, 1, "why".to_owned());
        let stopped = Stopped {
            topic: Topic::Alerts,
            partition: 1,
            reason: "why".to_owned(),
        };
        assert_eq!(board.stopped(), [stopped]);
        board.leave(Topic::Alerts, 1);
        assert_eq!(board.stopped(), [], "whoever has it now says so");
    }
}
