//! Who is who: registrations of patients, practitioners and sensors, each fact whole.

use smol_str::SmolStr;

use crate::avro::{record, symbols};
use crate::ids::{PatientId, StaffId};
use crate::time::{Span, Timestamp};

symbols! {
    /// Administrative sex.
    pub enum Sex {
        /// Female.
        Female = "female",
        /// Male.
        Male = "male",
        /// Neither.
        Other = "other",
        /// Not known.
        Unknown = "unknown",
    }
}

symbols! {
    /// Where somebody lives or something stands, by what its network is like.
    pub enum Zone {
        /// A town.
        Urban = "urban",
        /// Around a town.
        SemiUrban = "semi_urban",
        /// The country.
        Rural = "rural",
    }
}

symbols! {
    /// How a sensor reaches us.
    pub enum Protocol {
        /// HTTPS.
        Https = "HTTPS",
        /// MQTT.
        Mqtt = "MQTT",
        /// LoRaWAN, through a network server.
        LoRaWan = "LoRaWAN",
        /// Bluetooth Low Energy, through a phone or gateway.
        Ble = "BLE",
        /// NB-IoT.
        NbIot = "NB-IoT",
    }
}

record! {
    /// A practitioner who cares for a patient from one moment to another.
    pub struct CareTerm {
        /// The practitioner.
        pub staff_id: StaffId,
        /// From when on; `None` for always.
        pub from: Option<Timestamp>,
        /// Until when; `None` for ever.
        pub until: Option<Timestamp>,
    }
}

record! {
    /// A patient as registered.
    #[derive(Default)]
    pub struct Patient {
        /// Name.
        pub name: Option<SmolStr>,
        /// Date of birth, `YYYY-MM-DD`.
        pub birth_date: Option<SmolStr>,
        /// Administrative sex.
        pub sex: Option<Sex>,
        /// Conditions, as the registrar names them.
        pub conditions: Vec<SmolStr>,
        /// Where they live.
        pub zone: Option<Zone>,
        /// The practitioners who care for them.
        pub care_team: Vec<StaffId>,
        /// The practitioners who care for them for a time.
        pub care_terms: Vec<CareTerm>,
    }
}

record! {
    /// A practitioner as registered.
    #[derive(Default)]
    pub struct Practitioner {
        /// Name.
        pub name: Option<SmolStr>,
        /// What they are, like doctor or nurse.
        pub profession: Option<SmolStr>,
        /// Speciality.
        pub speciality: Option<SmolStr>,
        /// Where they work.
        pub organisation: Option<SmolStr>,
        /// The zone in which they work.
        pub zone: Option<Zone>,
    }
}

record! {
    /// A sensor as registered.
    #[derive(Default)]
    pub struct Sensor {
        /// What it is, like ecg or oximeter.
        pub kind: Option<SmolStr>,
        /// Hardware address, 6 or 8 bytes as `AA:BB:…`; no two registered sensors have the same.
        pub mac_address: Option<SmolStr>,
        /// How it reaches us.
        pub protocol_type: Option<Protocol>,
        /// How often it is expected to be heard.
        pub expected_every: Option<Span>,
        /// Firmware version when it was registered.
        pub firmware_version: Option<SmolStr>,
        /// Where it is kept.
        pub place: Option<SmolStr>,
        /// Latitude, degrees.
        pub location_lat: Option<f64>,
        /// Longitude, degrees.
        pub location_lng: Option<f64>,
        /// Where it stands.
        pub zone: Option<Zone>,
    }
}

record! {
    /// A patient was registered, changed or ended: the whole registration as of this revision.
    pub struct PatientRecorded {
        /// 1 for the first registration; each change counts one up.
        pub revision: i32,
        /// The registration has ended; what was recorded stays.
        pub ended: bool,
        /// All that is registered.
        pub patient: Patient,
        /// Who registered it.
        pub by: SmolStr,
    }
}

record! {
    /// A practitioner was registered, changed or ended: the whole registration as of this revision.
    pub struct PractitionerRecorded {
        /// 1 for the first registration; each change counts one up.
        pub revision: i32,
        /// The registration has ended; what was recorded stays.
        pub ended: bool,
        /// All that is registered.
        pub practitioner: Practitioner,
        /// Who registered it.
        pub by: SmolStr,
    }
}

record! {
    /// A sensor was registered, changed or ended: the whole registration as of this revision.
    pub struct SensorRecorded {
        /// 1 for the first registration; each change counts one up.
        pub revision: i32,
        /// The registration has ended; what was recorded stays.
        pub ended: bool,
        /// All that is registered.
        pub sensor: Sensor,
        /// Who registered it.
        pub by: SmolStr,
    }
}

record! {
    /// Somebody took back what was given: one token, or all that somebody was given so far.
    pub struct TokensRevoked {
        /// The id (`jti`) of the token, and of the sessions begun with it.
        pub token: Option<SmolStr>,
        /// Whose tokens: all that were issued up to when it happened.
        pub subject: Option<SmolStr>,
        /// Who took it back.
        pub by: SmolStr,
    }
}

record! {
    /// Somebody said that this registration and another are of one person, or that they are not.
    pub struct PatientMerged {
        /// The registration that stands for the person; `None` where this one does.
        pub into: Option<PatientId>,
        /// The registration that stood for them until now.
        pub before: Option<PatientId>,
        /// Who said so.
        pub by: SmolStr,
    }
}
