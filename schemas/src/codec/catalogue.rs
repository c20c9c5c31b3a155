//! The schemas that a reader knows, and what bytes of each are to it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError, RwLock};

use apache_avro::Schema;
use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::schema_compatibility::SchemaCompatibility;
use apache_avro::writer::datum::GenericDatumWriter;
use serde_json::Value as Json;

use super::{DecodeError, KINDS, Kind, newest, unframe};
use crate::avro::Malformed;

/// What a schema id that is not our newest means to us.
#[derive(Debug, Clone)]
enum Learnt {
    /// The very schema that we write, under another id; or one whose bytes mean the same to us.
    Same(u32),
    /// Another version of a kind we write: how it was written, how we read it, and the id of the latter.
    Version { schemas: Arc<(Schema, Schema)>, ours: u32 },
    /// A kind we do not know whose schema carries `"fajma.ignorable": true`.
    Ignorable,
    /// A kind we do not know.
    Foreign(String),
}

/// The schemas that a reader knows beside the newest of this build. More may be learnt while it is in use.
#[derive(Debug)]
pub struct Catalogue {
    /// By id, all that this build came with; of the newest version of a kind nothing need be known.
    builtin: BTreeMap<u32, Option<Learnt>>,
    learnt: RwLock<BTreeMap<u32, Learnt>>,
    /// Ids that somebody has waited for in vain.
    missed: RwLock<BTreeSet<u32>>,
}

impl Default for Catalogue {
    fn default() -> Self {
        Self::builtin()
    }
}

impl Catalogue {
    /// This build's own schemas, older versions included.
    #[must_use]
    pub fn builtin() -> Self {
        let older = |kind: &Kind| newest(kind.name).is_some_and(|newest| newest.id != kind.id);
        let read = |kind: &Kind| {
            if older(kind) {
                // A schema of our own always parses: the tests read every one.
                Some((kind.id, Some(read_schema(kind.id, kind.text).ok()?)))
            } else {
                Some((kind.id, None))
            }
        };
        Self {
            builtin: KINDS.iter().filter_map(read).collect(),
            learnt: RwLock::default(),
            missed: RwLock::default(),
        }
    }

    /// Whether bytes with this id can be judged.
    #[must_use]
    pub fn knows(&self, id: u32) -> bool {
        self.builtin.contains_key(&id) || self.learnt(id).is_some()
    }

    /// Whether somebody has waited for it in vain: nobody need do so again.
    #[must_use]
    pub fn missed(&self, id: u32) -> bool {
        self.missed.read().unwrap_or_else(PoisonError::into_inner).contains(&id)
    }

    /// Nobody told of it in time. It may still be learnt.
    pub fn miss(&self, id: u32) {
        self.missed.write().unwrap_or_else(PoisonError::into_inner).insert(id);
    }

    fn learnt(&self, id: u32) -> Option<Learnt> {
        let learnt = self.learnt.read().unwrap_or_else(PoisonError::into_inner);
        learnt.get(&id).cloned()
    }

    /// The name, without namespace, of the kind of ours that bytes with this id are read as; `None` where it is none.
    #[must_use]
    pub fn kind(&self, id: u32) -> Option<&'static str> {
        let named = |id| KINDS.iter().find(|kind| kind.id == id).map(|kind| kind.name);
        named(id).or_else(|| match self.learnt(id)? {
            Learnt::Same(ours) | Learnt::Version { ours, .. } => named(ours),
            Learnt::Ignorable | Learnt::Foreign(_) => None,
        })
    }

    /// Takes a schema in. What this build came with stays as it is.
    ///
    /// # Errors
    /// [`DecodeError::Unresolvable`] where the text is no Avro record schema, or one of a kind of ours that our newest
    /// version cannot read.
    pub fn learn(&self, id: u32, text: &str) -> Result<(), DecodeError> {
        let read = read_schema(id, text)?;
        let mut learnt = self.learnt.write().unwrap_or_else(PoisonError::into_inner);
        learnt.insert(id, read);
        Ok(())
    }

    /// The newest kind and body of framed bytes; `None` where the kind may be ignored.
    pub(super) fn resolve<'a>(&self, bytes: &'a [u8]) -> Result<(u32, Option<Body<'a>>), DecodeError> {
        let (id, body) = unframe(bytes)?;
        let learnt = match self.builtin.get(&id) {
            Some(None) => return Ok((id, Some(Body::Direct(body)))),
            Some(Some(older)) => older.clone(),
            None => self.learnt(id).ok_or(DecodeError::UnknownSchema(id))?,
        };
        match learnt {
            Learnt::Ignorable => Ok((id, None)),
            Learnt::Foreign(name) => Err(DecodeError::UnknownKind(name)),
            Learnt::Same(ours) => Ok((ours, Some(Body::Direct(body)))),
            Learnt::Version { schemas, ours } => {
                let resolved = resolve(&schemas.0, &schemas.1, body)
                    .map_err(|reason| DecodeError::Unresolvable { schema_id: id, reason })?;
                Ok((ours, Some(Body::Resolved(resolved))))
            }
        }
    }
}

/// Whether bytes of one schema are bytes of the other as well: forms are equal, but that enums of the reader may have more
/// symbols after those of the writer. Resolving each of a log's older readings would slow down every replay.
fn is_read_as_it_is(writer: &str, reader: &str) -> bool {
    fn fits(writer: &Json, reader: &Json) -> bool {
        match (writer, reader) {
            (Json::Object(old), Json::Object(new)) => {
                let fitting = |(name, value): (&String, &Json)| match (name.as_str(), value, new.get(name)) {
                    ("symbols", Json::Array(old), Some(Json::Array(new))) => new.starts_with(old),
                    (_, value, Some(new)) => fits(value, new),
                    (_, _, None) => false,
                };
                old.len() == new.len() && old.iter().all(fitting)
            }
            (Json::Array(old), Json::Array(new)) => {
                old.len() == new.len() && old.iter().zip(new).all(|(old, new)| fits(old, new))
            }
            (old, new) => old == new,
        }
    }
    let form = |text: &str| serde_json::from_str::<Json>(text).ok();
    writer == reader
        || form(writer)
            .zip(form(reader))
            .is_some_and(|(old, new)| fits(&old, &new))
}

/// What a schema means to us.
fn read_schema(id: u32, text: &str) -> Result<Learnt, DecodeError> {
    let unresolvable = |reason: String| DecodeError::Unresolvable { schema_id: id, reason };
    let writer = Schema::parse_str(text).map_err(|e| unresolvable(e.to_string()))?;
    let Schema::Record(record) = &writer else {
        return Err(unresolvable("not a record".to_owned()));
    };
    let name = record.name.to_string();
    let ignorable = record.attributes.get("fajma.ignorable").and_then(Json::as_bool);
    let ours = name.strip_prefix("fajma.").and_then(newest);
    Ok(match (ours, ignorable) {
        (Some(kind), _) => {
            let reader = Schema::parse_str(kind.text).map_err(|e| unresolvable(e.to_string()))?;
            if is_read_as_it_is(&writer.canonical_form(), &reader.canonical_form()) {
                Learnt::Same(kind.id)
            } else {
                SchemaCompatibility::can_read(&writer, &reader).map_err(|e| unresolvable(e.to_string()))?;
                Learnt::Version {
                    schemas: Arc::new((writer, reader)),
                    ours: kind.id,
                }
            }
        }
        (None, Some(true)) => Learnt::Ignorable,
        (None, _) => Learnt::Foreign(name),
    })
}

/// A record's bytes in the newest version: as they came, or rewritten.
pub(super) enum Body<'a> {
    Direct(&'a [u8]),
    Resolved(Vec<u8>),
}

impl std::ops::Deref for Body<'_> {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        match self {
            Body::Direct(bytes) => bytes,
            Body::Resolved(bytes) => bytes,
        }
    }
}

/// A record as `reader` would have written it.
fn resolve(writer: &Schema, reader: &Schema, body: &[u8]) -> Result<Vec<u8>, String> {
    let mut from = body;
    let value = GenericDatumReader::builder(writer)
        .reader_schema(reader)
        .build()
        .and_then(|datum| datum.read_value(&mut from))
        .map_err(|e| e.to_string())?;
    if !from.is_empty() {
        return Err(Malformed::LeftOver(from.len()).to_string());
    }
    GenericDatumWriter::builder(reader)
        .build()
        .and_then(|datum| datum.write_value_to_vec(value))
        .map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::super::{_READING_1, READING};
    use super::*;

    #[test]
    fn bytes_are_read_as_they_are_where_enums_have_only_gained_symbols_at_the_end() {
        let form = |symbols: &str, field: &str| {
            format!(r#"{{"fields":[{{"name":"{field}","type":{{"symbols":[{symbols}],"type":"enum"}}}}]}}"#)
        };
        for (writer, reader, as_it_is) in [
            (form(r#""a""#, "f"), form(r#""a","b""#, "f"), true),
            (form(r#""a","b""#, "f"), form(r#""a""#, "f"), false),
            (form(r#""a""#, "f"), form(r#""b","a""#, "f"), false),
            (form(r#""a""#, "f"), form(r#""a""#, "g"), false),
        ] {
            assert_eq!(is_read_as_it_is(&writer, &reader), as_it_is, "{writer} {reader}");
        }
        let catalogue = Catalogue::builtin();
        assert!(matches!(
            catalogue.builtin.get(&_READING_1),
            Some(Some(Learnt::Same(READING)))
        ));
    }
}
