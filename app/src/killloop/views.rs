//! What the server shows of each patient after it all, and whether that is what its log says.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use schemas::derived::{Derived, Outcome};
use schemas::facts::{AlertChanged, WindowRevised};
use schemas::ids::EventId;
use schemas::journal::{Fact, Recorded};
use serde_json::Value;
use smol_str::SmolStr;
use tokio::time::{Instant, sleep};

use super::fold::{Change, windows};
use crate::client;

/// How long views may take to catch up.
const PATIENCE: Duration = Duration::from_secs(300);
const METRICS: [&str; 2] = ["heart_rate", "spo2"];
const SIZES: [&str; 4] = ["1m", "5m", "1h", "1d"];
/// What an alert in the view has in common with one in the log.
const FIELDS: [&str; 15] = [
    "sensor_id",
    "metric",
    "rule",
    "class",
    "severity",
    "state",
    "retrospective",
    "value",
    "limit",
    "started_at",
    "raised_at",
    "acknowledged_at",
    "acknowledged_by",
    "resolved_at",
    "id",
];

/// What is shown of one patient, at or after a journal offset.
#[derive(Debug)]
pub(super) struct Shown {
    pub(super) patient: SmolStr,
    /// The views had seen everything up to here.
    pub(super) upto: i64,
    readings: Vec<Value>,
    alerts: Vec<Value>,
    windows: Vec<Value>,
}

/// Asks for everything about a patient, answered at or after `position`.
pub(super) async fn look((http, token): (&str, &str), patient: SmolStr, position: &str) -> Result<Shown, String> {
    let ask = async |path: String, name: &'static str| all((http, token), path, name, position).await;
    let (mut readings, mut shown) = (Vec::new(), Vec::new());
    for metric in METRICS {
        let path = format!("/v1/patients/{patient}/readings?limit=1000&metric={metric}");
        readings.append(&mut ask(path, "readings").await?);
        for size in SIZES {
            let path = format!("/v1/patients/{patient}/windows?limit=1000&metric={metric}&size={size}");
            shown.append(&mut ask(path, "windows").await?);
        }
    }
    let alerts = ask(format!("/v1/patients/{patient}/alerts?limit=1000"), "alerts").await?;
    let upto = api::Position::parse(position).ok_or_else(|| format!("no position: {position}"))?;
    Ok(Shown {
        patient,
        upto: upto.offset,
        readings,
        alerts,
        windows: shown,
    })
}

/// Every row of a list, page by page.
async fn all((http, token): (&str, &str), path: String, name: &str, after: &str) -> Result<Vec<Value>, String> {
    let mut rows = Vec::new();
    let mut next = path.clone();
    let until = Instant::now() + PATIENCE;
    loop {
        let mut page = loop {
            match client::get_after(http, &next, token, after).await {
                Ok((200, page)) => break page,
                // The views are behind: told to come again.
                Ok((503, _)) if Instant::now() < until => sleep(Duration::from_millis(100)).await,
                Ok((status, body)) => return Err(format!("GET {next}: {status} {body}")),
                Err(e) => return Err(format!("GET {next}: {e}")),
            }
        };
        match page[name].take() {
            Value::Array(mut some) => rows.append(&mut some),
            other => return Err(format!("{next} has no {name}: {other}")),
        }
        match page["next_cursor"].as_str() {
            Some(cursor) => next = format!("{path}&cursor={cursor}"),
            None => return Ok(rows),
        }
    }
}

impl Shown {
    /// Each reading of the journal once, and no other.
    pub(super) fn check_readings(&self, journal: &[Recorded], wrong: &mut Vec<String>) -> usize {
        let of_patient = journal.iter().filter(|r| r.envelope.key.text() == self.patient);
        let readings = of_patient.filter(|r| matches!(r.envelope.fact, Fact::Reading(_)));
        let recorded: BTreeSet<String> = readings.map(|r| r.envelope.id.to_string()).collect();
        let mut shown: BTreeMap<&str, usize> = BTreeMap::new();
        for row in &self.readings {
            *shown.entry(row["id"].as_str().unwrap_or_default()).or_default() += 1;
        }
        for (id, times) in &shown {
            if *times > 1 || !recorded.contains(*id) {
                let here = recorded.contains(*id);
                wrong.push(format!("reading {id} is shown {times} times, in the journal: {here}"));
            }
        }
        for id in recorded.iter().filter(|id| !shown.contains_key(id.as_str())) {
            wrong.push(format!("reading {id} of {} is not shown", self.patient));
        }
        shown.len()
    }

    /// Each alert that the fold implies, as it stood once the views had seen everything, or as it changed since.
    pub(super) fn check_alerts(&self, implied: &[Change], wrong: &mut Vec<String>) {
        let mut possible: BTreeMap<EventId, Vec<(i64, &AlertChanged)>> = BTreeMap::new();
        for change in implied.iter().filter(|change| change.patient == self.patient) {
            let states = possible.entry(change.alert.alert_id).or_default();
            if change.offset <= self.upto {
                states.clear();
            }
            states.push((change.offset, &change.alert));
        }
        let mut seen = BTreeSet::new();
        for shown in &self.alerts {
            let id = shown["id"].as_str().unwrap_or_default();
            let states = id.parse::<EventId>().ok().and_then(|id| possible.get(&id));
            let same = |alert: &AlertChanged| agree(shown, alert);
            if !seen.insert(id) || !states.is_some_and(|states| states.iter().any(|(_, alert)| same(alert))) {
                wrong.push(format!("{} is shown {shown}, the fold says {states:?}", self.patient));
            }
        }
        for (id, states) in &possible {
            let since = states.first().is_some_and(|(offset, _)| *offset > self.upto);
            if !seen.contains(id.to_string().as_str()) && !since {
                wrong.push(format!("alert {id} of {} is not shown: {states:?}", self.patient));
            }
        }
    }

    /// Each window in its newest revision at that time, or a newer one.
    pub(super) fn check_windows(&self, derived: &[Derived], wrong: &mut Vec<String>) {
        let mut newest: BTreeMap<windows::Name, i32> = BTreeMap::new();
        let mut revisions: BTreeMap<(windows::Name, i32), &WindowRevised> = BTreeMap::new();
        for record in derived.iter().filter(|record| record.key.text() == self.patient) {
            let Outcome::Window(window) = &record.outcome else {
                continue;
            };
            let name = windows::name(record, window);
            if record.origin.offset <= self.upto {
                newest.insert(name.clone(), window.revision);
            }
            revisions.insert((name, window.revision), window);
        }
        let place = |w: &Value| ["sensor_id", "metric", "size", "start"].map(|field| w[field].to_string());
        let shown: BTreeMap<[String; 4], &Value> = self.windows.iter().map(|w| (place(w), w)).collect();
        if shown.len() != self.windows.len() {
            wrong.push(format!("{} has windows that are shown twice", self.patient));
        }
        for (name, least) in newest {
            let key = [text(&name.1), text(&name.2), text(&name.3), text(&name.4)];
            let Some(row) = shown.get(&key) else {
                wrong.push(format!("window {name:?} is not shown"));
                continue;
            };
            let revision = row["revision"]
                .as_i64()
                .and_then(|r| i32::try_from(r).ok())
                .unwrap_or(0);
            let there = revisions.get(&(name.clone(), revision)).filter(|_| revision >= least);
            let same = |window: &WindowRevised| {
                let numbers = [
                    ("min", window.min),
                    ("max", window.max),
                    ("mean", window.mean),
                    ("sd", window.sd),
                ];
                row["count"] == window.count
                    && numbers
                        .iter()
                        .all(|(field, value)| row[*field].as_f64() == Some(*value))
            };
            if !there.is_some_and(|window| same(window)) {
                wrong.push(format!("window {name:?} is shown as {row}, the log says {there:?}"));
            }
        }
    }
}

fn agree(shown: &Value, alert: &AlertChanged) -> bool {
    let mut said = serde_json::to_value(alert).unwrap_or_default();
    said["id"] = said["alert_id"].take();
    FIELDS.iter().all(|field| shown[*field] == said[*field])
}

/// A value as it stands in JSON.
fn text(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}
