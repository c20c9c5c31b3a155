//! Names of things: who and what a fact is about, and which fact it is.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

/// Why a string is no id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// Not 1–64 characters of `A–Z a–z 0–9 . _ : -`.
    #[error("an id is 1 to 64 characters of A-Z a-z 0-9 . _ : -")]
    Malformed,
    /// A patient's id begins with `sensor:` or `staff:`, which the journal keeps for other subjects.
    #[error("an id of a patient may not begin with sensor: or staff:")]
    Reserved,
}

fn check(text: &str) -> Result<(), IdError> {
    let fits = (1..=64).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b':' | b'-'));
    if fits { Ok(()) } else { Err(IdError::Malformed) }
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident $(, $extra:expr)?) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "SmolStr", into = "SmolStr")]
        pub struct $type(SmolStr);

        impl $type {
            /// Takes a name given by whoever registered it.
            ///
            /// # Errors
            /// [`IdError`] where the text is no id.
            pub fn new(text: &str) -> Result<Self, IdError> {
                check(text)?;
                $( let extra: fn(&str) -> Result<(), IdError> = $extra; extra(text)?; )?
                Ok(Self(SmolStr::new(text)))
            }

            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<SmolStr> for $type {
            type Error = IdError;
            fn try_from(text: SmolStr) -> Result<Self, IdError> {
                Self::new(&text)
            }
        }

        impl From<$type> for SmolStr {
            fn from(id: $type) -> SmolStr {
                id.0
            }
        }

        impl FromStr for $type {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                Self::new(text)
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0)
            }
        }
    };
}

name!(
    /// A patient. Never begins with `sensor:` or `staff:`.
    PatientId,
    |text| if text.starts_with("sensor:") || text.starts_with("staff:") { Err(IdError::Reserved) } else { Ok(()) }
);
name!(
    /// A sensor.
    SensorId
);
name!(
    /// A practitioner or an administrator.
    StaffId
);
name!(
    /// A consultation.
    ConsultationId
);

/// Whom a fact is about. It chooses the partition; order is kept per key.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum Key {
    /// A patient: written as the bare id.
    Patient(PatientId),
    /// A sensor without a patient, or the registry of sensors: written `sensor:<id>`.
    Sensor(SensorId),
    /// A member of staff: written `staff:<id>`.
    Staff(StaffId),
    /// Nobody in particular (ticks, policy): written empty; the partition is named by the writer.
    Nobody,
}

impl Key {
    /// The key as it stands in the log.
    #[must_use]
    pub fn text(&self) -> SmolStr {
        match self {
            Self::Patient(id) => id.0.clone(),
            Self::Sensor(id) => smol_str::format_smolstr!("sensor:{id}"),
            Self::Staff(id) => smol_str::format_smolstr!("staff:{id}"),
            Self::Nobody => SmolStr::default(),
        }
    }

    /// Reads a key from the log.
    ///
    /// # Errors
    /// [`IdError`] where the text is no key.
    pub fn parse(text: &str) -> Result<Self, IdError> {
        if text.is_empty() {
            Ok(Self::Nobody)
        } else if let Some(id) = text.strip_prefix("sensor:") {
            SensorId::new(id).map(Self::Sensor)
        } else if let Some(id) = text.strip_prefix("staff:") {
            StaffId::new(id).map(Self::Staff)
        } else {
            PatientId::new(text).map(Self::Patient)
        }
    }

    /// The patient, where the key is one.
    #[must_use]
    pub const fn patient(&self) -> Option<&PatientId> {
        match self {
            Self::Patient(id) => Some(id),
            _ => None,
        }
    }
}

/// Which fact this is: 128 bits of a BLAKE3 hash of its content, written as a version 8 UUID.
///
/// Equal content is the same fact, twice sent; different content is never the same fact.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventId(pub [u8; 16]);

/// An alert's episode: the same form as an [`EventId`].
pub type AlertId = EventId;

impl EventId {
    /// The id of `parts`, each of which is framed by its length so that no two lists collide.
    #[must_use]
    pub fn of(domain: &str, parts: &[&[u8]]) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(domain.as_bytes());
        for part in parts {
            hasher.update(&(part.len() as u32).to_be_bytes());
            hasher.update(part);
        }
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
        bytes[6] = (bytes[6] & 0x0f) | 0x80;
        bytes[8] = (bytes[8] & 0x3f) | 0x80;
        Self(bytes)
    }

    /// Four of its bytes, for memory that must stay small.
    #[must_use]
    pub const fn fingerprint(&self) -> u32 {
        u32::from_be_bytes([self.0[0], self.0[1], self.0[2], self.0[3]])
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, byte) in self.0.iter().enumerate() {
            if matches!(i, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for EventId {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        let mut bytes = [0; 16];
        let mut digits = text.bytes().filter(|b| *b != b'-').map(|b| (b as char).to_digit(16));
        for byte in &mut bytes {
            let (Some(Some(high)), Some(Some(low))) = (digits.next(), digits.next()) else {
                return Err(IdError::Malformed);
            };
            *byte = (high * 16 + low) as u8;
        }
        if digits.next().is_some() {
            Err(IdError::Malformed)
        } else {
            Ok(Self(bytes))
        }
    }
}

impl Serialize for EventId {
    fn serialize<S: serde::Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        if out.is_human_readable() {
            out.collect_str(self)
        } else {
            self.0.serialize(out)
        }
    }
}

impl<'de> Deserialize<'de> for EventId {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        if from.is_human_readable() {
            let text = <std::borrow::Cow<'de, str>>::deserialize(from)?;
            text.parse().map_err(serde::de::Error::custom)
        } else {
            <[u8; 16]>::deserialize(from).map(Self)
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_id_is_of_the_agreed_characters_and_length() {
        for good in ["p", "icu-10006", "A.b_c:d-9", &"x".repeat(64)] {
            assert!(PatientId::new(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "a b",
            "a/b",
            "é",
            "a\0b",
            "+",
            "#",
            &"x".repeat(65),
            "sensor:1",
            "staff:x",
        ] {
            assert!(PatientId::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_key_reads_back_as_it_was_written() {
        for text in ["", "p1", "sensor:s1", "staff:dr-b"] {
            assert_eq!(Key::parse(text).map(|k| k.text()).as_deref(), Ok(text));
        }
    }

    #[test]
    fn an_event_id_is_a_uuid_that_depends_on_every_part_and_its_boundaries() {
        let id = EventId::of("t", &[b"ab", b"c"]);
        assert_ne!(id, EventId::of("t", &[b"a", b"bc"]));
        assert_ne!(id, EventId::of("u", &[b"ab", b"c"]));
        let text = id.to_string();
        assert_eq!((text.len(), &text[14..15]), (36, "8"));
        assert_eq!(text.parse(), Ok(id));
        assert!("zz".parse::<EventId>().is_err());
    }

    proptest! {
        #[test]
        fn an_event_id_reads_back_as_it_was_written(bytes in any::<[u8; 16]>()) {
            let id = EventId(bytes);
            prop_assert_eq!(id.to_string().parse(), Ok(id));
            let json = serde_json::to_string(&id).unwrap();
            prop_assert_eq!(serde_json::from_str::<EventId>(&json).unwrap(), id);
        }

        #[test]
        fn every_text_is_one_key_or_none(text in "(sensor:|staff:)?.{0,66}") {
            if let Ok(key) = Key::parse(&text) {
                prop_assert_eq!(key.text(), text);
            }
        }

        #[test]
        fn no_text_makes_an_id_panic(text in ".*") {
            let _ = text.parse::<EventId>();
            let fits = text.len() <= 64 && !text.is_empty()
                && text.chars().all(|c| c.is_ascii_alphanumeric() || "._:-".contains(c));
            prop_assert_eq!(SensorId::new(&text).is_ok(), fits);
        }
    }
}
