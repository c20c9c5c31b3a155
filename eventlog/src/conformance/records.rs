//! Promises about records: appending, reading, waiting.

use std::time::Duration;

use schemas::time::{Span, Timestamp};

use super::support::{Harness, append, appending, everything, fill, read};
use crate::{Bounds, EventLog, Limit, LogError, Offset, Topic};

/// Bytes come back as they went in, empty ones too, in every topic that takes appends.
pub async fn what_is_appended_is_read_back_byte_for_byte<H: Harness>(h: &mut H) {
    h.clock().set(Timestamp(77));
    let log = h.log();
    let every_byte: Vec<u8> = (0..=255).collect();
    let given = [
        appending(0, "p1", every_byte),
        appending(0, "", Vec::new()),
        appending(0, "é\u{0}", vec![0; 900]),
    ];
    for topic in [Topic::Journal, Topic::Rejected, Topic::Audit, Topic::Control] {
        let offsets = append(&*log, topic, &given).await;
        let all = everything(&*log, topic, 0).await;
        for (record, offset) in given.iter().zip(offsets) {
            let found = all.iter().find(|e| e.offset == offset);
            let found = found.unwrap_or_else(|| panic!("nothing at {offset}"));
            assert_eq!((&found.key, &found.value), (&record.key, &record.value));
            assert!(!h.keeps_time() || found.appended_at == Timestamp(77));
        }
    }
}

/// Per partition, log order is the order given, within an append and from one to the next.
pub async fn order_in_a_partition_is_the_order_given<H: Harness>(h: &mut H) {
    let log = h.log();
    let mut last = [-1, -1];
    for round in 0..5 {
        let records: Vec<_> = (0..10).map(|i| appending(i % 2, "p", format!("{round}.{i}"))).collect();
        let offsets = append(&*log, Topic::Journal, &records).await;
        assert_eq!(offsets.len(), records.len());
        for (record, offset) in records.iter().zip(offsets) {
            let last = &mut last[usize::from(record.partition)];
            assert!(offset > *last, "{offset} comes after {last}");
            *last = offset;
        }
    }
    for partition in 0..2 {
        let all = everything(&*log, Topic::Journal, partition).await;
        assert!(!h.appends_once() || all.len() == 25);
    }
}

/// Many at once: nobody's records are lost or change places.
pub async fn appenders_at_once_keep_their_own_order<H: Harness>(h: &mut H) {
    let log = h.log();
    let tasks: Vec<_> = (0..8)
        .map(|who| {
            let log = h.log();
            tokio::spawn(async move {
                for i in 0..20 {
                    append(
                        &*log,
                        Topic::Journal,
                        &[appending(0, &format!("{who}"), format!("{i:03}"))],
                    )
                    .await;
                }
            })
        })
        .collect();
    for task in tasks {
        assert!(task.await.is_ok());
    }
    let all = everything(&*log, Topic::Journal, 0).await;
    for who in 0..8 {
        let key = format!("{who}");
        let mut own: Vec<_> = all
            .iter()
            .filter(|e| e.key == key.as_bytes())
            .map(|e| e.value.clone())
            .collect();
        assert!(own.is_sorted() && (!h.appends_once() || own.len() == 20));
        own.dedup();
        assert_eq!(own.len(), 20);
    }
}

/// Every acknowledged record is at its offset after a crash.
pub async fn what_was_acknowledged_is_there_after_a_crash<H: Harness>(h: &mut H) {
    let mut acknowledged: Vec<(Offset, String)> = Vec::new();
    for round in 0..3 {
        let log = h.log();
        for i in 0..10 {
            let text = format!("{round}.{i}");
            let offsets = append(&*log, Topic::Journal, &[appending(1, "p", text.clone())]).await;
            acknowledged.push((offsets[0], text));
        }
        drop(log);
        h.restart().await;
    }
    let log = h.log();
    let all = everything(&*log, Topic::Journal, 1).await;
    for (offset, text) in acknowledged {
        let found = all.iter().find(|e| e.offset == offset).map(|e| e.value.clone());
        assert_eq!(found.as_deref(), Some(text.as_bytes()), "at {offset}");
    }
}

/// What a reader has seen is durable: it is there after a crash, with the same bytes at the same offsets.
pub async fn what_was_read_is_there_after_a_crash<H: Harness>(h: &mut H) {
    let log = h.log();
    let writer = h.log();
    let writing = tokio::spawn(async move {
        for _ in 0..30 {
            fill(&*writer, 0, 3).await;
        }
    });
    let mut read_so_far = Vec::new();
    while read_so_far.len() < 60 {
        assert!(log.wait(Topic::Journal, 0, read_so_far.len() as Offset).await.is_ok());
        read_so_far = everything(&*log, Topic::Journal, 0).await;
    }
    assert!(writing.await.is_ok());
    drop(log);
    h.restart().await;
    let after = everything(&*h.log(), Topic::Journal, 0).await;
    assert_eq!(after.get(..read_so_far.len()), Some(&read_so_far[..]));
}

/// A reader that keeps up while others append goes on from where its batch ended, always: no place that it was given is
/// ever beyond the end.
pub async fn where_a_batch_ended_can_be_gone_on_from<H: Harness>(h: &mut H) {
    let log = h.log();
    let writers: Vec<_> = (0..4)
        .map(|_| {
            let writer = h.log();
            tokio::spawn(async move {
                for _ in 0..100 {
                    fill(&*writer, 0, 5).await;
                }
            })
        })
        .collect();
    let mut next = 0;
    while next < 2_000 {
        let batch = read(&*log, Topic::Journal, 0, next, Limit::default()).await;
        let batch = batch.unwrap_or_else(|e| panic!("going on from {next}: {e}"));
        match batch.next() {
            Some(after) => next = after,
            None => tokio::task::yield_now().await,
        }
    }
    for writer in writers {
        assert!(writer.await.is_ok());
    }
}

/// Waiting ends at once where there is a record, and as soon as one comes where there is none.
pub async fn waiting_ends_when_a_record_comes<H: Harness>(h: &mut H) {
    let log = h.log();
    fill(&*log, 0, 1).await;
    assert!(log.wait(Topic::Journal, 0, 0).await.is_ok());
    let end = log.bounds(Topic::Journal, 0).await.map_or(0, |b| b.end);
    let other = log.wait(Topic::Journal, 0, end);
    assert!(
        tokio::time::timeout(Duration::from_millis(5), other).await.is_err(),
        "nothing has come yet"
    );
    let waiter = h.log();
    let waiting = tokio::spawn(async move {
        let came = waiter.wait(Topic::Journal, 0, end).await;
        let batch = read(&*waiter, Topic::Journal, 0, end, Limit::default()).await;
        (came.is_ok(), batch.map_or(0, |b| b.entries().len()))
    });
    fill(&*log, 1, 1).await;
    fill(&*log, 0, 1).await;
    let (came, records) = waiting.await.unwrap_or_default();
    assert!(came && records >= 1);
}

/// The end is one past the last record; the start is the first.
pub async fn bounds_follow_the_records<H: Harness>(h: &mut H) {
    let log = h.log();
    let bounds = async |log: &dyn EventLog, p| {
        log.bounds(Topic::Journal, p)
            .await
            .unwrap_or(Bounds { start: -1, end: -1 })
    };
    assert_eq!(bounds(&*log, 0).await, Bounds { start: 0, end: 0 });
    let offsets = fill(&*log, 0, 5).await;
    let last = offsets.last().copied().unwrap_or(-1);
    let found = bounds(&*log, 0).await;
    assert!(found.start == 0 && found.end > last);
    assert_eq!(bounds(&*log, 1).await, Bounds { start: 0, end: 0 });
    drop(log);
    h.restart().await;
    assert_eq!(bounds(&*h.log(), 0).await, found);
}

/// A moment leads to the first record appended at or after it, though the clock may have been set back.
pub async fn a_moment_leads_to_the_first_record_since<H: Harness>(h: &mut H) {
    for seconds in [10, 20, 30, 25, 40] {
        h.clock().set(Timestamp(0) + Span::seconds(seconds));
        fill(&*h.log(), 0, 3).await;
    }
    for again in [false, true] {
        if again {
            h.restart().await;
        }
        let log = h.log();
        let all = everything(&*log, Topic::Journal, 0).await;
        let end = log.bounds(Topic::Journal, 0).await.map_or(-1, |b| b.end);
        let moments = if h.keeps_time() {
            let seconds = [0, 10, 11, 20, 24, 29, 30, 35, 40, 41];
            seconds.map(|seconds| Timestamp(0) + Span::seconds(seconds)).to_vec()
        } else {
            let around = |at: Timestamp| [at - Span::millis(1), at, at + Span::millis(1)];
            all.iter().flat_map(|entry| around(entry.appended_at)).collect()
        };
        for at in moments {
            let wanted = all.iter().find(|e| e.appended_at >= at).map_or(end, |e| e.offset);
            let found = log.offset_at(Topic::Journal, 0, at).await;
            assert_eq!(found.ok(), Some(wanted), "at {at}");
        }
    }
}

/// Reading at the end gives nothing; reading or waiting outside of what there is stops loudly.
pub async fn the_end_is_empty_and_beyond_it_is_refused<H: Harness>(h: &mut H) {
    let log = h.log();
    let limit = Limit::default();
    let empty = read(&*log, Topic::Journal, 0, 0, limit).await;
    assert!(empty.is_ok_and(|batch| batch.entries().is_empty() && batch.next().is_none()));
    fill(&*log, 0, 3).await;
    let end = log.bounds(Topic::Journal, 0).await.map_or(-1, |b| b.end);
    assert!(
        read(&*log, Topic::Journal, 0, end, limit)
            .await
            .is_ok_and(|b| b.entries().is_empty())
    );
    for outside in [-1, end + 1, Offset::MAX, Offset::MIN] {
        let refused = read(&*log, Topic::Journal, 0, outside, limit).await;
        assert!(
            matches!(refused, Err(LogError::OutOfRange { asked, .. }) if asked == outside),
            "{refused:?}"
        );
        let refused = log.wait(Topic::Journal, 0, outside).await;
        assert!(matches!(refused, Err(LogError::OutOfRange { .. })), "{refused:?}");
    }
}

/// A batch is no larger than asked for, but holds a record where there is one.
pub async fn limits_hold_but_one_record_is_always_given<H: Harness>(h: &mut H) {
    let records: Vec<_> = (0..20).map(|_| appending(0, "pp", vec![1; 98])).collect();
    append(&*h.log(), Topic::Journal, &records).await;
    for again in [false, true] {
        if again {
            h.restart().await;
        }
        for (records, bytes, most) in [
            (5, 10_000, 5),
            (100, 300, 3),
            (100, 1, 1),
            (0, 0, 1),
            (100, 10_000, 100),
        ] {
            for from in [0, 7] {
                let batch = read(&*h.log(), Topic::Journal, 0, from, Limit { records, bytes }).await;
                let found = batch.as_ref().map_or(0, |b| b.entries().len());
                assert!(
                    (1..=most).contains(&found),
                    "{found} of {records} records, {bytes} bytes"
                );
                assert_eq!(batch.map(|b| b.entries()[0].offset).ok(), Some(from));
            }
        }
    }
}

/// A record larger than the limit is refused for ever; its neighbours are not appended either.
pub async fn a_record_too_large_is_refused_and_costs_nothing<H: Harness>(h: &mut H) {
    let log = h.log();
    let records = vec![appending(0, "p", "small"), appending(0, "p", vec![0; 2_000_000])];
    for _ in 0..100 {
        match log.append(Topic::Journal, records.clone()).await {
            Err(LogError::Unavailable(_)) => {}
            refused => {
                assert!(
                    matches!(refused, Err(LogError::TooLarge { bytes, limit }) if bytes > limit),
                    "{refused:?}"
                );
                break;
            }
        }
    }
    assert!(everything(&*log, Topic::Journal, 0).await.is_empty());
    let nothing = append(&*log, Topic::Journal, &[]).await;
    assert!(nothing.is_empty());
    fill(&*log, 0, 1).await;
}

/// A partition that is not there, and an append to a derived topic, are faults of the caller.
pub async fn what_is_not_there_is_a_misuse<H: Harness>(h: &mut H) {
    let log = h.log();
    let partitions = log.layout().partitions;
    let outside = vec![appending(partitions, "p", "x")];
    for (topic, records) in [
        (Topic::Journal, outside.clone()),
        (Topic::Control, vec![appending(1, "p", "x")]),
        (Topic::Alerts, vec![appending(0, "p", "x")]),
    ] {
        let refused = log.append(topic, records).await;
        assert!(matches!(refused, Err(LogError::Misuse(_))), "{topic:?}: {refused:?}");
    }
    let refused = log.bounds(Topic::Journal, partitions).await;
    assert!(matches!(refused, Err(LogError::Misuse(_))), "{refused:?}");
    let refused = log.claim("suite", Topic::Journal, 0).await;
    assert!(matches!(refused, Err(LogError::Misuse(_))));
}

/// Partitions and incarnation are the same for ever; another home has another incarnation.
pub async fn the_layout_stays<H: Harness>(h: &mut H) {
    let before = h.log().layout();
    assert!(before.partitions >= 2);
    h.restart().await;
    assert_eq!(h.log().layout(), before);
    assert_ne!(H::fresh().await.log().layout().incarnation, before.incarnation);
}
