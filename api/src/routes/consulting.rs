//! What people do with consultations: plan, open, close, write notes.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State as Given};
use axum::http::header::LOCATION;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use projections::query;
use schemas::access::Action;
use schemas::facts::{
    ConsultationClosed, ConsultationNoted, ConsultationOpened, ConsultationPlanned, ConsultationState,
};
use schemas::ids::{ConsultationId, EventId, Key, StaffId};
use schemas::journal::Fact;
use schemas::time::Timestamp;
use serde::Serialize;
use serde_json::{Map, Value};
use smol_str::SmolStr;
use utoipa::ToSchema;

use super::consultations::visible;
use super::input::{Sent, moment, needed, text};
use super::patients::person;
use crate::auth::Caller;
use crate::command::Done;
use crate::problem::{Body, Problem};
use crate::state::State;

/// Longest note, in characters.
const TEXT: usize = 10_000;
/// Notes of one consultation: with what else happens to it they are read whole, each time.
const NOTES: usize = 1_000;

/// What a planned consultation is answered with.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Planned {
    #[schema(value_type = String)]
    id: ConsultationId,
    /// Where it stands in the journal: send it as `Fajma-Read-After` to see what came of it.
    #[schema(example = "journal:3:4711")]
    position: String,
}

/// A consultation to be planned.
#[derive(ToSchema)]
#[expect(
    dead_code,
    reason = "for the OpenAPI document; read by `plan`, which names what is wrong"
)]
struct Plan {
    /// As the platform around us names it; given by us where it is left out.
    id: Option<String>,
    patient_id: String,
    practitioner_id: String,
    /// RFC 3339.
    #[schema(value_type = Option<String>, format = DateTime)]
    planned_for: Option<Timestamp>,
}

/// Plans a consultation of a patient.
#[utoipa::path(post, path = "/v1/consultations", tag = "consultations", request_body(content = Plan),
    security(("bearer" = [])), responses((status = 201, body = Planned),
    (status = "default", body = Body, content_type = "application/problem+json")))]
pub(super) async fn plan(Given(state): Given<Arc<State>>, caller: Caller, sent: Sent) -> Result<Response, Problem> {
    if !caller.principal.consults() {
        return Err(Problem::Forbidden);
    }
    let fields = sent.fields(&["id", "patient_id", "practitioner_id", "planned_for"])?;
    let patient = needed("patient_id", text(&fields, "patient_id")?)?;
    let patient = person(&state, &caller.see(patient)?).await?;
    caller.may(Action::Consult(&patient))?;
    let practitioner = needed("practitioner_id", text(&fields, "practitioner_id")?)?;
    let practitioner_id = StaffId::new(practitioner).map_err(|_| not_an_id("practitioner_id"))?;
    let planned_for = moment("planned_for", text(&fields, "planned_for")?)?;
    let id = match text(&fields, "id")? {
        Some(id) => ConsultationId::new(id).map_err(|_| not_an_id("id"))?,
        None => new_id()?,
    };
    let fact = ConsultationPlanned {
        consultation_id: id.clone(),
        practitioner_id,
        planned_for,
        by: caller.principal.subject.clone(),
    };
    let key = Key::Patient(patient);
    let done = state
        .consultations
        .plan(&state, &id, key, Fact::ConsultationPlanned(fact))
        .await?;
    let location = HeaderValue::from_str(&format!("/v1/consultations/{id}")).map_err(|_| Problem::Internal)?;
    let planned = Planned {
        id,
        position: done.position,
    };
    Ok((StatusCode::CREATED, [(LOCATION, location)], Json(planned)).into_response())
}

/// An id that nobody can guess.
fn new_id() -> Result<ConsultationId, Problem> {
    let mut bytes = [0; 16];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| Problem::Unavailable)?;
    let id = EventId::of("fajma.consultation", &[&bytes]).to_string();
    ConsultationId::new(&id).map_err(|_| Problem::Internal)
}

/// Opens a consultation: from now on what is measured is folded into it. One of a registration that was merged since it was
/// planned is not opened (409, `merged`): nothing comes under it.
#[utoipa::path(post, path = "/v1/consultations/{consultation_id}/open", tag = "consultations",
    params(("consultation_id" = String, Path)), security(("bearer" = [])), responses((status = 200, body = Done),
    (status = "default", body = Body, content_type = "application/problem+json")))]
pub(super) async fn open(
    Given(state): Given<Arc<State>>,
    caller: Caller,
    Path(id): Path<String>,
    sent: Sent,
) -> Result<Json<Done>, Problem> {
    let planned = visible(&state, &caller, &id).await?;
    caller.may(Action::Consult(&planned.patient_id))?;
    if planned.opened.is_none() && person(&state, &planned.patient_id).await? != planned.patient_id {
        return Err(Problem::Merged);
    }
    change(&state, &caller, &id, sent, &[], |it, _, by| match it.state() {
        ConsultationState::Planned => Ok(Fact::ConsultationOpened(ConsultationOpened {
            consultation_id: it.id.clone(),
            by,
        })),
        ConsultationState::Open => Err(Problem::Conflict {
            detail: "This consultation is open already.",
            detail_fr: "Cette consultation est déjà ouverte.",
        }),
        ConsultationState::Closed => Err(Problem::Conflict {
            detail: "This consultation is closed: plan another one.",
            detail_fr: "Cette consultation est close : prévoyez-en une autre.",
        }),
    })
    .await
}

/// Closes a consultation. What was measured before and comes late is still folded into it.
#[utoipa::path(post, path = "/v1/consultations/{consultation_id}/close", tag = "consultations",
    params(("consultation_id" = String, Path)), security(("bearer" = [])), responses((status = 200, body = Done),
    (status = "default", body = Body, content_type = "application/problem+json")))]
pub(super) async fn close(
    Given(state): Given<Arc<State>>,
    caller: Caller,
    Path(id): Path<String>,
    sent: Sent,
) -> Result<Json<Done>, Problem> {
    change(&state, &caller, &id, sent, &[], |it, _, by| {
        match (&it.opened, &it.closed) {
            (Some(opened), None) => Ok(Fact::ConsultationClosed(ConsultationClosed {
                consultation_id: it.id.clone(),
                opened_at: opened.at,
                by,
            })),
            (None, _) => Err(Problem::Conflict {
                detail: "This consultation has not been opened.",
                detail_fr: "Cette consultation n’a pas été ouverte.",
            }),
            (_, Some(_)) => Err(Problem::Conflict {
                detail: "This consultation is closed already.",
                detail_fr: "Cette consultation est déjà close.",
            }),
        }
    })
    .await
}

/// A note to be written.
#[derive(ToSchema)]
#[expect(
    dead_code,
    reason = "for the OpenAPI document; read by `note`, which names what is wrong"
)]
struct Writing {
    /// At most 10,000 characters; at most 1,000 notes of one consultation.
    text: String,
    /// RFC 3339: the moment in the patient's data that it is about.
    #[schema(value_type = Option<String>, format = DateTime)]
    at: Option<Timestamp>,
}

/// Writes a note to a consultation, before, while or after it is held; with `at`, about a moment in the data.
#[utoipa::path(post, path = "/v1/consultations/{consultation_id}/notes", tag = "consultations",
    params(("consultation_id" = String, Path)), request_body(content = Writing), security(("bearer" = [])),
    responses((status = 200, body = Done), (status = "default", body = Body, content_type = "application/problem+json")))]
pub(super) async fn note(
    Given(state): Given<Arc<State>>,
    caller: Caller,
    Path(id): Path<String>,
    sent: Sent,
) -> Result<Json<Done>, Problem> {
    change(&state, &caller, &id, sent, &["text", "at"], |it, fields, by| {
        let said = needed("text", text(fields, "text")?)?;
        if said.chars().count() > TEXT {
            return Err(Problem::invalid(
                "text",
                format!("longer than {TEXT} characters"),
                format!("plus long que {TEXT} caractères"),
            ));
        }
        if it.notes.len() >= NOTES {
            return Err(Problem::Conflict {
                detail: "This consultation has 1,000 notes: no more are taken.",
                detail_fr: "Cette consultation a 1 000 notes : il n’en est plus pris.",
            });
        }
        Ok(Fact::ConsultationNoted(ConsultationNoted {
            consultation_id: it.id.clone(),
            text: SmolStr::new(said),
            at: moment("at", text(fields, "at")?)?,
            by,
        }))
    })
    .await
}

/// Records what `decide` makes of the consultation as it is, for callers who may.
async fn change(
    state: &State,
    caller: &Caller,
    id: &str,
    sent: Sent,
    known: &[&str],
    decide: impl FnOnce(&query::Consultation, &Map<String, Value>, SmolStr) -> Result<Fact, Problem> + Send,
) -> Result<Json<Done>, Problem> {
    let found = visible(state, caller, id).await?;
    caller.may(Action::Consult(&found.patient_id))?;
    let fields = sent.fields(known)?;
    let by = caller.principal.subject.clone();
    let decide = |it: &query::Consultation| decide(it, &fields, by);
    state.consultations.change(state, &found.id, decide).await.map(Json)
}

fn not_an_id(field: &'static str) -> Problem {
    Problem::invalid(
        field,
        "an id is 1 to 64 characters of A-Z a-z 0-9 . _ : -",
        "un id a de 1 à 64 caractères parmi A-Z a-z 0-9 . _ : -",
    )
}
