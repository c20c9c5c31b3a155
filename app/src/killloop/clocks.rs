//! Doors whose clocks are wrong, two by an hour and one by five seconds, beside one that is right: no sensor is called
//! silent by it, no alert changes by it, nothing is refused by it; those that are wrong say so and do not tick, and those
//! that are far off take nothing.

use std::path::PathBuf;
use std::time::Duration;

use eventlog::{Clock, SystemClock, Topic};
use hyper::Method;
use hyper::body::Bytes;
use ingest::ticker::WITNESSES;
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

/// By how many seconds doors beside the right one are off, and whether they take what comes all the same.
const WRONG: [(&str, bool); 3] = [("+3600", false), ("-3600", false), ("-5", true)];
const PATIENTS: usize = 8;
/// Whose sensor is really silent, from a third of the time on.
const SILENT: usize = PATIENTS - 1;
/// What sensors are registered with, seconds; after three times that they are silent.
const EVERY: i64 = 5;
/// How many seconds later a silence may be found than it is one.
const FOUND: f64 = 30.0;
/// How long a question may go without a good answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// A door and how wrong its clock is.
struct Door {
    address: String,
    by: &'static str,
    takes: bool,
}

fn patient(n: usize) -> String {
    format!("clock-{n}")
}

fn sensor(n: usize) -> String {
    format!("clock-{n}-ecg")
}

/// Sends for so long through all doors. What was seen, in sentences.
///
/// # Errors
/// What a wrong clock did, or what kept it from being looked at.
pub async fn run(plan: &Plan, library: PathBuf, lasting: Duration) -> Result<Vec<String>, String> {
    let mut fleet = Fleet::start(plan).await?;
    let token = admin(&plan.data)?;
    let mut doors = vec![Door {
        address: fleet.http.clone(),
        by: "0",
        takes: true,
    }];
    for (by, takes) in WRONG {
        let library = library.clone();
        let address = fleet.add(plan, "ingest", Some(Skew { library, by }))?;
        doors.push(Door { address, by, takes });
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
    told.push(refusals(plan, &mut wrong).await?);
    let evidence = evidence::read(plan).await?;
    wrong.extend(evidence.wrong.iter().cloned());
    told.push(silences(&evidence, last, &mut wrong));
    told.push(alerts(&evidence, (began, ended), &mut wrong));
    told.push(ticks(&evidence, ended - began, &mut wrong));
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

/// A reading of each patient each second, each time through another door, and through the right one where that takes nothing.
/// When the silent one was heard last.
async fn send(doors: &[Door], desk: &str, token: &str, lasting: Duration) -> Result<Timestamp, String> {
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
            if door.takes {
                taken(&door.address, token, &readings).await?;
            } else {
                not_now(door, token, &readings).await?;
                taken(&doors[0].address, token, &readings).await?;
            }
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

/// A door that is far off says so, whatever comes.
async fn not_now(door: &Door, token: &str, readings: &[Value]) -> Result<(), String> {
    let body = json!({ "readings": readings });
    let sent = timeout(PATIENCE, client::post(&door.address, "/v1/readings", token, &body)).await;
    match sent {
        Ok(Ok((503, said))) if said["code"] == "clock_wrong" => Ok(()),
        answer => Err(format!("the door that is {} s off: {answer:?}", door.by)),
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
async fn said(doors: &[Door], token: &str, wrong: &mut Vec<String>) -> Result<Vec<String>, String> {
    let mut told = Vec::new();
    for Door { address, by, takes } in doors {
        let nothing = || ("", Bytes::new());
        let (status, ready) = client::call(address, Method::GET, "/readyz", "", nothing()).await?;
        let (counted, metrics) = client::call(address, Method::GET, "/metrics", token, nothing()).await?;
        let metrics = metrics.as_str().unwrap_or_default();
        let refused = metrics
            .lines()
            .find_map(|line| line.strip_prefix("fajma_ticks_refused_total "));
        let refused: f64 = refused.and_then(|n| n.parse().ok()).unwrap_or(0.0);
        let says = ready["reasons"].to_string().contains("the clock is");
        let right = *by == "0";
        let takes_nothing = ready["reasons"].to_string().contains("nothing is taken");
        // By a clock that is behind a token is not good yet, and nobody is told.
        let ticks = counted != 200 || (refused > 0.0) != right;
        if says == right || !ticks || (status == 200) != right || takes_nothing == *takes {
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

/// Nothing that was sent is anything but good.
async fn refusals(plan: &Plan, wrong: &mut Vec<String>) -> Result<String, String> {
    let log = evidence::open(plan).await?;
    let mut refused = 0;
    for partition in 0..log.layout().partitions {
        let bounds = log.bounds(Topic::Rejected, partition).await;
        refused += bounds.map_err(|e| e.to_string())?.end;
    }
    if refused > 0 {
        wrong.push(format!("{refused} records were refused"));
    }
    Ok(format!("{refused} records refused"))
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

fn ticks(evidence: &Evidence, lasted: Span, wrong: &mut Vec<String>) -> String {
    let records = evidence.parts.iter().flat_map(|part| &part.journal);
    let ticks = records.filter(|record| matches!(record.envelope.fact, Fact::ClockTicked(_)));
    let (mut all, mut by_an_hour) = (0, 0_i64);
    for tick in ticks {
        all += 1;
        let apart = tick.envelope.measured_at - tick.appended_at;
        by_an_hour += i64::from(apart.0.abs() > Span::minutes(30).0);
    }
    // Each of the two probes at first and every half minute.
    let probes = 2 * i64::from(WITNESSES) * (2 + lasted.0 / Span::seconds(30).0);
    if by_an_hour > probes {
        wrong.push(format!("{by_an_hour} ticks of clocks that are an hour off"));
    }
    let records = evidence.parts.iter().flat_map(|part| &part.journal);
    let readings = records.filter(|record| matches!(record.envelope.fact, Fact::Reading(_)));
    let late =
        readings.filter(|record| (record.envelope.received_at - record.appended_at).0.abs() > Span::minutes(1).0);
    let late = late.count();
    if late > 0 {
        wrong.push(format!("{late} readings were received by a clock that is far off"));
    }
    format!("{all} ticks, {by_an_hour} of them an hour off: probes")
}
