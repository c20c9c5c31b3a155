//! A log that is carried to a real broker and back. Needs one: `FAJMA_TEST_KAFKA=host:port`.

use std::sync::Arc;

use eventlog::embedded::{self, Embedded};
use eventlog::kafka::{self, Kafka};
use eventlog::moving::{Arriving, Carriable, Counters, carry, hand_over};
use eventlog::{Clock, EventLog, LogError, ManualClock, Standing, Topic};
use schemas::time::Timestamp;

use super::kafka::options as topics;
use crate::harness::options;
use crate::moving::{FROM, TO, furnish, goes_on, moved, retained, same};

fn clock(clock: &Arc<ManualClock>) -> Arc<dyn Clock> {
    Arc::<ManualClock>::clone(clock)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_in_kafka_is_the_same_goes_on_there_and_comes_back_the_same() {
    let (here, there, time) = (
        tempfile::tempdir().expect("a"),
        tempfile::tempdir().expect("b"),
        Arc::default(),
    );
    let from = Embedded::open(here.path(), options(), clock(&time)).expect("opens");
    furnish(&*from, &time).await;
    let names = topics();
    let to = kafka::Arriving::begin(names.clone(), from.layout(), FROM)
        .await
        .expect("begins");
    let early = Kafka::open(names.clone()).await.expect_err("it has not arrived");
    assert!(matches!(early, LogError::Elsewhere(_)), "{early}");
    let (arrived, _) = moved(Arc::<Embedded>::clone(&from), to).await.expect("moved");
    same(&*from, &*arrived).await;
    goes_on(&*from, &*arrived).await;
    drop(arrived);

    // As those find it who come later: topics as they should be, moments those of the first append.
    assert_eq!(
        kafka::apply(&names).await.expect("looked at"),
        [],
        "nothing has drifted"
    );
    let log = Kafka::open(names.clone()).await.expect("opens");
    assert_eq!((log.layout(), log.standing()), (from.layout(), Standing::Serving));
    let entries = eventlog::conformance::everything(&*from, Topic::Journal, 0).await;
    let middle = entries[entries.len() / 2].appended_at;
    let of_that_millisecond = Timestamp(middle.0 - middle.0.rem_euclid(1000));
    let found = log
        .offset_at(Topic::Journal, 0, of_that_millisecond)
        .await
        .expect("found");
    let due = entries
        .iter()
        .find(|e| e.appended_at >= of_that_millisecond)
        .expect("there");
    assert_eq!(found, due.offset);
    // Where there is a log nothing arrives.
    let refused = kafka::Arriving::begin(names.clone(), from.layout(), FROM).await;
    assert!(matches!(refused, Err(LogError::Elsewhere(_))), "{refused:?}");

    // Back, as a copy; then for good.
    let back =
        embedded::Arriving::begin(there.path(), (options(), clock(&time)), log.layout(), "Kafka").expect("begins");
    let (from_kafka, back): (Arc<dyn Carriable>, Arc<dyn Arriving>) = (Arc::<Kafka>::clone(&log), back);
    let (copy, _) = carry(from_kafka, back, Arc::new(Counters::default()))
        .await
        .expect("carried");
    hand_over((&*log, "Kafka"), (&*copy, "b"), true)
        .await
        .expect("handed over");
    same(&*log, &*copy).await;
    assert_eq!(
        (log.standing(), copy.standing()),
        (Standing::Serving, Standing::Copy { of: "Kafka".to_owned() })
    );
    // Somebody has it open, and sleeps.
    let idle = Kafka::open(names.clone()).await.expect("opens");
    hand_over((&*log, "Kafka"), (&*copy, TO), false)
        .await
        .expect("handed over");
    goes_on(&*log, &*copy).await;
    tokio::time::timeout(std::time::Duration::from_secs(10), async {
        while idle.standing() == Standing::Serving {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    })
    .await
    .expect("it hears that the log has left");
    let record = eventlog::conformance::appending(0, "p", "too late");
    assert!(matches!(
        idle.append(Topic::Journal, vec![record]).await,
        Err(LogError::Elsewhere(_))
    ));
    drop((log, idle));
    let left = Kafka::open(names).await.expect("opens");
    assert_eq!(left.standing(), Standing::Left { to: TO.to_owned() });
}

#[tokio::test(flavor = "multi_thread")]
async fn what_retention_has_left_keeps_its_offsets_in_kafka() {
    let (from, _dir) = retained().await;
    assert!(
        from.bounds(Topic::Journal, 0).await.expect("bounds").start > 0,
        "the beginning is gone"
    );
    let to = kafka::Arriving::begin(topics(), from.layout(), FROM)
        .await
        .expect("begins");
    let (arrived, _) = moved(Arc::<Embedded>::clone(&from), to).await.expect("moved");
    same(&*from, &*arrived).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_move_to_kafka_that_broke_off_is_begun_anew_and_doubles_nothing() {
    let (dir, time) = (tempfile::tempdir().expect("a"), Arc::default());
    let from = Embedded::open(dir.path(), options(), clock(&time)).expect("opens");
    furnish(&*from, &time).await;
    let names = topics();
    // Half of it, and what is not in the source.
    let half = kafka::Arriving::begin(names.clone(), from.layout(), FROM)
        .await
        .expect("begins");
    let batch = from
        .read(Topic::Journal, 0, 0, eventlog::Limit::default())
        .await
        .expect("read");
    half.begin(Topic::Journal, 0, 0).await.expect("begun");
    half.put(Topic::Journal, 0, &batch.entries()[..10]).await.expect("put");
    drop(half);
    assert!(matches!(Kafka::open(names.clone()).await, Err(LogError::Elsewhere(_))));
    let to = kafka::Arriving::begin(names.clone(), from.layout(), FROM)
        .await
        .expect("begins anew");
    let (arrived, _) = moved(Arc::<Embedded>::clone(&from), to).await.expect("moved");
    same(&*from, &*arrived).await;

    // Topics of a log that somebody uses are never touched.
    let used = topics();
    assert_eq!(kafka::apply(&used).await.expect("made"), []);
    let log = Kafka::open(used.clone()).await.expect("opens");
    log.append(Topic::Journal, vec![eventlog::conformance::appending(0, "p", "x")])
        .await
        .expect("appended");
    let refused = kafka::Arriving::begin(used, from.layout(), FROM).await;
    assert!(matches!(refused, Err(LogError::Elsewhere(_))), "{refused:?}");
    assert_eq!(log.bounds(Topic::Journal, 0).await.expect("bounds").end, 1);
    // Empty ones are made anew.
    let empty = topics();
    assert_eq!(kafka::apply(&empty).await.expect("made"), []);
    let to = kafka::Arriving::begin(empty, from.layout(), FROM)
        .await
        .expect("begins");
    drop(to);
}
