//! The patients and what their monitors say: each reading has its own measured time and sequence, all values are normal.

use schemas::time::Timestamp;

/// Metrics of a monitor: name, unit, lowest value, how many values there are from there on in steps of one (of a tenth
/// where `tenths`).
struct Vital {
    name: &'static str,
    unit: &'static str,
    lowest: u64,
    values: u64,
    tenths: bool,
}

const VITALS: [Vital; 5] = [
    Vital {
        name: "heart_rate",
        unit: "/min",
        lowest: 62,
        values: 24,
        tenths: false,
    },
    Vital {
        name: "spo2",
        unit: "%",
        lowest: 96,
        values: 4,
        tenths: false,
    },
    Vital {
        name: "respiratory_rate",
        unit: "/min",
        lowest: 13,
        values: 6,
        tenths: false,
    },
    Vital {
        name: "systolic",
        unit: "mm[Hg]",
        lowest: 112,
        values: 16,
        tenths: false,
    },
    Vital {
        name: "body_temperature",
        unit: "Cel",
        lowest: 365,
        values: 10,
        tenths: true,
    },
];

/// Metrics per patient.
pub const METRICS: u64 = VITALS.len() as u64;

/// The patients. Reading `n` belongs to series `n % (patients × 5)`: everyone speaks in turn.
#[derive(Debug, Clone, Copy)]
pub struct World {
    /// How many patients.
    pub patients: u64,
}

impl World {
    /// How many series there are.
    #[must_use]
    pub const fn series(&self) -> u64 {
        self.patients * METRICS
    }

    /// The MQTT topic of reading `n`.
    pub fn topic(&self, n: u64, out: &mut Vec<u8>) {
        let patient = n % self.series() / METRICS;
        out.extend_from_slice(b"fajma/patient/p-");
        digits(patient, 6, out);
        out.extend_from_slice(b"/sensor/m-");
        digits(patient, 6, out);
        out.extend_from_slice(b"/data");
    }

    /// Reading `n` as JSON, measured at a moment; with the ids of patient and sensor where no topic says them.
    pub fn reading(&self, n: u64, at: &mut Stamp, named: bool, out: &mut Vec<u8>) {
        let series = n % self.series();
        let (patient, round) = (series / METRICS, n / self.series());
        let vital = &VITALS[(series % METRICS) as usize];
        out.push(b'{');
        if named {
            out.extend_from_slice(br#""patient_id":"p-"#);
            digits(patient, 6, out);
            out.extend_from_slice(br#"","sensor_id":"m-"#);
            digits(patient, 6, out);
            out.extend_from_slice(br#"","#);
        }
        out.extend_from_slice(br#""type":""#);
        out.extend_from_slice(vital.name.as_bytes());
        out.extend_from_slice(br#"","value":"#);
        let value = vital.lowest + (series * 7 + round) % vital.values;
        if vital.tenths {
            number(value / 10, out);
            out.extend_from_slice(&[b'.', b'0' + (value % 10) as u8]);
        } else {
            number(value, out);
        }
        out.extend_from_slice(br#","unit":""#);
        out.extend_from_slice(vital.unit.as_bytes());
        out.extend_from_slice(br#"","at":""#);
        out.extend_from_slice(at.text());
        out.extend_from_slice(br#"","quality":97,"seq":"#);
        number(round, out);
        out.push(b'}');
    }

    /// `{"readings":[…]}` of readings `from..to`.
    pub fn batch(&self, from: u64, to: u64, at: &mut Stamp, out: &mut Vec<u8>) {
        out.extend_from_slice(br#"{"readings":["#);
        for n in from..to {
            if n > from {
                out.push(b',');
            }
            self.reading(n, at, true, out);
        }
        out.extend_from_slice(b"]}");
    }
}

/// A moment as RFC 3339 with milliseconds; writing the next one of the same second costs three digits.
#[derive(Debug, Default)]
pub struct Stamp {
    second: i64,
    text: Vec<u8>,
}

impl Stamp {
    /// Goes to a moment.
    pub fn set(&mut self, at: Timestamp) -> &mut Self {
        let millis = at.0.div_euclid(1000);
        if self.text.is_empty() || millis.div_euclid(1000) != self.second {
            self.second = millis.div_euclid(1000);
            self.text = Timestamp::from_millis(millis).to_string().into_bytes();
        } else {
            let below = millis.rem_euclid(1000) as u64;
            let from = self.text.len() - 4;
            self.text.truncate(from);
            digits(below, 3, &mut self.text);
            self.text.push(b'Z');
        }
        self
    }

    fn text(&self) -> &[u8] {
        &self.text
    }
}

/// A number with leading zeros.
fn digits(n: u64, width: u32, out: &mut Vec<u8>) {
    for place in (0..width).rev() {
        out.push(b'0' + (n / 10_u64.pow(place) % 10) as u8);
    }
}

/// A number without.
pub fn number(n: u64, out: &mut Vec<u8>) {
    digits(n, n.checked_ilog10().unwrap_or(0) + 1, out);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamped(at: i64) -> Stamp {
        let mut stamp = Stamp::default();
        stamp.set(Timestamp(at));
        stamp
    }

    #[test]
    fn every_reading_is_json_that_says_what_it_should() {
        let world = World { patients: 3 };
        let mut at = stamped(1_767_600_000_123_000);
        let mut bytes = Vec::new();
        world.batch(0, 100, &mut at, &mut bytes);
        let body: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        let readings = body["readings"].as_array().unwrap();
        assert_eq!(readings.len(), 100);
        assert_eq!(readings[16]["patient_id"], "p-000000");
        assert_eq!(
            (&readings[16]["type"], &readings[16]["seq"]),
            (&"spo2".into(), &1.into())
        );
        assert_eq!(readings[4]["value"], 37.3);
        assert_eq!(readings[4]["at"], "2026-01-05T08:00:00.123Z");
        let mut topic = Vec::new();
        world.topic(16, &mut topic);
        assert_eq!(topic, b"fajma/patient/p-000000/sensor/m-000000/data");
    }

    #[test]
    fn a_stamp_set_again_is_the_moments_own_text() {
        let mut stamp = Stamp::default();
        for at in [
            1_767_600_000_123_456,
            1_767_600_000_999_000,
            1_767_600_001_000_000,
            1_767_600_000_007_000,
        ] {
            let expected = Timestamp::from_millis(at / 1000).to_string();
            assert_eq!(stamp.set(Timestamp(at)).text(), expected.as_bytes());
        }
    }

    #[test]
    fn numbers_are_written_without_leading_zeros() {
        for n in [0, 7, 10, 99, 100, 1_234_567] {
            let mut out = Vec::new();
            number(n, &mut out);
            assert_eq!(out, n.to_string().into_bytes());
        }
    }
}
