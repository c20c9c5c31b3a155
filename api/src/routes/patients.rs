//! Patients: as registered, and as last heard.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State as Given};
use axum::http::HeaderMap;
use axum::response::Response;
use projections::query::{self, MOST, Page, PatientCard, Registered};
use projections::store::{ViewError, ViewStore};
use schemas::access::{Action, Sight};
use schemas::facts::{self, ConsultationState, PatientMerged, Sex, Zone};
use schemas::ids::{Key, PatientId};
use schemas::journal::Fact;
use schemas::registry::{Record, Register, care_team};
use schemas::time::Timestamp;
use serde::Serialize;
use serde_json::Value;
use smol_str::SmolStr;
use utoipa::ToSchema;

use super::assignments;
use super::input::{Params, Sent, cut, needed, paging, rows, viewed};
use super::register::{self, Asked, Changed, Standing};
use crate::auth::Caller;
use crate::command::{self, Done};
use crate::doors::IN_FORCE;
use crate::problem::{Body, Problem};
use crate::state::State;

/// A patient.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Patient {
    #[schema(value_type = String)]
    id: PatientId,
    #[schema(value_type = Option<String>)]
    name: Option<SmolStr>,
    #[schema(value_type = Option<String>, format = Date)]
    birth_date: Option<SmolStr>,
    /// `female`, `male`, `other` or `unknown`.
    #[schema(value_type = Option<String>)]
    sex: Option<Sex>,
    #[schema(value_type = Vec<String>)]
    conditions: Vec<SmolStr>,
    /// `urban`, `semi_urban` or `rural`.
    #[schema(value_type = Option<String>)]
    zone: Option<Zone>,
    /// Ids of practitioners, and `{"id","from","until"}` of those who care for a time.
    #[schema(value_type = Vec<String>)]
    care_team: Vec<Value>,
    #[serde(flatten)]
    standing: Standing,
    /// The registration that stands for this person, where it is another one.
    #[schema(value_type = Option<String>)]
    merged_into: Option<PatientId>,
    /// When something was last heard of them, to the minute.
    #[schema(value_type = Option<String>, format = DateTime)]
    last_heard: Option<Timestamp>,
}

/// Fields that are heard, not registered.
const HEARD: [&str; 2] = ["last_heard", "merged_into"];

impl From<PatientCard> for Patient {
    fn from(card: PatientCard) -> Self {
        let standing = Standing::from(card.registered.as_ref());
        let it = match card.registered.map(|r| r.record) {
            Some(Record::Patient(it)) => it,
            _ => facts::Patient::default(),
        };
        Self {
            care_team: care_team(&it),
            id: card.id,
            name: it.name,
            birth_date: it.birth_date,
            sex: it.sex,
            conditions: it.conditions,
            zone: it.zone,
            standing,
            merged_into: card.merged_into,
            last_heard: card.heard.map(|row| row.last_heard),
        }
    }
}

/// Part of the list of patients.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Patients {
    patients: Vec<Patient>,
    next_cursor: Option<String>,
}

/// Patients, by id, cut to those the caller may see; each person once, under the registration that stands for them. A page may be short although the list goes on.
#[utoipa::path(get, path = "/v1/patients", tag = "patients", params(Asked), security(("bearer" = [])),
    responses((status = 200, body = Patients), (status = "default", body = Body, content_type = "application/problem+json")))]
pub(super) async fn list(
    Given(state): Given<Arc<State>>,
    caller: Caller,
    Params(ask): Params<Asked>,
) -> Result<Json<Patients>, Problem> {
    let limit = rows(ask.limit.as_deref(), query::USUAL)?;
    let views = &*state.parts.views;
    let wanted = |card: &PatientCard| card.merged_into.is_none() && ask.wants(card.registered.as_ref());
    let page = match caller.sight()? {
        Sight::All => {
            let list = (&*state.parts.keys, "patients");
            cut(
                list,
                limit,
                ask.cursor.as_deref(),
                wanted,
                async |limit, cursor| match &ask.q {
                    None => query::patient_cards(views, ask.prefix(), paging(limit, cursor.as_deref())).await,
                    Some(q) => searched(views, q, limit, cursor).await,
                },
            )
            .await?
        }
        Sight::Only(own) => few(views, &own, limit, &ask).await?,
        Sight::None => few(views, &[], limit, &ask).await?,
    };
    Ok(Json(Patients {
        patients: page.items.into_iter().map(Patient::from).collect(),
        next_cursor: page.next_cursor,
    }))
}

async fn searched(
    views: &dyn ViewStore,
    q: &str,
    limit: usize,
    cursor: Option<String>,
) -> Result<Page<PatientCard>, ViewError> {
    let by_id =
        async |limit, cursor: Option<String>| query::patient_cards(views, q, paging(limit, cursor.as_deref())).await;
    let by_name = async |limit, cursor: Option<String>| {
        let page = query::named(views, Register::Patients, q, paging(limit, cursor.as_deref())).await?;
        let mut items = Vec::with_capacity(page.items.len());
        for Registered { id, .. } in page.items {
            if let Ok(id) = PatientId::new(&id) {
                items.extend(query::patient_card(views, &id).await?);
            }
        }
        Ok(Page {
            items,
            next_cursor: page.next_cursor,
        })
    };
    register::search(limit, cursor, by_id, by_name).await
}

/// The same for somebody who sees a few: they are asked for one by one. The cursor is the last id.
async fn few(
    views: &dyn ViewStore,
    own: &[PatientId],
    limit: usize,
    ask: &Asked,
) -> Result<Page<PatientCard>, Problem> {
    let begins = |id: &PatientId| ask.q.is_some() || id.as_str().starts_with(ask.prefix());
    let after = |id: &PatientId| ask.cursor.as_deref().is_none_or(|after| id.as_str() > after);
    let mut own: Vec<_> = own.iter().filter(|id| begins(id) && after(id)).collect();
    own.sort_unstable();
    own.dedup();
    let mut items: Vec<PatientCard> = Vec::new();
    for id in own {
        if items.len() == limit {
            let next_cursor = items.last().map(|card| card.id.to_string());
            return Ok(Page { items, next_cursor });
        }
        let card = query::patient_card(views, id).await.map_err(viewed)?;
        let meant = |card: &PatientCard| {
            ask.q.as_deref().is_none_or(|q| {
                card.id.as_str().starts_with(q) || card.registered.as_ref().is_some_and(|r| r.is_meant(q))
            })
        };
        let wanted =
            |card: &PatientCard| card.merged_into.is_none() && ask.wants(card.registered.as_ref()) && meant(card);
        items.extend(card.filter(wanted));
    }
    Ok(Page {
        items,
        next_cursor: None,
    })
}

/// One patient, also one whose registration has ended. The `ETag` is the registration's revision.
#[utoipa::path(get, path = "/v1/patients/{patient_id}", tag = "patients", params(("patient_id" = String, Path)),
    security(("bearer" = [])), responses((status = 200, body = Patient),
    (status = "default", body = Body, content_type = "application/problem+json")))]
pub(super) async fn one(
    Given(state): Given<Arc<State>>,
    caller: Caller,
    Path(patient): Path<String>,
) -> Result<Response, Problem> {
    let patient = caller.see(&patient)?;
    let views = &*state.parts.views;
    let card = query::patient_card(views, &patient).await.map_err(viewed)?;
    let card = card.ok_or(Problem::NotFound)?;
    let registered = card.registered.clone();
    Ok(register::tagged(Patient::from(card), registered.as_ref()))
}

/// Registers a patient. The body has an `id` and any of `name`, `birth_date`, `sex`, `conditions`, `zone`, `care_team`.
#[utoipa::path(post, path = "/v1/patients", tag = "patients", request_body(content = Patient),
    security(("bearer" = [])), responses((status = 201, body = Changed),
    (status = "default", body = Body, content_type = "application/problem+json")))]
pub(super) async fn create(Given(state): Given<Arc<State>>, caller: Caller, sent: Sent) -> Result<Response, Problem> {
    register::create(&state, &caller, Register::Patients, sent, &HEARD).await
}

/// Registers the whole anew: a field that is left out is registered no more. With `If-Match` only over that revision,
/// with `If-None-Match: *` only for the first time.
#[utoipa::path(put, path = "/v1/patients/{patient_id}", tag = "patients", params(("patient_id" = String, Path)),
    request_body(content = Patient), security(("bearer" = [])), responses((status = 200, body = Changed),
    (status = "default", body = Body, content_type = "application/problem+json")))]
pub(super) async fn replace(
    Given(state): Given<Arc<State>>,
    caller: Caller,
    Path(patient): Path<String>,
    headers: HeaderMap,
    sent: Sent,
) -> Result<Response, Problem> {
    let patient = caller.see(&patient)?;
    caller.may(Action::Register)?;
    register::replace(&state, &caller, Key::Patient(patient), (&headers, sent), &HEARD).await
}

/// Ends the registration; what was recorded stays. Not while the patient wears a sensor (409, `wears_sensors`).
#[utoipa::path(delete, path = "/v1/patients/{patient_id}", tag = "patients", params(("patient_id" = String, Path)),
    security(("bearer" = [])), responses((status = 200, body = Changed),
    (status = "default", body = Body, content_type = "application/problem+json")))]
pub(super) async fn end(
    Given(state): Given<Arc<State>>,
    caller: Caller,
    Path(patient): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let patient = caller.see(&patient)?;
    caller.may(Action::Register)?;
    // What was said a moment ago counts.
    assignments::all_shown(&state).await?;
    let views = &*state.parts.views;
    if !query::worn_now(views, &patient, state.now())
        .await
        .map_err(viewed)?
        .is_empty()
    {
        return Err(Problem::WearsSensors);
    }
    register::end(&state, &caller, Key::Patient(patient), &headers).await
}

/// The registration that stands for a person.
pub(crate) async fn person(state: &State, patient: &PatientId) -> Result<PatientId, Problem> {
    query::person(&*state.parts.views, patient).await.map_err(viewed)
}

/// Which registration stands for the person.
#[derive(ToSchema)]
#[expect(
    dead_code,
    reason = "for the OpenAPI document; read by `merge`, which names what is wrong"
)]
pub(super) struct Merge {
    /// Null: this one, again.
    into: Option<String>,
}

/// Says that this registration and another are of one person, whom the other stands for from now on: what is asked of either
/// is answered of both, what comes for this one is the other's, and so are the sensors that this one wears. `null` takes it back; what was recorded for the other
/// meanwhile stays there. Not while a consultation of this one is open (409, `consultation_open`), and not where limits are set
/// for this one and not the same for the other (409, `other_thresholds`).
#[utoipa::path(post, path = "/v1/patients/{patient_id}/merge", tag = "patients",
    params(("patient_id" = String, Path)), request_body(content = Merge), security(("bearer" = [])),
    responses((status = 200, body = Done), (status = "default", body = Body, content_type = "application/problem+json")))]
pub(super) async fn merge(
    Given(state): Given<Arc<State>>,
    caller: Caller,
    Path(patient): Path<String>,
    sent: Sent,
) -> Result<Json<Done>, Problem> {
    let patient = caller.see(&patient)?;
    caller.may(Action::Register)?;
    let fields = sent.fields(&["into"])?;
    let views = &*state.parts.views;
    // What was said a moment ago counts.
    assignments::all_shown(&state).await?;
    let (into, stands) = match needed("into", fields.get("into"))? {
        Value::Null => (None, None),
        Value::String(named) => {
            let stands = assignments::known(&state, "into", named).await?;
            let into = PatientId::new(named).map_err(|_| assignments::no_patient("into"))?;
            let known_as = query::also_known_as(views, patient.as_str()).await.map_err(viewed)?;
            if into == patient || known_as.iter().any(|id| id == into.as_str()) {
                let detail = "it is, or was merged into, this very one";
                return Err(Problem::invalid(
                    "into",
                    detail,
                    "c’est celui-ci même, ou il y a été réuni",
                ));
            }
            (Some(into), Some(stands))
        }
        _ => return Err(assignments::no_patient("into")),
    };
    query::patient_card(views, &patient)
        .await
        .map_err(viewed)?
        .ok_or(Problem::NotFound)?;
    if let Some(person) = &stands {
        nothing_lost(&state, &patient, person).await?;
    }
    let before = query::merged_into(views, &patient).await.map_err(viewed)?;
    let by = caller.principal.subject.clone();
    let fact = Fact::PatientMerged(PatientMerged {
        into: into.clone(),
        before,
        by,
    });
    let (mut done, _) = command::recorded(&state, Key::Patient(patient.clone()), fact).await?;
    let known = state.parts.doors.know_merged(&patient, into.as_ref());
    if tokio::time::timeout(IN_FORCE, known).await.is_err() {
        tracing::warn!(%patient, "a merging is recorded, but has not reached the doors yet");
    }
    if let Some(person) = stands {
        // From now on they are worn under the registration that stands: what they measure is judged together.
        let worn = query::worn_now(views, &patient, state.now()).await.map_err(viewed)?;
        for sensor in worn {
            done = assignments::give(&state, &caller, sensor, Some(person.clone()), state.now()).await?;
        }
    }
    Ok(Json(done))
}

/// Whether a person may stand for a patient without anything falling silent: a consultation is held of a registration, and
/// limits hold for one.
async fn nothing_lost(state: &State, patient: &PatientId, person: &PatientId) -> Result<(), Problem> {
    let views = &*state.parts.views;
    let set = async |of: &PatientId| {
        let set = query::thresholds(views, of).await.map_err(viewed)?;
        Ok::<_, Problem>(set.map(|set| set.thresholds).unwrap_or_default())
    };
    let own = set(patient).await?;
    let theirs = if own.is_empty() { Vec::new() } else { set(person).await? };
    if !own.iter().all(|limits| theirs.contains(limits)) {
        return Err(Problem::OtherThresholds);
    }
    let mut cursor: Option<String> = None;
    loop {
        let page = query::consultations(views, patient, paging(MOST, cursor.as_deref()));
        let page = page.await.map_err(viewed)?;
        let open = |it: &query::Consultation| it.state() == ConsultationState::Open && it.patient_id != *person;
        if page.items.iter().any(open) {
            return Err(Problem::ConsultationOpen);
        }
        cursor = page.next_cursor;
        if cursor.is_none() {
            return Ok(());
        }
    }
}

/// A patient whom the caller may see, and who is registered or of whom something was heard; for anybody else there is no
/// such patient.
pub(super) async fn seen(state: &State, caller: &Caller, patient: &str) -> Result<(PatientId, PatientCard), Problem> {
    let patient = PatientId::new(patient).map_err(|_| Problem::NotFound)?;
    let patient = caller.see(person(state, &patient).await?.as_str())?;
    let card = query::patient_card(&*state.parts.views, &patient)
        .await
        .map_err(viewed)?;
    card.map(|card| (patient, card)).ok_or(Problem::NotFound)
}
