//! A new version of a processor follows one that is killed (-9) or stands still with something unsaid, on a real broker.
//! Needs one: `FAJMA_TEST_KAFKA=host:port`.
//!
//! The old version runs in a process of its own: this program again, told to run [`STAGE`] alone, which then is the old
//! version and no test.

use std::collections::BTreeMap;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use eventlog::kafka::{self, Kafka};
use eventlog::origin::Reader;
use eventlog::prng::Prng;
use eventlog::{Append, Clock, EventLog, Limit, Offset, SystemClock, Topic};
use processors::alerts::Alerts;
use processors::engine::erased::Kind;
use processors::engine::replay::{Found, Recompute, Verify};
use processors::runner::{Options, activate_missing, read_decisions, run_these};
use processors::testing::Journal;
use schemas::codec::{self, Catalogue};
use schemas::derived::{Derived, Outcome};
use schemas::facts::{AlarmCode, AlertChange};
use schemas::journal::Recorded;
use schemas::time::Span;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::next::Next;

/// Tells this program, started again, that it is the old version, and on which log.
const LOG: &str = "FAJMA_TEST_OLD_VERSION";
/// The test in whose place the old version runs.
const STAGE: &str = "engines::succession::a_version_that_runs_hands_over_to_the_next_without_a_gap";
const OLD: [Kind; 1] = [Kind::of::<Alerts>(Topic::Alerts)];
const NEW: [Kind; 1] = [Kind::of::<Next<Alerts>>(Topic::Alerts)];
/// Longer than anything here takes, on a machine that does a hundred other things.
const LONG: Duration = Duration::from_secs(120);

fn options(prefix: &str) -> kafka::Options {
    kafka::Options {
        brokers: std::env::var("FAJMA_TEST_KAFKA").unwrap(),
        prefix: prefix.to_owned(),
        partitions: 1,
        ..kafka::Options::default()
    }
}

/// Runs a version until it is told to end.
async fn work(prefix: &str, kinds: &'static [Kind], stop: CancellationToken) {
    let log: Arc<dyn EventLog> = Kafka::open(options(prefix)).await.unwrap();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let options = Options {
        // States are saved in the midst of everything.
        checkpoint_every: Duration::from_millis(150),
        ..Options::default()
    };
    run_these(kinds, log, clock, options, stop).await.unwrap();
}

/// The old version's process.
struct Old(Child);

impl Old {
    fn start(prefix: &str) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", STAGE]).env(LOG, prefix);
        Self(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }

    fn signal(&self, signal: &str) {
        let id = self.0.id().to_string();
        assert!(Command::new("kill").args([signal, &id]).status().unwrap().success());
    }
}

impl Drop for Old {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A journal of which each record is an alarm of another patient, so that each is one alert.
struct Ward {
    prefix: String,
    log: Arc<Kafka>,
    alarms: usize,
}

impl Ward {
    async fn new(name: &str, round: u64) -> Self {
        let prefix = format!("succession-{}-{name}-{round}", std::process::id());
        kafka::apply(&options(&prefix)).await.unwrap();
        let log = Kafka::open(options(&prefix)).await.unwrap();
        activate_missing(&*log, &SystemClock, &Catalogue::builtin())
            .await
            .unwrap();
        Self { prefix, log, alarms: 0 }
    }

    async fn alarm(&mut self) {
        let patient = format!("p{:05}", self.alarms);
        let mut journal = Journal::default();
        journal.alarm(&patient, &patient, Span::ZERO, AlarmCode::Fall);
        let mut envelope = journal.records.remove(0).envelope;
        (envelope.measured_at, envelope.received_at) = (SystemClock.now(), SystemClock.now());
        let mut value = Vec::new();
        codec::encode(&envelope, &mut value);
        let append = Append {
            partition: 0,
            key: Bytes::from(patient),
            value: value.into(),
        };
        self.log.append(Topic::Journal, vec![append]).await.unwrap();
        self.alarms += 1;
    }

    async fn alarms(&mut self, count: u64, chance: &mut Prng) {
        for _ in 0..count {
            self.alarm().await;
            tokio::time::sleep(Duration::from_millis(chance.below(6))).await;
        }
    }

    /// Alarms, until it is decided from where the new version speaks.
    async fn alarms_until_decided(&mut self, chance: &mut Prng) {
        let deciding = async {
            while !self.decided().await {
                self.alarms(5, chance).await;
            }
        };
        tokio::time::timeout(LONG, deciding).await.unwrap();
    }

    /// A process with the new version.
    fn new_version(&self) -> (JoinHandle<()>, CancellationToken) {
        let (prefix, stop) = (self.prefix.clone(), CancellationToken::new());
        let until = stop.clone();
        (tokio::spawn(async move { work(&prefix, &NEW, until).await }), stop)
    }

    async fn read(&self, topic: Topic) -> Vec<Arc<eventlog::Batch>> {
        let (mut batches, mut from) = (Vec::new(), 0);
        let end = self.log.bounds(topic, 0).await.unwrap().end;
        while from < end {
            let batch = self.log.read(topic, 0, from, Limit::default()).await.unwrap();
            let Some(next) = batch.next() else { break };
            from = next;
            batches.push(batch);
        }
        batches
    }

    async fn journal(&self) -> Vec<Recorded> {
        let catalogue = Catalogue::builtin();
        let batches = self.read(Topic::Journal).await;
        batches
            .iter()
            .flat_map(|batch| batch.facts(&catalogue).unwrap().to_vec())
            .collect()
    }

    /// What readers take, by the origin rule.
    async fn said(&self) -> Vec<(Derived, Bytes)> {
        let catalogue = Catalogue::builtin();
        let mut reader = Reader::new(self.log.layout().incarnation, None);
        let mut said = Vec::new();
        for batch in self.read(Topic::Alerts).await {
            for entry in batch.entries() {
                let derived = codec::decode_derived(&entry.value, &catalogue).unwrap().unwrap();
                if reader.accept(&derived.origin).unwrap() {
                    said.push((derived, entry.value.clone()));
                }
            }
        }
        said
    }

    /// Until every alarm's alert is there; then that each is there once, and that an audit by the new version agrees.
    /// Returns how many were the new version's.
    async fn check(&self) -> usize {
        let all = async {
            loop {
                let raised = raised(&self.said().await);
                if raised.len() >= self.alarms {
                    return raised;
                }
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        };
        let raised = tokio::time::timeout(LONG, all).await;
        let Ok(raised) = raised else {
            panic!("{} of {} alarms are alerts", raised_now(self).await, self.alarms);
        };
        assert!(raised.values().all(|times| *times == 1), "{raised:?}");
        assert_eq!(raised.len(), self.alarms);
        let decisions = read_decisions(&*self.log, &Catalogue::builtin()).await.unwrap();
        let decided = decisions.of(NEW[0].name, 0);
        assert_eq!(decided.cutovers.len(), 1);
        let from = decided.cutovers[&NEW[0].version];
        let recompute = Recompute::new(&NEW[0], self.log.layout().incarnation, 0, decided).unwrap();
        let (mut verify, mut ours, mut late) = (Verify::new(recompute), 0, 0);
        for (derived, value) in self.said().await {
            let found = Found::new(&NEW[0], &derived, value);
            ours += usize::from(found.ours);
            assert!(
                !found.ours || derived.origin.offset >= from,
                "the new one speaks too early"
            );
            late += u64::from(!found.ours && derived.origin.offset >= from);
            verify.recorded(found);
        }
        verify.journal(&self.journal().await).unwrap();
        let verdict = verify.finish();
        assert!(
            verdict.holds() && verdict.spoken_for <= late,
            "{verdict:?}, {late} late"
        );
        ours
    }

    async fn reached(&self) -> Offset {
        self.log.reached(Topic::Alerts, 0).await.unwrap().journal
    }

    async fn until(&self, what: impl AsyncFn() -> bool) {
        let wait = async {
            while !what().await {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(LONG, wait).await.unwrap();
    }

    /// The old version has begun to speak.
    async fn begun(&self) {
        self.until(async || self.log.bounds(Topic::Alerts, 0).await.unwrap().end > 0)
            .await;
    }

    async fn decided(&self) -> bool {
        // Brokers of a busy machine may be out of reach for a while: who asks, asks again.
        let decisions = read_decisions(&*self.log, &Catalogue::builtin()).await;
        decisions.is_ok_and(|decisions| !decisions.of(NEW[0].name, 0).cutovers.is_empty())
    }
}

fn raised(said: &[(Derived, Bytes)]) -> BTreeMap<String, usize> {
    let mut raised = BTreeMap::new();
    for (derived, _) in said {
        if matches!(&derived.outcome, Outcome::Alert(alert) if alert.change == AlertChange::Raised) {
            *raised.entry(derived.key.text().to_string()).or_default() += 1;
        }
    }
    raised
}

async fn raised_now(ward: &Ward) -> usize {
    raised(&ward.said().await).len()
}

async fn end(running: Vec<(JoinHandle<()>, CancellationToken)>) {
    for (task, stop) in running {
        stop.cancel();
        if let Err(error) = task.await {
            assert!(error.is_cancelled(), "{error}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_version_that_was_killed_had_still_to_say_is_said_by_the_next_once() {
    for round in 0..3 {
        let mut chance = Prng::new(round);
        let mut ward = Ward::new("killed", round).await;
        ward.alarms(20, &mut chance).await;
        let old = Old::start(&ward.prefix);
        ward.begun().await;
        let some = chance.below(150);
        ward.alarms(some, &mut chance).await;
        drop(old);
        // Nobody says these; two processes of the next version come, and go on coming, while more is recorded.
        ward.alarms(40, &mut chance).await;
        let mut running = vec![ward.new_version(), ward.new_version()];
        ward.alarms(200, &mut chance).await;
        ward.until(async || ward.decided().await).await;
        // One is killed as soon as it may speak.
        running[0].0.abort();
        running.push(ward.new_version());
        ward.alarms(50, &mut chance).await;
        let ours = ward.check().await;
        assert!(ours >= 290, "{ours}");
        end(running).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_version_that_stood_still_and_wakes_beside_the_next_contradicts_nobody() {
    for round in 0..3 {
        let mut chance = Prng::new(100 + round);
        let mut ward = Ward::new("woken", round).await;
        ward.alarms(20, &mut chance).await;
        let old = Old::start(&ward.prefix);
        ward.begun().await;
        ward.alarms(60, &mut chance).await;
        old.signal("-STOP");
        ward.alarms(60, &mut chance).await;
        let running = vec![ward.new_version(), ward.new_version()];
        match round {
            // It wakes before anybody takes it for dead, …
            0 => ward.alarms(60, &mut chance).await,
            // … when it is just decided, …
            1 => ward.until(async || ward.decided().await).await,
            // … when all is said.
            _ => {
                ward.until(async || ward.decided().await).await;
                ward.check().await;
            }
        }
        old.signal("-CONT");
        ward.alarms(60, &mut chance).await;
        ward.check().await;
        let reached = ward.reached().await;
        ward.alarms(30, &mut chance).await;
        // Whoever woke has seen by now that its successor speaks: nothing more is its own.
        ward.until(async || ward.reached().await > reached).await;
        assert!(ward.check().await >= 30);
        end(running).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_version_that_runs_hands_over_to_the_next_without_a_gap() {
    if let Ok(prefix) = std::env::var(LOG) {
        return work(&prefix, &OLD, CancellationToken::new()).await;
    }
    let mut chance = Prng::new(7);
    let mut ward = Ward::new("running", 0).await;
    let old = Old::start(&ward.prefix);
    ward.alarms(50, &mut chance).await;
    ward.begun().await;
    let running = vec![ward.new_version()];
    ward.alarms_until_decided(&mut chance).await;
    ward.alarms(50, &mut chance).await;
    assert!(ward.check().await >= 50);
    // Nothing was said in its place.
    let decisions = read_decisions(&*ward.log, &Catalogue::builtin()).await.unwrap();
    let from = decisions.of(NEW[0].name, 0).cutovers[&NEW[0].version];
    let late = ward.said().await;
    let late = late
        .iter()
        .filter(|(derived, value)| derived.origin.offset >= from && !Found::new(&NEW[0], derived, value.clone()).ours);
    assert_eq!(late.count(), 0);
    drop(old);
    end(running).await;
}
