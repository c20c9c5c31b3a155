//! How the house runs: refused input, traffic, health, metrics.

use std::sync::Arc;

use axum::Json;
use axum::extract::State as Given;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use projections::query::{self, Range, RejectedRow};
use schemas::access::Action;
use schemas::facts::Door;
use schemas::ids::EventId;
use schemas::refused::Code;
use schemas::time::Timestamp;
use serde::{Deserialize, Serialize};
use smol_str::SmolStr;
use utoipa::{IntoParams, ToSchema};

use super::input::{Params, moment, paging, rows, viewed};
use crate::auth::Caller;
use crate::operations::Stats;
use crate::problem::{Body, Problem};
use crate::state::State;

/// A refused record.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Rejected {
    #[schema(value_type = String, format = "uuid")]
    id: EventId,
    #[schema(value_type = String, format = DateTime)]
    received_at: Timestamp,
    /// `mqtt`, `rest_proxy`, `http`, `raw` or `bridge`.
    #[schema(value_type = String)]
    door: Door,
    /// As it was named: it may be no valid id.
    #[schema(value_type = Option<String>)]
    patient_id: Option<SmolStr>,
    /// As it was named: it may be no valid id.
    #[schema(value_type = Option<String>)]
    sensor_id: Option<SmolStr>,
    #[schema(value_type = String, example = "implausible")]
    code: Code,
    /// The field at fault.
    #[schema(value_type = Option<String>)]
    field: Option<SmolStr>,
    #[schema(value_type = String)]
    detail: SmolStr,
    #[schema(value_type = String)]
    detail_fr: SmolStr,
    /// Place in its message, from 0.
    index: i64,
    /// Its length in bytes.
    bytes: i64,
    /// How it begins, as text; what is no text is shown as `�`.
    start: String,
    #[schema(value_type = Option<String>)]
    content_type: Option<SmolStr>,
}

impl From<RejectedRow> for Rejected {
    fn from(row: RejectedRow) -> Self {
        Self {
            id: row.id,
            received_at: row.received_at,
            door: row.door,
            patient_id: row.patient_id,
            sensor_id: row.sensor_id,
            code: row.code,
            field: row.field,
            detail: row.detail,
            detail_fr: row.detail_fr,
            index: row.index,
            bytes: row.size,
            start: String::from_utf8_lossy(&row.start).into_owned(),
            content_type: row.content_type,
        }
    }
}

/// Part of the list of refused records.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct RejectedList {
    rejected: Vec<Rejected>,
    next_cursor: Option<String>,
}

/// Which refused records.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct WhichRejected {
    /// Of this sensor, as it named itself.
    sensor: Option<String>,
    /// Refused at or after, RFC 3339.
    since: Option<String>,
    /// Rows in the page, 1 to 10,000; 100 where nobody says.
    limit: Option<String>,
    /// The `next_cursor` of the page before.
    cursor: Option<String>,
}

/// Refused input with its reasons, newest first.
#[utoipa::path(get, path = "/v1/rejected", tag = "operations", params(WhichRejected), security(("bearer" = [])),
    responses((status = 200, body = RejectedList),
    (status = "default", body = Body, content_type = "application/problem+json")))]
pub(super) async fn rejected(
    Given(state): Given<Arc<State>>,
    caller: Caller,
    Params(ask): Params<WhichRejected>,
) -> Result<Json<RejectedList>, Problem> {
    caller.may(Action::SeeOperations)?;
    let since = moment("since", ask.since.as_deref())?.unwrap_or(Range::ALL.from);
    let paging = paging(rows(ask.limit.as_deref(), query::USUAL)?, ask.cursor.as_deref());
    let sensor = ask.sensor.as_deref().filter(|s| !s.is_empty());
    let page = query::rejected(&*state.parts.views, sensor, since, paging)
        .await
        .map_err(viewed)?;
    Ok(Json(RejectedList {
        rejected: page.items.into_iter().map(Rejected::from).collect(),
        next_cursor: page.next_cursor,
    }))
}

/// Traffic per door, lag and disk.
#[utoipa::path(get, path = "/v1/stats", tag = "operations", security(("bearer" = [])),
    responses((status = 200, body = Stats), (status = "default", body = Body, content_type = "application/problem+json")))]
pub(super) async fn stats(Given(state): Given<Arc<State>>, caller: Caller) -> Result<Json<Stats>, Problem> {
    caller.may(Action::SeeOperations)?;
    Ok(Json(state.parts.operations.stats()))
}

/// Whether the process lives.
#[utoipa::path(get, path = "/livez", tag = "health", responses((status = 200, body = Health)))]
pub(super) async fn livez() -> Json<Health> {
    Json(Health {
        status: "live",
        reasons: Vec::new(),
    })
}

/// Whether the process can do its work.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Health {
    /// `live`, `ready` or `unready`.
    status: &'static str,
    /// What is missing.
    reasons: Vec<String>,
}

/// Whether the process can do its work.
#[utoipa::path(get, path = "/readyz", tag = "health",
    responses((status = 200, body = Health), (status = 503, body = Health)))]
pub(super) async fn readyz(Given(state): Given<Arc<State>>) -> Response {
    let reasons = state.parts.operations.unready();
    let (code, status) = if reasons.is_empty() {
        (StatusCode::OK, "ready")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "unready")
    };
    (code, Json(Health { status, reasons })).into_response()
}

/// Metrics in Prometheus' text format.
#[utoipa::path(get, path = "/metrics", tag = "operations", security(("bearer" = [])),
    responses((status = 200, body = String, content_type = "text/plain"),
    (status = "default", body = Body, content_type = "application/problem+json")))]
pub(super) async fn metrics(Given(state): Given<Arc<State>>, caller: Caller) -> Result<Response, Problem> {
    caller.may(Action::SeeOperations)?;
    let kind = [(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    Ok((kind, state.parts.operations.metrics()).into_response())
}
