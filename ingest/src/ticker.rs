//! Time as a fact: once a second a tick into every partition of the journal.
//!
//! A clock that is more than two seconds from the log's own would drag recorded time, which only ever grows, to where
//! it cannot come back from. So a ticker compares its clock with the log's after every tick, and stops ticking (but
//! keeps looking) while the two disagree. Its first tick goes into the partitions that it compares by only, as a probe: a
//! tick that is apart from its record's own time counts nowhere. Where others append nothing it probes again now and then.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use eventlog::{Append, Clock, EventLog, Limit, LogError, Offset, Partition, Topic};
use schemas::codec;
use schemas::facts::{ClockTicked, TickedBy};
use schemas::ids::{EventId, Key};
use schemas::journal::{ClockQuality, Envelope, Fact};
use schemas::time::{Span, Timestamp};
use tokio::time::{Instant, MissedTickBehavior, timeout};
use tokio_util::sync::CancellationToken;

use crate::clocks::{Clocks, Comparison};
use crate::metrics;

/// How many partitions are compared by, a broker leading each: the first ones.
pub const WITNESSES: Partition = 3;
/// How long a comparison may take: a broker that is away is no reason not to tick.
const LOOK: Duration = Duration::from_secs(1);
/// After so many seconds in which nobody appended anything it is probed again.
const PROBE_AFTER: u32 = 30;

/// Ticks until `shutdown`, and tells `clocks` how ours compares with the log's. Errors of the log are logged
/// and counted, and the next second is another try.
pub async fn run(
    log: Arc<dyn EventLog>,
    clock: Arc<dyn Clock>,
    by: TickedBy,
    clocks: Arc<Clocks>,
    shutdown: CancellationToken,
) {
    metrics::describe();
    let mut ticker = Ticker {
        log,
        clock,
        by,
        instance: RandomState::new().build_hasher().finish(),
        refused: 0,
        clocks,
    };
    let mut second = tokio::time::interval(Duration::from_secs(1));
    second.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = second.tick() => {}
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            outcome = ticker.tick() => if let Err(error) = outcome {
                tracing::warn!(%error, "no tick: the log did not take it");
            },
        }
    }
}

#[derive(Debug)]
struct Ticker {
    log: Arc<dyn EventLog>,
    clock: Arc<dyn Clock>,
    by: TickedBy,
    /// Tells this process's ticks from those of others at the same moment.
    instance: u64,
    /// Seconds since which it refuses and nobody has appended anything.
    refused: u32,
    clocks: Arc<Clocks>,
}

impl Ticker {
    async fn tick(&mut self) -> Result<(), LogError> {
        let partitions = self.log.layout().partitions;
        let witnesses = 0..WITNESSES.min(partitions);
        if self.refused > 0 {
            self.look(witnesses.clone()).await?;
        }
        let now = self.clock.now();
        if self.clocks.ahead(now).is_none() {
            return self.append(now, witnesses).await;
        }
        let Some(ahead) = self.clocks.apart(now) else {
            if std::mem::take(&mut self.refused) > 0 {
                tracing::info!("the clock and the log's agree again");
            }
            return self.append(now, 0..partitions).await;
        };
        metrics::tick_refused();
        if self.refused == 0 {
            tracing::error!(
                ahead_s = ahead.as_seconds(),
                "the clock and the log's disagree: no ticks until they agree"
            );
        }
        self.refused += 1;
        if self.refused.is_multiple_of(PROBE_AFTER) {
            return self.append(now, witnesses).await;
        }
        Ok(())
    }

    async fn append(&self, now: Timestamp, partitions: std::ops::Range<Partition>) -> Result<(), LogError> {
        let appends: Vec<Append> = partitions.clone().map(|p| self.record(now, p)).collect();
        let count = appends.len() as u64;
        let offsets = self.log.append(Topic::Journal, appends).await?;
        metrics::ticked(count);
        for (partition, offset) in partitions.zip(offsets).take(WITNESSES.into()) {
            self.compare(now, partition, offset).await?;
        }
        Ok(())
    }

    fn record(&self, now: Timestamp, partition: Partition) -> Append {
        let id = EventId::of(
            "fajma.tick",
            &[
                self.by.as_str().as_bytes(),
                &self.instance.to_be_bytes(),
                &partition.to_be_bytes(),
                &now.0.to_be_bytes(),
            ],
        );
        let mut value = Vec::with_capacity(64);
        let envelope = Envelope {
            id,
            key: Key::Nobody,
            measured_at: now,
            gateway_at: None,
            received_at: now,
            clock: ClockQuality::Server,
            cause: None,
            fact: Fact::ClockTicked(ClockTicked { by: self.by }),
        };
        codec::encode(&envelope, &mut value);
        Append {
            partition,
            key: Bytes::new(),
            value: Bytes::from(value),
        }
    }

    /// Reads a tick back. The log took it at some moment between its making and now: only what lies outside of that is
    /// a difference of clocks, however slow the log is.
    async fn compare(&self, made: Timestamp, partition: Partition, offset: Offset) -> Result<(), LogError> {
        let Some(appended_at) = self.appended_at(partition, offset).await? else {
            return Ok(());
        };
        let shown = self.clock.now();
        let ahead = if appended_at < made {
            made - appended_at
        } else if appended_at > shown {
            shown - appended_at
        } else {
            Span::ZERO
        };
        self.tell(partition, ahead, shown, offset);
        Ok(())
    }

    /// While nothing is ticked: compares with what others have just appended, if anyone has.
    async fn look(&mut self, witnesses: std::ops::Range<Partition>) -> Result<(), LogError> {
        for partition in witnesses {
            let last = self.log.bounds(Topic::Journal, partition).await?.end - 1;
            // Of a partition that nothing is known of, the last record may be of any time.
            if self.clocks.offset(partition).is_some_and(|known| last > known)
                && let Some(appended_at) = self.appended_at(partition, last).await?
            {
                // It was appended within the last second or so, which is well within what is allowed.
                let shown = self.clock.now();
                self.tell(partition, shown - appended_at, shown, last);
                self.refused = 1;
            }
        }
        Ok(())
    }

    fn tell(&self, partition: Partition, ahead: Span, shown: Timestamp, offset: Offset) {
        let comparison = Comparison {
            ahead,
            shown,
            since: Instant::now(),
            offset,
        };
        self.clocks.tell(partition, comparison);
    }

    /// `None` where it does not come in time.
    async fn appended_at(&self, partition: Partition, offset: Offset) -> Result<Option<Timestamp>, LogError> {
        let one = Limit { records: 1, bytes: 1 };
        let read = self.log.read(Topic::Journal, partition, offset, one);
        let Ok(batch) = timeout(LOOK, read).await else {
            return Ok(None);
        };
        let batch = batch?;
        let first = batch.entries().first().filter(|entry| entry.offset == offset);
        Ok(first.map(|entry| entry.appended_at))
    }
}
