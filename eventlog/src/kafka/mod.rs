//! The log on Apache Kafka: topics as they are there, many processes at once.
//!
//! [`produce`] writes and waits for the brokers' word ([`lane`]: for its turn before that), [`tail`] keeps what has just
//! come for everyone who follows, [`history`] reads what is older, [`place`] is a processor's place by the origin rule
//! ([`crate::origin`]): outputs, then states, then the position, each durable before the next. [`progress`] tells every
//! process how far places have come. [`topics`] makes and checks topics, [`admin`] asks for that. [`access`] is how
//! brokers know us and we know them, [`contact`] what all clients have in common. [`frames`] puts a registry's ids into what
//! is stored, and ours into what is read; [`standby`] computes what others say and is silent until they are. [`raw`] reads
//! topics that others fill.
//!
//! Threads of the client library do the network; what waits for them does so in threads that may block.

mod access;
mod admin;
mod arriving;
mod carried;
mod cleaning;
mod contact;
mod frames;
mod history;
mod lane;
mod lineage;
mod mirror;
mod native;
mod options;
mod place;
mod produce;
mod progress;
mod pulse;
mod raw;
mod share;
mod standby;
mod states;
mod tail;
mod token;
mod topics;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use async_trait::async_trait;
use rdkafka::consumer::Consumer;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::topic_partition_list::TopicPartitionList;
use rdkafka::util::Timeout;
use schemas::time::Timestamp;

pub use access::{Access, Mechanism, Sasl, Tls};
pub use arriving::Arriving;
pub use options::Options;
pub use raw::{Outside, RawGroup};
pub use share::Share;
pub use standby::Standby;
pub use topics::{Drift, apply};

use crate::shelf::InMemory;
use crate::{
    Append, Batch, Bounds, EventLog, Layout, Limit, LogError, Offset, Partition, Reached, Shelves, Shelving, Standing,
    Topic, Workspace,
};
use contact::Reader;
use frames::Frames;
use history::History;
use produce::{Message, Senders};
use progress::Progress;
use pulse::Pulse;
use tail::{Tail, Tails};
use topics::Found;

/// After so long without a record the brokers are asked whether there is one.
const ASK_AFTER: Duration = Duration::from_secs(5);

/// The log.
pub struct Kafka(Arc<Inner>);

struct Inner {
    options: Options,
    layout: Layout,
    standing: Arc<RwLock<Standing>>,
    /// Journal, refused input, audit, control: what doors and people append.
    appends: Arc<Senders>,
    /// Conclusions and states of all places of this process.
    conclusions: Senders,
    tails: Tails,
    history: History,
    /// Asks the brokers: watermarks, moments.
    asking: Arc<Reader>,
    /// Where states of places are that are claimed here.
    shelves: Arc<dyn Shelves>,
    progress: Arc<Progress>,
    pulse: Pulse,
    frames: Frames,
    /// Groups in which another process has taken our name.
    fenced: Mutex<BTreeSet<String>>,
}

impl std::fmt::Debug for Kafka {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (brokers, layout) = (&self.0.options.brokers, &self.0.layout);
        f.debug_struct("Kafka")
            .field("brokers", brokers)
            .field("layout", layout)
            .finish_non_exhaustive()
    }
}

impl Kafka {
    /// Connects to topics that are there ([`apply`]).
    ///
    /// # Errors
    /// [`LogError::Unavailable`] where no broker answers or topics are missing; [`LogError::Elsewhere`] where it has not
    /// arrived whole, or is not the journal that was carried here.
    pub async fn open(options: Options) -> Result<Arc<Self>, LogError> {
        Self::open_with(options, Arc::new(InMemory)).await
    }

    /// The same, with processors' states on these shelves.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub async fn open_with(options: Options, shelves: Arc<dyn Shelves>) -> Result<Arc<Self>, LogError> {
        let found = topics::look(&options).await?;
        found.standing().check_whole()?;
        Self::connect(options, &found, shelves).await
    }

    async fn connect(options: Options, found: &Found, shelves: Arc<dyn Shelves>) -> Result<Arc<Self>, LogError> {
        let layout = found.layout(&options)?;
        let asking = Arc::new(contact::reader(&options, options.consumer())?);
        contact::keep(&asking);
        let appends = Arc::new(Senders::open(&options, options.producer())?);
        let standing = Arc::new(RwLock::new(found.standing()));
        let inner = Inner {
            progress: Progress::open(&options, layout, Arc::clone(&appends), Arc::clone(&standing)).await?,
            appends,
            pulse: Pulse::new(),
            frames: Frames::default(),
            fenced: Mutex::default(),
            conclusions: Senders::open(&options, options.conclusions())?,
            tails: Tails::start(&options)?,
            history: History::new(&options)?,
            asking,
            shelves,
            layout,
            standing,
            options,
        };
        Ok(Arc::new(Self(Arc::new(inner))))
    }

    /// Stores records under the ids that a registry of schemas gave, by our own; those that are not named, under ours.
    /// What is read is the same either way.
    pub fn frame_by(&self, ids: BTreeMap<u32, u32>) {
        self.0.frames.use_ids(ids);
    }

    /// Lets go of saved states that nobody will read again; also done from time to time by whoever holds the place.
    /// Returns how many.
    ///
    /// # Errors
    /// [`LogError::Unavailable`].
    pub async fn clean(&self, output: Topic, partition: Partition) -> Result<usize, LogError> {
        self.0.layout.check(output, partition)?;
        cleaning::clean(&self.0, output, partition).await
    }
}

impl Inner {
    fn check_serving(&self) -> Result<(), LogError> {
        let standing = self.standing.read().unwrap_or_else(PoisonError::into_inner);
        standing.check_serving()
    }

    fn check_size(&self, key: &[u8], value: &[u8]) -> Result<(), LogError> {
        let (bytes, limit) = (key.len() + value.len(), self.options.max_record_bytes);
        if bytes > limit {
            Err(LogError::TooLarge { bytes, limit })
        } else {
            Ok(())
        }
    }

    /// What can be read, as the partition's leader says.
    async fn watermarks(&self, topic: Topic, partition: Partition) -> Result<Bounds, LogError> {
        let (name, timeout) = (self.options.topic(topic), self.options.failover);
        let (start, end) = self
            .ask(move |asking| watermarks(asking, &name, partition, timeout))
            .await?;
        Ok(Bounds { start, end })
    }

    /// Asks the brokers, where nobody else is kept waiting.
    async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Reader) -> Result<T, KafkaError> + Send + 'static,
    ) -> Result<T, LogError> {
        let asking = Arc::clone(&self.asking);
        blocking(move || question(&asking).map_err(|e| failed(&e))).await
    }

    /// A shelf for a place's states.
    async fn shelf(&self) -> Result<Arc<dyn Shelving>, LogError> {
        let shelves = Arc::clone(&self.shelves);
        blocking(move || shelves.shelf()).await
    }

    /// The tail of a partition, which is followed from the first question on.
    async fn tail(&self, topic: Topic, partition: Partition) -> Result<Arc<Tail>, LogError> {
        self.layout.check(topic, partition)?;
        if let Some(tail) = self.tails.get(topic, partition) {
            return Ok(tail);
        }
        let bounds = self.watermarks(topic, partition).await?;
        Ok(self.tails.follow(topic, partition, bounds))
    }

    /// The tail, where `asked` is a place of the partition; else what there is.
    async fn tail_with(&self, topic: Topic, partition: Partition, asked: Offset) -> Result<Arc<Tail>, LogError> {
        let tail = self.tail(topic, partition).await?;
        if !tail.may_hold(asked) {
            let bounds = self.watermarks(topic, partition).await?;
            tail.know(bounds);
            if !(bounds.start..=bounds.end).contains(&asked) {
                return Err(LogError::OutOfRange {
                    topic,
                    partition,
                    asked,
                    bounds,
                });
            }
        }
        Ok(tail)
    }
}

#[async_trait]
impl EventLog for Kafka {
    fn layout(&self) -> Layout {
        self.0.layout
    }

    async fn append(&self, topic: Topic, records: Vec<Append>) -> Result<Vec<Offset>, LogError> {
        let inner = &self.0;
        topic.check_append()?;
        inner.check_serving()?;
        for record in &records {
            inner.layout.check(topic, record.partition)?;
            inner.check_size(&record.key, &record.value)?;
        }
        let name = inner.options.topic(topic);
        let ids = inner.frames.ids();
        let framed: Vec<_> = records
            .iter()
            .map(|record| frames::outward(&ids, &record.value))
            .collect();
        let messages = records.iter().zip(&framed).map(|(record, framed)| Message {
            topic: &name,
            partition: record.partition,
            key: &record.key,
            value: Some(framed.as_ref().map_or(&record.value, |framed| &framed.value)),
            origin: None,
            appended_at: None,
            schema: framed.as_ref().map(|framed| &framed.schema[..]),
        });
        let offsets = inner.appends.now()?.send(messages).await?;
        let partitions: BTreeSet<Partition> = records.iter().map(|record| record.partition).collect();
        for partition in partitions {
            if let Some(tail) = inner.tails.get(topic, partition) {
                let of_it = records
                    .iter()
                    .zip(&offsets)
                    .filter(|(record, _)| record.partition == partition);
                tail.appended(of_it.map(|(_, offset)| offset + 1).max().unwrap_or(0));
            }
        }
        Ok(offsets)
    }

    async fn read(
        &self,
        topic: Topic,
        partition: Partition,
        from: Offset,
        limit: Limit,
    ) -> Result<Arc<Batch>, LogError> {
        let tail = self.0.tail_with(topic, partition, from).await?;
        match tail.read(from, limit, self.0.options.failover).await? {
            Some(batch) => Ok(batch),
            None => self.0.history.read(topic, partition, from, limit).await,
        }
    }

    async fn wait(&self, topic: Topic, partition: Partition, from: Offset) -> Result<(), LogError> {
        loop {
            let tail = self.0.tail_with(topic, partition, from).await?;
            // The brokers are asked now and then: where they have more than comes, the next read says so.
            match tokio::time::timeout(ASK_AFTER, tail.wait(from)).await {
                Ok(came) => return came,
                Err(_) => tail.know(self.0.watermarks(topic, partition).await?),
            }
            if tail.end_known() > from {
                return Ok(());
            }
        }
    }

    async fn bounds(&self, topic: Topic, partition: Partition) -> Result<Bounds, LogError> {
        self.0.layout.check(topic, partition)?;
        self.0.watermarks(topic, partition).await
    }

    async fn offset_at(&self, topic: Topic, partition: Partition, at: Timestamp) -> Result<Offset, LogError> {
        self.0.layout.check(topic, partition)?;
        let (name, timeout) = (self.0.options.topic(topic), self.0.options.failover);
        // Kafka counts milliseconds.
        let millis = at.0.div_euclid(1000) + i64::from(at.0.rem_euclid(1000) > 0);
        let found = self
            .0
            .ask(move |asking| {
                let mut asked = TopicPartitionList::new();
                let offset = rdkafka::Offset::Offset(millis.max(0));
                asked.add_partition_offset(&name, i32::from(partition), offset)?;
                let found = patiently(timeout, |left| asking.offsets_for_times(asked.clone(), left))?;
                Ok(found
                    .elements()
                    .first()
                    .map(rdkafka::topic_partition_list::TopicPartitionListElem::offset))
            })
            .await?;
        match found {
            Some(rdkafka::Offset::Offset(offset)) => Ok(offset),
            _ => Ok(self.bounds(topic, partition).await?.end),
        }
    }

    async fn claim(
        &self,
        processor: &str,
        output: Topic,
        partition: Partition,
    ) -> Result<Box<dyn Workspace>, LogError> {
        self.0.layout.check(output, partition)?;
        output.check_claim(processor)?;
        self.0.check_serving()?;
        let place = place::claim(&self.0, processor, output, partition).await?;
        Ok(Box::new(place))
    }

    async fn reached(&self, output: Topic, partition: Partition) -> Result<Reached, LogError> {
        self.0.layout.check(output, partition)?;
        Ok(self.0.progress.of((output, partition)))
    }
}

/// What can be read of a partition, as its leader says.
fn watermarks(
    client: &Reader,
    topic: &str,
    partition: Partition,
    timeout: Duration,
) -> Result<(Offset, Offset), KafkaError> {
    patiently(timeout, |left| {
        client.fetch_watermarks(topic, i32::from(partition), left)
    })
}

/// Asks again, all in all for so long, while a partition changes its leader, or has just been made and has none yet, while
/// the broker that was asked goes away, and while a token is renewed.
fn patiently<T>(timeout: Duration, question: impl Fn(Duration) -> Result<T, KafkaError>) -> Result<T, KafkaError> {
    let until = tokio::time::Instant::now() + timeout;
    loop {
        let left = until.saturating_duration_since(tokio::time::Instant::now());
        match question(left) {
            Err(error) if !left.is_zero() && is_answered_soon(&error) => std::thread::sleep(Duration::from_millis(50)),
            done => return done,
        }
    }
}

/// Whether the same question may soon have an answer.
fn is_answered_soon(error: &KafkaError) -> bool {
    use RDKafkaErrorCode as Code;
    let code = match error {
        KafkaError::AdminOp(code) => Some(*code),
        other => other.rdkafka_error_code(),
    };
    matches!(
        code,
        Some(
            Code::NotLeaderForPartition
                | Code::LeaderNotAvailable
                | Code::UnknownTopicOrPartition
                // A new leader does not know yet how far its copies are.
                | Code::OffsetNotAvailable
                // These a client says by itself: of what no broker has told it yet, of a broker that is gone.
                | Code::UnknownPartition
                | Code::OperationTimedOut
                | Code::TimedOutQueue
                | Code::BrokerTransportFailure
                | Code::DestroyBroker
                | Code::Authentication
        )
    )
}

/// Runs what waits for brokers where it keeps nobody else waiting.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, LogError> + Send + 'static,
) -> Result<T, LogError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(LogError::Unavailable(error.to_string())))
}

/// An error of the client library, by what the caller can do.
fn failed(error: &KafkaError) -> LogError {
    match error.rdkafka_error_code() {
        Some(RDKafkaErrorCode::MessageSizeTooLarge) => LogError::TooLarge { bytes: 0, limit: 0 },
        _ => LogError::Unavailable(format!("Kafka: {error}")),
    }
}

/// Whether it says only that a broker is not reached, or at the moment none: the client goes on trying, by the others once
/// they have agreed on who leads, and whoever asks waits for that as long as for any answer.
fn is_not_reached(error: &KafkaError) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(
        error.rdkafka_error_code(),
        Some(Code::BrokerTransportFailure | Code::Resolve | Code::AllBrokersDown)
    )
}

fn timeout(of: std::time::Duration) -> Timeout {
    Timeout::After(of)
}
