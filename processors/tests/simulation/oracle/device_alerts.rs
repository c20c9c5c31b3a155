//! Alerts about one sensor: its own alarms, its silence, its battery, its faults.

use schemas::facts::{AlarmCode, AlertChanged, AlertClass, SensorState, Severity};
use schemas::ids::SensorId;
use schemas::journal::{Envelope, Fact, Recorded};
use schemas::metric::Metric;
use schemas::time::Timestamp;

use super::alerts::{Episode, Scene, row};
use super::silence::Life;

/// What is known of one sensor.
#[derive(Debug)]
pub(super) struct Device {
    sensor_id: SensorId,
    life: Life,
    said_at: Option<Timestamp>,
    charged_at: Option<Timestamp>,
    contact_at: Option<Timestamp>,
}

impl Device {
    pub(super) const fn new(sensor_id: SensorId, now: Timestamp) -> Self {
        Self {
            sensor_id,
            life: Life::new(now),
            said_at: None,
            charged_at: None,
            contact_at: None,
        }
    }

    pub(super) fn tick(&mut self, episodes: &mut Vec<Episode>, scene: &mut Scene<'_>) {
        let heard = self.life.heard;
        if self.life.goes_silent(scene.house) {
            self.begin("sensor_offline", heard, episodes, scene);
        }
    }

    /// It is worn, or no more: it is not missed then, and of one that is gone nothing technical is left.
    pub(super) fn tell(&mut self, fact: &Envelope, episodes: &mut Vec<Episode>, scene: &mut Scene<'_>) {
        if self.life.tell(fact, scene.house, scene.now) {
            end("sensor_offline", episodes, scene);
        }
        if self.life.gone {
            for rule in ["sensor_off", "low_battery", "sensor_fault"] {
                end(rule, episodes, scene);
            }
        }
    }

    fn technical(&self, rule: &str, started_at: Timestamp) -> AlertChanged {
        AlertChanged {
            sensor_id: Some(self.sensor_id.clone()),
            ..row(rule, AlertClass::Technical, Severity::Warning, started_at)
        }
    }

    fn begin(&self, rule: &str, started_at: Timestamp, episodes: &mut Vec<Episode>, scene: &mut Scene<'_>) {
        self.raise(self.technical(rule, started_at), episodes, scene);
    }

    /// Where none of its rule is open; of one that is gone nothing technical.
    fn raise(&self, row: AlertChanged, episodes: &mut Vec<Episode>, scene: &mut Scene<'_>) {
        if self.life.gone && row.class == AlertClass::Technical {
            return;
        }
        if episodes.iter().all(|e| e.row.rule != row.rule) {
            let episode = scene.raise(false, row);
            episodes.push(episode);
        }
    }

    /// Whatever the sensor sent; a repeat, or what is too old, is only a sign of life.
    pub(super) fn hear(&mut self, fact: &Envelope, novel: bool, episodes: &mut Vec<Episode>, scene: &mut Scene<'_>) {
        let record = Recorded {
            offset: scene.offset,
            appended_at: scene.now,
            envelope: fact.clone(),
        };
        self.life.hear(&record, scene.house, scene.now);
        if !matches!(&fact.fact, Fact::SensorStatus(status) if status.last_will) {
            end("sensor_offline", episodes, scene);
        }
        if !novel {
            return;
        }
        let at = fact.measured_at;
        match &fact.fact {
            Fact::Reading(reading) => {
                let elsewhere = [Metric::Battery, Metric::AmbientTemperature, Metric::AmbientHumidity];
                let contact = reading.contact != Some(false) && !elsewhere.contains(&reading.metric);
                if contact && Some(at) >= self.contact_at {
                    self.contact_at = Some(at);
                    if episodes
                        .iter()
                        .any(|e| e.row.rule == "sensor_off" && e.row.started_at <= at)
                    {
                        end("sensor_off", episodes, scene);
                    }
                }
                if reading.metric == Metric::Battery {
                    self.charge(Some(reading.value), at, episodes, scene);
                }
            }
            Fact::SensorStatus(status) if Some(at) >= self.said_at => {
                self.said_at = Some(at);
                match status.state {
                    SensorState::Fault => self.begin("sensor_fault", at, episodes, scene),
                    _ => end("sensor_fault", episodes, scene),
                }
                self.charge(status.battery, at, episodes, scene);
            }
            Fact::DeviceAlarm(alarm) => self.alarm(alarm.code, fact, episodes, scene),
            _ => {}
        }
    }

    /// Below 10 % a technical WARNING, until 15 % or more.
    fn charge(&mut self, charge: Option<f64>, at: Timestamp, episodes: &mut Vec<Episode>, scene: &mut Scene<'_>) {
        let Some(charge) = charge.filter(|_| Some(at) >= self.charged_at) else {
            return;
        };
        self.charged_at = Some(at);
        if charge < 10.0 {
            let mut row = self.technical("low_battery", at);
            (row.metric, row.value, row.limit) = (Some(Metric::Battery), Some(charge), Some(10.0));
            self.raise(row, episodes, scene);
        } else if charge >= 15.0 {
            end("low_battery", episodes, scene);
        }
    }

    /// At once; one from long ago pages no one, and one that happens now makes it current.
    fn alarm(&self, code: AlarmCode, fact: &Envelope, episodes: &mut Vec<Episode>, scene: &mut Scene<'_>) {
        let at = fact.measured_at;
        if code == AlarmCode::SensorOff && Some(at) < self.contact_at {
            return;
        }
        let mut row = self.technical(code.as_str(), at);
        if code.is_clinical() {
            (row.class, row.severity) = (AlertClass::Clinical, Severity::Critical);
        }
        row.retrospective = !scene.is_fresh(fact);
        if !row.retrospective {
            for episode in episodes
                .iter_mut()
                .filter(|e| e.row.rule == row.rule && e.row.retrospective)
            {
                scene.become_current(episode);
            }
        }
        self.raise(row, episodes, scene);
    }
}

fn end(rule: &str, episodes: &mut Vec<Episode>, scene: &mut Scene<'_>) {
    for episode in episodes.iter_mut().filter(|e| e.row.rule == rule) {
        scene.resolve(episode);
    }
    episodes.retain(|e| e.row.rule != rule);
}
