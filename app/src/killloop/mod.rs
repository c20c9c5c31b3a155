//! The server, killed again and again under load through both doors, and every promise checked afterwards.
//!
//! What is checked is computed here, from what was sent and acknowledged and by a plain [`fold`] of the recorded journal,
//! not by the server's own arithmetic. `fajma verify` must agree as well.

mod bodies;
pub mod clocks;
pub mod engines;
mod evidence;
mod fleet;
mod fold;
mod load;
pub mod outages;
mod people;
mod raw;
pub mod rebalance;
mod server;
pub mod standby;
mod views;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use api::token::Keys;
use eventlog::{Clock, SystemClock};
use schemas::access::{Principal, Role};
use schemas::derived::Outcome as Derivation;
use schemas::journal::{Fact, Recorded};
use schemas::partition;
use serde_json::json;
use smol_str::SmolStr;
use tokio::task::JoinHandle;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::client;
use crate::token::sign;
use engines::Engines;
use evidence::Evidence;
use fleet::Fleet;
use fold::Change;
use load::{Delivered, Load, Which};
use people::Done;
use views::Shown;

/// A log and views that several processes share.
#[derive(Debug, Clone)]
pub struct Shared {
    /// kafka://…
    pub log: String,
    /// scylla://…
    pub views: String,
}

/// What to do.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The binary `fajma`.
    pub binary: PathBuf,
    /// An empty directory.
    pub data: PathBuf,
    /// Where log and views are, for a process per role; else one process does everything.
    pub shared: Option<Shared>,
    /// What started them, where they may be killed as well.
    pub engines: Option<Engines>,
    /// Processors, where each role is a process.
    pub processors: usize,
    /// How often to kill, or pause.
    pub kills: u32,
    /// Makes patients, people and the moments of the kills the same again.
    pub seed: u64,
    /// Patients with two sensors each.
    pub patients: usize,
    /// Between two beats of each patient; at each, a second of measured time passes.
    pub every: Duration,
    /// How likely a device alarms at a beat, beside what happens anyway.
    pub alarms: f64,
    /// Whether processes have names in their groups, and keep them when they are started again.
    pub named: bool,
}

/// What came of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Readings and alarms acknowledged, each counted once.
    pub acknowledged: usize,
    /// Readings in the views.
    pub shown: usize,
    /// Readings and alarms in the journal that it held before: sent again, and counting once.
    pub repeats: usize,
    /// Answers and limits that the server said are done.
    pub answers: usize,
    /// Changes of alerts, by kind; the fold implies each of them.
    pub changes: BTreeMap<&'static str, usize>,
    /// Revisions of windows, each recomputed.
    pub windows: usize,
    /// Derived records that readers had to pass over.
    pub passed_over: usize,
}

/// Differences that are printed at most.
const TOLD: usize = 12;

/// Does it all.
///
/// # Errors
/// The promises that were broken, or what kept them from being looked at.
pub async fn run(plan: &Plan) -> Result<Outcome, String> {
    let mut chance = fastrand::Rng::with_seed(plan.seed);
    let mut ward = Ward::open(plan).await?;
    for kill in 1..=plan.kills {
        let what = ward.fleet.disturb(&mut chance).await?;
        tracing::info!(kill, what);
        ward.load.restarted();
    }
    Ok(ward.close().await?.0)
}

/// A running house with patients and people in it.
struct Ward<'a> {
    plan: &'a Plan,
    fleet: Fleet,
    load: Load,
    people: JoinHandle<Vec<Done>>,
    token: String,
    stop: CancellationToken,
}

impl<'a> Ward<'a> {
    async fn open(plan: &'a Plan) -> Result<Self, String> {
        let fleet = Fleet::start(plan).await?;
        let token = admin(&plan.data)?;
        let stop = CancellationToken::new();
        let load = Load::start(plan, (&fleet.http, &fleet.mqtt), &token, &stop);
        let people = people::act(plan.clone(), fleet.desk.clone(), token.clone(), stop.clone());
        Ok(Self {
            plan,
            fleet,
            load,
            people: tokio::spawn(people),
            token,
            stop,
        })
    }

    /// Lets everything come to rest, stops it, and holds what it did against what it should have done.
    async fn close(mut self) -> Result<(Outcome, Evidence), String> {
        self.fleet.calm().await?;
        sleep(Duration::from_millis(1500)).await;
        self.stop.cancel();
        let done = self.people.await.map_err(|e| e.to_string())?;
        let delivered = self.load.finish().await?;
        let shown = look(self.plan, (&self.fleet.http, &self.fleet.desk), &self.token).await?;
        self.fleet.stop().await?;
        let evidence = evidence::read(self.plan).await?;
        let outcome = compare(&delivered, &done, &shown, &evidence)?;
        server::verify(self.plan)?;
        Ok((outcome, evidence))
    }
}

fn admin(data: &Path) -> Result<String, String> {
    let keys = Keys::load(&data.join("token.key")).map_err(|e| e.to_string())?;
    let principal = Principal {
        live: schemas::access::Live::default(),
        subject: "kill-loop".into(),
        role: Role::Admin,
        patients: Vec::new(),
        sensors: Vec::new(),
    };
    sign(&keys, &principal, Duration::from_secs(86_400), SystemClock.now()).map_err(|e| e.to_string())
}

/// Everything that is shown, once the views have seen a last reading of each patient.
async fn look(plan: &Plan, (http, desk): (&str, &str), token: &str) -> Result<Vec<Shown>, String> {
    let mut shown = Vec::new();
    for n in 0..plan.patients {
        let patient = bodies::id(n);
        let last = json!({"readings": [{"patient_id": patient, "sensor_id": format!("{patient}-ecg"),
            "type": "heart_rate", "value": 75, "unit": "/min", "at": SystemClock.now()}]});
        let (status, said) = client::post(http, "/v1/readings", token, &last).await?;
        let position = said["results"][0]["position"].as_str().filter(|_| status == 200);
        let position = position.ok_or_else(|| format!("a last reading of {patient}: {status} {said}"))?;
        shown.push(views::look((desk, token), patient, position).await?);
    }
    Ok(shown)
}

fn compare(delivered: &Delivered, done: &[Done], shown: &[Shown], evidence: &Evidence) -> Result<Outcome, String> {
    let mut wrong = evidence.wrong.clone();
    let mut outcome = Outcome {
        acknowledged: delivered.acknowledged.len(),
        answers: done.len(),
        passed_over: evidence.repeats,
        ..Outcome::default()
    };
    outcome.repeats = delivery(delivered, evidence, &mut wrong);
    answers(done, evidence, &mut wrong);
    let count = u16::try_from(evidence.parts.len()).map_err(|e| e.to_string())?;
    for (number, part) in (0..count).zip(&evidence.parts) {
        let implied = fold::alerts(&part.journal, evidence.incarnation)?;
        alerts(&implied, part, &mut wrong);
        for change in &implied {
            *outcome.changes.entry(change.alert.change.as_str()).or_default() += 1;
        }
        outcome.windows += fold::windows::compare(&part.journal, &part.windows, &mut wrong);
        for patient in shown
            .iter()
            .filter(|s| partition::of_bytes(s.patient.as_bytes(), count) == number)
        {
            outcome.shown += patient.check_readings(&part.journal, &mut wrong);
            patient.check_alerts(&implied, &mut wrong);
            patient.check_windows(&part.windows, &mut wrong);
        }
    }
    if wrong.is_empty() {
        return Ok(outcome);
    }
    let (n, first) = (wrong.len(), wrong.into_iter().take(TOLD).collect::<Vec<_>>());
    Err(format!(
        "{n} differences, the first of them:\n{}\n{outcome:?}",
        first.join("\n")
    ))
}

fn which(record: &Recorded) -> Option<Which> {
    let fact = &record.envelope;
    let what = match &fact.fact {
        Fact::Reading(reading) => reading.metric.as_str(),
        Fact::DeviceAlarm(alarm) => alarm.code.as_str(),
        _ => return None,
    };
    Some((fact.key.text(), SmolStr::new_static(what), fact.measured_at.millis()))
}

/// What was acknowledged stands in the journal, and nothing there was never sent. How many stand there again.
fn delivery(delivered: &Delivered, evidence: &Evidence, wrong: &mut Vec<String>) -> usize {
    let records = evidence.parts.iter().flat_map(|part| &part.journal);
    let mut recorded: BTreeSet<Which> = BTreeSet::new();
    let (mut lasts, mut repeats) = (0, 0);
    for which in records.filter_map(which) {
        lasts += usize::from(!delivered.sent.contains(&which));
        repeats += usize::from(!recorded.insert(which));
    }
    let lost = delivered.acknowledged.iter().filter(|which| !recorded.contains(*which));
    wrong.extend(lost.map(|which| format!("acknowledged but lost: {which:?}")));
    // Each patient's last reading was sent beside the load.
    let patients: BTreeSet<_> = delivered.sent.iter().map(|(patient, ..)| patient).collect();
    if lasts != patients.len() {
        wrong.push(format!(
            "{lasts} records in the journal were not sent by the load, {} were",
            patients.len()
        ));
    }
    repeats
}

/// What a person was told is done stands where the answer said.
fn answers(done: &[Done], evidence: &Evidence, wrong: &mut Vec<String>) {
    for one in done {
        let found = api::Position::parse(&one.position).and_then(|position| {
            let part = evidence.parts.get(usize::from(position.partition))?;
            part.journal.iter().find(|record| record.offset == position.offset)
        });
        let there = found.is_some_and(|record| match &record.envelope.fact {
            Fact::AlertAnswered(answer) => answer.text.as_deref() == Some(&one.mark),
            Fact::ThresholdsSet(_) => record.envelope.key.text() == one.mark,
            _ => false,
        });
        if !there {
            wrong.push(format!("said to be done but not there: {one:?}, but {found:?}"));
        }
    }
}

/// What was derived is what the fold implies: each change once, and no other.
fn alerts(implied: &[Change], part: &evidence::Part, wrong: &mut Vec<String>) {
    let derived = part.alerts.iter().filter_map(|record| match &record.outcome {
        Derivation::Alert(alert) => {
            let mut alert = alert.clone();
            if alert.message.is_empty() || alert.message_fr.is_empty() {
                wrong.push(format!("an alert without words: {alert:?}"));
            }
            (alert.message, alert.message_fr) = (SmolStr::default(), SmolStr::default());
            Some(Change {
                offset: record.origin.offset,
                patient: record.key.text(),
                alert,
            })
        }
        _ => None,
    });
    // A tick wakes many subjects: their order among themselves is the processor's own.
    let place = |c: &Change| (c.offset, c.alert.subject.clone(), c.alert.alert_id);
    let mut derived: Vec<Change> = derived.collect();
    let mut implied: Vec<&Change> = implied.iter().collect();
    derived.sort_by_key(place);
    implied.sort_by_key(|change| place(change));
    let (mut i, mut j) = (0, 0);
    while i < implied.len() || j < derived.len() {
        match (implied.get(i), derived.get(j)) {
            (Some(a), Some(b)) if **a == *b => (i, j) = (i + 1, j + 1),
            (Some(a), Some(b)) if place(a) == place(b) => {
                wrong.push(format!("implied {a:?}\nderived {b:?}"));
                (i, j) = (i + 1, j + 1);
            }
            (Some(a), b) if b.is_none_or(|b| place(a) < place(b)) => {
                wrong.push(format!("implied and not there: {a:?}"));
                i += 1;
            }
            (_, b) => {
                wrong.push(format!("there and not implied: {b:?}"));
                j += 1;
            }
        }
    }
}
