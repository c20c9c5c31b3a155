//! The embedded home when its disk fails or loses its power: it stops acknowledging, and what it did acknowledge stays.

use std::sync::Arc;

use eventlog::conformance::{appending, conclusion, everything, seen};
use eventlog::embedded::{Embedded, SimDisk, Trouble};
use eventlog::prng::Prng;
use eventlog::{Checkpoint, EventLog, LogError, ManualClock, Offset, Stored, Topic, Work};

use crate::harness::options;

fn open(disk: &SimDisk) -> Arc<Embedded> {
    Embedded::on_disk(disk, options(), Arc::<ManualClock>::default()).expect("the log opens")
}

/// What an append of `n` puts into both partitions, atomically.
fn pair(n: usize) -> Vec<eventlog::Append> {
    vec![
        appending(0, "p", format!("{n}")),
        appending(1, "p", format!("{n}")),
        appending(0, "q", format!("{n}")),
    ]
}

#[tokio::test]
async fn after_any_trouble_at_any_commit_what_was_acknowledged_is_there_and_nothing_is_half_there() {
    for trouble in Trouble::ALL {
        for at in 0..6 {
            let disk = SimDisk::new();
            let log = open(&disk);
            disk.trouble_after(at, trouble);
            let mut acknowledged = 0;
            for n in 0..8 {
                match log.append(Topic::Journal, pair(n)).await {
                    Ok(offsets) => {
                        let n = n as Offset;
                        assert_eq!((acknowledged, offsets), (n as usize, vec![2 * n, n, 2 * n + 1]));
                        acknowledged += 1;
                    }
                    Err(LogError::Full(_)) => assert_eq!(trouble, Trouble::FullOnWrite),
                    Err(LogError::Unavailable(_)) => assert_ne!(trouble, Trouble::FullOnWrite),
                    Err(error) => panic!("{error}"),
                }
            }
            assert_eq!(acknowledged as u64, at, "nothing is acknowledged after {trouble:?}");
            assert!(
                log.wait(Topic::Journal, 1, at as Offset).await.is_err(),
                "who waits is told"
            );
            assert!(log.claim("suite", Topic::Devices, 0).await.is_err());
            drop(log);
            let log = open(&disk.power_cycle(&mut Prng::new(at)));
            let [first, second] = [0, 1].map(|partition| everything_of(&log, partition));
            let (first, second) = (first.await, second.await);
            assert!(
                second.len() >= acknowledged && second.len() <= acknowledged + 1,
                "{trouble:?} at {at}"
            );
            assert_eq!(
                first.len(),
                2 * second.len(),
                "{trouble:?} at {at}: all of an append or nothing"
            );
        }
    }
}

async fn everything_of(log: &Arc<Embedded>, partition: u16) -> Vec<eventlog::Entry> {
    everything(&**log, Topic::Journal, partition).await
}

#[tokio::test]
async fn outputs_states_and_position_are_there_together_or_not_at_all() {
    for trouble in Trouble::ALL {
        for at in 1..8 {
            let disk = SimDisk::new();
            let log = open(&disk);
            log.append(Topic::Journal, (0..10).map(|_| appending(0, "p", "x")).collect())
                .await
                .expect("appended");
            disk.trouble_after(at, trouble);
            let mut place = log.claim("suite", Topic::Devices, 0).await.expect("claimed");
            let mut done = 0;
            for offset in 0..10 {
                if place.commit(step(&*log, offset)).await.is_err() {
                    break;
                }
                done = offset + 1;
            }
            assert!(
                place.commit(Work::default()).await.is_err(),
                "nothing more after an error"
            );
            drop((place, log));
            let log = open(&disk.power_cycle(&mut Prng::new(at)));
            let place = log.claim("suite", Topic::Devices, 0).await.expect("claimed");
            let position = place.position();
            assert!(
                position == done || position == done + 1,
                "{trouble:?} at {at}: {position}"
            );
            assert_eq!(place.last_origin().map_or(0, |o| o.offset + 1), position);
            assert_eq!(seen(&*log, Topic::Devices, 0).await.len() as Offset, position);
            let state = place.shelf().get("k").expect("readable");
            assert_eq!(state.map_or(0, |s| s.applied + 1), position);
            assert_eq!(log.reached(Topic::Devices, 0).await.expect("known").journal, position);
        }
    }
}

fn step(log: &dyn EventLog, offset: Offset) -> Work {
    let stored = Stored {
        applied: offset,
        value: Some("state".into()),
    };
    Work {
        outputs: vec![conclusion(log.layout().incarnation, offset, "k", 0, "s")],
        reached: offset + 1,
        checkpoint: Some(Checkpoint {
            states: vec![("k".into(), stored)],
            position: offset + 1,
            context: "c".into(),
        }),
    }
}

#[tokio::test]
async fn readers_go_on_with_what_is_durable_when_the_disk_takes_nothing_more() {
    let disk = SimDisk::new();
    let log = open(&disk);
    log.append(Topic::Journal, pair(0)).await.expect("appended");
    disk.trouble_after(0, Trouble::ErrorOnSync);
    assert!(log.append(Topic::Journal, pair(1)).await.is_err());
    let commits = disk.commits();
    assert!(log.append(Topic::Journal, pair(2)).await.is_err());
    assert_eq!(disk.commits(), commits, "a failed sync is never tried again");
    assert_eq!(everything(&*log, Topic::Journal, 0).await.len(), 2);
}
