//! Records stored under the ids of a registry: the suite, and what stock tools see.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use eventlog::conformance::{Harness, conclusion, everything};
use eventlog::kafka::{Kafka, Options};
use eventlog::{EventLog, ManualClock, Topic, Work};
use rdkafka::Message;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use schemas::codec::{self, KINDS};

use super::kafka::{fresh, options};

/// Each kind's id is another kind's at the registry: the numbers of both are the same.
fn crossed() -> BTreeMap<u32, u32> {
    let ids = KINDS.iter().map(|kind| kind.id);
    ids.clone().zip(ids.clone().skip(1).chain(ids.take(1))).collect()
}

/// Every other start with a registry.
struct Registered {
    options: Options,
    log: Option<Arc<Kafka>>,
    clock: ManualClock,
    starts: usize,
}

#[async_trait]
impl Harness for Registered {
    async fn fresh() -> Self {
        let options = options();
        let log = fresh(&options).await;
        log.frame_by(crossed());
        Self {
            options,
            log: Some(log),
            clock: ManualClock::default(),
            starts: 1,
        }
    }

    fn log(&self) -> Arc<dyn EventLog> {
        let log: &Arc<Kafka> = self.log.as_ref().expect("open");
        Arc::<Kafka>::clone(log)
    }

    async fn restart(&mut self) {
        self.log = None;
        let log = Kafka::open(self.options.clone()).await.expect("the log opens");
        self.starts += 1;
        if self.starts % 2 == 1 {
            log.frame_by(crossed());
        }
        self.log = Some(log);
    }

    fn clock(&self) -> &ManualClock {
        &self.clock
    }

    fn keeps_time(&self) -> bool {
        false
    }
}

eventlog::conformance_suite!(with_a_registry, Registered);

/// The schema ids that a stock tool finds in a partition.
fn stock(options: &Options, topic: Topic) -> Vec<u32> {
    let consumer: BaseConsumer = rdkafka::ClientConfig::new()
        .set("bootstrap.servers", &options.brokers)
        .set("group.id", "stock")
        .set("enable.partition.eof", "true")
        .create()
        .expect("a client");
    let mut there = rdkafka::TopicPartitionList::new();
    there
        .add_partition_offset(&options.topic(topic), 0, rdkafka::Offset::Beginning)
        .expect("a place");
    consumer.assign(&there).expect("assigned");
    let mut ids = Vec::new();
    loop {
        match consumer.poll(Duration::from_secs(10)) {
            Some(Ok(message)) => {
                let value = message.payload().expect("a value");
                ids.push(codec::unframe(value).expect("framed").0);
            }
            Some(Err(KafkaError::PartitionEOF(_))) => return ids,
            other => panic!("{:?}", other.map(|got| got.map(|_| ()))),
        }
    }
}

#[tokio::test]
async fn stock_tools_find_the_registrys_ids_and_we_the_same_bytes_whatever_came_and_went() {
    let options = options();
    let log = fresh(&options).await;
    let incarnation = log.layout().incarnation;
    let records = (0..9)
        .map(|n| eventlog::conformance::appending(0, "p", format!("{n}")))
        .collect();
    log.append(Topic::Journal, records).await.expect("appended");
    let said = |offset| conclusion(incarnation, offset, "p", 0, "s");
    let ours = codec::unframe(&said(0).value).expect("framed").0;
    let theirs = crossed()[&ours];
    let mut place = log.claim("suite@1", Topic::Devices, 0).await.expect("claimed");
    for (offset, ids) in [
        (0, BTreeMap::new()),
        (1, crossed()),
        (2, BTreeMap::new()),
        (3, crossed()),
    ] {
        log.frame_by(ids);
        let work = Work {
            outputs: vec![said(offset)],
            reached: offset + 1,
            ..Work::default()
        };
        place.commit(work).await.expect("committed");
    }
    assert_eq!(stock(&options, Topic::Devices), [ours, theirs, ours, theirs]);
    // Another process, which was never told of a registry.
    let other = Kafka::open(options).await.expect("another process");
    for log in [log, other] {
        let read = everything(&*log, Topic::Devices, 0).await;
        let values: Vec<_> = read.iter().map(|entry| entry.value.to_vec()).collect();
        let written: Vec<_> = (0..4).map(|offset| said(offset).value.to_vec()).collect();
        assert_eq!(values, written);
    }
}
