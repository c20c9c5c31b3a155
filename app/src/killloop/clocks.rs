//! Doors whose clocks are wrong, one by an hour and one by five seconds, beside one that is right: no sensor is called
//! silent by it, no alert changes by it, and those that are wrong say so and do not tick.

use std::path::PathBuf;
use std::time::Duration;

use eventlog::{Clock, SystemClock};
use hyper::Method;
use hyper::body::Bytes;
use schemas::derived::{Derived, Outcome};
use schemas::facts::{AlertChange, Liveness, Severity};
use schemas::journal::Fact;
use schemas::time::{Span, Timestamp};
use serde_json::{Value, json};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

use super::evidence::{self, Evidence};
use super::fleet::Fleet;
use super::server::{self, Skew};
use super::{Plan, admin};
use crate::client;

/// By how many seconds doors beside the right one are off.
const WRONG: [&str; 2] = ["+3600", "-5"];
const PATIENTS: usize = 8;
/// Whose sensor is really silent, from a third of the time on.
const SILENT: usize = PATIENTS - 1;
/// What sensors are registered with, seconds; after three times that they are silent.
const EVERY: i64 = 5;
/// How many seconds later a silence may be found than it is one.
const FOUND: f64 = 30.0;
/// How long a question may go without a good answer.
const PATIENCE: Duration = Duration::from_secs(60);

fn patient(n: usize) -> String {
    format!("clock-{n}")
}

fn sensor(n: usize) -> String {
    format!("clock-{n}-ecg")
}

/// Sends for so long through all three doors. What was seen, in sentences.
///
/// # Errors
/// What a wrong clock did, or what kept it from being looked at.
pub async fn run(plan: &Plan, library: PathBuf, lasting: Duration) -> Result<Vec<String>, String> {
    let mut fleet = Fleet::start(plan).await?;
    let token = admin(&plan.data)?;
    let mut doors = vec![fleet.http.clone()];
    for by in WRONG {
        let library = library.clone();
        doors.push(fleet.add(plan, "ingest", Some(Skew { library, by }))?);
    }
    for n in 0..PATIENTS {
        let desk = &fleet.desk;
        put(desk, &format!("/v1/patients/{}", patient(n)), &token, json!({})).await?;
        put(
            desk,
            &format!("/v1/sensors/{}", sensor(n)),
            &token,
            json!({ "expected_every": EVERY }),
        )
        .await?;
        let path = format!("/v1/sensors/{}/assignment", sensor(n));
        put(desk, &path, &token, json!({ "patient_id": patient(n) })).await?;
    }
    let began = SystemClock.now();
    let last = send(&doors, &fleet.desk, &token, lasting).await?;
    let mut wrong = Vec::new();
    let mut told = said(&doors, &token, &mut wrong).await?;
    let ended = SystemClock.now();
    fleet.stop().await?;
    let evidence = evidence::read(plan).await?;
    wrong.extend(evidence.wrong.iter().cloned());
    told.push(silences(&evidence, last, &mut wrong));
    told.push(alerts(&evidence, (began, ended), &mut wrong));
    told.push(ticks(&evidence, &mut wrong));
    if !wrong.is_empty() {
        return Err(format!("{}\nseen: {}", wrong.join("\n"), told.join("\n")));
    }
    server::verify(plan)?;
    Ok(told)
}

async fn put(desk: &str, path: &str, token: &str, body: Value) -> Result<(), String> {
    let until = Instant::now() + PATIENCE;
    loop {
        let json = ("application/json", Bytes::from(body.to_string()));
        match client::call(desk, Method::PUT, path, token, json).await {
            Ok((200 | 201, _)) => return Ok(()),
            // Views behind, or somebody else was first: again.
            answer if Instant::now() >= until => return Err(format!("PUT {path}: {answer:?}")),
            _ => sleep(Duration::from_millis(200)).await,
        }
    }
}

/// A reading of each patient each second, each time through another door. When the silent one was heard last.
async fn send(doors: &[String], desk: &str, token: &str, lasting: Duration) -> Result<Timestamp, String> {
    let began = Instant::now();
    let mut second = interval(Duration::from_secs(1));
    second.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut beat, mut last, mut snoozed) = (0, SystemClock.now(), false);
    while began.elapsed() < lasting {
        second.tick().await;
        beat += 1;
        let quiet = began.elapsed() > lasting / 3;
        let now = SystemClock.now();
        if !quiet {
            last = now;
        }
        for (d, door) in doors.iter().enumerate() {
            let whose = (0..PATIENTS).filter(|n| (n + beat) % doors.len() == d && !(quiet && *n == SILENT));
            // The first is ill all the time, and no more than that.
            let reading = |n: usize| {
                json!({"patient_id": patient(n), "sensor_id": sensor(n), "type": "heart_rate",
                    "value": if n == 0 { 120 } else { 75 }, "unit": "/min", "at": now})
            };
            let readings: Vec<Value> = whose.map(reading).collect();
            taken(door, token, &readings).await?;
        }
        if !snoozed {
            snoozed = snooze(desk, token).await?;
        }
    }
    if snoozed {
        Ok(last)
    } else {
        Err("the alert that was due was not shown".to_owned())
    }
}

async fn taken(door: &str, token: &str, readings: &[Value]) -> Result<(), String> {
    let until = Instant::now() + PATIENCE;
    let body = json!({ "readings": readings });
    loop {
        let sent = client::post(door, "/v1/readings", token, &body);
        match timeout(PATIENCE, sent).await {
            Ok(Ok((200, said))) if said["rejected"] == 0 => return Ok(()),
            Ok(Ok((200, said))) => return Err(format!("good readings were refused: {said}")),
            answer if Instant::now() >= until => return Err(format!("a door takes nothing: {answer:?}")),
            _ => sleep(Duration::from_millis(200)).await,
        }
    }
}

/// Silences the alert of the first patient for ten minutes, where it is there.
async fn snooze(desk: &str, token: &str) -> Result<bool, String> {
    let path = format!("/v1/patients/{}/alerts", patient(0));
    let alerts = client::get(desk, &path, token).await.unwrap_or_default();
    let Some(id) = alerts["alerts"][0]["id"].as_str() else {
        return Ok(false);
    };
    let until = SystemClock.now() + Span::minutes(10);
    let body = json!({"until": until, "text": "seen"});
    let (status, said) = client::post(desk, &format!("/v1/alerts/{id}/snooze"), token, &body).await?;
    if status == 200 {
        Ok(true)
    } else {
        Err(format!("an alert could not be silenced: {status} {said}"))
    }
}

/// What the doors say of their clocks.
async fn said(doors: &[String], token: &str, wrong: &mut Vec<String>) -> Result<Vec<String>, String> {
    let mut told = Vec::new();
    for (door, by) in doors.iter().zip([&["0"][..], &WRONG].concat()) {
        let nothing = || ("", Bytes::new());
        let (status, ready) = client::call(door, Method::GET, "/readyz", "", nothing()).await?;
        let (_, metrics) = client::call(door, Method::GET, "/metrics", token, nothing()).await?;
        let metrics = metrics.as_str().unwrap_or_default();
        let refused = metrics
            .lines()
            .find_map(|line| line.strip_prefix("fajma_ticks_refused_total "));
        let refused: f64 = refused.and_then(|n| n.parse().ok()).unwrap_or(0.0);
        let says = ready["reasons"].to_string().contains("the clock is");
        let right = by == "0";
        if says == right || (refused > 0.0) == right || (status == 200) != right {
            wrong.push(format!(
                "the door that is {by} s off: {status} {ready}, {refused} ticks refused"
            ));
        }
        told.push(format!(
            "door {by} s off: readyz {status} {}, {refused} ticks refused",
            ready["reasons"]
        ));
    }
    Ok(told)
}

fn silences(evidence: &Evidence, last: Timestamp, wrong: &mut Vec<String>) -> String {
    let devices = evidence.parts.iter().flat_map(|part| &part.devices);
    let mut found = Vec::new();
    for record in devices {
        let Outcome::Device(device) = &record.outcome else {
            continue;
        };
        if device.liveness != Liveness::Offline {
            continue;
        }
        if device.sensor_id.as_str() == sensor(SILENT) {
            found.push(device.since - last);
        } else {
            wrong.push(format!("called silent and was not: {device:?}"));
        }
    }
    let found: Vec<f64> = found.into_iter().map(Span::as_seconds).collect();
    let due = Span::seconds(3 * EVERY).as_seconds();
    // Recorded time may be two seconds from the time of this process.
    let allowed = (due - 2.0)..(due + FOUND);
    if found.is_empty() || found.iter().any(|after| !allowed.contains(after)) {
        wrong.push(format!(
            "the sensor that was silent was called so {found:?} s after, due is {due} s"
        ));
    }
    format!("the one silent sensor was called so {found:?} s after its last message, no other")
}

fn alerts(evidence: &Evidence, (began, ended): (Timestamp, Timestamp), wrong: &mut Vec<String>) -> String {
    let all: Vec<&Derived> = evidence.parts.iter().flat_map(|part| &part.alerts).collect();
    let mut changes = Vec::new();
    for record in all {
        let Outcome::Alert(alert) = &record.outcome else {
            continue;
        };
        let whose = record.key.text();
        let due = match alert.change {
            AlertChange::Raised if alert.rule == "sensor_offline" => whose == patient(SILENT),
            AlertChange::Raised | AlertChange::Snoozed => whose == patient(0) && alert.rule == "heart_rate_high",
            _ => false,
        };
        changes.push((alert.rule.clone(), alert.change));
        let expected = due
            && alert.severity == Severity::Warning
            && !alert.retrospective
            && alert.raised_at >= began - Span::seconds(2)
            && alert.raised_at <= ended + Span::seconds(2);
        if !expected {
            wrong.push(format!("an alert that no right clock gives: {alert:?}"));
        }
    }
    if changes.len() != 3 {
        wrong.push(format!("of a rate, its silencing and a silence there are {changes:?}"));
    }
    format!("alerts: {changes:?}, and nothing else")
}

fn ticks(evidence: &Evidence, wrong: &mut Vec<String>) -> String {
    let records = evidence.parts.iter().flat_map(|part| &part.journal);
    let ticks = records.filter(|record| matches!(record.envelope.fact, Fact::ClockTicked(_)));
    let (mut all, mut by_an_hour) = (0, 0);
    for tick in ticks {
        all += 1;
        let apart = tick.envelope.measured_at - tick.appended_at;
        by_an_hour += usize::from(apart.0.abs() > Span::minutes(30).0);
    }
    if by_an_hour > 1 {
        wrong.push(format!("{by_an_hour} ticks of the clock that is an hour off"));
    }
    format!("{all} ticks, {by_an_hour} of them an hour off: the probe")
}
