//! Two processes on one place: one speaks, the other one stands by. On a real broker.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use eventlog::conformance::{appending, conclusion, seen};
use eventlog::kafka::{Kafka, Options, Standby};
use eventlog::{Checkpoint, EventLog, Offset, Stored, Topic, Work, Workspace};
use schemas::codec::Catalogue;
use tempfile::TempDir;

use super::kafka::{fresh, options, with_states};

const PATIENCE: Duration = Duration::from_millis(400);
/// Longer than anything here takes, on a machine that does a hundred other things.
const LONG: Duration = Duration::from_secs(20);

struct Both {
    options: Options,
    owner: Arc<Kafka>,
    standby: Standby,
    _states: TempDir,
}

impl Both {
    async fn new() -> Self {
        let options = options();
        let owner = fresh(&options).await;
        let records = (0..20).map(|n| appending(0, "p", format!("{n}"))).collect();
        owner.append(Topic::Journal, records).await.expect("appended");
        let states = tempfile::tempdir().expect("a directory");
        let other = with_states(&options, &states).await;
        let standby = Standby::new(other, PATIENCE, Arc::new(Catalogue::builtin()));
        Self {
            options,
            owner,
            standby,
            _states: states,
        }
    }

    fn work(&self, journal: std::ops::Range<Offset>) -> Work {
        let incarnation = self.owner.layout().incarnation;
        Work {
            reached: journal.end,
            outputs: journal
                .map(|offset| conclusion(incarnation, offset, "p", 0, "s"))
                .collect(),
            checkpoint: None,
        }
    }

    /// How many records the output topic holds, repeats and all, and how many a reader sees.
    async fn held(&self) -> (usize, usize) {
        (self.end().await, seen(&*self.owner, Topic::Devices, 0).await.len())
    }

    async fn end(&self) -> usize {
        let bounds = self.owner.bounds(Topic::Devices, 0).await.expect("bounds");
        usize::try_from(bounds.end).expect("few")
    }

    async fn until(&self, count: usize) {
        let there = async {
            while self.held().await.1 < count {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(LONG, there).await.expect("it is said in time");
    }

    /// Nothing comes for much longer than a standby waits.
    async fn quiet(&self, count: usize) {
        let next = self.owner.bounds(Topic::Devices, 0).await.expect("bounds").end;
        let came = tokio::time::timeout(4 * PATIENCE, self.owner.wait(Topic::Devices, 0, next)).await;
        assert!(came.is_err(), "somebody speaks");
        assert_eq!(self.held().await, (count, count));
    }
}

async fn claim(log: &dyn EventLog) -> Box<dyn Workspace> {
    log.claim("suite@1", Topic::Devices, 0).await.expect("claimed")
}

fn state(applied: Offset, text: &'static str) -> Stored {
    Stored {
        applied,
        value: Some(Bytes::from_static(text.as_bytes())),
    }
}

fn checkpoint(position: Offset, states: &[(&str, Stored)]) -> Option<Checkpoint> {
    let states = states
        .iter()
        .map(|(key, stored)| ((*key).into(), stored.clone()))
        .collect();
    Some(Checkpoint {
        states,
        position,
        context: Bytes::new(),
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_says_what_is_left_unsaid_and_only_that() {
    let both = Both::new().await;
    let (mut owner, mut standby) = (claim(&*both.owner).await, claim(&both.standby).await);
    for journal in [0..2, 2..4] {
        standby.commit(both.work(journal.clone())).await.expect("kept");
        owner.commit(both.work(journal)).await.expect("committed");
    }
    both.quiet(4).await;
    // The owner dies with something unsaid.
    standby.commit(both.work(4..7)).await.expect("kept");
    both.until(7).await;
    assert_eq!(both.held().await, (7, 7), "nothing twice");
    // Now it speaks at once.
    standby.commit(both.work(7..8)).await.expect("committed");
    assert_eq!(both.end().await, 8);
    both.until(8).await;
    // The owner was only paused: what it says is true, and a repeat. From then on the other one is silent again.
    owner.commit(both.work(4..8)).await.expect("committed");
    assert!(both.end().await > 8, "it did not know");
    owner.commit(both.work(8..9)).await.expect("committed");
    both.until(9).await;
    assert_eq!(both.held().await.1, 9, "each once");
    let silent = async {
        let mut next = 9;
        loop {
            // As soon as it has heard of the owner it keeps things to itself.
            let before = both.end().await;
            standby
                .commit(both.work(next..next + 1))
                .await
                .expect("committed or kept");
            let after = both.end().await;
            owner.commit(both.work(next..next + 1)).await.expect("committed");
            next += 1;
            if before == after || next == 19 {
                return next;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let next = silent.await;
    assert!(next < 19, "it never fell silent");
    // And speaks again, should it have to.
    standby.commit(both.work(next..next + 1)).await.expect("kept");
    both.until(usize::try_from(next + 1).expect("few")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_standby_saves_stands_for_all_that_the_dead_owner_had_not_saved() {
    let both = Both::new().await;
    let (mut owner, mut standby) = (claim(&*both.owner).await, claim(&both.standby).await);
    // Saved by the owner: a, b. Changed since, and never saved: a, c; b is removed.
    let saved = [("a", state(0, "one")), ("b", state(1, "two"))];
    let work = |checkpoint, journal| Work {
        checkpoint,
        ..both.work(journal)
    };
    owner
        .commit(work(checkpoint(2, &saved), 0..2))
        .await
        .expect("committed");
    standby.commit(work(checkpoint(2, &saved), 0..2)).await.expect("kept");
    let gone = Stored {
        applied: 3,
        value: None,
    };
    let changed = [("a", state(2, "three")), ("b", gone), ("c", state(3, "four"))];
    standby.commit(work(checkpoint(5, &changed), 2..5)).await.expect("kept");
    both.until(5).await;
    // It saves no position before it knows what else is to be saved.
    let position = async {
        for next in 5..20 {
            let states = [("d", state(next, "five"))];
            standby
                .commit(work(checkpoint(next + 1, &states), next..next + 1))
                .await
                .expect("committed");
            let reader = Kafka::open(both.options.clone()).await.expect("a third process");
            let place = claim(&*reader).await;
            if place.position() > 2 {
                return (place.position(), place.shelf());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("it never saves");
    };
    let (position, shelf) = position.await;
    let mut states = Vec::new();
    shelf
        .visit(&mut |key, stored| states.push((key.to_owned(), stored)))
        .expect("visited");
    let expected = [
        ("a", state(2, "three")),
        ("c", state(3, "four")),
        ("d", state(position - 1, "five")),
    ];
    assert_eq!(states, expected.map(|(key, stored)| (key.to_owned(), stored)));
    let said: BTreeSet<_> = seen(&*both.owner, Topic::Devices, 0)
        .await
        .into_iter()
        .map(|seen| seen.0)
        .collect();
    assert_eq!(said, (0..position).collect());
}
