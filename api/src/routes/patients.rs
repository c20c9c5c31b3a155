//! Patients as last heard.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State as Given};
use projections::query::{self, PatientRow};
use schemas::access::Sight;
use schemas::ids::PatientId;
use schemas::time::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::input::{Params, paging, rows, viewed};
use crate::auth::Caller;
use crate::problem::{Body, Problem};
use crate::state::State;

/// A patient.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Patient {
    #[schema(value_type = String)]
    id: PatientId,
    /// When something was last heard of them, to the minute.
    #[schema(value_type = String, format = DateTime)]
    last_heard: Timestamp,
}

impl From<PatientRow> for Patient {
    fn from(row: PatientRow) -> Self {
        Self {
            id: row.id,
            last_heard: row.last_heard,
        }
    }
}

/// Part of the list of patients.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Patients {
    patients: Vec<Patient>,
    next_cursor: Option<String>,
}

/// Which part of a list of names.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct ByName {
    /// Names that begin like this.
    pub(super) prefix: Option<String>,
    /// Rows in the page, 1 to 10,000; 100 where nobody says.
    pub(super) limit: Option<String>,
    /// The `next_cursor` of the page before.
    pub(super) cursor: Option<String>,
}

/// Patients, by id, cut to those the caller may see.
#[utoipa::path(get, path = "/v1/patients", tag = "patients", params(ByName), security(("bearer" = [])),
    responses((status = 200, body = Patients), (status = "default", body = Body, content_type = "application/problem+json")))]
pub(super) async fn list(
    Given(state): Given<Arc<State>>,
    caller: Caller,
    Params(ask): Params<ByName>,
) -> Result<Json<Patients>, Problem> {
    let limit = rows(ask.limit.as_deref(), query::USUAL)?;
    let prefix = ask.prefix.as_deref().unwrap_or_default();
    let views = &*state.parts.views;
    let page = match caller.sight()? {
        Sight::All => query::patients(views, prefix, paging(limit, ask.cursor.as_deref()))
            .await
            .map_err(viewed)?,
        sight => {
            let own = if let Sight::Only(own) = sight { own } else { &[] };
            return few(&state, own, prefix, limit, ask.cursor).await.map(Json);
        }
    };
    Ok(Json(Patients {
        patients: page.items.into_iter().map(Patient::from).collect(),
        next_cursor: page.next_cursor,
    }))
}

/// The same for somebody who sees a few: they are asked for one by one. The cursor is the last id.
async fn few(
    state: &State,
    own: &[PatientId],
    prefix: &str,
    limit: usize,
    after: Option<String>,
) -> Result<Patients, Problem> {
    let mut own: Vec<_> = own
        .iter()
        .filter(|id| id.as_str().starts_with(prefix) && after.as_deref().is_none_or(|after| id.as_str() > after))
        .collect();
    own.sort_unstable();
    own.dedup();
    let mut patients = Vec::new();
    for id in own {
        if patients.len() == limit {
            let last = patients.last().map(|p: &Patient| p.id.to_string());
            return Ok(Patients {
                patients,
                next_cursor: last,
            });
        }
        patients.extend(
            query::patient(&*state.parts.views, id)
                .await
                .map_err(viewed)?
                .map(Patient::from),
        );
    }
    Ok(Patients {
        patients,
        next_cursor: None,
    })
}

/// One patient.
#[utoipa::path(get, path = "/v1/patients/{patient_id}", tag = "patients", params(("patient_id" = String, Path)),
    security(("bearer" = [])), responses((status = 200, body = Patient),
    (status = "default", body = Body, content_type = "application/problem+json")))]
pub(super) async fn one(
    Given(state): Given<Arc<State>>,
    caller: Caller,
    Path(patient): Path<String>,
) -> Result<Json<Patient>, Problem> {
    let (_, row) = seen(&state, &caller, &patient).await?;
    Ok(Json(row.into()))
}

/// A patient whom the caller may see and of whom something was heard; for anybody else there is no such patient.
pub(super) async fn seen(state: &State, caller: &Caller, patient: &str) -> Result<(PatientId, PatientRow), Problem> {
    let patient = caller.see(patient)?;
    let row = query::patient(&*state.parts.views, &patient).await.map_err(viewed)?;
    row.map(|row| (patient, row)).ok_or(Problem::NotFound)
}
