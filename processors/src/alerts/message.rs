//! What a doctor reads: every sentence of this processor, in English and French, in one place.

use schemas::facts::AlarmCode;
use schemas::ids::SensorId;
use schemas::limits::Side;
use schemas::metric::Metric;
use schemas::time::Span;
use smol_str::{SmolStr, format_smolstr};

/// A sentence in both languages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) en: SmolStr,
    pub(super) fr: SmolStr,
}

impl Message {
    const fn fixed(en: &'static str, fr: &'static str) -> Self {
        Self {
            en: SmolStr::new_static(en),
            fr: SmolStr::new_static(fr),
        }
    }
}

/// A value has reached a limit.
pub(super) fn limit(metric: Metric, side: Side, value: f64, limit: Option<f64>) -> Message {
    let info = metric.info();
    let (at, at_fr) = match side {
        Side::Low => ("at or below", "inférieure ou égale à"),
        Side::High => ("at or above", "supérieure ou égale à"),
    };
    let unit = unit(info.symbol);
    let (v, l) = (number(value), limit.map(number).unwrap_or_default());
    Message {
        en: format_smolstr!("{} {v}{unit}, {at} {l}{unit}", info.label),
        fr: format_smolstr!(
            "{} : valeur {}{unit}, {at_fr} {}{unit}",
            info.label_fr,
            comma(&v),
            comma(&l)
        ),
    }
}

/// A device raises an alarm by itself.
pub(super) const fn alarm(code: AlarmCode) -> Message {
    match code {
        AlarmCode::Asystole => Message::fixed("Asystole: no heart beat", "Asystolie : aucun battement cardiaque"),
        AlarmCode::Apnoea => Message::fixed("Apnoea: no breath", "Apnée : aucune respiration"),
        AlarmCode::VentricularFibrillation => Message::fixed("Ventricular fibrillation", "Fibrillation ventriculaire"),
        AlarmCode::VentricularTachycardia => Message::fixed("Ventricular tachycardia", "Tachycardie ventriculaire"),
        AlarmCode::Fall => Message::fixed("The patient fell", "Le patient est tombé"),
        AlarmCode::PanicButton => Message::fixed("The patient calls for help", "Le patient appelle à l’aide"),
        AlarmCode::SensorOff => {
            Message::fixed("The sensor came off the patient", "Le capteur s’est détaché du patient")
        }
        AlarmCode::LowBattery => Message::fixed(
            "The sensor’s battery is nearly empty",
            "La pile du capteur est presque vide",
        ),
    }
}

/// The same of a sensor that nobody is said to wear.
pub(super) fn nobodys(alarm: &Message, sensor: &SensorId) -> Message {
    Message {
        en: format_smolstr!("{} (sensor {sensor}, which nobody is said to wear)", alarm.en),
        fr: format_smolstr!("{} (capteur {sensor}, que personne n’est dit porter)", alarm.fr),
    }
}

/// The battery has reached a limit.
pub(super) fn battery(charge: f64) -> Message {
    let charge = number(charge);
    Message {
        en: format_smolstr!("The sensor’s battery is at {charge} %"),
        fr: format_smolstr!("La pile du capteur est à {} %", comma(&charge)),
    }
}

/// A sensor is silent.
pub(super) fn silent(for_: Span) -> Message {
    let seconds = for_.0 / 1_000_000;
    Message {
        en: format_smolstr!("The sensor has been silent for more than {seconds} s"),
        fr: format_smolstr!("Le capteur se tait depuis plus de {seconds} s"),
    }
}

/// A sensor says that something is wrong with it.
pub(super) const fn fault() -> Message {
    Message::fixed("The sensor reports a fault", "Le capteur signale une panne")
}

fn unit(symbol: &str) -> SmolStr {
    match symbol {
        "" => SmolStr::default(),
        bare if bare.starts_with('/') => SmolStr::new(bare),
        other => format_smolstr!(" {other}"),
    }
}

/// At most two decimals, and no more than are needed.
fn number(value: f64) -> SmolStr {
    let text = format!("{value:.2}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    SmolStr::new(if text == "-0" { "0" } else { text })
}

fn comma(number: &str) -> SmolStr {
    SmolStr::from(number.replace('.', ","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sentence_names_value_unit_and_limit_in_both_languages() {
        let high = limit(Metric::HeartRate, Side::High, 190.0, Some(131.0));
        assert_eq!(high.en, "Heart rate 190/min, at or above 131/min");
        assert_eq!(
            high.fr,
            "Fréquence cardiaque : valeur 190/min, supérieure ou égale à 131/min"
        );
        let low = limit(Metric::BodyTemperature, Side::Low, 34.456, Some(35.0));
        assert_eq!(low.en, "Body temperature 34.46 °C, at or below 35 °C");
        assert_eq!(
            low.fr,
            "Température corporelle : valeur 34,46 °C, inférieure ou égale à 35 °C"
        );
        assert_eq!(battery(7.5).fr, "La pile du capteur est à 7,5 %");
        assert_eq!(
            (number(100.0).as_str(), number(0.1).as_str(), number(-0.001).as_str()),
            ("100", "0.1", "0")
        );
    }
}
