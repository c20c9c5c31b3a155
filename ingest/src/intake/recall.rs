//! What an earlier life of this process took from devices without a clock, so that what they send again is known.
//!
//! A repeat of a fact that bears the device's own time falls on the same moment, and processors see that it is one. A
//! device that only counts says the same number again; by then its moment, which is that of arrival, is another. So the
//! door must know it, and a new process reads the end of the journal before it opens its doors.

use eventlog::{Limit, LogError, Topic};
use schemas::ids::EventId;
use schemas::journal::{ClockQuality, Envelope, Fact};
use schemas::partition::murmur2;

use super::Intake;
use super::receipt::Position;

impl Intake {
    /// Remembers what counting devices have said, of the newest [`recalled_records`](super::Limits::recalled_records)
    /// of the journal. Call it before doors open. Returns how many facts are remembered.
    ///
    /// # Errors
    /// As [`EventLog::read`](eventlog::EventLog::read).
    pub async fn recall(&self) -> Result<usize, LogError> {
        let each = (self.limits.recalled_records / usize::from(self.partitions()).max(1)) as i64;
        let mut remembered = 0;
        for partition in 0..self.partitions() {
            let bounds = self.log.bounds(Topic::Journal, partition).await?;
            let mut from = bounds.start.max(bounds.end - each);
            while from < bounds.end {
                let batch = self.log.read(Topic::Journal, partition, from, Limit::default()).await?;
                let Some(next) = batch.next() else { break };
                // One record that this build cannot read is no reason to keep the doors shut: its processors say so.
                for entry in batch.entries() {
                    let Ok(envelope) = schemas::codec::decode(&entry.value, &self.catalogue) else {
                        continue;
                    };
                    if let Some(id) = counted(&envelope) {
                        let position = Position {
                            partition,
                            offset: entry.offset,
                        };
                        self.memory.remember((id, murmur2(&entry.key)), position);
                        remembered += 1;
                    }
                }
                from = next;
            }
        }
        Ok(remembered)
    }
}

/// The id of what a device without a clock has said under a number of its own.
const fn counted(envelope: &Envelope) -> Option<EventId> {
    let seq = match &envelope.fact {
        Fact::Reading(reading) => reading.seq,
        Fact::DeviceAlarm(alarm) => alarm.seq,
        _ => None,
    };
    match (envelope.clock, seq) {
        (ClockQuality::Arrival, Some(_)) => Some(envelope.id),
        _ => None,
    }
}
