//! Promises about processors' places: claiming, committing, progress.

use bytes::Bytes;
use schemas::ids::EventId;

use super::support::{Harness, Seen, claim, commit, conclusion, fill, seen};
use crate::{Checkpoint, EventLog, LogError, Offset, Output, Shelf, Stored, Topic, Work};

/// The place most of these promises are about.
const HERE: (&str, Topic, u16) = ("suite", Topic::Devices, 0);

fn state(applied: Offset, value: &'static str) -> Stored {
    Stored {
        applied,
        value: Some(Bytes::from_static(value.as_bytes())),
    }
}

fn checkpoint(position: Offset, states: Vec<(&str, Stored)>) -> Checkpoint {
    Checkpoint {
        states: states.into_iter().map(|(key, stored)| (key.into(), stored)).collect(),
        position,
        context: Bytes::from(format!("context at {position}")),
    }
}

/// What the suite's processor concludes from the record at `offset`: two keys, in byte order.
fn concluded(log: &dyn EventLog, offset: Offset) -> [Output; 2] {
    let journal = log.layout().incarnation;
    ["a", "b"].map(|key| conclusion(journal, offset, key, 0, &format!("{key}-{offset}")))
}

fn truth(until: Offset) -> Vec<Seen> {
    let at = |offset| ["a", "b"].map(|key: &str| (offset, key.to_owned(), 0, format!("{key}-{offset}")));
    (0..until).flat_map(at).collect()
}

/// The work of processing `from..until`.
fn work(log: &dyn EventLog, from: Offset, until: Offset) -> Work {
    Work {
        outputs: (from..until).flat_map(|offset| concluded(log, offset)).collect(),
        reached: until,
        checkpoint: None,
    }
}

fn present(shelf: &dyn Shelf, key: &str) -> Option<Stored> {
    let found = shelf.get(key).unwrap_or_else(|e| panic!("{e}"));
    found.filter(|stored| stored.value.is_some())
}

/// Nothing is there before anything was committed.
pub async fn a_new_place_is_empty_at_the_start<H: Harness>(h: &mut H) {
    let log = h.log();
    let place = claim(&*log, HERE.0, HERE.1, HERE.2).await;
    assert_eq!((place.position(), place.last_origin()), (0, None));
    assert!(place.context().is_empty());
    assert_eq!(present(&*place.shelf(), "a"), None);
    let reached = log.reached(HERE.1, HERE.2).await.map(|r| (r.journal, r.end));
    assert_eq!(reached.ok(), Some((0, 0)));
}

/// States, position and context are there for the next owner, after a crash too.
pub async fn a_checkpoint_is_found_by_the_next_owner<H: Harness>(h: &mut H) {
    let log = h.log();
    fill(&*log, 0, 10).await;
    let mut place = claim(&*log, HERE.0, HERE.1, HERE.2).await;
    let first = || Work {
        checkpoint: Some(checkpoint(4, vec![("a", state(3, "three")), ("b", state(2, "two"))])),
        ..work(&*log, 0, 4)
    };
    commit(&*log, &mut place, HERE, first).await;
    let second = || Work {
        checkpoint: Some(checkpoint(6, vec![("a", state(5, "five"))])),
        ..work(&*log, 4, 6)
    };
    commit(&*log, &mut place, HERE, second).await;
    let next = claim(&*log, HERE.0, HERE.1, HERE.2).await;
    assert_eq!((next.position(), &next.context()[..]), (6, &b"context at 6"[..]));
    let shelf = next.shelf();
    assert_eq!(present(&*shelf, "a"), Some(state(5, "five")));
    assert_eq!(present(&*shelf, "b"), Some(state(2, "two")));
    let last = next.last_origin().map(|o| (o.offset, o.key.to_string()));
    assert_eq!(last, Some((5, "b".to_owned())));
    drop((next, shelf));
    drop((place, log));
    h.restart().await;
    let log = h.log();
    let next = claim(&*log, HERE.0, HERE.1, HERE.2).await;
    assert_eq!(next.position(), 6);
    assert_eq!(present(&*next.shelf(), "a"), Some(state(5, "five")));
    assert_eq!(next.last_origin().map(|o| o.offset), Some(5));
}

/// A shelf that an owner holds shows that owner's own later checkpoints: what it lets go of memory it finds there.
pub async fn a_shelf_shows_the_last_checkpoint_of_its_owner<H: Harness>(h: &mut H) {
    let log = h.log();
    fill(&*log, 0, 10).await;
    let mut place = claim(&*log, HERE.0, HERE.1, HERE.2).await;
    let mut shelf = place.shelf();
    for (offset, value) in [(0, "zero"), (1, "one"), (2, "two")] {
        let saved = state(offset, value);
        let committed = place.commit(Work {
            checkpoint: Some(checkpoint(offset + 1, vec![("a", saved.clone())])),
            ..work(&*log, offset, offset + 1)
        });
        if committed.await.is_ok() {
            assert_eq!(present(&*shelf, "a"), Some(saved));
        } else {
            place = claim(&*log, HERE.0, HERE.1, HERE.2).await;
            shelf = place.shelf();
        }
    }
}

/// Versions of one processor, named `name@version`, have places of their own and write one output after the other.
pub async fn a_new_version_goes_on_where_the_old_one_ended<H: Harness>(h: &mut H) {
    let log = h.log();
    fill(&*log, 0, 6).await;
    let [old, new] = ["suite@1", "suite@2"].map(|version| (version, HERE.1, HERE.2));
    let mut first = claim(&*log, old.0, old.1, old.2).await;
    commit(&*log, &mut first, old, || Work {
        checkpoint: Some(checkpoint(3, vec![("a", state(2, "old"))])),
        ..work(&*log, 0, 3)
    })
    .await;
    let mut next = claim(&*log, new.0, new.1, new.2).await;
    assert_eq!((next.position(), next.last_origin().map(|o| o.offset)), (0, Some(2)));
    assert_eq!(present(&*next.shelf(), "a"), None);
    commit(&*log, &mut next, new, || work(&*log, 3, 6)).await;
    assert_eq!(seen(&*log, HERE.1, HERE.2).await, truth(6));
}

/// A removed state does not come back.
pub async fn a_removed_state_is_gone_for_the_next_owner<H: Harness>(h: &mut H) {
    let log = h.log();
    fill(&*log, 0, 3).await;
    let mut place = claim(&*log, HERE.0, HERE.1, HERE.2).await;
    let gone = Stored {
        applied: 1,
        value: None,
    };
    for (position, stored) in [(1, state(0, "zero")), (2, gone)] {
        let work = || Work {
            checkpoint: Some(checkpoint(position, vec![("a", stored.clone())])),
            ..work(&*log, position - 1, position)
        };
        commit(&*log, &mut place, HERE, work).await;
    }
    drop((place, log));
    h.restart().await;
    let log = h.log();
    let place = claim(&*log, HERE.0, HERE.1, HERE.2).await;
    assert_eq!(present(&*place.shelf(), "a"), None);
}

/// Every state is visited once, in byte order of keys.
pub async fn states_are_visited_in_key_order<H: Harness>(h: &mut H) {
    let log = h.log();
    fill(&*log, 0, 1).await;
    let keys = ["p2", "", "p10", "p1/hr", "p1", "é"];
    let mut place = claim(&*log, HERE.0, HERE.1, HERE.2).await;
    let work = || Work {
        checkpoint: Some(checkpoint(1, keys.iter().map(|key| (*key, state(0, "x"))).collect())),
        ..Work::default()
    };
    commit(&*log, &mut place, HERE, work).await;
    let place = claim(&*log, HERE.0, HERE.1, HERE.2).await;
    let mut visited = Vec::new();
    let done = place
        .shelf()
        .visit(&mut |key, stored| visited.push((key.to_owned(), stored)));
    assert!(done.is_ok());
    let mut sorted = keys;
    sorted.sort_unstable();
    assert_eq!(visited, sorted.map(|key| (key.to_owned(), state(0, "x"))));
}

/// Outputs are readable when the commit returns, in origin order.
pub async fn outputs_can_be_read_once_committed<H: Harness>(h: &mut H) {
    let log = h.log();
    fill(&*log, 0, 4).await;
    let mut place = claim(&*log, HERE.0, HERE.1, HERE.2).await;
    for until in 1..=4 {
        commit(&*log, &mut place, HERE, || work(&*log, until - 1, until)).await;
        assert_eq!(seen(&*log, HERE.1, 0).await, truth(until));
    }
    assert!(log.wait(HERE.1, 0, 0).await.is_ok());
}

/// A crash between outputs and checkpoint: the next owner starts earlier, and readers see each conclusion once.
pub async fn outputs_without_a_checkpoint_are_computed_again_and_seen_once<H: Harness>(h: &mut H) {
    let log = h.log();
    fill(&*log, 0, 6).await;
    let mut place = claim(&*log, HERE.0, HERE.1, HERE.2).await;
    commit(&*log, &mut place, HERE, || work(&*log, 0, 4)).await;
    drop((place, log));
    h.restart().await;
    let log = h.log();
    let mut place = claim(&*log, HERE.0, HERE.1, HERE.2).await;
    assert_eq!(place.position(), 0);
    let last = place.last_origin().map(|o| (o.offset, o.key.to_string()));
    assert_eq!(last, Some((3, "b".to_owned())));
    commit(&*log, &mut place, HERE, || work(&*log, 0, 6)).await;
    assert_eq!(seen(&*log, HERE.1, 0).await, truth(6));
}

/// However often the same is concluded, readers see it once.
pub async fn repeats_are_seen_once<H: Harness>(h: &mut H) {
    let log = h.log();
    fill(&*log, 0, 8).await;
    let mut place = claim(&*log, HERE.0, HERE.1, HERE.2).await;
    for (from, until) in [(0, 3), (0, 3), (1, 5), (4, 5), (0, 8)] {
        commit(&*log, &mut place, HERE, || work(&*log, from, until)).await;
        place = claim(&*log, HERE.0, HERE.1, HERE.2).await;
    }
    assert_eq!(seen(&*log, HERE.1, 0).await, truth(8));
}

/// An owner that was paused and writes late is refused, or what it writes changes nothing.
pub async fn a_late_owner_does_no_harm<H: Harness>(h: &mut H) {
    let log = h.log();
    fill(&*log, 0, 6).await;
    let mut late = claim(&*log, HERE.0, HERE.1, HERE.2).await;
    commit(&*log, &mut late, HERE, || work(&*log, 0, 1)).await;
    let mut owner = claim(&*log, HERE.0, HERE.1, HERE.2).await;
    let further = || Work {
        checkpoint: Some(checkpoint(5, vec![("a", state(4, "four"))])),
        ..work(&*log, 0, 5)
    };
    commit(&*log, &mut owner, HERE, further).await;
    let old = Work {
        checkpoint: Some(checkpoint(3, vec![("a", state(2, "two"))])),
        ..work(&*log, 1, 3)
    };
    match late.commit(old).await {
        Ok(()) | Err(LogError::Fenced | LogError::Unavailable(_)) => {}
        Err(error) => panic!("a late owner: {error}"),
    }
    drop(late.commit(Work::default()).await);
    assert_eq!(seen(&*log, HERE.1, 0).await, truth(5));
    let next = claim(&*log, HERE.0, HERE.1, HERE.2).await;
    assert_eq!((next.position(), &next.context()[..]), (5, &b"context at 5"[..]));
    assert_eq!(present(&*next.shelf(), "a"), Some(state(4, "four")));
}

/// Progress grows with every commit, says what can be read, and after a crash promises no more than is there.
pub async fn progress_only_grows_and_never_promises_too_much<H: Harness>(h: &mut H) {
    let log = h.log();
    fill(&*log, 0, 9).await;
    let mut place = claim(&*log, HERE.0, HERE.1, HERE.2).await;
    let mut before = 0;
    for (from, until) in [(0, 3), (3, 3), (3, 7)] {
        commit(&*log, &mut place, HERE, || work(&*log, from, until)).await;
        let Ok(reached) = log.reached(HERE.1, 0).await else {
            panic!("progress is not known");
        };
        assert!(reached.journal >= before && reached.journal <= until);
        let end = log.bounds(HERE.1, 0).await.map_or(-1, |b| b.end);
        assert!(reached.end <= end);
        before = reached.journal;
    }
    assert_eq!(before, 7);
    // A stretch without conclusions is progress too.
    let quiet = || Work {
        reached: 8,
        ..Work::default()
    };
    commit(&*log, &mut place, HERE, quiet).await;
    assert_eq!(log.reached(HERE.1, 0).await.map(|r| r.journal).ok(), Some(8));
    drop((place, log));
    h.restart().await;
    let log = h.log();
    let reached = log.reached(HERE.1, 0).await.map_or(Offset::MAX, |r| r.journal);
    assert!(reached <= 8);
    let written = seen(&*log, HERE.1, 0).await;
    assert_eq!(written, truth(7), "what progress says has had its effect is there");
}

/// Outputs are of this journal and in origin order, or nothing is written.
pub async fn outputs_of_another_journal_or_out_of_order_are_refused<H: Harness>(h: &mut H) {
    let log = h.log();
    fill(&*log, 0, 2).await;
    let foreign = [conclusion(EventId([9; 16]), 0, "a", 0, "a-0")];
    let refused = refusal(&*log, &foreign).await;
    assert!(matches!(refused, LogError::OtherIncarnation { .. }), "{refused:?}");
    for order in [[1, 0], [0, 0]] {
        let outputs = order.map(|offset| conclusion(log.layout().incarnation, offset, "a", 0, "x"));
        let refused = refusal(&*log, &outputs).await;
        assert!(matches!(refused, LogError::Misuse(_)), "{refused:?}");
    }
    assert!(seen(&*log, HERE.1, 0).await.is_empty());
}

/// Why `outputs` are not taken, by an owner that has just claimed the place.
async fn refusal(log: &dyn EventLog, outputs: &[Output]) -> LogError {
    for _ in 0..100 {
        let work = Work {
            outputs: outputs.to_vec(),
            reached: 2,
            checkpoint: None,
        };
        match claim(log, HERE.0, HERE.1, HERE.2).await.commit(work).await {
            Ok(()) => panic!("these were to be refused: {outputs:?}"),
            Err(LogError::Unavailable(_)) => {}
            Err(refused) => return refused,
        }
    }
    panic!("the log was not available for a hundred attempts");
}

/// A saved position that the journal does not have stops loudly; nothing resets itself.
pub async fn a_position_beyond_the_journal_stops_loudly<H: Harness>(h: &mut H) {
    let log = h.log();
    fill(&*log, 0, 2).await;
    for _ in 0..100 {
        match log.claim(HERE.0, HERE.1, HERE.2).await {
            Ok(mut place) => {
                let work = Work {
                    checkpoint: Some(checkpoint(1_000_000, Vec::new())),
                    ..Work::default()
                };
                drop(place.commit(work).await);
            }
            Err(LogError::Unavailable(_)) => {}
            Err(refused) => {
                assert!(
                    matches!(refused, LogError::OutOfRange { asked: 1_000_000, .. }),
                    "{refused:?}"
                );
                return;
            }
        }
    }
    panic!("a position that is not there was taken a hundred times");
}

/// Processors and partitions do not see each other's states, positions or outputs.
pub async fn places_of_partitions_and_processors_are_apart<H: Harness>(h: &mut H) {
    let log = h.log();
    let places = [
        ("suite", Topic::Devices, 0),
        ("suite", Topic::Devices, 1),
        ("suit", Topic::Alerts, 0),
    ];
    for (n, place) in places.into_iter().enumerate() {
        let n = n as Offset;
        fill(&*log, place.2, 4).await;
        let mut workspace = claim(&*log, place.0, place.1, place.2).await;
        let work = || Work {
            checkpoint: Some(checkpoint(n + 1, vec![("a", state(n, "x"))])),
            ..work(&*log, 0, n + 1)
        };
        commit(&*log, &mut workspace, place, work).await;
    }
    for (n, (processor, output, partition)) in places.into_iter().enumerate() {
        let n = n as Offset;
        let place = claim(&*log, processor, output, partition).await;
        assert_eq!(place.position(), n + 1);
        assert_eq!(present(&*place.shelf(), "a"), Some(state(n, "x")));
        assert_eq!(seen(&*log, output, partition).await, truth(n + 1));
    }
}
