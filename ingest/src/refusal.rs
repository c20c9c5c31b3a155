//! Why a record is refused: a stable code, the field at fault, and one sentence in English and in French.
//!
//! All sentences stand in one table, so that every door says the same in the same words.

use schemas::refused::Code;
use smol_str::SmolStr;

/// Why a record was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The stable code.
    pub code: Code,
    /// The field at fault, by its name in the payload.
    pub field: Option<SmolStr>,
    /// What a person reads, in English.
    pub detail: SmolStr,
    /// The same in French.
    pub detail_fr: SmolStr,
}

macro_rules! faults {
    ($($(#[$doc:meta])* $variant:ident = $code:ident, $en:literal, $fr:literal;)*) => {
        /// Everything that can be wrong with a record. `{}` in a sentence stands for the particular.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Fault { $($(#[$doc])* $variant),* }

        impl Fault {
            /// Every fault.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The code that devices and scripts see.
            #[must_use]
            pub const fn code(self) -> Code {
                match self { $(Self::$variant => Code::$code),* }
            }

            /// The sentence in English and in French.
            #[must_use]
            pub const fn sentences(self) -> (&'static str, &'static str) {
                match self { $(Self::$variant => ($en, $fr)),* }
            }
        }
    };
}

faults! {
    /// The message is no JSON.
    NotJson = Unreadable, "The message is not readable as JSON ({}).", "Le message n'est pas lisible comme JSON ({}).";
    /// The message is no CBOR.
    NotCbor = Unreadable, "The message is not readable as SenML in CBOR ({}).", "Le message n'est pas lisible comme SenML en CBOR ({}).";
    /// The message is no Avro of ours.
    NotAvro = Unreadable, "The message is not readable as Avro ({}).", "Le message n'est pas lisible comme Avro ({}).";
    /// The record is no object.
    NotAnObject = Unreadable, "The record is not an object with named fields.", "L'enregistrement n'est pas un objet à champs nommés.";
    /// There is nothing in the message.
    Empty = Unreadable, "The message holds no record.", "Le message ne contient aucun enregistrement.";
    /// A name ending in `_` that a reader must understand or refuse, or a SenML version above 10.
    MustUnderstand = Unreadable, "The record asks for a SenML extension that is not known here: {}.", "L'enregistrement demande une extension SenML inconnue ici : {}.";
    /// A binary value is no base64.
    NotBase64 = Unreadable, "The value is not base64.", "La valeur n'est pas en base64.";
    /// A kind of record that sensors do not write.
    NotASensorsRecord = Unauthorised, "A sensor writes readings, alarms and status only, not {}.", "Un capteur n'écrit que des mesures, des alarmes et son état, pas {}.";
    /// A required field is absent.
    Missing = MissingField, "The field is missing.", "Le champ manque.";
    /// A unit is required for this metric.
    UnitRequired = MissingField, "{} needs its unit: people mean different ones.", "{} exige son unité : l'usage en connaît plusieurs.";
    /// Two fields with one name.
    Twice = Inconsistent, "The field is there twice.", "Le champ figure deux fois.";
    /// No such metric.
    UnknownMetric = UnknownMetric, "There is no metric {}.", "La mesure {} n'existe pas.";
    /// No such alarm.
    UnknownAlarm = Inconsistent, "There is no alarm code {}.", "Le code d'alarme {} n'existe pas.";
    /// No such state.
    UnknownState = Inconsistent, "A state is active, inactive or fault, not {}.", "Un état est active, inactive ou fault, pas {}.";
    /// A unit this metric does not come in.
    UnknownUnit = UnknownUnit, "This metric is not measured in {}.", "Cette mesure ne se donne pas en {}.";
    /// NaN, infinity, a text.
    NotANumber = NotANumber, "The value is not a finite number.", "La valeur n'est pas un nombre fini.";
    /// Outside the possible.
    Implausible = Implausible, "{} is outside what is possible.", "{} est hors de ce qui est possible.";
    /// A time that is no RFC 3339 text.
    TimeUnreadable = TimeUnreadable, "A time is written like 2026-01-05T08:00:00.000Z (RFC 3339).", "Une heure s'écrit comme 2026-01-05T08:00:00.000Z (RFC 3339).";
    /// A time too far ahead of ours.
    TimeAhead = TimeAhead, "The time is {} s ahead of ours: check the device's clock.", "L'heure est en avance de {} s sur la nôtre : vérifier l'horloge de l'appareil.";
    /// A name that is none.
    BadId = Inconsistent, "An id is 1 to 64 characters of A-Z a-z 0-9 . _ : - (a patient's does not begin with sensor: or staff:).", "Un identifiant compte 1 à 64 caractères parmi A-Z a-z 0-9 . _ : - (celui d'un patient ne commence pas par sensor: ou staff:).";
    /// The record names someone else than the topic.
    OtherThanTopic = Inconsistent, "The record and the topic name different ones.", "L'enregistrement et le sujet MQTT en nomment deux différents.";
    /// Quality outside 0-100.
    BadQuality = Inconsistent, "Quality is a whole number from 0 to 100.", "La qualité est un nombre entier de 0 à 100.";
    /// A sequence or epoch that is no whole number.
    BadCount = Inconsistent, "This is a whole number, 0 or greater.", "C'est un nombre entier, 0 ou plus.";
    /// Neither true nor false.
    BadFlag = Inconsistent, "This is true or false.", "C'est true ou false.";
    /// No text, or too long.
    BadText = Inconsistent, "This is a text of at most {} characters.", "C'est un texte d'au plus {} caractères.";
    /// Systolic, mean and diastolic in the wrong order.
    PressureOrder = Inconsistent, "Systolic must be above mean, and mean above diastolic.", "La systolique doit dépasser la moyenne, et la moyenne la diastolique.";
    /// A waveform without samples, or samples that are no array of numbers.
    BadSamples = NotANumber, "Samples are a list of finite numbers.", "Les échantillons sont une liste de nombres finis.";
    /// A waveform's rate is no sensible frequency.
    BadRate = Implausible, "The rate is above 0 and at most 100000 samples per second.", "La cadence est supérieure à 0 et d'au plus 100000 échantillons par seconde.";
    /// Value and value-as-sent disagree.
    SentDiffers = Inconsistent, "The value and the value as sent disagree.", "La valeur et la valeur telle qu'envoyée se contredisent.";
    /// The record is larger than a record may be.
    RecordTooLarge = TooLarge, "A record is at most {} bytes.", "Un enregistrement compte au plus {} octets.";
    /// The message holds more records than it may.
    TooMany = TooLarge, "A message holds at most {} records.", "Un message contient au plus {} enregistrements.";
    /// Objects within objects, further than allowed.
    TooDeep = TooLarge, "A record is nested at most {} deep.", "Un enregistrement est imbriqué sur au plus {} niveaux.";
    /// More samples than allowed.
    TooManySamples = TooLarge, "A waveform holds at most {} samples.", "Un tracé contient au plus {} échantillons.";
    /// An MQTT topic that devices do not write to.
    UnknownTopic = Inconsistent, "Nothing is taken on the topic {}.", "Rien n'est reçu sur le sujet {}.";
    /// Admission is by registration, and the sensor is not registered.
    UnknownSensor = UnknownSensor, "This sensor is not registered.", "Ce capteur n'est pas enregistré.";
    /// The sensor was somebody else's, or nobody's, when it measured this.
    OtherPatients = NotThisPatientsSensor, "This sensor was not this patient's when it measured this: what it sent is kept until somebody says whose it is.", "Ce capteur n'était pas à ce patient au moment de la mesure : l'envoi est gardé jusqu'à ce que quelqu'un dise à qui il appartient.";
    /// The sender may not write for this sensor or patient.
    NotYours = Unauthorised, "This token may not write for this sensor and patient.", "Ce jeton ne permet pas d'écrire pour ce capteur et ce patient.";
}

/// A refusal on its way to its envelope: boxed, because nearly every record is good.
pub(crate) type Refused = Box<Refusal>;

impl Fault {
    /// The refusal of a field.
    pub(crate) fn of(self, field: &str) -> Refused {
        self.about(field, "")
    }

    /// The refusal of a field, with the particular that the sentence names.
    pub(crate) fn about(self, field: &str, what: impl std::fmt::Display) -> Refused {
        let mut refusal = self.whole(what);
        refusal.field = Some(SmolStr::new(field));
        refusal
    }

    /// The refusal of a record or message as a whole.
    pub(crate) fn whole(self, what: impl std::fmt::Display) -> Refused {
        let what: String = what.to_string().chars().take(64).collect();
        let (en, fr) = self.sentences();
        Box::new(Refusal {
            code: self.code(),
            field: None,
            detail: fill(en, &what),
            detail_fr: fill(fr, &what),
        })
    }
}

fn fill(sentence: &'static str, what: &str) -> SmolStr {
    if sentence.contains("{}") {
        SmolStr::from(sentence.replacen("{}", what, 1))
    } else {
        SmolStr::new_static(sentence)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_has_a_whole_sentence_in_both_languages_with_the_same_particulars() {
        for fault in Fault::ALL {
            let (en, fr) = fault.sentences();
            assert!(en.ends_with('.') && fr.ends_with('.') && en != fr, "{fault:?}");
            assert_eq!(en.matches("{}").count(), fr.matches("{}").count(), "{fault:?}");
        }
    }

    #[test]
    fn a_particular_that_is_a_novel_is_cut_short() {
        let refusal = Fault::UnknownMetric.about("type", "x".repeat(100_000));
        assert!(refusal.detail.len() < 128);
        assert_eq!(refusal.field.as_deref(), Some("type"));
    }
}
