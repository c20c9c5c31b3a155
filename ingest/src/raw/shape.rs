//! How others write what they heard into a topic of Kafka: where the MQTT topic stands, if anywhere.

use bytes::Bytes;
use eventlog::raw::RawRecord;
use serde::Deserialize;
use smol_str::SmolStr;

use crate::mqtt::topic;
use crate::parcel::Place;

/// Where a record's MQTT topic stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TopicFrom {
    /// In its key: a text, a JSON text, or a JSON object with a field `topic` (what Kafka Connect's converters make of it).
    Key,
    /// In its header of this name.
    Header(SmolStr),
    /// Nowhere: its value names patient and sensor, as records of the REST Proxy do.
    Value,
}

impl TopicFrom {
    /// Reads `key`, `value` or `header:NAME`.
    ///
    /// # Errors
    /// How it is written.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            None if text == "key" => Ok(Self::Key),
            None if text == "value" => Ok(Self::Value),
            Some(("header", name)) if !name.trim().is_empty() => Ok(Self::Header(SmolStr::new(name.trim()))),
            _ => Err(format!(
                "{text:?} is not where an MQTT topic stands: write key, header:NAME or value"
            )),
        }
    }

    /// What a record is about. `prefix` is what stands before the names of our topics there.
    pub(super) fn place(&self, record: &RawRecord, prefix: &str) -> Place {
        let found = match self {
            Self::Value => return Place::Unsaid,
            Self::Key => record.key.as_ref(),
            Self::Header(name) => record.header(name),
        };
        match found.and_then(text) {
            Some(topic) => topic::place(&topic, prefix).unwrap_or(Place::Nowhere(topic)),
            None => Place::Nowhere(found.map_or_else(String::new, |bytes| String::from_utf8_lossy(bytes).into_owned())),
        }
    }
}

/// A topic as one converter or another wrote it: as it is, in quotes, as a field of an object, or as that within the
/// envelope of a converter that writes schemas.
fn text(bytes: &Bytes) -> Option<String> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Written {
        Text(String),
        Field { topic: String },
        Enveloped { payload: Box<Self> },
    }
    fn said(written: Written) -> String {
        match written {
            Written::Text(topic) | Written::Field { topic } => topic,
            Written::Enveloped { payload } => said(*payload),
        }
    }
    match bytes.first()? {
        b'"' | b'{' => serde_json::from_slice(bytes).ok().map(said),
        _ => String::from_utf8(bytes.to_vec()).ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::accept::Kind;

    const TOPIC: &str = "fajma/patient/p1/sensor/s1/data";

    fn record(key: Option<&str>, header: Option<&str>) -> RawRecord {
        RawRecord {
            offset: 0,
            at: None,
            key: key.map(|key| Bytes::copy_from_slice(key.as_bytes())),
            value: None,
            headers: header
                .map(|value| ("mqtt.topic".into(), Bytes::copy_from_slice(value.as_bytes())))
                .into_iter()
                .collect(),
        }
    }

    fn sensor(place: Place) -> Option<(String, String, Kind)> {
        match place {
            Place::Sensor { patient, sensor, kind } => Some((patient.to_string(), sensor.to_string(), kind)),
            _ => None,
        }
    }

    #[test]
    fn the_mqtt_topic_is_read_however_a_converter_wrote_it() {
        let expected = Some(("p1".to_owned(), "s1".to_owned(), Kind::Data));
        for key in [
            TOPIC.to_owned(),
            format!("{TOPIC:?}"),
            format!(r#"{{"topic":"{TOPIC}","id":7}}"#),
            format!(r#"{{"schema":{{"type":"string"}},"payload":"{TOPIC}"}}"#),
            format!(r#"{{"schema":{{}},"payload":{{"topic":"{TOPIC}","id":"7"}}}}"#),
        ] {
            assert_eq!(
                sensor(TopicFrom::Key.place(&record(Some(&key), None), "")),
                expected,
                "{key}"
            );
        }
        let header = TopicFrom::parse("header:mqtt.topic").unwrap();
        let status = TOPIC.replace("data", "status");
        let found = sensor(header.place(&record(None, Some(&status)), ""));
        assert_eq!(found.map(|f| f.2), Some(Kind::Status));
        let prefixed = format!("ward7/{TOPIC}");
        assert_eq!(sensor(header.place(&record(None, Some(&prefixed)), "ward7/")), expected);
    }

    #[test]
    fn a_record_without_a_topic_of_ours_is_nowhere_and_says_where_it_was() {
        for (key, said) in [
            (None, ""),
            (Some(""), ""),
            (Some("{\"topic\":7}"), "{\"topic\":7}"),
            (Some("home/kitchen"), "home/kitchen"),
            (
                Some("fajma/patient/p 1/sensor/s1/data"),
                "fajma/patient/p 1/sensor/s1/data",
            ),
        ] {
            let place = TopicFrom::Key.place(&record(key, None), "");
            assert_eq!(place, Place::Nowhere(said.to_owned()), "{key:?}");
        }
        let unprefixed = TopicFrom::Key.place(&record(Some(TOPIC), None), "ward7/");
        assert_eq!(unprefixed, Place::Nowhere(TOPIC.to_owned()));
        assert_eq!(TopicFrom::Value.place(&record(Some(TOPIC), None), ""), Place::Unsaid);
    }

    #[test]
    fn where_a_topic_stands_is_one_of_three() {
        assert_eq!(TopicFrom::parse("key"), Ok(TopicFrom::Key));
        assert_eq!(TopicFrom::parse("value"), Ok(TopicFrom::Value));
        for bad in ["", "keys", "header:", "header", "topic:x"] {
            assert!(TopicFrom::parse(bad).is_err(), "{bad}");
        }
    }
}
