//! Confluent REST Proxy v3: records one by one, and a report for each.

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::Response;
use bytes::Bytes;
use eventlog::LogError;
use schemas::access::Principal;
use schemas::facts::Door;
use schemas::time::Timestamp;
use serde::Serialize;

use super::answer::{self, ConfluentError, Trouble};
use super::produce::{self, Error, Format};
use super::{Shared, TOPIC, body, native, token, v3_stream};
use crate::accept::scan::{self, Broken};
use crate::accept::{self, Context, Verdict};
use crate::intake::Receipt;
use crate::refusal::{Fault, Refusal};

pub(super) const JSON: &str = "application/json";

/// One or many records. A short body of known length is answered at once, so that overload is a 503; everything else
/// is a stream in which each record is reported as it becomes durable.
pub(super) async fn produce(
    State(shared): State<Shared>,
    Path((_cluster, topic)): Path<(String, String)>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let (sender, until) = match admit(&shared, &topic, &headers) {
        Ok(admitted) => admitted,
        Err(response) => return *response,
    };
    if !headers.contains_key(header::CONTENT_LENGTH) && !body::is_packed(&headers) {
        return v3_stream::respond(shared, (sender, until), body);
    }
    let context = context(&shared, &sender, 0);
    let message = match body::read(&headers, body, &shared.limits).await {
        Ok(message) => message,
        Err(bad) => return native::keep_bad_body(&shared, bad, &context).await.confluent(JSON),
    };
    if scan::skip_space(&message, 0) == message.len() {
        return answer::confluent_error(StatusCode::UNPROCESSABLE_ENTITY, JSON, 422, "Empty request body.");
    }
    match first_group(&message, shared.limits.group_records) {
        Some(records) => match take(&shared, &sender, records, 0).await {
            Ok(reports) => answer::json_bytes(StatusCode::OK, JSON, reports),
            Err(error) => Trouble::from(error).confluent(JSON),
        },
        None => v3_stream::respond(shared, (sender, until), Body::from(message)),
    }
}

/// All records of a body, where it is nothing but whole records and no more than `limit`.
fn first_group(message: &Bytes, limit: usize) -> Option<Vec<Bytes>> {
    let (mut records, mut at) = (Vec::new(), 0);
    while scan::skip_space(message, at) < message.len() {
        let range = scan::object_end(&message[at..]).ok()??;
        records.push(message.slice(at + range.start..at + range.end));
        at += range.end;
        if records.len() > limit {
            return None;
        }
    }
    Some(records)
}

/// The sender and when their token ends, where the topic is ours.
fn admit(shared: &Shared, topic: &str, headers: &HeaderMap) -> Result<(Principal, Timestamp), Box<Response>> {
    let admitted =
        token::sender_until(shared, headers).map_err(|_| Box::new(Trouble::Unauthenticated.confluent(JSON)))?;
    if topic == TOPIC {
        Ok(admitted)
    } else {
        Err(Box::new(answer::confluent_error(
            StatusCode::NOT_FOUND,
            JSON,
            40401,
            "Topic not found.",
        )))
    }
}

fn context<'a>(shared: &Shared, sender: &'a Principal, index: i32) -> Context<'a> {
    Context {
        content_type: Some(JSON),
        principal: Some(sender),
        first_index: index,
        ..Context::new(Door::RestProxy, shared.clock.now())
    }
}

/// Makes records durable together; returns their reports, one after the other.
pub(super) async fn take(
    shared: &Shared,
    sender: &Principal,
    records: Vec<Bytes>,
    first: i32,
) -> Result<Vec<u8>, LogError> {
    let (reports, receipts) = judge_and_submit(shared, sender, records, first).await?;
    let mut out = Vec::with_capacity(receipts.len() * 200);
    for (report, receipt) in reports.iter().zip(&receipts) {
        match outcome(shared, report, receipt) {
            Ok(report) => append(&mut out, &report),
            Err((error_code, message)) => append(
                &mut out,
                &ConfluentError {
                    error_code,
                    message: &message,
                },
            ),
        }
    }
    Ok(out)
}

pub(super) fn append(out: &mut Vec<u8>, report: &impl Serialize) {
    if serde_json::to_writer(&mut *out, report).is_ok() {
        out.extend_from_slice(b"\r\n");
    }
}

async fn judge_and_submit(
    shared: &Shared,
    sender: &Principal,
    records: Vec<Bytes>,
    first: i32,
) -> Result<(Vec<Parsed>, Vec<Receipt>), LogError> {
    let mut parsed = Vec::with_capacity(records.len());
    let mut verdicts = Vec::with_capacity(records.len());
    for (i, record) in records.into_iter().enumerate() {
        let context = context(shared, sender, first.saturating_add(i as i32));
        let (one, mut judged) = judge(shared, &context, &record);
        parsed.push(one);
        verdicts.append(&mut judged);
    }
    let receipts = shared.submit(verdicts).await?;
    Ok((parsed, receipts))
}

/// What a report says about a record beside its place.
#[derive(Debug, Default)]
struct Parsed {
    received_at: Timestamp,
    key: Option<Data>,
    value: Option<Data>,
    /// An error of the record's envelope, with the REST Proxy's own code.
    error: Option<Error>,
}

/// A key or value as a report names it.
#[derive(Debug, Serialize)]
struct Data {
    #[serde(rename = "type")]
    kind: String,
    size: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    schema_id: Option<u32>,
}

fn judge(shared: &Shared, context: &Context<'_>, record: &Bytes) -> (Parsed, Vec<Verdict>) {
    let mut parsed = Parsed {
        received_at: context.received_at,
        ..Parsed::default()
    };
    let broken = |Broken(why)| Fault::NotJson.whole(why);
    let refuse = |refusal: Refusal| vec![accept::refuse(record.clone(), context, refusal)];
    let fields = (|| Ok::<_, Broken>((field(record, "key")?, field(record, "value")?)))();
    let (key, value) = match fields {
        Ok(fields) => fields,
        Err(error) => return (parsed, refuse(*broken(error))),
    };
    parsed.key = key.and_then(|key| part(&key, shared).ok()).map(|(data, ..)| data);
    let Some(value) = value else {
        return (parsed, refuse(*Fault::Missing.of("value")));
    };
    match part(&value, shared) {
        Ok((data, format, payload)) => {
            parsed.value = Some(data);
            let verdicts = produce::judge(shared, context, payload.as_ref(), record, &format);
            (parsed, verdicts)
        }
        Err(error) => {
            let refusal = Fault::NotAvro.about("value", &error.2);
            parsed.error = Some(error);
            (parsed, refuse(*refusal))
        }
    }
}

fn field(object: &Bytes, name: &str) -> Result<Option<Bytes>, Broken> {
    if object.first() != Some(&b'{') {
        return Err(Broken("not an object"));
    }
    let (span, _) = scan::entry(object, 0, name.as_bytes())?;
    Ok(span.map(|s| object.slice(s.range)).filter(|v| &v[..] != b"null"))
}

/// Type, format and payload of a `{"type":…,"data":…}`.
fn part(part: &Bytes, shared: &Shared) -> Result<(Data, Format, Option<Bytes>), Error> {
    let wrong = |Broken(why)| (StatusCode::BAD_REQUEST, 400, format!("Bad request: {why}"));
    let text = |name| -> Result<Option<String>, Error> {
        Ok(field(part, name)
            .map_err(wrong)?
            .and_then(|t| serde_json::from_slice(&t).ok()))
    };
    let payload = field(part, "data").map_err(wrong)?;
    let schema = text("schema")?;
    let id: Option<u32> = field(part, "schema_id")
        .map_err(wrong)?
        .and_then(|t| serde_json::from_slice(&t).ok());
    let kind = text("type")?.unwrap_or_else(|| {
        if schema.is_some() || id.is_some() {
            "AVRO"
        } else {
            "JSON"
        }
        .to_owned()
    });
    let mut schema_id = None;
    let format = match kind.as_str() {
        "JSON" | "JSONSCHEMA" => Format::Json,
        "STRING" => Format::Text,
        "BINARY" => Format::Binary,
        "AVRO" => {
            let (id, writer) = match (schema, id) {
                (Some(text), _) => shared.schemas.learn(&text)?,
                (None, Some(id)) => (id, shared.schemas.get(id)?),
                (None, None) => {
                    let message = "AVRO needs schema or schema_id".to_owned();
                    return Err((StatusCode::UNPROCESSABLE_ENTITY, 42202, message));
                }
            };
            schema_id = Some(id);
            Format::Avro(writer)
        }
        other => {
            return Err((
                StatusCode::BAD_REQUEST,
                400,
                format!("Bad request: no type {other:.20}"),
            ));
        }
    };
    let size = payload.as_ref().map_or(0, |p| size(p, &kind));
    Ok((Data { kind, size, schema_id }, format, payload))
}

/// The size of the data that would be stored.
fn size(payload: &Bytes, kind: &str) -> usize {
    let quoted = payload.len().saturating_sub(2);
    match kind {
        "STRING" => quoted,
        "BINARY" => {
            quoted / 4 * 3
                - payload
                    .iter()
                    .rev()
                    .skip(1)
                    .take_while(|b| **b == b'=')
                    .count()
                    .min(quoted / 4 * 3)
        }
        _ => payload.len(),
    }
}

/// The report of a record that was taken.
#[derive(Serialize)]
struct Report<'a> {
    error_code: u32,
    cluster_id: &'a str,
    topic_name: &'a str,
    partition_id: Option<u16>,
    offset: Option<i64>,
    timestamp: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<&'a Data>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<&'a Data>,
}

fn outcome<'a>(shared: &'a Shared, parsed: &'a Parsed, receipt: &Receipt) -> Result<Report<'a>, (u32, String)> {
    if let Some((_, code, message)) = &parsed.error {
        return Err((*code, message.clone()));
    }
    if let Some(error) = produce::error_of(receipt) {
        return Err(error);
    }
    Ok(Report {
        error_code: 200,
        cluster_id: &shared.cluster_id,
        topic_name: TOPIC,
        partition_id: receipt.position.map(|p| p.partition),
        offset: receipt.position.map(|p| p.offset),
        timestamp: parsed.received_at.to_string(),
        key: parsed.key.as_ref(),
        value: parsed.value.as_ref(),
    })
}

/// Several records with ids of the client's own: 207, whatever became of them.
pub(super) async fn batch(
    State(shared): State<Shared>,
    Path((_cluster, topic)): Path<(String, String)>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let (sender, _) = match admit(&shared, &topic, &headers) {
        Ok(admitted) => admitted,
        Err(response) => return *response,
    };
    let context = context(&shared, &sender, 0);
    let message = match body::read(&headers, body, &shared.limits).await {
        Ok(message) => message,
        Err(bad) => return native::keep_bad_body(&shared, bad, &context).await.confluent(JSON),
    };
    let (ids, records) = match entries(&message, shared.intake.limits().bounds.records) {
        Ok(entries) => entries,
        Err((status, code, why)) => {
            let refusal = Fault::NotJson.whole(&why);
            return match shared.submit(vec![accept::refuse(message, &context, *refusal)]).await {
                Ok(_) => answer::confluent_error(status, JSON, code, &why),
                Err(error) => Trouble::from(error).confluent(JSON),
            };
        }
    };
    match judge_and_submit(&shared, &sender, records, 0).await {
        Ok((parsed, receipts)) => multi_status(&shared, ids, &parsed, &receipts),
        Err(error) => Trouble::from(error).confluent(JSON),
    }
}

/// Ids and records of a batch. Ids are distinct texts of 1–80 characters.
fn entries(message: &Bytes, limit: usize) -> Result<(Vec<String>, Vec<Bytes>), Error> {
    let batch_error = |why: &str| (StatusCode::UNPROCESSABLE_ENTITY, 42208, why.to_owned());
    let unreadable = |Broken(why)| (StatusCode::BAD_REQUEST, 400, format!("Bad request: {why}"));
    let start = scan::skip_space(message, 0);
    let message = message.slice(start..);
    let list = field(&message, "entries")
        .map_err(unreadable)?
        .filter(|l| l.first() == Some(&b'['));
    let list = list.ok_or_else(|| batch_error("entries may not be null"))?;
    let mut records = Vec::new();
    scan::elements(&list, 0, |span| {
        records.push(list.slice(span.range));
        if records.len() > limit {
            Err(Broken("too many entries"))
        } else {
            Ok(())
        }
    })
    .map_err(unreadable)?;
    if records.is_empty() {
        return Err(batch_error("entries may not be empty"));
    }
    let mut seen = std::collections::BTreeSet::new();
    let mut ids = Vec::with_capacity(records.len());
    for record in &records {
        let id = field(record, "id")
            .map_err(unreadable)?
            .and_then(|id| serde_json::from_slice::<String>(&id).ok());
        let id = id.filter(|id| (1..=80).contains(&id.chars().count()));
        let id = id.ok_or_else(|| batch_error("an entry's id has 1 to 80 characters"))?;
        if !seen.insert(id.clone()) {
            return Err(batch_error("the ids of entries must be distinct"));
        }
        ids.push(id);
    }
    Ok((ids, records))
}

#[derive(Serialize)]
struct Success<'a> {
    id: String,
    #[serde(flatten)]
    report: Report<'a>,
}

#[derive(Serialize)]
struct Failure {
    id: String,
    error_code: u32,
    message: String,
}

#[derive(Serialize)]
struct MultiStatus<'a> {
    successes: Vec<Success<'a>>,
    failures: Vec<Failure>,
}

fn multi_status(shared: &Shared, ids: Vec<String>, parsed: &[Parsed], receipts: &[Receipt]) -> Response {
    let mut answer = MultiStatus {
        successes: Vec::new(),
        failures: Vec::new(),
    };
    for (id, (parsed, receipt)) in ids.into_iter().zip(parsed.iter().zip(receipts)) {
        match outcome(shared, parsed, receipt) {
            Ok(report) => answer.successes.push(Success { id, report }),
            Err((error_code, message)) => answer.failures.push(Failure {
                id,
                error_code,
                message,
            }),
        }
    }
    answer::json(StatusCode::MULTI_STATUS, JSON, &answer)
}
