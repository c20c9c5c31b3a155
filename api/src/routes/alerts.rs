//! Alerts, and what people do about them.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State as Given};
use projections::query::{self, AlertFilter};
use schemas::access::{Action, Sight};
use schemas::facts::{AlertAnswered, AlertState, Answer, Severity};
use schemas::ids::{AlertId, Key};
use schemas::journal::Fact;
use schemas::time::{Span, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use smol_str::SmolStr;
use utoipa::{IntoParams, ToSchema};

use super::input::{Params, Sent, cut, moment, paging, rows, viewed, word};
use super::patients::seen;
use crate::auth::Caller;
use crate::command::{Done, record};
use crate::problem::{Body, Problem};
use crate::read_after::alerts_shown;
use crate::state::State;
use crate::wire::{Alert, AlertEvent, finite, key_patient};

/// Longest comment or reason, in characters.
const TEXT: usize = 2_000;
/// Longest silence: whoever wants more asks again, having looked again.
const LONGEST_SNOOZE: Span = Span::hours(24);

/// Part of a list of alerts.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Alerts {
    alerts: Vec<Alert>,
    next_cursor: Option<String>,
}

impl From<query::Alert> for Alert {
    fn from(row: query::Alert) -> Self {
        Self {
            id: row.id,
            patient_id: key_patient(&row.patient_id),
            sensor_id: row.sensor_id.map(SmolStr::from),
            metric: row.metric,
            rule: row.rule,
            class: row.class,
            severity: row.severity,
            state: row.state,
            retrospective: row.retrospective,
            message: row.message,
            message_fr: row.message_fr,
            value: row.value.and_then(finite),
            limit: row.limit.and_then(finite),
            started_at: row.started_at,
            raised_at: row.raised_at,
            acknowledged_at: row.acknowledged_at,
            acknowledged_by: row.acknowledged_by,
            resolved_at: row.resolved_at,
            history: row.history.into_iter().map(AlertEvent::from).collect(),
        }
    }
}

impl From<query::AlertEvent> for AlertEvent {
    fn from(event: query::AlertEvent) -> Self {
        Self {
            change: event.change,
            at: event.at,
            severity: event.severity,
            state: event.state,
            by: event.by,
            text: event.text,
            until: event.until,
        }
    }
}

/// Which alerts.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct WhichAlerts {
    /// `open`, `acknowledged`, `snoozed`, `resolved` or `withdrawn`.
    state: Option<String>,
    /// `CRITICAL`, `WARNING` or `INFO`.
    severity: Option<String>,
    /// Rows in the page, 1 to 10,000; 100 where nobody says.
    limit: Option<String>,
    /// The `next_cursor` of the page before.
    cursor: Option<String>,
}

impl WhichAlerts {
    fn filter(&self) -> Result<AlertFilter, Problem> {
        Ok(AlertFilter {
            state: word("state", self.state.as_deref(), AlertState::parse)?,
            severity: word("severity", self.severity.as_deref(), Severity::parse)?,
        })
    }
}

/// A patient's alerts, the last raised first.
#[utoipa::path(get, path = "/v1/patients/{patient_id}/alerts", tag = "alerts",
    params(("patient_id" = String, Path), WhichAlerts), security(("bearer" = [])),
    responses((status = 200, body = Alerts), (status = "default", body = Body, content_type = "application/problem+json")))]
pub(super) async fn of_patient(
    Given(state): Given<Arc<State>>,
    caller: Caller,
    Path(patient): Path<String>,
    Params(ask): Params<WhichAlerts>,
) -> Result<Json<Alerts>, Problem> {
    let (patient, _) = seen(&state, &caller, &patient).await?;
    let paging = paging(rows(ask.limit.as_deref(), query::USUAL)?, ask.cursor.as_deref());
    let page = query::alerts(&*state.parts.views, patient.as_str(), ask.filter()?, paging)
        .await
        .map_err(viewed)?;
    Ok(Json(Alerts {
        alerts: page.items.into_iter().map(Alert::from).collect(),
        next_cursor: page.next_cursor,
    }))
}

/// Alerts of everybody whom the caller may see, the last raised first. A page may be short although the list goes on.
#[utoipa::path(get, path = "/v1/alerts", tag = "alerts", params(WhichAlerts), security(("bearer" = [])),
    responses((status = 200, body = Alerts), (status = "default", body = Body, content_type = "application/problem+json")))]
pub(super) async fn list(
    Given(state): Given<Arc<State>>,
    caller: Caller,
    Params(ask): Params<WhichAlerts>,
) -> Result<Json<Alerts>, Problem> {
    let sight = caller.sight()?;
    let filter = ask.filter()?;
    let limit = rows(ask.limit.as_deref(), query::USUAL)?;
    let views = &*state.parts.views;
    let sees = |alert: &query::Alert| match &sight {
        Sight::All => true,
        Sight::Only(own) => own.iter().any(|p| p.as_str() == alert.patient_id),
        Sight::None => false,
    };
    let list = (&*state.parts.keys, "alerts");
    let page = cut(list, limit, ask.cursor.as_deref(), sees, async |limit, cursor| {
        query::alerts_all(views, filter, paging(limit, cursor.as_deref())).await
    })
    .await?;
    Ok(Json(Alerts {
        alerts: page.items.into_iter().map(Alert::from).collect(),
        next_cursor: page.next_cursor,
    }))
}

/// One alert, with what happened to it.
#[utoipa::path(get, path = "/v1/alerts/{alert_id}", tag = "alerts", params(("alert_id" = String, Path)),
    security(("bearer" = [])), responses((status = 200, body = Alert),
    (status = "default", body = Body, content_type = "application/problem+json")))]
pub(super) async fn one(
    Given(state): Given<Arc<State>>,
    caller: Caller,
    Path(alert): Path<String>,
) -> Result<Json<Alert>, Problem> {
    let id: AlertId = alert.parse().map_err(|_| Problem::NotFound)?;
    let views = &*state.parts.views;
    let find = async || query::alert_with_history(views, id).await.map_err(viewed);
    let row = match seen_alert(&caller, find().await?) {
        Err(Problem::NotFound) => {
            alerts_shown(&state).await?;
            seen_alert(&caller, find().await?)?
        }
        found => found?,
    };
    Ok(Json(row.1.into()))
}

/// An alert where the caller may see it, and whom it is about. Of what is not found the views are asked again a little later:
/// they may not show it yet. What the caller may not see is no different, so that the time of an answer does not tell.
fn seen_alert(caller: &Caller, row: Option<query::Alert>) -> Result<(Key, query::Alert), Problem> {
    let row = row.ok_or(Problem::NotFound)?;
    Ok((visible(caller, &row)?, row))
}

/// Whom an alert is about, for callers who may see it; for others there is no such alert.
fn visible(caller: &Caller, alert: &query::Alert) -> Result<Key, Problem> {
    let key = Key::parse(&alert.patient_id).map_err(|_| Problem::Internal)?;
    let may = match &key {
        Key::Patient(patient) => caller.principal.may(Action::SeePatient(patient)),
        _ => caller.principal.may(Action::SeeAll),
    };
    if may { Ok(key) } else { Err(Problem::NotFound) }
}

/// Takes note of an alert and responsibility for it.
#[utoipa::path(post, path = "/v1/alerts/{alert_id}/acknowledge", tag = "alerts", params(("alert_id" = String, Path)),
    request_body(content = Option<Saying>), security(("bearer" = [])), responses((status = 200, body = Done),
    (status = "default", body = Body, content_type = "application/problem+json")))]
pub(super) async fn acknowledge(
    Given(state): Given<Arc<State>>,
    caller: Caller,
    Path(alert): Path<String>,
    sent: Sent,
) -> Result<Json<Done>, Problem> {
    answer(&state, &caller, &alert, Answer::Acknowledge, sent).await
}

/// Asks for silence until a moment, at most a day ahead, with a reason.
#[utoipa::path(post, path = "/v1/alerts/{alert_id}/snooze", tag = "alerts", params(("alert_id" = String, Path)),
    request_body(content = Silence), security(("bearer" = [])), responses((status = 200, body = Done),
    (status = "default", body = Body, content_type = "application/problem+json")))]
pub(super) async fn snooze(
    Given(state): Given<Arc<State>>,
    caller: Caller,
    Path(alert): Path<String>,
    sent: Sent,
) -> Result<Json<Done>, Problem> {
    answer(&state, &caller, &alert, Answer::Snooze, sent).await
}

/// Says something about an alert.
#[utoipa::path(post, path = "/v1/alerts/{alert_id}/comment", tag = "alerts", params(("alert_id" = String, Path)),
    request_body(content = Saying), security(("bearer" = [])), responses((status = 200, body = Done),
    (status = "default", body = Body, content_type = "application/problem+json")))]
pub(super) async fn comment(
    Given(state): Given<Arc<State>>,
    caller: Caller,
    Path(alert): Path<String>,
    sent: Sent,
) -> Result<Json<Done>, Problem> {
    answer(&state, &caller, &alert, Answer::Comment, sent).await
}

/// Ends an alert.
#[utoipa::path(post, path = "/v1/alerts/{alert_id}/resolve", tag = "alerts", params(("alert_id" = String, Path)),
    request_body(content = Option<Saying>), security(("bearer" = [])), responses((status = 200, body = Done),
    (status = "default", body = Body, content_type = "application/problem+json")))]
pub(super) async fn resolve(
    Given(state): Given<Arc<State>>,
    caller: Caller,
    Path(alert): Path<String>,
    sent: Sent,
) -> Result<Json<Done>, Problem> {
    answer(&state, &caller, &alert, Answer::Resolve, sent).await
}

/// What somebody says about an alert.
#[derive(ToSchema)]
#[expect(
    dead_code,
    reason = "for the OpenAPI document; read by `what`, which names what is wrong"
)]
struct Saying {
    /// At most 2,000 characters.
    text: Option<String>,
}

/// A silence asked for.
#[derive(ToSchema)]
#[expect(
    dead_code,
    reason = "for the OpenAPI document; read by `what`, which names what is wrong"
)]
struct Silence {
    /// The reason, at most 2,000 characters.
    text: String,
    /// RFC 3339, at most a day ahead.
    #[schema(value_type = String, format = DateTime)]
    until: Timestamp,
}

async fn answer(
    state: &State,
    caller: &Caller,
    alert: &str,
    answer: Answer,
    sent: Sent,
) -> Result<Json<Done>, Problem> {
    let id: AlertId = alert.parse().map_err(|_| Problem::NotFound)?;
    let views = &*state.parts.views;
    let find = async || query::alert(views, id).await.map_err(viewed);
    let (key, row) = match seen_alert(caller, find().await?) {
        Err(Problem::NotFound) => {
            alerts_shown(state).await?;
            seen_alert(caller, find().await?)?
        }
        found => found?,
    };
    caller.may(match &key {
        Key::Patient(patient) => Action::AnswerAlert(patient),
        _ => Action::AnswerHouseAlert,
    })?;
    let (text, until) = what(answer, sent, state.now())?;
    let over = matches!(row.state, AlertState::Resolved | AlertState::Withdrawn);
    if over && answer != Answer::Comment {
        return Err(Problem::Conflict {
            detail: "This alert is over.",
            detail_fr: "Cette alerte est terminée.",
        });
    }
    let fact = AlertAnswered {
        alert_id: id,
        subject: row.subject,
        answer,
        by: caller.principal.subject.clone(),
        text,
        until,
    };
    record(state, key, Fact::AlertAnswered(fact)).await.map(Json)
}

/// Text and end of an answer, as far as it needs them.
fn what(answer: Answer, sent: Sent, now: Timestamp) -> Result<(Option<SmolStr>, Option<Timestamp>), Problem> {
    let snooze = answer == Answer::Snooze;
    let known: &[&str] = if snooze { &["text", "until"] } else { &["text"] };
    let fields = sent.fields(known)?;
    let text = |field: &'static str| match fields.get(field) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.trim()).filter(|t| !t.is_empty())),
        Some(_) => Err(Problem::invalid(field, "not a text", "ce n’est pas un texte")),
    };
    let said = text("text")?;
    if said.is_some_and(|t| t.chars().count() > TEXT) {
        return Err(Problem::invalid(
            "text",
            "longer than 2000 characters",
            "plus long que 2000 caractères",
        ));
    }
    if said.is_none() && (snooze || answer == Answer::Comment) {
        return Err(Problem::invalid("text", "this field is needed", "ce champ est requis"));
    }
    let until = if snooze { moment("until", text("until")?)? } else { None };
    if snooze && until.is_none_or(|until| until <= now || until > now + LONGEST_SNOOZE) {
        return Err(Problem::invalid(
            "until",
            "a moment ahead of now, by at most 24 hours",
            "un instant à venir, dans les 24 heures au plus",
        ));
    }
    Ok((said.map(SmolStr::new), until))
}
