//! SenML (RFC 8428): base fields are carried on, names resolved to patient, sensor and metric, relative times to ours.
//!
//! A name is `[patient/]sensor/metric`, also as `patient/{p}/sensor/{s}/metric`, or `sensor:metric` (`urn:dev:…`), or
//! the metric alone where the topic names the rest. The name `alarm` with a text value is a device's alarm. Base fields
//! of a record that cannot be read are not known, so what follows it is refused too: better than a wrong patient.

use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;
use schemas::metric::Metric;
use schemas::time::{Span, Timestamp};
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};

use super::any::Any;
use super::json::{Raw, bounded, diagnose, start};
use super::{Bench, Checked, cbor, scan};
use crate::refusal::{Fault, Refused};

/// Times below this many seconds are relative to now (RFC 8428 §4.5.3).
const ABSOLUTE: f64 = 268_435_456.0;
/// The end of the year 9999, in seconds.
const LAST: f64 = 253_402_300_800.0;

/// Whether unlabelled bytes are SenML in JSON: a list whose first record has SenML's names and no `type`.
pub(super) fn looks_like(bytes: &[u8]) -> bool {
    let at = start(bytes);
    let first = scan::skip_space(bytes, at + 1);
    if bytes.get(at) != Some(&b'[') || bytes.get(first) != Some(&b'{') {
        return false;
    }
    let has = |name: &str| matches!(scan::entry(bytes, first, name.as_bytes()), Ok((Some(_), _)));
    !has("type") && ["bn", "n", "bt", "bver", "bu"].into_iter().any(has)
}

/// Judges SenML in JSON.
pub(super) fn json(bytes: &Bytes, bench: &mut Bench<'_>) -> Checked<()> {
    let at = start(bytes);
    if bytes.get(at) != Some(&b'[') {
        return Err(Fault::NotJson.whole("SenML is a list of records"));
    }
    let mut pack = Pack::default();
    let limit = bench.rules.bounds.records;
    let end = scan::elements(bytes, at, |span| {
        if pack.index as usize >= limit {
            return Err(Fault::TooMany.whole(limit));
        }
        let text = &bytes[span.range.clone()];
        let record = bounded(text, span.depth, bench)
            .and_then(|()| serde_json::from_slice::<Record<'_>>(text).map_err(|error| diagnose(text, &error)));
        pack.take(record, bench, || bytes.slice(span.range));
        Ok(())
    })?;
    if scan::skip_space(bytes, end) == bytes.len() {
        Ok(())
    } else {
        Err(Fault::NotJson.whole("something follows after the end"))
    }
}

/// Judges SenML in CBOR.
pub(super) fn cbor(bytes: &Bytes, bench: &mut Bench<'_>) -> Checked<()> {
    let mut pack = Pack::default();
    let bounds = bench.rules.bounds;
    cbor::elements(bytes, bounds, |record, range| {
        if pack.index as usize >= bounds.records {
            return Err(Fault::TooMany.whole(bounds.records));
        }
        pack.take(record, bench, || bytes.slice(range));
        Ok(())
    })
}

/// One record as it came.
#[derive(Debug, Default)]
pub(super) struct Record<'a> {
    base_name: Any<'a>,
    base_time: Any<'a>,
    base_unit: Any<'a>,
    base_value: Any<'a>,
    version: Any<'a>,
    name: Any<'a>,
    unit: Any<'a>,
    value: Any<'a>,
    text: Any<'a>,
    flag: Any<'a>,
    data: Any<'a>,
    sum: Any<'a>,
    time: Any<'a>,
    twice: Option<&'static str>,
    /// A name that must be understood or refused, and is not understood.
    unknown: Option<String>,
}

impl<'a> Record<'a> {
    /// Enters a field by its JSON name; unknown ones are passed over unless they end in `_`.
    pub(super) fn set(&mut self, name: &str, any: Any<'a>) {
        let (slot, name) = match name {
            "bn" => (&mut self.base_name, "bn"),
            "bt" => (&mut self.base_time, "bt"),
            "bu" => (&mut self.base_unit, "bu"),
            "bv" => (&mut self.base_value, "bv"),
            "bver" => (&mut self.version, "bver"),
            "n" => (&mut self.name, "n"),
            "u" => (&mut self.unit, "u"),
            "v" => (&mut self.value, "v"),
            "vs" => (&mut self.text, "vs"),
            "vb" => (&mut self.flag, "vb"),
            "vd" => (&mut self.data, "vd"),
            "s" => (&mut self.sum, "s"),
            "t" => (&mut self.time, "t"),
            other => {
                if other.ends_with('_') {
                    self.unknown = Some(other.to_owned());
                }
                return;
            }
        };
        if *slot != Any::Absent {
            self.twice = Some(name);
        }
        *slot = any;
    }

    fn is_base_only(&self) -> bool {
        [&self.name, &self.value, &self.text, &self.flag, &self.data, &self.sum]
            .iter()
            .all(|a| **a == Any::Absent)
    }
}

impl<'de> Deserialize<'de> for Record<'de> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Fields;
        impl<'de> Visitor<'de> for Fields {
            type Value = Record<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Record<'de>, A::Error> {
                let mut record = Record::default();
                while let Some((name, any)) = entries.next_entry::<Any<'de>, Any<'de>>()? {
                    record.set(name.text().unwrap_or_default(), any);
                }
                Ok(record)
            }
        }
        from.deserialize_map(Fields)
    }
}

/// What is carried from record to record.
#[derive(Debug, Default)]
struct Pack {
    index: i32,
    name: String,
    time: f64,
    unit: Option<String>,
    value: Option<f64>,
    /// Why nothing that follows can be resolved.
    broken: Option<Refused>,
}

impl Pack {
    fn take(&mut self, record: Checked<Record<'_>>, bench: &mut Bench<'_>, bytes: impl FnOnce() -> Bytes) {
        let index = bench.context.first_index.saturating_add(self.index);
        self.index += 1;
        let resolved = record.and_then(|record| {
            self.carry(&record)?;
            if record.is_base_only() {
                Ok(None)
            } else {
                self.resolve(&record, bench.context.came_at()).map(Some)
            }
        });
        match (resolved, &self.broken) {
            (Ok(None), None) => {}
            (Ok(Some(raw)), None) => bench.judge(&raw, index, bytes),
            (Ok(_), Some(broken)) => bench.refuse(index, bytes(), (None, None), (**broken).clone()),
            (Err(refused), _) => bench.refuse(index, bytes(), (None, None), *refused),
        }
    }

    /// Takes base fields on. Where one cannot be read, nothing after it can be resolved.
    fn carry(&mut self, record: &Record<'_>) -> Checked<()> {
        self.carried(record)
            .inspect_err(|refused| self.broken = Some(refused.clone()))
    }

    fn carried(&mut self, record: &Record<'_>) -> Checked<()> {
        if let Some(name) = &record.unknown {
            return Err(Fault::MustUnderstand.about(name, name));
        }
        if let Some(field) = record.twice {
            return Err(Fault::Twice.of(field));
        }
        match &record.version {
            Any::Absent | Any::Int(0..=10) => {}
            _ => return Err(Fault::MustUnderstand.about("bver", "a version above 10")),
        }
        match &record.base_name {
            Any::Absent => {}
            Any::Text(name) => self.name = name.clone().into_owned(),
            _ => return Err(Fault::BadText.about("bn", 64)),
        }
        match &record.base_unit {
            Any::Absent => {}
            Any::Text(unit) => self.unit = Some(unit.clone().into_owned()),
            _ => return Err(Fault::UnknownUnit.about("bu", "that")),
        }
        if record.base_time != Any::Absent {
            self.time = seconds("bt", &record.base_time)?;
        }
        if record.base_value != Any::Absent {
            self.value = Some(super::circumstances::number("bv", &record.base_value)?);
        }
        Ok(())
    }

    fn resolve<'a>(&self, record: &Record<'a>, came_at: Timestamp) -> Checked<Raw<'a>> {
        let name = match &record.name {
            Any::Absent => self.name.clone(),
            Any::Text(name) => format!("{}{name}", self.name),
            _ => return Err(Fault::BadText.about("n", 64)),
        };
        let (patient, sensor, metric) = place(&name);
        let owned = |text: Option<&str>| text.map_or(Any::Absent, |t| Any::Text(Cow::Owned(t.to_owned())));
        let mut raw = Raw {
            patient_id: owned(patient),
            sensor_id: owned(sensor),
            kind: owned(Some(metric)),
            unit: match &record.unit {
                Any::Absent => owned(self.unit.as_deref()),
                named => named.clone(),
            },
            ..Raw::default()
        };
        if metric == "alarm" {
            raw.code = record.text.clone();
        } else {
            raw.value = self.value_of(record);
        }
        let time = self.time
            + if record.time == Any::Absent {
                0.0
            } else {
                seconds("t", &record.time)?
            };
        if time.abs() >= ABSOLUTE {
            raw.at = Any::Moment(Timestamp((time * 1e6).round() as i64));
        } else {
            raw.before_arrival = Some(came_at + Span((time * 1e6).round() as i64));
        }
        Ok(raw)
    }

    fn value_of<'a>(&self, record: &Record<'a>) -> Any<'a> {
        let base = self.value.unwrap_or(0.0);
        match &record.value {
            Any::Absent => match (&record.flag, &record.text, &record.data, self.value) {
                (Any::Bool(flag), ..) => Any::Bool(*flag),
                (Any::Absent, Any::Absent, Any::Absent, Some(base)) if record.sum == Any::Absent => Any::Num(base),
                (Any::Absent, Any::Absent, Any::Absent, _) => Any::Absent,
                _ => Any::Nested,
            },
            Any::Int(n) => Any::Num(*n as f64 + base),
            Any::Num(n) => Any::Num(n + base),
            other => other.clone(),
        }
    }
}

fn seconds(field: &str, any: &Any<'_>) -> Checked<f64> {
    match any {
        Any::Int(n) if (*n as f64).abs() < LAST => Ok(*n as f64),
        Any::Num(n) if n.abs() < LAST => Ok(*n),
        _ => Err(Fault::TimeUnreadable.of(field)),
    }
}

/// Patient, sensor and metric of a name.
fn place(name: &str) -> (Option<&str>, Option<&str>, &str) {
    let mut parts: Vec<&str> = name.split('/').filter(|part| !part.is_empty()).collect();
    let last = parts.pop().unwrap_or_default();
    match parts.as_slice() {
        [] if Metric::parse(last).is_none() => match last.rsplit_once(':') {
            Some((sensor, metric)) => (None, Some(sensor), metric),
            None => (None, None, last),
        },
        [] => (None, None, last),
        [.., "patient", patient, "sensor", sensor] => (Some(*patient), Some(*sensor), last),
        [.., "sensor", sensor] | [sensor] => (None, Some(*sensor), last),
        [.., patient, sensor] => (Some(*patient), Some(*sensor), last),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_whose_reading_it_is() {
        for (name, expected) in [
            ("heart_rate", (None, None, "heart_rate")),
            ("s1/heart_rate", (None, Some("s1"), "heart_rate")),
            ("p1/s1/spo2", (Some("p1"), Some("s1"), "spo2")),
            ("fajma/patient/p1/sensor/s1/spo2", (Some("p1"), Some("s1"), "spo2")),
            (
                "urn:dev:ow:10e2073a:heart_rate",
                (None, Some("urn:dev:ow:10e2073a"), "heart_rate"),
            ),
            ("", (None, None, "")),
        ] {
            assert_eq!(place(name), expected, "{name}");
        }
    }
}
