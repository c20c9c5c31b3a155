//! Consultations: planned, opened, closed and noted by people, with what was measured meanwhile.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State as Given};
use axum::http::header::LOCATION;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use projections::query::{self, Anomaly};
use schemas::access::{Action, Sight};
use schemas::consultation::{Figures, summary};
use schemas::facts::{
    ConsultationClosed, ConsultationNoted, ConsultationOpened, ConsultationPlanned, ConsultationState,
};
use schemas::ids::{ConsultationId, EventId, Key, PatientId, StaffId};
use schemas::journal::Fact;
use schemas::metric::Metric;
use schemas::time::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use smol_str::SmolStr;
use utoipa::{IntoParams, ToSchema};

use super::input::{Params, Sent, cut, moment, paging, rows, viewed, word};
use crate::auth::Caller;
use crate::command::Done;
use crate::problem::{Body, Problem};
use crate::state::State;
use crate::wire::{self, Reading, finite};

/// Longest note, in characters.
const TEXT: usize = 10_000;

/// A consultation as people have left it.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Head {
    #[schema(value_type = String)]
    id: ConsultationId,
    #[schema(value_type = String)]
    patient_id: PatientId,
    /// Who is to hold it.
    #[schema(value_type = String)]
    practitioner_id: StaffId,
    /// When it is to begin.
    #[schema(value_type = Option<String>, format = DateTime)]
    planned_for: Option<Timestamp>,
    #[schema(value_type = String, format = DateTime)]
    planned_at: Timestamp,
    #[schema(value_type = String)]
    planned_by: SmolStr,
    /// `planned`, `open` or `closed`.
    #[schema(value_type = String)]
    state: ConsultationState,
    #[schema(value_type = Option<String>, format = DateTime)]
    opened_at: Option<Timestamp>,
    #[schema(value_type = Option<String>)]
    opened_by: Option<SmolStr>,
    #[schema(value_type = Option<String>, format = DateTime)]
    closed_at: Option<Timestamp>,
    #[schema(value_type = Option<String>)]
    closed_by: Option<SmolStr>,
    /// Oldest first.
    notes: Vec<Note>,
}

/// A note to a consultation.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Note {
    #[schema(value_type = String)]
    text: SmolStr,
    /// The moment in the patient's data that it is about.
    #[schema(value_type = Option<String>, format = DateTime)]
    at: Option<Timestamp>,
    #[schema(value_type = String, format = DateTime)]
    noted_at: Timestamp,
    #[schema(value_type = String)]
    noted_by: SmolStr,
}

/// A consultation with what was measured in it.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Consultation {
    #[serde(flatten)]
    head: Head,
    /// Figures by metric of what was measured from the opening to the closing, canonical units.
    #[schema(value_type = BTreeMap<String, FiguresOut>)]
    real_time_data: BTreeMap<Metric, FiguresOut>,
    /// 0–100: mean quality × share of the time outside gaps; null before the opening.
    data_quality_score: Option<f64>,
    /// Gaps, refused values and alerts of that time, by when they began.
    anomalies_detected: Vec<AnomalyOut>,
    /// With `seen_at`: that moment.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    seen_at: Option<Timestamp>,
    /// With `seen_at`: the newest reading of each sensor and metric that had been received by then.
    #[serde(skip_serializing_if = "Option::is_none")]
    sensor_data: Option<Vec<Reading>>,
}

/// Figures of one metric.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct FiguresOut {
    count: i64,
    min: Option<f64>,
    max: Option<f64>,
    mean: Option<f64>,
    /// The latest by measured time.
    last: Option<f64>,
}

impl From<Figures> for FiguresOut {
    fn from(figures: Figures) -> Self {
        Self {
            count: figures.count,
            min: finite(figures.min),
            max: finite(figures.max),
            mean: finite(figures.mean),
            last: finite(figures.last),
        }
    }
}

/// Something out of order.
#[derive(Debug, Serialize, ToSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(super) enum AnomalyOut {
    /// A sensor that should have measured did not.
    Gap {
        #[schema(value_type = String, format = DateTime)]
        at: Timestamp,
        #[schema(value_type = String, format = DateTime)]
        to: Timestamp,
        #[schema(value_type = String)]
        metric: Metric,
        #[schema(value_type = String)]
        sensor_id: SmolStr,
    },
    /// Something was sent and refused.
    Refused {
        #[schema(value_type = String, format = DateTime)]
        at: Timestamp,
        #[schema(value_type = Option<String>)]
        sensor_id: Option<SmolStr>,
        /// As in `GET /v1/rejected`.
        code: &'static str,
        #[schema(value_type = Option<String>)]
        field: Option<SmolStr>,
        #[schema(value_type = String)]
        detail: SmolStr,
        #[schema(value_type = String)]
        detail_fr: SmolStr,
    },
    /// An alert that was raised in that time, or was not over when it began.
    Alert {
        #[schema(value_type = String, format = DateTime)]
        at: Timestamp,
        alert: Box<wire::Alert>,
    },
}

impl From<Anomaly> for AnomalyOut {
    fn from(anomaly: Anomaly) -> Self {
        let at = anomaly.at();
        match anomaly {
            Anomaly::Gap(gap) => Self::Gap {
                at,
                to: gap.to,
                metric: gap.metric,
                sensor_id: gap.sensor_id.into(),
            },
            Anomaly::Refused(row) => Self::Refused {
                at,
                sensor_id: row.sensor_id,
                code: row.code.as_str(),
                field: row.field,
                detail: row.detail,
                detail_fr: row.detail_fr,
            },
            Anomaly::Alert(alert) => Self::Alert {
                at,
                alert: Box::new((*alert).into()),
            },
        }
    }
}

impl From<query::Consultation> for Head {
    fn from(it: query::Consultation) -> Self {
        let state = it.state();
        let (opened_at, opened_by) = it.opened.map(|h| (h.at, h.by)).unzip();
        let (closed_at, closed_by) = it.closed.map(|h| (h.at, h.by)).unzip();
        Self {
            id: it.id,
            patient_id: it.patient_id,
            practitioner_id: it.practitioner_id,
            planned_for: it.planned_for,
            planned_at: it.planned.at,
            planned_by: it.planned.by,
            state,
            opened_at,
            opened_by,
            closed_at,
            closed_by,
            notes: it.notes.into_iter().map(Note::from).collect(),
        }
    }
}

impl From<query::Note> for Note {
    fn from(note: query::Note) -> Self {
        Self {
            text: note.text,
            at: note.at,
            noted_at: note.noted.at,
            noted_by: note.noted.by,
        }
    }
}

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
    let patient = ask.patient.as_deref().map(|patient| caller.see(patient)).transpose()?;
    let sight = caller.sight()?;
    let wanted = word("state", ask.state.as_deref(), ConsultationState::parse)?;
    let limit = rows(ask.limit.as_deref(), query::USUAL)?;
    let views = &*state.parts.views;
    let sees = |it: &query::Consultation| {
        let seen = match sight {
            Sight::All => true,
            Sight::Only(own) => own.contains(&it.patient_id),
            Sight::None => false,
        };
        seen && wanted.is_none_or(|wanted| wanted == it.state())
    };
    let page = cut(limit, ask.cursor, sees, async |limit, cursor| {
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
    parts: &[schemas::facts::ConsultationSeries],
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
            seen_at,
            sensor_data: newest,
        });
    };
    let summary = summary(parts, held.from, held.to);
    let anomalies = query::anomalies(&*state.parts.views, &found.patient_id, held, summary.gaps)
        .await
        .map_err(viewed)?;
    let figures = summary.real_time_data.into_iter();
    Ok(Consultation {
        head: found.into(),
        real_time_data: figures.map(|(metric, figures)| (metric, figures.into())).collect(),
        data_quality_score: finite(summary.data_quality_score),
        anomalies_detected: anomalies.into_iter().map(AnomalyOut::from).collect(),
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
    let somebody = PatientId::new("-").map_err(|_| Problem::Internal)?;
    let mut own = caller.principal.patients.iter().chain([&somebody]);
    if !own.any(|patient| caller.principal.may(Action::Consult(patient))) {
        return Err(Problem::Forbidden);
    }
    let fields = sent.fields(&["id", "patient_id", "practitioner_id", "planned_for"])?;
    let patient = needed("patient_id", text(&fields, "patient_id")?)?;
    let patient = caller.see(patient)?;
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

/// Opens a consultation: from now on what is measured is folded into it.
#[utoipa::path(post, path = "/v1/consultations/{consultation_id}/open", tag = "consultations",
    params(("consultation_id" = String, Path)), security(("bearer" = [])), responses((status = 200, body = Done),
    (status = "default", body = Body, content_type = "application/problem+json")))]
pub(super) async fn open(
    Given(state): Given<Arc<State>>,
    caller: Caller,
    Path(id): Path<String>,
    sent: Sent,
) -> Result<Json<Done>, Problem> {
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
    /// At most 10,000 characters.
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

/// A field that is a text; none where it is empty.
fn text<'a>(fields: &'a Map<String, Value>, field: &'static str) -> Result<Option<&'a str>, Problem> {
    match fields.get(field) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.trim()).filter(|text| !text.is_empty())),
        Some(_) => Err(Problem::invalid(field, "not a text", "ce n’est pas un texte")),
    }
}

fn needed<'a>(field: &'static str, value: Option<&'a str>) -> Result<&'a str, Problem> {
    value.ok_or_else(|| Problem::invalid(field, "this field is needed", "ce champ est requis"))
}

fn not_an_id(field: &'static str) -> Problem {
    Problem::invalid(
        field,
        "an id is 1 to 64 characters of A-Z a-z 0-9 . _ : -",
        "un id a de 1 à 64 caractères parmi A-Z a-z 0-9 . _ : -",
    )
}
