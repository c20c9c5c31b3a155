//! What is loaded and asked how far it is: one process that does everything, or one for each role.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use crate::Result;
use crate::counters::Counters;

/// Ways in and out.
#[derive(Debug, Clone)]
pub struct Ways {
    /// Where readings are taken by HTTP.
    pub http: SocketAddr,
    /// The same by MQTT.
    pub mqtt: SocketAddr,
    /// Where people ask and are told of alerts.
    pub desk: SocketAddr,
    /// A token that may do everything.
    pub token: String,
}

/// Something that takes readings.
pub trait House {
    /// How to reach it.
    fn ways(&self) -> &Ways;

    /// How far each room is.
    ///
    /// # Errors
    /// Where it does not answer.
    fn counters(&mut self) -> Result<Counters>;

    /// CPU time that it has used so far.
    ///
    /// # Errors
    /// Where a process is gone.
    fn cpu(&self) -> Result<Cpu>;

    /// The most memory that it has held, in bytes, of all processes of ours together.
    ///
    /// # Errors
    /// Where a process is gone.
    fn peak_memory(&self) -> Result<u64>;

    /// How often it may be asked how far it is without being in its own way.
    fn look_every(&self) -> Duration;
}

/// CPU seconds by whom.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Cpu {
    /// Our processes, by role.
    pub ours: BTreeMap<&'static str, f64>,
    /// Brokers and databases, where they run here and are known.
    pub engines: BTreeMap<&'static str, f64>,
}

impl Cpu {
    /// What was used since `before`, per million of so many.
    #[must_use]
    pub fn per_million(&self, before: &Self, records: u64) -> Self {
        let part = |now: &BTreeMap<&'static str, f64>, before: &BTreeMap<&'static str, f64>| {
            let used = now.iter().map(|(who, seconds)| {
                let since = seconds - before.get(who).copied().unwrap_or(0.0);
                (*who, since * 1e6 / records.max(1) as f64)
            });
            used.collect()
        };
        Self {
            ours: part(&self.ours, &before.ours),
            engines: part(&self.engines, &before.engines),
        }
    }

    /// Of all our processes.
    #[must_use]
    pub fn of_ours(&self) -> f64 {
        self.ours.values().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_used_is_divided_by_whom() {
        let cpu = |process: f64, kafka: f64| Cpu {
            ours: BTreeMap::from([("process", process), ("ingest", 1.0)]),
            engines: BTreeMap::from([("kafka", kafka)]),
        };
        let used = cpu(7.0, 30.0).per_million(&cpu(2.0, 20.0), 500_000);
        assert_eq!(used.ours["process"], 10.0);
        assert_eq!(used.engines["kafka"], 20.0);
        assert_eq!(used.of_ours(), 10.0);
    }
}
