//! Patients whose heart rate and oxygen rise, fall and come back, with devices that alarm, slip and lose the network.

use schemas::time::Timestamp;
use smol_str::{SmolStr, format_smolstr};

use crate::simulate::record::{Body, Measured, Record};

/// What a heart rate may be for a while, /min: across every limit there and back.
const HEART: [f64; 9] = [75.0, 75.0, 84.0, 96.0, 116.0, 140.0, 195.0, 46.0, 36.0];
/// The same for oxygen saturation, %.
const OXYGEN: [f64; 7] = [97.5, 97.5, 99.0, 95.0, 92.5, 89.0, 82.0];
/// What devices raise by themselves here.
const ALARMS: [&str; 4] = ["asystole", "fall", "sensor_off", "low_battery"];
/// Minutes by which patients are behind when they begin: some have all been over for long, some become current.
const BEHIND: [i64; 5] = [8, 3, 12, 6, 25];

/// One patient with two sensors.
#[derive(Debug)]
pub(super) struct Patient {
    pub(super) id: SmolStr,
    at: i64,
    seq: i64,
    heart: Course,
    oxygen: Course,
    /// How likely its device alarms at a beat, beside what happens anyway.
    alarms: f64,
    /// What waits until the network is back, and for how many beats.
    away: Option<(u32, Vec<Record>)>,
}

/// A value that stays near a level for a while, then goes elsewhere.
#[derive(Debug)]
struct Course {
    level: f64,
    until: i64,
}

impl Course {
    fn next(&mut self, at: i64, levels: &[f64], chance: &mut fastrand::Rng) -> f64 {
        if at >= self.until {
            self.level = levels[chance.usize(..levels.len())];
            self.until = at + chance.i64(6_000..45_000);
        }
        (self.level * 2.0 + f64::from(chance.i32(-2..=2))) / 2.0
    }
}

/// The id of the `n`th patient.
pub(super) fn id(n: usize) -> SmolStr {
    format_smolstr!("kill-{n:03}")
}

impl Patient {
    pub(super) fn new(n: usize, now: Timestamp, alarms: f64) -> Self {
        let at = now.millis() - BEHIND[n % BEHIND.len()] * 60_000;
        let course = |level| Course { level, until: at };
        Self {
            id: id(n),
            at,
            seq: 0,
            heart: course(HEART[0]),
            oxygen: course(OXYGEN[0]),
            alarms,
            away: None,
        }
    }

    /// What is sent at the next beat: a second of measured time passes, or less for those who have caught up.
    pub(super) fn beat(&mut self, now: Timestamp, chance: &mut fastrand::Rng) -> Vec<Record> {
        // Each time is greater than the one before, so that a reading is known by its time.
        self.at = (self.at + 1000).min(now.millis()).max(self.at + 1);
        self.seq += 1;
        let heart = self.heart.next(self.at, &HEART, chance);
        let oxygen = self.oxygen.next(self.at, &OXYGEN, chance);
        let mut records = vec![
            self.measured("ecg", "heart_rate", "/min", heart, chance),
            self.measured("oxi", "spo2", "%", oxygen, chance),
        ];
        if chance.f64() < 0.004 {
            let sensor = if chance.bool() { "ecg" } else { "oxi" };
            let code = ALARMS[chance.usize(..ALARMS.len())];
            records.push(self.record(sensor, Body::Alarm(code)));
        }
        if self.alarms > 0.0 && chance.f64() < self.alarms {
            // The next reading ends it, so that each is an alert.
            records.push(self.record("ecg", Body::Alarm("sensor_off")));
        }
        self.network(records, chance)
    }

    /// Now and then the network is away: most of it comes later, after what is newer.
    fn network(&mut self, records: Vec<Record>, chance: &mut fastrand::Rng) -> Vec<Record> {
        let Some((beats, waiting)) = &mut self.away else {
            if chance.f64() < 0.01 {
                self.away = Some((chance.u32(15..60), Vec::new()));
            }
            return records;
        };
        if *beats == 0 {
            let mut all = std::mem::take(waiting);
            self.away = None;
            all.splice(0..0, records);
            return all;
        }
        *beats -= 1;
        let (late, now): (Vec<_>, Vec<_>) = records.into_iter().partition(|_| chance.f64() < 0.7);
        waiting.extend(late);
        now
    }

    /// What still waits, at the end.
    pub(super) fn rest(&mut self) -> Vec<Record> {
        self.away.take().map(|(_, waiting)| waiting).unwrap_or_default()
    }

    fn measured(&self, sensor: &str, metric: &str, unit: &str, value: f64, chance: &mut fastrand::Rng) -> Record {
        let poor = chance.f64() < 0.03;
        let body = Measured {
            metric: metric.into(),
            value,
            unit: Some(unit.into()),
            quality: (chance.f64() < 0.9).then_some(if poor { 20 } else { 95 }),
            contact: Some(chance.f64() > 0.02),
        };
        self.record(sensor, Body::Measured(body))
    }

    fn record(&self, sensor: &str, body: Body) -> Record {
        Record {
            patient: self.id.clone(),
            sensor: format_smolstr!("{}-{sensor}", self.id),
            at: Timestamp::from_millis(self.at),
            seq: Some(self.seq),
            epoch: Some(1),
            body,
        }
    }
}
