//! What is known about each metric: codes, unit, and what a living patient or a working sensor can give.
//!
//! Sources: codes from the FHIR R4 vital signs profile and its value set, HealthKitOnFHIR's mapping table and loinc.org;
//! units from UCUM. *Possible* and *usual* ranges are this project's proposal: no published rule gives them. Of 74,872
//! charted values of intensive care (MIMIC-III demo) the possible ranges refuse 0.27 %, most of them zeros of
//! disconnected sensors (`tests/recorded.rs`).

use crate::metric::Metric;

/// Version of this table, as in [`Policy::catalogue`](crate::policy::Policy): raised when a range or unit changes.
pub const VERSION: i32 = 1;

/// Numbers from `low` to `high`, both included.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Range {
    /// Smallest.
    pub low: f64,
    /// Greatest.
    pub high: f64,
}

impl Range {
    /// Whether `value` lies inside; NaN never does.
    #[must_use]
    pub const fn contains(&self, value: f64) -> bool {
        self.low <= value && value <= self.high
    }
}

/// What a reading of a metric is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// A number.
    Number,
    /// A stretch of samples; the reading's value is their mean.
    Waveform,
    /// Something that happened (1) or did not (0).
    Event,
}

/// What is known about a metric.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Info {
    /// LOINC codes, all of which one FHIR Observation carries; empty where LOINC has none.
    pub loinc: &'static [&'static str],
    /// The canonical unit, UCUM: what is stored.
    pub unit: &'static str,
    /// The canonical unit as people read it; empty where it is a bare number.
    pub symbol: &'static str,
    /// What people call it, in English.
    pub label: &'static str,
    /// The same in French.
    pub label_fr: &'static str,
    /// What can be, in the canonical unit. Outside, a reading is refused as `implausible`.
    pub possible: Range,
    /// What is usual. Possible but outside, a reading is kept, marked `suspect`.
    pub usual: Range,
    /// Whether a reading must name its unit, because people mean different ones.
    pub unit_required: bool,
    /// Whether 0 counts when the device says that it has contact: the patient, not the probe, is still.
    pub zero_with_contact: bool,
    /// What a reading is.
    pub form: Form,
}

impl Metric {
    /// What is known about this metric.
    #[must_use]
    pub const fn info(self) -> &'static Info {
        info(self)
    }
}

const fn range(low: f64, high: f64) -> Range {
    Range { low, high }
}

/// The part of an entry that most metrics share.
const fn number(unit: &'static str, symbol: &'static str, possible: Range, usual: Range) -> Info {
    Info {
        loinc: &[],
        unit,
        symbol,
        label: "",
        label_fr: "",
        possible,
        usual,
        unit_required: false,
        zero_with_contact: false,
        form: Form::Number,
    }
}

macro_rules! catalogue {
    ($($metric:ident: $label:literal, $label_fr:literal, $loinc:expr, $base:expr $(, $field:ident: $value:expr)*;)*) => {
        const fn info(metric: Metric) -> &'static Info {
            match metric {
                $(Metric::$metric => {
                    const INFO: Info = Info {
                        label: $label, label_fr: $label_fr, loinc: &$loinc, $($field: $value,)* ..$base
                    };
                    &INFO
                })*
            }
        }
    };
}

catalogue! {
    HeartRate: "Heart rate", "Fréquence cardiaque", ["8867-4"],
        number("/min", "/min", range(20.0, 300.0), range(30.0, 220.0)), zero_with_contact: true;
    // Both codings on one Observation, as the FHIR profile demands of pulse oximetry.
    Spo2: "Oxygen saturation (SpO₂)", "Saturation en oxygène (SpO₂)", ["2708-6", "59408-5"],
        number("%", "%", range(50.0, 100.0), range(70.0, 100.0));
    // 80 is the most an adult can breathe; 120 a newborn. The door does not know the age, and refusing a newborn's
    // true value would cost more than keeping an adult's wrong one, which is marked suspect from 60 on.
    RespiratoryRate: "Respiratory rate", "Fréquence respiratoire", ["9279-1"],
        number("/min", "/min", range(3.0, 120.0), range(6.0, 60.0)), zero_with_contact: true;
    Systolic: "Systolic blood pressure", "Pression artérielle systolique", ["8480-6"],
        number("mm[Hg]", "mmHg", range(40.0, 300.0), range(60.0, 250.0));
    Diastolic: "Diastolic blood pressure", "Pression artérielle diastolique", ["8462-4"],
        number("mm[Hg]", "mmHg", range(20.0, 200.0), range(30.0, 150.0));
    MeanPressure: "Mean arterial pressure", "Pression artérielle moyenne", ["8478-0"],
        number("mm[Hg]", "mmHg", range(25.0, 250.0), range(40.0, 180.0));
    // °C and °F: 98 and 37 are both said without a unit.
    BodyTemperature: "Body temperature", "Température corporelle", ["8310-5"],
        number("Cel", "°C", range(25.0, 45.0), range(30.0, 43.0)), unit_required: true;
    // mg/dL, mmol/L and g/L: 5.5 without a unit may be well or nearly dead.
    BloodGlucose: "Blood glucose", "Glycémie", ["2339-0"],
        number("mg/dL", "mg/dL", range(10.0, 900.0), range(20.0, 600.0)), unit_required: true;
    // kg, g and lb. What is suspect is a change (5 kg in a day), not a value.
    Weight: "Body weight", "Poids", ["29463-7"],
        number("kg", "kg", range(0.5, 350.0), range(0.5, 350.0)), unit_required: true;
    // Oximeters display 0.02 to 20 %.
    PerfusionIndex: "Perfusion index", "Indice de perfusion", ["61006-3"],
        number("%", "%", range(0.0, 100.0), range(0.02, 20.0));
    // 80404-7 is SDNN and nothing else: RMSSD, which many applications send under it, is another metric.
    HrvSdnn: "Heart rate variability (SDNN)", "Variabilité cardiaque (SDNN)", ["80404-7"],
        number("ms", "ms", range(0.0, 500.0), range(5.0, 250.0));
    Steps: "Steps", "Pas", ["55423-8"],
        number("{steps}", "", range(0.0, 60_000.0), range(0.0, 60_000.0));
    Etco2: "End-tidal CO₂", "CO₂ de fin d’expiration", ["19891-1"],
        number("mm[Hg]", "mmHg", range(0.0, 150.0), range(15.0, 80.0));
    PeakFlow: "Peak expiratory flow", "Débit expiratoire de pointe", ["19935-6"],
        number("L/min", "L/min", range(20.0, 900.0), range(50.0, 800.0));
    Fall: "Fall", "Chute", [],
        number("1", "", range(0.0, 1.0), range(0.0, 1.0)), form: Form::Event;
    AmbientTemperature: "Room temperature", "Température ambiante", ["60832-3"],
        number("Cel", "°C", range(-40.0, 85.0), range(-40.0, 85.0));
    AmbientHumidity: "Room humidity", "Humidité ambiante", [],
        number("%", "%", range(0.0, 100.0), range(0.0, 100.0));
    Battery: "Sensor battery", "Batterie du capteur", [],
        number("%", "%", range(0.0, 100.0), range(0.0, 100.0));
    Ecg: "Electrocardiogram", "Électrocardiogramme", ["11524-6"],
        number("mV", "mV", range(-10.0, 10.0), range(-10.0, 10.0)), form: Form::Waveform;
    // In counts of the converter, whose rails differ by device: anything a 32-bit converter can say.
    Ppg: "Photoplethysmogram", "Photopléthysmogramme", [],
        number("1", "", range(-2_147_483_648.0, 2_147_483_647.0), range(-2_147_483_648.0, 2_147_483_647.0)),
        form: Form::Waveform;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_has_labels_in_both_languages_and_a_usual_range_within_the_possible() {
        for metric in Metric::ALL {
            let info = metric.info();
            assert!(!info.label.is_empty() && !info.label_fr.is_empty(), "{metric}");
            assert!(!info.unit.is_empty(), "{metric}");
            assert!(info.possible.low < info.possible.high, "{metric}");
            assert!(
                info.possible.contains(info.usual.low) && info.possible.contains(info.usual.high),
                "{metric}"
            );
        }
    }

    /// The check digit of LOINC is mod 10, Luhn's: a mistyped code does not pass.
    #[test]
    fn every_loinc_code_has_its_check_digit() {
        for code in Metric::ALL.iter().flat_map(|m| m.info().loinc) {
            let (number, check) = code.split_once('-').expect("a dash");
            let sum: u32 = number
                .bytes()
                .rev()
                .enumerate()
                .map(|(i, b)| {
                    let digit = u32::from(b - b'0') * if i % 2 == 0 { 2 } else { 1 };
                    digit / 10 + digit % 10
                })
                .sum();
            assert_eq!(((10 - sum % 10) % 10).to_string(), check, "{code}");
        }
    }

    #[test]
    fn a_zero_counts_with_contact_only_where_a_patient_can_be_without_it() {
        let zeros: Vec<_> = Metric::ALL.iter().filter(|m| m.info().zero_with_contact).collect();
        assert_eq!(zeros, [&Metric::HeartRate, &Metric::RespiratoryRate]);
        let named: Vec<_> = Metric::ALL.iter().filter(|m| m.info().unit_required).collect();
        assert_eq!(
            named,
            [&Metric::BodyTemperature, &Metric::BloodGlucose, &Metric::Weight]
        );
    }

    #[test]
    fn nothing_is_inside_a_range_that_is_no_number() {
        assert!(!Metric::HeartRate.info().possible.contains(f64::NAN));
    }
}
