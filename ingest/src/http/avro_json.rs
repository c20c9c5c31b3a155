//! Avro's JSON encoding as plain JSON: unions lose their wrapping (`{"string":"x"}`), timestamps become RFC 3339, and
//! our own records take the names that payloads have.

use apache_avro::Schema;
use apache_avro::schema::{Name, NamesRef, RecordSchema, ResolvedSchema};
use schemas::time::Timestamp;
use serde_json::{Map, Value};

/// A writer's schema.
#[derive(Debug)]
pub(super) struct Writer(Schema);

impl Writer {
    /// Reads a schema.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let schema = Schema::parse_str(text).map_err(|e| e.to_string())?;
        ResolvedSchema::try_from(&schema).map_err(|e| e.to_string())?;
        Ok(Self(schema))
    }

    /// A value in plain JSON.
    pub(super) fn plain(&self, value: &Value) -> Result<Value, String> {
        let resolved = ResolvedSchema::try_from(&self.0).map_err(|e| e.to_string())?;
        let plain = plain(&self.0, resolved.get_names(), value)?;
        Ok(match (&self.0, plain) {
            (Schema::Record(record), Value::Object(fields)) if record.name.namespace() == Some("fajma") => ours(fields),
            (_, other) => other,
        })
    }
}

/// Our own records under the names of payloads.
fn ours(fields: Map<String, Value>) -> Value {
    let renamed = fields
        .into_iter()
        .filter(|(name, _)| name != "id")
        .map(|(name, value)| match name.as_str() {
            "key" => ("patient_id".to_owned(), value),
            "metric" => ("type".to_owned(), value),
            "measured_at" => ("at".to_owned(), value),
            _ => (name, value),
        });
    Value::Object(renamed.collect())
}

fn plain(schema: &Schema, names: &NamesRef<'_>, value: &Value) -> Result<Value, String> {
    let wrong = || Err(format!("{value:.40} is no {}", kind(schema)));
    match (schema, value) {
        (Schema::Ref { name }, _) => plain(named(names, name)?, names, value),
        (Schema::Union(union), _) => in_union(union.variants(), names, value),
        (Schema::Record(record), Value::Object(fields)) => in_record(record, names, fields),
        (Schema::Array(array), Value::Array(items)) => items
            .iter()
            .map(|item| plain(&array.items, names, item))
            .collect::<Result<_, _>>()
            .map(Value::Array),
        (Schema::Map(map), Value::Object(entries)) => entries
            .iter()
            .map(|(key, item)| plain(&map.types, names, item).map(|item| (key.clone(), item)))
            .collect::<Result<_, _>>()
            .map(Value::Object),
        (Schema::TimestampMillis, Value::Number(n)) => {
            n.as_i64().map_or_else(wrong, |n| Ok(moment(n.saturating_mul(1_000))))
        }
        (Schema::TimestampMicros, Value::Number(n)) => n.as_i64().map_or_else(wrong, |n| Ok(moment(n))),
        (Schema::Null, Value::Null) | (Schema::Boolean, Value::Bool(_)) => Ok(value.clone()),
        (Schema::Int | Schema::Long, Value::Number(n)) if n.is_i64() => Ok(value.clone()),
        // Java writes "NaN" and "Infinity" as texts; they stay, and are refused as no number.
        (Schema::Float | Schema::Double, Value::Number(_) | Value::String(_)) => Ok(value.clone()),
        (Schema::String | Schema::Bytes | Schema::Fixed(_) | Schema::Enum(_) | Schema::Uuid(_), Value::String(_)) => {
            Ok(value.clone())
        }
        _ => wrong(),
    }
}

fn moment(micros: i64) -> Value {
    Value::String(Timestamp(micros).to_string())
}

fn in_union(branches: &[Schema], names: &NamesRef<'_>, value: &Value) -> Result<Value, String> {
    match value {
        Value::Null if branches.iter().any(|b| matches!(b, Schema::Null)) => Ok(Value::Null),
        Value::Object(wrapped) if wrapped.len() == 1 => {
            let (name, inner) = wrapped.iter().next().ok_or_else(|| "an empty union".to_owned())?;
            let branch = branches
                .iter()
                .find(|b| kind(b) == *name || full_name(b).is_some_and(|n| n == *name));
            plain(
                branch.ok_or_else(|| format!("the union has no branch {name}"))?,
                names,
                inner,
            )
        }
        _ => Err("a union's value is wrapped, like {\"string\":\"x\"}".to_owned()),
    }
}

fn in_record(record: &RecordSchema, names: &NamesRef<'_>, fields: &Map<String, Value>) -> Result<Value, String> {
    let field = |f: &apache_avro::schema::RecordField| {
        let value = fields
            .get(&f.name)
            .ok_or_else(|| format!("the field {} is missing", f.name))?;
        plain(&f.schema, names, value).map(|value| (f.name.clone(), value))
    };
    record
        .fields
        .iter()
        .map(field)
        .collect::<Result<_, _>>()
        .map(Value::Object)
}

fn named<'s>(names: &NamesRef<'s>, name: &Name) -> Result<&'s Schema, String> {
    names
        .get(name)
        .copied()
        .ok_or_else(|| format!("the schema names no {name}"))
}

fn full_name(schema: &Schema) -> Option<String> {
    match schema {
        Schema::Ref { name } => Some(name.to_string()),
        other => other.name().map(ToString::to_string),
    }
}

/// The name of a branch of this type, in Avro's JSON encoding.
const fn kind(schema: &Schema) -> &'static str {
    match schema {
        Schema::Null => "null",
        Schema::Boolean => "boolean",
        Schema::Int | Schema::Date | Schema::TimeMillis => "int",
        Schema::Long | Schema::TimestampMillis | Schema::TimestampMicros | Schema::TimeMicros => "long",
        Schema::Float => "float",
        Schema::Double => "double",
        Schema::Bytes => "bytes",
        Schema::String => "string",
        Schema::Array(_) => "array",
        Schema::Map(_) => "map",
        _ => "value of this type",
    }
}
