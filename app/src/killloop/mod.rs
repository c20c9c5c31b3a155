//! The server, killed again and again under load, and every promise checked afterwards.
//!
//! What is checked is computed here from what was sent and acknowledged, not by the server's own arithmetic: each
//! acknowledged reading is in the view exactly once, nothing is there that was not sent, each patient who was in
//! trouble all the time has exactly one alert for it and nobody else has any. Then `verify` must agree.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use api::token::Keys;
use eventlog::{Clock, SystemClock};
use schemas::access::{Principal, Role};
use serde_json::Value;
use smol_str::{SmolStr, format_smolstr};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::client;
use crate::simulate::delivery::{Answered, Delivery, Sender, Target, Verdict};
use crate::simulate::record::{Body, Measured, Record};
use crate::token::sign;

/// What to do.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The binary `fajma`.
    pub binary: PathBuf,
    /// An empty directory.
    pub data: PathBuf,
    /// How often to kill.
    pub kills: u32,
    /// Makes the moments of the kills the same again.
    pub seed: u64,
    /// Patients; every fourth has a heart rate of 190 all the time.
    pub patients: usize,
    /// Between two readings of one patient.
    pub every: Duration,
}

/// What came of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Readings acknowledged.
    pub acknowledged: usize,
    /// Readings in the view.
    pub found: usize,
    /// Alerts found, all of them expected.
    pub alerts: usize,
}

/// Which reading: patient and measured time in milliseconds; each patient has one metric of one sensor.
type Which = (SmolStr, i64);

const ILL: f64 = 190.0;
const WELL: f64 = 75.0;

/// A running server.
struct Running {
    child: Child,
    http: String,
    mqtt: String,
}

impl Running {
    fn start(plan: &Plan, http: &str, mqtt: &str) -> Result<Self, String> {
        let mut child = Command::new(&plan.binary)
            .args(["up", "--json", "--listen", http, "--mqtt", mqtt, "--data"])
            .arg(&plan.data)
            .env("FAJMA_LOGGING_FILTER", "error")
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|e| format!("{}: {e}", plan.binary.display()))?;
        let stdout = child.stdout.take().ok_or("no standard output")?;
        let mut line = String::new();
        let read = BufReader::new(stdout).read_line(&mut line).map_err(|e| e.to_string());
        let told: Result<Value, String> = read.and_then(|_| serde_json::from_str(&line).map_err(|e| e.to_string()));
        let address = |told: &Value, name: &str| told[name].as_str().unwrap_or_default().to_owned();
        match told {
            Ok(told) => Ok(Self {
                http: address(&told, "http"),
                mqtt: address(&told, "mqtt"),
                child,
            }),
            Err(e) => {
                let _ = child.kill();
                let _ = child.wait();
                Err(format!("the server did not start: {e}"))
            }
        }
    }

    fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Does it all.
///
/// # Errors
/// The first promise that was broken, or what kept it from being looked at.
pub async fn run(plan: &Plan) -> Result<Outcome, String> {
    let mut chance = fastrand::Rng::with_seed(plan.seed);
    let mut server = Running::start(plan, "127.0.0.1:0", "127.0.0.1:0")?;
    let (http, mqtt) = (server.http.clone(), server.mqtt.clone());
    let token = admin(&plan.data)?;
    let stop = CancellationToken::new();
    let load = Load::start(plan, (&http, &mqtt), &token, &stop);
    for kill in 1..=plan.kills {
        sleep(Duration::from_millis(chance.u64(50..1200))).await;
        server.kill();
        tracing::info!(kill, "killed");
        server = Running::start(plan, &http, &mqtt)?;
    }
    sleep(Duration::from_millis(500)).await;
    stop.cancel();
    let (sent, acknowledged) = load.finish().await?;
    settled(&http, &token).await?;
    let outcome = check(plan, (&http, &token), &sent, &acknowledged).await?;
    verify(plan)?;
    Ok(outcome)
}

fn admin(data: &Path) -> Result<String, String> {
    let keys = Keys::load(&data.join("token.key")).map_err(|e| e.to_string())?;
    let principal = Principal {
        subject: "kill-loop".into(),
        role: Role::Admin,
        patients: Vec::new(),
        sensors: Vec::new(),
    };
    sign(&keys, &principal, Duration::from_secs(86_400), SystemClock.now()).map_err(|e| e.to_string())
}

/// Readings on their way.
struct Load {
    sending: JoinHandle<Result<BTreeSet<Which>, String>>,
    answers: Vec<JoinHandle<Result<Vec<Which>, String>>>,
}

impl Load {
    fn start(plan: &Plan, (http, mqtt): (&str, &str), token: &str, stop: &CancellationToken) -> Self {
        let delivery = |mqtt: bool, address: &str| Delivery {
            target: Target {
                mqtt,
                tls: false,
                address: address.to_owned(),
            },
            tls: None,
            token: Some(token.to_owned()),
            connections: 2,
            window: 64,
            batch: 1,
            patience: Duration::from_secs(60),
        };
        let (by_http, http_answers) = delivery(false, http).start();
        let (by_mqtt, mqtt_answers) = delivery(true, mqtt).start();
        Self {
            sending: tokio::spawn(send(plan.clone(), [by_http, by_mqtt], stop.clone())),
            answers: [http_answers, mqtt_answers].map(|a| tokio::spawn(collect(a))).into(),
        }
    }

    async fn finish(self) -> Result<(BTreeSet<Which>, Vec<Which>), String> {
        let sent = self.sending.await.map_err(|e| e.to_string())??;
        let mut acknowledged = Vec::new();
        for answers in self.answers {
            acknowledged.extend(answers.await.map_err(|e| e.to_string())??);
        }
        Ok((sent, acknowledged))
    }
}

fn patient(n: usize) -> SmolStr {
    format_smolstr!("kill-{n:03}")
}

const fn is_ill(n: usize) -> bool {
    n.is_multiple_of(4)
}

async fn send(plan: Plan, mut senders: [Sender; 2], stop: CancellationToken) -> Result<BTreeSet<Which>, String> {
    let mut sent = BTreeSet::new();
    let mut beat = tokio::time::interval(plan.every);
    let mut seq = 0;
    let mut last = 0;
    while !stop.is_cancelled() {
        beat.tick().await;
        // Times in whole milliseconds, each greater than the one before, so that a reading is known by its time.
        last = SystemClock.now().millis().max(last + 1);
        seq += 1;
        for n in 0..plan.patients {
            let record = Record {
                patient: patient(n),
                sensor: format_smolstr!("{}-ecg", patient(n)),
                at: schemas::time::Timestamp::from_millis(last),
                seq: Some(seq),
                epoch: Some(1),
                body: Body::Measured(Measured {
                    metric: "heart_rate".into(),
                    value: if is_ill(n) { ILL } else { WELL },
                    unit: Some("/min".into()),
                    quality: Some(95),
                    contact: Some(true),
                }),
            };
            sent.insert((record.patient.clone(), last));
            senders[n % 2].send(record).await.map_err(|e| e.to_string())?;
        }
    }
    for sender in senders {
        sender.finish().await.map_err(|e| e.to_string())?;
    }
    Ok(sent)
}

async fn collect(mut answers: mpsc::Receiver<Answered>) -> Result<Vec<Which>, String> {
    let mut acknowledged = Vec::new();
    while let Some(answered) = answers.recv().await {
        match answered.verdict {
            Verdict::Judged { refused, .. } if refused.is_empty() => {
                let which = answered.message.records.into_iter().map(|r| (r.patient, r.at.millis()));
                acknowledged.extend(which);
            }
            Verdict::Judged { refused, .. } => return Err(format!("good readings were refused: {refused:?}")),
            Verdict::Unanswered(why) => return Err(format!("a reading got no answer within a minute: {why}")),
        }
    }
    Ok(acknowledged)
}

/// Waits until processors and views have come to the journal's end, ticks aside.
async fn settled(http: &str, token: &str) -> Result<(), String> {
    let until = Instant::now() + Duration::from_secs(60);
    let mut quiet = 0;
    loop {
        let stats = client::get(http, "/v1/stats", token).await?;
        let lag = stats["lag"]
            .as_array()
            .map(|all| all.iter().filter_map(|l| l["records"].as_u64()).sum::<u64>());
        // Every second ticks come, one per partition: a few records are always under way.
        quiet = if lag.is_some_and(|lag| lag < 64) { quiet + 1 } else { 0 };
        if quiet >= 4 {
            return Ok(());
        }
        if Instant::now() > until {
            return Err(format!("the views did not catch up: {}", stats["lag"]));
        }
        sleep(Duration::from_millis(600)).await;
    }
}

async fn check(
    plan: &Plan,
    (http, token): (&str, &str),
    sent: &BTreeSet<Which>,
    acknowledged: &[Which],
) -> Result<Outcome, String> {
    let mut found: BTreeMap<Which, u32> = BTreeMap::new();
    let mut alerts = 0;
    for n in 0..plan.patients {
        let patient = patient(n);
        for reading in all(
            http,
            &format!("/v1/patients/{patient}/readings?metric=heart_rate&limit=1000"),
            "readings",
            token,
        )
        .await?
        {
            let at = reading["at"]
                .as_str()
                .and_then(|at| schemas::time::Timestamp::parse(at).ok());
            let at = at.ok_or_else(|| format!("a reading without a time: {reading}"))?;
            *found.entry((patient.clone(), at.millis())).or_default() += 1;
        }
        let path = format!("/v1/patients/{patient}/alerts?limit=1000");
        let clinical = all(http, &path, "alerts", token).await?;
        let clinical: Vec<_> = clinical.into_iter().filter(|a| a["class"] == "clinical").collect();
        let critical = clinical
            .iter()
            .filter(|a| a["severity"] == "CRITICAL" && a["rule"] == "heart_rate_high")
            .count();
        if (clinical.len(), critical) != if is_ill(n) { (1, 1) } else { (0, 0) } {
            return Err(format!("{patient} (ill: {}) has these alerts: {clinical:?}", is_ill(n)));
        }
        alerts += clinical.len();
    }
    let lost: Vec<_> = acknowledged
        .iter()
        .filter(|which| !found.contains_key(*which))
        .take(5)
        .collect();
    let doubled: Vec<_> = found.iter().filter(|(_, n)| **n != 1).take(5).collect();
    let invented: Vec<_> = found.keys().filter(|which| !sent.contains(*which)).take(5).collect();
    if !lost.is_empty() || !doubled.is_empty() || !invented.is_empty() {
        return Err(format!(
            "acknowledged but lost: {lost:?}; more than once: {doubled:?}; never sent: {invented:?}"
        ));
    }
    Ok(Outcome {
        acknowledged: acknowledged.len(),
        found: found.len(),
        alerts,
    })
}

/// Every row of a list, page by page.
async fn all(http: &str, path: &str, name: &str, token: &str) -> Result<Vec<Value>, String> {
    let mut rows = Vec::new();
    let mut next = path.to_owned();
    loop {
        let mut page = client::get(http, &next, token).await?;
        if let Value::Array(mut some) = page[name].take() {
            rows.append(&mut some);
        } else {
            return Err(format!("{next} has no {name}: {page}"));
        }
        match page["next_cursor"].as_str() {
            Some(cursor) => next = format!("{path}&cursor={cursor}"),
            None => return Ok(rows),
        }
    }
}

fn verify(plan: &Plan) -> Result<(), String> {
    let verified = Command::new(&plan.binary)
        .args(["verify", "--json", "--data"])
        .arg(&plan.data)
        .output()
        .map_err(|e| e.to_string())?;
    if verified.status.success() {
        return Ok(());
    }
    let (out, err) = (
        String::from_utf8_lossy(&verified.stdout),
        String::from_utf8_lossy(&verified.stderr),
    );
    Err(format!("fajma verify does not agree: {out}{err}"))
}
