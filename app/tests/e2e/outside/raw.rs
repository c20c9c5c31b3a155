//! Topics of a real Kafka that others fill.

use std::time::Duration;

use app::config::{Config, Sources};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};
use rdkafka::{Offset, TopicPartitionList};

use super::{journal, verify};
use crate::e2e::house::prepare;
use crate::e2e::program::Program;

/// Where a record's MQTT topic stands, and the topic of Kafka.
const SHAPES: [&str; 4] = ["key", "struct", "header", "value"];
const PARTITIONS: i32 = 2;

/// Topics of a test's own, and who fills them.
struct Filled {
    brokers: String,
    name: String,
    admin: AdminClient<DefaultClientContext>,
    producer: ThreadedProducer<DefaultProducerContext>,
}

impl Filled {
    async fn new(brokers: &str, name: &str) -> Self {
        let name = format!("{name}-{}", std::process::id());
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", brokers).set("acks", "all");
        let filled = Self {
            brokers: brokers.to_owned(),
            name,
            admin: config.create().unwrap(),
            producer: config.create().unwrap(),
        };
        for shape in SHAPES {
            filled.make(shape).await;
        }
        filled
    }

    fn topic(&self, shape: &str) -> String {
        format!("{}-{shape}", self.name)
    }

    async fn make(&self, shape: &str) {
        let topic = self.topic(shape);
        let made = NewTopic::new(&topic, PARTITIONS, TopicReplication::Fixed(1));
        let answer = self.admin.create_topics(&[made], &AdminOptions::new()).await.unwrap();
        assert!(answer[0].is_ok(), "{answer:?}");
    }

    /// As the options name them.
    fn variables(&self) -> Vec<(&'static str, String)> {
        let name = &self.name;
        let topics = format!("{name}-key=key, {name}-struct=key, {name}-header=header:mqtt.topic, {name}-value=value");
        vec![
            ("FAJMA_RAW_TOPICS", topics),
            ("FAJMA_RAW_URL", format!("kafka://{}", self.brokers)),
            ("FAJMA_RAW_GROUP", name.clone()),
            ("FAJMA_RAW_BATCH_RECORDS", "50".to_owned()),
        ]
    }

    fn patients(&self) -> Vec<String> {
        SHAPES.iter().map(|shape| self.topic(shape)).collect()
    }

    /// Puts the `n`th value into the topic of a shape.
    fn put(&self, shape: &str, n: usize, value: &str) {
        let kafka = self.topic(shape);
        let mqtt = format!("fajma/patient/{kafka}/sensor/{shape}/data");
        let structured = format!("{{\"topic\":{mqtt:?}}}");
        let header = Header {
            key: "mqtt.topic",
            value: Some(&mqtt),
        };
        let mut record: BaseRecord<'_, str, str> =
            BaseRecord::to(&kafka).payload(value).partition(n as i32 % PARTITIONS);
        record = match shape {
            "key" => record.key(&mqtt),
            "struct" => record.key(&structured),
            "header" => record.headers(OwnedHeaders::new().insert(header)),
            _ => record,
        };
        self.producer.send(record).unwrap();
    }

    /// A reading from a device that has neither clock nor counter: nothing tells it from the next but where it came.
    fn reading(&self, shape: &str, n: usize) {
        let (value, name) = (60 + n % 40, &self.name);
        let value = match shape {
            "value" => {
                format!(r#"{{"patient_id":"{name}-value","sensor_id":"value","type":"heart_rate","value":{value}}}"#)
            }
            _ => format!(r#"{{"type":"heart_rate","value":{value}}}"#),
        };
        self.put(shape, n, &value);
    }

    fn readings(&self, from: usize, to: usize) {
        for n in from..to {
            SHAPES.iter().for_each(|shape| self.reading(shape, n));
        }
        self.producer.flush(Duration::from_secs(30)).unwrap();
    }
}

fn broker() -> Option<String> {
    let broker = std::env::var("FAJMA_TEST_KAFKA").ok();
    if broker.is_none() {
        println!("NOT RUN: raw topics of a real Kafka (make test-engines)");
    }
    broker
}

async fn total(program: &Program, patients: &[String]) -> i64 {
    program.readings(patients).await.into_iter().sum()
}

/// What is wrong with some of them, each once.
const BAD: [(&str, &str, &str); 4] = [
    ("key", "no reading", "unreadable"),
    ("struct", r#"{"type":"heart_rate","value":7000}"#, "implausible"),
    ("header", "", "unreadable"),
    ("value", r#"{"type":"heart_rate","value":70}"#, "missing_field"),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn raw_records_without_time_or_number_are_counted_once_though_the_program_is_killed() {
    let Some(broker) = broker() else { return };
    let dir = tempfile::tempdir().unwrap();
    let filled = Filled::new(&broker, "raw").await;
    let (variables, patients) = (filled.variables(), filled.patients());
    let start = || Program::start("up", dir.path(), &variables);
    filled.readings(0, 500);
    let mut program = start();
    for (kill, (from, to, at)) in [(500, 900, 1000), (900, 1300, 2600)].into_iter().enumerate() {
        program
            .until("before a kill", async |p| total(p, &patients).await, |n| *n > at)
            .await;
        filled.readings(from, to);
        for (shape, value, _) in BAD.iter().skip(kill * 2).take(2) {
            filled.put(shape, kill, value);
        }
        program.kill();
        program = start();
    }
    filled.readings(1300, 1500);
    program.counts(&patients, &[1500; 4]).await;
    let expected = {
        let mut expected: Vec<(String, String)> = BAD
            .iter()
            .map(|(_, start, code)| ((*code).to_owned(), (*start).to_owned()))
            .collect();
        expected.sort();
        expected
    };
    program
        .until(
            "what was refused",
            async |p| p.refused("raw").await,
            |all| *all == expected,
        )
        .await;
    program.stop().await;
    verify(dir.path(), &[]);
    let (all, different) = journal(dir.path()).await;
    println!("{all} readings recorded, {different} different ones");
    assert_eq!(different, 4 * 1500);

    // Told to stop, it says how far it is: whoever comes next reads nothing again.
    filled.readings(1500, 1501);
    let program = start();
    program.counts(&patients, &[1501; 4]).await;
    let stats = program.ask("/v1/stats").await;
    let door = stats["doors"]
        .as_array()
        .unwrap()
        .iter()
        .find(|door| door["door"] == "raw")
        .unwrap();
    assert_eq!(
        (&door["accepted"], &door["rejected"]),
        (&4.into(), &0.into()),
        "{stats}"
    );
    program.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn raw_records_that_are_gone_are_counted_and_a_topic_that_is_made_again_is_another() {
    let Some(broker) = broker() else { return };
    let dir = tempfile::tempdir().unwrap();
    let filled = Filled::new(&broker, "gone").await;
    let (variables, patients) = (filled.variables(), filled.patients());
    let start = || Program::start("up", dir.path(), &variables);
    filled.readings(0, 10);
    let program = start();
    program.counts(&patients, &[10; 4]).await;
    program.stop().await;

    // While nobody reads, a partition lets go of five.
    filled.readings(10, 20);
    let topic = filled.topic("key");
    let mut before = TopicPartitionList::new();
    before.add_partition_offset(&topic, 0, Offset::Offset(10)).unwrap();
    filled
        .admin
        .delete_records(&before, &AdminOptions::new())
        .await
        .unwrap();
    let program = start();
    program.counts(&patients, &[15, 20, 20, 20]).await;
    let metrics = program.ask("/metrics").await;
    let lost = format!("fajma_raw_lost_total{{topic=\"{topic}\"}} 5");
    assert!(metrics.as_str().unwrap().contains(&lost), "{metrics}");

    // While it is read, the topic goes and comes again under its name.
    filled
        .admin
        .delete_topics(&[&topic], &AdminOptions::new())
        .await
        .unwrap();
    let shown = async |program: &Program| program.ask("/readyz").await.to_string();
    program
        .until("that it is gone", shown, |text| text.contains("raw: "))
        .await;
    filled.make("key").await;
    program
        .until("that it is back", shown, |text| !text.contains("raw: "))
        .await;
    filled.readings(20, 24);
    program.counts(&patients, &[19, 24, 24, 24]).await;
    program.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_processes_share_raw_partitions_and_one_that_dies_leaves_its_own_to_the_others() {
    let Some(broker) = broker() else { return };
    let Ok(cql) = std::env::var("FAJMA_TEST_CQL") else {
        println!("NOT RUN: several processes share raw topics (make test-engines)");
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let filled = Filled::new(&broker, "shared").await;
    let name = filled.name.replace('-', "_");
    let (log, views) = (format!("kafka://{broker}/{name}"), format!("scylla://{cql}/{name}"));
    let flags = vec![("log.url", log.clone(), "test"), ("views.url", views.clone(), "test")];
    let config = Config::load(Sources {
        flags,
        ..Sources::default()
    });
    prepare(&config.unwrap()).await;
    let mut variables = filled.variables();
    variables.extend([
        ("FAJMA_LOG_URL", log),
        ("FAJMA_VIEWS_URL", views),
        ("FAJMA_LOG_PARTITIONS", "8".to_owned()),
    ]);
    let patients = filled.patients();
    let start = |role| Program::start(role, dir.path(), &variables);
    let (program, other) = (start("up"), start("ingest"));
    filled.readings(0, 400);
    let reached = async |program: &Program| total(program, &patients).await;
    program.until("before one dies", reached, |n| *n >= 300).await;
    other.kill();
    filled.readings(400, 800);
    program.until("what it left", reached, |n| *n >= 4 * 700).await;
    let other = start("ingest");
    filled.readings(800, 1200);
    program.until("before the other dies", reached, |n| *n >= 4 * 900).await;
    program.kill();
    let program = start("up");
    program.counts(&patients, &[1200; 4]).await;
    other.stop().await;
    program.stop().await;
}
