//! What a reading costs in each room. Throughput is per reading.
//!
//! `cargo bench -p benches` measures; `cargo test -p benches --benches` runs each once, to see that it works.
#![expect(clippy::unwrap_used, reason = "a bench that cannot begin should stop loudly")]

use std::hint::black_box;
use std::sync::Arc;

use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use eventlog::embedded::{Embedded, Options};
use eventlog::{Append, EventLog, SystemClock, Topic};
use ingest::{Context, accept};
use processors::testing::{self, MemoryShelf};
use projections::embedded::EmbeddedViews;
use projections::store::ViewStore;
use projections::views;
use schemas::codec::{self, Catalogue};
use schemas::facts::{ClockTicked, Door, Reading, TickedBy};
use schemas::ids::{EventId, Key, PatientId, SensorId};
use schemas::journal::{ClockQuality, Envelope, Fact, Recorded};
use schemas::metric::Metric;
use schemas::policy::Policy;
use schemas::time::{Span, Timestamp};
use tokio::runtime::Runtime;

const SERIES: usize = 10_000;
const BATCH: usize = 1_000;
const METRICS: [Metric; 5] = [
    Metric::HeartRate,
    Metric::Spo2,
    Metric::RespiratoryRate,
    Metric::Systolic,
    Metric::BodyTemperature,
];
const NORMAL: [f64; 5] = [72.0, 97.0, 16.0, 120.0, 36.8];

/// Reading `n`: every series in turn, one reading per second.
fn envelope(n: usize) -> Envelope {
    let series = n % SERIES;
    let at = testing::START + Span::seconds((n / SERIES) as i64 + 1);
    let id = |prefix: &str| format!("{prefix}{:06}", series / METRICS.len());
    Envelope {
        id: EventId::of("bench", &[&n.to_be_bytes()]),
        key: Key::Patient(PatientId::new(&id("p-")).unwrap()),
        measured_at: at,
        gateway_at: None,
        received_at: at + Span::millis(30),
        clock: ClockQuality::Device,
        cause: None,
        fact: Fact::Reading(Reading {
            sensor_id: SensorId::new(&id("m-")).unwrap(),
            metric: METRICS[series % METRICS.len()],
            value: NORMAL[series % METRICS.len()],
            sent: None,
            quality: Some(97),
            contact: None,
            seq: Some((n / SERIES) as i64),
            epoch: None,
            samples: None,
            marks: Vec::new(),
            door: Door::Http,
        }),
    }
}

/// Batches of facts behind a journal's beginning, a tick before each new second.
struct Facts {
    beginning: Vec<Recorded>,
    offset: i64,
    n: usize,
}

impl Facts {
    fn start() -> Self {
        let beginning = testing::Journal::start().records;
        let offset = beginning.len() as i64;
        Self {
            beginning,
            offset,
            n: 0,
        }
    }

    fn next(&mut self) -> Vec<Recorded> {
        let mut batch = Vec::with_capacity(BATCH + 1);
        for _ in 0..BATCH {
            let envelope = envelope(self.n);
            if self.n.is_multiple_of(SERIES) {
                batch.push(self.recorded(Envelope {
                    key: Key::Nobody,
                    clock: ClockQuality::Server,
                    fact: Fact::ClockTicked(ClockTicked { by: TickedBy::Ingest }),
                    ..envelope.clone()
                }));
            }
            batch.push(self.recorded(envelope));
            self.n += 1;
        }
        batch
    }

    fn recorded(&mut self, envelope: Envelope) -> Recorded {
        self.offset += 1;
        Recorded {
            offset: self.offset - 1,
            appended_at: envelope.received_at,
            envelope,
        }
    }
}

fn encoded(n: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    codec::encode(&envelope(n), &mut out);
    out
}

fn codec_(c: &mut Criterion) {
    let mut group = c.benchmark_group("codec");
    group.throughput(Throughput::Elements(1));
    let (fact, bytes, catalogue) = (envelope(7), encoded(7), Catalogue::builtin());
    let mut out = Vec::with_capacity(256);
    group.bench_function("encode", |b| {
        b.iter(|| {
            out.clear();
            codec::encode(black_box(&fact), &mut out);
        });
    });
    group.bench_function("decode", |b| {
        b.iter(|| codec::decode(black_box(&bytes), &catalogue).unwrap())
    });
    group.finish();
}

/// `{"readings":[…]}` as a gateway posts it.
fn message() -> Bytes {
    let reading = |n: usize| {
        format!(
            r#"{{"patient_id":"p-{n:06}","sensor_id":"m-{n:06}","type":"heart_rate","value":72,"unit":"/min","at":"2026-01-05T08:00:00.{n:03}Z","quality":97,"seq":{n}}}"#
        )
    };
    let readings: Vec<String> = (0..100).map(reading).collect();
    format!(r#"{{"readings":[{}]}}"#, readings.join(",")).into()
}

fn accept_(c: &mut Criterion) {
    let (message, policy, catalogue) = (message(), Policy::standard(), Catalogue::builtin());
    let roster = ingest::Roster::default();
    let rules = accept::Rules {
        policy: &policy,
        catalogue: &catalogue,
        roster: &roster,
        bounds: accept::Bounds::default(),
    };
    let context = Context::new(Door::Http, Timestamp(1_767_600_060_000_000));
    let verdicts = accept::accept(&message, &context, &rules);
    assert_eq!(verdicts.iter().filter(|verdict| verdict.fact().is_some()).count(), 100);
    let mut group = c.benchmark_group("accept");
    group.throughput(Throughput::Elements(100));
    group.bench_function("100 readings in one JSON body", |b| {
        b.iter(|| accept::accept(black_box(&message), &context, &rules));
    });
    group.finish();
}

/// Handling a batch of the journal and, every ten batches, writing the changed states down.
fn processors_(c: &mut Criterion) {
    let mut group = c.benchmark_group("processors");
    group.throughput(Throughput::Elements(BATCH as u64));
    for kind in processors::all() {
        let shelf = MemoryShelf::default();
        let mut task = (kind.restore)(testing::fresh(shelf)).unwrap();
        let mut facts = Facts::start();
        task.handle(&facts.beginning).unwrap();
        let mut batches = 0;
        group.bench_function(kind.name, |b| {
            b.iter_batched(
                || facts.next(),
                |batch| {
                    batches += 1;
                    let work = task.handle(&batch).unwrap();
                    (work, (batches % 10 == 0).then(|| task.checkpoint()), batch)
                },
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}

fn append(c: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let log = Embedded::open(folder.path(), Options::default(), Arc::new(SystemClock)).unwrap();
    let partitions = usize::from(log.layout().partitions);
    let record = |n: usize| Append {
        partition: (n / METRICS.len() % partitions) as u16,
        key: Bytes::from(format!("p-{:06}", n / METRICS.len())),
        value: Bytes::from(encoded(n)),
    };
    let mut group = c.benchmark_group("append, durable");
    for records in [1, 100] {
        group.throughput(Throughput::Elements(records as u64));
        let batch: Vec<_> = (0..records).map(record).collect();
        group.bench_function(format!("{records} at once"), |b| {
            b.iter_batched(
                || batch.clone(),
                |batch| runtime.block_on(log.append(Topic::Journal, batch)).unwrap(),
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}

fn view_write(c: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let store = EmbeddedViews::open(folder.path(), projections::embedded::Options::default()).unwrap();
    let mut facts = Facts::start();
    let mut group = c.benchmark_group("views");
    group.throughput(Throughput::Elements(BATCH as u64));
    let project = |facts: &[Recorded]| {
        let mut changes = Vec::with_capacity(4 * facts.len());
        for fact in facts {
            views::project_fact(fact, &mut changes);
        }
        changes
    };
    let batch = facts.next();
    group.bench_function("project", |b| b.iter(|| project(black_box(&batch))));
    group.bench_function("project and write", |b| {
        b.iter_batched(
            || facts.next(),
            |facts| runtime.block_on(store.apply(&project(&facts), None)).unwrap(),
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

criterion_group!(rooms, codec_, accept_, processors_, append, view_write);
criterion_main!(rooms);
