//! Sensors as they were last heard.

use std::collections::BTreeMap;

use schemas::derived::Outcome;
use schemas::facts::DeviceChanged;
use schemas::ids::SensorId;
use schemas::journal::{Fact, Recorded};
use schemas::metric::Metric;
use schemas::time::{Span, Timestamp};

use super::silence::Life;
use super::{House, Told};

struct Device {
    life: Life,
    row: DeviceChanged,
    said_at: Option<Timestamp>,
    charged_at: Option<Timestamp>,
    written_at: Timestamp,
    unwritten: bool,
    /// A row of it stands.
    stands: bool,
}

/// Every row that must be written: at once when something is new, at ticks every 30 s while it is heard.
pub(crate) fn told(journal: &[Recorded]) -> Vec<Told> {
    let mut house = House::default();
    let mut devices: BTreeMap<(String, String), Device> = BTreeMap::new();
    let mut told = Vec::new();
    for record in journal {
        let ticks = house.take(record);
        if ticks {
            let now = house.recorded.unwrap_or(Timestamp::MIN);
            for device in devices.values_mut() {
                let silent = device.life.goes_silent(&house);
                if silent || device.unwritten && device.written_at + Span::seconds(30) <= now {
                    told.push((record.offset, device.write(now)));
                }
            }
        }
        let fact = &record.envelope.fact;
        let moved = moved(fact);
        let said = fact.sensor().filter(|_| record.envelope.cause.is_none());
        let Some(sensor) = said.or(moved).filter(|_| !house.is_foreign(&record.envelope)) else {
            continue;
        };
        let now = house.now(record);
        let name = (record.envelope.key.text().to_string(), sensor.to_string());
        let device = devices.entry(name).or_insert_with(|| Device::new(sensor.clone(), now));
        let before = device.row.clone();
        if moved.is_some() {
            // Of one that never said anything there is nothing to write until it is missed.
            if device.life.tell(&record.envelope, &house, now) && device.stands {
                told.push((record.offset, device.write(now)));
            }
            continue;
        }
        let changed = device.life.hear(record, &house, now);
        device.unwritten = true;
        device.learn(record);
        if !device.stands || changed || device.row != before {
            told.push((record.offset, device.write(now)));
        }
    }
    told
}

/// The sensor that is put on, or taken off.
pub(super) const fn moved(fact: &Fact) -> Option<&SensorId> {
    match fact {
        Fact::SensorAttached(it) => Some(&it.sensor_id),
        Fact::SensorDetached(it) => Some(&it.sensor_id),
        _ => None,
    }
}

impl Device {
    fn new(sensor_id: SensorId, now: Timestamp) -> Self {
        let life = Life::new(now);
        Self {
            row: DeviceChanged {
                sensor_id,
                liveness: life.liveness(),
                since: now,
                state: None,
                battery: None,
                firmware: None,
                rssi: None,
                lat: None,
                lng: None,
                last_heard: now,
                expected_every: None,
            },
            life,
            said_at: None,
            charged_at: None,
            written_at: now,
            unwritten: false,
            stands: false,
        }
    }

    /// What the newest status and the newest battery reading say; what a status does not name stays as it was.
    fn learn(&mut self, record: &Recorded) {
        let at = Some(record.envelope.measured_at);
        let battery = match &record.envelope.fact {
            Fact::SensorStatus(status) if at >= self.said_at => {
                self.said_at = at;
                self.row.state = Some(status.state);
                self.row.firmware = status.firmware.clone().or_else(|| self.row.firmware.take());
                self.row.rssi = status.rssi.or(self.row.rssi);
                status.battery
            }
            Fact::Reading(reading) if reading.metric == Metric::Battery => Some(reading.value),
            _ => None,
        };
        if battery.is_some() && at >= self.charged_at {
            (self.charged_at, self.row.battery) = (at, battery);
        }
    }

    fn write(&mut self, now: Timestamp) -> Outcome {
        (self.unwritten, self.stands, self.written_at) = (false, true, now);
        Outcome::Device(DeviceChanged {
            liveness: self.life.liveness(),
            since: self.life.since,
            last_heard: self.life.heard,
            expected_every: self.life.every(),
            ..self.row.clone()
        })
    }
}
