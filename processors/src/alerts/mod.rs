//! Alerts: episodes over limits of a patient, alarms of devices, and silence.
//!
//! One state per (patient, subject): a subject is a metric, or `sensor:<id>` for what concerns a device. Rules, in short:
//!
//! - a limit must hold between samples for as long as its rule says; beyond the extreme, 5 s and two samples are
//!   enough; metrics taken now and then raise a WARNING at most until the next reading confirms;
//! - readings with a quality below 50, without contact, or impossible ones, count neither way;
//! - one open episode per (patient, rule); it escalates, eases with a deadband, and ends when all is back inside;
//! - what a sensor sends after newer data of its own is judged in a lane of its own and only raises retrospective
//!   episodes, as does what is in order but older than the policy calls fresh;
//! - a clinical alarm of a device is CRITICAL at once and ends by an answer; of a sensor that nobody wears as well, under
//!   the sensor;
//! - what is technical ends when the sensor is taken off the patient, and nothing technical begins until it is back on;
//! - a reading that somebody has said later to be the patient's says nothing about its sensor.

mod device;
mod episode;
mod message;
mod run;
mod vital;

use schemas::assignment;
use schemas::derived::Outcome;
use schemas::facts::{AlertAnswered, ThresholdsSet, Zone};
use schemas::ids::Key;
use schemas::journal::{Envelope, Fact, Recorded};
use schemas::metric::Metric;
use schemas::time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::engine::{Context, Deadlines, Input, Keys, Novelty, Processor, Step, keys};
use crate::silence::is_reattributed;
use device::{Device, Moment};
use episode::{Episode, subject};
use vital::{Vital, is_watched};

/// The processor.
#[derive(Debug, Clone, Copy, Default)]
pub struct Alerts;

/// What is remembered of one subject.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Subject {
    vital: Vital,
    device: Option<Box<Device>>,
    /// Those that have not ended, oldest first.
    episodes: Vec<Episode>,
}

fn push(wake: &mut Keys, key: &Key, parts: &[&str]) {
    wake.push(|out| {
        out.push_str("a/");
        keys::subject(out, key);
        out.push('/');
        parts.iter().for_each(|part| out.push_str(part));
    });
}

impl Processor for Alerts {
    const NAME: &'static str = "alerts";
    const VERSION: u16 = 3;
    const URGENT: bool = true;
    const REPEATS: bool = true;
    const SHARE: usize = 3;
    type State = Subject;

    fn keys(&self, fact: &Envelope, wake: &mut Keys) {
        match (&fact.key, &fact.fact) {
            (Key::Patient(_), _) => {}
            // Of a sensor that nobody wears two things are heard: that it is about life, and what was answered to that.
            (Key::Sensor(_), Fact::DeviceAlarm(alarm)) if alarm.code.is_clinical() => {}
            (Key::Sensor(_), Fact::AlertAnswered(_)) => {}
            _ => return,
        }
        let said = fact.fact.sensor().filter(|_| !is_reattributed(fact));
        if let Some(sensor) = said.or_else(|| assignment::moved(&fact.fact)) {
            push(wake, &fact.key, &["sensor:", sensor.as_str()]);
        }
        match &fact.fact {
            Fact::Reading(reading) if is_watched(reading.metric) => push(wake, &fact.key, &[reading.metric.as_str()]),
            Fact::ThresholdsSet(_) => {
                let watched = Metric::ALL.iter().filter(|metric| is_watched(**metric));
                watched.for_each(|metric| push(wake, &fact.key, &[metric.as_str()]));
            }
            Fact::AlertAnswered(answer) if !answer.subject.is_empty() && !answer.subject.contains('/') => {
                push(wake, &fact.key, &[&answer.subject]);
            }
            _ => {}
        }
    }

    fn series(&self, fact: &Envelope, out: &mut String) -> bool {
        keys::subject(out, &fact.key);
        let parts = match &fact.fact {
            Fact::Reading(reading) => [reading.sensor_id.as_str(), reading.metric.as_str()],
            Fact::DeviceAlarm(alarm) => [alarm.sensor_id.as_str(), "+alarm"],
            Fact::SensorStatus(status) => [status.sensor_id.as_str(), "+status"],
            _ => ["+staff", ""],
        };
        for part in parts {
            out.push('/');
            out.push_str(part);
        }
        true
    }

    fn step(&self, key: &str, mut state: Subject, input: Input<'_>, ctx: &Context) -> Step<Subject> {
        let outcomes = match input {
            Input::Fact {
                recorded,
                novelty,
                zone,
                ..
            } => state.take(key, recorded, (novelty, zone), ctx),
            Input::Deadline => state.look(key, ctx),
        };
        Step { state, outcomes }
    }

    fn deadlines(&self, state: &Subject) -> Deadlines {
        Deadlines {
            recorded: state.episodes.iter().filter_map(Episode::deadline).min(),
            ingest: state.device.as_ref().and_then(|device| device.silence.deadline()),
        }
    }

    fn heap(&self, state: &Subject) -> usize {
        let device = state.device.as_ref().map_or(0, |_| size_of::<Device>() + 32);
        state.vital.heap() + device + state.episodes.len() * 640
    }
}

impl Subject {
    fn take(
        &mut self,
        key: &str,
        recorded: &Recorded,
        (novelty, zone): (Novelty, Option<Zone>),
        ctx: &Context,
    ) -> Vec<Outcome> {
        let fact = &recorded.envelope;
        let now = ctx.recorded_or(fact);
        let of_device = subject(key).starts_with("sensor:");
        match &fact.fact {
            Fact::AlertAnswered(answer) if novelty == Novelty::Novel => self.answer(answer, now),
            Fact::ThresholdsSet(set) if novelty == Novelty::Novel => {
                self.set(key, set, now, ctx);
                Vec::new()
            }
            Fact::Reading(reading) if !of_device && novelty == Novelty::Novel => {
                self.vital.read(key, (fact, reading, zone), ctx, &mut self.episodes)
            }
            _ if of_device => {
                let moved = assignment::moved(&fact.fact);
                let Some(sensor) = fact.fact.sensor().or(moved) else {
                    return Vec::new();
                };
                let device = self
                    .device
                    .get_or_insert_with(|| Box::new(Device::new(sensor.clone(), now)));
                let moment = Moment { key, now, zone, ctx };
                if moved.is_some() {
                    device.tell(&moment, fact, &mut self.episodes)
                } else {
                    device.hear(&moment, fact, novelty, &mut self.episodes)
                }
            }
            _ => Vec::new(),
        }
    }

    /// A deadline has passed: silences that end, a sensor that is silent.
    fn look(&mut self, key: &str, ctx: &Context) -> Vec<Outcome> {
        let ended = |e: &&mut Episode| e.deadline().is_some_and(|until| until <= ctx.recorded);
        let mut outcomes: Vec<Outcome> = self.episodes.iter_mut().filter(ended).map(Episode::wake).collect();
        if let Some(device) = &mut self.device {
            let now = ctx.recorded;
            outcomes.extend(device.look(
                &Moment {
                    key,
                    now,
                    zone: None,
                    ctx,
                },
                &mut self.episodes,
            ));
        }
        outcomes
    }

    /// Limits hold from the recorded time at which they were set.
    fn set(&mut self, key: &str, set: &ThresholdsSet, now: Timestamp, ctx: &Context) {
        let metric = subject(key);
        let limits = set
            .thresholds
            .iter()
            .find(|of| of.metric.as_str() == metric)
            .map(|of| of.limits);
        self.vital.set(limits, now, ctx);
    }

    /// An answer to an unknown or ended alert changes nothing.
    fn answer(&mut self, answer: &AlertAnswered, now: Timestamp) -> Vec<Outcome> {
        let Some(i) = self.episodes.iter().position(|e| e.row.alert_id == answer.alert_id) else {
            return Vec::new();
        };
        let told = self.episodes[i].answer(answer, now);
        if self.episodes[i].is_over() {
            self.episodes.remove(i);
            self.vital.forget();
        }
        told.into_iter().collect()
    }
}

#[cfg(test)]
mod tests;
