//! What reading and writing one reading costs: our codec, and `apache-avro` through its `Value`.
//!
//! `cargo run --release -p schemas --example codec_speed` prints nanoseconds per reading, the best of five rounds.

use std::hint::black_box;

use apache_avro::Schema;
use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::writer::datum::GenericDatumWriter;
use schemas::codec::{self, Catalogue};
use schemas::facts::{Door, Reading};
use schemas::ids::{EventId, Key, PatientId, SensorId};
use schemas::journal::{ClockQuality, Envelope, Fact};
use schemas::metric::Metric;
use schemas::time::Timestamp;

const ROUNDS: usize = 5;
const READINGS: usize = 200_000;

fn sample() -> Result<Envelope, Box<dyn std::error::Error>> {
    Ok(Envelope {
        id: EventId::of("example", &[b"1"]),
        key: Key::Patient(PatientId::new("icu-10006")?),
        measured_at: Timestamp::parse("2026-11-23T08:00:00.123Z")?,
        gateway_at: None,
        received_at: Timestamp::parse("2026-11-23T08:00:00.456Z")?,
        clock: ClockQuality::Device,
        cause: None,
        fact: Fact::Reading(Reading {
            sensor_id: SensorId::new("oximeter-10006-1")?,
            metric: Metric::HeartRate,
            value: 72.0,
            sent: None,
            quality: Some(97),
            contact: Some(true),
            seq: Some(1_041),
            epoch: Some(3),
            samples: None,
            marks: Vec::new(),
            door: Door::Mqtt,
        }),
    })
}

/// Nanoseconds per call, the best of some rounds.
#[expect(clippy::disallowed_methods, reason = "a measurement reads a clock")]
fn measure(what: &str, mut call: impl FnMut()) {
    let mut best = f64::INFINITY;
    for _ in 0..ROUNDS {
        let start = std::time::Instant::now();
        for _ in 0..READINGS {
            call();
        }
        best = best.min(start.elapsed().as_nanos() as f64 / READINGS as f64);
    }
    println!("{what:<32} {best:>8.0} ns");
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let envelope = sample()?;
    let catalogue = Catalogue::builtin();
    let mut bytes = Vec::new();
    codec::encode(&envelope, &mut bytes);
    println!("{} bytes", bytes.len());

    let mut out = Vec::with_capacity(bytes.len());
    measure("ours, write", || {
        out.clear();
        codec::encode(black_box(&envelope), &mut out);
    });
    measure("ours, read", || {
        black_box(codec::decode(black_box(&bytes), &catalogue).is_ok());
    });

    let schema = Schema::parse_str(codec::newest("Reading").map_or("", |kind| kind.text))?;
    let reader = GenericDatumReader::builder(&schema).build()?;
    let writer = GenericDatumWriter::builder(&schema).build()?;
    let value = reader.read_value(&mut &bytes[5..])?;
    measure("apache-avro Value, write", || {
        out.clear();
        black_box(writer.write_value_ref(&mut out, black_box(&value)).is_ok());
    });
    measure("apache-avro Value, read", || {
        black_box(reader.read_value(&mut black_box(&bytes[5..])).is_ok());
    });

    // Another version: a field of another name, so that the record must be resolved.
    let older = serde_json::from_str::<serde_json::Value>(codec::newest("Reading").map_or("", |kind| kind.text))?;
    let older = older.to_string().replacen(r#""name":"epoch""#, r#""name":"era""#, 1);
    let catalogue = Catalogue::builtin();
    catalogue.learn(4_711, &older)?;
    bytes[1..5].copy_from_slice(&4_711_u32.to_be_bytes());
    measure("another version, read", || {
        black_box(codec::decode(black_box(&bytes), &catalogue).is_ok());
    });
    Ok(())
}
