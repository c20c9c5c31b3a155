//! fjall's journal on a disk that tears what was not synced, and on one that damages what was.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use eventlog::conformance::{appending, everything};
use eventlog::embedded::Embedded;
use eventlog::{EventLog, LogError, ManualClock, Topic};

use crate::harness::options;

fn open(dir: &Path) -> Result<Arc<Embedded>, LogError> {
    Embedded::open(dir, options(), Arc::<ManualClock>::default())
}

fn newest_journal(dir: &Path) -> PathBuf {
    let files = fs::read_dir(dir.join("store"))
        .expect("a store")
        .map(|f| f.expect("a file").path());
    files
        .filter(|path| path.extension().is_some_and(|e| e == "jnl"))
        .max()
        .expect("a journal")
}

/// What was written of a journal: the rest is space kept for later.
fn written(dir: &Path) -> Vec<u8> {
    let mut bytes = fs::read(newest_journal(dir)).expect("readable");
    let used = bytes.iter().rposition(|b| *b != 0).map_or(0, |last| last + 1);
    bytes.truncate(used);
    bytes
}

/// A folder as a crash would leave it, but for the newest journal.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("created");
    for file in fs::read_dir(from).expect("readable") {
        let path = file.expect("a file").path();
        let target = to.join(path.file_name().expect("named"));
        if path.is_dir() {
            copy(&path, &target);
        } else if path.extension().is_none_or(|e| e != "jnl") {
            fs::copy(&path, &target).expect("copied");
        }
    }
}

struct Crashed {
    dir: tempfile::TempDir,
    journal: PathBuf,
    /// The journal, and how much of it was there before the last append.
    bytes: Vec<u8>,
    synced: usize,
}

const BEFORE: usize = 12;

impl Crashed {
    /// A log with some acknowledged appends, and one more that a crash may tear.
    async fn new() -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let log = open(dir.path()).expect("opens");
        for n in 0..BEFORE {
            let records = (0..3)
                .map(|i| appending(i % 2, "p", format!("{n}.{i} {}", "x".repeat(40))))
                .collect();
            log.append(Topic::Journal, records).await.expect("appended");
        }
        let synced = written(dir.path()).len();
        let last = (0..4).map(|i| appending(i % 2, "last", vec![b'y'; 600])).collect();
        log.append(Topic::Journal, last).await.expect("appended");
        let bytes = written(dir.path());
        let journal = newest_journal(dir.path());
        let journal = journal.strip_prefix(dir.path()).expect("inside").to_owned();
        let image = tempfile::tempdir().expect("a folder");
        copy(dir.path(), image.path());
        drop(log);
        Self {
            dir: image,
            journal,
            bytes,
            synced,
        }
    }

    /// The log on a disk that holds this journal.
    fn with(&self, journal: &[u8]) -> (tempfile::TempDir, Result<Arc<Embedded>, LogError>) {
        let dir = tempfile::tempdir().expect("a folder");
        copy(self.dir.path(), dir.path());
        fs::write(dir.path().join(&self.journal), journal).expect("written");
        let log = open(dir.path());
        (dir, log)
    }
}

/// How many of the last append's records are there; all earlier ones must be.
async fn last_records(log: &Arc<Embedded>, what: &str) -> usize {
    let mut last = 0;
    let mut earlier = 0;
    for partition in 0..2 {
        for entry in everything(&**log, Topic::Journal, partition).await {
            if &entry.key[..] == b"last" {
                assert_eq!(entry.value.len(), 600, "{what}");
                last += 1;
            } else {
                earlier += 1;
            }
        }
    }
    assert_eq!(earlier, BEFORE * 3, "{what}: acknowledged records are gone");
    last
}

#[tokio::test]
async fn a_torn_last_append_is_dropped_whole_and_the_log_goes_on() {
    let crashed = Crashed::new().await;
    let end = crashed.bytes.len();
    for cut in (crashed.synced..end)
        .step_by(97)
        .chain([crashed.synced + 1, end - 1, end])
    {
        let torn = crashed.bytes[..cut].to_vec();
        let mut zeros = torn.clone();
        zeros.resize(end + 5000, 0);
        let mut garbage = torn.clone();
        garbage.extend((cut..end + 50).map(|i| (i * 31 % 251) as u8));
        let complete = cut == end;
        for (kind, journal) in [("cut", torn), ("zeros", zeros), ("garbage", garbage)] {
            let what = format!("{kind} from {cut} of {end}");
            let (dir, log) = crashed.with(&journal);
            let log = log.unwrap_or_else(|e| panic!("{what}: {e}"));
            assert_eq!(last_records(&log, &what).await, if complete { 4 } else { 0 }, "{what}");
            log.append(Topic::Journal, vec![appending(0, "p", "again")])
                .await
                .expect("appended");
            drop(log);
            let log = open(dir.path()).unwrap_or_else(|e| panic!("{what}, opened again: {e}"));
            let all = everything(&*log, Topic::Journal, 0).await;
            assert_eq!(all.last().map(|e| &e.value[..]), Some(&b"again"[..]), "{what}");
        }
    }
}

#[tokio::test]
async fn a_flipped_bit_in_what_was_acknowledged_is_reported_and_not_skipped() {
    let crashed = Crashed::new().await;
    for at in (0..crashed.bytes.len()).step_by(61) {
        let mut journal = crashed.bytes.clone();
        journal[at] ^= 0x10;
        journal.resize(journal.len() + 5000, 0);
        let (_dir, log) = crashed.with(&journal);
        match log {
            Err(LogError::Corrupt(_)) => {}
            // The last sequence number, raised: nothing that was appended may have changed.
            Ok(log) => assert_eq!(last_records(&log, &format!("flipped at {at}")).await, 4),
            Err(error) => panic!("flipped at {at}: {error}"),
        }
    }
}

#[tokio::test]
async fn a_journal_cut_in_the_middle_of_what_was_synced_loses_no_later_record_silently() {
    let crashed = Crashed::new().await;
    let mut journal = crashed.bytes.clone();
    journal.drain(100..300);
    let (_dir, log) = crashed.with(&journal);
    assert!(matches!(log, Err(LogError::Corrupt(_))), "{log:?}");
}
