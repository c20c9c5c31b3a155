//! A consultation over a recording: what is told of it is what a few lines of arithmetic over the rows say, after the server
//! was killed in the middle of it and a backlog came late.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use app::client;
use axum::http::Method;
use schemas::time::{Span, Timestamp};
use serde_json::{Value, json};

use super::house::{PATIENCE, ago, fajma};
use super::program::Program;
use super::recorded::{made_up, real};

/// The program in a process of its own.
struct Server(Program);

impl Server {
    fn start(dir: &Path) -> Self {
        Self(Program::start("up", dir, &[]))
    }

    async fn post(&self, path: &str, body: &Value) -> Value {
        let (status, answer) = client::post(&self.0.http, path, &self.0.token, body).await.unwrap();
        assert!(status < 300, "{path}: {status} {answer}");
        answer
    }

    async fn put(&self, path: &str, body: &Value) {
        let body = ("application/json", body.to_string().into());
        let (status, answer) = client::call(&self.0.http, Method::PUT, path, &self.0.token, body)
            .await
            .unwrap();
        assert_eq!(status, 200, "{path}: {answer}");
    }

    async fn until(&self, path: &str, there: impl Fn(&Value) -> bool) -> Value {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let answer = client::get(&self.0.http, path, &self.0.token)
                .await
                .unwrap_or_else(Value::String);
            if there(&answer) {
                return answer;
            }
            assert!(tokio::time::Instant::now() < deadline, "{path}: {answer:#}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn send(&self, rows: &[&Row]) {
        let readings: Vec<Value> = rows.iter().map(|row| row.json()).collect();
        let answer = self.post("/v1/readings", &json!({ "readings": readings })).await;
        assert_eq!(answer["rejected"], 0, "{answer}");
    }
}

/// A row of the recording, at a moment of the consultation.
#[derive(Debug, Clone)]
struct Row {
    sensor: String,
    metric: String,
    value: f64,
    quality: i64,
    at: Timestamp,
}

impl Row {
    fn json(&self) -> Value {
        json!({"patient_id": "rec", "sensor_id": self.sensor, "type": self.metric, "value": self.value,
               "quality": self.quality, "at": self.at})
    }
}

/// Rows of one patient that should be measured all the time, a twentieth of a second apart from `from` on, with a pause of
/// eight seconds after the first half.
fn rows(recording: &str, patient: &str, from: Timestamp) -> Vec<Row> {
    let possible = |metric: &str, value: f64| match metric {
        "heart_rate" | "spo2" => value >= 50.0,
        "respiratory_rate" => value >= 5.0,
        _ => false,
    };
    let fields = recording.lines().skip(1).map(|row| row.split(',').collect::<Vec<_>>());
    let wanted = fields.filter(|row| row[0] == patient && possible(row[3], row[4].parse().unwrap()));
    let mut times: BTreeMap<&str, i64> = BTreeMap::new();
    wanted
        .take(240)
        .map(|row| {
            let n = times.len() as i64;
            let n = *times.entry(row[2]).or_insert(n);
            let pause = if n >= 40 { 8_000 } else { 0 };
            Row {
                sensor: row[1].to_owned(),
                metric: row[3].to_owned(),
                value: row[4].parse().unwrap(),
                quality: 60 + n % 40,
                at: from + Span::millis(n * 50 + pause),
            }
        })
        .collect()
}

/// Metric, sensor, from, to.
type Pause = (String, String, Timestamp, Timestamp);

/// Figures, score and pauses of the rows, by themselves: a sensor expected every two seconds is missed after six.
fn told(rows: &[Row], opened: Timestamp, closed: Timestamp) -> (BTreeMap<String, [f64; 5]>, f64, Vec<Pause>) {
    let within: Vec<&Row> = rows.iter().filter(|row| (opened..closed).contains(&row.at)).collect();
    let mut by_metric: BTreeMap<String, Vec<&Row>> = BTreeMap::new();
    let mut by_series: BTreeMap<(&str, &str), BTreeSet<Timestamp>> = BTreeMap::new();
    for row in &within {
        by_metric.entry(row.metric.clone()).or_default().push(row);
        by_series.entry((&row.metric, &row.sensor)).or_default().insert(row.at);
    }
    let figures = by_metric.into_iter().map(|(metric, rows)| {
        let values: Vec<f64> = rows.iter().map(|row| row.value).collect();
        let n = values.len() as f64;
        let last = rows.iter().max_by_key(|row| row.at).unwrap().value;
        let least = values.iter().copied().fold(f64::INFINITY, f64::min);
        let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        (metric, [n, least, most, values.iter().sum::<f64>() / n, last])
    });
    let figures = figures.collect();
    let (mut pauses, mut covered) = (Vec::new(), 0.0);
    let series = by_series.len() as f64;
    for ((metric, sensor), moments) in by_series {
        let marks: Vec<Timestamp> = [opened].into_iter().chain(moments).chain([closed]).collect();
        let long = marks.windows(2).filter(|pair| pair[1] - pair[0] > Span::seconds(6));
        let long: Vec<Pause> = long
            .map(|pair| (metric.to_owned(), sensor.to_owned(), pair[0], pair[1]))
            .collect();
        let missed: f64 = long.iter().map(|(.., from, to)| (*to - *from).as_seconds()).sum();
        covered += 1.0 - missed / (closed - opened).as_seconds();
        pauses.extend(long);
    }
    let quality = within.iter().map(|row| row.quality as f64).sum::<f64>() / within.len() as f64;
    (figures, quality * covered / series, pauses)
}

/// Something out of order.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Found {
    kind: &'static str,
    /// Rule of the alert, metric of the gap, code of the refusal.
    what: String,
    sensor: String,
    /// When it began by the data; where only we know the moment, nothing.
    from: Option<Timestamp>,
    to: Option<Timestamp>,
}

impl Found {
    fn new(kind: &'static str, what: &str, sensor: &str, from: Option<Timestamp>, to: Option<Timestamp>) -> Self {
        let (what, sensor) = (what.to_owned(), sensor.to_owned());
        Self {
            kind,
            what,
            sensor,
            from,
            to,
        }
    }

    /// What was out of order, but for silence: that goes by our clock, not by the data.
    fn read(anomalies: &[Value]) -> Vec<Self> {
        let moment = |at: &Value| Timestamp::parse(at.as_str().unwrap()).ok();
        let text = |it: &Value| it.as_str().unwrap_or_default().to_owned();
        let read = |it: &Value| match it["kind"].as_str().unwrap() {
            "gap" => Self::new(
                "gap",
                &text(&it["metric"]),
                &text(&it["sensor_id"]),
                moment(&it["at"]),
                moment(&it["to"]),
            ),
            "refused" => Self::new("refused", &text(&it["code"]), &text(&it["sensor_id"]), None, None),
            _ => {
                let it = &it["alert"];
                let began = moment(&it["started_at"]);
                Self::new("alert", &text(&it["rule"]), &text(&it["sensor_id"]), began, None)
            }
        };
        let mut all: Vec<Self> = anomalies.iter().map(read).collect();
        all.retain(|found| found.what != "sensor_offline");
        all.sort();
        all
    }
}

/// What is sent beside the rows: a fever, a fall, and something that cannot be, while it is held; another thing that cannot
/// be before and after it.
struct Beside {
    moment: Timestamp,
}

impl Beside {
    const APNOEA_AFTER: Span = Span::millis(100);

    async fn before(server: &Server) {
        let limits = json!({"heart_rate": {}, "spo2": {}, "respiratory_rate": {}});
        server.put("/v1/patients/rec/thresholds", &limits).await;
        Self::impossible(server).await;
    }

    async fn held(&self, server: &Server) {
        Self::impossible(server).await;
        let readings = json!([
            {"patient_id": "rec", "sensor_id": "thermo", "type": "body_temperature", "value": 39.6, "unit": "Cel",
             "at": self.moment},
            {"patient_id": "rec", "sensor_id": "button", "type": "alarm", "code": "fall", "at": self.moment},
        ]);
        let answer = server.post("/v1/readings", &json!({ "readings": readings })).await;
        assert_eq!(answer["accepted"], 2, "{answer}");
    }

    /// An alarm of that time comes when it is over.
    async fn late(&self, server: &Server) {
        Self::impossible(server).await;
        let at = self.moment + Self::APNOEA_AFTER;
        let alarm = json!({"patient_id": "rec", "sensor_id": "button", "type": "alarm", "code": "apnoea", "at": at});
        server.post("/v1/readings", &json!({ "readings": [alarm] })).await;
    }

    async fn impossible(server: &Server) {
        let reading = json!({"patient_id": "rec", "sensor_id": "button", "type": "heart_rate", "value": 900});
        let answer = server.post("/v1/readings", &json!({ "readings": [reading] })).await;
        assert_eq!(answer["rejected"], 1, "{answer}");
    }

    fn told(&self) -> [Found; 4] {
        let (began, late) = (Some(self.moment), Some(self.moment + Self::APNOEA_AFTER));
        [
            Found::new("alert", "body_temperature_high", "thermo", began, None),
            Found::new("alert", "fall", "button", began, None),
            Found::new("alert", "apnoea", "button", late, None),
            Found::new("refused", "implausible", "button", None, None),
        ]
    }
}

async fn consultation(recording: &str, patient: &str) {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    server.put("/v1/patients/rec", &json!({})).await;
    server.until("/v1/patients/rec", |answer| answer["id"] == "rec").await;
    let sensors: BTreeSet<String> = rows(recording, patient, ago(0))
        .into_iter()
        .map(|row| row.sensor)
        .collect();
    for sensor in &sensors {
        server
            .put(&format!("/v1/sensors/{sensor}"), &json!({ "expected_every": 2 }))
            .await;
        let worn = json!({ "patient_id": "rec", "from": ago(60) });
        server.put(&format!("/v1/sensors/{sensor}/assignment"), &worn).await;
    }
    let plan = json!({"id": "c", "patient_id": "rec", "practitioner_id": "dr.b"});
    server.post("/v1/consultations", &plan).await;
    Beside::before(&server).await;
    server.post("/v1/consultations/c/open", &json!({})).await;
    // As it is told again: in whole milliseconds.
    let from = (ago(0) + Span::millis(1)).floor(Span::millis(1));
    let rows = rows(recording, patient, from);
    let beside = Beside { moment: rows[0].at };
    let (kept, live): (Vec<&Row>, Vec<&Row>) = rows.iter().enumerate().fold((vec![], vec![]), |mut both, (n, row)| {
        if n % 5 == 4 {
            both.0.push(row)
        } else {
            both.1.push(row)
        }
        both
    });
    let half = live.len() / 2;
    server.send(&live[..half]).await;
    beside.held(&server).await;
    // Killed with -9 in the middle of it, and started again.
    server.0.kill();
    let server = Server::start(dir.path());
    server.send(&live[half / 2..]).await;
    let end = rows.iter().map(|row| row.at).max().unwrap() + Span::millis(50);
    while ago(0) < end {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    server.post("/v1/consultations/c/close", &json!({})).await;
    // What was kept back comes late, and some of it twice.
    server.send(&kept).await;
    server.send(&live[..half / 2]).await;
    beside.late(&server).await;
    let count = |answer: &Value| {
        let figures = answer["real_time_data"].as_object().cloned().unwrap_or_default();
        figures
            .values()
            .map(|f| f["count"].as_u64().unwrap_or(0) as usize)
            .sum::<usize>()
    };
    let found = server
        .until("/v1/consultations/c", |answer| {
            let there = answer["anomalies_detected"].as_array();
            let late = there.is_some_and(|all| all.iter().any(|it| it["alert"]["rule"] == "apnoea"));
            count(answer) == rows.len() + 1 && late
        })
        .await;
    let moment = |field: &str| Timestamp::parse(found[field].as_str().unwrap()).unwrap();
    let (mut figures, score, pauses) = told(&rows, moment("opened_at"), moment("closed_at"));
    figures.insert("body_temperature".to_owned(), [1.0, 39.6, 39.6, 39.6, 39.6]);
    assert_eq!(
        found["real_time_data"].as_object().unwrap().len(),
        figures.len(),
        "{found}"
    );
    for (metric, expected) in figures {
        let shown = &found["real_time_data"][&metric];
        for (name, expected) in ["count", "min", "max", "mean", "last"].iter().zip(expected) {
            let shown = shown[name].as_f64().unwrap();
            assert!(
                (shown - expected).abs() < 1e-6,
                "{metric} {name}: {shown}, not {expected}"
            );
        }
    }
    let shown = found["data_quality_score"].as_f64().unwrap();
    assert!((shown - score).abs() < 0.11, "{shown}, not {score}");
    assert!(!pauses.is_empty() && score < 90.0, "the pause tells");
    let anomalies = found["anomalies_detected"].as_array().unwrap();
    let pauses = pauses
        .iter()
        .map(|(metric, sensor, from, to)| Found::new("gap", metric, sensor, Some(*from), Some(*to)));
    let mut wanted: Vec<Found> = pauses.chain(beside.told()).collect();
    wanted.sort();
    assert_eq!(Found::read(anomalies), wanted);
    assert_eq!(found["anomalies_complete"], true);
    server.0.kill();
    let data = dir.path().join("up");
    let (status, told, error) = fajma(&["verify", "--data", data.to_str().unwrap()]);
    assert_eq!(status, Some(0), "{told}{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consultation_over_a_made_up_recording_is_what_its_rows_say() {
    consultation(&made_up(), "rec-1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consultation_over_a_night_on_a_ward_is_what_its_rows_say() {
    let Some(file) = real("ward_minute.csv") else { return };
    consultation(&std::fs::read_to_string(file).unwrap(), "ward-1").await;
}
