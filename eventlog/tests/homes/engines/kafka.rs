//! The suite on a real broker, and what only it can be asked. Needs one: `FAJMA_TEST_KAFKA=host:port`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use eventlog::conformance::{Harness, appending, conclusion, everything};
use eventlog::embedded::LocalShelves;
use eventlog::kafka::{Kafka, Options, apply};
use eventlog::{Checkpoint, EventLog, Limit, LogError, ManualClock, Stored, Topic, Work};
use tempfile::TempDir;

/// Logs of this process, each with topics of its own.
static MADE: AtomicU32 = AtomicU32::new(0);

pub(crate) fn options() -> Options {
    let brokers = std::env::var("FAJMA_TEST_KAFKA").expect("FAJMA_TEST_KAFKA=host:port of a broker");
    let n = MADE.fetch_add(1, Ordering::Relaxed);
    Options {
        brokers,
        prefix: format!("test-{}-{n}", std::process::id()),
        partitions: 2,
        ..Options::default()
    }
}

pub(super) async fn fresh(options: &Options) -> Arc<Kafka> {
    let drift = apply(options).await.expect("topics are made");
    assert_eq!(drift, [], "as they were made");
    Kafka::open(options.clone()).await.expect("the log opens")
}

/// A process that keeps states on its disk, with so little memory for them that they go there.
pub(super) async fn with_states(options: &Options, dir: &TempDir) -> Arc<Kafka> {
    let states = LocalShelves::new(dir.path(), 1 << 20, 64 << 10);
    let opened = Kafka::open_with(options.clone(), Arc::new(states)).await;
    opened.expect("the log opens")
}

pub(super) struct OnKafka {
    options: Options,
    states: TempDir,
    log: Option<Arc<Kafka>>,
    clock: ManualClock,
}

impl OnKafka {
    pub(super) async fn with(options: Options) -> Self {
        let states = tempfile::tempdir().expect("a directory");
        assert_eq!(apply(&options).await.expect("topics are made"), [], "as they were made");
        Self {
            log: Some(with_states(&options, &states).await),
            options,
            states,
            clock: ManualClock::default(),
        }
    }
}

#[async_trait]
impl Harness for OnKafka {
    async fn fresh() -> Self {
        Self::with(options()).await
    }

    fn log(&self) -> Arc<dyn EventLog> {
        let log: &Arc<Kafka> = self.log.as_ref().expect("open");
        Arc::<Kafka>::clone(log)
    }

    async fn restart(&mut self) {
        self.log = None;
        self.log = Some(with_states(&self.options, &self.states).await);
    }

    fn clock(&self) -> &ManualClock {
        &self.clock
    }

    fn keeps_time(&self) -> bool {
        false
    }
}

eventlog::conformance_suite!(on_kafka, OnKafka);

/// Nothing stays in memory: everything is fetched.
struct WithoutMemory(OnKafka);

#[async_trait]
impl Harness for WithoutMemory {
    async fn fresh() -> Self {
        let options = Options {
            tail_bytes: 0,
            history_bytes: 0,
            ..options()
        };
        Self(OnKafka::with(options).await)
    }

    fn log(&self) -> Arc<dyn EventLog> {
        self.0.log()
    }

    async fn restart(&mut self) {
        self.0.restart().await;
    }

    fn clock(&self) -> &ManualClock {
        &self.0.clock
    }

    fn keeps_time(&self) -> bool {
        false
    }
}

eventlog::conformance_suite!(on_kafka_without_memory, WithoutMemory);

#[tokio::test]
async fn missing_topics_are_told_with_what_to_do() {
    let refused = Kafka::open(options()).await.expect_err("there are no topics");
    assert!(refused.to_string().contains("fajma topics apply"), "{refused}");
}

#[tokio::test]
async fn what_drifted_is_told_and_nothing_is_altered() {
    use rdkafka::admin::{AdminClient, AdminOptions, AlterConfig, ResourceSpecifier};
    let options = options();
    fresh(&options).await;
    let admin: AdminClient<_> = rdkafka::ClientConfig::new()
        .set("bootstrap.servers", &options.brokers)
        .create()
        .expect("a client");
    let journal = options.topic(Topic::Journal);
    let week = AlterConfig {
        specifier: ResourceSpecifier::Topic(&journal),
        entries: [("retention.ms", "604800000")].into(),
    };
    admin
        .alter_configs(&[week], &AdminOptions::new())
        .await
        .expect("altered");
    for _ in 0..2 {
        let drift = apply(&options).await.expect("compared");
        assert!(
            drift
                .iter()
                .any(|d| d.to_string() == format!("{journal}: retention.ms is 604800000, not -1")),
            "{drift:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backlog_larger_than_memory_is_read_whole_by_many_at_once() {
    let options = Options {
        history_bytes: 2 << 20,
        tail_bytes: 1 << 20,
        ..options()
    };
    let log = fresh(&options).await;
    for part in 0..40 {
        let records = (0..500)
            .map(|n| appending(part % 2, "p", vec![b'x'; 400 + n % 7]))
            .collect();
        log.append(Topic::Journal, records).await.expect("appended");
    }
    let log = Kafka::open(options).await.expect("another process");
    let readers: Vec<_> = (0..12)
        .map(|n: u16| {
            let log = Arc::clone(&log);
            tokio::spawn(async move { everything(&*log, Topic::Journal, n % 2).await.len() })
        })
        .collect();
    for reader in readers {
        assert_eq!(reader.await.expect("read"), 10_000);
    }
}

#[tokio::test]
async fn what_came_after_the_end_was_read_is_there_though_that_end_is_told_late() {
    let options = options();
    let log = fresh(&options).await;
    let incarnation = log.layout().incarnation;
    let said = |offset| Work {
        outputs: vec![conclusion(incarnation, offset, "p", 0, "s")],
        reached: offset + 1,
        ..Work::default()
    };
    let records = (0..9).map(|n| appending(0, "p", format!("{n}"))).collect();
    log.append(Topic::Journal, records).await.expect("appended");
    let mut place = log.claim("suite@1", Topic::Alerts, 0).await.expect("claimed");
    place.commit(said(0)).await.expect("committed");
    let next = Kafka::open(options).await.expect("another process");
    let mut place = next.claim("suite@1", Topic::Alerts, 0).await.expect("claimed");
    // Whoever read the conclusions hears meanwhile that they ended there.
    let quiet = next.wait(Topic::Journal, 0, 9);
    assert!(tokio::time::timeout(Duration::from_millis(300), quiet).await.is_err());
    place.commit(said(1)).await.expect("committed");
    assert_eq!(everything(&*next, Topic::Alerts, 0).await.len(), 2);
}

#[tokio::test]
async fn another_process_is_followed_as_it_appends() {
    let options = options();
    let writer = fresh(&options).await;
    let reader = Kafka::open(options).await.expect("another process");
    let mut seen = BTreeMap::new();
    for round in 0..20 {
        let offsets = writer
            .append(Topic::Journal, vec![appending(0, "p", format!("{round}"))])
            .await;
        let offset = offsets.expect("appended")[0];
        reader.wait(Topic::Journal, 0, offset).await.expect("it comes");
        let batch = reader
            .read(Topic::Journal, 0, offset, Limit::default())
            .await
            .expect("read");
        for entry in batch.entries() {
            assert_eq!(seen.insert(entry.offset, entry.value.clone()), None);
        }
    }
    let beyond = reader.wait(Topic::Journal, 0, 21).await;
    assert!(matches!(beyond, Err(LogError::OutOfRange { .. })), "{beyond:?}");
    assert_eq!(seen.len(), 20);
}

#[tokio::test]
async fn another_process_hears_how_far_a_place_has_come_though_nothing_was_concluded() {
    let options = options();
    let owner = fresh(&options).await;
    let other = Kafka::open(options.clone()).await.expect("another process");
    let records = (0..9).map(|n| appending(1, "p", format!("{n}"))).collect();
    owner.append(Topic::Journal, records).await.expect("appended");
    let mut place = owner.claim("suite@1", Topic::Alerts, 1).await.expect("claimed");
    for reached in [4, 9] {
        let work = Work {
            reached,
            ..Work::default()
        };
        place.commit(work).await.expect("committed");
        let heard = async {
            while other.reached(Topic::Alerts, 1).await.expect("known").journal < reached {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), heard)
            .await
            .expect("it is heard");
    }
    let later = Kafka::open(options).await.expect("a later process");
    let reached = later.reached(Topic::Alerts, 1).await.expect("known");
    assert_eq!((reached.journal, reached.end), (9, 0));
    assert_eq!(later.reached(Topic::Alerts, 0).await.expect("known").journal, 0);
}

#[tokio::test]
async fn states_that_nobody_needs_are_let_go_of_and_the_next_owner_finds_the_same() {
    let options = Options {
        silent_after: Duration::ZERO,
        ..options()
    };
    let log = fresh(&options).await;
    let records = (0..9).map(|n| appending(0, "p", format!("{n}"))).collect();
    log.append(Topic::Journal, records).await.expect("appended");
    let state = |applied, value: Option<&'static str>| Stored {
        applied,
        value: value.map(|text| Bytes::from_static(text.as_bytes())),
    };
    for (position, states) in [
        (3, vec![("a", state(1, Some("one"))), ("b", state(2, Some("two")))]),
        (5, vec![("a", state(4, Some("four"))), ("c", state(3, Some("three")))]),
        (7, vec![("a", state(6, Some("six"))), ("b", state(6, None))]),
    ] {
        // Each a writer of its own.
        let mut place = log.claim("suite@1", Topic::Alerts, 0).await.expect("claimed");
        let states = states.into_iter().map(|(key, stored)| (key.into(), stored)).collect();
        let work = Work {
            reached: position,
            checkpoint: Some(Checkpoint {
                states,
                position,
                context: Bytes::from(format!("at {position}")),
            }),
            ..Work::default()
        };
        place.commit(work).await.expect("committed");
        let shelf = place.shelf();
        assert!(
            shelf
                .get("b")
                .expect("read")
                .is_none_or(|stored| stored.value.is_some())
        );
    }
    // Two older copies of a, one of b with its removal, two older positions.
    assert_eq!(log.clean(Topic::Alerts, 0).await.expect("cleaned"), 6);
    assert_eq!(log.clean(Topic::Alerts, 0).await.expect("cleaned"), 0);
    let place = log.claim("suite@1", Topic::Alerts, 0).await.expect("claimed");
    assert_eq!((place.position(), place.context()), (7, Bytes::from_static(b"at 7")));
    let mut found = Vec::new();
    place
        .shelf()
        .visit(&mut |key, stored| found.push((key.to_owned(), stored)))
        .expect("visited");
    assert_eq!(
        found,
        [
            ("a".to_owned(), state(6, Some("six"))),
            ("c".to_owned(), state(3, Some("three")))
        ]
    );
}

/// The offsets that a group has committed, as any stock tool reads them.
fn committed(options: &Options, group: &str) -> BTreeMap<i32, i64> {
    use rdkafka::consumer::{BaseConsumer, Consumer};
    let consumer: BaseConsumer = rdkafka::ClientConfig::new()
        .set("bootstrap.servers", &options.brokers)
        .set("group.id", group)
        .create()
        .expect("a client");
    let mut asked = rdkafka::TopicPartitionList::new();
    for partition in 0..options.partitions {
        asked.add_partition(&options.topic(Topic::Journal), i32::from(partition));
    }
    let found = consumer
        .committed_offsets(asked, Duration::from_secs(10))
        .expect("the group answers");
    found
        .elements()
        .iter()
        .filter_map(|element| Some((element.partition(), element.offset().to_raw()?)))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn lag_tools_see_how_far_the_slowest_processor_of_each_partition_is() {
    let options = options();
    let log = fresh(&options).await;
    for value in [&b"a"[..], b"b", b"c"] {
        log.append(Topic::Journal, vec![appending(0, "k", value)])
            .await
            .expect("appended");
    }
    let mut share = log.share("process", true).expect("a group");
    let wait = share.partitions.wait_for(|mine| mine.len() == 2);
    tokio::time::timeout(Duration::from_secs(60), wait)
        .await
        .expect("handed out in time")
        .expect("a member");
    for (processor, topic, reached) in [("windows", Topic::Windows, 3), ("alerts", Topic::Alerts, 2)] {
        let mut place = log.claim(processor, topic, 0).await.expect("claimed");
        let work = Work {
            reached,
            ..Work::default()
        };
        place.commit(work).await.expect("committed");
    }
    let group = format!("{}-process", options.prefix);
    let told = async {
        loop {
            let (options, group) = (options.clone(), group.clone());
            let found = tokio::task::spawn_blocking(move || committed(&options, &group)).await;
            if found.expect("asked").get(&0) == Some(&2) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), told)
        .await
        .expect("told in time");
}
