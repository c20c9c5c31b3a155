//! Recorded time moves on: one tick a second per partition.

use std::sync::Arc;
use std::time::Duration;

use eventlog::{Append, Clock, EventLog, Limit, LogError, Offset, Partition, Topic};
use schemas::facts::{ClockTicked, TickedBy};
use schemas::ids::{EventId, Key};
use schemas::journal::{ClockQuality, Envelope, Fact};
use schemas::time::Timestamp;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::engine::context::TICK_SKEW;

/// How long a clock that is apart from the log's is left alone before it is looked at again.
const APART: Duration = Duration::from_secs(30);

/// A fact of the house for one partition.
pub(super) fn append(partition: Partition, at: Timestamp, what: &str, fact: Fact) -> Append {
    let parts: [&[u8]; 3] = [&partition.to_be_bytes(), &at.0.to_be_bytes(), what.as_bytes()];
    let envelope = Envelope {
        id: EventId::of("fajma.house", &parts),
        key: Key::Nobody,
        measured_at: at,
        gateway_at: None,
        received_at: at,
        clock: ClockQuality::Server,
        cause: None,
        fact,
    };
    let mut value = Vec::with_capacity(64);
    schemas::codec::encode(&envelope, &mut value);
    Append {
        partition,
        key: bytes::Bytes::new(),
        value: value.into(),
    }
}

/// Ticks until `shutdown`.
pub(super) async fn tick(
    log: Arc<dyn EventLog>,
    clock: Arc<dyn Clock>,
    partitions: Vec<Partition>,
    shutdown: CancellationToken,
) {
    let mut second = tokio::time::interval(Duration::from_secs(1));
    second.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = second.tick() => {}
        }
        match once(&*log, &*clock, &partitions).await {
            Ok(true) => {}
            Ok(false) => {
                metrics::counter!(crate::metrics::TICKS_REFUSED).increment(1);
                tracing::error!("our clock and the log's are more than 2 s apart: not ticking; set the clocks (NTP)");
                tokio::select! {
                    () = shutdown.cancelled() => return,
                    () = tokio::time::sleep(APART) => {}
                }
            }
            Err(error) => tracing::warn!(%error, "no tick"),
        }
    }
}

/// One tick in every partition; whether the log's clock agrees with ours. A tick that is ahead of its own append time
/// is not accepted by any task, so the one that finds out does no harm.
async fn once(log: &dyn EventLog, clock: &dyn Clock, partitions: &[Partition]) -> Result<bool, LogError> {
    let at = clock.now();
    let fact = || Fact::ClockTicked(ClockTicked { by: TickedBy::Process });
    let ticks = partitions.iter().map(|p| append(*p, at, "tick", fact())).collect();
    let offsets = log.append(Topic::Journal, ticks).await?;
    let (Some(partition), Some(offset)) = (partitions.first(), offsets.first()) else {
        return Ok(true);
    };
    let shown = clock.now();
    Ok(agrees(at, shown, appended_at(log, *partition, *offset).await?))
}

async fn appended_at(log: &dyn EventLog, partition: Partition, offset: Offset) -> Result<Option<Timestamp>, LogError> {
    let one = Limit { records: 1, bytes: 1 };
    let batch = log.read(Topic::Journal, partition, offset, one).await?;
    Ok(batch
        .entries()
        .first()
        .filter(|e| e.offset == offset)
        .map(|e| e.appended_at))
}

/// The log took the tick at some moment between its making and now: only what lies outside of that is a difference of
/// clocks, however slow the log is.
fn agrees(made: Timestamp, shown: Timestamp, appended_at: Option<Timestamp>) -> bool {
    appended_at.is_none_or(|appended| (made - TICK_SKEW..=shown + TICK_SKEW).contains(&appended))
}

#[cfg(test)]
mod tests {
    use schemas::time::Span;

    use super::*;

    #[test]
    fn clocks_may_be_two_seconds_apart_and_no_more() {
        let at = Timestamp::from_millis(1_767_600_000_000);
        for (apart, fine) in [
            (0, true),
            (2_000, true),
            (-2_000, true),
            (2_001, false),
            (-2_001, false),
        ] {
            assert_eq!(agrees(at, at, Some(at + Span::millis(apart))), fine, "{apart} ms");
        }
        let shown = at + Span::seconds(20);
        for (apart, fine) in [
            (-2_001, false),
            (0, true),
            (19_000, true),
            (22_000, true),
            (22_001, false),
        ] {
            assert_eq!(
                agrees(at, shown, Some(at + Span::millis(apart))),
                fine,
                "{apart} ms, the log took 20 s"
            );
        }
    }
}
