//! What a device says about itself: alarms at once; one that is loose until it has contact again.

use schemas::facts::{AlarmCode, AlertChange, AlertClass, DeviceAlarm, Reading, Severity};
use schemas::time::Timestamp;

use super::{Episode, Raise, Scene};

/// One sensor.
#[derive(Debug, Default)]
pub(super) struct Device {
    /// When its newest reading with contact was measured.
    contact_at: Option<Timestamp>,
}

impl Device {
    /// A reading with contact ends that the sensor is off, if it was measured after that began.
    pub(super) fn read(
        &mut self,
        reading: &Reading,
        at: Timestamp,
        episodes: &mut Vec<Episode>,
        scene: &mut Scene<'_>,
    ) {
        if reading.contact == Some(false) || Some(at) < self.contact_at {
            return;
        }
        self.contact_at = Some(at);
        let off = |e: &Episode| e.alert.rule == "sensor_off" && e.alert.started_at <= at;
        if let Some(i) = episodes.iter().position(off) {
            scene.end(&mut episodes[i]);
            episodes.remove(i);
        }
    }

    /// A clinical one is CRITICAL, another one a WARNING; one open alert of each kind.
    pub(super) fn alarm(&self, alarm: &DeviceAlarm, at: Timestamp, episodes: &mut Vec<Episode>, scene: &mut Scene<'_>) {
        if alarm.code == AlarmCode::SensorOff && Some(at) < self.contact_at {
            return;
        }
        let rule = alarm.code.as_str();
        let retrospective = !scene.house.is_fresh(at, scene.policy);
        if let Some(open) = episodes.iter_mut().find(|e| e.alert.rule == rule) {
            if open.alert.retrospective && !retrospective {
                open.alert.retrospective = false;
                scene.ask_again(open, AlertChange::BecameCurrent);
            }
            return;
        }
        let technical = matches!(alarm.code, AlarmCode::SensorOff | AlarmCode::LowBattery);
        let (class, severity) = if technical {
            (AlertClass::Technical, Severity::Warning)
        } else {
            (AlertClass::Clinical, Severity::Critical)
        };
        let mut episode = scene.begin(Raise {
            late: false,
            rule: rule.to_owned(),
            class,
            severity,
            retrospective,
            since: at,
        });
        episode.alert.sensor_id = Some(alarm.sensor_id.clone());
        scene.tell(&episode);
        episodes.push(episode);
    }
}
