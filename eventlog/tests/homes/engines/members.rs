//! Members of a group that have names, on a real broker.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use eventlog::LogError;
use eventlog::kafka::{Kafka, Options, Share};

use super::kafka::{fresh, options};

/// Six partitions, and nobody yet who works on them.
async fn ward() -> Options {
    let options = Options {
        partitions: 6,
        ..options()
    };
    fresh(&options).await;
    options
}

async fn member(options: &Options, name: Option<&str>) -> (Arc<Kafka>, Share) {
    let options = Options {
        instance: name.map(str::to_owned),
        ..options.clone()
    };
    let log = Kafka::open(options).await.expect("a process");
    let share = log.share("process", true).expect("a member");
    (log, share)
}

async fn has(share: &mut Share, count: usize) -> BTreeSet<u16> {
    let wait = share.partitions.wait_for(|mine| mine.len() == count);
    let mine = tokio::time::timeout(Duration::from_secs(60), wait).await;
    mine.expect("handed out in time").expect("a member").clone()
}

/// How often the group has handed out to it, once that is as often as this.
async fn handed(share: &Share, times: u64) -> u64 {
    let heard = tokio::time::timeout(Duration::from_secs(60), async {
        while share.handed_out() < times {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    heard.await.expect("handed out in time");
    share.handed_out()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_comes_back_under_its_name_has_its_partitions_and_nobody_elses_change_hands() {
    let ward = ward().await;
    let (_one, mut stays) = member(&ward, Some("one")).await;
    has(&mut stays, 6).await;
    let (mut log, mut goes) = member(&ward, Some("two")).await;
    let (ours, theirs) = (has(&mut stays, 3).await, has(&mut goes, 3).await);
    // All, three taken, nothing new, and nothing new once more when the other has its own: it may hear that last.
    let handed = handed(&stays, 4).await;
    stays.partitions.mark_unchanged();
    for _ in 0..3 {
        // As for the group, it dies: a member with a name takes no leave.
        drop((goes, log));
        (log, goes) = member(&ward, Some("two")).await;
        assert_eq!(has(&mut goes, 3).await, theirs);
        assert_eq!(goes.handed_out(), 1);
    }
    assert_eq!(stays.handed_out(), handed, "the group handed out anew");
    assert!(!stays.partitions.has_changed().expect("a member"));
    assert_eq!(*stays.partitions.borrow(), ours);
    // Without its name it is a new member: the group hands out anew, without taking more than it must.
    let (_third, mut third) = member(&ward, None).await;
    assert_eq!(has(&mut third, 2).await.len(), 2);
    assert!(stays.handed_out() > handed);
    assert!(stays.partitions.borrow().is_subset(&ours), "what stays is kept");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_with_one_name_the_earlier_is_told_and_does_not_come_back() {
    let ward = ward().await;
    let (_one, mut bystander) = member(&ward, Some("one")).await;
    has(&mut bystander, 6).await;
    let (earlier, mut before) = member(&ward, Some("two")).await;
    let (ours, theirs) = (has(&mut bystander, 3).await, has(&mut before, 3).await);
    let (_later, mut after) = member(&ward, Some("two")).await;
    assert_eq!(has(&mut after, 3).await, theirs);
    let told = tokio::time::timeout(Duration::from_secs(60), async {
        while before.partitions.changed().await.is_ok() {}
    });
    told.await.expect("told in time");
    let why = before.why_ended();
    assert!(why.contains("\"two\"") && why.contains("log.instance"), "{why}");
    assert!(matches!(earlier.share("process", true), Err(LogError::Fenced)));
    // In another group nobody has its name.
    let mut elsewhere = earlier.share("project", false).expect("a member");
    has(&mut elsewhere, 6).await;
    assert_eq!(*bystander.partitions.borrow(), ours);
    assert_eq!(*after.partitions.borrow(), theirs);
}
