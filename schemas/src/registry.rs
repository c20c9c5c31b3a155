//! Registrations as people write them: JSON whose every field is checked.
//!
//! An absent field, `null` and an empty text are the same: nothing is registered. Lengths of time are in seconds. An
//! unknown field is refused: a mistyped name must not pass for nothing.

mod given;

use serde_json::{Map, Value, json};
use smol_str::SmolStr;

use given::Given;

use crate::avro::symbols;
use crate::facts::{
    Patient, PatientRecorded, Practitioner, PractitionerRecorded, Protocol, Sensor, SensorRecorded, Sex, Zone,
};
use crate::ids::{IdError, Key, PatientId, SensorId, StaffId};
use crate::journal::Fact;
use crate::json::Invalid;
use crate::time::{Span, Timestamp};

/// The longest rhythm a sensor may be registered with, in seconds: a month.
const SELDOM: f64 = 31.0 * 86_400.0;

symbols! {
    /// What is registered.
    pub enum Register {
        /// Patients.
        Patients = "patients",
        /// Practitioners.
        Practitioners = "practitioners",
        /// Sensors.
        Sensors = "sensors",
    }
}

impl Register {
    /// The key under which the journal has an id of this register.
    ///
    /// # Errors
    /// [`IdError`] where the text is no id.
    pub fn key(self, id: &str) -> Result<Key, IdError> {
        match self {
            Self::Patients => PatientId::new(id).map(Key::Patient),
            Self::Practitioners => StaffId::new(id).map(Key::Staff),
            Self::Sensors => SensorId::new(id).map(Key::Sensor),
        }
    }

    /// The register to which a key belongs, and the id in it.
    #[must_use]
    pub fn of(key: &Key) -> Option<(Self, SmolStr)> {
        match key {
            Key::Patient(id) => Some((Self::Patients, id.clone().into())),
            Key::Staff(id) => Some((Self::Practitioners, id.clone().into())),
            Key::Sensor(id) => Some((Self::Sensors, id.clone().into())),
            Key::Nobody => None,
        }
    }

    /// The fields of a registration, without its id.
    #[must_use]
    pub const fn fields(self) -> &'static [&'static str] {
        match self {
            Self::Patients => &["name", "birth_date", "sex", "conditions", "zone", "care_team"],
            Self::Practitioners => &["name", "profession", "speciality", "organisation", "zone"],
            Self::Sensors => &[
                "kind",
                "mac_address",
                "protocol_type",
                "expected_every",
                "firmware_version",
                "place",
                "location_lat",
                "location_lng",
                "zone",
            ],
        }
    }
}

/// All that is registered of one patient, practitioner or sensor.
#[derive(Debug, Clone, PartialEq)]
pub enum Record {
    /// A patient.
    Patient(Patient),
    /// A practitioner.
    Practitioner(Practitioner),
    /// A sensor.
    Sensor(Sensor),
}

/// A registration as one fact left it.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// 1, 2, …
    pub revision: i32,
    /// It has ended.
    pub ended: bool,
    /// Who registered it.
    pub by: SmolStr,
    /// What is registered.
    pub record: Record,
}

impl Entry {
    /// The registration in a fact; `None` where it is about something else.
    #[must_use]
    pub fn of(fact: &Fact) -> Option<Self> {
        let (revision, ended, by, record) = match fact {
            Fact::PatientRecorded(it) => (it.revision, it.ended, &it.by, Record::Patient(it.patient.clone())),
            Fact::PractitionerRecorded(it) => {
                let record = Record::Practitioner(it.practitioner.clone());
                (it.revision, it.ended, &it.by, record)
            }
            Fact::SensorRecorded(it) => (it.revision, it.ended, &it.by, Record::Sensor(it.sensor.clone())),
            _ => return None,
        };
        Some(Self {
            revision,
            ended,
            by: by.clone(),
            record,
        })
    }
}

impl Record {
    /// Reads a registration; `now` bounds what cannot lie in the future.
    ///
    /// # Errors
    /// [`Invalid`] naming the field at fault.
    pub fn from_json(register: Register, fields: &Map<String, Value>, now: Timestamp) -> Result<Self, Invalid> {
        if let Some(unknown) = fields.keys().find(|k| !register.fields().contains(&k.as_str())) {
            return Err(Invalid::new(
                unknown.as_str(),
                "no such field here",
                "ce champ n’existe pas ici",
            ));
        }
        let given = Given { fields };
        let zone = || given.word("zone", |text| Zone::parse(&text.replace('-', "_")), Zone::ALL);
        Ok(match register {
            Register::Patients => Self::Patient(Patient {
                name: given.text("name")?,
                birth_date: given.date("birth_date", now)?,
                sex: given.word("sex", Sex::parse, Sex::ALL)?,
                conditions: given.list("conditions", |text| Ok::<_, IdError>(SmolStr::new(text)))?,
                zone: zone()?,
                care_team: given.team()?.0,
                care_terms: given.team()?.1,
            }),
            Register::Practitioners => Self::Practitioner(Practitioner {
                name: given.text("name")?,
                profession: given.text("profession")?,
                speciality: given.text("speciality")?,
                organisation: given.text("organisation")?,
                zone: zone()?,
            }),
            Register::Sensors => Self::Sensor(Sensor {
                kind: given.text("kind")?,
                mac_address: given.mac("mac_address")?,
                protocol_type: given.word("protocol_type", Protocol::parse, Protocol::ALL)?,
                expected_every: given
                    .number("expected_every", 1.0, SELDOM)?
                    .map(|seconds| Span((seconds * 1e6).round() as i64)),
                firmware_version: given.text("firmware_version")?,
                place: given.text("place")?,
                location_lat: given.number("location_lat", -90.0, 90.0)?,
                location_lng: given.number("location_lng", -180.0, 180.0)?,
                zone: zone()?,
            }),
        })
    }

    /// The same as JSON, every field there.
    #[must_use]
    pub fn to_json(&self) -> Map<String, Value> {
        let value = match self {
            Self::Patient(it) => {
                let mut value = json!(it);
                value["care_team"] = json!(care_team(it));
                if let Some(fields) = value.as_object_mut() {
                    fields.remove("care_terms");
                }
                value
            }
            Self::Practitioner(it) => json!(it),
            Self::Sensor(it) => {
                let mut value = json!(it);
                value["expected_every"] = json!(it.expected_every.map(Span::as_seconds));
                value
            }
        };
        // A struct is an object.
        if let Value::Object(fields) = value {
            fields
        } else {
            Map::new()
        }
    }

    /// What people call it.
    #[must_use]
    pub const fn name(&self) -> Option<&SmolStr> {
        match self {
            Self::Patient(it) => it.name.as_ref(),
            Self::Practitioner(it) => it.name.as_ref(),
            Self::Sensor(_) => None,
        }
    }

    /// A sensor's hardware address.
    #[must_use]
    pub const fn mac_address(&self) -> Option<&SmolStr> {
        match self {
            Self::Sensor(it) => it.mac_address.as_ref(),
            _ => None,
        }
    }

    /// The fact that it is registered like this from here on.
    #[must_use]
    pub fn recorded(self, revision: i32, ended: bool, by: SmolStr) -> Fact {
        match self {
            Self::Patient(patient) => Fact::PatientRecorded(PatientRecorded {
                revision,
                ended,
                patient,
                by,
            }),
            Self::Practitioner(practitioner) => Fact::PractitionerRecorded(PractitionerRecorded {
                revision,
                ended,
                practitioner,
                by,
            }),
            Self::Sensor(sensor) => Fact::SensorRecorded(SensorRecorded {
                revision,
                ended,
                sensor,
                by,
            }),
        }
    }
}

/// A care team: ids of who cares always, and `{"id","from","until"}` of who does for a time.
#[must_use]
pub fn care_team(patient: &Patient) -> Vec<Value> {
    let always = patient.care_team.iter().map(|id| json!(id));
    let terms = patient.care_terms.iter().map(|term| {
        let mut member = json!({ "id": term.staff_id });
        for (field, at) in [("from", term.from), ("until", term.until)] {
            if let Some(at) = at {
                member[field] = json!(at);
            }
        }
        member
    });
    always.chain(terms).collect()
}

/// A hardware address in the form in which it is registered: `AA:BB:CC:DD:EE:FF`, or eight bytes (LoRaWAN).
#[must_use]
pub fn mac(text: &str) -> Option<SmolStr> {
    let digits: Vec<char> = text
        .chars()
        .filter(|c| !matches!(c, ':' | '-' | '.' | ' '))
        .map(|c| c.to_ascii_uppercase())
        .collect();
    if !matches!(digits.len(), 12 | 16) || !digits.iter().all(char::is_ascii_hexdigit) {
        return None;
    }
    let pairs: Vec<String> = digits.chunks(2).map(|pair| pair.iter().collect()).collect();
    Some(SmolStr::from(pairs.join(":")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_795_000_000_000_000);

    fn read(register: Register, value: Value) -> Result<Record, String> {
        let Value::Object(fields) = value else {
            panic!("an object")
        };
        Record::from_json(register, &fields, NOW).map_err(|invalid| invalid.field)
    }

    #[test]
    fn what_is_registered_reads_back_as_it_was_written() {
        for (register, value) in [
            (
                Register::Patients,
                json!({"name": "Awa Diop", "birth_date": "1957-03-02", "sex": "female", "conditions": ["I10", "asthma"],
                       "zone": "rural", "care_team": ["dr.b"]}),
            ),
            (
                Register::Patients,
                json!({"name": null, "birth_date": null, "sex": null, "conditions": [], "zone": null, "care_team": ["dr.b",
                       {"id": "dr.c", "from": "2026-01-05T00:00:00.000Z", "until": "2026-02-05T00:00:00.000Z"},
                       {"id": "dr.c", "from": "2026-03-05T00:00:00.000Z"}]}),
            ),
            (
                Register::Practitioners,
                json!({"name": "Binta Fall", "profession": "doctor", "speciality": "cardiology",
                       "organisation": "Hôpital de Thiès", "zone": "urban"}),
            ),
            (
                Register::Sensors,
                json!({"kind": "ecg", "mac_address": "0A:1B:2C:3D:4E:5F", "protocol_type": "NB-IoT",
                       "expected_every": 30.0, "firmware_version": "1.2.0", "place": "ward 3", "location_lat": 14.7,
                       "location_lng": -17.4, "zone": "semi_urban"}),
            ),
        ] {
            let record = read(register, value.clone()).unwrap();
            assert_eq!(Value::Object(record.to_json()), value);
            assert_eq!(record.to_json().len(), register.fields().len());
        }
    }

    #[test]
    fn nothing_given_is_nothing_registered() {
        for register in Register::ALL {
            let nothing = read(*register, json!({})).unwrap();
            let nulls = Value::Object(nothing.to_json());
            assert_eq!(read(*register, nulls).unwrap(), nothing);
        }
        let empty = read(Register::Patients, json!({"name": "  ", "sex": ""})).unwrap();
        assert_eq!(empty, Record::Patient(Patient::default()));
    }

    #[test]
    fn every_mistake_is_named_by_its_field() {
        use Register as R;
        for (register, field, value) in [
            (R::Patients, "nmae", json!("x")),
            (R::Patients, "name", json!(7)),
            (R::Patients, "name", json!("x".repeat(201))),
            (R::Patients, "name", json!("a\u{7}b")),
            (R::Patients, "birth_date", json!("02/03/1957")),
            (R::Patients, "birth_date", json!("1957-02-30")),
            (R::Patients, "birth_date", json!("2126-01-01")),
            (R::Patients, "birth_date", json!("1757-01-01")),
            (R::Patients, "sex", json!("F")),
            (R::Patients, "zone", json!("town")),
            (R::Patients, "conditions", json!("asthma")),
            (R::Patients, "care_team", json!(["dr b"])),
            (R::Patients, "care_team", json!([""])),
            (R::Patients, "care_team", json!([{"id": "dr b"}])),
            (R::Patients, "care_team", json!([{"id": "dr.b", "from": "soon"}])),
            (
                R::Patients,
                "care_team",
                json!([{"id": "dr.b", "from": "2026-02-01", "until": "2026-01-01"}]),
            ),
            (R::Patients, "care_team", json!([{"id": "dr.b", "to": "2026-01-01"}])),
            (R::Patients, "care_team", json!([7, {"id": "dr.b"}])),
            (R::Sensors, "mac_address", json!("0A:1B")),
            (R::Sensors, "mac_address", json!("0A:1B:2C:3D:4E:5G")),
            (R::Sensors, "protocol_type", json!("ZigBee")),
            (R::Sensors, "expected_every", json!(0)),
            (R::Sensors, "expected_every", json!("30")),
            (R::Sensors, "location_lat", json!(91)),
        ] {
            let mut fields = Map::new();
            fields.insert(field.to_owned(), value.clone());
            assert_eq!(read(register, Value::Object(fields)), Err(field.to_owned()), "{value}");
        }
    }

    #[test]
    fn an_address_has_one_form() {
        for text in ["0a1b2c3d4e5f", "0A-1B-2C-3D-4E-5F", "0a1b.2c3d.4e5f"] {
            assert_eq!(mac(text).as_deref(), Some("0A:1B:2C:3D:4E:5F"));
        }
        assert_eq!(mac("0011223344556677").as_deref(), Some("00:11:22:33:44:55:66:77"));
        for bad in ["", "0A:1B:2C:3D:4E", "0A:1B:2C:3D:4E:5F:6", "é"] {
            assert_eq!(mac(bad), None, "{bad}");
        }
    }
}
