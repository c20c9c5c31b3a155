//! Units: every spelling that is understood, and how to get from it to the canonical unit.
//!
//! A spelling counts exactly as it stands (UCUM is case-sensitive: `MG` is not `mg`). What is not in the tables is
//! refused, never guessed. Spellings are those of UCUM, SenML (RFC 8428), Open mHealth, Apple Health and everyday use.

use smol_str::SmolStr;

use crate::metric::Metric;

/// How to get from a unit to the canonical one.
#[derive(Debug, Clone, Copy)]
enum Scale {
    /// The canonical unit under some name.
    Same,
    /// So many canonical units.
    Times(f64),
    /// A multiple and a divisor, where the factor itself is no short decimal.
    Ratio(f64, f64),
    /// An interval between events, whose rate per minute is this divided by it.
    Per(f64),
    /// Degrees Fahrenheit to Celsius.
    Fahrenheit,
    /// Kelvin to Celsius.
    Kelvin,
}

use Scale::{Fahrenheit, Kelvin, Per, Ratio, Same, Times};

/// Pascal in a conventional millimetre of mercury (ISO 80000-4, NIST SP 811).
const MMHG: f64 = 133.322_387_415;
/// Molar mass of glucose, C₆H₁₂O₆, in g/mol (IUPAC 2021).
const GLUCOSE: f64 = 180.156;

type Table = &'static [(&'static str, Scale)];

const HEART_RATE: Table = &[
    ("/min", Same),
    ("{beats}/min", Same),
    ("{beat}/min", Same),
    ("{Beats}/min", Same),
    ("beats/min", Same),
    ("beat/min", Same),
    ("bpm", Same),
    ("BPM", Same),
    ("1/min", Same),
    ("min-1", Same),
    ("count/min", Same),
    ("Hz", Times(60.0)),
    ("/s", Times(60.0)),
    ("1/s", Times(60.0)),
    // The interval between two beats.
    ("s", Per(60.0)),
    ("ms", Per(60_000.0)),
];
const RESPIRATORY_RATE: Table = &[
    ("/min", Same),
    ("{breaths}/min", Same),
    ("{breath}/min", Same),
    ("{Breaths}/min", Same),
    ("breaths/min", Same),
    ("breath/min", Same),
    ("bpm", Same),
    ("brpm", Same),
    ("rpm", Same),
    ("1/min", Same),
    ("min-1", Same),
    ("count/min", Same),
    ("Hz", Times(60.0)),
    ("/s", Times(60.0)),
    ("1/s", Times(60.0)),
];
const SATURATION: Table = &[
    ("%", Same),
    ("%{saturation}", Same),
    ("{%}", Same),
    ("percent", Same),
    ("1", Times(100.0)),
    // SenML's ratio.
    ("/", Times(100.0)),
];
const PRESSURE: Table = &[
    ("mm[Hg]", Same),
    ("mmHg", Same),
    ("mmhg", Same),
    ("kPa", Ratio(1_000.0, MMHG)),
    ("Pa", Ratio(1.0, MMHG)),
    ("hPa", Ratio(100.0, MMHG)),
    ("mbar", Ratio(100.0, MMHG)),
    ("cm[H2O]", Ratio(98.066_5, MMHG)),
    ("cmH2O", Ratio(98.066_5, MMHG)),
];
const CARBON_DIOXIDE: Table = &[
    ("mm[Hg]", Same),
    ("mmHg", Same),
    ("mmhg", Same),
    ("kPa", Ratio(1_000.0, MMHG)),
    ("Pa", Ratio(1.0, MMHG)),
    // A share of the air at 101.325 kPa (760 mmHg).
    ("%", Times(7.6)),
];
const TEMPERATURE: Table = &[
    ("Cel", Same),
    ("°C", Same),
    ("℃", Same),
    ("C", Same),
    ("degC", Same),
    ("[degF]", Fahrenheit),
    ("°F", Fahrenheit),
    ("℉", Fahrenheit),
    ("F", Fahrenheit),
    ("degF", Fahrenheit),
    ("K", Kelvin),
];
const GLUCOSE_IN_BLOOD: Table = &[
    ("mg/dL", Same),
    ("mg/dl", Same),
    ("mmol/L", Ratio(GLUCOSE, 10.0)),
    ("mmol/l", Ratio(GLUCOSE, 10.0)),
    ("mol/L", Ratio(GLUCOSE * 1_000.0, 10.0)),
    ("mol/l", Ratio(GLUCOSE * 1_000.0, 10.0)),
    // Apple Health names the molar mass it goes by.
    ("mmol<180.1558800000541>/L", Ratio(180.155_880_000_054_1, 10.0)),
    ("g/L", Times(100.0)),
    ("g/l", Times(100.0)),
    ("kg/L", Times(100_000.0)),
    ("kg/l", Times(100_000.0)),
];
const MASS: Table = &[
    ("kg", Same),
    ("g", Ratio(1.0, 1_000.0)),
    ("[lb_av]", Times(0.453_592_37)),
    ("lb", Times(0.453_592_37)),
    ("lbs", Times(0.453_592_37)),
];
const PERCENT: Table = &[("%", Same), ("percent", Same)];
const HUMIDITY: Table = &[("%", Same), ("%RH", Same), ("percent", Same)];
const CHARGE: Table = &[("%", Same), ("%EL", Same), ("percent", Same)];
const INTERVAL: Table = &[("ms", Same), ("s", Times(1_000.0))];
const COUNT: Table = &[
    ("{steps}", Same),
    ("steps", Same),
    ("{count}", Same),
    ("count", Same),
    ("1", Same),
];
const FLOW: Table = &[
    ("L/min", Same),
    ("l/min", Same),
    ("L/s", Times(60.0)),
    ("l/s", Times(60.0)),
];
const HAPPENED: Table = &[("1", Same), ("/", Same)];
const VOLTAGE: Table = &[
    ("mV", Same),
    ("uV", Ratio(1.0, 1_000.0)),
    // The micro sign and the Greek letter look alike.
    ("\u{b5}V", Ratio(1.0, 1_000.0)),
    ("\u{3bc}V", Ratio(1.0, 1_000.0)),
    ("V", Times(1_000.0)),
];
const RAW: Table = &[("1", Same), ("{count}", Same), ("count", Same)];

const fn table(metric: Metric) -> Table {
    match metric {
        Metric::HeartRate => HEART_RATE,
        Metric::Spo2 => SATURATION,
        Metric::RespiratoryRate => RESPIRATORY_RATE,
        Metric::Systolic | Metric::Diastolic | Metric::MeanPressure => PRESSURE,
        Metric::BodyTemperature | Metric::AmbientTemperature => TEMPERATURE,
        Metric::BloodGlucose => GLUCOSE_IN_BLOOD,
        Metric::Weight => MASS,
        Metric::PerfusionIndex => PERCENT,
        Metric::HrvSdnn => INTERVAL,
        Metric::Steps => COUNT,
        Metric::Etco2 => CARBON_DIOXIDE,
        Metric::PeakFlow => FLOW,
        Metric::Fall => HAPPENED,
        Metric::AmbientHumidity => HUMIDITY,
        Metric::Battery => CHARGE,
        Metric::Ecg => VOLTAGE,
        Metric::Ppg => RAW,
    }
}

/// A unit in which this metric is not understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{metric} is not understood in {unit:?}; use {} or one of its other spellings", .metric.info().unit)]
pub struct UnknownUnit {
    /// The metric.
    pub metric: Metric,
    /// The unit as it was written.
    pub unit: SmolStr,
}

/// `value` of `metric`, given in `unit`, in the metric's canonical unit.
///
/// The canonical unit under any of its names gives back the very bits. Everything else is rounded to nine decimals, so
/// that the noise of binary arithmetic (0.57 × 100 = 56.99999999999999) never carries a value across a limit. An
/// interval of 0 gives infinity and no number stays none: judge the result, not only what was sent.
///
/// # Errors
/// [`UnknownUnit`] where the unit is not one of this metric's.
pub fn convert(metric: Metric, value: f64, unit: &str) -> Result<f64, UnknownUnit> {
    let scale = table(metric).iter().find(|(spelling, _)| *spelling == unit);
    let converted = match scale.map(|(_, scale)| *scale) {
        Some(Same) => return Ok(value),
        Some(Times(factor)) => value * factor,
        Some(Ratio(times, over)) => value * times / over,
        Some(Per(interval)) => interval / value,
        Some(Fahrenheit) => (value - 32.0) * 5.0 / 9.0,
        Some(Kelvin) => value - 273.15,
        None => {
            return Err(UnknownUnit {
                metric,
                unit: SmolStr::new(unit),
            });
        }
    };
    Ok(if converted.abs() < 1e6 {
        (converted * 1e9).round() / 1e9
    } else {
        converted
    })
}

/// Whether `unit` is the canonical unit of `metric` under some name, so that a value stays as it is.
#[must_use]
pub fn is_canonical(metric: Metric, unit: &str) -> bool {
    table(metric)
        .iter()
        .any(|(s, scale)| *s == unit && matches!(scale, Same))
}

/// Every spelling understood for `metric`, the canonical UCUM code first.
pub fn spellings(metric: Metric) -> impl Iterator<Item = &'static str> {
    table(metric).iter().map(|(spelling, _)| *spelling)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Published conversions: NIST SP 811, the ADA's and IFCC's glucose tables, UCUM, and sums that anyone can check.
    #[test]
    fn converts_as_published() {
        use Metric::*;
        for (metric, value, unit, canonical, within) in [
            (HeartRate, 72.0, "/min", 72.0, 0.0),
            (HeartRate, 72.0, "beat/min", 72.0, 0.0),
            (HeartRate, 1.2, "Hz", 72.0, 0.0),
            (HeartRate, 0.8, "s", 75.0, 0.0),
            (HeartRate, 781.0 / 1024.0, "s", 78.668, 1e-3),
            (HeartRate, 800.0, "ms", 75.0, 0.0),
            (RespiratoryRate, 0.25, "Hz", 15.0, 0.0),
            (RespiratoryRate, 15.0, "{breaths}/min", 15.0, 0.0),
            (Spo2, 0.97, "1", 97.0, 0.0),
            (Spo2, 0.57, "1", 57.0, 0.0),
            (Spo2, 98.0, "%", 98.0, 0.0),
            (Systolic, 16.0, "kPa", 120.009_85, 1e-5),
            (Systolic, 10.0, "cm[H2O]", 7.355_59, 1e-5),
            (Diastolic, 101.325, "kPa", 760.0, 1e-3),
            (MeanPressure, 93.0, "mmHg", 93.0, 0.0),
            (BodyTemperature, 98.6, "[degF]", 37.0, 0.0),
            (BodyTemperature, 95.0, "°F", 35.0, 0.0),
            (BodyTemperature, 310.15, "K", 37.0, 0.0),
            (BodyTemperature, 36.6, "Cel", 36.6, 0.0),
            (AmbientTemperature, -40.0, "degF", -40.0, 0.0),
            (BloodGlucose, 3.0, "mmol/L", 54.0, 0.05),
            (BloodGlucose, 5.5, "mmol/L", 99.085_8, 1e-9),
            (BloodGlucose, 1.26, "g/L", 126.0, 0.0),
            (BloodGlucose, 0.000_95, "kg/L", 95.0, 0.0),
            (BloodGlucose, 0.005_4, "mol/L", 97.284_24, 1e-9),
            (BloodGlucose, 10.0, "mmol<180.1558800000541>/L", 180.155_88, 1e-6),
            (Weight, 150.0, "[lb_av]", 68.038_855_5, 0.0),
            (Weight, 3_450.0, "g", 3.45, 0.0),
            (HrvSdnn, 0.042, "s", 42.0, 0.0),
            (Etco2, 5.0, "%", 38.0, 0.0),
            (Etco2, 4.67, "kPa", 35.027_88, 1e-5),
            (PeakFlow, 7.5, "L/s", 450.0, 0.0),
            (AmbientHumidity, 45.0, "%RH", 45.0, 0.0),
            (Battery, 51.0, "%EL", 51.0, 0.0),
            (Ecg, 250.0, "uV", 0.25, 0.0),
            (Ecg, 250.0, "µV", 0.25, 0.0),
            (Steps, 120.0, "count", 120.0, 0.0),
            (Fall, 1.0, "1", 1.0, 0.0),
        ] {
            let got = convert(metric, value, unit).unwrap();
            assert!((got - canonical).abs() <= within, "{metric} {value} {unit}: {got}");
        }
    }

    #[test]
    fn an_unknown_unit_is_refused_never_guessed() {
        for (metric, unit) in [
            (Metric::HeartRate, ""),
            (Metric::HeartRate, "%"),
            (Metric::HeartRate, "breaths/min"),
            (Metric::Spo2, "kPa"),
            (Metric::BloodGlucose, "mmol"),
            (Metric::BloodGlucose, "MG/DL"),
            (Metric::Battery, "V"),
            (Metric::BodyTemperature, " Cel"),
            (Metric::Weight, "stone"),
        ] {
            let refused = convert(metric, 1.0, unit).unwrap_err();
            assert_eq!((refused.metric, refused.unit.as_str()), (metric, unit));
        }
    }

    #[test]
    fn the_canonical_unit_comes_first_and_keeps_every_bit() {
        for metric in Metric::ALL {
            let canonical = metric.info().unit;
            assert_eq!(spellings(*metric).next(), Some(canonical));
            assert!(is_canonical(*metric, canonical));
            let value = 0.1 + 0.2;
            assert_eq!(convert(*metric, value, canonical), Ok(value));
            let mut all: Vec<_> = spellings(*metric).collect();
            all.sort_unstable();
            all.dedup();
            assert_eq!(all.len(), spellings(*metric).count(), "{metric} has a spelling twice");
        }
    }

    #[test]
    fn what_is_no_number_stays_none() {
        assert!(convert(Metric::HeartRate, f64::NAN, "Hz").unwrap().is_nan());
        assert_eq!(convert(Metric::HeartRate, 0.0, "s"), Ok(f64::INFINITY));
        assert_eq!(convert(Metric::Weight, f64::MAX, "g"), Ok(f64::MAX / 1_000.0));
    }
}
