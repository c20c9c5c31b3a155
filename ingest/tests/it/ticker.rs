//! Time goes into every partition, and a wrong clock does not.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use eventlog::{Clock, EventLog, ManualClock};
use ingest::accept::{Context, Kind};
use ingest::ticker::{self, WITNESSES};
use ingest::{Clocks, Limits};
use schemas::facts::{ClockTicked, Door, TickedBy};
use schemas::journal::Fact;
use schemas::time::{Span, Timestamp};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::log::{MemoryLog, NOW, PARTITIONS, intake_by};

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
    clocks: Arc<Clocks>,
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
    let clocks = Arc::new(Clocks::others());
    let told = Arc::clone(&clocks);
    let task = tokio::spawn(ticker::run(port, same, TickedBy::Ingest, told, shutdown.clone()));
    Running {
        log,
        clock,
        clocks,
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

    /// By how many seconds it says that its clock is apart.
    fn apart(&self) -> Option<f64> {
        self.clocks.apart(self.clock.now()).map(Span::as_seconds)
    }

    /// What becomes of a reading that was measured now, by a clock that is right; how many were refused.
    async fn sends(&self) -> (bool, usize) {
        let clock: Arc<dyn Clock> = Arc::<Moving>::clone(&self.clock);
        let intake = intake_by(&self.log, Limits::default(), (clock, Arc::clone(&self.clocks)));
        let at = Timestamp(self.log.appended_at.load(Ordering::SeqCst));
        let reading = format!(r#"{{"type":"heart_rate","value":72,"unit":"/min","at":"{at}"}}"#);
        let context = Context::new(Door::Http, intake.clock().now()).on_topic("p1", "s1", Kind::Data);
        let taken = intake.take(&reading.into(), &context).await.is_ok();
        (taken, self.log.rejected().len())
    }
}

const PROBE: usize = WITNESSES as usize;

#[tokio::test(start_paused = true)]
async fn every_partition_is_ticked_once_a_second_until_shutdown() {
    let running = start();
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(running.ticks(), PROBE, "the first is a probe");
    running.seconds(3).await;
    assert_eq!(running.ticks(), PROBE + 3 * usize::from(PARTITIONS));
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
        let ahead = running.apart().unwrap();
        assert!((ahead - jump.as_seconds()).abs() <= 1.0, "it says by how much: {ahead}");
        running.clock.base.advance(Span(-jump.0));
        running.seconds(2).await;
        assert!(running.ticks() > before, "it goes on by itself");
        assert_eq!(running.apart(), None);
        running.shutdown.cancel();
    }
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_wrong_from_the_start_probes_now_and_then_and_no_more() {
    let running = start();
    running.clock.base.advance(Span::hours(1));
    tokio::time::sleep(Duration::from_millis(500)).await;
    running.seconds(20).await;
    assert_eq!(running.ticks(), PROBE);
    running.seconds(20).await;
    assert_eq!(running.ticks(), 2 * PROBE);
    running.shutdown.cancel();
}

#[tokio::test(start_paused = true)]
async fn one_broker_that_is_wrong_is_no_reason_and_one_that_is_wrong_as_we_are_no_excuse() {
    let running = start();
    running.log.leaders.lock().unwrap().insert(0, Span::hours(1));
    tokio::time::sleep(Duration::from_millis(500)).await;
    running.seconds(3).await;
    assert_eq!(running.ticks(), PROBE + 3 * usize::from(PARTITIONS));
    assert_eq!(running.sends().await, (true, 0));
    running.clock.base.advance(Span::hours(1));
    running.seconds(3).await;
    let ahead = running.apart().unwrap();
    assert!((ahead - 3600.0).abs() <= 1.0, "{ahead}");
    assert_eq!(running.sends().await, (false, 0));
    running.shutdown.cancel();
}

#[tokio::test(start_paused = true)]
async fn an_old_record_of_a_broker_that_comes_back_says_nothing_of_the_time_now() {
    let running = start();
    running.log.away.lock().unwrap().extend([1, 2]);
    running.clock.base.advance(Span::seconds(3));
    tokio::time::sleep(Duration::from_millis(500)).await;
    running.seconds(15).await;
    running.log.away.lock().unwrap().clear();
    running.seconds(5).await;
    let ahead = running.apart().unwrap();
    assert!((ahead - 3.0).abs() <= 1.0, "{ahead}");
    running.shutdown.cancel();
}

#[tokio::test(start_paused = true)]
async fn nothing_is_taken_or_refused_by_a_clock_that_is_far_off_or_not_yet_compared() {
    for wrong in [Span::hours(1), Span::hours(-1)] {
        let running = start();
        assert_eq!(running.sends().await, (false, 0), "nothing is known yet");
        tokio::time::sleep(Duration::from_millis(500)).await;
        running.seconds(2).await;
        assert_eq!(running.sends().await, (true, 0));
        running.clock.base.advance(wrong);
        // At once, before any tick.
        assert_eq!(running.sends().await, (false, 0));
        running.seconds(40).await;
        assert_eq!(running.sends().await, (false, 0));
        running.clock.base.advance(Span(-wrong.0));
        assert_eq!(running.sends().await, (true, 0));
        // Off by seconds: it does not tick, and is no reason not to take what comes.
        running.clock.base.advance(Span(wrong.0.signum() * Span::seconds(5).0));
        let before = running.ticks();
        running.seconds(5).await;
        assert_eq!(running.ticks(), before);
        assert_eq!(running.sends().await, (true, 0));
        running.shutdown.cancel();
    }
}
