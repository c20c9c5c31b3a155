//! How one version follows another.

use eventlog::Work;
use schemas::refused::Cutover;

use super::*;
use crate::engine::replay::{Found, Recompute, Verdict, Verify};
use crate::runner::control::cutover;

/// A version of a processor that says something at every alarm.
#[derive(Debug, Clone, Copy, Default)]
struct Later<const VERSION: u16>;

impl<const N: u16> Processor for Later<N> {
    const NAME: &'static str = "alerts";
    const VERSION: u16 = N;
    type State = u32;
    fn keys(&self, fact: &Envelope, wake: &mut Keys) {
        crate::alerts::Alerts.keys(fact, wake);
    }
    fn series(&self, _: &Envelope, _: &mut String) -> bool {
        false
    }
    fn step(&self, key: &str, state: u32, input: Input<'_>, ctx: &Context) -> Step<u32> {
        let step = crate::alerts::Alerts.step(key, crate::alerts::Subject::default(), input, ctx);
        Step {
            state: state + 1,
            outcomes: step.outcomes,
        }
    }
    fn deadlines(&self, _: &u32) -> Deadlines {
        Deadlines::default()
    }
}

const NEW_VERSION: u16 = OLD_VERSION + 1;
static OLD: [Kind; 1] = [Kind::of::<Later<OLD_VERSION>>(Topic::Alerts)];
static NEW: [Kind; 1] = [Kind::of::<Later<NEW_VERSION>>(Topic::Alerts)];

impl House {
    async fn until_told(&self, end: Offset) {
        let mut left = 100_000;
        while self.log.bounds(Topic::Journal, 0).await.unwrap().end < end {
            left -= 1;
            assert!(left > 0, "{:?}", self.options.board.snapshot());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn until_superseded(&self) {
        let superseded = |status: &Status| status.state == State::Superseded;
        let board = &self.options.board;
        self.until(|| board.snapshot().get(&("alerts", 0)).is_some_and(superseded))
            .await;
    }

    /// Another process.
    fn beside(&self) -> Self {
        Self {
            log: Arc::clone(&self.log),
            clock: Arc::clone(&self.clock),
            options: Options {
                board: Board::default(),
                ..self.options.clone()
            },
            shutdown: CancellationToken::new(),
        }
    }

    /// Runs a version until everything recorded is handled, then kills it without a word.
    async fn run_and_kill(&self, kinds: &'static [Kind]) {
        let process = self.beside();
        let running = process.start(kinds);
        let end = self.log.bounds(Topic::Journal, 0).await.unwrap().end;
        process.until_at(0, end).await;
        running.abort();
        assert!(running.await.unwrap_err().is_cancelled());
    }

    /// Three alarms, which the old version has said; and how many records that are.
    async fn whose_old_version_was_killed() -> (Self, Offset) {
        let house = Self::new(1, 1, Faults::default());
        let journal = alarms(3);
        house.tell(0, &journal).await;
        house.run_and_kill(&OLD).await;
        (house, journal.records.len() as i64)
    }

    /// What a version says of what is recorded, as if it had spoken all along.
    async fn as_said_by(&self, kinds: &'static [Kind], from: Offset) -> Vec<Output> {
        let said = conclusions(&kinds[0], &self.journal().await);
        said.into_iter().filter(|output| output.origin.offset >= from).collect()
    }

    async fn journal(&self) -> Vec<schemas::journal::Recorded> {
        let end = self.log.bounds(Topic::Journal, 0).await.unwrap().end;
        let mut records = Vec::new();
        while (records.len() as i64) < end {
            let from = records.len() as i64;
            let batch = self.log.read(Topic::Journal, 0, from, Limit::default()).await.unwrap();
            records.extend_from_slice(batch.facts(&Catalogue::builtin()).unwrap());
        }
        records
    }

    /// An owner of a version commits, whoever else has spoken meanwhile.
    async fn commit(&self, kinds: &'static [Kind], outputs: Vec<Output>, reached: Offset) {
        let mut place = self.log.claim(&kinds[0].place(), Topic::Alerts, 0).await.unwrap();
        let work = Work {
            outputs,
            reached,
            checkpoint: None,
        };
        place.commit(work).await.unwrap();
    }

    async fn decide(&self, offset: Offset) {
        let record = cutover(&Cutover {
            processor: SmolStr::new_static("alerts"),
            version: NEW_VERSION,
            partition: 0,
            offset,
            by: SmolStr::new_static("another"),
            at: START,
        });
        self.log.append(Topic::Control, vec![record]).await.unwrap();
    }

    async fn decided(&self) -> std::collections::BTreeMap<u16, Offset> {
        let decisions = read_decisions(&*self.log, &Catalogue::builtin()).await.unwrap();
        decisions.of("alerts", 0).cutovers
    }

    /// Who said what readers took: versions, in order. An audit by the new version must agree with it.
    async fn spoke(&self) -> (Vec<u16>, Verdict) {
        let decisions = read_decisions(&*self.log, &Catalogue::builtin()).await.unwrap();
        let recompute = Recompute::new(&NEW[0], INCARNATION, 0, decisions.of("alerts", 0)).unwrap();
        let (mut verify, mut spoke) = (Verify::new(recompute), Vec::new());
        for (derived, value) in self.derived(Topic::Alerts, 0).await {
            let ours = |version| derived.id == Derived::id_of("alerts", version, &derived.origin);
            spoke.push([OLD_VERSION, NEW_VERSION].into_iter().find(|v| ours(*v)).unwrap());
            verify.recorded(Found::new(&NEW[0], &derived, value));
        }
        verify.journal(&self.journal().await).unwrap();
        let verdict = verify.finish();
        assert!(verdict.holds(), "{verdict:?}");
        (spoke, verdict)
    }
}

/// A journal of device alarms, each of which is one alert.
fn alarms(n: i64) -> Journal {
    let mut journal = Journal::start();
    for second in 0..n {
        journal.alarm("p", "s", Span::seconds(second), AlarmCode::Fall);
    }
    journal
}

#[tokio::test(start_paused = true)]
async fn a_new_version_speaks_after_the_old_one_has_said_everything() {
    let mut house = House::new(1, 1, Faults::default());
    let journal = alarms(9);
    house.tell(0, &journal).await;
    let n = journal.records.len() as i64;
    let new = house.start(&NEW);
    let board = house.options.board.clone();
    // It goes no further than the old one has said, asks for the word at n, and waits.
    house.until_told(n + 1).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(house.derived(Topic::Alerts, 0).await.is_empty());
    assert_eq!(house.log.reached(Topic::Alerts, 0).await.unwrap().journal, 0);
    house.options.board = Board::default();
    let old = house.start(&OLD);
    house
        .until(|| board.snapshot().get(&("alerts", 0)).is_some_and(|s| s.position > n))
        .await;
    let mut later = Journal::default();
    later.alarm("p", "s", Span::seconds(100), AlarmCode::Fall);
    house.tell(0, &later).await;
    house
        .until(|| board.snapshot().get(&("alerts", 0)).is_some_and(|s| s.position > n + 1))
        .await;
    let said = house.derived(Topic::Alerts, 0).await;
    assert_eq!(said.len(), 10, "nine by the old version, one by the new");
    let by = |version, at: usize| said[at].0.id == Derived::id_of("alerts", version, &said[at].0.origin);
    assert!((0..9).all(|at| by(OLD_VERSION, at)) && by(NEW_VERSION, 9));
    house.shutdown.cancel();
    new.await.unwrap().unwrap();
    old.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_a_version_had_still_to_say_when_it_ended_is_said_by_the_next() {
    let mut house = House::new(1, 1, Faults::default());
    house.options.alone = true;
    let journal = alarms(3);
    let n = journal.records.len() as i64;
    house.tell(0, &journal).await;
    let old = house.start(&OLD);
    house.until_at(0, n).await;
    house.end(old).await;
    // nobody runs while these two are recorded
    let mut unsaid = Journal::default();
    unsaid.alarm("p", "s", Span::seconds(50), AlarmCode::Fall);
    unsaid.alarm("p", "s", Span::seconds(51), AlarmCode::Asystole);
    house.tell(0, &unsaid).await;
    for _ in 0..2 {
        house.shutdown = CancellationToken::new();
        house.options.board = Board::default();
        let new = house.start(&NEW);
        house.until_at(0, n + 2).await;
        house.end(new).await;
    }
    let said = house.derived(Topic::Alerts, 0).await;
    let by = |version, at: usize| said[at].0.id == Derived::id_of("alerts", version, &said[at].0.origin);
    assert_eq!(said.len(), 5);
    assert!((0..3).all(|at| by(OLD_VERSION, at)) && (3..5).all(|at| by(NEW_VERSION, at)));
    assert_eq!(
        said[3].0.origin.offset, n,
        "from its own record, as if nobody had been away"
    );
    let decided = read_decisions(&*house.log, &Catalogue::builtin())
        .await
        .unwrap()
        .of("alerts", 0);
    assert_eq!(decided.cutovers, [(NEW_VERSION, n)].into());
    // the old program, started once more by mistake, says nothing
    house.shutdown = CancellationToken::new();
    house.options.board = Board::default();
    let old = house.start(&OLD);
    house.until_superseded().await;
    house.end(old).await;
    assert_eq!(house.derived(Topic::Alerts, 0).await.len(), 5);
}

/// Alarms that are recorded while nobody runs.
fn unsaid(count: i64) -> Journal {
    let mut unsaid = Journal::default();
    for second in 0..count {
        unsaid.alarm("p", "s", Span::seconds(50 + second), AlarmCode::Fall);
    }
    unsaid
}

#[tokio::test(start_paused = true)]
async fn among_many_processes_too_the_next_version_says_what_was_unsaid_and_it_is_decided_once() {
    let (house, n) = House::whose_old_version_was_killed().await;
    house.tell(0, &unsaid(2)).await;
    // Two at once, one of which is killed as soon as something is said, and then another.
    let (one, other) = (house.beside(), house.beside());
    let (first, second) = (one.start(&NEW), other.start(&NEW));
    one.until_at(0, n + 3).await;
    first.abort();
    other.until_at(0, n + 3).await;
    let third = house.start(&NEW);
    house.until_at(0, n + 3).await;
    house.tell(0, &unsaid(1)).await;
    let end = house.log.bounds(Topic::Journal, 0).await.unwrap().end;
    house.until_at(0, end).await;
    let (spoke, verdict) = house.spoke().await;
    let [old, new] = [OLD_VERSION, NEW_VERSION];
    assert_eq!(spoke, [old, old, old, new, new, new]);
    assert_eq!(verdict.spoken_for, 0);
    assert_eq!(house.decided().await, [(new, n)].into());
    // The old program, started once more, says nothing.
    let again = house.beside();
    let old_one = again.start(&OLD);
    again.until_superseded().await;
    assert_eq!(house.spoke().await.0.len(), 6);
    for (process, running) in [(&other, second), (&house, third), (&again, old_one)] {
        process.end(running).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_version_that_ran_nowhere_leaves_everything_to_the_next() {
    let house = House::new(1, 1, Faults::default());
    let journal = alarms(3);
    house.tell(0, &journal).await;
    let running = house.start(&NEW);
    house.until_at(0, journal.records.len() as i64 + 1).await;
    assert_eq!(house.spoke().await.0, [NEW_VERSION; 3]);
    house.end(running).await;
}

#[tokio::test(start_paused = true)]
async fn what_the_old_version_had_said_beyond_its_word_is_not_said_again() {
    let (house, n) = House::whose_old_version_was_killed().await;
    house.tell(0, &unsaid(3)).await;
    // It was killed when two of three were written, and had not told yet that it had come further.
    let mut late = house.as_said_by(&OLD, n).await;
    late.truncate(2);
    house.commit(&OLD, late, n).await;
    let running = house.start(&NEW);
    house.until_at(0, n + 4).await;
    let [old, new] = [OLD_VERSION, NEW_VERSION];
    assert_eq!(house.spoke().await.0, [old, old, old, old, old, new]);
    house.end(running).await;
}

#[tokio::test(start_paused = true)]
async fn an_old_version_that_wakes_is_heard_for_what_nobody_said_yet_and_passed_over_for_the_rest() {
    let (house, n) = House::whose_old_version_was_killed().await;
    house.tell(0, &unsaid(3)).await;
    let late = house.as_said_by(&OLD, n).await;
    // It wakes when it is decided that the new one speaks from n on, and writes one before that one begins.
    house.decide(n).await;
    house.commit(&OLD, late[..1].to_vec(), n + 1).await;
    let running = house.start(&NEW);
    house.until_at(0, n + 3).await;
    let [old, new] = [OLD_VERSION, NEW_VERSION];
    let (spoke, verdict) = house.spoke().await;
    assert_eq!(spoke, [old, old, old, old, new, new]);
    assert_eq!(verdict.spoken_for, 1, "the audit says for how much");
    // It goes on writing: everybody passes over it.
    house.commit(&OLD, late[1..].to_vec(), n + 3).await;
    assert_eq!(house.spoke().await.0, [old, old, old, old, new, new]);
    house.end(running).await;
}

#[tokio::test(start_paused = true)]
async fn whoever_has_computed_in_silence_beyond_where_it_should_speak_computes_again() {
    let house = House::new(1, 1, Faults::default());
    let journal = alarms(4);
    let n = journal.records.len() as i64;
    house.tell(0, &journal).await;
    // The old one's word comes from after it was taken for dead: nobody heard what it said.
    house.commit(&OLD, Vec::new(), n).await;
    let mut silent = house.beside();
    silent.options.standby = true;
    let running = silent.start(&NEW);
    silent.until_at(0, n).await;
    silent.end(running).await;
    let saved = house.log.claim(&NEW[0].place(), Topic::Alerts, 0).await.unwrap();
    assert_eq!((saved.position(), house.decided().await), (n, [].into()));
    house.decide(n - 3).await;
    let running = house.start(&NEW);
    house.until_at(0, n).await;
    assert_eq!(house.spoke().await.0, [NEW_VERSION; 3]);
    house.end(running).await;
}

#[tokio::test(start_paused = true)]
async fn of_two_decisions_the_first_stands() {
    let house = House::new(1, 1, Faults::default());
    for offset in [7, 3, 9, 7] {
        house.decide(offset).await;
    }
    assert_eq!(house.decided().await, [(NEW_VERSION, 7)].into());
}
