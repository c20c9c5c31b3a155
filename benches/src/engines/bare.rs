//! What the client library alone copies from one topic to another, record by record, with the settings of the log's own
//! clients: what processing is compared with.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use eventlog::kafka::Options;
use rdkafka::ClientContext;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::{Client, DefaultClientContext};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, DeliveryResult, Header, Message, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer, ProducerContext, ThreadedProducer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use tokio::runtime::Runtime;
use tokio::time::Instant;

use crate::{Result, process};

/// How long brokers may take to answer.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long to wait before what did not fit into the client's queue is tried again.
const FULL: Duration = Duration::from_millis(1);

/// What was copied.
#[derive(Debug, Clone, Copy)]
pub struct Copied {
    /// Records.
    pub records: u64,
    /// From the first question to the last acknowledgement.
    pub took: Duration,
    /// CPU seconds of this process.
    pub cpu: f64,
}

impl Copied {
    /// Records per second.
    #[must_use]
    pub fn rate(&self) -> f64 {
        self.records as f64 / self.took.as_secs_f64()
    }
}

/// Whether a copy bears more than key and value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bearing {
    /// Nothing.
    Nothing,
    /// When the first log took it, as a log that is carried elsewhere says it: without it ticks are not believed.
    Moment,
}

/// Counts what was not delivered.
#[derive(Clone, Default)]
struct Lost(Arc<AtomicU64>);

impl ClientContext for Lost {}

impl ProducerContext for Lost {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if result.is_err() {
            self.0.fetch_add(1, Relaxed);
        }
    }
}

/// Copies what a topic holds now to another of as many partitions.
///
/// # Errors
/// What the client says.
pub fn copy(options: &Options, from: &str, to: &str, bearing: Bearing) -> Result<Copied> {
    let (began, cpu) = (Instant::now(), process::cpu_seconds(std::process::id())?);
    let consumer: BaseConsumer = options.consumer().create()?;
    let lost = Lost::default();
    let producer: ThreadedProducer<Lost> = options.producer().create_with_context(lost.clone())?;
    let mut all = TopicPartitionList::new();
    let mut ends: Vec<i64> = Vec::new();
    for partition in 0..partitions(consumer.client(), from)? {
        ends.push(consumer.fetch_watermarks(from, partition, PATIENCE)?.1);
        all.add_partition_offset(from, partition, Offset::Beginning)?;
    }
    consumer.assign(&all)?;
    let records = u64::try_from(ends.iter().sum::<i64>())?;
    let mut copied = 0;
    while copied < records {
        match consumer.poll(PATIENCE) {
            Some(Ok(message)) => {
                if message.offset() < ends[usize::try_from(message.partition())?] {
                    send(&producer, to, &message, bearing)?;
                    copied += 1;
                }
            }
            Some(Err(KafkaError::PartitionEOF(_))) => {}
            Some(Err(error)) => return Err(error.into()),
            None => return Err(format!("{from} is not delivered: {copied} of {records}").into()),
        }
    }
    producer.flush(PATIENCE)?;
    let took = began.elapsed();
    match lost.0.load(Relaxed) {
        0 => Ok(Copied {
            records,
            took,
            cpu: process::cpu_seconds(std::process::id())? - cpu,
        }),
        lost => Err(format!("{lost} records were not delivered to {to}").into()),
    }
}

fn partitions<C: ClientContext>(client: &Client<C>, topic: &str) -> Result<i32> {
    let metadata = client.fetch_metadata(Some(topic), PATIENCE)?;
    let found = metadata.topics().first().map_or(0, |topic| topic.partitions().len());
    Ok(i32::try_from(found)?)
}

fn send(producer: &ThreadedProducer<Lost>, to: &str, message: &BorrowedMessage<'_>, bearing: Bearing) -> Result<()> {
    let mut record = BaseRecord::to(to)
        .partition(message.partition())
        .key(message.key().unwrap_or_default())
        .payload(message.payload().unwrap_or_default());
    if bearing == Bearing::Moment {
        let moment = (message.timestamp().to_millis().unwrap_or(0) * 1000).to_string();
        record = record.headers(OwnedHeaders::new().insert(Header {
            key: "appended_at",
            value: Some(&moment),
        }));
    }
    loop {
        match producer.send(record) {
            Ok(()) => return Ok(()),
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), again)) => {
                record = again;
                std::thread::sleep(FULL);
            }
            Err((error, _)) => return Err(error.into()),
        }
    }
}

fn admin(options: &Options) -> Result<(Runtime, AdminClient<DefaultClientContext>, AdminOptions)> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut config = options.consumer();
    config.remove("enable.partition.eof");
    let asking = AdminOptions::new().operation_timeout(Some(PATIENCE));
    Ok((runtime, config.create()?, asking))
}

/// Makes a plain topic of as many partitions as another.
///
/// # Errors
/// What the brokers say.
pub fn make(options: &Options, name: &str, like: &str) -> Result<()> {
    let (runtime, admin, asking) = admin(options)?;
    let partitions = partitions(admin.inner(), like)?;
    let topic = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
    let made = runtime.block_on(admin.create_topics([&topic], &asking))?;
    let wrong = made.into_iter().find_map(std::result::Result::err);
    wrong.map_or(Ok(()), |(name, code)| Err(format!("{name}: {code}").into()))
}

/// Deletes all topics whose names begin so.
///
/// # Errors
/// What the brokers say.
pub fn delete(options: &Options, beginning: &str) -> Result<()> {
    let (runtime, admin, asking) = admin(options)?;
    let metadata = admin.inner().fetch_metadata(None, PATIENCE)?;
    let names = metadata.topics().iter().map(rdkafka::metadata::MetadataTopic::name);
    let names: Vec<&str> = names.filter(|name| name.starts_with(beginning)).collect();
    if !names.is_empty() {
        runtime.block_on(admin.delete_topics(&names, &asking))?;
    }
    Ok(())
}
