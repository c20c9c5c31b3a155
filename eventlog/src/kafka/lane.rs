//! Whose turn it is: what goes to a partition waits here, not in the client.
//!
//! Where messages wait in the client behind others of their partition that are under way, its thread looks without a pause
//! whether they may go, with all of a core: a millisecond at a time as a rule, half a minute where a copy is gone and
//! everybody waits for it to be given up. So they wait here, and go together once those before them have landed: what does
//! not fit into one request too, since the rest of it would wait in the client.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::options::{BATCH_BYTES, BATCH_MESSAGES};

/// So long after the first, messages join those that are about to leave: a little less than the client's `linger.ms`.
const BOARDING: Duration = Duration::from_micros(400);
/// While fewer than so many messages are under way to a partition, the client lets others follow them.
const FOLLOWED: usize = 5;

/// What is under way to one partition.
#[derive(Default)]
pub(super) struct Lane {
    way: Mutex<Way>,
    landed: Notify,
}

#[derive(Default)]
struct Way {
    flying: usize,
    /// When the first of those came aboard that left last, or are about to.
    since: Option<Instant>,
    /// What came aboard with it.
    aboard: Load,
}

/// What goes to a partition at once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Load {
    pub(super) messages: usize,
    pub(super) bytes: usize,
}

impl Load {
    pub(super) const fn and(self, other: Self) -> Self {
        Self {
            messages: self.messages + other.messages,
            bytes: self.bytes + other.bytes,
        }
    }

    /// Whether it fits into one request. A single message always goes.
    pub(super) const fn fits(self) -> bool {
        self.messages <= 1 || (self.messages <= BATCH_MESSAGES && self.bytes <= BATCH_BYTES)
    }
}

impl Lane {
    fn way(&self) -> MutexGuard<'_, Way> {
        self.way.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until hardly anything is under way, or what is has not left yet.
    pub(super) async fn enter(self: Arc<Self>, load: Load) -> Aboard {
        loop {
            let mut landed = std::pin::pin!(self.landed.notified());
            landed.as_mut().enable();
            if self.is_boarding(load) {
                break;
            }
            landed.await;
        }
        Aboard {
            lane: self,
            messages: load.messages,
        }
    }

    fn is_boarding(&self, load: Load) -> bool {
        let (mut way, now) = (self.way(), Instant::now());
        if way.flying < FOLLOWED {
            (way.since, way.aboard) = (Some(now), Load::default());
        }
        let together = way.aboard.and(load);
        let boarding = together.fits() && way.since.is_some_and(|since| now - since < BOARDING);
        if boarding {
            way.flying += load.messages;
            way.aboard = together;
        }
        boarding
    }
}

/// Messages under way, until this is dropped.
pub(super) struct Aboard {
    lane: Arc<Lane>,
    messages: usize,
}

impl Aboard {
    /// One of them, by itself.
    pub(super) fn one(&mut self) -> Self {
        let messages = self.messages.min(1);
        self.messages -= messages;
        let lane = Arc::clone(&self.lane);
        Self { lane, messages }
    }
}

impl Drop for Aboard {
    fn drop(&mut self) {
        let mut way = self.lane.way();
        way.flying -= self.messages;
        if way.flying < FOLLOWED {
            self.lane.landed.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Longer than anybody boards.
    const LATER: Duration = Duration::from_millis(2);

    const fn load(messages: usize, bytes: usize) -> Load {
        Load { messages, bytes }
    }

    #[tokio::test(start_paused = true)]
    async fn what_comes_too_late_waits_until_all_before_it_has_landed_and_then_goes_together() {
        let lane = Arc::new(Lane::default());
        let mut first = Arc::clone(&lane).enter(load(6, 600)).await;
        let joined = Arc::clone(&lane).enter(load(1, 100)).await;
        tokio::time::sleep(BOARDING).await;
        let late: Vec<_> = (0..3)
            .map(|_| tokio::spawn(Arc::clone(&lane).enter(load(5, 500))))
            .collect();
        let last: Vec<_> = (0..FOLLOWED).map(|_| first.one()).collect();
        drop((first, joined));
        tokio::time::sleep(LATER).await;
        assert!(late.iter().all(|late| !late.is_finished()), "so many are under way");
        drop(last);
        tokio::time::sleep(LATER).await;
        assert!(late.iter().all(tokio::task::JoinHandle::is_finished), "all at once");
        assert_eq!(lane.way().flying, 15);
        drop(late);
        tokio::task::yield_now().await;
        assert!(lane.is_boarding(load(1, 1)), "whoever gives up holds nobody up");
    }

    #[tokio::test(start_paused = true)]
    async fn what_does_not_fit_into_the_request_of_those_aboard_waits_for_the_next() {
        let lane = Arc::new(Lane::default());
        let first = Arc::clone(&lane).enter(load(6, BATCH_BYTES - 500)).await;
        assert!(lane.is_boarding(load(5, 400)));
        assert!(!lane.is_boarding(load(5, 400)));
        drop(first);
        assert!(!lane.is_boarding(load(5, 400)), "the second is under way");
        lane.way().flying -= 5;
        assert!(
            lane.is_boarding(load(1, 2 * BATCH_BYTES)),
            "a single message goes, whatever its size"
        );
    }
}
