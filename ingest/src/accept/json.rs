//! Our own JSON: one object, an array, or `{"readings":[…]}`.

use std::fmt;

use bytes::Bytes;
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};

use super::any::{Any, Samples};
use super::scan::{self, Broken, Span};
use super::{Bench, Checked};
use crate::refusal::{Fault, Refused};

impl From<Broken> for Refused {
    fn from(broken: Broken) -> Self {
        Fault::NotJson.whole(broken.0)
    }
}

/// Judges a message, record by record.
pub(super) fn message(bytes: &Bytes, bench: &mut Bench<'_>) -> Checked<()> {
    let start = start(bytes);
    let end = match bytes.get(start) {
        Some(b'[') => records(bytes, start, bench)?,
        Some(b'{') => match scan::entry(bytes, start, b"readings")? {
            (Some(list), end) if bytes[list.range.start] == b'[' => {
                records(bytes, list.range.start, bench)?;
                end
            }
            (_, end) => {
                let whole = scan::value(bytes, start)?;
                record(bytes, whole, bench.context.first_index, bench);
                end
            }
        },
        Some(_) => return Err(Fault::NotJson.whole("it begins with neither { nor [")),
        None => return Err(Fault::Empty.whole("")),
    };
    if scan::skip_space(bytes, end) == bytes.len() {
        Ok(())
    } else {
        Err(Fault::NotJson.whole("something follows after the end"))
    }
}

/// Where the text begins, after a byte order mark and white space.
pub(super) fn start(bytes: &[u8]) -> usize {
    scan::skip_space(bytes, if bytes.starts_with(b"\xef\xbb\xbf") { 3 } else { 0 })
}

fn records(bytes: &Bytes, at: usize, bench: &mut Bench<'_>) -> Checked<usize> {
    let limit = bench.rules.bounds.records;
    let mut n = 0;
    scan::elements(bytes, at, |span| {
        if n == limit {
            return Err(Fault::TooMany.whole(limit));
        }
        record(bytes, span, bench.context.first_index.saturating_add(n as i32), bench);
        n += 1;
        Ok(())
    })
}

fn record(bytes: &Bytes, span: Span, index: i32, bench: &mut Bench<'_>) {
    let text = &bytes[span.range.clone()];
    let read = bounded(text, span.depth, bench).and_then(|()| Raw::read(text));
    match read {
        Ok(raw) => bench.judge(&raw, index, || bytes.slice(span.range)),
        Err(refused) => bench.refuse(index, bytes.slice(span.range), (None, None), *refused),
    }
}

/// Refuses what is too large before it is read.
pub(super) fn bounded(text: &[u8], depth: usize, bench: &Bench<'_>) -> Checked<()> {
    let bounds = &bench.rules.bounds;
    if text.len() > bounds.record_bytes {
        Err(Fault::RecordTooLarge.whole(bounds.record_bytes))
    } else if depth > bounds.depth {
        Err(Fault::TooDeep.whole(bounds.depth))
    } else if text.first() != Some(&b'{') {
        Err(Fault::NotAnObject.whole(""))
    } else {
        Ok(())
    }
}

macro_rules! raw {
    ($($field:ident = $name:literal),* $(,)?) => {
        /// A record as it came, whatever the format.
        #[derive(Debug, Default, PartialEq)]
        pub(super) struct Raw<'a> {
            $(pub(super) $field: Any<'a>,)*
            pub(super) samples: Samples,
            /// When it was measured, by our clock: from a device that says how long ago, not when.
            pub(super) before_arrival: Option<schemas::time::Timestamp>,
            /// A field that was there twice.
            pub(super) twice: Option<&'static str>,
        }

        #[derive(Clone, Copy, PartialEq)]
        #[allow(non_camel_case_types)]
        enum Field { $($field,)* samples, other }

        impl<'de> Visitor<'de> for FieldVisitor {
            type Value = Field;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name")
            }
            fn visit_str<E>(self, name: &str) -> Result<Field, E> {
                Ok(match name { $($name => Field::$field,)* "samples" => Field::samples, _ => Field::other })
            }
        }

        impl<'de> Visitor<'de> for RawVisitor {
            type Value = Raw<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Raw<'de>, A::Error> {
                let mut raw = Raw::default();
                while let Some(field) = entries.next_key::<Field>()? {
                    match field {
                        $(Field::$field => {
                            if raw.$field != Any::Absent {
                                raw.twice = Some($name);
                            }
                            raw.$field = entries.next_value()?;
                        })*
                        Field::samples => raw.samples = entries.next_value()?,
                        Field::other => { entries.next_value::<IgnoredAny>()?; }
                    }
                }
                Ok(raw)
            }
        }
    };
}

raw! {
    patient_id = "patient_id", sensor_id = "sensor_id", kind = "type", value = "value", unit = "unit", at = "at",
    quality = "quality", contact = "contact", seq = "seq", epoch = "epoch",
    systolic = "systolic", diastolic = "diastolic", mean = "mean", code = "code", rate = "rate",
    state = "state", battery = "battery", firmware = "firmware", rssi = "rssi", lat = "lat", lng = "lng",
    command_id = "command_id", result = "result",
}

struct FieldVisitor;
struct RawVisitor;

impl<'de> Deserialize<'de> for Field {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_identifier(FieldVisitor)
    }
}

impl<'de> Deserialize<'de> for Raw<'de> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_map(RawVisitor)
    }
}

impl<'a> Raw<'a> {
    fn read(text: &'a [u8]) -> Checked<Self> {
        serde_json::from_slice(text).map_err(|error| diagnose(text, &error))
    }
}

/// Why a record is no JSON: most often a number that JSON cannot write.
pub(super) fn diagnose(text: &[u8], error: &serde_json::Error) -> Refused {
    for field in [
        "value",
        "v",
        "systolic",
        "diastolic",
        "mean",
        "samples",
        "rate",
        "quality",
        "battery",
        "rssi",
        "lat",
        "lng",
    ] {
        let Ok((Some(span), _)) = scan::entry(text, 0, field.as_bytes()) else {
            continue;
        };
        let token = &text[span.range];
        let bare = token
            .first()
            .is_some_and(|b| matches!(b, b'N' | b'n' | b'I' | b'i' | b'-' | b'+' | b'.' | b'0'..=b'9'));
        if bare && serde_json::from_slice::<f64>(token).is_err() && token != b"null" {
            return Fault::NotANumber.of(field);
        }
        if field == "samples" && serde_json::from_slice::<IgnoredAny>(token).is_err() {
            return Fault::BadSamples.of(field);
        }
    }
    Fault::NotJson.whole(error)
}
