//! What came of it: sent, acknowledged, refused by reason, latency.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde_json::json;

use super::delivery::{Answered, Verdict};

/// Counts of records, and how long acknowledgements took.
#[derive(Debug)]
pub struct Tally {
    /// Handed to a door.
    pub sent: u64,
    /// Accepted, repeats among them.
    pub acknowledged: u64,
    /// Those of the acknowledged that the door had before, where it says so.
    pub duplicates: u64,
    /// Refused, by code.
    pub refused: BTreeMap<String, u64>,
    /// Neither: the door gave no answer in time.
    pub unanswered: u64,
    /// Readings in what was acknowledged (a blood pressure is three).
    pub readings: u64,
    latency: Histogram<u64>,
}

impl Default for Tally {
    fn default() -> Self {
        Self {
            sent: 0,
            acknowledged: 0,
            duplicates: 0,
            refused: BTreeMap::new(),
            unanswered: 0,
            readings: 0,
            // Two significant digits without bounds: this cannot fail for 1..=5.
            latency: Histogram::new(2).unwrap_or_else(|_| unreachable!("2 is a valid number of digits")),
        }
    }
}

impl Tally {
    /// Counts one message and its answer.
    pub fn count(&mut self, answered: &Answered) {
        let records = answered.message.records.len() as u64;
        self.sent += records;
        match &answered.verdict {
            Verdict::Judged { refused, duplicates } => {
                let lost: u64 = refused.values().sum();
                for (code, n) in refused {
                    *self.refused.entry(code.clone()).or_default() += n;
                }
                self.acknowledged += records.saturating_sub(lost);
                self.duplicates += duplicates;
                let readings: usize = answered
                    .message
                    .records
                    .iter()
                    .map(super::record::Record::readings)
                    .sum();
                self.readings += (readings as u64).saturating_sub(lost);
                let _ = self
                    .latency
                    .record(u64::try_from(answered.took.as_micros()).unwrap_or(u64::MAX));
            }
            Verdict::Unanswered(_) => self.unanswered += records,
        }
    }

    /// All refused, whatever the code.
    #[must_use]
    pub fn refused_in_all(&self) -> u64 {
        self.refused.values().sum()
    }

    /// Whether every record got its answer.
    #[must_use]
    pub fn adds_up(&self) -> bool {
        self.unanswered == 0 && self.sent == self.acknowledged + self.refused_in_all()
    }

    fn millis(&self, quantile: f64) -> f64 {
        self.latency.value_at_quantile(quantile) as f64 / 1e3
    }

    /// A table for people.
    #[must_use]
    pub fn table(&self, took: Duration) -> String {
        let mut out = String::new();
        let seconds = took.as_secs_f64().max(1e-6);
        let mut line = |name: &str, value: String| {
            let _ = writeln!(out, "{name:<28} {value:>14}");
        };
        line("sent", self.sent.to_string());
        line("acknowledged", self.acknowledged.to_string());
        if self.duplicates > 0 {
            line("  of these, known before", self.duplicates.to_string());
        }
        line("refused", self.refused_in_all().to_string());
        for (code, n) in &self.refused {
            line(&format!("  {code}"), n.to_string());
        }
        if self.unanswered > 0 {
            line("unanswered", self.unanswered.to_string());
        }
        line("readings per second", format!("{:.0}", self.readings as f64 / seconds));
        line("acknowledged after, p50", format!("{:.1} ms", self.millis(0.5)));
        line("acknowledged after, p99", format!("{:.1} ms", self.millis(0.99)));
        out
    }

    /// The same for scripts.
    #[must_use]
    pub fn json(&self, took: Duration) -> serde_json::Value {
        json!({
            "sent": self.sent,
            "acknowledged": self.acknowledged,
            "duplicates": self.duplicates,
            "refused": self.refused_in_all(),
            "refused_by_code": self.refused,
            "unanswered": self.unanswered,
            "readings": self.readings,
            "seconds": took.as_secs_f64(),
            "latency_ms": {"p50": self.millis(0.5), "p99": self.millis(0.99), "max": self.latency.max() as f64 / 1e3},
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulate::delivery::Message;
    use crate::simulate::record::{Body, Record};

    fn answered(records: usize, verdict: Verdict) -> Answered {
        let record = Record {
            patient: "p".into(),
            sensor: "s".into(),
            at: schemas::time::Timestamp(0),
            seq: None,
            epoch: None,
            body: Body::Alarm("fall"),
        };
        Answered {
            message: Message {
                records: vec![record; records],
            },
            verdict,
            took: Duration::from_millis(4),
        }
    }

    #[test]
    fn sent_is_acknowledged_and_refused() {
        let mut tally = Tally::default();
        let refused = BTreeMap::from([("implausible".to_owned(), 2)]);
        tally.count(&answered(5, Verdict::Judged { refused, duplicates: 1 }));
        assert_eq!((tally.sent, tally.acknowledged, tally.refused_in_all()), (5, 3, 2));
        assert!(tally.adds_up());
        let table = tally.table(Duration::from_secs(1));
        for part in ["sent", "implausible", "p99", "4.0 ms"] {
            assert!(table.contains(part), "{table}");
        }
        tally.count(&answered(1, Verdict::Unanswered("gone".to_owned())));
        assert!(!tally.adds_up());
        assert_eq!(tally.json(Duration::from_secs(1))["unanswered"], 1);
    }
}
