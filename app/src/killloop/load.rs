//! Readings on their way through both doors at once, across every kill, with repeats after each.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use eventlog::{Clock, SystemClock};
use smol_str::SmolStr;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::Plan;
use super::bodies::Patient;
use crate::simulate::delivery::{Answered, Delivery, Sender, Target, Verdict};
use crate::simulate::record::{Body, Record};

/// Which record: patient, metric or code of an alarm, measured time in milliseconds.
pub(super) type Which = (SmolStr, SmolStr, i64);

/// How many earlier records are sent once more after each restart.
const AGAIN: usize = 60;

/// What was sent, and what of it a door has acknowledged.
#[derive(Debug, Default)]
pub(super) struct Delivered {
    pub(super) sent: BTreeSet<Which>,
    pub(super) acknowledged: BTreeSet<Which>,
}

/// Readings on their way.
pub(super) struct Load {
    restarts: Arc<AtomicU32>,
    sending: JoinHandle<Result<BTreeSet<Which>, String>>,
    answers: Vec<JoinHandle<Result<BTreeSet<Which>, String>>>,
}

fn which(record: &Record) -> Which {
    let what = match &record.body {
        Body::Measured(measured) => measured.metric.clone(),
        Body::Alarm(code) => SmolStr::new_static(code),
        Body::BloodPressure { .. } => SmolStr::new_static("blood_pressure"),
    };
    (record.patient.clone(), what, record.at.millis())
}

impl Load {
    pub(super) fn start(plan: &Plan, (http, mqtt): (&str, &str), token: &str, stop: &CancellationToken) -> Self {
        let delivery = |mqtt: bool, address: &str| Delivery {
            target: Target {
                mqtt,
                tls: false,
                address: address.to_owned(),
            },
            tls: None,
            token: Some(token.to_owned()),
            connections: 3,
            window: 64,
            batch: if mqtt { 1 } else { 6 },
            patience: Duration::from_secs(180),
        };
        let (by_http, http_answers) = delivery(false, http).start();
        let (by_mqtt, mqtt_answers) = delivery(true, mqtt).start();
        let restarts = Arc::new(AtomicU32::new(0));
        let sending = send(plan.clone(), [by_http, by_mqtt], Arc::clone(&restarts), stop.clone());
        Self {
            restarts,
            sending: tokio::spawn(sending),
            answers: [http_answers, mqtt_answers].map(|a| tokio::spawn(collect(a))).into(),
        }
    }

    /// The server was started again: some of what it had is sent to it once more.
    pub(super) fn restarted(&self) {
        self.restarts.fetch_add(1, Ordering::Relaxed);
    }

    /// Waits until everything has its answer.
    pub(super) async fn finish(self) -> Result<Delivered, String> {
        let sent = self.sending.await.map_err(|e| e.to_string())??;
        let mut acknowledged = BTreeSet::new();
        for answers in self.answers {
            acknowledged.append(&mut answers.await.map_err(|e| e.to_string())??);
        }
        Ok(Delivered { sent, acknowledged })
    }
}

async fn send(
    plan: Plan,
    mut senders: [Sender; 2],
    restarts: Arc<AtomicU32>,
    stop: CancellationToken,
) -> Result<BTreeSet<Which>, String> {
    let mut chance = fastrand::Rng::with_seed(plan.seed);
    let began = SystemClock.now();
    let mut patients: Vec<Patient> = (0..plan.patients)
        .map(|n| Patient::new(n, began, plan.alarms))
        .collect();
    let (mut sent, mut kept, mut seen) = (BTreeSet::new(), Vec::new(), 0);
    let mut beat = tokio::time::interval(plan.every);
    beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while !stop.is_cancelled() {
        beat.tick().await;
        let now = SystemClock.now();
        let mut due = Vec::new();
        for patient in &mut patients {
            due.append(&mut patient.beat(now, &mut chance));
        }
        if restarts.load(Ordering::Relaxed) > seen && !kept.is_empty() {
            seen += 1;
            due.extend((0..AGAIN).map(|_| Record::clone(&kept[chance.usize(..kept.len())])));
        }
        for record in due {
            sent.insert(which(&record));
            kept.push(record.clone());
            give(&mut senders, record, &mut chance).await?;
        }
        for sender in &mut senders {
            sender.flush(false).await.map_err(|e| e.to_string())?;
        }
    }
    for patient in &mut patients {
        for record in patient.rest() {
            sent.insert(which(&record));
            give(&mut senders, record, &mut chance).await?;
        }
    }
    for sender in senders {
        sender.finish().await.map_err(|e| e.to_string())?;
    }
    Ok(sent)
}

/// A sensor keeps to its door, mostly.
async fn give(senders: &mut [Sender; 2], record: Record, chance: &mut fastrand::Rng) -> Result<(), String> {
    let usual = usize::from(record.sensor.ends_with("oxi"));
    let door = if chance.f64() < 0.02 { 1 - usual } else { usual };
    senders[door].send(record).await.map_err(|e| e.to_string())
}

async fn collect(mut answers: mpsc::Receiver<Answered>) -> Result<BTreeSet<Which>, String> {
    let mut acknowledged = BTreeSet::new();
    while let Some(answered) = answers.recv().await {
        match answered.verdict {
            Verdict::Judged { refused, .. } if refused.is_empty() => {
                acknowledged.extend(answered.message.records.iter().map(which));
            }
            Verdict::Judged { refused, .. } => return Err(format!("good readings were refused: {refused:?}")),
            Verdict::Unanswered(why) => return Err(format!("a reading got no answer in time: {why}")),
        }
    }
    Ok(acknowledged)
}
