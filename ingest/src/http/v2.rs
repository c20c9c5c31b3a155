//! Confluent REST Proxy v2: `POST /topics/fajma.readings`, as its clients know it.

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::Response;
use bytes::Bytes;
use schemas::access::Principal;
use schemas::facts::Door;
use serde::Serialize;

use super::answer::{self, KAFKA_V2, Trouble};
use super::produce::{self, Error, Format};
use super::{Shared, TOPIC, body, native, token};
use crate::accept::scan::{self, Broken};
use crate::accept::{self, Context};
use crate::intake::Receipt;
use crate::refusal::Fault;

/// Produces; the partition follows from the patient.
pub(super) async fn produce(
    State(shared): State<Shared>,
    Path(topic): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    respond(take(&shared, &topic, &headers, body).await)
}

/// Produces to a partition that must exist; the record's own follows from the patient all the same.
pub(super) async fn produce_to_partition(
    State(shared): State<Shared>,
    Path((topic, partition)): Path<(String, String)>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let exists = partition.parse::<u16>().is_ok_and(|p| p < shared.intake.partitions());
    if topic == TOPIC && !exists && token::sender(&shared, &headers).is_ok() {
        return answer::confluent_error(StatusCode::NOT_FOUND, KAFKA_V2, 40402, "Partition not found.");
    }
    respond(take(&shared, &topic, &headers, body).await)
}

/// Why there are no receipts.
enum NotTaken {
    Trouble(Trouble),
    Error(Error),
}

impl From<Trouble> for NotTaken {
    fn from(trouble: Trouble) -> Self {
        Self::Trouble(trouble)
    }
}

fn error<T>(status: StatusCode, code: u32, message: &str) -> Result<T, NotTaken> {
    Err(NotTaken::Error((status, code, message.to_owned())))
}

struct Taken {
    receipts: Vec<Receipt>,
    value_schema_id: Option<u32>,
}

async fn take(shared: &Shared, topic: &str, headers: &HeaderMap, body: Body) -> Result<Taken, NotTaken> {
    let sender = token::sender(shared, headers).map_err(|_| Trouble::Unauthenticated)?;
    if topic != TOPIC {
        return error(StatusCode::NOT_FOUND, 40401, "Topic not found.");
    }
    let embedded = embedded(headers)?;
    let read = body::read(headers, body, &shared.limits).await;
    let context = context(shared, headers, &sender);
    let message = match read {
        Ok(message) => message,
        Err(bad) => return Err(native::keep_bad_body(shared, bad, &context).await.into()),
    };
    let request = match Request::read(&message) {
        Ok(request) => request,
        Err(Broken(why)) => {
            let refusal = Fault::NotJson.whole(why);
            shared
                .submit(vec![accept::refuse(message, &context, *refusal)])
                .await
                .map_err(Trouble::from)?;
            return error(
                StatusCode::BAD_REQUEST,
                400,
                &format!("The request body is not readable as JSON ({why})."),
            );
        }
    };
    request.validate(shared.intake.limits().bounds.records)?;
    let (format, value_schema_id) = request.format(embedded, shared)?;
    let mut verdicts = Vec::with_capacity(request.records.len());
    for (i, (record, value)) in request.records.iter().enumerate() {
        let context = Context {
            first_index: i as i32,
            ..context
        };
        verdicts.append(&mut produce::judge(shared, &context, value.as_ref(), record, &format));
    }
    let receipts = shared.submit(verdicts).await.map_err(Trouble::from)?;
    Ok(Taken {
        receipts,
        value_schema_id,
    })
}

fn context<'a>(shared: &Shared, headers: &'a HeaderMap, sender: &'a Principal) -> Context<'a> {
    Context {
        content_type: headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()),
        principal: Some(sender),
        ..Context::new(Door::RestProxy, shared.clock.now())
    }
}

/// The format that a content type names.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Embedded {
    Json,
    Avro,
    Binary,
}

fn embedded(headers: &HeaderMap) -> Result<Embedded, NotTaken> {
    let label = headers
        .get(header::CONTENT_TYPE)
        .map_or("", |v| v.to_str().unwrap_or("?"));
    let label = label.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    match label.as_str() {
        "application/vnd.kafka.json.v2+json" | "application/vnd.kafka.jsonschema.v2+json" => Ok(Embedded::Json),
        "application/vnd.kafka.avro.v2+json" => Ok(Embedded::Avro),
        // An unspecific type means binary, as in the original.
        "application/vnd.kafka.binary.v2+json"
        | "application/vnd.kafka.v2+json"
        | "application/vnd.kafka+json"
        | "application/json"
        | "application/octet-stream"
        | "" => Ok(Embedded::Binary),
        _ => error(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            415,
            "HTTP 415 Unsupported Media Type",
        ),
    }
}

/// A request taken apart.
struct Request {
    /// Each record, and its value where it has one.
    records: Vec<(Bytes, Option<Bytes>)>,
    has_records: bool,
    negative_partition: bool,
    has_keys: bool,
    key_schema: bool,
    value_schema: Option<Bytes>,
    value_schema_id: Option<Bytes>,
}

impl Request {
    fn read(message: &Bytes) -> Result<Self, Broken> {
        let start = scan::skip_space(message, 0);
        if message.get(start) != Some(&b'{') {
            return Err(Broken("it does not begin with {"));
        }
        let field = |name: &str| {
            let (found, end) = scan::entry(message, start, name.as_bytes())?;
            let value = found
                .map(|span| message.slice(span.range))
                .filter(|v| &v[..] != b"null");
            Ok::<_, Broken>((value, end))
        };
        let (records, end) = field("records")?;
        if scan::skip_space(message, end) != message.len() {
            return Err(Broken("something follows after the end"));
        }
        let mut request = Self {
            records: Vec::new(),
            has_records: records.is_some(),
            negative_partition: false,
            has_keys: false,
            key_schema: field("key_schema")?.0.is_some() || field("key_schema_id")?.0.is_some(),
            value_schema: field("value_schema")?.0,
            value_schema_id: field("value_schema_id")?.0,
        };
        if let Some(list) = records {
            if list.first() != Some(&b'[') {
                return Err(Broken("records is no list"));
            }
            scan::elements(&list, 0, |span| request.record(list.slice(span.range)))?;
        }
        Ok(request)
    }

    fn record(&mut self, record: Bytes) -> Result<(), Broken> {
        let mut value = None;
        if record.first() == Some(&b'{') {
            value = scan::entry(&record, 0, b"value")?
                .0
                .map(|span| record.slice(span.range));
            let field =
                |name: &[u8]| scan::entry(&record, 0, name).map(|(span, _)| span.map(|s| record.slice(s.range)));
            self.has_keys |= field(b"key")?.is_some_and(|key| &key[..] != b"null");
            self.negative_partition |= field(b"partition")?.is_some_and(|p| p.first() == Some(&b'-'));
        }
        self.records.push((record, value));
        Ok(())
    }

    fn validate(&self, limit: usize) -> Result<(), NotTaken> {
        let wrong = |message: &str| error(StatusCode::UNPROCESSABLE_ENTITY, 422, message);
        if !self.has_records {
            wrong("records may not be null")
        } else if self.records.is_empty() {
            wrong("records may not be empty")
        } else if self.negative_partition {
            wrong("records[].partition must be greater than or equal to 0")
        } else if self.records.len() > limit {
            error(
                StatusCode::PAYLOAD_TOO_LARGE,
                413,
                &format!("a request holds at most {limit} records"),
            )
        } else {
            Ok(())
        }
    }

    /// The format of the values, and the id of their schema, which clients send instead of it the next time.
    fn format(&self, embedded: Embedded, shared: &Shared) -> Result<(Format, Option<u32>), NotTaken> {
        match embedded {
            Embedded::Json => return Ok((Format::Json, None)),
            Embedded::Binary => return Ok((Format::Binary, None)),
            Embedded::Avro => {}
        }
        let missing = |what: &str| {
            let message = format!(
                "Request includes {what}s and uses a format that requires schemas but does not include the {what}_schema or {what}_schema_id fields"
            );
            let code = if what == "key" { 42201 } else { 42202 };
            NotTaken::Error((StatusCode::UNPROCESSABLE_ENTITY, code, message))
        };
        if self.has_keys && !self.key_schema {
            return Err(missing("key"));
        }
        let invalid = || {
            NotTaken::Error((
                StatusCode::UNPROCESSABLE_ENTITY,
                42205,
                "Invalid schema: not a text".to_owned(),
            ))
        };
        if let Some(id) = &self.value_schema_id {
            let id = serde_json::from_slice(id).map_err(|_| invalid())?;
            let writer = shared.schemas.get(id).map_err(NotTaken::Error)?;
            return Ok((Format::Avro(writer), Some(id)));
        }
        let text = self.value_schema.as_ref().ok_or_else(|| missing("value"))?;
        let text: String = serde_json::from_slice(text).map_err(|_| invalid())?;
        let (id, writer) = shared.schemas.learn(&text).map_err(NotTaken::Error)?;
        Ok((Format::Avro(writer), Some(id)))
    }
}

#[derive(Serialize)]
struct Answer {
    offsets: Vec<Offset>,
    key_schema_id: Option<u32>,
    value_schema_id: Option<u32>,
}

#[derive(Serialize)]
struct Offset {
    partition: Option<u16>,
    offset: Option<i64>,
    error_code: Option<u32>,
    error: Option<String>,
}

fn respond(taken: Result<Taken, NotTaken>) -> Response {
    let taken = match taken {
        Ok(taken) => taken,
        Err(NotTaken::Trouble(trouble)) => return trouble.confluent(KAFKA_V2),
        Err(NotTaken::Error((status, code, message))) => {
            return answer::confluent_error(status, KAFKA_V2, code, &message);
        }
    };
    let offset = |receipt: &Receipt| match produce::error_of(receipt) {
        None => Offset {
            partition: receipt.position.map(|p| p.partition),
            offset: receipt.position.map(|p| p.offset),
            error_code: None,
            error: None,
        },
        Some((code, message)) => Offset {
            partition: None,
            offset: None,
            error_code: Some(code),
            error: Some(message),
        },
    };
    let offsets: Vec<Offset> = taken.receipts.iter().map(offset).collect();
    // As the original: one forbidden record makes the whole answer 403, though the others were taken.
    let forbidden = offsets.iter().any(|o| o.error_code == Some(40301));
    let status = if forbidden {
        StatusCode::FORBIDDEN
    } else {
        StatusCode::OK
    };
    answer::json(
        status,
        KAFKA_V2,
        &Answer {
            offsets,
            key_schema_id: None,
            value_schema_id: taken.value_schema_id,
        },
    )
}
