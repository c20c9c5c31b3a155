//! What is set for a patient over the defaults.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State as Given};
use projections::query;
use schemas::access::Action;
use schemas::facts::ThresholdsSet;
use schemas::ids::Key;
use schemas::journal::Fact;
use schemas::json::thresholds_from_json;
use schemas::metric::Metric;
use schemas::time::Timestamp;
use serde::Serialize;
use serde_json::Value;
use smol_str::SmolStr;
use utoipa::ToSchema;

use super::input::{Sent, viewed};
use super::patients::{person, seen};
use crate::auth::Caller;
use crate::command::{Done, record};
use crate::problem::{Body, Problem};
use crate::state::State;
use crate::wire::finite;

/// Limits of one metric in its canonical unit; a null one does not apply. A low limit is reached at or below it, a high
/// one at or above it.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Limits {
    critical_low: Option<f64>,
    warning_low: Option<f64>,
    info_low: Option<f64>,
    info_high: Option<f64>,
    warning_high: Option<f64>,
    critical_high: Option<f64>,
    /// Who set them; not read back.
    #[schema(value_type = String)]
    set_by: SmolStr,
    /// Since when; not read back.
    #[schema(value_type = String, format = DateTime)]
    since: Timestamp,
}

/// The fields of an answer that say how it came to be; sent back with a change, they are passed over.
const TOLD: [&str; 2] = ["set_by", "since"];

/// What is set for a patient over the defaults, by metric. A metric that is not here goes by the defaults.
#[utoipa::path(get, path = "/v1/patients/{patient_id}/thresholds", tag = "thresholds",
    params(("patient_id" = String, Path)), security(("bearer" = [])),
    responses((status = 200, body = BTreeMap<String, Limits>),
    (status = "default", body = Body, content_type = "application/problem+json")))]
pub(super) async fn read(
    Given(state): Given<Arc<State>>,
    caller: Caller,
    Path(patient): Path<String>,
) -> Result<Json<BTreeMap<Metric, Limits>>, Problem> {
    let (patient, _) = seen(&state, &caller, &patient).await?;
    let Some(set) = query::thresholds(&*state.parts.views, &patient).await.map_err(viewed)? else {
        return Ok(Json(BTreeMap::new()));
    };
    let limits = set.thresholds.into_iter().map(|t| {
        let shown = Limits {
            critical_low: t.limits.critical_low.and_then(finite),
            warning_low: t.limits.warning_low.and_then(finite),
            info_low: t.limits.info_low.and_then(finite),
            info_high: t.limits.info_high.and_then(finite),
            warning_high: t.limits.warning_high.and_then(finite),
            critical_high: t.limits.critical_high.and_then(finite),
            set_by: set.set_by.clone(),
            since: set.since,
        };
        (t.metric, shown)
    });
    Ok(Json(limits.collect()))
}

/// Sets what is to hold for a patient over the defaults, whole: a metric that is left out goes by the defaults again.
#[utoipa::path(put, path = "/v1/patients/{patient_id}/thresholds", tag = "thresholds",
    params(("patient_id" = String, Path)), request_body(content = BTreeMap<String, Limits>), security(("bearer" = [])),
    responses((status = 200, body = Done), (status = "default", body = Body, content_type = "application/problem+json")))]
pub(super) async fn set(
    Given(state): Given<Arc<State>>,
    caller: Caller,
    Path(patient): Path<String>,
    Sent(mut sent): Sent,
) -> Result<Json<Done>, Problem> {
    // A patient of whom nothing was heard yet may be set up first.
    let patient = person(&state, &caller.see(&patient)?).await?;
    caller.may(Action::SetThresholds(&patient))?;
    for limits in sent
        .as_object_mut()
        .into_iter()
        .flat_map(|metrics| metrics.values_mut())
    {
        if let Value::Object(limits) = limits {
            limits.retain(|key, _| !TOLD.contains(&key.as_str()));
        }
    }
    let thresholds = thresholds_from_json(&sent)?;
    let fact = ThresholdsSet {
        thresholds,
        by: caller.principal.subject.clone(),
    };
    record(&state, Key::Patient(patient), Fact::ThresholdsSet(fact))
        .await
        .map(Json)
}
