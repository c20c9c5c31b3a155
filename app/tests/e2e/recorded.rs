//! Recordings through both doors, held against a few lines of arithmetic over the file that know nothing of this house:
//! a made-up one with the dirt of real ones, and the real ones where they are (`FAJMA_RECORDINGS`, else `../shared/data`).

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use jiff::Timestamp as Moment;
use serde_json::Value;

use super::house::{House, PATIENCE};

/// Patient, sensor, metric.
type Series = (String, String, String);
/// Milliseconds since 1970 and millionths of the canonical unit.
type Sample = (i64, i64);

/// What is possible (`clinical.md` §1.2; a newborn breathes up to 120 times a minute).
const POSSIBLE: [(&str, f64, f64); 8] = [
    ("heart_rate", 20.0, 300.0),
    ("spo2", 50.0, 100.0),
    ("respiratory_rate", 3.0, 120.0),
    ("systolic", 40.0, 300.0),
    ("diastolic", 20.0, 200.0),
    ("mean_pressure", 25.0, 250.0),
    ("body_temperature", 25.0, 45.0),
    ("blood_glucose", 10.0, 900.0),
];
const SIZES: [(&str, i64); 4] = [("1m", 60_000), ("5m", 300_000), ("1h", 3_600_000), ("1d", 86_400_000)];

/// A recording by itself.
#[derive(Default)]
struct Recording {
    rows: usize,
    refused: usize,
    repeated: usize,
    samples: BTreeMap<Series, BTreeSet<Sample>>,
}

fn millis(at: &str) -> i64 {
    at.parse::<Moment>().unwrap().as_millisecond()
}

fn millionths(value: f64) -> i64 {
    (value * 1e6).round() as i64
}

impl Recording {
    fn read(text: &str) -> Self {
        let mut recording = Self::default();
        for row in text.lines().skip(1) {
            let [patient, sensor, at, metric, value, unit] = row
                .split(',')
                .collect::<Vec<_>>()
                .try_into()
                .unwrap_or_else(|_| panic!("{row}"));
            let said: f64 = value.parse().unwrap();
            let value = match unit {
                "[degF]" => (said - 32.0) / 1.8,
                "mmol/L" => said * 18.0156,
                _ => said,
            };
            recording.rows += 1;
            let possible = POSSIBLE.iter().find(|(name, ..)| *name == metric);
            if !possible.is_some_and(|(_, low, high)| (*low..=*high).contains(&value)) {
                recording.refused += 1;
                continue;
            }
            let series = (patient.to_owned(), sensor.to_owned(), metric.to_owned());
            let sample = (millis(at), millionths(value));
            recording.repeated += usize::from(!recording.samples.entry(series).or_default().insert(sample));
        }
        recording
    }

    fn last(&self) -> i64 {
        self.samples.values().flatten().map(|(at, _)| *at).max().unwrap()
    }

    /// Count, least, greatest, mean and deviation of every window, by series, size and start.
    fn windows(&self, shift: i64) -> BTreeMap<(Series, &'static str, i64), [f64; 5]> {
        let mut parts: BTreeMap<_, Vec<f64>> = BTreeMap::new();
        for (series, samples) in &self.samples {
            for (at, value) in samples {
                for (size, length) in SIZES {
                    let start = (at + shift).div_euclid(length) * length;
                    let name = (series.clone(), size, start);
                    parts.entry(name).or_default().push(*value as f64 / 1e6);
                }
            }
        }
        let aggregate = |values: Vec<f64>| {
            let n = values.len() as f64;
            let mean = values.iter().sum::<f64>() / n;
            let squares: f64 = values.iter().map(|v| (v - mean).powi(2)).sum();
            let least = values.iter().copied().fold(f64::INFINITY, f64::min);
            let greatest = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            [n, least, greatest, mean, (squares / (n - 1.0).max(1.0)).sqrt()]
        };
        parts
            .into_iter()
            .map(|(name, values)| (name, aggregate(values)))
            .collect()
    }
}

/// `fajma simulate --file` with a door of this house; what it printed.
async fn simulate(house: &House, file: &Path, mqtt: bool) -> Value {
    let to = if mqtt {
        format!("mqtt://{}", house.server.mqtt.unwrap())
    } else {
        format!("http://{}", house.http)
    };
    // By MQTT a message is one sensor's: together they would come in another order than they were recorded in.
    let batch = if mqtt { "1" } else { "20" };
    let mut command = Command::new(env!("CARGO_BIN_EXE_fajma"));
    command
        .args([
            "simulate", "--json", "--speed", "1e9", "--batch", batch, "--to", &to, "--file",
        ])
        .arg(file)
        .env("FAJMA_TOKEN", &house.token);
    let output = tokio::task::spawn_blocking(move || command.output())
        .await
        .unwrap()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// A whole list, page by page.
async fn list(house: &House, path: &str, name: &str) -> Vec<Value> {
    let (mut all, mut cursor) = (Vec::new(), None::<String>);
    loop {
        let next = cursor.map(|c| format!("&cursor={c}")).unwrap_or_default();
        let mut page = house.get(&format!("{path}limit=5000{next}")).await;
        all.append(page[name].as_array_mut().unwrap());
        cursor = page["next_cursor"].as_str().map(str::to_owned);
        if cursor.is_none() {
            return all;
        }
    }
}

/// A whole list, once it is so long: views follow the log.
async fn list_of(house: &House, path: &str, name: &str, rows: usize) -> Vec<Value> {
    let deadline = tokio::time::Instant::now() + PATIENCE * 2;
    loop {
        let all = list(house, path, name).await;
        if all.len() >= rows {
            return all;
        }
        assert!(
            tokio::time::Instant::now() < deadline,
            "{path}: {} rows, not {rows}",
            all.len()
        );
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
}

fn text(row: &Value, field: &str) -> String {
    row[field]
        .as_str()
        .unwrap_or_else(|| panic!("{field} of {row}"))
        .to_owned()
}

impl Recording {
    fn lists(&self) -> BTreeSet<(&str, &str)> {
        self.samples
            .keys()
            .map(|(patient, _, metric)| (&**patient, &**metric))
            .collect()
    }

    /// The readings that the house shows are those of the file, each once, all moved by the same time, which is returned.
    async fn agrees_on_readings(&self, house: &House) -> i64 {
        let mut shown: BTreeMap<Series, BTreeSet<Sample>> = BTreeMap::new();
        for (patient, metric) in self.lists() {
            let ours = |series: &&Series| series.0 == patient && series.2 == metric;
            let due = self
                .samples
                .keys()
                .filter(ours)
                .map(|series| self.samples[series].len())
                .sum();
            let path = format!("/v1/patients/{patient}/readings?metric={metric}&from=1990-01-01T00:00:00Z&");
            let rows = list_of(house, &path, "readings", due).await;
            assert_eq!(rows.len(), due, "{patient} {metric}: each reading once");
            for row in rows {
                let series = (patient.to_owned(), text(&row, "sensor_id"), metric.to_owned());
                let sample = (millis(&text(&row, "at")), millionths(row["value"].as_f64().unwrap()));
                shown.entry(series).or_default().insert(sample);
            }
        }
        let last = shown.values().flatten().map(|(at, _)| *at).max().unwrap();
        let shift = last - self.last();
        let moved = |(at, value): &Sample| (at + shift, *value);
        let expected: BTreeMap<Series, BTreeSet<Sample>> = self
            .samples
            .iter()
            .map(|(series, samples)| (series.clone(), samples.iter().map(moved).collect()))
            .collect();
        for (series, samples) in &expected {
            assert_eq!(shown.get(series), Some(samples), "{series:?}");
        }
        assert_eq!(shown.len(), expected.len());
        shift
    }

    /// The windows that the house shows come to be those of the file.
    async fn agrees_on_windows(&self, house: &House, shift: i64) {
        let expected = self.windows(shift);
        // A window is written at ticks, under load seldom: as long as something is still to come it is waited for.
        let deadline = tokio::time::Instant::now() + PATIENCE * 6;
        loop {
            let mut shown = BTreeMap::new();
            for (patient, metric) in self.lists() {
                for (size, _) in SIZES {
                    let path = format!(
                        "/v1/patients/{patient}/windows?metric={metric}&size={size}&from=1990-01-01T00:00:00Z&"
                    );
                    for row in list(house, &path, "windows").await {
                        let series = (patient.to_owned(), text(&row, "sensor_id"), metric.to_owned());
                        let values = ["count", "min", "max", "mean", "sd"].map(|f| row[f].as_f64().unwrap());
                        shown.insert((series, size, millis(&text(&row, "start"))), values);
                    }
                }
            }
            let near = |a: &[f64; 5], b: &[f64; 5]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-4);
            let differs = expected
                .iter()
                .find(|(name, values)| !shown.get(name).is_some_and(|s| near(s, values)));
            match differs {
                None => {
                    assert_eq!(shown.len(), expected.len(), "windows that the file does not imply");
                    return;
                }
                Some((name, values)) => assert!(
                    tokio::time::Instant::now() < deadline,
                    "{name:?} is {values:?} by the file, and {:?} here",
                    shown.get(name)
                ),
            }
            tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        }
    }

    /// Every alert of a value that is too low begins with a reading of the file, which is no zero. Returns what was
    /// raised, in the file's own time.
    async fn alerts(&self, house: &House, shift: i64) -> BTreeSet<String> {
        let mut raised = BTreeSet::new();
        let patients: BTreeSet<&String> = self.samples.keys().map(|(patient, ..)| patient).collect();
        for patient in patients {
            for alert in list(house, &format!("/v1/patients/{patient}/alerts?"), "alerts").await {
                let (sensor, rule) = (text(&alert, "sensor_id"), text(&alert, "rule"));
                let series = (patient.clone(), sensor.clone(), text(&alert, "metric"));
                let started = millis(&text(&alert, "started_at")) - shift;
                let begins = self.samples[&series].iter().filter(|(at, _)| *at == started);
                let values: Vec<i64> = begins.map(|(_, value)| *value).collect();
                assert!(!values.is_empty() && values.iter().all(|v| *v > 0), "{alert}");
                raised.insert(format!("{patient} {sensor} {rule} {started} {}", alert["severity"]));
            }
        }
        raised
    }
}

/// Sends a recording through one door into a house of its own, and looks at everything that is shown of it.
async fn agrees(file: &Path, mqtt: bool) -> BTreeSet<String> {
    let recording = Recording::read(&std::fs::read_to_string(file).unwrap());
    let house = House::new().await;
    let told = simulate(&house, file, mqtt).await;
    let number = |field: &str| told[field].as_u64().unwrap() as usize;
    let (rows, refused) = (recording.rows, recording.refused);
    assert_eq!(
        (number("sent"), number("refused"), number("unanswered")),
        (rows, refused, 0),
        "{told}"
    );
    assert_eq!(number("acknowledged"), rows - refused, "{told}");
    if !mqtt {
        assert_eq!(number("duplicates"), recording.repeated, "{told}");
    }
    let kept = list_of(&house, "/v1/rejected?", "rejected", refused).await;
    assert_eq!(kept.len(), refused, "every refused row is kept");
    let first = recording.samples.keys().next().unwrap();
    let latest = format!("/v1/patients/{}/latest", first.0);
    house
        .until(&latest, |latest| {
            latest["readings"].as_array().is_some_and(|r| !r.is_empty())
        })
        .await;
    let shift = recording.agrees_on_readings(&house).await;
    recording.agrees_on_windows(&house, shift).await;
    let alerts = recording.alerts(&house, shift).await;
    house.stop().await;
    alerts
}

/// The same file without its zeros.
fn without_zeros(text: &str) -> String {
    let zero = |row: &&str| row.split(',').nth(4).and_then(|v| v.parse::<f64>().ok()) == Some(0.0);
    text.lines()
        .filter(|row| !zero(row))
        .map(|row| format!("{row}\n"))
        .collect()
}

/// Half a day of one patient as real recordings are: a monitor that is disconnected for a while and says 0, two sensors
/// for one metric, temperatures in two units, glucose in two, a burst pressure line, a row twice, a slow heart for a
/// few minutes, and one second patient.
pub(super) fn made_up() -> String {
    let mut rows = vec!["patient_id,sensor_id,at,type,value,unit".to_owned()];
    let begin = millis("2026-01-05T00:00:00Z");
    let mut row = |patient: &str, sensor: &str, minute: i64, metric: &str, value: f64, unit: &str| {
        let at = Moment::from_millisecond(begin + minute * 60_000).unwrap();
        rows.push(format!("{patient},{patient}-{sensor},{at:.3},{metric},{value},{unit}"));
    };
    for minute in 0..720_i64 {
        let sway = (minute % 7) as f64 - 3.0;
        let off = (200..260).contains(&minute) || minute % 97 == 0;
        let slow = (300..306).contains(&minute);
        let heart = if off {
            0.0
        } else if slow {
            47.0 + sway / 10.0
        } else {
            72.5 + sway
        };
        row("rec-1", "ecg", minute, "heart_rate", heart, "/min");
        row(
            "rec-1",
            "pleth",
            minute,
            "heart_rate",
            if off { 0.0 } else { 73.0 + sway },
            "/min",
        );
        row(
            "rec-1",
            "pleth",
            minute,
            "spo2",
            if off { 0.0 } else { 97.0 + sway / 3.0 },
            "%",
        );
        row(
            "rec-1",
            "ecg",
            minute,
            "respiratory_rate",
            if off { 0.0 } else { 15.2 + sway },
            "/min",
        );
        if minute % 15 == 0 {
            let burst = minute == 345;
            row(
                "rec-1",
                "art",
                minute,
                "systolic",
                if burst { 11_647.0 } else { 121.0 + sway },
                "mm[Hg]",
            );
            row(
                "rec-1",
                "art",
                minute,
                "mean_pressure",
                if burst { -5.0 } else { 90.0 },
                "mm[Hg]",
            );
            row("rec-1", "temp", minute, "body_temperature", 36.8 + sway / 10.0, "Cel");
            row(
                "rec-1",
                "temp",
                minute,
                "body_temperature",
                98.2 + sway / 10.0,
                "[degF]",
            );
        }
        if minute % 60 == 0 {
            row("rec-2", "lab", minute, "blood_glucose", 101.0 + sway, "mg/dL");
            row("rec-2", "meter", minute, "blood_glucose", 5.6, "mmol/L");
            row("rec-2", "meter", minute, "blood_glucose", 5.6, "mmol/L");
        }
    }
    rows.join("\n") + "\n"
}

/// A file through both doors, and once more without its zeros: they change no alert.
async fn through_both_doors(file: &Path) -> BTreeSet<String> {
    let dir = tempfile::tempdir().unwrap();
    let clean = dir.path().join("without-zeros.csv");
    std::fs::write(&clean, without_zeros(&std::fs::read_to_string(file).unwrap())).unwrap();
    let (by_mqtt, by_http, without) = tokio::join!(agrees(file, true), agrees(file, false), agrees(&clean, false));
    assert_eq!(by_mqtt, by_http, "the door makes no difference");
    assert_eq!(
        by_http, without,
        "zeros of a disconnected sensor raise nothing and end nothing"
    );
    by_http
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recording_with_all_the_dirt_of_real_ones_is_shown_as_it_is_whatever_the_door() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("made-up.csv");
    std::fs::write(&file, made_up()).unwrap();
    let alerts = Box::pin(through_both_doors(&file)).await;
    let low: Vec<&String> = alerts.iter().filter(|alert| alert.contains("heart_rate_low")).collect();
    assert!(low.len() == 1 && low[0].starts_with("rec-1 rec-1-ecg"), "{low:?}");
}

pub(super) fn real(name: &str) -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data");
    let dir = std::env::var_os("FAJMA_RECORDINGS").map_or(beside, PathBuf::from);
    let file = dir.join(name);
    if !file.exists() {
        println!(
            "NOT RUN: the real recording {name} ({} is not there; set FAJMA_RECORDINGS)",
            file.display()
        );
        return None;
    }
    Some(file)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_night_on_a_ward_is_shown_as_recorded_whatever_the_door() {
    let Some(file) = real("ward_minute.csv") else { return };
    let alerts = Box::pin(through_both_doors(&file)).await;
    let low = alerts.iter().filter(|alert| alert.contains("heart_rate_low")).count();
    assert_eq!(low, 3, "three times the heart was below 50 for two samples: {alerts:?}");
}
