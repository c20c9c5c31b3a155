//! The views' database away for minutes, then the broker for half of one, under load: what goes on, what waits, what is
//! said; and that nothing is lost and nothing doubled.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use eventlog::{Clock, EventLog, SystemClock, Topic};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::engines::Engines;
use super::{Outcome, Plan, Ward, evidence};
use crate::client;
use crate::simulate::listening;

/// How long each is away.
#[derive(Debug, Clone, Copy)]
pub struct Away {
    /// The views' database.
    pub store: Duration,
    /// The broker.
    pub broker: Duration,
}

/// Before, between and after: everything is as usual.
const CALM: Duration = Duration::from_secs(5);
/// How soon whoever lives by the database must say that it is away.
const SAID: Duration = Duration::from_secs(15);
/// How long everything may take to be well again; views besides that as long as their database was away.
const WELL: Duration = Duration::from_secs(180);
/// How long a question may take.
const ANSWER: Duration = Duration::from_secs(60);
/// Views that are no further behind than this have caught up: the load goes on.
const CAUGHT_UP: u64 = 500;
const ROLES: [&str; 4] = ["ingest", "process", "project", "serve"];

/// Takes both away, one after the other. What came of it, and what was seen, a sentence each.
///
/// # Errors
/// What did not go as promised.
pub async fn run(plan: &Plan, away: Away) -> Result<(Outcome, Vec<String>), String> {
    let engines = plan.engines.as_ref();
    let engines = engines.ok_or("outages need engines that were started for them: docker/engines/engines run")?;
    let brokers = engines.brokers().await?;
    let [broker] = &brokers[..] else {
        return Err("the broker that is taken away must be the only one".to_owned());
    };
    let ward = Ward::open(plan).await?;
    let seen = Seen::begin(&ward).await?;
    sleep(CALM).await;
    let store = seen.store_away(engines, &ward, away.store).await?;
    sleep(CALM).await;
    let log = seen.broker_away(engines, broker, &ward, away.broker).await?;
    sleep(CALM).await;
    let (outcome, _) = ward.close().await?;
    Ok((outcome, [store, log].concat()))
}

/// Who looks on.
struct Seen {
    log: Arc<dyn EventLog>,
    /// Alerts that came by MQTT.
    heard: Arc<AtomicU64>,
}

impl Seen {
    async fn begin(ward: &Ward<'_>) -> Result<Self, String> {
        let heard: Arc<AtomicU64> = Arc::default();
        let (counted, stop) = (Arc::clone(&heard), ward.stop.clone());
        let (address, token) = (ward.fleet.mqtt.clone(), ward.token.clone());
        tokio::spawn(async move {
            let count = |_| {
                counted.fetch_add(1, Ordering::Relaxed);
            };
            listening::listen(&address, &token, "fajma/patient/+/alerts/critical", count, stop).await
        });
        Ok(Self {
            log: evidence::open(ward.plan).await?,
            heard,
        })
    }

    /// Changes of alerts in the log, and alerts heard.
    async fn alerts(&self) -> Result<(i64, u64), String> {
        let mut ends = 0;
        for partition in 0..self.log.layout().partitions {
            let bounds = self.log.bounds(Topic::Alerts, partition).await;
            ends += bounds.map_err(|e| e.to_string())?.end;
        }
        Ok((ends, self.heard.load(Ordering::Relaxed)))
    }

    async fn store_away(&self, engines: &Engines, ward: &Ward<'_>, away: Duration) -> Result<Vec<String>, String> {
        let before = self.alerts().await?;
        engines.kill("cassandra").await?;
        let began = Instant::now();
        let (mut said, mut desk): (BTreeMap<&str, Duration>, BTreeMap<u16, usize>) = Default::default();
        while began.elapsed() < away {
            for role in ["project", "serve"] {
                if reasons(ward, role).await?.iter().any(|why| why.contains("database")) {
                    said.entry(role).or_insert_with(|| began.elapsed());
                }
            }
            for role in ["ingest", "process"] {
                let reasons = reasons(ward, role).await?;
                if !reasons.is_empty() {
                    return Err(format!("only the database is away, and {role} says: {reasons:?}"));
                }
            }
            *desk.entry(asked(ward).await?).or_default() += 1;
            sleep(Duration::from_secs(1)).await;
        }
        let after = self.alerts().await?;
        let (published, heard) = (after.0 - before.0, after.1 - before.1);
        if published == 0 || heard == 0 {
            return Err(format!(
                "{published} changes of alerts published while the database was away, {heard} heard by MQTT"
            ));
        }
        for role in ["project", "serve"] {
            if said.get(role).is_none_or(|after| *after > SAID) {
                return Err(format!("{role} did not say that the database is away: {said:?}"));
            }
        }
        if desk.keys().any(|status| *status < 500) {
            return Err(format!("the desk answered without a database: {desk:?}"));
        }
        engines.again("cassandra").await?;
        let back = Instant::now();
        well(ward).await?;
        let ready = back.elapsed();
        caught_up(ward, away + WELL).await?;
        Ok(vec![
            format!(
                "database killed, {} s away: {published} changes of alerts published meanwhile, {heard} alerts heard by \
                 MQTT, doors and processors ready all the time",
                away.as_secs()
            ),
            format!("  readiness said so {said:?} after the kill; what the desk answered, by status: {desk:?}"),
            format!(
                "  started again: all ready {ready:?} after it answered, views caught up after {:?}",
                back.elapsed()
            ),
        ])
    }

    async fn broker_away(
        &self,
        engines: &Engines,
        broker: &str,
        ward: &Ward<'_>,
        away: Duration,
    ) -> Result<Vec<String>, String> {
        engines.kill(broker).await?;
        let began = Instant::now();
        let mut knocks = JoinSet::new();
        let mut said = BTreeMap::new();
        while began.elapsed() < away {
            let (door, token) = (ward.fleet.http.clone(), ward.token.clone());
            knocks.spawn(async move { (knock(&door, &token).await, began.elapsed()) });
            for role in ROLES {
                if !reasons(ward, role).await?.is_empty() {
                    said.entry(role).or_insert_with(|| began.elapsed());
                }
            }
            sleep(Duration::from_secs(1)).await;
        }
        let until = began.elapsed();
        engines.again(broker).await?;
        let back = began.elapsed();
        let mut answers: BTreeMap<u16, usize> = BTreeMap::new();
        while let Some(answered) = knocks.join_next().await {
            let (status, at) = answered.map_err(|e| e.to_string())?;
            let status = status?;
            if status == 200 && at < until {
                return Err(format!(
                    "a door acknowledged {at:?} after the broker was killed, without one"
                ));
            }
            if status != 200 && status != 503 {
                return Err(format!("a door without a broker answered {status}, not 503"));
            }
            *answers.entry(status).or_default() += 1;
        }
        well(ward).await?;
        while knock(&ward.fleet.http, &ward.token).await? != 200 {
            sleep(Duration::from_millis(200)).await;
        }
        caught_up(ward, WELL).await?;
        Ok(vec![
            format!(
                "broker killed, {back:?} until it answered again: doors answered, by status, {answers:?} (200: once it was back)"
            ),
            format!(
                "  readiness said so, after the kill: {said:?}; all well and caught up after {:?}",
                began.elapsed()
            ),
        ])
    }
}

/// What each process of a role says is missing.
async fn reasons(ward: &Ward<'_>, role: &str) -> Result<Vec<String>, String> {
    let mut all = Vec::new();
    for address in ward.fleet.addresses(role) {
        let nothing = ("", bytes::Bytes::new());
        let asking = client::call(&address, hyper::Method::GET, "/readyz", "", nothing);
        let asked = timeout(ANSWER, asking).await;
        let (status, said) = asked.map_err(|_| format!("{role} does not say whether it is ready"))??;
        if status != 200 {
            let said = said["reasons"].as_array().cloned().unwrap_or_default();
            all.extend(said.iter().map(|why| why.as_str().unwrap_or_default().to_owned()));
        }
    }
    Ok(all)
}

/// What the desk answers to a doctor who asks for alerts.
async fn asked(ward: &Ward<'_>) -> Result<u16, String> {
    let nothing = ("", bytes::Bytes::new());
    let path = "/v1/alerts?limit=1";
    let asking = client::call(&ward.fleet.desk, hyper::Method::GET, path, &ward.token, nothing);
    let asked = timeout(ANSWER, asking).await;
    Ok(asked.map_err(|_| "the desk does not answer at all")??.0)
}

/// Sends something that is refused, whose refusal must be durable before it is told.
async fn knock(door: &str, token: &str) -> Result<u16, String> {
    let impossible = json!({"readings": [{"patient_id": "knock", "sensor_id": "knock", "type": "heart_rate",
        "value": 99_999, "unit": "/min", "at": SystemClock.now()}]});
    let asked = timeout(ANSWER, client::post(door, "/v1/readings", token, &impossible)).await;
    Ok(asked.map_err(|_| "a door does not answer at all")??.0)
}

/// Until everybody says that all is well.
async fn well(ward: &Ward<'_>) -> Result<(), String> {
    let until = Instant::now() + WELL;
    loop {
        let mut missing = Vec::new();
        for role in ROLES {
            missing.append(&mut reasons(ward, role).await?);
        }
        match missing.first() {
            None => return Ok(()),
            Some(why) if Instant::now() >= until => return Err(format!("not well again: {why}")),
            Some(_) => sleep(Duration::from_millis(200)).await,
        }
    }
}

/// Until the views are hardly behind.
async fn caught_up(ward: &Ward<'_>, patience: Duration) -> Result<(), String> {
    let until = Instant::now() + patience;
    loop {
        let mut behind = 0;
        for address in ward.fleet.addresses("project") {
            let stats = client::get(&address, "/v1/stats", &ward.token).await?;
            let lags = stats["lag"].as_array().ok_or("no lag is shown")?;
            let of_views = lags.iter().filter(|lag| lag["reader"] == "views");
            behind += of_views.filter_map(|lag: &Value| lag["records"].as_u64()).sum::<u64>();
        }
        if behind < CAUGHT_UP {
            return Ok(());
        }
        if Instant::now() >= until {
            return Err(format!("the views are still {behind} records behind"));
        }
        sleep(Duration::from_millis(500)).await;
    }
}
