//! What only the embedded home promises: one process, shared batches, retention, fencing.

use std::sync::Arc;

use eventlog::conformance::{appending, conclusion, everything};
use eventlog::embedded::{Embedded, Options};
use eventlog::{Checkpoint, EventLog, Limit, LogError, ManualClock, Topic, Work};
use schemas::time::{Span, Timestamp};

use crate::harness::options;

struct Home {
    _dir: tempfile::TempDir,
    clock: Arc<ManualClock>,
    log: Arc<Embedded>,
}

fn home(options: Options) -> Home {
    let dir = tempfile::tempdir().expect("a folder");
    let clock = Arc::<ManualClock>::default();
    let log = Embedded::open(dir.path(), options, Arc::<ManualClock>::clone(&clock)).expect("opens");
    Home { _dir: dir, clock, log }
}

async fn fill(log: &Embedded, n: usize) {
    let records = (0..n).map(|i| appending(0, "p", format!("{i:>100}"))).collect();
    log.append(Topic::Journal, records).await.expect("appended");
}

#[tokio::test]
async fn a_second_process_is_refused_and_told_why() {
    let dir = tempfile::tempdir().expect("a folder");
    let first = Embedded::open(dir.path(), options(), Arc::<ManualClock>::default()).expect("opens");
    let second = Embedded::open(dir.path(), options(), Arc::<ManualClock>::default());
    assert!(
        matches!(&second, Err(LogError::Unavailable(why)) if why.contains("another process")),
        "{second:?}"
    );
    drop(first);
    assert!(Embedded::open(dir.path(), options(), Arc::<ManualClock>::default()).is_ok());
}

#[tokio::test]
async fn partitions_are_those_of_the_log_and_not_of_the_options() {
    let dir = tempfile::tempdir().expect("a folder");
    let layout = {
        let log = Embedded::open(dir.path(), options(), Arc::<ManualClock>::default()).expect("opens");
        log.layout()
    };
    let other = Options {
        partitions: 5,
        ..options()
    };
    let log = Embedded::open(dir.path(), other, Arc::<ManualClock>::default()).expect("opens");
    assert_eq!(log.layout(), layout);
}

#[tokio::test]
async fn readers_who_keep_up_share_one_batch() {
    let Home { log, _dir, .. } = home(options());
    for _ in 0..3 {
        fill(&log, 5).await;
    }
    let first = log.read(Topic::Journal, 0, 0, Limit::default()).await.expect("read");
    let second = log.read(Topic::Journal, 0, 0, Limit::default()).await.expect("read");
    assert_eq!(first.entries().len(), 15);
    assert!(Arc::ptr_eq(&first, &second));
    let middle = log.read(Topic::Journal, 0, 4, Limit::default()).await.expect("read");
    assert_eq!(middle.entries(), &first.entries()[4..]);
}

#[tokio::test]
async fn a_claim_fences_the_owner_before_it() {
    let Home { log, _dir, .. } = home(options());
    fill(&log, 3).await;
    let mut old = log.claim("suite", Topic::Devices, 0).await.expect("claimed");
    let _new = log.claim("suite", Topic::Devices, 0).await.expect("claimed");
    let work = Work {
        outputs: vec![conclusion(log.layout().incarnation, 0, "k", 0, "s")],
        reached: 1,
        checkpoint: None,
    };
    assert!(matches!(old.commit(work).await, Err(LogError::Fenced)));
    assert!(everything(&*log, Topic::Devices, 0).await.is_empty());
    let other = log.claim("other", Topic::Devices, 0).await;
    assert!(
        matches!(other, Err(LogError::Misuse(_))),
        "one processor writes a derived topic"
    );
}

#[tokio::test]
async fn a_repeat_that_differs_stops_its_processor() {
    let dir = tempfile::tempdir().expect("a folder");
    for round in 0..2 {
        // The second time it is remembered from the disk.
        let log = Embedded::open(dir.path(), options(), Arc::<ManualClock>::default()).expect("opens");
        let output = |text| Work {
            outputs: vec![conclusion(log.layout().incarnation, 0, "k", 0, text)],
            reached: 1,
            checkpoint: None,
        };
        let mut place = log.claim("suite", Topic::Devices, 0).await.expect("claimed");
        place.commit(output("first")).await.expect("the same is no fault");
        let differs = place.commit(output("second")).await;
        assert!(matches!(differs, Err(LogError::Corrupt(_))), "{round}: {differs:?}");
    }
}

#[tokio::test]
async fn old_records_go_by_age_and_reading_them_stops_loudly() {
    let Home { log, clock, _dir } = home(Options {
        retention_age: Some(Span::hours(1)),
        ..options()
    });
    for hour in 0..4 {
        clock.set(Timestamp(0) + Span::hours(hour));
        fill(&log, 10).await;
    }
    clock.advance(Span::seconds(-1));
    log.retain().await.expect("done");
    let bounds = log.bounds(Topic::Journal, 0).await.expect("known");
    assert_eq!((bounds.start, bounds.end), (20, 40));
    let gone = log.read(Topic::Journal, 0, 19, Limit::default()).await;
    assert!(matches!(gone, Err(LogError::OutOfRange { .. })), "{gone:?}");
    assert_eq!(everything(&*log, Topic::Journal, 0).await.len(), 20);
    assert_eq!(log.offset_at(Topic::Journal, 0, Timestamp(0)).await.expect("known"), 20);
}

#[tokio::test]
async fn old_records_go_by_size_but_not_those_a_processor_has_still_to_read() {
    let Home { log, _dir, .. } = home(Options {
        retention_bytes: Some(5000),
        ..options()
    });
    for _ in 0..20 {
        fill(&log, 10).await;
    }
    let mut place = log.claim("suite", Topic::Devices, 0).await.expect("claimed");
    let at = |position| Work {
        checkpoint: Some(Checkpoint {
            position,
            ..Checkpoint::default()
        }),
        ..Work::default()
    };
    place.commit(at(35)).await.expect("committed");
    log.retain().await.expect("done");
    assert_eq!(log.bounds(Topic::Journal, 0).await.expect("known").start, 30);
    place.commit(at(200)).await.expect("committed");
    log.retain().await.expect("done");
    let start = log.bounds(Topic::Journal, 0).await.expect("known").start;
    assert!((150..190).contains(&start), "{start}");
}

#[tokio::test]
async fn where_old_records_end_is_known_after_a_restart() {
    let dir = tempfile::tempdir().expect("a folder");
    let clock = Arc::new(ManualClock::at(Timestamp(0)));
    let keep = Options {
        retention_age: Some(Span::hours(1)),
        ..options()
    };
    let log = Embedded::open(dir.path(), keep.clone(), Arc::<ManualClock>::clone(&clock)).expect("opens");
    fill(&log, 10).await;
    clock.advance(Span::hours(2));
    log.retain().await.expect("done");
    drop(log);
    let log = Embedded::open(dir.path(), keep, Arc::<ManualClock>::clone(&clock)).expect("opens");
    let bounds = log.bounds(Topic::Journal, 0).await.expect("known");
    assert_eq!((bounds.start, bounds.end), (10, 10));
    fill(&log, 1).await;
    assert_eq!(everything(&*log, Topic::Journal, 0).await[0].offset, 10);
}

#[tokio::test]
async fn a_full_queue_holds_up_who_comes_and_loses_nothing() {
    let Home { log, _dir, .. } = home(Options {
        queue_bytes: 300,
        ..options()
    });
    let tasks: Vec<_> = (0..50)
        .map(|_| {
            let log = Arc::clone(&log);
            tokio::spawn(async move { fill(&log, 4).await })
        })
        .collect();
    for task in tasks {
        task.await.expect("done");
    }
    assert_eq!(everything(&*log, Topic::Journal, 0).await.len(), 200);
}
