//! A broker that is killed, again and again, while doors append and two owners of one place conclude and save. It is
//! started for this test, where it can be had (docker/engines).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use eventlog::conformance::{appending, conclusion, everything, seen};
use eventlog::kafka::{Kafka, Options, apply};
use eventlog::{Checkpoint, EventLog, Limit, LogError, Offset, Output, Stored, Topic, Work};
use smol_str::SmolStr;

const PLACE: (&str, Topic, u16) = ("suite@1", Topic::Devices, 0);
const DOORS: usize = 3;
const EACH: usize = 150;
const KILLS: usize = 2;

/// A broker of this test's own.
struct Broker {
    run: tempfile::TempDir,
    address: String,
}

impl Broker {
    /// `None` where there can be none; the script says why.
    fn start() -> Option<Self> {
        let run = tempfile::tempdir().expect("a folder");
        let mut broker = Self {
            run,
            address: String::new(),
        };
        let shown = broker.engines(&["up", "kafka"])?;
        let first = shown.lines().next().and_then(|line| line.split_once('='));
        let (_, address) = first.expect("an address");
        address.clone_into(&mut broker.address);
        Some(broker)
    }

    fn engines(&self, what: &[&str]) -> Option<String> {
        let script: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docker/engines/engines");
        let run = Command::new(script)
            .args(what)
            .env("ENGINES_RUN", self.run.path())
            .stderr(std::process::Stdio::inherit())
            .output();
        let done = run.expect("the script runs");
        if done.status.code() == Some(3) {
            return None;
        }
        assert!(done.status.success(), "engines {what:?}: {}", done.status);
        Some(String::from_utf8_lossy(&done.stdout).into_owned())
    }

    fn options(&self) -> Options {
        Options {
            brokers: self.address.clone(),
            partitions: 1,
            ..Options::default()
        }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.engines(&["down"]);
    }
}

/// A door: appends one after the other, each until it is acknowledged. Returns where each was said to be.
async fn door(log: Arc<Kafka>, who: usize, done: Arc<AtomicUsize>) -> Vec<(Offset, String)> {
    let mut acknowledged = Vec::new();
    for n in 0..EACH {
        let text = format!("{who}-{n:04}");
        loop {
            match log.append(Topic::Journal, vec![appending(0, "p", text.clone())]).await {
                Ok(offsets) => {
                    acknowledged.push((offsets[0], text));
                    break;
                }
                Err(LogError::Unavailable(_)) => {}
                Err(error) => panic!("appending {text}: {error}"),
            }
        }
        done.fetch_add(1, Ordering::Relaxed);
        // Load for as long as brokers come and go.
        tokio::time::sleep(Duration::from_millis(60)).await;
    }
    acknowledged
}

/// The state of the one key: how many records it has counted, and a sum over them in their order.
fn fold(state: (u64, u64), value: &[u8]) -> (u64, u64) {
    let sum = value.iter().fold(state.1, |sum, byte| {
        sum.wrapping_mul(0x0100_0000_01b3).wrapping_add(u64::from(*byte))
    });
    (state.0 + 1, sum)
}

fn packed(state: (u64, u64)) -> Bytes {
    [state.0.to_be_bytes(), state.1.to_be_bytes()].concat().into()
}

fn unpacked(bytes: &[u8]) -> (u64, u64) {
    let number = |at: usize| u64::from_be_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
    (number(0), number(8))
}

/// An owner: concludes one thing from each record, which says how many there were; saves every few batches. Ends where
/// the journal ends for good; whatever happens before, it claims again.
async fn owner(log: Arc<Kafka>, done: Arc<AtomicUsize>) -> usize {
    let mut claims = 0;
    loop {
        claims += 1;
        match own(&log, &done).await {
            Ok(()) => return claims,
            Err(LogError::Unavailable(_)) => {}
            Err(error) => panic!("an owner: {error}"),
        }
    }
}

async fn own(log: &Kafka, done: &AtomicUsize) -> Result<(), LogError> {
    let journal = log.layout().incarnation;
    let mut place = log.claim(PLACE.0, PLACE.1, PLACE.2).await?;
    let stored = place.shelf().get("k")?;
    let mut applied = stored.as_ref().map_or(-1, |stored| stored.applied);
    let mut state = stored.and_then(|s| s.value).map_or((0, 0), |value| unpacked(&value));
    let (mut next, mut batches) = (place.position(), 0);
    loop {
        let whole = done.load(Ordering::Relaxed) == DOORS * EACH;
        let batch = log
            .read(
                Topic::Journal,
                0,
                next,
                Limit {
                    records: 16,
                    ..Limit::default()
                },
            )
            .await?;
        let Some(after) = batch.next() else {
            if whole {
                return Ok(());
            }
            // It may be that nothing more comes: then the doors have ended.
            let _ = tokio::time::timeout(Duration::from_millis(200), log.wait(Topic::Journal, 0, next)).await;
            continue;
        };
        let mut outputs: Vec<Output> = Vec::new();
        let first = applied;
        for entry in batch.entries().iter().filter(|entry| entry.offset > first) {
            (state, applied) = (fold(state, &entry.value), entry.offset);
            outputs.push(conclusion(
                journal,
                entry.offset,
                "k",
                0,
                &format!("s-{}-{:x}", state.0, state.1),
            ));
        }
        next = after;
        batches += 1;
        let stored = Stored {
            applied,
            value: Some(packed(state)),
        };
        let checkpoint = (batches % 3 == 0).then(|| Checkpoint {
            states: vec![(SmolStr::new("k"), stored)],
            position: next,
            context: Bytes::from(format!("at {next}")),
        });
        let work = Work {
            outputs,
            reached: next,
            checkpoint,
        };
        place.commit(work).await?;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_broker_loses_nothing_acknowledged_and_readers_see_each_conclusion_once() {
    let Some(broker) = Broker::start() else { return };
    apply(&broker.options()).await.expect("topics are made");
    let done = Arc::new(AtomicUsize::new(0));
    let open = async || Kafka::open(broker.options()).await.expect("the log opens");
    let mut doors = Vec::new();
    for who in 0..DOORS {
        doors.push(tokio::spawn(door(open().await, who, Arc::clone(&done))));
    }
    // Two processes that both believe that the place is theirs.
    let owners = [open().await, open().await].map(|log| tokio::spawn(owner(log, Arc::clone(&done))));
    for kill in 1..=KILLS {
        while done.load(Ordering::Relaxed) < DOORS * EACH * kill / (KILLS + 2) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        tokio::task::block_in_place(|| {
            broker.engines(&["kill", "kafka"]).expect("killed");
            broker.engines(&["again", "kafka"]).expect("started again");
        });
    }
    let mut acknowledged = Vec::new();
    for door in doors {
        acknowledged.push(door.await.expect("a door"));
    }
    let mut claims = 0;
    for owner in owners {
        claims += owner.await.expect("an owner");
    }
    let log = open().await;
    let journal = everything(&*log, Topic::Journal, 0).await;
    check_journal(&journal, &acknowledged);
    let (mut state, mut implied, mut states) = ((0, 0), Vec::new(), BTreeMap::new());
    for entry in &journal {
        state = fold(state, &entry.value);
        states.insert(entry.offset, state);
        implied.push((entry.offset, "k".to_owned(), 0, format!("s-{}-{:x}", state.0, state.1)));
    }
    let written = everything(&*log, PLACE.1, 0).await.len();
    assert_eq!(seen(&*log, PLACE.1, 0).await, implied, "each conclusion once, in order");
    let place = log.claim(PLACE.0, PLACE.1, PLACE.2).await.expect("claimed");
    let saved = place.shelf().get("k").expect("read").expect("a state");
    assert_eq!(place.context(), format!("at {}", place.position()));
    assert!(saved.applied + 1 >= place.position(), "no state is behind the position");
    assert_eq!(saved.value, Some(packed(states[&saved.applied])));
    println!(
        "{} records, {written} conclusions written for {} seen, {claims} claims, {KILLS} kills",
        journal.len(),
        implied.len()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_is_not_in_its_group_for_long_is_given_up_and_the_next_is_in_it() {
    const LONG: Duration = Duration::from_secs(90);
    let Some(broker) = Broker::start() else { return };
    let options = Options {
        failover: Duration::from_secs(8),
        ..broker.options()
    };
    apply(&options).await.expect("topics are made");
    let log = Kafka::open(options).await.expect("the log opens");
    // As a role does: where joining takes longer than that, by another.
    let joined = async || loop {
        let mut share = log.share("process", true).expect("a member");
        let handed = share.partitions.wait_for(|mine| !mine.is_empty()).await;
        if let Ok(mine) = handed.map(|mine| mine.clone()) {
            return (share, mine);
        }
    };
    let joined = async || tokio::time::timeout(LONG, joined()).await.expect("handed out in time");
    let (mut share, mine) = joined().await;
    tokio::task::block_in_place(|| broker.engines(&["kill", "kafka"]).expect("killed"));
    let told = async { while share.partitions.changed().await.is_ok() {} };
    tokio::time::timeout(LONG, told).await.expect("told in time");
    assert!(
        share.why_ended().contains("not been in its group"),
        "{}",
        share.why_ended()
    );
    tokio::task::block_in_place(|| broker.engines(&["again", "kafka"]).expect("started again"));
    let (_again, ours) = joined().await;
    assert_eq!(ours, mine);
}

/// Each acknowledged record is where it was said to be, and each door's are in its order. What is there twice is there
/// because a door was not told of the first.
fn check_journal(journal: &[eventlog::Entry], acknowledged: &[Vec<(Offset, String)>]) {
    let at: BTreeMap<Offset, &Bytes> = journal.iter().map(|entry| (entry.offset, &entry.value)).collect();
    for door in acknowledged {
        assert!(door.is_sorted_by(|a, b| a.0 < b.0), "a door's own order");
        for (offset, text) in door {
            assert_eq!(
                at.get(offset).map(|value| &value[..]),
                Some(text.as_bytes()),
                "at {offset}"
            );
        }
    }
    let texts: std::collections::BTreeSet<_> = journal.iter().map(|entry| &entry.value).collect();
    assert_eq!(texts.len(), DOORS * EACH, "nothing that nobody sent");
}
