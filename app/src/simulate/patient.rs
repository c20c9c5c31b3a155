//! A simulated patient: own values, natural variation around them, and a course. Pure: time is an argument, chance
//! comes from a seed.

use schemas::metric::Metric;

use super::course::{Effect, LAST_BREATH, Scenario, TACHYCARDIA, Vitals, effect};
use super::record::{Body, Measured};

/// A simulated patient.
#[derive(Debug)]
pub struct Patient {
    own: Vitals,
    drift: [Drift; 6],
    scenario: Scenario,
    onset: f64,
    chance: fastrand::Rng,
    last: f64,
    told_off: bool,
    told_asystole: bool,
    told_apnoea: bool,
}

/// A value that wanders around zero and comes back (an Ornstein-Uhlenbeck process).
#[derive(Debug, Clone, Copy)]
struct Drift {
    value: f64,
    /// Standard deviation in the long run.
    spread: f64,
    /// Seconds until most of a deviation is forgotten.
    memory: f64,
}

/// Which sensor of a patient a record is from: the end of its id.
pub const SENSORS: [&str; 4] = ["ecg", "oxi", "cuff", "temp"];

/// What a patient's sensors say at one moment: per record, the index in [`SENSORS`].
pub type Sayings = Vec<(usize, Body)>;

impl Patient {
    /// Patient number `index` of the world that `seed` makes. The course begins about `onset` seconds after the start.
    #[must_use]
    pub fn new(seed: u64, index: usize, scenario: Scenario, onset: f64) -> Self {
        let mut chance = fastrand::Rng::with_seed(seed ^ (index as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let mut within = |low: f64, high: f64| low + (high - low) * chance.f64();
        let systolic = within(108.0, 132.0);
        let own = Vitals {
            heart_rate: within(62.0, 84.0),
            spo2: within(96.5, 98.5),
            respiratory_rate: within(13.0, 17.0),
            systolic,
            diastolic: systolic * 0.62,
            body_temperature: within(36.4, 37.0),
        };
        let onset = onset * within(0.9, 1.1);
        let drift = |spread, memory| Drift {
            value: 0.0,
            spread,
            memory,
        };
        let scenario = match scenario {
            Scenario::Mixed if chance.usize(0..10) == 0 => Scenario::ILL[chance.usize(0..Scenario::ILL.len())],
            Scenario::Mixed => Scenario::Stable,
            other => other,
        };
        Self {
            own,
            drift: [
                drift(2.5, 30.0),
                drift(0.4, 60.0),
                drift(0.8, 30.0),
                drift(4.0, 120.0),
                drift(2.5, 120.0),
                drift(0.08, 600.0),
            ],
            scenario,
            onset,
            chance,
            last: 0.0,
            told_off: false,
            told_asystole: false,
            told_apnoea: false,
        }
    }

    /// Whether what is measured at `t` cannot be sent.
    #[must_use]
    pub fn is_away(&self, t: f64) -> bool {
        effect(self.scenario, t - self.onset).away
    }

    /// What the sensors say at `t` seconds after the start. `slow` includes blood pressure and temperature. `t` grows
    /// from call to call.
    pub fn measure(&mut self, t: f64, slow: bool) -> Sayings {
        let passed = (t - self.last).max(0.0);
        self.last = t;
        for drift in &mut self.drift {
            drift.step(passed, normal(&mut self.chance));
        }
        let effect = effect(self.scenario, t - self.onset);
        let mut said = Vec::with_capacity(6);
        self.raise_alarms(t - self.onset, &effect, &mut said);
        self.measure_fast(&effect, &mut said);
        if slow && effect.heart_rate != Some(0.0) {
            self.measure_slow(&effect, &mut said);
        }
        said
    }

    fn raise_alarms(&mut self, t: f64, effect: &Effect, said: &mut Sayings) {
        let mut tell = |told: &mut bool, now: bool, code| {
            if now && !*told {
                *told = true;
                said.push((0, Body::Alarm(code)));
            }
        };
        let stopped = effect.heart_rate == Some(0.0);
        tell(&mut self.told_off, effect.off, "sensor_off");
        tell(&mut self.told_asystole, stopped && t >= TACHYCARDIA, "asystole");
        tell(
            &mut self.told_apnoea,
            effect.apnoea && t >= TACHYCARDIA + LAST_BREATH,
            "apnoea",
        );
    }

    fn measure_fast(&mut self, effect: &Effect, said: &mut Sayings) {
        let quality = Some(90 + self.chance.u8(0..=10));
        let mut say = |sensor, metric: Metric, value, unit, contact| {
            let quality = if contact { quality } else { Some(0) };
            let contact = Some(contact);
            said.push((
                sensor,
                Body::Measured(Measured {
                    metric: metric.as_str().into(),
                    value,
                    unit: Some(unit),
                    quality,
                    contact,
                }),
            ));
        };
        if effect.off {
            say(0, Metric::HeartRate, 0.0, "/min".into(), false);
            say(1, Metric::Spo2, 0.0, "%".into(), false);
            return;
        }
        let heart = effect
            .heart_rate
            .unwrap_or(self.own.heart_rate + effect.shift.heart_rate + self.drift[0].value);
        say(0, Metric::HeartRate, heart.max(0.0).round(), "/min".into(), true);
        let breath = self.own.respiratory_rate + effect.shift.respiratory_rate + self.drift[2].value;
        let breath = if effect.apnoea { 0.0 } else { breath.max(4.0).round() };
        say(0, Metric::RespiratoryRate, breath, "/min".into(), true);
        // Without a pulse an oximeter shows nothing.
        if heart > 0.0 {
            let spo2 = self.own.spo2 + effect.shift.spo2 + self.drift[1].value;
            say(1, Metric::Spo2, spo2.clamp(60.0, 100.0).round(), "%".into(), true);
        }
    }

    fn measure_slow(&mut self, effect: &Effect, said: &mut Sayings) {
        let systolic = self.own.systolic + effect.shift.systolic + self.drift[3].value;
        let diastolic = self.own.diastolic + effect.shift.diastolic + self.drift[4].value;
        let systolic = systolic.max(diastolic + 15.0).round();
        let diastolic = diastolic.max(25.0).round();
        said.push((
            2,
            Body::BloodPressure {
                systolic,
                diastolic,
                // The usual estimate of the mean arterial pressure.
                mean: (diastolic + (systolic - diastolic) / 3.0).round(),
            },
        ));
        let warm = self.own.body_temperature + effect.shift.body_temperature + self.drift[5].value;
        said.push((
            3,
            Body::Measured(Measured {
                metric: Metric::BodyTemperature.as_str().into(),
                value: (warm * 10.0).round() / 10.0,
                unit: Some("Cel".into()),
                quality: Some(95),
                contact: None,
            }),
        ));
    }
}

impl Drift {
    fn step(&mut self, passed: f64, normal: f64) {
        let kept = (-passed / self.memory).exp();
        self.value = self.value * kept + self.spread * (1.0 - kept * kept).max(0.0).sqrt() * normal;
    }
}

/// A normally distributed number (Box and Muller's method).
fn normal(chance: &mut fastrand::Rng) -> f64 {
    let radius = (-2.0 * (1.0 - chance.f64()).ln()).sqrt();
    radius * (std::f64::consts::TAU * chance.f64()).cos()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(patient: &mut Patient, metric: Metric, seconds: u32) -> Vec<f64> {
        let said = (0..seconds).flat_map(|t| patient.measure(f64::from(t), t % 10 == 0));
        said.filter_map(|(_, body)| match body {
            Body::Measured(m) if m.metric == metric.as_str() => Some(m.value),
            _ => None,
        })
        .collect()
    }

    #[test]
    fn a_stable_patient_stays_within_what_is_healthy() {
        for index in 0..20 {
            let mut patient = Patient::new(7, index, Scenario::Stable, 60.0);
            let rates = values(&mut patient, Metric::HeartRate, 600);
            assert_eq!(rates.len(), 600);
            assert!(rates.iter().all(|r| (45.0..110.0).contains(r)), "{index}: {rates:?}");
            assert!(rates.iter().any(|r| *r != rates[0]), "{index} does not vary");
        }
    }

    #[test]
    fn the_same_seed_makes_the_same_patient() {
        let all = |seed| values(&mut Patient::new(seed, 3, Scenario::Sepsis, 10.0), Metric::Spo2, 100);
        assert_eq!(all(5), all(5));
        assert_ne!(all(5), all(6));
    }

    #[test]
    fn an_arrest_ends_in_zeros_with_contact_and_one_alarm_each() {
        let mut patient = Patient::new(1, 0, Scenario::Arrest, 10.0);
        let said: Sayings = (0..120).flat_map(|t| patient.measure(f64::from(t), false)).collect();
        let alarms: Vec<_> = said
            .iter()
            .filter_map(|(_, b)| if let Body::Alarm(code) = b { Some(*code) } else { None })
            .collect();
        assert_eq!(alarms, ["asystole", "apnoea"]);
        let last = said.iter().rev().find_map(|(_, b)| match b {
            Body::Measured(m) if m.metric == "heart_rate" => Some((m.value, m.contact)),
            _ => None,
        });
        assert_eq!(last, Some((0.0, Some(true))));
    }

    #[test]
    fn a_hypoxic_patient_falls_below_85_percent() {
        let saturations = values(&mut Patient::new(2, 0, Scenario::Hypoxia, 5.0), Metric::Spo2, 300);
        assert!(saturations[0] >= 94.0);
        assert!(*saturations.last().unwrap() < 85.0, "{saturations:?}");
    }

    #[test]
    fn a_sensor_that_is_off_sends_zeros_without_contact() {
        let mut patient = Patient::new(2, 0, Scenario::SensorOff, 1.0);
        patient.measure(0.0, false);
        let off = patient.measure(5.0, false);
        assert!(off.iter().any(|(_, b)| *b == Body::Alarm("sensor_off")));
        let zero =
            |(_, b): &(usize, Body)| matches!(b, Body::Measured(m) if m.value == 0.0 && m.contact == Some(false));
        assert_eq!(off.iter().filter(|said| zero(said)).count(), 2);
    }
}
