//! How fast the embedded home appends, and how long a caller waits: records of 110 bytes, every append durable.
//!
//! ```text
//! cargo run --release -p eventlog --features embedded --example append_speed [DIR]
//! ```

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use eventlog::embedded::{Embedded, Options};
use eventlog::{Append, EventLog, LogError, SystemClock, Topic};
use tokio::time::Instant;

/// A reading as Avro, about.
const RECORD: usize = 110;
const PARTITIONS: u16 = 8;

/// A batch for one partition or, if it is large, spread as keys are.
fn batch(caller: usize, round: usize, records: usize) -> Vec<Append> {
    (0..records)
        .map(|i| Append {
            partition: ((caller * 31 + round + i) % usize::from(PARTITIONS)) as u16,
            key: Bytes::from_static(b"patient-0001"),
            value: Bytes::from(vec![(caller + round + i) as u8; RECORD - 12]),
        })
        .collect()
}

async fn measure(log: &Arc<Embedded>, callers: usize, records: usize, lasting: Duration) -> Result<(), LogError> {
    let start = Instant::now();
    let tasks: Vec<_> = (0..callers)
        .map(|caller| {
            let log = Arc::clone(log);
            tokio::spawn(async move {
                let mut waits = Vec::new();
                while start.elapsed() < lasting {
                    let batch = batch(caller, waits.len(), records);
                    let asked = Instant::now();
                    log.append(Topic::Journal, batch).await?;
                    waits.push(asked.elapsed());
                }
                Ok::<_, LogError>(waits)
            })
        })
        .collect();
    let mut waits = Vec::new();
    for task in tasks {
        let done = task.await.map_err(|e| LogError::Unavailable(e.to_string()))?;
        waits.extend(done?);
    }
    let took = start.elapsed().as_secs_f64();
    waits.sort_unstable();
    let at = |percent: usize| waits.get(waits.len() * percent / 100).copied().unwrap_or_default();
    println!(
        "{callers:>3} callers, {records:>3} records each: {:>9.0} records/s, p50 {:>9.3?}, p99 {:>9.3?}, max {:>9.3?}",
        (waits.len() * records) as f64 / took,
        at(50),
        at(99),
        waits.last().copied().unwrap_or_default(),
    );
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), LogError> {
    let dir = std::env::args().nth(1).map_or_else(
        || std::env::temp_dir().join(format!("append_speed.{}", std::process::id())),
        PathBuf::from,
    );
    let options = Options {
        partitions: PARTITIONS,
        ..Options::default()
    };
    let began = Instant::now();
    let log = Embedded::open(&dir, options, Arc::new(SystemClock))?;
    println!("opened in {:.3?}", began.elapsed());
    for (callers, records) in [(1, 1), (1, 100), (64, 1), (64, 100)] {
        measure(&log, callers, records, Duration::from_secs(5)).await?;
    }
    drop(log);
    println!("left in {}", dir.display());
    Ok(())
}
