//! Recorded readings from a CSV file: header `patient_id,sensor_id,at,type,value,unit[,quality,seq]`.

use std::path::Path;

use schemas::time::{Span, Timestamp};
use serde::Deserialize;
use smol_str::SmolStr;

use super::plan::Due;
use super::record::{Body, Measured, Record};
use crate::failure::Failure;

/// How recorded times become times that are sent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Timing {
    /// How many seconds of recorded time are sent per second.
    pub speed: f64,
    /// The times stay as recorded.
    pub keep: bool,
    /// Now.
    pub now: Timestamp,
}

#[derive(Debug, Deserialize)]
struct Row {
    patient_id: SmolStr,
    sensor_id: SmolStr,
    at: SmolStr,
    r#type: SmolStr,
    value: f64,
    #[serde(default)]
    unit: Option<SmolStr>,
    #[serde(default)]
    quality: Option<u8>,
    #[serde(default)]
    seq: Option<i64>,
}

/// Reads a recording whole: its records, due in order of their times.
///
/// # Errors
/// [`Failure::WrongUse`] naming the file and, where there is one, the line at fault.
pub fn read(path: &Path, timing: Timing) -> Result<Vec<Due>, Failure> {
    let wrong = |why: String| Failure::WrongUse(format!("{}: {why}", path.display()));
    let mut reader = csv::ReaderBuilder::new()
        .trim(csv::Trim::All)
        .from_path(path)
        .map_err(|e| wrong(e.to_string()))?;
    let mut rows: Vec<(Timestamp, Row)> = Vec::new();
    for (index, row) in reader.deserialize::<Row>().enumerate() {
        let row = row.map_err(|e| wrong(e.to_string()))?;
        let at = Timestamp::parse(&row.at).map_err(|e| wrong(format!("line {}: {e}", index + 2)))?;
        rows.push((at, row));
    }
    rows.sort_by_key(|(at, _)| *at);
    Ok(timed(rows, timing))
}

fn timed(rows: Vec<(Timestamp, Row)>, timing: Timing) -> Vec<Due> {
    let (Some(first), Some(last)) = (rows.first().map(|r| r.0), rows.last().map(|r| r.0)) else {
        return Vec::new();
    };
    // Live, the first row is now; a backlog that is being delivered ends now.
    let shift = if timing.keep {
        Span::ZERO
    } else if timing.speed == 1.0 {
        timing.now - first
    } else {
        timing.now - last
    };
    let due = |(at, row): (Timestamp, Row)| Due {
        after: Span(((at - first).0 as f64 / timing.speed.max(1e-9)) as i64),
        record: row.record(at + shift),
    };
    rows.into_iter().map(due).collect()
}

impl Row {
    fn record(self, at: Timestamp) -> Record {
        Record {
            patient: self.patient_id,
            sensor: self.sensor_id,
            at,
            seq: self.seq,
            epoch: None,
            body: Body::Measured(Measured {
                metric: self.r#type,
                value: self.value,
                unit: self.unit.filter(|unit| !unit.is_empty()),
                quality: self.quality,
                contact: None,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);
    const ROWS: &str = "patient_id,sensor_id,at,type,value,unit\n\
        p,s,2026-01-05T00:01:00.000Z,heart_rate,71,/min\n\
        p,s,2026-01-05T00:00:00.000Z,heart_rate,70,/min\n\
        p,s,2026-01-05T00:02:00.000Z,unheard_of,-8.5,\n";

    fn read_text(text: &str, speed: f64, keep: bool) -> Result<Vec<Due>, Failure> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        read(file.path(), Timing { speed, keep, now: NOW })
    }

    #[test]
    fn times_are_shifted_as_the_contract_says() {
        let minutes = |due: &[Due]| -> Vec<i64> { due.iter().map(|d| (d.record.at - NOW).0 / 60_000_000).collect() };
        let live = read_text(ROWS, 1.0, false).unwrap();
        assert_eq!(minutes(&live), [0, 1, 2]);
        assert_eq!(live[2].after, Span::minutes(2));
        let backlog = read_text(ROWS, 60.0, false).unwrap();
        assert_eq!(minutes(&backlog), [-2, -1, 0]);
        assert_eq!(backlog[2].after, Span::seconds(2));
        let kept = read_text(ROWS, 60.0, true).unwrap();
        assert_eq!(kept[0].record.at.to_string(), "2026-01-05T00:00:00.000Z");
    }

    #[test]
    fn what_the_door_would_refuse_is_sent_all_the_same() {
        let rows = read_text(ROWS, 1.0, false).unwrap();
        let Body::Measured(last) = &rows[2].record.body else {
            panic!()
        };
        assert_eq!(
            (last.metric.as_str(), last.value, last.unit.clone()),
            ("unheard_of", -8.5, None)
        );
    }

    #[test]
    fn optional_columns_are_taken_and_empty_ones_left_out() {
        let text = "patient_id,sensor_id,at,type,value,unit,quality,seq\n\
            p,s,2026-01-05T00:00:00Z,spo2,97,%,88,12\np,s,2026-01-05T00:00:01Z,spo2,97,%,,\n";
        let rows = read_text(text, 1.0, false).unwrap();
        let Body::Measured(first) = &rows[0].record.body else {
            panic!()
        };
        assert_eq!(
            (first.quality, rows[0].record.seq, rows[1].record.seq),
            (Some(88), Some(12), None)
        );
    }

    #[test]
    fn a_wrong_line_is_named() {
        let header = "patient_id,sensor_id,at,type,value,unit\n";
        for (text, part) in [
            (format!("{header}p,s,yesterday,spo2,97,%\n"), "line 2"),
            (format!("{header}p,s,2026-01-05T00:00:00Z,spo2,many,%\n"), "line: 2"),
            ("a,b\n1,2\n".to_owned(), "missing field"),
        ] {
            let message = read_text(&text, 1.0, false).unwrap_err().to_string();
            assert!(message.contains(part), "{message}");
        }
        assert!(read_text(header, 1.0, false).unwrap().is_empty());
    }
}
