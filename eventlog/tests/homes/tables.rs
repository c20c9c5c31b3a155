//! Records that have left the journal for fjall's tables.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use eventlog::conformance::{appending, everything};
use eventlog::embedded::{Embedded, Options};
use eventlog::{Append, EventLog, Limit, LogError, ManualClock, Offset, Topic};

use crate::harness::options;

fn open(dir: &Path) -> Result<Arc<Embedded>, LogError> {
    let small = Options {
        memtable_bytes: 1 << 16,
        cache_bytes: 0,
        disk_cache_bytes: 0,
        ..options()
    };
    Embedded::open(dir, small, Arc::<ManualClock>::default())
}

/// Different for each `n`, and not easily compressed.
fn record(n: usize) -> Append {
    let mut chance = eventlog::prng::Prng::new(n as u64);
    let value: Vec<u8> = (0..125).flat_map(|_| chance.next().to_be_bytes()).collect();
    appending((n % 2) as u16, "p", value)
}

const RECORDS: usize = 2000;

/// A log whose records are mostly in tables.
async fn filled() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a folder");
    let log = open(dir.path()).expect("opens");
    for from in (0..RECORDS).step_by(20) {
        let records = (from..from + 20).map(record).collect();
        log.append(Topic::Journal, records).await.expect("appended");
    }
    dir
}

fn tables(dir: &Path, found: &mut Vec<PathBuf>) {
    for file in fs::read_dir(dir).expect("readable") {
        let path = file.expect("a file").path();
        if path.is_dir() {
            tables(&path, found);
        } else if path.parent().is_some_and(|p| p.ends_with("tables")) {
            found.push(path);
        }
    }
}

#[tokio::test]
async fn records_in_tables_are_there_after_a_restart() {
    let dir = filled().await;
    let mut found = Vec::new();
    tables(dir.path(), &mut found);
    assert!(!found.is_empty(), "nothing has left the journal");
    for _ in 0..2 {
        let log = open(dir.path()).expect("opens");
        for partition in 0..2 {
            let all = everything(&*log, Topic::Journal, partition).await;
            let wanted = (0..RECORDS).map(record).filter(|r| r.partition == partition);
            assert!(
                all.iter()
                    .map(|e| &e.value)
                    .eq(wanted.map(|r| r.value).collect::<Vec<_>>().iter())
            );
        }
    }
}

#[tokio::test]
async fn a_damaged_table_is_reported_and_costs_no_other_record() {
    let dir = filled().await;
    let mut found = Vec::new();
    tables(dir.path(), &mut found);
    let largest = found
        .into_iter()
        .max_by_key(|path| fs::metadata(path).map_or(0, |m| m.len()))
        .expect("a table");
    let mut bytes = fs::read(&largest).expect("readable");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
    fs::write(&largest, bytes).expect("written");
    let log = match open(dir.path()) {
        Err(error) => {
            assert!(matches!(error, LogError::Corrupt(_)), "{error}");
            return;
        }
        Ok(log) => log,
    };
    let one = Limit {
        records: 1,
        ..Limit::default()
    };
    let mut damaged = 0;
    for partition in 0..2_u16 {
        for offset in 0..(RECORDS / 2) as Offset {
            match log.read(Topic::Journal, partition, offset, one).await {
                Ok(batch) => {
                    let wanted = record(offset as usize * 2 + usize::from(partition));
                    assert_eq!(
                        (batch.entries()[0].offset, &batch.entries()[0].value),
                        (offset, &wanted.value)
                    );
                }
                Err(LogError::Corrupt(_)) => damaged += 1,
                Err(error) => panic!("{error}"),
            }
        }
    }
    assert!((1..200).contains(&damaged), "{damaged} records cannot be read");
}
