//! One sensor of one patient: alarms that it raises itself, its silence, its battery, its faults.

use schemas::derived::Outcome;
use schemas::facts::{AlarmCode, AlertClass, DeviceAlarm, Reading, SensorState, SensorStatus, Severity, Zone};
use schemas::ids::{Key, SensorId};
use schemas::journal::{Envelope, Fact};
use schemas::metric::Metric;
use schemas::time::Timestamp;
use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

use super::episode::{Episode, Lane, Raise};
use super::message::{self, Message};
use crate::engine::{Context, Novelty};
use crate::silence::Silence;

/// A battery below this gives a technical WARNING, % (`facts/clinical.md` §1.3) …
const LOW: f64 = 10.0;
/// … which ends at or above this.
const CHARGED: f64 = 15.0;

const OFFLINE: &str = "sensor_offline";
const FAULT: &str = "sensor_fault";
const OFF: &str = "sensor_off";
const BATTERY: &str = "low_battery";

/// What is remembered of one sensor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Device {
    pub(super) silence: Silence,
    sensor_id: SensorId,
    /// When its newest status was measured.
    said_at: Timestamp,
    /// When its newest battery reading was measured.
    charged_at: Timestamp,
    /// When its newest reading with contact was measured.
    contact_at: Timestamp,
}

/// A fact, or a tick, on its way through.
pub(super) struct Moment<'a> {
    pub(super) key: &'a str,
    pub(super) now: Timestamp,
    /// Where the sensor is.
    pub(super) zone: Option<Zone>,
    pub(super) ctx: &'a Context,
}

impl Device {
    pub(super) const fn new(sensor_id: SensorId, now: Timestamp) -> Self {
        Self {
            silence: Silence::new(now),
            sensor_id,
            said_at: Timestamp::MIN,
            charged_at: Timestamp::MIN,
            contact_at: Timestamp::MIN,
        }
    }

    /// Takes whatever the sensor sent.
    pub(super) fn hear(
        &mut self,
        moment: &Moment<'_>,
        fact: &Envelope,
        novelty: Novelty,
        episodes: &mut Vec<Episode>,
    ) -> Vec<Outcome> {
        let mut outcomes = Vec::new();
        let own_words = !matches!(&fact.fact, Fact::SensorStatus(status) if status.last_will);
        self.silence.hear(fact, moment.zone, moment.ctx);
        if own_words {
            end(episodes, OFFLINE, moment, &mut outcomes);
        }
        if novelty != Novelty::Novel {
            return outcomes;
        }
        match &fact.fact {
            Fact::Reading(reading) => {
                if has_contact(reading) && fact.measured_at >= self.contact_at {
                    self.contact_at = fact.measured_at;
                    if begun(episodes, OFF).is_some_and(|started| started <= fact.measured_at) {
                        end(episodes, OFF, moment, &mut outcomes);
                    }
                }
                if reading.metric == Metric::Battery {
                    self.charge(Some(reading.value), fact, moment, episodes, &mut outcomes);
                }
            }
            Fact::SensorStatus(status) => self.say(status, fact, moment, episodes, &mut outcomes),
            Fact::DeviceAlarm(alarm) => self.alarm(alarm, fact, moment, episodes, &mut outcomes),
            _ => {}
        }
        outcomes
    }

    /// Takes that the patient wears it, or no more: whatever is technical about it is then no matter of this patient's.
    pub(super) fn tell(&mut self, moment: &Moment<'_>, fact: &Envelope, episodes: &mut Vec<Episode>) -> Vec<Outcome> {
        let mut outcomes = Vec::new();
        if self.silence.tell(fact, moment.zone, moment.ctx) {
            end(episodes, OFFLINE, moment, &mut outcomes);
        }
        if self.silence.is_gone() {
            for rule in [OFF, BATTERY, FAULT] {
                end(episodes, rule, moment, &mut outcomes);
            }
        }
        outcomes
    }

    /// Looks whether the sensor has been silent for too long.
    pub(super) fn look(&mut self, moment: &Moment<'_>, episodes: &mut Vec<Episode>) -> Vec<Outcome> {
        let mut outcomes = Vec::new();
        if self.silence.look(moment.ctx) {
            let raise = self.technical(
                OFFLINE,
                message::silent(self.silence.patience()),
                self.silence.heard(),
                moment.now,
            );
            self.begin(episodes, raise, moment, &mut outcomes);
        }
        outcomes
    }

    fn say(
        &mut self,
        status: &SensorStatus,
        fact: &Envelope,
        moment: &Moment<'_>,
        episodes: &mut Vec<Episode>,
        outcomes: &mut Vec<Outcome>,
    ) {
        if fact.measured_at < self.said_at {
            return;
        }
        self.said_at = fact.measured_at;
        if status.state == SensorState::Fault {
            let raise = self.technical(FAULT, message::fault(), fact.measured_at, moment.now);
            self.begin(episodes, raise, moment, outcomes);
        } else {
            end(episodes, FAULT, moment, outcomes);
        }
        self.charge(status.battery, fact, moment, episodes, outcomes);
    }

    fn charge(
        &mut self,
        charge: Option<f64>,
        fact: &Envelope,
        moment: &Moment<'_>,
        episodes: &mut Vec<Episode>,
        outcomes: &mut Vec<Outcome>,
    ) {
        let Some(charge) = charge.filter(|_| fact.measured_at >= self.charged_at) else {
            return;
        };
        self.charged_at = fact.measured_at;
        if charge < LOW {
            let mut raise = self.technical(BATTERY, message::battery(charge), fact.measured_at, moment.now);
            (raise.metric, raise.value, raise.limit) = (Some(Metric::Battery), Some(charge), Some(LOW));
            self.begin(episodes, raise, moment, outcomes);
        } else if charge >= CHARGED {
            end(episodes, BATTERY, moment, outcomes);
        }
    }

    fn alarm(
        &self,
        alarm: &DeviceAlarm,
        fact: &Envelope,
        moment: &Moment<'_>,
        episodes: &mut Vec<Episode>,
        outcomes: &mut Vec<Outcome>,
    ) {
        // it has had contact since
        if alarm.code == AlarmCode::SensorOff && fact.measured_at < self.contact_at {
            return;
        }
        let rule = alarm.code.as_str();
        let said = match &fact.key {
            Key::Sensor(sensor) => message::nobodys(&message::alarm(alarm.code), sensor),
            _ => message::alarm(alarm.code),
        };
        let mut raise = self.technical(rule, said, fact.measured_at, moment.now);
        if alarm.code.is_clinical() {
            raise.class = AlertClass::Clinical;
            raise.severity = Severity::Critical;
        }
        let fresh_for = moment.ctx.fresh_for(moment.zone);
        raise.retrospective = moment.ctx.recorded > Timestamp::MIN
            && fresh_for.is_some_and(|fresh_for| fact.measured_at < moment.ctx.recorded - fresh_for);
        if !raise.retrospective {
            // an old episode must not hide that it happens now
            for episode in episodes
                .iter_mut()
                .filter(|e| e.row.rule == rule && e.row.retrospective)
            {
                outcomes.push(episode.become_current());
            }
        }
        self.begin(episodes, raise, moment, outcomes);
    }

    /// Raises an episode where none of its rule is open; nothing technical of a sensor that the patient wears no more,
    /// whose backlog may still come: nothing would end it.
    fn begin(&self, episodes: &mut Vec<Episode>, raise: Raise, moment: &Moment<'_>, outcomes: &mut Vec<Outcome>) {
        let concerns = raise.class == AlertClass::Clinical || !self.silence.is_gone();
        if concerns && begun(episodes, &raise.rule).is_none() {
            let episode = Episode::raise(moment.key, Lane::Now, raise, moment.ctx);
            outcomes.push(episode.told());
            episodes.push(episode);
        }
    }

    /// A technical WARNING.
    fn technical(&self, rule: &'static str, message: Message, started_at: Timestamp, now: Timestamp) -> Raise {
        Raise {
            rule: SmolStr::new_static(rule),
            sensor_id: Some(self.sensor_id.clone()),
            metric: None,
            class: AlertClass::Technical,
            severity: Severity::Warning,
            retrospective: false,
            message,
            value: None,
            limit: None,
            started_at,
            now,
        }
    }
}

/// Whether a reading shows that its sensor sits on the patient: battery and room can be measured without.
fn has_contact(reading: &Reading) -> bool {
    let of_the_patient = !matches!(
        reading.metric,
        Metric::Battery | Metric::AmbientTemperature | Metric::AmbientHumidity
    );
    of_the_patient && reading.contact != Some(false)
}

/// When the open episode of a rule began.
fn begun(episodes: &[Episode], rule: &str) -> Option<Timestamp> {
    episodes.iter().find(|e| e.row.rule == rule).map(|e| e.row.started_at)
}

/// Ends the episode of a rule.
fn end(episodes: &mut Vec<Episode>, rule: &str, moment: &Moment<'_>, outcomes: &mut Vec<Outcome>) {
    episodes.retain_mut(|episode| {
        let ends = episode.row.rule == rule;
        if ends {
            outcomes.push(episode.resolve(moment.now));
        }
        !ends
    });
}
