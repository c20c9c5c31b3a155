//! Same records in the same order, same bytes out: however they are cut, wherever it is restarted, whatever mixture of
//! checkpoints the keys are restored from, whatever is said twice.

use std::collections::BTreeMap;

use bytes::Bytes;
use eventlog::{Offset, Output, Stored};
use proptest::prelude::*;
use schemas::derived::{Origin, Outcome};
use schemas::facts::{AlarmCode, AlertAnswered, Answer, Limits, MetricLimits, SensorState, ThresholdsSet, TickedBy};
use schemas::journal::Fact;
use schemas::metric::Metric;
use schemas::policy::Policy;
use schemas::time::{Span, Timestamp};
use smol_str::SmolStr;

use super::erased::{AnyTask, Kind};
use super::{Context, Decided, Place};
use crate::testing::{INCARNATION, Journal, MemoryShelf, START, Versions, conclusions, decode, fresh, key, run};

/// One thing that happens.
#[derive(Debug, Clone)]
enum Op {
    /// A reading by one of a few sensors, so many seconds from now, of one of a few values.
    Reading(u8, i64, u8),
    /// An earlier record again.
    Again(usize),
    /// Time moves on, in seconds.
    Tick(i64, bool),
    Alarm(u8),
    Status(u8, bool),
    Limits(bool),
    Lateness(i64),
    /// The newest alert is answered.
    Answer(u8),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        12 => (0..8_u8, prop_oneof![8 => -5..5_i64, 3 => -4_000..0_i64, 1 => -700_000..0_i64], 0..6_u8)
            .prop_map(|(who, ago, value)| Op::Reading(who, ago, value)),
        3 => any::<prop::sample::Index>().prop_map(|i| Op::Again(i.index(1 << 20))),
        8 => (prop_oneof![8 => 1..12_i64, 2 => 50..200_i64, 1 => 3_000..9_000_i64, 1 => 80_000..700_000_i64], any::<bool>())
            .prop_map(|(by, door)| Op::Tick(by, door)),
        1 => (0..8_u8).prop_map(Op::Alarm),
        2 => (0..8_u8, any::<bool>()).prop_map(|(who, well)| Op::Status(who, well)),
        1 => any::<bool>().prop_map(Op::Limits),
        1 => (1..8_i64).prop_map(Op::Lateness),
        1 => (0..4_u8).prop_map(Op::Answer),
    ]
}

fn tell(ops: &[Op]) -> Journal {
    let mut journal = Journal::start();
    let mut now = 0;
    for op in ops {
        let who = |n: u8| (["p", "q"][usize::from(n & 1)], ["s", "t"][usize::from(n >> 1 & 1)]);
        match op {
            Op::Reading(n, from_now, value) => {
                let (patient, sensor) = who(*n);
                let metric = [Metric::HeartRate, Metric::BloodGlucose][usize::from(n >> 2 & 1)];
                let value = [70.0, 100.0, 120.0, 140.0, 190.0, 45.0][usize::from(*value)];
                journal.reading(patient, sensor, metric, Span::seconds(now + from_now), value);
            }
            Op::Again(i) => {
                let facts: Vec<_> = journal
                    .records
                    .iter()
                    .filter(|r| !r.envelope.fact.is_for_all())
                    .collect();
                if !facts.is_empty() {
                    let again = facts[i % facts.len()].envelope.clone();
                    journal.again(again);
                }
            }
            Op::Tick(by, door) => {
                now += by;
                journal.ticked(
                    Span::seconds(now),
                    if *door { TickedBy::Ingest } else { TickedBy::Process },
                );
            }
            Op::Alarm(n) => {
                let code = [AlarmCode::Asystole, AlarmCode::SensorOff][usize::from(n >> 2 & 1)];
                journal.alarm(who(*n).0, who(*n).1, Span::seconds(now), code);
            }
            Op::Status(n, well) => {
                let state = if *well { SensorState::Active } else { SensorState::Fault };
                journal.status(
                    who(*n).0,
                    who(*n).1,
                    Span::seconds(now),
                    state,
                    Some(f64::from(*n) * 3.0),
                );
            }
            Op::Limits(set) => {
                let limits = Limits {
                    critical_high: Some(150.0),
                    ..Limits::default()
                };
                let limits = MetricLimits {
                    metric: Metric::HeartRate,
                    limits,
                };
                let thresholds = if *set { vec![limits] } else { Vec::new() };
                journal.server(
                    key("p"),
                    Fact::ThresholdsSet(ThresholdsSet {
                        thresholds,
                        by: SmolStr::new("dr"),
                    }),
                );
            }
            Op::Lateness(days) => {
                let policy = Policy {
                    lateness: Span::days(*days),
                    ..Policy::standard()
                };
                let by = SmolStr::new("test");
                journal.server(
                    key(""),
                    Fact::PolicyChanged(schemas::facts::PolicyChanged { policy, by }),
                );
            }
            Op::Answer(n) => answer(&mut journal, *n, now),
        }
    }
    // everything that was put off comes out
    for more in [1, 40, 100, 3_700] {
        journal.tick(Span::seconds(now + more));
    }
    journal
}

fn answer(journal: &mut Journal, n: u8, now: i64) {
    let outputs = conclusions(&crate::all()[1], &journal.records);
    let Some(derived) = outputs.last().map(decode) else {
        return;
    };
    let Outcome::Alert(row) = derived.outcome else { return };
    let answer = AlertAnswered {
        alert_id: row.alert_id,
        subject: row.subject,
        answer: Answer::ALL[usize::from(n) % Answer::ALL.len()],
        by: SmolStr::new("dr"),
        text: None,
        until: Some(START + Span::seconds(now + 30)),
    };
    journal.server(derived.key, Fact::AlertAnswered(answer));
}

/// What a reader that keeps the origin rule has accepted; it also holds every repeat against the first time.
#[derive(Default)]
struct Reader {
    accepted: Vec<Output>,
}

impl Reader {
    fn read(&mut self, outputs: Vec<Output>) {
        for output in outputs {
            let last = self.accepted.last().map(|last| last.origin.clone());
            if last.is_some_and(|last| output.origin.place() <= last.place()) {
                let first = self.accepted.iter().find(|o| o.origin == output.origin);
                assert_eq!(first, Some(&output), "a repeat that differs from what was accepted");
            } else {
                self.accepted.push(output);
            }
        }
    }
}

/// A saved place of an undisturbed run.
#[derive(Clone)]
struct Saved {
    position: Offset,
    context: Bytes,
    recorded: Timestamp,
}

fn place(shelf: MemoryShelf, saved: &Saved, budget: usize) -> Place {
    Place {
        position: saved.position,
        context: saved.context.clone(),
        budget,
        ..fresh(shelf)
    }
}

fn start() -> Saved {
    Saved {
        position: 0,
        context: Bytes::new(),
        recorded: Timestamp::MIN,
    }
}

fn saved(shelf: &MemoryShelf, checkpoint: &eventlog::Checkpoint) -> Saved {
    shelf.save(checkpoint);
    let context = Context::decode(&checkpoint.context, INCARNATION).unwrap();
    Saved {
        position: checkpoint.position,
        context: checkpoint.context.clone(),
        recorded: context.recorded,
    }
}

/// Runs in small batches with checkpoints and restarts wherever `turns` says, with hardly any memory.
fn disturbed(kind: &Kind, journal: &Journal, turns: &[(usize, u8)]) -> Vec<Output> {
    let (shelf, mut at, mut reader) = (MemoryShelf::default(), start(), Reader::default());
    let mut task: Box<dyn AnyTask> = (kind.restore)(place(shelf.clone(), &at, 1)).unwrap();
    let mut turns = turns.iter().cycle();
    let end = journal.records.len() as i64;
    let mut lives = 0;
    while task.position() < end {
        let (size, what) = turns.next().unwrap();
        let from = task.position() as usize;
        let work = task
            .handle(&journal.records[from..(from + size).min(end as usize)])
            .unwrap();
        reader.read(work.outputs);
        if let Some(checkpoint) = &work.checkpoint {
            at = saved(&shelf, checkpoint);
            task.saved();
        }
        if what % 3 == 0 {
            at = saved(&shelf, &task.checkpoint());
            task.saved();
        }
        if what % 5 == 0 && lives < 20 {
            lives += 1;
            task = (kind.restore)(place(shelf.clone(), &at, 1)).unwrap();
        }
    }
    reader.accepted
}

/// Every state and every place of an undisturbed run that saves every few records.
fn all_checkpoints(kind: &Kind, journal: &Journal, every: usize) -> (Vec<Saved>, Versions) {
    let (shelf, mut places) = (MemoryShelf::default(), vec![start()]);
    let mut task = (kind.restore)(fresh(shelf.clone())).unwrap();
    let end = journal.records.len();
    while (task.position() as usize) < end {
        let from = task.position() as usize;
        let work = task.handle(&journal.records[from..(from + every).min(end)]).unwrap();
        if let Some(checkpoint) = &work.checkpoint {
            places.push(saved(&shelf, checkpoint));
            task.saved();
        }
        places.push(saved(&shelf, &task.checkpoint()));
        task.saved();
    }
    (places, shelf.versions())
}

/// For each key one of its states as of a checkpoint at or after `from`, as far as two owners can be apart.
fn mixture(places: &[Saved], from: usize, versions: &Versions, picks: &[u8]) -> Versions {
    let near = |later: &&Saved| later.recorded - places[from].recorded <= Span::hours(1);
    let reachable: Vec<&Saved> = places[from..].iter().take_while(near).collect();
    let mut mixed = BTreeMap::new();
    for (n, (key, all)) in versions.iter().enumerate() {
        let pick = usize::from(picks[n % picks.len()]);
        let upto = reachable
            .get(pick % reachable.len().max(1))
            .map_or(places[from].position, |place| place.position);
        let state: Option<&Stored> = all.iter().rfind(|stored| stored.applied < upto);
        if let Some(state) = state {
            mixed.insert(key.clone(), vec![state.clone()]);
        }
    }
    mixed
}

fn origins(outputs: &[Output]) -> BTreeMap<(i64, Vec<u8>, i32), &Output> {
    let place = |o: &Origin| (o.offset, o.key.as_bytes().to_vec(), o.n);
    outputs.iter().map(|output| (place(&output.origin), output)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn cuts_restarts_and_a_small_memory_change_no_byte(
        ops in proptest::collection::vec(op(), 1..90),
        turns in proptest::collection::vec((1..9_usize, 0..15_u8), 1..40),
    ) {
        let journal = tell(&ops);
        for kind in crate::all() {
            let undisturbed = conclusions(&kind, &journal.records);
            prop_assert!(undisturbed.is_sorted_by(|a, b| a.origin.place() < b.origin.place()));
            prop_assert_eq!(disturbed(&kind, &journal, &turns), undisturbed, "{}", kind.name);
        }
    }

    #[test]
    fn keys_restored_from_any_mixture_of_checkpoints_conclude_the_same(
        ops in proptest::collection::vec(op(), 1..90),
        every in 1..8_usize,
        from in any::<prop::sample::Index>(),
        picks in proptest::collection::vec(any::<u8>(), 1..12),
    ) {
        let journal = tell(&ops);
        for kind in crate::all() {
            let undisturbed = conclusions(&kind, &journal.records);
            let (places, versions) = all_checkpoints(&kind, &journal, every);
            let from = from.index(places.len());
            let mixed = mixture(&places, from, &versions, &picks);
            let shelf = MemoryShelf::of(mixed.clone());
            let mut task = (kind.restore)(place(shelf.clone(), &places[from], usize::MAX)).unwrap();
            let again = run(&mut *task, &shelf, &journal.records).unwrap();
            let (first, again) = (origins(&undisturbed), origins(&again));
            for (origin, output) in &again {
                prop_assert_eq!(first.get(origin), Some(output), "{}: other bytes", kind.name);
            }
            for (origin, output) in first {
                let applied = mixed.get(&output.origin.key).map_or(-1, |all| all[0].applied);
                let due = origin.0 >= places[from].position && applied < origin.0;
                prop_assert_eq!(again.contains_key(&origin), due, "{}: {:?}", kind.name, origin);
            }
        }
    }

    #[test]
    fn saying_everything_twice_changes_no_window_and_no_alert_over_limits(
        ops in proptest::collection::vec(op(), 1..60),
        which in proptest::collection::vec(any::<bool>(), 1..7),
    ) {
        let once = tell(&ops);
        let mut twice = Journal::default();
        for (n, record) in once.records.iter().enumerate() {
            let times = 1 + usize::from(which[n % which.len()] && !record.envelope.fact.is_for_all());
            for _ in 0..times {
                twice.again(record.envelope.clone());
                let last = twice.records.last_mut().unwrap();
                last.appended_at = record.appended_at;
            }
        }
        for kind in &crate::all()[..2] {
            // Offsets differ, and with them origins and the ids made of them.
            let told = |journal: &Journal| -> Vec<Outcome> {
                let outcomes = conclusions(kind, &journal.records).iter().map(|o| decode(o).outcome).collect::<Vec<_>>();
                outcomes.into_iter().map(|outcome| match outcome {
                    Outcome::Alert(mut row) => { row.alert_id = INCARNATION; Outcome::Alert(row) }
                    other => other,
                }).collect()
            };
            if !ops.iter().any(|op| matches!(op, Op::Answer(_))) {
                prop_assert_eq!(told(&once), told(&twice), "{}", kind.name);
            }
        }
    }

    #[test]
    fn any_order_of_arrival_within_lateness_gives_the_same_final_windows_as_a_plain_fold(
        readings in proptest::collection::btree_map((0..2_u8, -200_000..0_i64), 30.0..200.0, 1..60),
        ticks in proptest::collection::vec(0..4_u8, 1..20),
        turn in any::<prop::sample::Index>(),
    ) {
        let final_windows = |order: &[(&(u8, i64), &f64)]| {
            let mut journal = Journal::start();
            for (n, ((who, at), value)) in order.iter().enumerate() {
                journal.reading("p", ["s", "t"][usize::from(*who)], Metric::HeartRate, Span::seconds(*at), **value);
                if ticks[n % ticks.len()] == 0 {
                    journal.tick(Span::seconds(n as i64 + 1));
                }
            }
            journal.tick(Span::days(2)).tick(Span::seconds(2 * 86_400 + 60));
            let mut windows = BTreeMap::new();
            for output in conclusions(&crate::all()[0], &journal.records) {
                let Outcome::Window(w) = decode(&output).outcome else { panic!() };
                windows.insert((w.sensor_id.clone(), w.size, w.start),
                    (w.count, w.min.to_bits(), w.max.to_bits(), w.mean.to_bits(), w.sd.to_bits(), w.first.to_bits(), w.last.to_bits()));
            }
            windows
        };
        let mut order: Vec<_> = readings.iter().collect();
        let windows = final_windows(&order);
        let turn = turn.index(order.len());
        order.rotate_left(turn);
        order.reverse();
        prop_assert_eq!(&windows, &final_windows(&order));

        for ((sensor, size, start), (count, min, max, mean, _, first, last)) in windows {
            let inside = readings.iter().filter(|((who, at), _)| {
                ["s", "t"][usize::from(*who)] == sensor.as_str() && (START + Span::seconds(*at)).floor(size.span()) == start
            });
            let values: Vec<f64> = inside.map(|(_, value)| *value).collect();
            prop_assert_eq!(count, values.len() as i64);
            prop_assert_eq!(f64::from_bits(min), values.iter().copied().fold(f64::MAX, f64::min));
            prop_assert_eq!(f64::from_bits(max), values.iter().copied().fold(f64::MIN, f64::max));
            prop_assert_eq!((f64::from_bits(first), f64::from_bits(last)), (values[0], values[values.len() - 1]));
            prop_assert!((f64::from_bits(mean) - values.iter().sum::<f64>() / values.len() as f64).abs() < 1e-5);
        }
    }
}

#[test]
fn a_version_speaks_from_its_activation_to_the_next() {
    let kind = crate::all()[0];
    let mut journal = Journal::start();
    journal.records.truncate(1);
    let activate = |journal: &mut Journal, version| {
        let name = SmolStr::new(kind.name);
        journal.server(
            key(""),
            Fact::ProcessorActivated(schemas::facts::ProcessorActivated { name, version }),
        );
    };
    journal
        .reading("p", "s", Metric::HeartRate, Span::seconds(1), 70.0)
        .tick(Span::seconds(1));
    activate(&mut journal, kind.version);
    journal.ticks(60, 60);
    let superseded = journal.records.len() as i64;
    activate(&mut journal, kind.version + 1);
    journal.ticks(300, 300);
    let shelf = MemoryShelf::default();
    let mut task = (kind.restore)(fresh(shelf)).unwrap();
    let outputs = run(
        &mut *task,
        &MemoryShelf::default(),
        &journal.records[..superseded as usize],
    )
    .unwrap();
    let revisions = outputs.iter().map(|o| match decode(o).outcome {
        Outcome::Window(window) => window.revision,
        _ => 0,
    });
    assert_eq!(
        revisions.collect::<Vec<_>>(),
        [2],
        "the first revision was computed silently"
    );
    assert_eq!(
        task.handle(&journal.records[..superseded as usize]).unwrap().reached,
        superseded
    );
    let stop = task.handle(&journal.records[superseded as usize..]).unwrap_err();
    assert!(matches!(stop, super::Stop::Superseded { by, offset } if (by, offset) == (kind.version + 1, superseded)));
}

#[test]
fn what_may_neither_be_read_nor_ignored_stops_the_partition_until_it_is_skipped() {
    let kind = crate::all()[1];
    let mut journal = Journal::start();
    let good = journal.records.len() as i64;
    let sealed = schemas::facts::Sealed {
        key_id: SmolStr::new("k"),
        inner_schema: 1,
        ciphertext: Bytes::new(),
    };
    journal
        .server(key("p"), Fact::Sealed(sealed))
        .server(key("p"), Fact::Unknown { schema_id: 99 });
    journal.alarm("p", "s", Span::ZERO, AlarmCode::Asystole);
    let mut task = (kind.restore)(fresh(MemoryShelf::default())).unwrap();
    let stop = run(&mut *task, &MemoryShelf::default(), &journal.records).unwrap_err();
    assert_eq!(task.position(), good, "what came before it counts");
    assert!(matches!(stop, super::Stop::Unjudgeable { offset } if offset == good));
    let place = Place {
        decided: Decided {
            skips: [good].into(),
            ..Decided::default()
        },
        ..fresh(MemoryShelf::default())
    };
    let mut task = (kind.restore)(place).unwrap();
    assert_eq!(
        run(&mut *task, &MemoryShelf::default(), &journal.records)
            .unwrap()
            .len(),
        1
    );
}

#[test]
fn a_tick_ahead_of_the_logs_own_clock_is_not_accepted() {
    let mut journal = Journal::start();
    journal.reading("p", "s", Metric::HeartRate, Span::seconds(1), 70.0);
    journal.tick(Span::days(9));
    journal.records.last_mut().unwrap().appended_at = START + Span::seconds(10);
    assert!(conclusions(&crate::all()[0], &journal.records).is_empty());
    journal.records.last_mut().unwrap().appended_at = START + Span::days(9);
    assert!(!conclusions(&crate::all()[0], &journal.records).is_empty());
}
