use std::time::Duration;

use bytes::Bytes;
use eventlog::model::{Faults, Model, Rules};
use eventlog::{Append, Layout, ManualClock, Offset, Output, Topic};
use schemas::codec;
use schemas::derived::{Derived, Outcome};
use schemas::facts::AlarmCode;
use schemas::journal::{Envelope, Fact};
use schemas::metric::Metric;
use schemas::refused::Skip;
use schemas::time::Span;
use smol_str::SmolStr;

use super::*;
use crate::engine::{Context, Deadlines, Input, Keys, Processor, Step};
use crate::testing::{INCARNATION, Journal, START, conclusions};

mod succession;

/// The version that the journals of tests activate.
const OLD_VERSION: u16 = <crate::alerts::Alerts as Processor>::VERSION;

struct House {
    log: Arc<dyn EventLog>,
    clock: Arc<ManualClock>,
    options: Options,
    shutdown: CancellationToken,
}

impl House {
    fn new(partitions: u16, seed: u64, faults: Faults) -> Self {
        let clock = Arc::new(ManualClock::at(START + Span::days(30)));
        let layout = Layout {
            partitions,
            incarnation: INCARNATION,
        };
        let clock_of_log: Arc<dyn Clock> = Arc::clone(&clock) as Arc<dyn Clock>;
        Self {
            log: Arc::new(Model::new(layout, seed, Rules::default(), faults, clock_of_log)),
            clock,
            options: Options {
                tick: false,
                checkpoint_records: 20,
                read: Limit {
                    records: 7,
                    bytes: 1 << 20,
                },
                ..Options::default()
            },
            shutdown: CancellationToken::new(),
        }
    }

    fn start(&self, kinds: &'static [Kind]) -> tokio::task::JoinHandle<Result<(), RunError>> {
        let clock = Arc::clone(&self.clock) as Arc<dyn Clock>;
        let (log, options, shutdown) = (Arc::clone(&self.log), self.options.clone(), self.shutdown.clone());
        tokio::spawn(run_these(kinds, log, clock, options, shutdown))
    }

    /// Tells what runs here to end, and waits until it has ended well.
    async fn end(&self, running: tokio::task::JoinHandle<Result<(), RunError>>) {
        self.shutdown.cancel();
        running.await.unwrap().unwrap();
    }

    async fn put(&self, partition: Partition, value: Bytes) -> Offset {
        let append = Append {
            partition,
            key: Bytes::new(),
            value,
        };
        self.log.append(Topic::Journal, vec![append]).await.unwrap()[0]
    }

    async fn tell(&self, partition: Partition, journal: &Journal) {
        for record in &journal.records {
            self.put(partition, framed(&record.envelope)).await;
        }
    }

    async fn until(&self, what: impl Fn() -> bool) {
        let mut left = 100_000;
        while !what() {
            left -= 1;
            assert!(left > 0, "{:?}", self.options.board.snapshot());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn until_at(&self, partition: Partition, position: Offset) {
        let there = |status: &Status| status.position >= position && status.state == State::Running;
        self.until(|| {
            let all = self.options.board.snapshot();
            let mut those = all.iter().filter(|((_, p), _)| *p == partition).peekable();
            those.peek().is_some() && those.all(|(_, status)| there(status))
        })
        .await;
    }

    /// What a reader accepts who keeps the origin rule.
    async fn derived(&self, topic: Topic, partition: Partition) -> Vec<(Derived, Bytes)> {
        let mut accepted: Vec<(Derived, Bytes)> = Vec::new();
        let bounds = self.log.bounds(topic, partition).await.unwrap();
        let mut from = bounds.start;
        while from < bounds.end {
            let batch = self.log.read(topic, partition, from, Limit::default()).await.unwrap();
            for entry in batch.entries() {
                let derived = codec::decode_derived(&entry.value, &Catalogue::builtin())
                    .unwrap()
                    .unwrap();
                if accepted
                    .last()
                    .is_none_or(|(last, _)| derived.origin.place() > last.origin.place())
                {
                    accepted.push((derived, entry.value.clone()));
                }
            }
            from = batch.next().unwrap();
        }
        accepted
    }
}

fn framed(envelope: &Envelope) -> Bytes {
    let mut value = Vec::new();
    codec::encode(envelope, &mut value);
    value.into()
}

fn busy() -> Journal {
    let mut journal = Journal::start();
    journal.open("p", "c");
    for second in 0..90 {
        if second == 60 {
            journal.close("p", "c", Span::ZERO);
        }
        let value = if second % 30 < 15 { 140.0 } else { 70.0 };
        journal
            .reading("p", "s", Metric::HeartRate, Span::seconds(second), value)
            .tick(Span::seconds(second));
    }
    journal
}

static ALL: [Kind; 5] = crate::all();

#[tokio::test(start_paused = true)]
async fn what_is_written_is_what_the_journal_implies_though_owners_crash_and_write_late() {
    let faults = Faults {
        crash: 15,
        late: 30,
        compaction: 20,
        ..Faults::default()
    };
    let journal = busy();
    for seed in 0..6 {
        let house = House::new(1, seed, faults);
        house.tell(0, &journal).await;
        let running = house.start(&ALL);
        house.until_at(0, journal.records.len() as i64).await;
        house.end(running).await;
        for kind in &ALL {
            let written = house.derived(kind.output, 0).await;
            let implied: Vec<Output> = conclusions(kind, &journal.records);
            let values = |written: &[(Derived, Bytes)]| written.iter().map(|w| w.1.clone()).collect::<Vec<_>>();
            assert_eq!(
                values(&written),
                implied.into_iter().map(|o| o.value).collect::<Vec<_>>(),
                "seed {seed}"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_new_journal_is_given_policy_and_activations_once() {
    let house = House::new(2, 1, Faults::default());
    for _ in 0..2 {
        activate_missing(&*house.log, &*house.clock, &Catalogue::builtin())
            .await
            .unwrap();
    }
    for partition in 0..2 {
        let bounds = house.log.bounds(Topic::Journal, partition).await.unwrap();
        assert_eq!(bounds.end - bounds.start, 1 + ALL.len() as i64);
    }
}

#[tokio::test(start_paused = true)]
async fn a_processor_that_is_new_to_a_journal_is_activated_behind_what_is_there_and_speaks_from_then_on() {
    let house = House::new(1, 1, Faults::default());
    let mut journal = Journal::default();
    let known = Journal::start();
    let of_new = |fact: &Fact| matches!(fact, Fact::ProcessorActivated(it) if it.name == "consultations");
    for record in known.records.iter().filter(|record| !of_new(&record.envelope.fact)) {
        journal.again(record.envelope.clone());
    }
    journal.tick(Span::ZERO);
    journal.open("p", "c");
    journal.reading("p", "s", Metric::HeartRate, Span::seconds(1), 70.0);
    journal.tick(Span::seconds(1));
    house.tell(0, &journal).await;
    let told = journal.records.len() as i64;
    for _ in 0..2 {
        activate_missing(&*house.log, &*house.clock, &Catalogue::builtin())
            .await
            .unwrap();
    }
    let end = house.log.bounds(Topic::Journal, 0).await.unwrap().end;
    assert_eq!(end, told + 1, "what speaks already is not activated again");
    let running = house.start(&ALL);
    house.until_at(0, end).await;
    let mut later = Journal::default();
    later.reading("p", "s", Metric::HeartRate, Span::seconds(2), 72.0);
    later.tick(Span::seconds(10));
    house.tell(0, &later).await;
    house.until_at(0, end + later.records.len() as i64).await;
    house.end(running).await;
    let said = house.derived(Topic::Consultations, 0).await;
    let counts: Vec<i64> = said
        .iter()
        .map(|(derived, _)| match &derived.outcome {
            Outcome::Consultation(part) => part.series[0].count,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(counts, [2], "what came before counts, and is said once it speaks");
}

#[tokio::test(start_paused = true)]
async fn a_record_that_cannot_be_read_stops_its_partition_until_an_operator_skips_it() {
    let house = House::new(2, 1, Faults::default());
    let journal = busy();
    house.tell(0, &journal).await;
    let bad = house.put(0, Bytes::from_static(b"\0\0\0\0\x01garbage")).await;
    let mut more = journal.clone();
    more.records.clear();
    more.alarm("p", "s", Span::seconds(90), AlarmCode::Asystole);
    house.tell(0, &more).await;
    house.tell(1, &journal).await;
    let running = house.start(&ALL);
    house.until_at(1, journal.records.len() as i64).await;
    let board = house.options.board.clone();
    let state = |name| board.snapshot()[&(name, 0)].state.clone();
    house
        .until(|| {
            ALL.iter()
                .all(|k| matches!(state(k.name), State::Stopped { offset, .. } if offset == bad))
        })
        .await;
    assert!(!board.is_well());
    let before = house.derived(Topic::Alerts, 0).await.len();
    assert_eq!(
        before,
        conclusions(&ALL[1], &journal.records).len(),
        "what came before it is written"
    );

    let skip = Skip {
        processor: SmolStr::new("alerts"),
        partition: 0,
        offset: bad,
        by: SmolStr::new("op"),
        reason: SmolStr::new("garbage"),
        at: START,
    };
    let mut value = Vec::new();
    codec::encode_plain(&skip, &mut value);
    let append = Append {
        partition: 0,
        key: Bytes::new(),
        value: value.into(),
    };
    house.log.append(Topic::Control, vec![append]).await.unwrap();
    house
        .until(|| state("alerts") == State::Running && board.snapshot()[&("alerts", 0)].position > bad)
        .await;
    house.until(|| board.snapshot()[&("alerts", 0)].lag == 0).await;
    assert!(
        matches!(state("windows"), State::Stopped { .. }),
        "only the skipped one goes on"
    );
    house.end(running).await;
    assert!(board.snapshot().is_empty(), "whoever has them next says how they are");
    let alerts = house.derived(Topic::Alerts, 0).await;
    assert!(matches!(&alerts.last().unwrap().0.outcome, Outcome::Alert(row) if row.rule == "asystole"));
}

/// Panics at a value.
#[derive(Debug, Default)]
struct Fragile;

impl Processor for Fragile {
    const NAME: &'static str = "alerts";
    const VERSION: u16 = OLD_VERSION;
    type State = u32;
    fn keys(&self, fact: &Envelope, wake: &mut Keys) {
        if matches!(fact.fact, Fact::Reading(_)) {
            wake.push(|out| out.push_str("x/p"));
        }
    }
    fn series(&self, _: &Envelope, _: &mut String) -> bool {
        false
    }
    fn step(&self, _: &str, state: u32, input: Input<'_>, _: &Context) -> Step<u32> {
        if let Input::Fact { recorded, .. } = input
            && let Fact::Reading(reading) = &recorded.envelope.fact
        {
            assert!(reading.value < 200.0, "too much for me");
        }
        Step::quiet(state + 1)
    }
    fn deadlines(&self, _: &u32) -> Deadlines {
        Deadlines::default()
    }
}

static FRAGILE: [Kind; 1] = [Kind::of::<Fragile>(Topic::Alerts)];

#[tokio::test(start_paused = true)]
async fn a_panic_stops_the_partition_at_its_record_with_everything_before_it_done() {
    let house = House::new(1, 1, Faults::default());
    let mut journal = Journal::start();
    for second in 0..5 {
        journal.reading("p", "s", Metric::HeartRate, Span::seconds(second), 70.0);
    }
    let bad = journal.records.len() as i64;
    journal.reading("p", "s", Metric::HeartRate, Span::seconds(6), 250.0);
    house.tell(0, &journal).await;
    let running = house.start(&FRAGILE);
    let board = house.options.board.clone();
    let stopped = || match board.snapshot().get(&("alerts", 0)) {
        Some(status) => matches!(&status.state, State::Stopped { offset, reason }
            if *offset == bad && reason.contains("too much for me") && status.position == bad),
        None => false,
    };
    house.until(stopped).await;
    house.end(running).await;
    assert_eq!(house.log.reached(Topic::Alerts, 0).await.unwrap().journal, bad);
}

#[tokio::test(start_paused = true)]
async fn time_is_told_every_second_in_every_partition() {
    let mut house = House::new(2, 1, Faults::default());
    house.options.tick = true;
    let running = house.start(&FRAGILE);
    tokio::time::sleep(Duration::from_millis(3_500)).await;
    house.end(running).await;
    for partition in 0..2 {
        let batch = house
            .log
            .read(Topic::Journal, partition, 0, Limit::default())
            .await
            .unwrap();
        let ticks = batch.facts(&Catalogue::builtin()).unwrap().iter();
        assert_eq!(
            ticks
                .filter(|r| matches!(r.envelope.fact, Fact::ClockTicked(_)))
                .count(),
            4
        );
    }
}

#[tokio::test]
async fn a_partition_that_is_not_there_is_refused() {
    let mut house = House::new(2, 1, Faults::default());
    house.options.partitions = Some(vec![1, 2]);
    let refused = house.start(&ALL).await.unwrap();
    assert!(matches!(refused, Err(RunError::NoSuchPartition { asked: 2, there: 2 })));
}
