//! Time as a fact: once a second a tick into every partition of the journal.
//!
//! A clock that is more than two seconds from the log's own would drag recorded time, which only ever grows, to where
//! it cannot come back from. So a ticker compares its clock with the log's after every tick, and stops ticking (but
//! keeps looking) while the two disagree. Its first tick goes into one partition only, as a probe.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use eventlog::{Append, Clock, EventLog, Limit, LogError, Offset, Partition, Topic};
use schemas::codec;
use schemas::facts::{ClockTicked, TickedBy};
use schemas::ids::{EventId, Key};
use schemas::journal::{ClockQuality, Envelope, Fact};
use schemas::time::{Span, Timestamp};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use crate::metrics;

/// How far clock and log may be apart.
pub const APART: Span = Span::seconds(2);

/// Whether a ticker refuses, and by how much its clock is ahead of the log's then.
#[derive(Debug, Default)]
pub struct Disagreement(AtomicI64);

impl Disagreement {
    /// By how much the clock is ahead of the log's, negative where it is behind; `None` while the two agree.
    #[must_use]
    pub fn ahead(&self) -> Option<Span> {
        Some(Span(self.0.load(Ordering::Relaxed))).filter(|ahead| *ahead != Span::ZERO)
    }

    fn tell(&self, ahead: Span) {
        self.0.store(ahead.0, Ordering::Relaxed);
    }
}

/// Ticks until `shutdown`, and shows in `told` while it does not because the clocks disagree. Errors of the log are logged
/// and counted, and the next second is another try.
pub async fn run(
    log: Arc<dyn EventLog>,
    clock: Arc<dyn Clock>,
    by: TickedBy,
    told: Arc<Disagreement>,
    shutdown: CancellationToken,
) {
    metrics::describe();
    let mut ticker = Ticker {
        log,
        clock,
        by,
        instance: RandomState::new().build_hasher().finish(),
        known: None,
        refusing: false,
        told,
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
    known: Option<Comparison>,
    refusing: bool,
    told: Arc<Disagreement>,
}

/// Clock and log, as they were when a record was read back.
#[derive(Debug, Clone, Copy)]
struct Comparison {
    /// By how much the clock was ahead of the log.
    ahead: Span,
    /// What the clock showed.
    shown: Timestamp,
    /// The same moment by a clock that nobody can set.
    since: Instant,
    /// The record.
    offset: Offset,
}

impl Comparison {
    /// By how much the clock is ahead of the log now: as then, and by what it has been set since.
    fn ahead_now(&self, now: Timestamp) -> Span {
        let elapsed = Span(i64::try_from(self.since.elapsed().as_micros()).unwrap_or(i64::MAX));
        Span(self.ahead.0.saturating_add((now - (self.shown + elapsed)).0))
    }
}

impl Ticker {
    async fn tick(&mut self) -> Result<(), LogError> {
        if self.refusing {
            self.look().await?;
        }
        let now = self.clock.now();
        let Some(known) = self.known else {
            // The probe.
            return self.append(now, 0..1).await;
        };
        let ahead = known.ahead_now(now);
        if Span(ahead.0.saturating_abs()) > APART {
            metrics::tick_refused();
            self.told.tell(ahead);
            if !std::mem::replace(&mut self.refusing, true) {
                tracing::error!(
                    ahead_s = ahead.as_seconds(),
                    "the clock and the log's disagree: no ticks until they agree"
                );
            }
            return Ok(());
        }
        self.told.tell(Span::ZERO);
        if std::mem::replace(&mut self.refusing, false) {
            tracing::info!("the clock and the log's agree again");
        }
        let partitions = self.log.layout().partitions;
        self.append(now, 0..partitions).await
    }

    async fn append(&mut self, now: Timestamp, partitions: std::ops::Range<Partition>) -> Result<(), LogError> {
        let count = partitions.len() as u64;
        let appends = partitions.map(|p| self.record(now, p)).collect();
        let offsets = self.log.append(Topic::Journal, appends).await?;
        metrics::ticked(count);
        match offsets.first() {
            Some(offset) => self.compare(now, *offset).await,
            None => Ok(()),
        }
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
    async fn compare(&mut self, made: Timestamp, offset: Offset) -> Result<(), LogError> {
        let Some(appended_at) = self.appended_at(offset).await? else {
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
        self.known = Some(Comparison {
            ahead,
            shown,
            since: Instant::now(),
            offset,
        });
        Ok(())
    }

    /// While nothing is ticked: compares with what others have just appended, if anyone has.
    async fn look(&mut self) -> Result<(), LogError> {
        let Some(known) = self.known else { return Ok(()) };
        let last = self.log.bounds(Topic::Journal, 0).await?.end - 1;
        if last > known.offset
            && let Some(appended_at) = self.appended_at(last).await?
        {
            // It was appended within the last second or so, which is well within what is allowed.
            let shown = self.clock.now();
            self.known = Some(Comparison {
                ahead: shown - appended_at,
                shown,
                since: Instant::now(),
                offset: last,
            });
        }
        Ok(())
    }

    async fn appended_at(&self, offset: Offset) -> Result<Option<Timestamp>, LogError> {
        let one = Limit { records: 1, bytes: 1 };
        let batch = self.log.read(Topic::Journal, 0, offset, one).await?;
        Ok(batch.entries().first().map(|entry| entry.appended_at))
    }
}
