//! How long it takes to carry a log: a million records of 110 bytes, appended a hundred at a time, to another place and
//! back to a directory, read back and compared each time.
//!
//! ```text
//! cargo run --release -p eventlog --features embedded --example move_speed [RECORDS]
//! cargo run --release -p eventlog --features embedded,kafka --example move_speed RECORDS kafka://HOST:PORT/PREFIX
//! ```

use std::sync::Arc;

use bytes::Bytes;
use eventlog::embedded::{self, Embedded, Options};
use eventlog::moving::{Arriving, Carriable, Counters, carry, hand_over};
use eventlog::{Append, Clock, EventLog, LogError, SystemClock, Topic};
use tokio::time::Instant;

const PARTITIONS: usize = 8;
const AT_ONCE: usize = 100;
/// How many callers append at once.
const CALLERS: usize = 64;

fn here() -> (Options, Arc<dyn Clock>) {
    let options = Options {
        partitions: PARTITIONS as u16,
        ..Options::default()
    };
    (options, Arc::new(SystemClock))
}

async fn fill(log: &Arc<Embedded>, records: usize) -> Result<(), LogError> {
    let callers: Vec<_> = (0..CALLERS)
        .map(|caller| {
            let log = Arc::clone(log);
            tokio::spawn(async move {
                for round in 0..records / CALLERS / AT_ONCE {
                    let record = |n: usize| Append {
                        partition: ((caller + n) % PARTITIONS) as u16,
                        key: Bytes::from_static(b"patient-0001"),
                        value: Bytes::from(vec![(caller + round + n) as u8; 98]),
                    };
                    log.append(Topic::Journal, (0..AT_ONCE).map(record).collect()).await?;
                }
                Ok::<_, LogError>(())
            })
        })
        .collect();
    for caller in callers {
        caller.await.map_err(|e| LogError::Unavailable(e.to_string()))??;
    }
    Ok(())
}

async fn timed(what: &str, from: Arc<dyn Carriable>, to: Arc<dyn Arriving>) -> Result<Arc<dyn Carriable>, LogError> {
    let began = Instant::now();
    let (arrived, carried) = carry(Arc::clone(&from), to, Arc::new(Counters::default())).await?;
    hand_over((&*from, "there"), (&*arrived, "here"), false).await?;
    let (records, took) = (
        carried.parts.iter().map(|part| part.sum.records).sum::<u64>(),
        began.elapsed(),
    );
    println!(
        "{what:<24} {records} records in {took:.1?}: {:.0}/s",
        records as f64 / took.as_secs_f64()
    );
    Ok(arrived)
}

#[cfg(feature = "kafka")]
async fn through_kafka(url: &str, from: Arc<dyn Carriable>) -> Result<Arc<dyn Carriable>, LogError> {
    let options = eventlog::kafka::Options::parse(url).map_err(LogError::Misuse)?;
    let to = eventlog::kafka::Arriving::begin(options, from.layout(), "a directory").await?;
    timed("directory to Kafka", from, to).await
}

#[cfg(not(feature = "kafka"))]
async fn through_kafka(_: &str, _: Arc<dyn Carriable>) -> Result<Arc<dyn Carriable>, LogError> {
    Err(LogError::Misuse("built without --features kafka".to_owned()))
}

#[tokio::main]
async fn main() -> Result<(), LogError> {
    let records = std::env::args()
        .nth(1)
        .and_then(|n| n.parse().ok())
        .unwrap_or(1_000_000);
    let dir = std::env::temp_dir().join(format!("fajma-move-{}", std::process::id()));
    let at = |name: &str| dir.join(name);
    let (options, clock) = here();
    let log = Embedded::open(&at("one"), options, clock)?;
    fill(&log, records).await?;
    let began: Arc<dyn Carriable> = log;
    let middle = match std::env::args().nth(2) {
        Some(url) => through_kafka(&url, began).await?,
        None => {
            let to = embedded::Arriving::begin(&at("two"), here(), began.layout(), "one")?;
            timed("directory to directory", began, to).await?
        }
    };
    let back = embedded::Arriving::begin(&at("three"), here(), middle.layout(), "the middle")?;
    timed("and to a directory", middle, back).await?;
    std::fs::remove_dir_all(&dir).map_err(|e| LogError::Unavailable(e.to_string()))
}
