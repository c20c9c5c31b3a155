//! How far each room is, from the server's own metrics: taken at one moment, without sampling.

use std::collections::BTreeMap;

use crate::Result;
use crate::http::Connection;

/// Counters since the server started.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counters {
    /// Readings accepted by the doors: acknowledged once durable.
    pub accepted: u64,
    /// Recognised as sent twice.
    pub duplicates: u64,
    /// Refused.
    pub rejected: u64,
    /// Journal records made durable, ticks included.
    pub durable: u64,
    /// Journal records that every processor has handled.
    pub evaluated: u64,
    /// Journal records whose rows can be queried.
    pub projected: u64,
    /// Conclusions written.
    pub concluded: u64,
    /// Conclusions whose rows can be queried.
    pub shown: u64,
}

const JOURNAL: &str = "fajma.journal";
const DERIVED: [&str; 3] = ["fajma.windows", "fajma.alerts", "fajma.devices"];
const PROCESSORS: [&str; 3] = ["windows", "alerts", "devices"];

impl Counters {
    /// Asks the server.
    ///
    /// # Errors
    /// Where it does not answer.
    pub fn read(connection: &mut Connection) -> Result<Self> {
        let answer = connection.get("/metrics")?;
        if answer.status != 200 {
            return Err(format!("/metrics answered {}", answer.status).into());
        }
        Ok(Self::parse(std::str::from_utf8(answer.body)?))
    }

    /// From Prometheus' text.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut samples: BTreeMap<(&str, &str), u64> = BTreeMap::new();
        for line in text.lines() {
            let Some((name, labels, value)) = sample(line) else {
                continue;
            };
            let label = match name {
                "fajma_ingest_records_total" => "status",
                "fajma_log_records_total" | "fajma_projected_records_total" => "topic",
                "fajma_processor_records_total" => "processor",
                _ => continue,
            };
            *samples
                .entry((name, label_value(labels, label).unwrap_or_default()))
                .or_default() += value;
        }
        let of = |name: &'static str, label: &'static str| samples.get(&(name, label)).copied().unwrap_or(0);
        let log = |topic| of("fajma_log_records_total", topic);
        let projected = |topic| of("fajma_projected_records_total", topic);
        Self {
            accepted: of("fajma_ingest_records_total", "accepted"),
            duplicates: of("fajma_ingest_records_total", "duplicate"),
            rejected: of("fajma_ingest_records_total", "rejected"),
            durable: log(JOURNAL),
            evaluated: PROCESSORS
                .iter()
                .map(|p| of("fajma_processor_records_total", p))
                .min()
                .unwrap_or(0),
            projected: projected(JOURNAL),
            concluded: DERIVED.iter().map(|topic| log(topic)).sum(),
            shown: DERIVED.iter().map(|topic| projected(topic)).sum(),
        }
    }
}

/// Name, labels and value of a line.
fn sample(line: &str) -> Option<(&str, &str, u64)> {
    let (series, value) = line.rsplit_once(' ')?;
    let (name, labels) = series.split_once('{')?;
    Some((name, labels, value.parse::<f64>().ok()? as u64))
}

fn label_value<'a>(labels: &'a str, name: &str) -> Option<&'a str> {
    let at = labels
        .match_indices(name)
        .find(|(at, _)| labels[at + name.len()..].starts_with("=\""))?
        .0;
    labels.get(at + name.len() + 2..)?.split('"').next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_added_up_over_doors_and_the_slowest_processor_counts() {
        let text = r#"# HELP fajma_ingest_records_total Records
fajma_ingest_records_total{door="http",status="accepted",code=""} 100
fajma_ingest_records_total{door="mqtt",status="accepted",code=""} 7
fajma_log_records_total{topic="fajma.journal"} 120
fajma_log_records_total{topic="fajma.windows"} 30
fajma_log_records_total{topic="fajma.alerts"} 4
fajma_processor_records_total{processor="windows"} 119
fajma_processor_records_total{processor="alerts"} 110
fajma_processor_records_total{processor="devices"} 120
fajma_projected_records_total{topic="fajma.journal"} 90
fajma_projected_records_total{topic="fajma.alerts"} 3
fajma_log_failed 0
"#;
        let expected = Counters {
            accepted: 107,
            durable: 120,
            evaluated: 110,
            projected: 90,
            concluded: 34,
            shown: 3,
            ..Counters::default()
        };
        assert_eq!(Counters::parse(text), expected);
    }
}
