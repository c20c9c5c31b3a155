//! How fast a home appends, commits and is read, and how long a caller waits: records of 110 bytes, everything durable.
//!
//! ```text
//! cargo run --release -p eventlog --features embedded --example log_speed [DIR]
//! cargo run --release -p eventlog --features embedded,kafka --example log_speed kafka://HOST:PORT/PREFIX
//! ```

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use eventlog::embedded::{Embedded, Options};
use eventlog::{Append, Checkpoint, EventLog, Limit, LogError, Output, Stored, SystemClock, Topic, Work, Workspace};
use schemas::derived::{Incarnation, Origin};
use tokio::time::Instant;

/// A reading as Avro, about.
const RECORD: usize = 110;
const PARTITIONS: u16 = 8;
/// A window's state, about.
const STATE: usize = 200;

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

/// The waits of calls, as a line says them.
fn told(mut waits: Vec<Duration>) -> String {
    waits.sort_unstable();
    let at = |percent: usize| waits.get(waits.len() * percent / 100).copied().unwrap_or_default();
    let most = waits.last().copied().unwrap_or_default();
    format!("p50 {:>9.3?}, p99 {:>9.3?}, max {most:>9.3?}", at(50), at(99))
}

async fn appends(log: &Arc<dyn EventLog>, callers: usize, records: usize, lasting: Duration) -> Result<(), LogError> {
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
    let rate = (waits.len() * records) as f64 / start.elapsed().as_secs_f64();
    println!(
        "append  {callers:>3} callers, {records:>3} records each: {rate:>9.0} records/s, {}",
        told(waits)
    );
    Ok(())
}

/// From an append to the moment when somebody who waits has read it.
async fn followed(log: &Arc<dyn EventLog>, rounds: usize) -> Result<(), LogError> {
    let mut waits = Vec::new();
    let mut next = log.bounds(Topic::Journal, 0).await?.end;
    for _ in 0..rounds {
        let follower = Arc::clone(log);
        let follow = tokio::spawn(async move {
            follower.wait(Topic::Journal, 0, next).await?;
            follower.read(Topic::Journal, 0, next, Limit::default()).await
        });
        tokio::time::sleep(Duration::from_millis(3)).await;
        let asked = Instant::now();
        log.append(Topic::Journal, batch(0, 0, 1)).await?;
        let read = follow.await.map_err(|e| LogError::Unavailable(e.to_string()))??;
        waits.push(asked.elapsed());
        next = read.next().unwrap_or(next);
    }
    println!("follow  one record, appended to read: {}", told(waits));
    Ok(())
}

/// Commits of a few conclusions, and of a checkpoint of many states.
async fn commits(
    place: &mut dyn Workspace,
    incarnation: Incarnation,
    rounds: std::ops::Range<i64>,
    states: usize,
) -> Result<(), LogError> {
    let mut waits = Vec::new();
    for round in rounds {
        let outputs = (0..10).map(|n| Output {
            origin: Origin {
                incarnation,
                offset: round,
                key: "k".into(),
                n,
            },
            key: Bytes::from_static(b"patient-0001"),
            value: Bytes::from(vec![7; RECORD]),
        });
        let checkpoint = (states > 0).then(|| Checkpoint {
            states: (0..states)
                .map(|n| {
                    let value = Some(Bytes::from(vec![7; STATE]));
                    (format!("key-{n}").into(), Stored { applied: round, value })
                })
                .collect(),
            position: round + 1,
            context: Bytes::new(),
        });
        let work = Work {
            outputs: if states > 0 { Vec::new() } else { outputs.collect() },
            reached: round + 1,
            checkpoint,
        };
        let asked = Instant::now();
        place.commit(work).await?;
        waits.push(asked.elapsed());
    }
    let what = if states > 0 {
        format!("{states} states")
    } else {
        "10 conclusions".to_owned()
    };
    println!("commit  {what}: {}", told(waits));
    Ok(())
}

/// Reads the whole journal, all partitions at once, so many readers of each.
async fn read(log: &Arc<dyn EventLog>, readers: usize) -> Result<(), LogError> {
    let start = Instant::now();
    let tasks: Vec<_> = (0..usize::from(PARTITIONS) * readers)
        .map(|n| {
            let (log, partition) = (Arc::clone(log), (n % usize::from(PARTITIONS)) as u16);
            tokio::spawn(async move {
                let bounds = log.bounds(Topic::Journal, partition).await?;
                let (mut from, mut records) = (bounds.start, 0);
                while from < bounds.end {
                    let batch = log.read(Topic::Journal, partition, from, Limit::default()).await?;
                    records += batch.entries().len();
                    from = batch.next().unwrap_or(bounds.end);
                }
                Ok::<_, LogError>(records)
            })
        })
        .collect();
    let mut records = 0;
    for task in tasks {
        let done = task.await.map_err(|e| LogError::Unavailable(e.to_string()))?;
        records += done?;
    }
    let rate = records as f64 / start.elapsed().as_secs_f64();
    println!("read    {readers:>3} readers of each partition, from the start: {rate:>9.0} records/s in all");
    Ok(())
}

/// The home at `place`: a folder or, where that is built in, `kafka://…`.
async fn open(place: &str) -> Result<Arc<dyn EventLog>, LogError> {
    #[cfg(feature = "kafka")]
    if place.starts_with("kafka://") {
        let mut options = eventlog::kafka::Options::parse(place).map_err(LogError::Misuse)?;
        options.partitions = PARTITIONS;
        eventlog::kafka::apply(&options).await?;
        let log: Arc<dyn EventLog> = eventlog::kafka::Kafka::open(options).await?;
        return Ok(log);
    }
    let options = Options {
        partitions: PARTITIONS,
        ..Options::default()
    };
    let log: Arc<dyn EventLog> = Embedded::open(&PathBuf::from(place), options, Arc::new(SystemClock))?;
    Ok(log)
}

#[tokio::main]
async fn main() -> Result<(), LogError> {
    let place = std::env::args().nth(1).unwrap_or_else(|| {
        let dir = std::env::temp_dir().join(format!("log_speed.{}", std::process::id()));
        dir.to_string_lossy().into_owned()
    });
    let began = Instant::now();
    let log = open(&place).await?;
    println!("opened in {:.3?}", began.elapsed());
    followed(&log, 300).await?;
    let mut owner = log.claim("speed@1", Topic::Windows, 0).await?;
    let incarnation = log.layout().incarnation;
    commits(&mut *owner, incarnation, 0..300, 0).await?;
    commits(&mut *owner, incarnation, 300..330, 1000).await?;
    drop(owner);
    for (callers, records) in [(1, 1), (1, 100), (64, 1), (64, 100)] {
        appends(&log, callers, records, Duration::from_secs(5)).await?;
    }
    drop(log);
    // What is read now is in no memory of this process.
    let log = open(&place).await?;
    read(&log, 1).await?;
    drop(log);
    let log = open(&place).await?;
    read(&log, 4).await?;
    println!("left in {place}");
    Ok(())
}
