//! Views follow a real log.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::house::{alert, alert_id, at, measured, rejection};
use bytes::Bytes;
use eventlog::embedded::{Embedded, Options as LogOptions};
use eventlog::{Append, EventLog, ManualClock, Output, Partition, Topic, Work};
use projections::embedded::{EmbeddedViews, Options, rebuild};
use projections::query;
use projections::runner::{self, RunError};
use projections::store::{Progress, ViewStore};
use schemas::codec;
use schemas::derived::Derived;
use schemas::facts::{AlertState, Severity};
use schemas::ids::EventId;
use schemas::journal::Recorded;
use schemas::metric::Metric;
use tokio_util::sync::CancellationToken;

const SOON: Duration = Duration::from_secs(20);

/// A log and views in a folder of their own.
struct House {
    folder: tempfile::TempDir,
    log: Arc<dyn EventLog>,
}

impl House {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self {
            log: log(&folder.path().join("log")),
            folder,
        }
    }

    fn views(&self) -> Arc<EmbeddedViews> {
        EmbeddedViews::open(&self.folder.path().join("views"), Options::default()).unwrap()
    }

    async fn append(&self, topic: Topic, values: Vec<Vec<u8>>) -> i64 {
        let append = |value: Vec<u8>| Append {
            partition: 0,
            key: Bytes::new(),
            value: value.into(),
        };
        let offsets = self
            .log
            .append(topic, values.into_iter().map(append).collect())
            .await
            .unwrap();
        *offsets.last().unwrap()
    }

    async fn facts(&self, facts: &[Recorded]) -> i64 {
        let framed = facts.iter().map(|f| {
            let mut out = Vec::new();
            codec::encode(&f.envelope, &mut out);
            out
        });
        self.append(Topic::Journal, framed.collect()).await
    }

    /// Writes as the processor `alerts` would that has come so far with the journal.
    async fn alerts(&self, alerts: &[Derived], reached: i64) {
        let mut place = self.log.claim("alerts", Topic::Alerts, 0).await.unwrap();
        let output = |derived: &Derived| {
            let mut derived = derived.clone();
            derived.origin.incarnation = self.log.layout().incarnation;
            let mut value = Vec::new();
            codec::encode_derived(&derived, &mut value);
            Output {
                origin: derived.origin,
                key: Bytes::new(),
                value: value.into(),
            }
        };
        let outputs = alerts.iter().map(output).collect();
        place
            .commit(Work {
                outputs,
                reached,
                checkpoint: None,
            })
            .await
            .unwrap();
    }
}

fn log(dir: &Path) -> Arc<dyn EventLog> {
    let options = LogOptions {
        partitions: 1,
        ..LogOptions::default()
    };
    Embedded::open(dir, options, Arc::new(ManualClock::at(at(0)))).unwrap()
}

/// A runner at work, and what to stop it with.
struct Running {
    options: runner::Options,
    shutdown: CancellationToken,
    task: tokio::task::JoinHandle<Result<(), RunError>>,
}

impl Running {
    fn start(log: &Arc<dyn EventLog>, views: &Arc<EmbeddedViews>) -> Self {
        let (options, shutdown) = (runner::Options::default(), CancellationToken::new());
        let store: Arc<dyn ViewStore> = Arc::<EmbeddedViews>::clone(views);
        let task = tokio::spawn(runner::run(Arc::clone(log), store, options.clone(), shutdown.clone()));
        Self {
            options,
            shutdown,
            task,
        }
    }

    async fn reach(&self, topic: Topic, next: i64) {
        self.options.board.wait(topic, 0, next, SOON).await.unwrap();
    }

    async fn stop(self) -> Result<(), RunError> {
        self.shutdown.cancel();
        self.task.await.unwrap()
    }
}

async fn heart_rates(views: &EmbeddedViews) -> Vec<f64> {
    let page = query::readings(views, "p1", None, query::Range::ALL, query::Paging::default())
        .await
        .unwrap();
    page.items.iter().map(|r| r.value).collect()
}

fn beats(from: i64, to: i64) -> Vec<Recorded> {
    (from..to)
        .map(|n| measured("p1", "s1", Metric::HeartRate, n, n as f64))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn views_follow_the_log_and_go_on_where_they_were() {
    let house = House::new();
    for round in 0..3 {
        let views = house.views();
        let running = Running::start(&house.log, &views);
        let first = 11 * round;
        let last = house.facts(&beats(first, first + 10)).await;
        running.reach(Topic::Journal, last + 1).await;
        let wanted: Vec<f64> = (0..first + 10).rev().map(|n| n as f64).collect();
        assert_eq!(heart_rates(&views).await, wanted);
        assert_eq!(running.options.board.lag(&*house.log).await.unwrap()[0].records(), 0);
        let board = Arc::clone(&running.options.board);
        running.stop().await.unwrap();
        let progress = views.progress(Topic::Journal, 0).await.unwrap().unwrap();
        assert_eq!(
            (progress.next, progress.incarnation),
            (last + 1, house.log.layout().incarnation)
        );
        house.facts(&beats(first + 10, first + 11)).await;
        let lags = board.lag(&*house.log).await.unwrap();
        assert!(lags.iter().all(|lag| lag.records() == 0), "not ours any more: {lags:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_conclusion_is_seen_once() {
    let house = House::new();
    let views = house.views();
    let (open, taken) = (AlertState::Open, AlertState::Acknowledged);
    let raised = alert("p1", "a", 1, 1, open, Severity::Critical);
    let taken = alert("p1", "a", 1, 2, taken, Severity::Critical);
    house.facts(&beats(0, 4)).await;
    house.alerts(&[raised, taken], 3).await;
    let running = Running::start(&house.log, &views);
    running.reach(Topic::Alerts, 2).await;
    let found = query::alert_with_history(&*views, alert_id("a"))
        .await
        .unwrap()
        .unwrap();
    assert_eq!((found.state, found.history.len()), (AlertState::Acknowledged, 2));
    let progress = views.progress(Topic::Alerts, 0).await.unwrap().unwrap();
    assert_eq!(progress.last_origin.map(|o| o.offset), Some(2));
    running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_can_wait_for_all_that_follows_from_a_position() {
    let house = House::new();
    let views = house.views();
    let running = Running::start(&house.log, &views);
    let last = house.facts(&beats(0, 5)).await;
    running.reach(Topic::Journal, last + 1).await;
    let board = &running.options.board;
    let soon = Duration::from_millis(30);
    assert!(
        board.read_after(&*house.log, 0, last, soon).await.is_err(),
        "no processor has been here"
    );
    house
        .alerts(&[alert("p1", "a", 1, last, AlertState::Open, Severity::Info)], last + 1)
        .await;
    for (name, topic) in [
        ("windows", Topic::Windows),
        ("devices", Topic::Devices),
        ("consultations", Topic::Consultations),
    ] {
        let mut place = house.log.claim(name, topic, 0).await.unwrap();
        place
            .commit(Work {
                reached: last + 1,
                ..Work::default()
            })
            .await
            .unwrap();
    }
    board.read_after(&*house.log, 0, last, SOON).await.unwrap();
    assert!(query::alert(&*views, alert_id("a")).await.unwrap().is_some());
    running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_cannot_be_read_stops_its_partition_and_no_other() {
    let house = House::new();
    let views = house.views();
    house.facts(&beats(0, 3)).await;
    let bad = house.append(Topic::Journal, vec![vec![0, 0, 0, 0, 1, 1]]).await;
    house.facts(&beats(3, 6)).await;
    let running = Running::start(&house.log, &views);
    running.reach(Topic::Journal, bad).await;
    let mut refused = Vec::new();
    codec::encode_plain(&rejection(1, Some("s1")), &mut refused);
    let last = house.append(Topic::Rejected, vec![refused]).await;
    running.reach(Topic::Rejected, last + 1).await;
    assert_eq!(heart_rates(&views).await, [2.0, 1.0, 0.0]);
    assert_eq!(running.options.board.next(Topic::Journal, 0), bad);
    let board = Arc::clone(&running.options.board);
    let ended = running.stop().await;
    assert!(
        matches!(&ended, Err(RunError::Unreadable { unreadable, .. }) if unreadable.offset == bad),
        "{ended:?}"
    );
    assert_eq!(
        board.stopped().iter().map(|s| s.topic).collect::<Vec<_>>(),
        [Topic::Journal]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_whose_schema_is_told_of_late_stops_its_partition_until_then() {
    let house = House::new();
    let views = house.views();
    house.facts(&beats(0, 3)).await;
    let newer = house.append(Topic::Journal, vec![vec![0, 0, 0, 0, 99]]).await;
    house.facts(&beats(3, 6)).await;
    let running = Running::start(&house.log, &views);
    running.reach(Topic::Journal, newer).await;
    let board = Arc::clone(&running.options.board);
    let stopped = async {
        while board.stopped().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(SOON, stopped).await.unwrap();
    let ignorable = r#"{"type":"record","name":"BedMoved","namespace":"fajma","fajma.ignorable":true,"fields":[]}"#;
    running.options.catalogue.learn(99, ignorable).unwrap();
    running.reach(Topic::Journal, newer + 1).await;
    let whole = async {
        while heart_rates(&views).await.len() < 6 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(SOON, whole).await.unwrap();
    assert!(board.stopped().is_empty());
    running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn views_of_another_journal_or_beyond_its_end_stop() {
    let house = House::new();
    let views = house.views();
    house.facts(&beats(0, 3)).await;
    let own = house.log.layout().incarnation;
    for (incarnation, next) in [(own, 4), (EventId([1; 16]), 2)] {
        let progress = Progress {
            topic: Topic::Journal,
            partition: 0,
            incarnation,
            next,
            last_origin: None,
        };
        views.apply(&[], Some(&progress)).await.unwrap();
        let store: Arc<dyn ViewStore> = Arc::<EmbeddedViews>::clone(&views);
        let ended = runner::catch_up(Arc::clone(&house.log), store, runner::Options::default()).await;
        match ended {
            Err(RunError::BeyondEnd { next: 4, end: 3, .. }) if incarnation == own => {}
            Err(RunError::OtherIncarnation { found, .. }) if found == incarnation => {}
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rebuilt_views_take_the_place_of_the_old_ones_when_they_are_opened_again() {
    let house = House::new();
    let dir = house.folder.path().join("views");
    let old = house.views();
    // A row that follows from no fact, and nothing of what the log holds.
    let mut changes = Vec::new();
    projections::views::project_fact(&measured("p1", "s1", Metric::HeartRate, 0, 666.0), &mut changes);
    old.apply(&changes, None).await.unwrap();
    house.facts(&beats(0, 5)).await;
    rebuild(
        Arc::clone(&house.log),
        &dir,
        Options::default(),
        runner::Options::default(),
    )
    .await
    .unwrap();
    assert_eq!(heart_rates(&old).await, [666.0], "those in use stay as they are");
    drop(old);
    let new = house.views();
    assert_eq!(heart_rates(&new).await, [4.0, 3.0, 2.0, 1.0, 0.0]);
    let progress = new.progress(Topic::Journal, 0).await.unwrap().unwrap();
    assert_eq!((progress.partition, progress.next), (Partition::default(), 5));
}
