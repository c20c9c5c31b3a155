//! What a recorded journal implies, folded plainly from its first record to its last.
//!
//! Written from the documented rules (`processors/src/alerts`, `processors/src/windows`) and the policy in the journal,
//! and for what this load sends only: one sensor per metric that stays on the patient, no status messages, nothing
//! re-attributed, one policy, nothing older than lateness. Anything else is an error, so that nothing is passed over in silence.

mod device;
mod vital;
pub(super) mod windows;

use std::collections::{BTreeMap, BTreeSet};

use schemas::facts::{AlertAnswered, AlertChange, AlertChanged, AlertClass, AlertState, Answer, Severity, TickedBy};
use schemas::ids::{EventId, Key};
use schemas::journal::{Envelope, Fact, Recorded};
use schemas::policy::Policy;
use schemas::time::{Span, Timestamp};
use smol_str::SmolStr;

use device::Device;
use vital::Vital;

/// One change of an alert: the journal offset that led to it, whose, and the alert as it stands then, its messages left
/// out.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Change {
    pub(super) offset: i64,
    pub(super) patient: SmolStr,
    pub(super) alert: AlertChanged,
}

/// The times of a partition and the policy in it.
#[derive(Debug, Default)]
struct House {
    /// The greatest tick.
    time: Option<Timestamp>,
    policy: Option<Policy>,
}

impl House {
    /// A tick more than 2 s ahead of the log's own clock does not count. Whether this one does.
    fn tick(&mut self, record: &Recorded) -> bool {
        let at = record.envelope.measured_at;
        let counts = at <= record.appended_at + Span::seconds(2);
        if counts {
            self.time = self.time.max(Some(at));
        }
        counts
    }

    /// Whether something measured then tells how the patient is now.
    fn is_fresh(&self, at: Timestamp, policy: &Policy) -> bool {
        self.time.is_none_or(|now| at >= now - policy.fresh_for)
    }
}

/// An alert that is not over.
#[derive(Debug)]
struct Episode {
    /// It lives by what came after newer readings of its sensor.
    late: bool,
    alert: AlertChanged,
}

/// Where and when something happens.
struct Scene<'a> {
    house: &'a House,
    policy: &'a Policy,
    journal: EventId,
    offset: i64,
    now: Timestamp,
    patient: &'a str,
    subject: &'a str,
    out: &'a mut Vec<Change>,
}

/// What an alert is raised with.
struct Raise {
    late: bool,
    rule: String,
    class: AlertClass,
    severity: Severity,
    retrospective: bool,
    since: Timestamp,
}

impl Scene<'_> {
    fn tell(&mut self, episode: &Episode) {
        self.out.push(Change {
            offset: self.offset,
            patient: SmolStr::new(self.patient),
            alert: episode.alert.clone(),
        });
    }

    fn change(&mut self, episode: &mut Episode, change: AlertChange) {
        episode.alert.change = change;
        (episode.alert.by, episode.alert.text) = (None, None);
        self.tell(episode);
    }

    /// It got worse, or holds now: whoever took it took something else.
    fn ask_again(&mut self, episode: &mut Episode, change: AlertChange) {
        let alert = &mut episode.alert;
        (alert.state, alert.until) = (AlertState::Open, None);
        (alert.acknowledged_at, alert.acknowledged_by) = (None, None);
        self.change(episode, change);
    }

    fn end(&mut self, episode: &mut Episode) {
        let alert = &mut episode.alert;
        (alert.state, alert.resolved_at, alert.until) = (AlertState::Resolved, Some(self.now), None);
        self.change(episode, AlertChange::Resolved);
    }

    /// A new alert, not told yet. Its id says whose and which it is, from where in which journal, and since when.
    fn begin(&self, raise: Raise) -> Episode {
        let place = format!("a/{}/{}", self.patient, self.subject);
        let id = EventId::of(
            "fajma.alert",
            &[
                place.as_bytes(),
                raise.rule.as_bytes(),
                &self.journal.0,
                &self.offset.to_be_bytes(),
                &raise.since.0.to_be_bytes(),
            ],
        );
        let alert = AlertChanged {
            alert_id: id,
            change: AlertChange::Raised,
            sensor_id: None,
            metric: None,
            rule: raise.rule.into(),
            subject: self.subject.into(),
            class: raise.class,
            severity: raise.severity,
            state: AlertState::Open,
            retrospective: raise.retrospective,
            message: SmolStr::default(),
            message_fr: SmolStr::default(),
            value: None,
            limit: None,
            started_at: raise.since,
            raised_at: self.now,
            acknowledged_at: None,
            acknowledged_by: None,
            resolved_at: None,
            by: None,
            text: None,
            until: None,
        };
        Episode {
            late: raise.late,
            alert,
        }
    }
}

/// One metric or one sensor of one patient.
#[derive(Debug, Default)]
struct Subject {
    vital: Vital,
    device: Device,
    episodes: Vec<Episode>,
}

impl Subject {
    /// Silences that are over.
    fn tick(&mut self, scene: &mut Scene<'_>) {
        for episode in &mut self.episodes {
            let over = episode.alert.until.is_some_and(|until| until <= scene.now);
            if episode.alert.state == AlertState::Snoozed && over {
                let taken = episode.alert.acknowledged_at.is_some();
                episode.alert.until = None;
                episode.alert.state = if taken {
                    AlertState::Acknowledged
                } else {
                    AlertState::Open
                };
                scene.change(episode, AlertChange::Woke);
            }
        }
    }

    /// What a person says; to one that is over or taken already it changes nothing.
    fn answer(&mut self, answer: &AlertAnswered, scene: &mut Scene<'_>) {
        let Some(i) = self.episodes.iter().position(|e| e.alert.alert_id == answer.alert_id) else {
            return;
        };
        let alert = &mut self.episodes[i].alert;
        alert.change = match answer.answer {
            Answer::Acknowledge if alert.state == AlertState::Acknowledged => return,
            Answer::Acknowledge => {
                (alert.state, alert.until) = (AlertState::Acknowledged, None);
                (alert.acknowledged_at, alert.acknowledged_by) = (Some(scene.now), Some(answer.by.clone()));
                AlertChange::Acknowledged
            }
            Answer::Snooze => {
                let Some(until) = answer.until.filter(|until| *until > scene.now) else {
                    return;
                };
                (alert.state, alert.until) = (AlertState::Snoozed, Some(until));
                AlertChange::Snoozed
            }
            Answer::Comment => AlertChange::Commented,
            Answer::Resolve => {
                (alert.state, alert.until, alert.resolved_at) = (AlertState::Resolved, None, Some(scene.now));
                AlertChange::Resolved
            }
        };
        (alert.by, alert.text) = (Some(answer.by.clone()), answer.text.clone());
        scene.tell(&self.episodes[i]);
        if self.episodes[i].alert.state == AlertState::Resolved {
            self.episodes.remove(i);
            self.vital.begin_anew();
        }
    }
}

/// Facts that count: each once, however often it was sent.
#[derive(Debug, Default)]
pub(super) struct Once(BTreeSet<(SmolStr, EventId, Timestamp)>);

impl Once {
    pub(super) fn is_first(&mut self, record: &Recorded) -> bool {
        let fact = &record.envelope;
        self.0.insert((fact.key.text(), fact.id, fact.measured_at))
    }
}

/// Every change of every alert that the journal of one partition implies, in its order.
pub(super) fn alerts(records: &[Recorded], journal: EventId) -> Result<Vec<Change>, String> {
    let (mut house, mut once) = (House::default(), Once::default());
    let mut subjects: BTreeMap<(SmolStr, SmolStr), Subject> = BTreeMap::new();
    let mut out = Vec::new();
    for record in records {
        let fact = &record.envelope;
        let ticked = match &fact.fact {
            Fact::ClockTicked(tick) => house.tick(record) && matches!(tick.by, TickedBy::Ingest | TickedBy::Process),
            Fact::PolicyChanged(changed) => {
                if house.policy.replace(changed.policy.clone()).is_some() {
                    return Err(format!("a second policy at {}: this fold knows one", record.offset));
                }
                continue;
            }
            _ => false,
        };
        let Some(policy) = house.policy.as_ref() else { continue };
        let names: Vec<(SmolStr, SmolStr)> = match &fact.key {
            _ if ticked => subjects.keys().cloned().collect(),
            Key::Patient(patient) if once.is_first(record) => {
                let patient = SmolStr::new(patient.as_str());
                about(fact)?.into_iter().map(|s| (patient.clone(), s)).collect()
            }
            _ => continue,
        };
        for name in names {
            let mut scene = Scene {
                house: &house,
                policy,
                journal,
                offset: record.offset,
                now: house.time.unwrap_or(fact.received_at),
                patient: &name.0,
                subject: &name.1,
                out: &mut out,
            };
            let subject = subjects.entry(name.clone()).or_default();
            let Subject {
                vital,
                device,
                episodes,
            } = subject;
            let at = fact.measured_at;
            match &fact.fact {
                Fact::ClockTicked(_) => subject.tick(&mut scene),
                Fact::AlertAnswered(answer) => subject.answer(answer, &mut scene),
                Fact::ThresholdsSet(set) => vital.set(set, &scene),
                Fact::Reading(reading) if name.1 == reading.metric.as_str() => {
                    vital.read(reading, at, episodes, &mut scene)?;
                }
                Fact::Reading(reading) => device.read(reading, at, episodes, &mut scene),
                Fact::DeviceAlarm(alarm) => device.alarm(alarm, at, episodes, &mut scene),
                _ => {}
            }
        }
    }
    Ok(out)
}

/// What a patient's fact is about.
fn about(envelope: &Envelope) -> Result<Vec<SmolStr>, String> {
    let fact = &envelope.fact;
    if fact.sensor().is_some() && envelope.cause.is_some() {
        return Err("a reading that was re-attributed: this fold knows none".to_owned());
    }
    let sensor = |id: &dyn std::fmt::Display| SmolStr::from(format!("sensor:{id}"));
    Ok(match fact {
        Fact::Reading(reading) => vec![reading.metric.as_str().into(), sensor(&reading.sensor_id)],
        Fact::DeviceAlarm(alarm) => vec![sensor(&alarm.sensor_id)],
        Fact::ThresholdsSet(_) => vec!["heart_rate".into(), "spo2".into()],
        Fact::AlertAnswered(answer) => vec![answer.subject.clone()],
        Fact::SensorStatus(_) => return Err("a status message: this fold knows none".to_owned()),
        Fact::SensorDetached(_) => return Err("a sensor taken off: this fold knows only those that stay".to_owned()),
        _ => Vec::new(),
    })
}
