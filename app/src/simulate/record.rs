//! Records as devices send them, in the shape of the contract.

use schemas::time::Timestamp;
use serde::Serialize;
use smol_str::SmolStr;

/// What a sensor says.
#[derive(Debug, Clone, PartialEq)]
pub enum Body {
    /// One value.
    Measured(Measured),
    /// One blood pressure, three values, mm[Hg].
    BloodPressure {
        /// Systolic.
        systolic: f64,
        /// Diastolic.
        diastolic: f64,
        /// Mean.
        mean: f64,
    },
    /// An alarm of the device itself, by its code.
    Alarm(&'static str),
}

/// One value of one metric.
#[derive(Debug, Clone, PartialEq)]
pub struct Measured {
    /// The metric's name: from a recording it may be one that nobody knows.
    pub metric: SmolStr,
    /// The value.
    pub value: f64,
    /// Its unit.
    pub unit: Option<SmolStr>,
    /// 0–100.
    pub quality: Option<u8>,
    /// Whether the sensor sits on the patient.
    pub contact: Option<bool>,
}

/// A record on its way to a door.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// The patient's id.
    pub patient: SmolStr,
    /// The sensor's id.
    pub sensor: SmolStr,
    /// When it was measured.
    pub at: Timestamp,
    /// The device's count.
    pub seq: Option<i64>,
    /// Which life of the device.
    pub epoch: Option<i64>,
    /// What it says.
    pub body: Body,
}

/// The JSON of a record; ids only where the door does not know them otherwise.
#[derive(Debug, Default, Serialize)]
struct Wire<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    patient_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sensor_id: Option<&'a str>,
    r#type: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unit: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    systolic: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    diastolic: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mean: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    quality: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    contact: Option<bool>,
    at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    seq: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    epoch: Option<i64>,
}

impl Record {
    /// How many readings it makes (an alarm counts as one).
    #[must_use]
    pub const fn readings(&self) -> usize {
        match self.body {
            Body::BloodPressure { .. } => 3,
            _ => 1,
        }
    }

    fn wire(&self, with_ids: bool) -> Wire<'_> {
        let mut wire = Wire {
            patient_id: with_ids.then_some(self.patient.as_str()),
            sensor_id: with_ids.then_some(self.sensor.as_str()),
            at: self.at,
            seq: self.seq,
            epoch: self.epoch,
            ..Wire::default()
        };
        match &self.body {
            Body::Measured(m) => {
                wire.r#type = &m.metric;
                wire.value = Some(m.value);
                wire.unit = m.unit.as_deref();
                wire.quality = m.quality;
                wire.contact = m.contact;
            }
            Body::BloodPressure {
                systolic,
                diastolic,
                mean,
            } => {
                wire.r#type = "blood_pressure";
                (wire.systolic, wire.diastolic, wire.mean) = (Some(*systolic), Some(*diastolic), Some(*mean));
                wire.unit = Some("mm[Hg]");
            }
            Body::Alarm(code) => {
                wire.r#type = "alarm";
                wire.code = Some(code);
            }
        }
        wire
    }
}

/// The body of `POST /v1/readings`.
#[must_use]
pub fn for_http(records: &[Record]) -> Vec<u8> {
    #[derive(Serialize)]
    struct Readings<'a> {
        readings: Vec<Wire<'a>>,
    }
    let readings = records.iter().map(|r| r.wire(true)).collect();
    serde_json::to_vec(&Readings { readings }).unwrap_or_default()
}

/// An MQTT payload: one object, or an array of them. All records are of one sensor.
#[must_use]
pub fn for_mqtt(records: &[Record]) -> Vec<u8> {
    match records {
        [one] => serde_json::to_vec(&one.wire(false)),
        many => serde_json::to_vec(&many.iter().map(|r| r.wire(false)).collect::<Vec<_>>()),
    }
    .unwrap_or_default()
}

/// The MQTT topic of a sensor's data.
#[must_use]
pub fn topic(record: &Record) -> String {
    format!("fajma/patient/{}/sensor/{}/data", record.patient, record.sensor)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(body: Body) -> Record {
        Record {
            patient: "p1".into(),
            sensor: "s1".into(),
            at: Timestamp::from_millis(1_767_600_000_000),
            seq: Some(4),
            epoch: None,
            body,
        }
    }

    #[test]
    fn records_have_the_shape_of_the_contract() {
        let heart = record(Body::Measured(Measured {
            metric: "heart_rate".into(),
            value: 72.0,
            unit: Some("/min".into()),
            quality: Some(97),
            contact: Some(true),
        }));
        let alone = String::from_utf8(for_mqtt(std::slice::from_ref(&heart))).unwrap();
        assert_eq!(
            alone,
            r#"{"type":"heart_rate","value":72.0,"unit":"/min","quality":97,"contact":true,"at":"2026-01-05T08:00:00.000Z","seq":4}"#
        );
        let alarm = record(Body::Alarm("asystole"));
        let both = String::from_utf8(for_http(&[heart.clone(), alarm])).unwrap();
        assert!(both.starts_with(r#"{"readings":[{"patient_id":"p1","sensor_id":"s1","type":"heart_rate""#));
        assert!(both.contains(r#""type":"alarm","code":"asystole""#));
        assert_eq!(topic(&heart), "fajma/patient/p1/sensor/s1/data");
    }

    #[test]
    fn a_blood_pressure_is_three_readings_in_one_record() {
        let pressure = record(Body::BloodPressure {
            systolic: 128.0,
            diastolic: 82.0,
            mean: 97.0,
        });
        assert_eq!(pressure.readings(), 3);
        let text = String::from_utf8(for_mqtt(&[pressure])).unwrap();
        assert!(
            text.contains(r#""type":"blood_pressure","unit":"mm[Hg]","systolic":128.0"#),
            "{text}"
        );
    }
}
