//! Values of any schema, made from a tape of numbers; and any record of ours as JSON.

use std::collections::HashMap;

use apache_avro::Schema;
use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::schema::Name;
use apache_avro::types::Value;
use apache_avro::writer::datum::GenericDatumWriter;
use schemas::codec::{self, Catalogue, DecodeError, KINDS, Kind};
use schemas::derived::Outcome;
use schemas::ids::EventId;
use schemas::journal::Fact;
use schemas::known::SchemaRecorded;
use schemas::metric::Metric;
use schemas::refused::{Cutover, Rejection, Skip};
use schemas::time::Timestamp;
use serde_json::{Map, Value as Json, json};

/// Numbers that decide what a value is; zeros when they run out.
pub(crate) struct Tape<'a>(pub(crate) &'a [u64]);

impl Tape<'_> {
    fn next(&mut self) -> u64 {
        let (head, rest) = self.0.split_first().unwrap_or((&0, &[]));
        self.0 = rest;
        *head
    }
}

/// A tape without pattern that is the same every time (splitmix64).
pub(crate) fn scrambled(seed: u64) -> Vec<u64> {
    let mix = |n: u64| {
        let n = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        n ^ (n >> 31)
    };
    (1..200)
        .map(|n| mix((seed + n).wrapping_mul(0x9e37_79b9_7f4a_7c15)))
        .collect()
}

pub(crate) fn parse(kind: &Kind) -> Schema {
    Schema::parse_str(kind.text).unwrap_or_else(|e| panic!("{}: {e}", kind.name))
}

/// A value of `schema` that is a record of ours: ids are ids, metrics metrics, small numbers small.
pub(crate) fn value(schema: &Schema, tape: &mut Tape<'_>) -> Value {
    build(schema, "", tape, &mut HashMap::new())
}

fn build(schema: &Schema, field: &str, tape: &mut Tape<'_>, names: &mut HashMap<Name, Schema>) -> Value {
    match schema {
        Schema::Null => Value::Null,
        Schema::Boolean => Value::Boolean(tape.next() & 1 == 1),
        Schema::Int => Value::Int(int(field, tape.next())),
        Schema::Long => Value::Long(long(tape.next())),
        Schema::TimestampMicros => Value::TimestampMicros(moment(tape.next())),
        Schema::Float => Value::Float(double(tape.next()) as f32),
        Schema::Double => Value::Double(double(tape.next())),
        Schema::Bytes => Value::Bytes(tape.next().to_be_bytes()[..(tape.next() % 9) as usize].to_vec()),
        Schema::String => Value::String(text(field, tape.next())),
        Schema::Array(inner) => {
            let n = tape.next() % 4;
            Value::Array((0..n).map(|_| build(&inner.items, field, tape, names)).collect())
        }
        Schema::Union(union) => {
            let branch = (tape.next() & 1) as u32;
            let inner = &union.variants()[branch as usize];
            Value::Union(branch, Box::new(build(inner, field, tape, names)))
        }
        Schema::Enum(inner) => {
            let index = (tape.next() % inner.symbols.len() as u64) as usize;
            names.insert(inner.name.clone(), schema.clone());
            Value::Enum(index as u32, inner.symbols[index].clone())
        }
        Schema::Fixed(inner) => {
            names.insert(inner.name.clone(), schema.clone());
            let n = tape.next().to_be_bytes();
            Value::Fixed(inner.size, n.iter().cycle().take(inner.size).copied().collect())
        }
        Schema::Record(inner) => {
            names.insert(inner.name.clone(), schema.clone());
            let fields = inner.fields.iter();
            Value::Record(
                fields
                    .map(|f| (f.name.clone(), build(&f.schema, &f.name, tape, names)))
                    .collect(),
            )
        }
        Schema::Ref { name } => {
            let known = names
                .get(name)
                .cloned()
                .unwrap_or_else(|| panic!("{name} is not known"));
            build(&known, field, tape, names)
        }
        other => panic!("no schema of ours has {other:?}"),
    }
}

fn int(field: &str, n: u64) -> i32 {
    match field {
        "quality" => i32::from(n as u8),
        "version" | "partition" => i32::from(n as u16),
        _ => (n as i32) >> (n % 31),
    }
}

fn long(n: u64) -> i64 {
    (n as i64) >> (n % 63)
}

/// Mostly of the years that people write, so that the JSON form tells two apart.
fn moment(n: u64) -> i64 {
    if n % 8 == 7 {
        long(n)
    } else {
        (n % 4_000_000_000_000_000) as i64
    }
}

fn double(n: u64) -> f64 {
    if n % 5 == 2 {
        f64::from_bits(n)
    } else {
        f64::from(n as i32) / 8.0
    }
}

fn text(field: &str, n: u64) -> String {
    match field {
        "metric" => Metric::ALL[n as usize % Metric::ALL.len()].to_string(),
        "key" | "patient_id" => ["p", "", "sensor:s-1", "staff:dr.b"][n as usize % 4].to_owned(),
        "patient" | "staff_id" | "into" | "before" | "after" | "sensor_id" | "care_team" | "consultation_id"
        | "practitioner_id" => {
            format!("s{n}")
        }
        _ => [
            "",
            "x",
            "mg/dL",
            "Pression artérielle élevée, à contrôler tout de suite",
        ][n as usize % 4]
            .to_owned(),
    }
}

pub(crate) fn write(schema: &Schema, value: &Value) -> Vec<u8> {
    let writer = GenericDatumWriter::builder(schema)
        .build()
        .expect("a schema that resolves");
    writer.write_value_to_vec(value.clone()).expect("a value of the schema")
}

pub(crate) fn read(schema: &Schema, mut bytes: &[u8]) -> Value {
    let reader = GenericDatumReader::builder(schema)
        .build()
        .expect("a schema that resolves");
    let value = reader.read_value(&mut bytes).expect("bytes of the schema");
    assert!(bytes.is_empty(), "bytes are left over");
    value
}

pub(crate) fn framed(id: u32, body: &[u8]) -> Vec<u8> {
    [&[0], &id.to_be_bytes()[..], body].concat()
}

/// What apache-avro read, as the JSON of our own forms.
pub(crate) fn json_of_value(value: &Value) -> Json {
    match value {
        Value::Null => Json::Null,
        Value::Boolean(b) => json!(b),
        Value::Int(n) => json!(n),
        Value::Long(n) => json!(n),
        Value::TimestampMicros(n) => json!(Timestamp(*n)),
        Value::Float(n) => json!(n),
        Value::Double(n) => json!(n),
        Value::Bytes(bytes) => json!(bytes),
        Value::String(text) => json!(text),
        Value::Fixed(_, bytes) => json!(EventId(bytes.as_slice().try_into().expect("16 bytes"))),
        Value::Enum(_, symbol) => match symbol.as_str() {
            // The one text with a hyphen, which is no letter of an Avro name.
            "NB_IoT" => json!("NB-IoT"),
            symbol => json!(symbol.strip_prefix('_').unwrap_or(symbol)),
        },
        Value::Union(_, inner) => json_of_value(inner),
        Value::Array(items) => items.iter().map(json_of_value).collect(),
        Value::Record(fields) => {
            let fields = fields.iter().map(|(name, value)| (name.clone(), json_of_value(value)));
            Json::Object(fields.collect())
        }
        other => panic!("no schema of ours has {other:?}"),
    }
}

/// A record of any kind, as our codec reads it: its JSON, header and body side by side, and its bytes written anew.
pub(crate) fn through_ours(bytes: &[u8], catalogue: &Catalogue) -> Result<(Json, Vec<u8>), DecodeError> {
    let mut again = Vec::new();
    match codec::decode(bytes, catalogue) {
        Ok(envelope) => {
            codec::encode(&envelope, &mut again);
            let id = codec::unframe(&again)?.0;
            assert!(KINDS.iter().any(|k| k.id == id && k.name == envelope.fact.name()));
            let header = json!({
                "id": envelope.id, "key": envelope.key.text(), "measured_at": envelope.measured_at,
                "gateway_at": envelope.gateway_at, "received_at": envelope.received_at, "clock": envelope.clock,
                "cause": envelope.cause,
            });
            return Ok((joined(header, fact(&envelope.fact)), again));
        }
        Err(DecodeError::Malformed { .. }) => {}
        Err(error) => return Err(error),
    }
    if let Ok(Some(derived)) = codec::decode_derived(bytes, catalogue) {
        codec::encode_derived(&derived, &mut again);
        let header = json!({
            "id": derived.id, "patient_id": derived.key.text(), "origin": derived.origin,
            "recorded_at": derived.recorded_at,
        });
        let body = match &derived.outcome {
            Outcome::Window(body) => json!(body),
            Outcome::Alert(body) => json!(body),
            Outcome::Device(body) => json!(body),
            Outcome::Consultation(body) => json!(body),
            Outcome::Assignment(body) => json!(body),
        };
        return Ok((joined(header, body), again));
    }
    if let Ok(Some(rejection)) = codec::decode_plain::<Rejection>(bytes, catalogue) {
        codec::encode_plain(&rejection, &mut again);
        return Ok((json!(rejection), again));
    }
    if let Ok(Some(skip)) = codec::decode_plain::<Skip>(bytes, catalogue) {
        codec::encode_plain(&skip, &mut again);
        return Ok((json!(skip), again));
    }
    if let Ok(Some(schema)) = codec::decode_plain::<SchemaRecorded>(bytes, catalogue) {
        codec::encode_plain(&schema, &mut again);
        return Ok((json!(schema), again));
    }
    let cutover = codec::decode_plain::<Cutover>(bytes, catalogue)?.expect("a kind that is not ignored");
    codec::encode_plain(&cutover, &mut again);
    Ok((json!(cutover), again))
}

fn fact(fact: &Fact) -> Json {
    match fact {
        Fact::Reading(body) => json!(body),
        Fact::DeviceAlarm(body) => json!(body),
        Fact::SensorStatus(body) => json!(body),
        Fact::ThresholdsSet(body) => json!(body),
        Fact::AlertAnswered(body) => json!(body),
        Fact::ClockTicked(body) => json!(body),
        Fact::PolicyChanged(body) => json!(body),
        Fact::ProcessorActivated(body) => json!(body),
        Fact::PatientRecorded(body) => json!(body),
        Fact::PractitionerRecorded(body) => json!(body),
        Fact::SensorRecorded(body) => json!(body),
        Fact::SensorAssigned(body) => json!(body),
        Fact::SensorAttached(body) => json!(body),
        Fact::SensorDetached(body) => json!(body),
        Fact::ReadingsReattributed(body) => json!(body),
        Fact::TokensRevoked(body) => json!(body),
        Fact::CommandIssued(body) => json!(body),
        Fact::CommandSent(body) => json!(body),
        Fact::CommandAnswered(body) => json!(body),
        Fact::CommandExpired(body) => json!(body),
        Fact::PatientMerged(body) => json!(body),
        Fact::ConsultationPlanned(body) => json!(body),
        Fact::ConsultationOpened(body) => json!(body),
        Fact::ConsultationClosed(body) => json!(body),
        Fact::ConsultationNoted(body) => json!(body),
        Fact::Sealed(body) => json!(body),
        Fact::Unknown { .. } => json!({}),
    }
}

fn joined(header: Json, body: Json) -> Json {
    let (Json::Object(header), Json::Object(body)) = (header, body) else {
        panic!("header and body are objects");
    };
    let mut whole: Map<String, Json> = header;
    for (name, value) in body {
        assert!(
            whole.insert(name.clone(), value).is_none(),
            "{name} is in header and body"
        );
    }
    Json::Object(whole)
}

/// The kinds as they are written today.
pub(crate) fn newest() -> impl Iterator<Item = &'static Kind> {
    KINDS
        .iter()
        .filter(|k| codec::newest(k.name).is_some_and(|n| n.id == k.id))
}
