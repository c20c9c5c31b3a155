//! A log that is carried into another home is the same journal there, or it is nothing.

use std::sync::Arc;

use bytes::Bytes;
use eventlog::conformance::{appending, conclusion, everything};
use eventlog::embedded::{self, Embedded, SimDisk, Trouble};
use eventlog::moving::{Arriving, Carriable, Carried, Counters, carry, hand_over};
use eventlog::prng::Prng;
use eventlog::{Checkpoint, Clock, EventLog, LogError, ManualClock, Offset, Standing, Stored, Topic, Work};
use schemas::time::{Span, Timestamp};

use crate::harness::options;

pub(crate) const FROM: &str = "the old place";
pub(crate) const TO: &str = "the new place";

fn clock(clock: &Arc<ManualClock>) -> Arc<dyn Clock> {
    Arc::<ManualClock>::clone(clock)
}

fn on(disk: &SimDisk) -> Result<Arc<Embedded>, LogError> {
    Embedded::on_disk(disk, options(), Arc::<ManualClock>::default())
}

fn stored(applied: Offset, value: &'static str) -> Stored {
    Stored {
        applied,
        value: Some(Bytes::from_static(value.as_bytes())),
    }
}

/// Records in every topic, at moments that Kafka could not tell apart; two places that have saved states, one of them an
/// older version's; one that has said something and saved nothing.
pub(crate) async fn furnish(log: &dyn EventLog, clock: &ManualClock) {
    clock.set(Timestamp(1_700_000_000_000_001));
    for round in 0..20 {
        clock.advance(Span(i64::from(round) * 333));
        let record = |n: u16| appending(n % 2, &format!("p{n}"), format!("{round}.{n}"));
        log.append(Topic::Journal, (0..7).map(record).collect())
            .await
            .expect("appended");
        for topic in [Topic::Rejected, Topic::Audit, Topic::Control] {
            let record = appending(0, "k", format!("{topic:?} {round}"));
            log.append(topic, vec![record]).await.expect("appended");
        }
    }
    let journal = log.layout().incarnation;
    for (place, output, partition, saved) in [
        ("alerts@1", Topic::Alerts, 0, true),
        ("alerts@2", Topic::Alerts, 0, true),
        ("windows@1", Topic::Windows, 1, true),
        ("devices@1", Topic::Devices, 1, false),
    ] {
        let mut place = log.claim(place, output, partition).await.expect("claimed");
        let first = place.last_origin().map_or(3, |last| last.offset + 1);
        let states = vec![
            ("a/1".into(), stored(first, "one")),
            ("b".into(), stored(first + 1, "two")),
        ];
        let work = Work {
            outputs: (first..first + 4)
                .map(|offset| conclusion(journal, offset, "p", 0, "said"))
                .collect(),
            reached: first + 5,
            checkpoint: saved.then(|| Checkpoint {
                states,
                position: first + 2,
                context: Bytes::from_static(b"policy"),
            }),
        };
        place.commit(work).await.expect("committed");
    }
}

/// Whether all that can be read of two logs is the same.
pub(crate) async fn same(one: &dyn Carriable, other: &dyn Carriable) {
    assert_eq!(one.layout(), other.layout(), "the same journal");
    for topic in Topic::ALL {
        for partition in 0..topic.partitions(one.layout().partitions) {
            let (ours, theirs) = (
                everything(one, topic, partition).await,
                everything(other, topic, partition).await,
            );
            if topic == Topic::Control {
                let said = |all: Vec<eventlog::Entry>| {
                    all.into_iter()
                        .map(|e| (e.appended_at, e.key, e.value))
                        .collect::<Vec<_>>()
                };
                assert_eq!(said(ours), said(theirs));
                continue;
            }
            assert_eq!(ours, theirs, "{topic:?}/{partition}");
            let bounds = (one.bounds(topic, partition).await, other.bounds(topic, partition).await);
            assert_eq!(
                bounds.0.expect("bounds"),
                bounds.1.expect("bounds"),
                "{topic:?}/{partition}"
            );
            if topic.is_derived() {
                let saved = (one.saved(topic, partition).await, other.saved(topic, partition).await);
                let (ours, theirs) = (saved.0.expect("saved"), saved.1.expect("saved"));
                assert_eq!(
                    (ours.places, ours.reached, ours.last),
                    (theirs.places, theirs.reached, theirs.last)
                );
            }
        }
    }
}

/// Carries, and hands over.
pub(crate) async fn moved(
    from: Arc<dyn Carriable>,
    to: Arc<dyn Arriving>,
) -> Result<(Arc<dyn Carriable>, Carried), LogError> {
    let (arrived, carried) = carry(Arc::clone(&from), to, Arc::new(Counters::default())).await?;
    hand_over((&*from, FROM), (&*arrived, TO), false).await?;
    Ok((arrived, carried))
}

/// What was carried goes on exactly where it was, and where it was nothing goes on.
pub(crate) async fn goes_on(from: &dyn Carriable, to: &dyn Carriable) {
    assert_eq!(
        (to.standing(), from.standing()),
        (Standing::Serving, Standing::Left { to: TO.to_owned() })
    );
    let record = || vec![appending(1, "p", "after")];
    for topic in [Topic::Journal, Topic::Control] {
        let refused = from.append(topic, record()).await;
        assert!(matches!(refused, Err(LogError::Elsewhere(_))), "{refused:?}");
    }
    assert!(matches!(
        from.claim("alerts@2", Topic::Alerts, 0).await,
        Err(LogError::Elsewhere(_))
    ));
    let end = from.bounds(Topic::Journal, 1).await.expect("bounds").end;
    assert_eq!(to.append(Topic::Journal, record()).await.expect("appended"), [end]);

    let mut place = to.claim("alerts@2", Topic::Alerts, 0).await.expect("claimed");
    let last = place.last_origin().cloned().expect("it has spoken");
    assert_eq!((place.position(), &place.context()[..]), (9, &b"policy"[..]));
    let mut states = Vec::new();
    place
        .shelf()
        .visit(&mut |key, stored| states.push((key.to_owned(), stored)))
        .expect("states");
    assert_eq!(
        states.iter().map(|(key, _)| key.as_str()).collect::<Vec<_>>(),
        ["a/1", "b"]
    );
    let end = to.bounds(Topic::Alerts, 0).await.expect("bounds").end;
    let outputs = [last.offset, last.offset + 1].map(|offset| conclusion(last.incarnation, offset, "p", 0, "said"));
    let work = Work {
        outputs: outputs.into(),
        reached: last.offset + 2,
        checkpoint: None,
    };
    place
        .commit(work)
        .await
        .expect("a repeat is passed over, what is new is said");
    assert_eq!(to.bounds(Topic::Alerts, 0).await.expect("bounds").end, end + 1);
}

#[tokio::test]
async fn a_log_in_another_directory_is_the_same_and_goes_on_there_alone() {
    let (here, there, time) = (
        tempfile::tempdir().expect("a"),
        tempfile::tempdir().expect("b"),
        Arc::default(),
    );
    let from = Embedded::open(here.path(), options(), clock(&time)).expect("opens");
    furnish(&*from, &time).await;
    let to = embedded::Arriving::begin(there.path(), (options(), clock(&time)), from.layout(), FROM).expect("begins");
    let (arrived, carried) = moved(Arc::<Embedded>::clone(&from), to).await.expect("moved");
    same(&*from, &*arrived).await;
    assert_eq!(carried.states, 6);
    goes_on(&*from, &*arrived).await;

    // Both know it after a restart.
    drop((from, arrived));
    let again = |dir: &tempfile::TempDir| Embedded::open(dir.path(), options(), clock(&time)).expect("opens");
    assert_eq!(again(&here).standing(), Standing::Left { to: TO.to_owned() });
    assert_eq!(again(&there).standing(), Standing::Serving);
    // Where there is a log nothing arrives.
    let layout = again(&here).layout();
    for dir in [&here, &there] {
        let refused = embedded::Arriving::begin(dir.path(), (options(), clock(&time)), layout, FROM);
        assert!(matches!(refused, Err(LogError::Elsewhere(_))), "{refused:?}");
    }
}

#[tokio::test]
async fn what_retention_has_left_keeps_its_offsets() {
    let (from, _dir) = retained().await;
    let start = from.bounds(Topic::Journal, 0).await.expect("bounds").start;
    assert!(start > 0, "the beginning is gone");
    let disk = SimDisk::of_lot(77);
    let to = embedded::Arriving::on_disk(&disk, (options(), Arc::<ManualClock>::default()), from.layout(), FROM);
    let (arrived, _) = moved(Arc::<Embedded>::clone(&from), to.expect("begins"))
        .await
        .expect("moved");
    same(&*from, &*arrived).await;
}

/// A log that has let go of the beginning of its partitions.
pub(crate) async fn retained() -> (Arc<Embedded>, tempfile::TempDir) {
    let (dir, time) = (tempfile::tempdir().expect("a folder"), Arc::<ManualClock>::default());
    let young = embedded::Options {
        retention_age: Some(Span::seconds(60)),
        ..options()
    };
    let log = Embedded::open(dir.path(), young, clock(&time)).expect("opens");
    for round in 0..5 {
        let record = |n: u16| appending(n % 2, "p", format!("{round}.{n}"));
        log.append(Topic::Journal, (0..40).map(record).collect())
            .await
            .expect("appended");
        let refused = appending(1, "d", "refused");
        log.append(Topic::Rejected, vec![refused]).await.expect("appended");
        time.advance(Span::seconds(30));
    }
    log.retain().await.expect("retained");
    (log, dir)
}

#[tokio::test]
async fn a_move_that_breaks_off_anywhere_leaves_the_source_as_it_was_and_is_begun_anew() {
    let source = SimDisk::of_lot(1);
    let time = Arc::<ManualClock>::default();
    let from = Embedded::on_disk(&source, options(), clock(&time)).expect("opens");
    furnish(&*from, &time).await;
    let whole = SimDisk::of_lot(2);
    let arriving = |disk: &SimDisk| embedded::Arriving::on_disk(disk, (options(), clock(&time)), from.layout(), FROM);
    moved_as_copy(&from, arriving(&whole).expect("begins"))
        .await
        .expect("carried");
    let commits = whole.commits();
    assert!(commits > 10, "{commits}");
    for trouble in Trouble::ALL {
        for at in 0..commits {
            let mut disk = SimDisk::of_lot(3);
            disk.trouble_after(at, trouble);
            let broken = match arriving(&disk) {
                Ok(to) => moved_as_copy(&from, to).await.err(),
                Err(error) => Some(error),
            };
            assert!(broken.is_some(), "{trouble:?} at {at} is told");
            disk = disk.power_cycle(&mut Prng::new(at));
            assert_eq!(from.standing(), Standing::Serving);
            // Nothing, half, or (where only the word was lost) all of it: never half of it as if it were all.
            match on(&disk) {
                Err(LogError::Elsewhere(why)) => assert!(why.contains("run the same fajma migrate again"), "{why}"),
                Err(error) => panic!("{trouble:?} at {at}: {error}"),
                Ok(log) if log.layout().incarnation == from.layout().incarnation => {
                    assert_eq!(at, commits - 1, "whole before the last word");
                    same(&*from, &*log).await;
                    continue;
                }
                // Nothing of it was there: it was made as a new log just now.
                Ok(_) => continue,
            }
            let again = arriving(&disk).unwrap_or_else(|e| panic!("{trouble:?} at {at}: {e}"));
            let (arrived, _) = moved_as_copy(&from, again).await.expect("the second time");
            same(&*from, &*arrived).await;
        }
    }
}

/// Carries, and leaves the source serving.
async fn moved_as_copy(from: &Arc<Embedded>, to: Arc<dyn Arriving>) -> Result<(Arc<dyn Carriable>, Carried), LogError> {
    let from: Arc<dyn Carriable> = Arc::<Embedded>::clone(from);
    let (arrived, carried) = carry(Arc::clone(&from), to, Arc::new(Counters::default())).await?;
    hand_over((&*from, FROM), (&*arrived, TO), true).await?;
    assert_eq!(arrived.standing(), Standing::Copy { of: FROM.to_owned() });
    Ok((arrived, carried))
}

#[tokio::test]
async fn repeats_that_came_along_from_kafka_do_not_confuse_who_goes_on() {
    let time = Arc::<ManualClock>::default();
    let from = Embedded::on_disk(&SimDisk::of_lot(1), options(), clock(&time)).expect("opens");
    furnish(&*from, &time).await;
    let to = embedded::Arriving::on_disk(&SimDisk::of_lot(2), (options(), clock(&time)), from.layout(), FROM);
    let to = to.expect("begins");
    let journal = from
        .read(Topic::Journal, 0, 0, eventlog::Limit::default())
        .await
        .expect("read");
    to.put(Topic::Journal, 0, journal.entries()).await.expect("put");
    let said = |offset| conclusion(from.layout().incarnation, offset, "p", 0, "said");
    let repeats = [3, 4, 5, 4, 5, 6, 5].map(said);
    let entry = |(offset, output): (usize, &eventlog::Output)| eventlog::Entry {
        offset: offset as Offset,
        appended_at: Timestamp(9),
        key: output.key.clone(),
        value: output.value.clone(),
    };
    let entries: Vec<_> = repeats.iter().enumerate().map(entry).collect();
    to.put(Topic::Alerts, 0, &entries).await.expect("put");
    let mut saved = from.saved(Topic::Alerts, 0).await.expect("saved");
    saved.last = Some(said(6).origin);
    to.save(Topic::Alerts, 0, saved).await.expect("saved");
    let log = to.open().await.expect("opens");
    log.stand(Standing::Serving).await.expect("stands");
    let mut place = log.claim("alerts@2", Topic::Alerts, 0).await.expect("claimed");
    let work = Work {
        outputs: (3..8).map(said).collect(),
        reached: 8,
        checkpoint: None,
    };
    place.commit(work).await.expect("repeats are as they were");
    assert_eq!(log.bounds(Topic::Alerts, 0).await.expect("bounds").end, 8, "one is new");
}

#[tokio::test]
async fn half_a_log_of_another_journal_is_not_cleared_away() {
    let time = Arc::<ManualClock>::default();
    let [one, other] =
        [1, 2].map(|lot| Embedded::on_disk(&SimDisk::of_lot(lot), options(), clock(&time)).expect("opens"));
    let disk = SimDisk::of_lot(3);
    let arriving = |log: &Embedded| embedded::Arriving::on_disk(&disk, (options(), clock(&time)), log.layout(), FROM);
    drop(arriving(&one).expect("begins"));
    assert!(matches!(arriving(&other), Err(LogError::Elsewhere(_))));
    assert!(arriving(&one).is_ok());
}

#[tokio::test]
async fn a_source_that_is_written_to_meanwhile_is_told() {
    #[derive(Debug)]
    struct Meddling(Arc<dyn Arriving>, Arc<Embedded>);
    #[async_trait::async_trait]
    impl Arriving for Meddling {
        async fn begin(&self, topic: Topic, partition: u16, start: Offset) -> Result<(), LogError> {
            self.0.begin(topic, partition, start).await
        }
        async fn put(&self, topic: Topic, partition: u16, entries: &[eventlog::Entry]) -> Result<(), LogError> {
            self.1.append(Topic::Journal, vec![appending(0, "p", "late")]).await?;
            self.0.put(topic, partition, entries).await
        }
        async fn save(&self, output: Topic, partition: u16, saved: eventlog::moving::Saved) -> Result<(), LogError> {
            self.0.save(output, partition, saved).await
        }
        async fn open(self: Arc<Self>) -> Result<Arc<dyn Carriable>, LogError> {
            Arc::clone(&self.0).open().await
        }
    }
    let time = Arc::<ManualClock>::default();
    let from = Embedded::on_disk(&SimDisk::of_lot(1), options(), clock(&time)).expect("opens");
    furnish(&*from, &time).await;
    let to = embedded::Arriving::on_disk(&SimDisk::of_lot(2), (options(), clock(&time)), from.layout(), FROM);
    let meddling = Arc::new(Meddling(to.expect("begins"), Arc::clone(&from)));
    let told = moved(from, meddling).await.map(|_| ()).expect_err("it has changed");
    assert!(told.to_string().contains("stop all that writes to it first"), "{told}");
}
