//! What an illness does to vital signs over time. Pure: time is an argument.
//!
//! The numbers are those of the textbook pictures, not of any one patient: septic shock (fever, tachycardia,
//! tachypnoea, falling pressure: the signs that NEWS2 and qSOFA score), respiratory failure, cardiac arrest.

use clap::ValueEnum;

/// A course that a simulated patient takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum Scenario {
    /// Nine of ten stable, the others each take one of the courses below.
    Mixed,
    /// Healthy variation, nothing more.
    Stable,
    /// Fever, fast heart and breath, falling pressure: fully there after 20 minutes.
    Sepsis,
    /// Oxygen saturation falls to below 85 % within 3 minutes.
    Hypoxia,
    /// Ventricular tachycardia for 20 seconds, then no heart beat; the monitor raises its alarms.
    Arrest,
    /// The electrode and the probe come off for two minutes and send zeros without contact.
    SensorOff,
    /// The network is away for three minutes; what was measured comes late, in order, all at once.
    NetworkAway,
}

impl Scenario {
    /// The courses that [`Scenario::Mixed`] draws from.
    pub const ILL: [Self; 5] = [
        Self::Sepsis,
        Self::Hypoxia,
        Self::Arrest,
        Self::SensorOff,
        Self::NetworkAway,
    ];
}

/// Vital signs of one patient at one moment, in canonical units.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Vitals {
    /// Beats per minute.
    pub heart_rate: f64,
    /// Oxygen saturation, %.
    pub spo2: f64,
    /// Breaths per minute.
    pub respiratory_rate: f64,
    /// mm[Hg].
    pub systolic: f64,
    /// mm[Hg].
    pub diastolic: f64,
    /// °C.
    pub body_temperature: f64,
}

/// What the course does at one moment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Effect {
    /// To be added to the patient's own values.
    pub shift: Vitals,
    /// The heart beats so fast whatever it did before, beats per minute.
    pub heart_rate: Option<f64>,
    /// No breath: the monitor, in contact, counts zero.
    pub apnoea: bool,
    /// Electrode and probe are off the patient.
    pub off: bool,
    /// What is measured cannot be sent now.
    pub away: bool,
}

const NOTHING: Vitals = Vitals {
    heart_rate: 0.0,
    spo2: 0.0,
    respiratory_rate: 0.0,
    systolic: 0.0,
    diastolic: 0.0,
    body_temperature: 0.0,
};

/// Seconds of ventricular tachycardia before the heart stops.
pub const TACHYCARDIA: f64 = 20.0;
/// Seconds from the stop of the heart to the last breath.
pub const LAST_BREATH: f64 = 20.0;

/// What `scenario` does `t` seconds after its onset; before it (`t` below 0), nothing.
#[must_use]
pub fn effect(scenario: Scenario, t: f64) -> Effect {
    let mut effect = Effect {
        shift: NOTHING,
        heart_rate: None,
        apnoea: false,
        off: false,
        away: false,
    };
    if t < 0.0 {
        return effect;
    }
    match scenario {
        Scenario::Mixed | Scenario::Stable => {}
        Scenario::Sepsis => effect.shift = scaled(SEPSIS, ramp(t / 1200.0)),
        Scenario::Hypoxia => effect.shift = scaled(HYPOXIA, ramp(t / 180.0)),
        Scenario::Arrest => arrest(t, &mut effect),
        Scenario::SensorOff => effect.off = t < 120.0,
        Scenario::NetworkAway => effect.away = t < 180.0,
    }
    effect
}

const SEPSIS: Vitals = Vitals {
    heart_rate: 48.0,
    spo2: -5.0,
    respiratory_rate: 13.0,
    systolic: -38.0,
    diastolic: -24.0,
    body_temperature: 2.4,
};

const HYPOXIA: Vitals = Vitals {
    heart_rate: 28.0,
    spo2: -16.0,
    respiratory_rate: 14.0,
    systolic: 12.0,
    diastolic: 6.0,
    body_temperature: 0.0,
};

fn arrest(t: f64, effect: &mut Effect) {
    effect.heart_rate = Some(if t < TACHYCARDIA { 185.0 } else { 0.0 });
    effect.apnoea = t >= TACHYCARDIA + LAST_BREATH;
    let fall = ramp(t / TACHYCARDIA);
    effect.shift.systolic = -55.0 * fall;
    effect.shift.diastolic = -30.0 * fall;
    effect.shift.spo2 = -12.0 * fall;
}

fn scaled(full: Vitals, part: f64) -> Vitals {
    Vitals {
        heart_rate: full.heart_rate * part,
        spo2: full.spo2 * part,
        respiratory_rate: full.respiratory_rate * part,
        systolic: full.systolic * part,
        diastolic: full.diastolic * part,
        body_temperature: full.body_temperature * part,
    }
}

/// 0 at 0, 1 from 1 on, without corners.
fn ramp(x: f64) -> f64 {
    let x = x.clamp(0.0, 1.0);
    x * x * (3.0 - 2.0 * x)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_happens_before_the_onset() {
        for scenario in Scenario::value_variants() {
            let before = effect(*scenario, -1.0);
            assert_eq!(before.shift, NOTHING, "{scenario:?}");
            assert!(!before.off && !before.away && before.heart_rate.is_none());
        }
    }

    #[test]
    fn each_course_ends_where_the_textbook_says() {
        let sepsis = effect(Scenario::Sepsis, 3600.0).shift;
        assert!(sepsis.heart_rate > 40.0 && sepsis.systolic < -30.0 && sepsis.body_temperature > 2.0);
        assert!(effect(Scenario::Hypoxia, 180.0).shift.spo2 <= -16.0);
        assert_eq!(effect(Scenario::Arrest, 10.0).heart_rate, Some(185.0));
        let dead = effect(Scenario::Arrest, 60.0);
        assert_eq!((dead.heart_rate, dead.apnoea), (Some(0.0), true));
        assert!(effect(Scenario::SensorOff, 119.0).off && !effect(Scenario::SensorOff, 120.0).off);
        assert!(effect(Scenario::NetworkAway, 0.0).away && !effect(Scenario::NetworkAway, 180.0).away);
    }

    #[test]
    fn a_course_develops_without_jumps() {
        for scenario in [Scenario::Sepsis, Scenario::Hypoxia] {
            let mut last = effect(scenario, 0.0).shift;
            for t in 1..2000 {
                let now = effect(scenario, f64::from(t)).shift;
                assert!((now.heart_rate - last.heart_rate).abs() < 1.0, "{scenario:?} at {t}");
                last = now;
            }
        }
    }
}
