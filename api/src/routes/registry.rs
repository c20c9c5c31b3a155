//! The read side of Confluent's schema registry, so that ordinary tools can decode what the log holds.
//!
//! Subjects are the records' names (RecordNameStrategy): `fajma.Reading`.

use std::sync::Arc;

use axum::extract::{FromRequestParts, Path};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use schemas::codec::{KINDS, Kind};
use serde_json::{Value, json};

use crate::auth::Caller;
use crate::problem::Problem;
use crate::state::State;

/// The registry's media type.
const TYPE: &str = "application/vnd.schemaregistry.v1+json";
/// What our records' names begin with.
const NAMESPACE: &str = "fajma.";

pub(super) fn router() -> Router<Arc<State>> {
    Router::new()
        .route("/subjects", get(subjects))
        .route("/subjects/{subject}/versions", get(versions))
        .route("/subjects/{subject}/versions/{version}", get(version))
        .route("/subjects/{subject}/versions/{version}/schema", get(version_schema))
        .route("/schemas/types", get(types))
        .route("/schemas/ids/{id}", get(by_id))
        .route("/schemas/ids/{id}/schema", get(schema_by_id))
        .route("/schemas/ids/{id}/subjects", get(subjects_by_id))
        .route("/schemas/ids/{id}/versions", get(versions_by_id))
}

/// Anybody with a good token: schemas hold no data. Parameters like `deleted` or `normalize` change nothing here.
struct Reader;

impl FromRequestParts<Arc<State>> for Reader {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &Arc<State>) -> Result<Self, Problem> {
        Caller::of(parts, state).map(|_| Self)
    }
}

/// What the registry calls errors.
struct Missing(u32, &'static str);

impl IntoResponse for Missing {
    fn into_response(self) -> Response {
        let status = if self.0 / 100 == 404 {
            StatusCode::NOT_FOUND
        } else {
            StatusCode::UNPROCESSABLE_ENTITY
        };
        let body = Json(json!({"error_code": self.0, "message": self.1}));
        (status, [(CONTENT_TYPE, TYPE)], body).into_response()
    }
}

const NO_SUBJECT: Missing = Missing(40401, "Subject not found.");
const NO_VERSION: Missing = Missing(40402, "Version not found.");
const NO_SCHEMA: Missing = Missing(40403, "Schema not found.");
const BAD_VERSION: Missing = Missing(42202, "The specified version is not a valid version id.");

fn found(value: Value) -> Response {
    ([(CONTENT_TYPE, TYPE)], Json(value)).into_response()
}

fn text(kind: &Kind) -> Response {
    ([(CONTENT_TYPE, TYPE)], kind.text).into_response()
}

fn subject_of(kind: &Kind) -> String {
    format!("{NAMESPACE}{}", kind.name)
}

fn of_subject(subject: &str) -> Result<Vec<&'static Kind>, Missing> {
    let name = subject.strip_prefix(NAMESPACE).ok_or(NO_SUBJECT)?;
    let kinds: Vec<_> = KINDS.iter().filter(|k| k.name == name).collect();
    if kinds.is_empty() { Err(NO_SUBJECT) } else { Ok(kinds) }
}

fn find(subject: &str, version: &str) -> Result<&'static Kind, Missing> {
    let kinds = of_subject(subject)?;
    if matches!(version, "latest" | "-1") {
        return kinds.last().copied().ok_or(NO_VERSION);
    }
    let version: u16 = version.parse().ok().filter(|n| *n > 0).ok_or(BAD_VERSION)?;
    kinds.into_iter().find(|k| k.version == version).ok_or(NO_VERSION)
}

fn find_id(id: &str) -> Result<&'static Kind, Missing> {
    let id: u32 = id.parse().map_err(|_| NO_SCHEMA)?;
    KINDS.iter().find(|k| k.id == id).ok_or(NO_SCHEMA)
}

async fn subjects(_: Reader) -> Response {
    let mut subjects: Vec<_> = KINDS.iter().map(subject_of).collect();
    subjects.sort_unstable();
    subjects.dedup();
    found(json!(subjects))
}

async fn versions(_: Reader, Path(subject): Path<String>) -> Result<Response, Missing> {
    let versions: Vec<_> = of_subject(&subject)?.iter().map(|k| k.version).collect();
    Ok(found(json!(versions)))
}

async fn version(_: Reader, Path((subject, version)): Path<(String, String)>) -> Result<Response, Missing> {
    let kind = find(&subject, &version)?;
    Ok(found(json!({
        "subject": subject, "version": kind.version, "id": kind.id, "schemaType": "AVRO", "schema": kind.text,
    })))
}

async fn version_schema(_: Reader, Path((subject, version)): Path<(String, String)>) -> Result<Response, Missing> {
    find(&subject, &version).map(text)
}

async fn types(_: Reader) -> Response {
    found(json!(["AVRO"]))
}

async fn by_id(_: Reader, Path(id): Path<String>) -> Result<Response, Missing> {
    let kind = find_id(&id)?;
    Ok(found(json!({"schema": kind.text, "schemaType": "AVRO"})))
}

async fn schema_by_id(_: Reader, Path(id): Path<String>) -> Result<Response, Missing> {
    find_id(&id).map(text)
}

async fn subjects_by_id(_: Reader, Path(id): Path<String>) -> Result<Response, Missing> {
    Ok(found(json!([subject_of(find_id(&id)?)])))
}

async fn versions_by_id(_: Reader, Path(id): Path<String>) -> Result<Response, Missing> {
    let kind = find_id(&id)?;
    Ok(found(json!([{"subject": subject_of(kind), "version": kind.version}])))
}
