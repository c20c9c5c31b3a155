//! How fast a backlog may be drained while something live comes: so many records a second, evenly, and no faster.
//!
//! A gateway that comes back after days sends as fast as it is answered. Taken as fast as the machine can, it takes every
//! core for minutes, and whoever is live waits for a core. Nothing is live of what is days old: it has time.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Something live has come lately: no longer ago than this.
const LATELY: Duration = Duration::from_secs(2);

/// The pace of the past, of all doors of one process together.
#[derive(Debug)]
pub(super) struct Past {
    /// Between two records; `None` for any number of them.
    apart: Option<Duration>,
    now: Mutex<Now>,
}

#[derive(Debug, Default)]
struct Now {
    /// When something live came last.
    live: Option<Instant>,
    /// From when on there is room for more of the past.
    free: Option<Instant>,
}

impl Now {
    fn is_live(&self, now: Instant) -> bool {
        self.live.is_some_and(|live| now.duration_since(live) < LATELY)
    }
}

impl Past {
    /// `rate`: records a second; 0 for any number.
    pub(super) fn new(rate: usize) -> Self {
        let apart = u32::try_from(rate).ok().filter(|rate| *rate > 0);
        Self {
            apart: apart.map(|rate| Duration::from_secs(1) / rate),
            now: Mutex::default(),
        }
    }

    /// Something live comes.
    pub(super) fn is_live(&self) {
        if self.apart.is_some() {
            let now = Instant::now();
            self.now.lock().unwrap_or_else(PoisonError::into_inner).live = Some(now);
        }
    }

    /// Whether the past has to wait its turn.
    pub(super) fn waits(&self) -> bool {
        self.apart.is_some()
            && self
                .now
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .is_live(Instant::now())
    }

    /// Takes room for so many records of the past: when their turn has come.
    pub(super) fn turn(&self, records: usize) -> Instant {
        let now = Instant::now();
        let Some(apart) = self.apart else { return now };
        let mut known = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        if !known.is_live(now) {
            return now;
        }
        let turn = known.free.map_or(now, |free| free.max(now));
        let take = apart.saturating_mul(u32::try_from(records).unwrap_or(u32::MAX));
        known.free = Some(turn + take);
        turn
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_past_goes_evenly_while_something_live_comes_and_freely_else() {
        let past = Past::new(1_000);
        let began = Instant::now();
        let waits = |records| past.turn(records) - began;
        assert_eq!([500, 500, 500].map(waits), [Duration::ZERO; 3], "nothing is live");
        past.is_live();
        let turns = [500, 250, 1].map(waits).map(|turn| turn.as_millis());
        assert_eq!(turns, [0, 500, 750]);
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(waits(1).as_millis(), 1_000, "what was not used is not saved up");
        tokio::time::sleep(LATELY).await;
        assert_eq!(waits(100_000), waits(1), "nothing is live any more");
        let unbounded = Past::new(0);
        unbounded.is_live();
        assert_eq!(unbounded.turn(100_000), unbounded.turn(1));
    }
}
