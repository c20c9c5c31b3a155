//! What the suite needs of a home, and what its tests have in common.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use schemas::codec::{self, Catalogue};
use schemas::derived::{Derived, Incarnation, Origin, Outcome};
use schemas::facts::{DeviceChanged, Liveness};
use schemas::ids::{Key, PatientId, SensorId};
use schemas::time::Timestamp;

use crate::origin::Reader;
use crate::{Append, Entry, EventLog, Limit, LogError, ManualClock, Offset, Output, Partition, Topic, Work, Workspace};

/// A home to be tried.
#[async_trait]
pub trait Harness: Send + Sized {
    /// An empty home with at least two partitions that takes records of at least 1000 and at most 1,000,000 bytes.
    async fn fresh() -> Self;

    /// A handle to it. The suite lets go of all handles before a restart.
    fn log(&self) -> Arc<dyn EventLog>;

    /// Ends the process that has it open, as a crash would, and opens it again.
    async fn restart(&mut self);

    /// The clock it goes by.
    fn clock(&self) -> &ManualClock;

    /// Whether records bear the time of [`clock`](Self::clock); else that of a clock of the log's own, in milliseconds.
    fn keeps_time(&self) -> bool {
        true
    }

    /// Whether an append that was acknowledged stands in the log exactly once.
    fn appends_once(&self) -> bool {
        true
    }
}

/// A journal record.
#[must_use]
pub fn appending(partition: Partition, key: &str, value: impl Into<Bytes>) -> Append {
    Append {
        partition,
        key: Bytes::copy_from_slice(key.as_bytes()),
        value: value.into(),
    }
}

/// Appends as a door does: tries again while the log is not available.
pub(super) async fn append(log: &dyn EventLog, topic: Topic, records: &[Append]) -> Vec<Offset> {
    for _ in 0..100 {
        match log.append(topic, records.to_vec()).await {
            Ok(offsets) => return offsets,
            Err(LogError::Unavailable(_)) => {}
            Err(error) => panic!("appending: {error}"),
        }
    }
    panic!("the log was not available for a hundred attempts");
}

/// Appends `n` small journal records.
pub(super) async fn fill(log: &dyn EventLog, partition: Partition, n: usize) -> Vec<Offset> {
    let records: Vec<_> = (0..n)
        .map(|i| appending(partition, "p", format!("record {i}")))
        .collect();
    append(log, Topic::Journal, &records).await
}

/// Reads, trying again while the log is not available.
pub(super) async fn read(
    log: &dyn EventLog,
    topic: Topic,
    partition: Partition,
    from: Offset,
    limit: Limit,
) -> Result<Arc<crate::Batch>, LogError> {
    for _ in 0..100 {
        match log.read(topic, partition, from, limit).await {
            Err(LogError::Unavailable(_)) => {}
            done => return done,
        }
    }
    panic!("the log was not available for a hundred attempts");
}

/// Every record of a partition, as a reader finds it who follows [`crate::Batch::next`].
pub async fn everything(log: &dyn EventLog, topic: Topic, partition: Partition) -> Vec<Entry> {
    let bounds = log
        .bounds(topic, partition)
        .await
        .unwrap_or_else(|e| panic!("bounds: {e}"));
    let (mut from, mut all) = (bounds.start, Vec::new());
    let limit = Limit {
        records: 7,
        ..Limit::default()
    };
    while from < bounds.end {
        let batch = read(log, topic, partition, from, limit)
            .await
            .unwrap_or_else(|e| panic!("reading: {e}"));
        let Some(next) = batch.next() else { break };
        assert!(next > from, "reading does not move on");
        all.extend_from_slice(batch.entries());
        from = next;
    }
    assert!(all.is_sorted_by(|a, b| a.offset < b.offset), "offsets grow");
    all
}

/// A conclusion that decodes: sensor `text` is heard since `origin.offset`.
#[must_use]
pub fn conclusion(incarnation: Incarnation, offset: Offset, key: &str, n: i32, text: &str) -> Output {
    let origin = Origin {
        incarnation,
        offset,
        key: key.into(),
        n,
    };
    let (Ok(patient), Ok(sensor)) = (PatientId::new("p1"), SensorId::new(text)) else {
        panic!("{text} is no id");
    };
    let derived = Derived {
        id: Derived::id_of("suite", 1, &origin),
        key: Key::Patient(patient),
        origin: origin.clone(),
        recorded_at: Timestamp(offset),
        outcome: Outcome::Device(DeviceChanged {
            sensor_id: sensor,
            liveness: Liveness::Online,
            since: Timestamp(offset),
            state: None,
            battery: None,
            firmware: None,
            rssi: None,
            lat: None,
            lng: None,
            last_heard: Timestamp(offset),
            expected_every: None,
        }),
    };
    let mut value = Vec::new();
    codec::encode_derived(&derived, &mut value);
    Output {
        origin,
        key: Bytes::from_static(b"p1"),
        value: value.into(),
    }
}

/// What a strict reader sees: offset, state key, n, and the sensor's name.
pub type Seen = (Offset, String, i32, String);

/// What a strict reader sees of a derived topic's partition.
pub async fn seen(log: &dyn EventLog, topic: Topic, partition: Partition) -> Vec<Seen> {
    let mut reader = Reader::new(log.layout().incarnation, None);
    let mut seen = Vec::new();
    for entry in everything(log, topic, partition).await {
        let decoded = codec::decode_derived(&entry.value, &Catalogue::builtin());
        let Ok(Some(derived)) = decoded else {
            panic!("a conclusion does not decode: {decoded:?}");
        };
        let Outcome::Device(device) = &derived.outcome else {
            panic!("not what the suite wrote");
        };
        if reader.accept(&derived.origin).unwrap_or_else(|e| panic!("{e}")) {
            let origin = &derived.origin;
            seen.push((
                origin.offset,
                origin.key.to_string(),
                origin.n,
                device.sensor_id.to_string(),
            ));
        }
    }
    seen
}

/// Takes a place, trying again while the log is not available.
pub(super) async fn claim(
    log: &dyn EventLog,
    processor: &str,
    output: Topic,
    partition: Partition,
) -> Box<dyn Workspace> {
    for _ in 0..100 {
        match log.claim(processor, output, partition).await {
            Ok(place) => return place,
            Err(LogError::Unavailable(_)) => {}
            Err(error) => panic!("claiming: {error}"),
        }
    }
    panic!("the log was not available for a hundred attempts");
}

/// Commits `work`, taking the place anew while the log is not available, as a runner does.
pub(super) async fn commit(
    log: &dyn EventLog,
    place: &mut Box<dyn Workspace>,
    (processor, output, partition): (&str, Topic, Partition),
    work: impl Fn() -> Work,
) {
    for _ in 0..100 {
        match place.commit(work()).await {
            Ok(()) => return,
            Err(LogError::Unavailable(_)) => *place = claim(log, processor, output, partition).await,
            Err(error) => panic!("committing: {error}"),
        }
    }
    panic!("the log was not available for a hundred attempts");
}
