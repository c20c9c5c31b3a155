//! Nothing is answered before it is durable, and nothing is counted twice.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use eventlog::LogError;
use ingest::{Context, Intake, Kind, Limits, Receipt, Status, Tally};
use schemas::facts::Door;
use schemas::refused::Code;

use crate::log::{MemoryLog, NOW, intake};

fn reading(seq: u32) -> String {
    format!(r#"{{"type":"heart_rate","value":72,"seq":{seq}}}"#)
}

fn context() -> Context<'static> {
    Context::new(Door::Mqtt, NOW).on_topic("p1", "s1", Kind::Data)
}

async fn take(intake: &Intake, text: &str) -> Result<Vec<Receipt>, LogError> {
    intake.take(&Bytes::from(text.to_owned()), &context()).await
}

fn statuses(receipts: &[Receipt]) -> Vec<Status> {
    receipts.iter().map(|r| r.status).collect()
}

#[tokio::test]
async fn facts_go_to_the_journal_and_refusals_beside_it_with_one_append_each() {
    let log = MemoryLog::open();
    let intake = intake(&log, Limits::default());
    let receipts = take(&intake, &format!("[{},{{}},{}]", reading(1), reading(2)))
        .await
        .unwrap();
    assert_eq!(
        statuses(&receipts),
        [Status::Accepted, Status::Rejected, Status::Accepted]
    );
    assert_eq!((log.journal().len(), log.rejected().len()), (2, 1));
    assert_eq!(log.rejected()[0].bytes, "{}");
    assert_eq!(log.appends.load(Ordering::SeqCst), 2);
    assert_eq!(receipts[1].code(), Some(Code::MissingField));
    assert!(receipts[0].position < receipts[2].position);
}

#[tokio::test]
async fn nothing_is_answered_before_it_is_durable() {
    let log = MemoryLog::held();
    let intake = intake(&log, Limits::default());
    let message = format!("[{},{{}}]", reading(1));
    let mut taking = Box::pin(take(&intake, &message));
    for _ in 0..2 {
        assert!(
            futures::poll!(&mut taking).is_pending(),
            "an answer before both appends were durable"
        );
        log.gate.add_permits(1);
    }
    assert_eq!(
        Tally::of(&taking.await.unwrap()),
        Tally {
            accepted: 1,
            duplicates: 0,
            rejected: 1
        }
    );
}

#[tokio::test]
async fn a_repeat_is_answered_with_the_place_of_the_first() {
    let log = MemoryLog::open();
    let intake = intake(&log, Limits::default());
    let first = take(&intake, &reading(1)).await.unwrap();
    let again = take(&intake, &format!("[{},{},{}]", reading(1), reading(2), reading(2)))
        .await
        .unwrap();
    assert_eq!(
        statuses(&again),
        [Status::Duplicate, Status::Accepted, Status::Duplicate]
    );
    assert_eq!(
        (again[0].position, again[2].position),
        (first[0].position, again[1].position)
    );
    assert_eq!(log.journal().len(), 2);
    let other = Context::new(Door::Mqtt, NOW).on_topic("p2", "s1", Kind::Data);
    let other = intake.take(&Bytes::from(reading(1)), &other).await.unwrap();
    assert_eq!(
        statuses(&other),
        [Status::Accepted],
        "the same reading for another patient is no repeat"
    );
}

#[tokio::test]
async fn a_repeat_waits_for_the_first_that_is_still_on_its_way() {
    let log = MemoryLog::held();
    let intake = intake(&log, Limits::default());
    let text = reading(1);
    let (mut first, mut again) = (Box::pin(take(&intake, &text)), Box::pin(take(&intake, &text)));
    assert!(futures::poll!(&mut first).is_pending() && futures::poll!(&mut again).is_pending());
    assert_eq!(log.appends.load(Ordering::SeqCst), 1, "the repeat is not appended");
    log.gate.add_permits(1);
    let (first, again) = (first.await.unwrap(), again.await.unwrap());
    assert_eq!(
        (first[0].status, again[0].status),
        (Status::Accepted, Status::Duplicate)
    );
    assert_eq!(first[0].position, again[0].position);
}

#[tokio::test]
async fn a_repeat_of_what_failed_or_went_away_is_appended_itself() {
    for fails in [true, false] {
        let log = MemoryLog::held();
        let intake = intake(&log, Limits::default());
        let text = reading(1);
        let (mut first, mut again) = (Box::pin(take(&intake, &text)), Box::pin(take(&intake, &text)));
        assert!(futures::poll!(&mut first).is_pending() && futures::poll!(&mut again).is_pending());
        if fails {
            *log.error.lock().unwrap() = Some(LogError::Unavailable("gone".to_owned()));
            log.gate.add_permits(1);
            assert!(first.await.is_err());
            *log.error.lock().unwrap() = None;
        } else {
            drop(first);
        }
        log.gate.add_permits(1);
        assert_eq!(statuses(&again.await.unwrap()), [Status::Accepted], "fails: {fails}");
        assert_eq!(log.journal().len(), 1);
    }
}

#[tokio::test]
async fn the_memory_of_repeats_is_bounded() {
    let log = MemoryLog::open();
    let intake = intake(
        &log,
        Limits {
            recent_ids: 4,
            ..Limits::default()
        },
    );
    for seq in 0..20 {
        take(&intake, &reading(seq)).await.unwrap();
    }
    assert_eq!(
        statuses(&take(&intake, &reading(19)).await.unwrap()),
        [Status::Duplicate]
    );
    assert_eq!(
        statuses(&take(&intake, &reading(0)).await.unwrap()),
        [Status::Accepted],
        "forgotten, and written again"
    );
}

#[tokio::test]
async fn what_a_counting_device_sends_again_after_a_restart_is_known_by_the_new_process() {
    let log = MemoryLog::open();
    let timed = r#"{"type":"heart_rate","value":72,"seq":9,"at":"2026-01-05T07:59:59.000Z"}"#;
    let message = format!("[{},{timed},{{}},{}]", reading(1), reading(2));
    take(&intake(&log, Limits::default()), &message).await.unwrap();
    let limits = Limits {
        recalled_records: 4 * usize::from(crate::log::PARTITIONS),
        ..Limits::default()
    };
    let restarted = intake(&log, limits);
    assert_eq!(restarted.recall().await.unwrap(), 2);
    assert_eq!(
        statuses(
            &take(&restarted, &format!("[{},{},{}]", reading(2), reading(1), reading(3)))
                .await
                .unwrap()
        ),
        [Status::Duplicate, Status::Duplicate, Status::Accepted]
    );
    let few = intake(
        &log,
        Limits {
            recalled_records: usize::from(crate::log::PARTITIONS),
            ..limits
        },
    );
    assert_eq!(few.recall().await.unwrap(), 1, "no further back than the limit says");
}

#[tokio::test]
async fn when_too_much_is_on_its_way_the_next_waits() {
    let log = MemoryLog::held();
    let intake = intake(
        &log,
        Limits {
            bytes_in_flight: 1024,
            ..Limits::default()
        },
    );
    let (one, two) = (reading(1), reading(2));
    let (mut first, mut second) = (Box::pin(take(&intake, &one)), Box::pin(take(&intake, &two)));
    assert!(futures::poll!(&mut first).is_pending() && futures::poll!(&mut second).is_pending());
    assert_eq!(log.appends.load(Ordering::SeqCst), 1);
    log.gate.add_permits(2);
    let (first, second) = tokio::join!(first, second);
    assert!(first.is_ok() && second.is_ok());
}

#[tokio::test]
async fn a_monster_that_the_log_does_not_take_is_cut_rather_than_sent_for_ever() {
    let log = MemoryLog::open();
    *log.error.lock().unwrap() = Some(LogError::TooLarge { bytes: 9, limit: 1 });
    let intake = intake(&log, Limits::default());
    assert!(matches!(take(&intake, "monster").await, Err(LogError::TooLarge { .. })));
    assert_eq!(log.appends.load(Ordering::SeqCst), 2, "once whole, once cut");
}

#[tokio::test]
async fn each_door_counts_what_came_through_it() {
    let log = MemoryLog::open();
    let intake: Arc<Intake> = intake(&log, Limits::default());
    take(&intake, &format!("[{},{},{{}}]", reading(1), reading(1)))
        .await
        .unwrap();
    let mqtt = intake.traffic().into_iter().find(|t| t.door == Door::Mqtt).unwrap();
    assert_eq!(
        (mqtt.messages, mqtt.accepted, mqtt.duplicates, mqtt.rejected),
        (1, 1, 1, 1)
    );
    assert_eq!(mqtt.rejected_by_code, [(Code::MissingField, 1)]);
    assert!(mqtt.bytes > 0);
}
