//! Whether this process's clock can be gone by: it is compared with the log's own, which stamps every record.
//!
//! Where the log is others' (Kafka), each partition's records bear the time of the broker that leads it. Brokers may be
//! wrong too, and one that shares a machine with a door is wrong as that door is: so it is not enough that one of them
//! agrees, and not needed that all do. The middle of several partitions' differences counts, which is right as long as
//! most of those are led by brokers that are.
//!
//! Time is recorded by a clock that is within [`APART`] of the log's. Doors may be further off ([`tolerated`]), because
//! nobody should wait for a clock that is wrong by seconds; beyond that they take nothing: what is measured now would be
//! refused as being ahead, or be called old, or what is ahead be taken.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use eventlog::{Offset, Partition};
use schemas::policy::Policy;
use schemas::time::{Span, Timestamp};
use tokio::sync::watch;
use tokio::time::Instant;

/// How far clock and log may be apart for time to be recorded.
pub const APART: Span = Span::seconds(2);

/// The clock of one process, as it compares with the log's.
#[derive(Debug)]
pub struct Clocks {
    /// Whether the log's clock is another machine's. In one process there is but one clock, and nothing to go by.
    others: bool,
    known: Mutex<BTreeMap<Partition, Comparison>>,
    compared: watch::Sender<bool>,
}

impl Default for Clocks {
    fn default() -> Self {
        Self::one()
    }
}

/// Clock and log, as they were when a record was read back.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Comparison {
    /// By how much the clock was ahead of the log.
    pub(crate) ahead: Span,
    /// What the clock showed.
    pub(crate) shown: Timestamp,
    /// The same moment by a clock that nobody can set.
    pub(crate) since: Instant,
    /// The record.
    pub(crate) offset: Offset,
}

impl Comparison {
    /// By how much the clock is ahead of the log now: as then, and by what it has been set since.
    fn ahead_now(&self, now: Timestamp) -> Span {
        let elapsed = Span(i64::try_from(self.since.elapsed().as_micros()).unwrap_or(i64::MAX));
        Span(self.ahead.0.saturating_add((now - (self.shown + elapsed)).0))
    }
}

impl Clocks {
    /// Of a log in this process.
    #[must_use]
    pub fn one() -> Self {
        Self::of(false)
    }

    /// Of a log that others keep: nothing is known before the first comparison.
    #[must_use]
    pub fn others() -> Self {
        Self::of(true)
    }

    fn of(others: bool) -> Self {
        Self {
            others,
            known: Mutex::default(),
            compared: watch::Sender::new(!others),
        }
    }

    /// Waits until the clock has been compared.
    pub async fn compared(&self) {
        // The sender is ours: it cannot be gone.
        let _ = self.compared.subscribe().wait_for(|compared| *compared).await;
    }

    /// By how much the clock is ahead of the log's where that is too far for time to be recorded, negative where it is behind.
    #[must_use]
    pub fn apart(&self, now: Timestamp) -> Option<Span> {
        self.ahead(now).filter(|ahead| magnitude(*ahead) > APART)
    }

    /// Why nothing that arrives now can be judged, where it cannot.
    #[must_use]
    pub fn hindrance(&self, now: Timestamp, policy: &Policy) -> Option<String> {
        if !self.others {
            return None;
        }
        match self.ahead(now) {
            None => Some("the clock has not been compared with the log's yet".to_owned()),
            Some(ahead) => (magnitude(ahead) > tolerated(policy)).then(|| said(ahead)),
        }
    }

    /// By how much the clock is ahead of the log's now; `None` where nothing is known.
    pub(crate) fn ahead(&self, now: Timestamp) -> Option<Span> {
        middle(self.lock().values().map(|known| known.ahead_now(now)).collect())
    }

    pub(crate) fn tell(&self, partition: Partition, comparison: Comparison) {
        self.lock().insert(partition, comparison);
        self.compared.send_replace(true);
    }

    /// The record by which a partition's clock is known.
    pub(crate) fn offset(&self, partition: Partition) -> Option<Offset> {
        self.lock().get(&partition).map(|known| known.offset)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Partition, Comparison>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// That a clock is wrong, in words.
#[must_use]
pub fn said(ahead: Span) -> String {
    let side = if ahead > Span::ZERO { "ahead of" } else { "behind" };
    format!("the clock is {:.1} s {side} the log's", magnitude(ahead).as_seconds())
}

/// How far a door's clock may be from the log's. Devices' clocks may be off as well: of what is allowed to both, and of the age
/// at which something is no longer of now, a door uses up half.
#[must_use]
pub fn tolerated(policy: &Policy) -> Span {
    let zones = policy.zones.iter().map(|zone| zone.fresh_for);
    let least = zones.fold(policy.allowed_skew.min(policy.fresh_for), Span::min);
    Span(least.0 / 2).max(APART)
}

const fn magnitude(span: Span) -> Span {
    Span(span.0.saturating_abs())
}

/// The middle one; of two the one that speaks for us.
fn middle(mut all: Vec<Span>) -> Option<Span> {
    all.sort_unstable();
    let upper = all.get(all.len() / 2).copied()?;
    let lower = all.get((all.len() - 1) / 2).copied()?;
    Some(if magnitude(lower) < magnitude(upper) {
        lower
    } else {
        upper
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clocks(others: bool, ahead: &[i64]) -> Clocks {
        let clocks = Clocks::of(others);
        for (partition, ahead) in (0..).zip(ahead) {
            let comparison = Comparison {
                ahead: Span::seconds(*ahead),
                shown: NOW,
                since: Instant::now(),
                offset: 0,
            };
            clocks.tell(partition, comparison);
        }
        clocks
    }

    const NOW: Timestamp = Timestamp(1_767_600_000_000_000);

    #[tokio::test(start_paused = true)]
    async fn most_partitions_decide_and_of_two_the_one_that_agrees() {
        for (ahead, apart) in [
            (&[][..], None),
            (&[1], None),
            (&[-3], Some(-3)),
            (&[0, 3600], None),
            (&[-3600, 1], None),
            (&[0, 3600, 0], None),
            // A broker that is wrong as we are speaks for us, and is one of three.
            (&[3600, 0, 3600], Some(3600)),
            (&[-3, 0, 3], None),
        ] {
            let said = clocks(true, ahead).apart(NOW);
            assert_eq!(said, apart.map(Span::seconds), "{ahead:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_clock_that_is_set_is_known_at_once_and_so_is_one_that_is_set_right() {
        let clocks = clocks(true, &[0, 0, 0]);
        tokio::time::advance(std::time::Duration::from_secs(5)).await;
        let right = NOW + Span::seconds(5);
        assert_eq!(clocks.apart(right), None);
        assert_eq!(clocks.apart(right + Span::hours(1)), Some(Span::hours(1)));
        assert_eq!(clocks.apart(right - Span::hours(1)), Some(Span::hours(-1)));
        assert_eq!(clocks.apart(right), None);
    }

    #[tokio::test(start_paused = true)]
    async fn doors_take_nothing_with_a_clock_that_is_not_known_or_far_off_and_in_one_process_always() {
        let policy = Policy::standard();
        assert_eq!(tolerated(&policy), Span::seconds(150));
        let tight = Policy {
            allowed_skew: Span::ZERO,
            ..Policy::standard()
        };
        assert_eq!(tolerated(&tight), APART);
        for (ahead, hindered) in [
            (&[][..], true),
            (&[-5], false),
            (&[5], false),
            (&[151], true),
            (&[-3600], true),
        ] {
            assert_eq!(
                clocks(true, ahead).hindrance(NOW, &policy).is_some(),
                hindered,
                "{ahead:?}"
            );
            assert_eq!(clocks(false, ahead).hindrance(NOW, &policy), None, "{ahead:?}");
        }
        let why = clocks(true, &[-3600]).hindrance(NOW, &policy).unwrap();
        assert_eq!(why, "the clock is 3600.0 s behind the log's");
    }
}
