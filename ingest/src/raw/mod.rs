//! Topics of Kafka that others fill: Confluent's REST Proxy, Kafka Connect with an MQTT source, a program of the house.
//!
//! A record is judged as if it had come through a door of ours, and its place (topic, partition, offset) is its origin:
//! where the device gave neither time nor sequence, what it says has its id from there and its moment from the topic.
//! So a record that is read again after a crash says the same facts, which processors know, and the same refusals, which
//! the list shows once. A lane goes on only when everything before is durable, and stands still while the log does.

mod shape;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use eventlog::raw::{Lane, RawRecord};
use eventlog::{Limit, LogError};
use schemas::facts::Door;
use schemas::ids::EventId;
use smol_str::SmolStr;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

pub use shape::TopicFrom;

use crate::accept::Origin;
use crate::intake::Intake;
use crate::metrics;
use crate::parcel::{self, Parcel};

/// Which header says how a value is written, as elsewhere the content type does.
const CONTENT_TYPE: &str = "content-type";
/// The pause after the log did not take something; it doubles up to the second.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// What is read, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sources {
    /// Each topic, and where its records' MQTT topic stands.
    pub topics: BTreeMap<SmolStr, TopicFrom>,
    /// What stands before the names of our MQTT topics there, like `ward7/`; empty for nothing.
    pub prefix: String,
    /// Records of a partition that go to the log at once.
    pub batch: Limit,
}

/// The door for records that others put into topics.
#[derive(Debug)]
pub struct RawDoor {
    intake: Arc<Intake>,
    sources: Sources,
    following: JoinSet<Result<(), LogError>>,
    stop: CancellationToken,
}

impl RawDoor {
    /// A door that gives what it reads to `intake` until `stop`.
    #[must_use]
    pub fn new(intake: Arc<Intake>, sources: Sources, stop: CancellationToken) -> Self {
        metrics::describe_raw();
        Self {
            intake,
            sources,
            following: JoinSet::new(),
            stop,
        }
    }

    /// Reads one more partition, for as long as it is ours.
    pub fn follow(&mut self, lane: Lane) {
        metrics::lost(&lane.topic, lane.lost);
        let (intake, sources, stop) = (Arc::clone(&self.intake), self.sources.clone(), self.stop.clone());
        self.following.spawn(async move {
            let reading = Reading { intake, sources, stop };
            reading.run(&lane).await
        });
    }

    /// Waits until the reading of a partition fails.
    ///
    /// # Errors
    /// Why: that partition stands still until it is read anew.
    pub async fn failed(&mut self) -> LogError {
        while let Some(ended) = self.following.join_next().await {
            match ended {
                Ok(Ok(())) => {}
                Ok(Err(error)) => return error,
                Err(died) => return LogError::Unavailable(died.to_string()),
            }
        }
        std::future::pending().await
    }

    /// Waits until what was taken is durable, once the door was told to stop.
    pub async fn ended(&mut self) {
        while self.following.join_next().await.is_some() {}
    }
}

struct Reading {
    intake: Arc<Intake>,
    sources: Sources,
    stop: CancellationToken,
}

impl Reading {
    async fn run(&self, lane: &Lane) -> Result<(), LogError> {
        loop {
            let next = self.stop.run_until_cancelled(lane.next(self.sources.batch));
            let Some(Some(records)) = next.await else { return Ok(()) };
            let parcels: Vec<Parcel> = records.iter().map(|record| self.parcel(lane, record)).collect();
            if !self.keep(lane, &parcels).await? {
                return Ok(());
            }
            if let Some(last) = records.last() {
                lane.done(last.offset + 1);
            }
        }
    }

    fn parcel(&self, lane: &Lane, record: &RawRecord) -> Parcel {
        let from = self.sources.topics.get(&lane.topic).unwrap_or(&TopicFrom::Value);
        let label = record.header(CONTENT_TYPE);
        Parcel {
            bytes: record.value.clone().unwrap_or_default(),
            place: from.place(record, &self.sources.prefix),
            content_type: label.and_then(|label| String::from_utf8(label.to_vec()).ok()),
            origin: Some(Origin {
                id: origin(lane, record),
                at: record.at,
            }),
        }
    }

    /// Makes records durable, however long the log is away; `false` where we are told to stop before.
    async fn keep(&self, lane: &Lane, parcels: &[Parcel]) -> Result<bool, LogError> {
        let mut pause = PAUSES.0;
        loop {
            match parcel::keep(&self.intake, Door::Raw, parcels).await {
                Ok(()) => return Ok(true),
                Err(error @ (LogError::Unavailable(_) | LogError::Full(_))) => {
                    metrics::raw_waited();
                    tracing::warn!(%error, topic = %lane.topic, partition = lane.partition, "raw records wait for the log");
                }
                Err(other) => return Err(other),
            }
            if self.stop.run_until_cancelled(sleep(pause)).await.is_none() {
                return Ok(false);
            }
            pause = (pause * 2).min(PAUSES.1);
        }
    }
}

/// The origin of a record: of this life of its topic, this partition, this offset.
fn origin(lane: &Lane, record: &RawRecord) -> EventId {
    EventId::of(
        "fajma.origin.raw",
        &[
            &lane.incarnation.0,
            &lane.partition.to_be_bytes(),
            &record.offset.to_be_bytes(),
        ],
    )
}
