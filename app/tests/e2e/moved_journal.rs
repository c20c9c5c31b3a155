//! One recorded journal, copied byte for byte into the embedded home and, where there are engines, into Kafka; processors
//! and projections run from its start in both. What they conclude is byte-equal, and so are the rows that follow.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use eventlog::embedded::{self, Embedded};
use eventlog::kafka;
use eventlog::moving::{Arriving, Carriable};
use eventlog::{Clock, EventLog, Limit, Partition, Standing, SystemClock, Topic};
use processors::runner;
use projections::embedded::EmbeddedViews;
use projections::runner::catch_up;
use projections::scylla::ScyllaViews;
use projections::store::{Change, Progress, Scan, ViewError, ViewStore};
use projections::view::{Cell, Row, View};
use schemas::codec::Catalogue;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::house::{House, PATIENCE, ago, config, config_alone, heart_rate, prepare};
use super::recorded::made_up;

/// A half-day of dirty recordings, a live alarm, a limit changed in between, a restart: a journal of this house.
async fn recorded() -> (tempfile::TempDir, embedded::Options) {
    let house = House::alone().await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("made-up.csv");
    std::fs::write(&file, made_up()).unwrap();
    let mut sending = Command::new(env!("CARGO_BIN_EXE_fajma"));
    sending
        .args([
            "simulate",
            "--json",
            "--speed",
            "1e9",
            "--batch",
            "20",
            "--to",
            &format!("http://{}", house.http),
            "--file",
        ])
        .arg(&file)
        .env("FAJMA_TOKEN", &house.token);
    let sent = tokio::task::spawn_blocking(move || sending.output())
        .await
        .unwrap()
        .unwrap();
    assert!(sent.status.success(), "{}", String::from_utf8_lossy(&sent.stderr));
    house
        .send(json!([
            heart_rate("p1", 190.0, ago(11)),
            heart_rate("p1", 190.0, ago(0))
        ]))
        .await;
    let alarm = json!({"patient_id": "p2", "sensor_id": "p2-ecg", "type": "alarm", "code": "asystole", "at": ago(0)});
    house.send(json!([alarm])).await;
    let raised = |a: &serde_json::Value| a["alerts"].as_array().is_some_and(|all| !all.is_empty());
    for patient in ["p1", "p2"] {
        house.until(&format!("/v1/patients/{patient}/alerts"), raised).await;
    }
    let day = "/v1/patients/rec-1/windows?metric=heart_rate&size=1m&from=1990-01-01T00:00:00Z&limit=1000";
    house
        .until(day, |a| a["windows"].as_array().is_some_and(|w| w.len() > 500))
        .await;
    // On a slow machine what is shown is shown before every processor has come so far.
    concluded(&*house.server.house.log).await;
    let dir = house.stop().await;
    let options = config_alone(dir.path()).log.options();
    (dir, options)
}

/// The journal alone, as a log that serves.
async fn copied(from: &Embedded, to: Arc<dyn Arriving>) -> Arc<dyn Carriable> {
    for partition in 0..from.layout().partitions {
        let bounds = from.bounds(Topic::Journal, partition).await.unwrap();
        to.begin(Topic::Journal, partition, bounds.start).await.unwrap();
        for batch in batches(from, Topic::Journal, partition).await {
            to.put(Topic::Journal, partition, batch.entries()).await.unwrap();
        }
    }
    let log = to.open().await.unwrap();
    log.stand(Standing::Serving).await.unwrap();
    log
}

async fn batches(log: &dyn EventLog, topic: Topic, partition: Partition) -> Vec<Arc<eventlog::Batch>> {
    let bounds = log.bounds(topic, partition).await.unwrap();
    let (mut all, mut from) = (Vec::new(), bounds.start);
    while from < bounds.end {
        let batch = log.read(topic, partition, from, Limit::default()).await.unwrap();
        from = batch.next().unwrap();
        all.push(batch);
    }
    all
}

/// Waits until every processor has answered all that the journal holds now.
async fn concluded(log: &dyn EventLog) {
    let deadline = tokio::time::Instant::now() + PATIENCE * 4;
    for topic in Topic::ALL.into_iter().filter(|topic| topic.is_derived()) {
        for partition in 0..log.layout().partitions {
            let end = log.bounds(Topic::Journal, partition).await.unwrap().end;
            while log.reached(topic, partition).await.unwrap().journal < end {
                assert!(
                    tokio::time::Instant::now() < deadline,
                    "{topic:?}/{partition} does not come to its end"
                );
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        }
    }
}

/// Runs every processor from the journal's start to its end.
async fn process(log: &Arc<dyn EventLog>) {
    let stop = CancellationToken::new();
    let options = runner::Options {
        tick: false,
        ..runner::Options::default()
    };
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let running = tokio::spawn(runner::run(Arc::clone(log), clock, options, stop.clone()));
    concluded(&**log).await;
    stop.cancel();
    running.await.unwrap().unwrap();
}

/// Keys and values of a partition.
async fn bytes(log: &dyn EventLog, topic: Topic, partition: Partition) -> Vec<(Vec<u8>, Vec<u8>)> {
    let all = batches(log, topic, partition).await;
    let entries = all.iter().flat_map(|batch| batch.entries());
    entries
        .map(|entry| (entry.key.to_vec(), entry.value.to_vec()))
        .collect()
}

/// Partitions of views by their name.
type Parts = BTreeMap<String, (&'static View, Vec<Cell>)>;

/// A store that notes which partitions of views are written.
#[derive(Debug)]
struct Noting(Arc<dyn ViewStore>, Mutex<Parts>);

#[async_trait]
impl ViewStore for Noting {
    async fn apply(&self, changes: &[Change], progress: Option<&Progress>) -> Result<(), ViewError> {
        for change in changes {
            let cells = change.key[..change.view.partition.len()].to_vec();
            let name = format!("{} {cells:?}", change.view.name);
            self.1.lock().unwrap().insert(name, (change.view, cells));
        }
        self.0.apply(changes, progress).await
    }

    async fn progress(&self, topic: Topic, partition: Partition) -> Result<Option<Progress>, ViewError> {
        self.0.progress(topic, partition).await
    }

    async fn get(&self, view: &'static View, key: &[Cell]) -> Result<Option<Row>, ViewError> {
        self.0.get(view, key).await
    }

    async fn scan(&self, view: &'static View, scan: Scan) -> Result<Vec<Row>, ViewError> {
        self.0.scan(view, scan).await
    }
}

/// Projects all of a log.
async fn project(log: &Arc<dyn EventLog>, store: Arc<dyn ViewStore>) -> (Arc<dyn ViewStore>, Parts) {
    let noting = Arc::new(Noting(Arc::clone(&store), Mutex::default()));
    let options = projections::runner::Options {
        catalogue: Arc::new(Catalogue::builtin()),
        ..projections::runner::Options::default()
    };
    catch_up(Arc::clone(log), Arc::<Noting>::clone(&noting), options)
        .await
        .unwrap();
    let parts = std::mem::take(&mut *noting.1.lock().unwrap());
    (store, parts)
}

fn embedded_views(dir: &Path) -> Arc<dyn ViewStore> {
    EmbeddedViews::open(&dir.join("views"), projections::embedded::Options::default()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn one_journal_in_both_homes_comes_to_the_same_bytes_and_the_same_rows() {
    let (live_dir, options) = recorded().await;
    let live = Embedded::open(&live_dir.path().join("log"), options.clone(), Arc::new(SystemClock)).unwrap();
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let begin = |dir: &Path| {
        let with = (options.clone(), Arc::new(SystemClock) as Arc<dyn Clock>);
        embedded::Arriving::begin(&dir.join("log"), with, live.layout(), "the recording").unwrap()
    };
    let one: Arc<dyn EventLog> = copied(&live, begin(here.path())).await;
    let settings = config(there.path());
    let (other, theirs): (Arc<dyn EventLog>, Arc<dyn ViewStore>) = match settings.log.kafka().unwrap() {
        Some(topics) => {
            let arriving = kafka::Arriving::begin(topics, live.layout(), "the recording")
                .await
                .unwrap();
            let log = copied(&live, arriving).await;
            prepare(&settings).await;
            let database = settings.views.database().unwrap().unwrap();
            (log, ScyllaViews::open(database).await.unwrap())
        }
        None => {
            println!("NOT RUN: the journal in Kafka (make test-engines): compared with another directory");
            (copied(&live, begin(there.path())).await, embedded_views(there.path()))
        }
    };
    assert_eq!(one.layout(), other.layout(), "the same journal");
    tokio::join!(process(&one), process(&other));

    let (mut derived, mut live_too) = (0, 0);
    for topic in Topic::ALL
        .into_iter()
        .filter(|topic| topic.is_derived() || *topic == Topic::Journal)
    {
        for partition in 0..one.layout().partitions {
            let [a, b] = [
                bytes(&*one, topic, partition).await,
                bytes(&*other, topic, partition).await,
            ];
            assert!(
                a == b,
                "{topic:?}/{partition}: {} and {} records, or other bytes",
                a.len(),
                b.len()
            );
            // The house that recorded it live, in batches of its own, concluded the same.
            let c = bytes(&*live, topic, partition).await;
            assert!(
                a.starts_with(&c),
                "{topic:?}/{partition}: {} and live {} records, or other bytes",
                a.len(),
                c.len()
            );
            live_too += if topic.is_derived() { c.len() } else { 0 };
            derived += if topic.is_derived() { a.len() } else { 0 };
        }
    }
    // It may have been stopped with a last tick unanswered.
    assert!(
        live_too > 500 && derived - live_too < 50,
        "{derived} conclusions, {live_too} live"
    );

    let (ours, parts) = project(&one, embedded_views(here.path())).await;
    let (theirs, same_parts) = project(&other, theirs).await;
    assert!(parts.keys().eq(same_parts.keys()), "the same partitions of views");
    let mut rows = 0;
    for (name, (view, cells)) in parts {
        let scan = || Scan::of(cells.clone(), 100_000);
        let (a, b) = (
            ours.scan(view, scan()).await.unwrap(),
            theirs.scan(view, scan()).await.unwrap(),
        );
        assert_eq!(a, b, "{name}");
        rows += a.len();
    }
    println!("{derived} conclusions byte-equal, {rows} rows equal");
    assert!(rows > 3_000, "{rows} rows");
}
