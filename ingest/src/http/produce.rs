//! What REST Proxy v2 and v3 have in common: a value in one of several formats, judged as one record.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use axum::http::StatusCode;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use schemas::codec::KINDS;
use schemas::ids::EventId;
use schemas::refused::Code;

use super::HttpDoors;
use super::avro_json::Writer;
use crate::accept::{self, Context, Outcome, Verdict};
use crate::intake::Receipt;
use crate::refusal::{Fault, Refused};

/// How a value is written.
#[derive(Debug, Clone)]
pub(super) enum Format {
    /// JSON.
    Json,
    /// Base64 of a message in any of our formats.
    Binary,
    /// A text that is such a message.
    Text,
    /// Avro's JSON encoding.
    Avro(Arc<Writer>),
}

/// Judges one value: whatever it holds, all its verdicts carry the index of its record.
pub(super) fn judge(
    doors: &HttpDoors,
    context: &Context<'_>,
    value: Option<&Bytes>,
    record: &Bytes,
    format: &Format,
) -> Vec<Verdict> {
    let index = context.first_index;
    let message = value
        .ok_or_else(|| Fault::Missing.of("value"))
        .and_then(|value| message(value, format));
    let mut verdicts = match message {
        Ok((message, content_type)) => {
            let context = Context {
                content_type,
                ..*context
            };
            doors.intake.judge(&message, &context)
        }
        Err(refused) => vec![accept::refuse(record.clone(), context, *refused)],
    };
    for verdict in &mut verdicts {
        verdict.index = index;
        if let Outcome::Refused(rejection) = &mut verdict.outcome {
            rejection.index = index;
            if matches!(format, Format::Avro(_)) {
                // As it came, not as it was put for judging.
                rejection.bytes = record.clone();
            }
        }
    }
    verdicts
}

/// The message in a value, and its content type.
fn message(value: &Bytes, format: &Format) -> Result<(Bytes, Option<&'static str>), Refused> {
    if &value[..] == b"null" {
        return Err(Fault::Missing.of("value"));
    }
    let text = || serde_json::from_slice::<String>(value).map_err(|_| Fault::NotBase64.of("value"));
    match format {
        Format::Json if value.first() != Some(&b'{') => Err(Fault::NotAnObject.of("value")),
        Format::Json => Ok((value.clone(), Some("application/json"))),
        Format::Text => text().map(|text| (Bytes::from(text), None)),
        Format::Binary => {
            let bytes = STANDARD.decode(text()?).map_err(|_| Fault::NotBase64.of("value"))?;
            Ok((Bytes::from(bytes), None))
        }
        Format::Avro(writer) => {
            let not_avro = |reason: String| Fault::NotAvro.about("value", reason);
            let value = serde_json::from_slice(value).map_err(|e| not_avro(e.to_string()))?;
            let plain = writer.plain(&value).map_err(not_avro)?;
            let bytes = serde_json::to_vec(&plain).map_err(|e| not_avro(e.to_string()))?;
            Ok((Bytes::from(bytes), Some("application/json")))
        }
    }
}

/// The REST Proxy's code for a refused record.
pub(super) fn error_code(code: Code) -> u32 {
    match code {
        Code::Unauthorised | Code::UnknownSensor | Code::NotThisPatientsSensor => 40301,
        Code::Unreadable => 42203,
        _ => 42206,
    }
}

/// Code and sentence for a refused record: `implausible (value): …`.
pub(super) fn error_of(receipt: &Receipt) -> Option<(u32, String)> {
    let refusal = receipt.refusal.as_ref()?;
    let message = match &refusal.field {
        Some(field) => format!("{} ({field}): {}", refusal.code, refusal.detail),
        None => format!("{}: {}", refusal.code, refusal.detail),
    };
    Some((error_code(refusal.code), message))
}

/// An error of the request as a whole: status, code, sentence.
pub(super) type Error = (StatusCode, u32, String);

/// Schemas that clients have shown: they send one once, and then its id.
#[derive(Debug, Default)]
pub(super) struct Schemas(Mutex<BTreeMap<u32, Arc<Writer>>>);

/// How many schemas are remembered.
const REMEMBERED: usize = 256;

impl Schemas {
    /// Takes a schema in; its id follows from its text, so that every instance gives the same.
    pub(super) fn learn(&self, text: &str) -> Result<(u32, Arc<Writer>), Error> {
        let own = KINDS
            .iter()
            .find(|kind| kind.text.trim() == text.trim())
            .map(|kind| kind.id);
        let id = own.unwrap_or_else(|| {
            EventId::of("fajma.schema", &[text.as_bytes()]).fingerprint() & 0x3fff_ffff | 0x4000_0000
        });
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(writer) = known.get(&id) {
            return Ok((id, Arc::clone(writer)));
        }
        let writer = Writer::parse(text)
            .map(Arc::new)
            .map_err(|e| (StatusCode::UNPROCESSABLE_ENTITY, 42205, format!("Invalid schema: {e}")))?;
        if known.len() >= REMEMBERED {
            known.pop_first();
        }
        known.insert(id, Arc::clone(&writer));
        Ok((id, writer))
    }

    /// The schema of an id: one of ours, or one that a client has shown.
    pub(super) fn get(&self, id: u32) -> Result<Arc<Writer>, Error> {
        if let Some(kind) = KINDS.iter().find(|kind| kind.id == id) {
            return self.learn(kind.text).map(|(_, writer)| writer);
        }
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(&id).map(Arc::clone).ok_or_else(|| {
            let message = format!("Invalid schema: schema {id} is not known here; send value_schema once");
            (StatusCode::UNPROCESSABLE_ENTITY, 42205, message)
        })
    }
}
