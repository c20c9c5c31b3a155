//! What FAJMA costs, measured from outside: the real binary is started, loaded through its doors, and asked how far it is.
//!
//! [`world`] makes the readings, [`load`] sends them (closed-loop to find what is sustained, open-loop with intended send
//! times for latencies), [`probe`] times alerts on a WebSocket, [`phases`] puts these together for any [`house`]: one process
//! ([`server`], measured by [`run`], printed by [`report`]) or one for each role on Kafka and a database ([`engines`]).
//! [`running`] and [`process`] look after processes, [`counters`] reads how far each room is. What a single room costs is in
//! `benches/micro.rs`.

pub mod counters;
pub mod engines;
pub mod house;
pub mod http;
pub mod load;
pub mod mqtt;
pub mod phases;
pub mod probe;
pub mod process;
pub mod report;
pub mod run;
pub mod running;
pub mod server;
pub mod world;

use std::error::Error;
use std::time::Duration;

/// Whatever keeps a measurement from being made: told to the person at the terminal.
pub type Trouble = Box<dyn Error + Send + Sync>;
/// A result of this crate.
pub type Result<T> = std::result::Result<T, Trouble>;

/// Latencies in microseconds.
pub type Latencies = hdrhistogram::Histogram<u64>;

/// An empty histogram: three digits, as large as needed.
///
/// # Errors
/// None in practice: the number of digits is valid.
pub fn latencies() -> Result<Latencies> {
    Ok(Latencies::new(3)?)
}

/// Notes a latency.
pub fn note(histogram: &mut Latencies, latency: Duration) {
    let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
    // It grows as needed, so only a latency of hundreds of years would not fit.
    let _ = histogram.record(micros.max(1));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_latency_of_any_length_is_kept() {
        let mut histogram = latencies().unwrap();
        for latency in [Duration::ZERO, Duration::from_millis(3), Duration::from_secs(700)] {
            note(&mut histogram, latency);
        }
        assert_eq!(histogram.len(), 3);
        assert!((699_000_000..701_000_000).contains(&histogram.max()));
    }
}
