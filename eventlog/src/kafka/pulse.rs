//! Whether this process has been running: one that was stopped for long knows nothing of what happened meanwhile.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Standing still for so long counts as having been away.
const AWAY: Duration = Duration::from_secs(3600);

/// Felt whenever a place is used, and by every beat of [`super::progress`].
#[derive(Debug)]
pub(super) struct Pulse(Mutex<(Instant, u64)>);

impl Pulse {
    pub(super) fn new() -> Self {
        Self(Mutex::new((Instant::now(), 0)))
    }

    /// How often the process has been away.
    pub(super) fn feel(&self) -> u64 {
        let mut pulse = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (last, away) = &mut *pulse;
        if last.elapsed() >= AWAY {
            *away += 1;
            tracing::warn!("this process stood still for {} s", last.elapsed().as_secs());
        }
        *last = Instant::now();
        *away
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_stood_still_for_long_was_away() {
        let pulse = Pulse::new();
        for (pause, away) in [(0, 0), (3599, 0), (3599, 0), (3600, 1), (10, 1), (9000, 2)] {
            tokio::time::advance(Duration::from_secs(pause)).await;
            assert_eq!(pulse.feel(), away);
        }
    }
}
