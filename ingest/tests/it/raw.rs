//! Records that others put into topics: the same facts however often they are read, and nothing done before it is durable.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use eventlog::raw::{Feed, RawRecord, lane};
use eventlog::{Limit, LogError};
use ingest::raw::{RawDoor, Sources, TopicFrom};
use ingest::{Intake, Limits};
use schemas::facts::{Door, Mark};
use schemas::ids::EventId;
use schemas::journal::{ClockQuality, Fact};
use schemas::refused::Rejection;
use schemas::time::{Span, Timestamp};
use tokio_util::sync::CancellationToken;

use crate::log::{MemoryLog, NOW, intake};

const TOPIC: &str = "fajma/patient/p1/sensor/s1/data";

fn record(offset: i64, at: Option<Timestamp>, value: &str) -> RawRecord {
    RawRecord {
        offset,
        at,
        key: Some(Bytes::from(TOPIC)),
        value: Some(Bytes::copy_from_slice(value.as_bytes())),
        headers: Vec::new(),
    }
}

/// Two readings of a device that has neither clock nor counter, one that counts, one with a clock, and three that are none.
fn records() -> Vec<RawRecord> {
    let at = |n: i64| Some(NOW - Span::minutes(10) + Span::seconds(n));
    vec![
        record(5, at(0), r#"{"type":"heart_rate","value":71}"#),
        record(6, at(0), r#"{"type":"heart_rate","value":71}"#),
        record(7, at(1), r#"{"type":"heart_rate","value":71,"seq":3}"#),
        record(
            9,
            at(2),
            r#"{"type":"heart_rate","value":71,"at":"2026-01-05T07:30:00.000Z"}"#,
        ),
        record(10, at(3), "no reading"),
        record(
            11,
            at(4),
            r#"[{"type":"heart_rate","value":72},{"type":"heart_rate","value":7200}]"#,
        ),
        RawRecord {
            key: Some(Bytes::from("kitchen/lamp")),
            ..record(12, at(5), r#"{"type":"heart_rate","value":73}"#)
        },
    ]
}

/// Gives records to a door as a process of its own would; the lane's feed, once everything is done.
async fn read(log: &Arc<MemoryLog>, incarnation: u8, records: Vec<RawRecord>) {
    let until = records.last().map(|last| last.offset + 1);
    let (feed, stop) = follow(intake(log, Limits::default()), incarnation, records);
    while feed.done() != until {
        tokio::task::yield_now().await;
    }
    stop.cancel();
}

fn follow(intake: Arc<Intake>, incarnation: u8, records: Vec<RawRecord>) -> (Feed, CancellationToken) {
    let sources = Sources {
        topics: BTreeMap::from([("raw".into(), TopicFrom::Key)]),
        prefix: String::new(),
        batch: Limit {
            records: 3,
            bytes: 1 << 20,
        },
    };
    let stop = CancellationToken::new();
    let mut door = RawDoor::new(intake, sources, stop.clone());
    let (feed, lane) = lane("raw", 1, EventId([incarnation; 16]), 0);
    records.into_iter().for_each(|record| feed.put(record));
    door.follow(lane);
    tokio::spawn(async move { door.ended().await });
    (feed, stop)
}

#[tokio::test]
async fn what_is_read_again_says_the_same_facts_at_the_same_moments_and_the_same_refusals() {
    let log = MemoryLog::open();
    read(&log, 1, records()).await;
    let (first, refused) = (log.journal(), log.rejected());
    assert_eq!((first.len(), refused.len()), (5, 3));
    let ids: std::collections::BTreeSet<_> = first.iter().map(|e| e.id).collect();
    assert_eq!(ids.len(), 5, "two equal readings of two records are two");
    // Another process, which remembers nothing, a minute later.
    read(&log, 1, records()).await;
    for (again, before) in log.journal()[5..].iter().zip(&first) {
        assert_eq!(
            (again.id, &again.key, again.measured_at),
            (before.id, &before.key, before.measured_at)
        );
    }
    let twice = log.rejected();
    assert_eq!(twice.len(), 6);
    for before in &refused {
        let same = |again: &&Rejection| (again.id, again.received_at) == (before.id, before.received_at);
        assert_eq!(twice.iter().filter(same).count(), 2, "{before:?}");
    }
    // The same places of another topic under this name are other readings where only the place tells.
    read(&log, 2, records()).await;
    let other = log.journal().split_off(10);
    let known = other.iter().filter(|e| ids.contains(&e.id)).count();
    assert_eq!((other.len(), known), (5, 2), "those with a time or a number are known");
}

#[tokio::test]
async fn a_record_bears_its_door_and_its_moment_in_the_topic() {
    let log = MemoryLog::open();
    read(&log, 1, records()).await;
    let journal = log.journal();
    let ten_minutes_ago = NOW - Span::minutes(10);
    let first = &journal[0];
    assert_eq!(
        (first.measured_at, first.gateway_at),
        (ten_minutes_ago, Some(ten_minutes_ago))
    );
    assert_eq!((first.received_at, first.clock), (NOW, ClockQuality::Arrival));
    let Fact::Reading(reading) = &first.fact else { panic!() };
    assert_eq!(reading.door, Door::Raw);
    assert_eq!(reading.marks, [Mark::TimeMissing, Mark::AtLeastOnce]);
    let own = &journal[3];
    assert_eq!(
        (own.measured_at, own.clock),
        (NOW - Span::minutes(30), ClockQuality::Device)
    );
    let fields: Vec<_> = log
        .rejected()
        .iter()
        .map(|r| (r.door, r.field.clone(), r.index))
        .collect();
    assert_eq!(
        fields,
        [
            (Door::Raw, None, 0),
            (Door::Raw, Some("value".into()), 1),
            (Door::Raw, Some("topic".into()), 0)
        ]
    );
}

#[tokio::test]
async fn a_moment_that_is_ahead_of_ours_is_refused_but_where_the_device_says_when() {
    let log = MemoryLog::open();
    let ahead = Some(NOW + Span::hours(2));
    let records = vec![
        record(0, ahead, r#"{"type":"heart_rate","value":71}"#),
        record(
            1,
            ahead,
            r#"{"type":"heart_rate","value":71,"at":"2026-01-05T07:30:00.000Z"}"#,
        ),
        record(2, None, r#"{"type":"heart_rate","value":71}"#),
    ];
    read(&log, 1, records).await;
    let moments: Vec<_> = log.journal().iter().map(|e| e.measured_at).collect();
    assert_eq!(moments, [NOW - Span::minutes(30), NOW]);
    let refused = log.rejected();
    assert_eq!((refused[0].code.as_str(), refused[0].received_at), ("time_ahead", NOW));
}

#[tokio::test(start_paused = true)]
async fn nothing_is_done_while_the_log_is_away_and_everything_once_it_is_back() {
    let log = MemoryLog::open();
    *log.error.lock().unwrap() = Some(LogError::Unavailable("test".to_owned()));
    let (feed, stop) = follow(intake(&log, Limits::default()), 1, records());
    tokio::time::sleep(std::time::Duration::from_secs(60)).await;
    assert_eq!((feed.done(), feed.is_settled()), (None, false));
    *log.error.lock().unwrap() = None;
    while feed.done() != Some(13) {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    assert_eq!((log.journal().len(), log.rejected().len()), (5, 3));
    // Told to stop while it waits, it says that nothing more is done.
    *log.error.lock().unwrap() = Some(LogError::Full("test".to_owned()));
    feed.put(record(13, None, r#"{"type":"heart_rate","value":74}"#));
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    stop.cancel();
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    assert_eq!((feed.done(), feed.is_settled()), (Some(13), false));
}

#[tokio::test]
async fn one_that_the_log_never_takes_is_refused_and_those_behind_it_go_on() {
    let log = MemoryLog::open();
    log.largest.store(400, std::sync::atomic::Ordering::SeqCst);
    let records = vec![
        record(0, None, r#"{"type":"heart_rate","value":71,"seq":1}"#),
        record(
            1,
            None,
            &format!(r#"{{"type":"ecg","rate":100,"samples":[{}]}}"#, ["1"; 200].join(",")),
        ),
        record(2, None, r#"{"type":"heart_rate","value":72,"seq":2}"#),
    ];
    read(&log, 1, records).await;
    assert_eq!(log.journal().len(), 2);
    assert_eq!(log.rejected()[0].code.as_str(), "too_large");
}
