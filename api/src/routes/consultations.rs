//! Consultations as they stand: lists, and each with what was measured from the opening to the closing.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State as Given};
use projections::query;
use schemas::access::{Action, Sight};
use schemas::consultation::summary;
use schemas::facts::{ConsultationSeries, ConsultationState};
use schemas::ids::ConsultationId;
use schemas::time::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::consultation_shapes::{AnomalyOut, Consultation, Head};
use super::input::{Params, cut, moment, paging, rows, viewed, word};
use super::patients::person;
use crate::auth::Caller;
use crate::problem::{Body, Problem};
use crate::state::State;
use crate::wire::{Reading, finite};

/// Part of a list of consultations.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Consultations {
    consultations: Vec<Head>,
    next_cursor: Option<String>,
}

/// Which consultations.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct WhichConsultations {
    /// Of this patient alone.
    patient: Option<String>,
    /// `planned`, `open` or `closed`.
    state: Option<String>,
    /// Rows in the page, 1 to 10,000; 100 where nobody says.
    limit: Option<String>,
    /// The `next_cursor` of the page before.
    cursor: Option<String>,
}

/// Consultations of everybody whom the caller may see, the last planned first. A page may be short although the list goes
/// on.
#[utoipa::path(get, path = "/v1/consultations", tag = "consultations", params(WhichConsultations),
    security(("bearer" = [])), responses((status = 200, body = Consultations),
    (status = "default", body = Body, content_type = "application/problem+json")))]
pub(super) async fn list(
    Given(state): Given<Arc<State>>,
    caller: Caller,
    Params(ask): Params<WhichConsultations>,
) -> Result<Json<Consultations>, Problem> {
    let patient = match ask.patient.as_deref() {
        Some(patient) => Some(person(&state, &caller.see(patient)?).await?),
        None => None,
    };
    let sight = caller.sight()?;
    let wanted = word("state", ask.state.as_deref(), ConsultationState::parse)?;
    let limit = rows(ask.limit.as_deref(), query::USUAL)?;
    let views = &*state.parts.views;
    let sees = |it: &query::Consultation| {
        let seen = match &sight {
            Sight::All => true,
            Sight::Only(own) => own.contains(&it.patient_id),
            Sight::None => false,
        };
        seen && wanted.is_none_or(|wanted| wanted == it.state())
    };
    let list = (&*state.parts.keys, "consultations");
    let page = cut(list, limit, ask.cursor.as_deref(), sees, async |limit, cursor| {
        let paging = paging(limit, cursor.as_deref());
        match &patient {
            Some(patient) => query::consultations(views, patient, paging).await,
            None => query::consultations_all(views, paging).await,
        }
    })
    .await?;
    Ok(Json(Consultations {
        consultations: page.items.into_iter().map(Head::from).collect(),
        next_cursor: page.next_cursor,
    }))
}

/// How a consultation is looked at.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct Looked {
    /// RFC 3339: as it was on the screen at this moment, by what had been received.
    seen_at: Option<String>,
}

/// One consultation, with what was measured from the opening to the closing.
#[utoipa::path(get, path = "/v1/consultations/{consultation_id}", tag = "consultations",
    params(("consultation_id" = String, Path), Looked), security(("bearer" = [])),
    responses((status = 200, body = Consultation),
    (status = "default", body = Body, content_type = "application/problem+json")))]
pub(super) async fn one(
    Given(state): Given<Arc<State>>,
    caller: Caller,
    Path(id): Path<String>,
    Params(ask): Params<Looked>,
) -> Result<Json<Consultation>, Problem> {
    let found = visible(&state, &caller, &id).await?;
    let views = &*state.parts.views;
    let Some(seen_at) = moment("seen_at", ask.seen_at.as_deref())? else {
        let parts = query::consultation_parts(views, &found).await.map_err(viewed)?;
        return answer(&state, found, &parts, state.now(), None).await.map(Json);
    };
    let found = as_of(found, seen_at)?;
    let held = found.held(seen_at).ok_or(Problem::Internal)?;
    let known = query::consultation_parts(views, &found).await.map_err(viewed)?;
    let (parts, newest) = query::received_by(views, &found.patient_id, held, seen_at, &known)
        .await
        .map_err(viewed)?;
    let newest = newest.into_iter().map(Reading::from).collect();
    answer(&state, found, &parts, seen_at, Some(newest)).await.map(Json)
}

/// A consultation without what people did after a moment.
fn as_of(mut it: query::Consultation, moment: Timestamp) -> Result<query::Consultation, Problem> {
    if it.opened.as_ref().is_none_or(|opened| opened.at > moment) {
        return Err(Problem::invalid(
            "seen_at",
            "the consultation had not been opened yet",
            "la consultation n’était pas encore ouverte",
        ));
    }
    it.closed = it.closed.filter(|closed| closed.at <= moment);
    it.notes.retain(|note| note.noted.at <= moment);
    Ok(it)
}

async fn answer(
    state: &State,
    found: query::Consultation,
    parts: &[ConsultationSeries],
    now: Timestamp,
    newest: Option<Vec<Reading>>,
) -> Result<Consultation, Problem> {
    let seen_at = newest.as_ref().map(|_| now);
    let Some(held) = found.held(now) else {
        return Ok(Consultation {
            head: found.into(),
            real_time_data: BTreeMap::new(),
            data_quality_score: None,
            anomalies_detected: Vec::new(),
            anomalies_complete: true,
            seen_at,
            sensor_data: newest,
        });
    };
    let known_by = seen_at.unwrap_or(Timestamp::MAX);
    let summary = summary(parts, held.from, held.to);
    let anomalies = query::anomalies(&*state.parts.views, &found.patient_id, held, summary.gaps, known_by)
        .await
        .map_err(viewed)?;
    let figures = summary.real_time_data.into_iter();
    Ok(Consultation {
        head: found.into(),
        real_time_data: figures.map(|(metric, figures)| (metric, figures.into())).collect(),
        data_quality_score: finite(summary.data_quality_score),
        anomalies_detected: anomalies.all.into_iter().map(AnomalyOut::from).collect(),
        anomalies_complete: anomalies.complete,
        seen_at,
        sensor_data: newest,
    })
}

/// A consultation of a patient whom the caller may see; for anybody else there is no such consultation.
pub(crate) async fn visible(state: &State, caller: &Caller, id: &str) -> Result<query::Consultation, Problem> {
    let id = ConsultationId::new(id).map_err(|_| Problem::NotFound)?;
    let found = state.consultations.find(state, &id).await?;
    if caller.principal.may(Action::SeePatient(&found.patient_id)) {
        Ok(found)
    } else {
        Err(Problem::NotFound)
    }
}
