//! Time goes into every partition, and a wrong clock does not.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use eventlog::{Clock, EventLog, ManualClock};
use ingest::ticker::{self, Disagreement};
use schemas::facts::{ClockTicked, TickedBy};
use schemas::journal::Fact;
use schemas::time::{Span, Timestamp};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::log::{MemoryLog, NOW, PARTITIONS};

/// A clock that moves with the test's time, and can be set.
#[derive(Debug)]
struct Moving {
    base: ManualClock,
    since: Instant,
}

impl Clock for Moving {
    fn now(&self) -> Timestamp {
        self.base.now() + Span(self.since.elapsed().as_micros() as i64)
    }
}

struct Running {
    log: Arc<MemoryLog>,
    clock: Arc<Moving>,
    told: Arc<Disagreement>,
    shutdown: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

fn start() -> Running {
    let log = MemoryLog::open();
    let clock = Arc::new(Moving {
        base: ManualClock::at(NOW),
        since: Instant::now(),
    });
    let shutdown = CancellationToken::new();
    let (port, same): (Arc<dyn EventLog>, Arc<dyn Clock>) =
        (Arc::<MemoryLog>::clone(&log), Arc::<Moving>::clone(&clock));
    let told: Arc<Disagreement> = Arc::default();
    let shown = Arc::clone(&told);
    let task = tokio::spawn(ticker::run(port, same, TickedBy::Ingest, shown, shutdown.clone()));
    Running {
        log,
        clock,
        told,
        shutdown,
        task,
    }
}

impl Running {
    /// Lets time pass, the log's with it.
    async fn seconds(&self, n: u64) {
        for _ in 0..n {
            tokio::time::sleep(Duration::from_secs(1)).await;
            self.log.appended_at.fetch_add(1_000_000, Ordering::SeqCst);
        }
    }

    fn ticks(&self) -> usize {
        self.log.journal().len()
    }
}

#[tokio::test(start_paused = true)]
async fn every_partition_is_ticked_once_a_second_until_shutdown() {
    let running = start();
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(running.ticks(), 1, "the first is a probe");
    running.seconds(3).await;
    assert_eq!(running.ticks(), 1 + 3 * usize::from(PARTITIONS));
    let journal = running.log.journal();
    assert!(
        journal
            .iter()
            .all(|e| e.fact == Fact::ClockTicked(ClockTicked { by: TickedBy::Ingest }))
    );
    let mut ids: Vec<_> = journal.iter().map(|e| e.id).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), journal.len(), "each tick is a fact of its own");
    running.shutdown.cancel();
    running.task.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_jumps_does_not_tick_until_it_is_right_again() {
    for jump in [Span::minutes(10), Span::minutes(-10)] {
        let running = start();
        tokio::time::sleep(Duration::from_millis(500)).await;
        running.seconds(2).await;
        let before = running.ticks();
        running.clock.base.advance(jump);
        running.seconds(5).await;
        assert_eq!(running.ticks(), before, "no tick of a wrong clock");
        let ahead = running.told.ahead().map(Span::as_seconds).unwrap();
        assert!((ahead - jump.as_seconds()).abs() <= 1.0, "it says by how much: {ahead}");
        running.clock.base.advance(Span(-jump.0));
        running.seconds(2).await;
        assert!(running.ticks() > before, "it goes on by itself");
        assert_eq!(running.told.ahead(), None);
        running.shutdown.cancel();
    }
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_wrong_from_the_start_makes_one_probe_and_no_more() {
    let running = start();
    running.clock.base.advance(Span::hours(1));
    tokio::time::sleep(Duration::from_millis(500)).await;
    running.seconds(5).await;
    assert_eq!(running.ticks(), 1);
    running.shutdown.cancel();
}
