//! What the registers of patients, practitioners and sensors have in common: how they are changed and searched.

use std::future::Future;

use axum::Json;
use axum::http::header::{ETAG, IF_MATCH, IF_NONE_MATCH, LOCATION};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use projections::query::{Page, Registered};
use projections::store::ViewError;
use schemas::access::Action;
use schemas::ids::Key;
use schemas::registry::{Record, Register};
use schemas::time::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use smol_str::SmolStr;
use utoipa::{IntoParams, ToSchema};

use super::input::Sent;
use crate::auth::Caller;
use crate::doors::{IN_FORCE, SaidOf};
use crate::problem::Problem;
use crate::registry::{Condition, Wish, key_in};
use crate::state::State;

/// Which part of a register.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    /// Ids that begin like this.
    pub(super) prefix: Option<String>,
    /// Ids that begin like this, then names with a word that does, whatever its case and accents.
    pub(super) q: Option<String>,
    /// `true`: those whose registration has ended too.
    pub(super) ended: Option<bool>,
    /// Rows in the page, 1 to 10,000; 100 where nobody says.
    pub(super) limit: Option<String>,
    /// The `next_cursor` of the page before.
    pub(super) cursor: Option<String>,
}

impl Asked {
    /// What ids begin with.
    pub(super) fn prefix(&self) -> &str {
        self.q.as_deref().or(self.prefix.as_deref()).unwrap_or_default()
    }

    /// Whether a registration is asked for, or the lack of one.
    pub(super) fn wants(&self, registered: Option<&Registered>) -> bool {
        self.ended.unwrap_or(false) || !registered.is_some_and(|r| r.ended)
    }
}

/// What a change of a register answers.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Changed {
    #[schema(value_type = String)]
    id: SmolStr,
    /// The revision it has now; also the `ETag`: send it as `If-Match` with the next change.
    revision: i32,
    /// Where it stands in the journal: send it as `Fajma-Read-After` to see what came of it.
    #[schema(example = "journal:3:4711")]
    position: String,
}

/// How a registration came to be.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Standing {
    /// Whether it was ever registered; else something was heard.
    registered: bool,
    /// Counted up by each change.
    revision: Option<i32>,
    /// Whether the registration has ended.
    ended: bool,
    /// Who registered it like this.
    #[schema(value_type = Option<String>)]
    recorded_by: Option<SmolStr>,
    /// Since when.
    #[schema(value_type = Option<String>, format = DateTime)]
    recorded_at: Option<Timestamp>,
}

impl From<Option<&Registered>> for Standing {
    fn from(registered: Option<&Registered>) -> Self {
        Self {
            registered: registered.is_some(),
            revision: registered.map(|r| r.revision),
            ended: registered.is_some_and(|r| r.ended),
            recorded_by: registered.map(|r| r.by.clone()),
            recorded_at: registered.map(|r| r.since),
        }
    }
}

/// Fields of an answer that say how it came to be; sent back with a change, they are passed over.
const TOLD: [&str; 5] = ["registered", "revision", "ended", "recorded_by", "recorded_at"];

/// One registration with its `ETag`.
pub(super) fn tagged<T: Serialize>(body: T, registered: Option<&Registered>) -> Response {
    let mut response = Json(body).into_response();
    if let Some(registered) = registered {
        response.headers_mut().insert(ETAG, tag(registered.revision));
    }
    response
}

fn tag(revision: i32) -> HeaderValue {
    // Digits between quotes are a header's value.
    HeaderValue::from_str(&format!("\"{revision}\"")).unwrap_or(HeaderValue::from_static("\"\""))
}

/// What the caller's headers make the change go by.
fn condition(headers: &HeaderMap) -> Condition {
    if headers.get(IF_NONE_MATCH).is_some_and(|value| value == "*") {
        return Condition::New;
    }
    let Some(wanted) = headers.get(IF_MATCH) else {
        return Condition::Any;
    };
    let wanted = wanted.to_str().unwrap_or_default().trim();
    if wanted == "*" {
        return Condition::There;
    }
    let revision = wanted.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    revision
        .and_then(|text| text.parse().ok())
        .map_or(Condition::Never, Condition::Revision)
}

/// The fields of a registration in a body.
fn fields(sent: Sent, told: &[&str]) -> Result<Map<String, Value>, Problem> {
    let Value::Object(mut fields) = sent.0 else {
        return Err(Problem::Invalid {
            field: None,
            detail: "the body is not an object".to_owned(),
            detail_fr: "le corps n’est pas un objet".to_owned(),
        });
    };
    fields.retain(|field, _| !TOLD.contains(&field.as_str()) && !told.contains(&field.as_str()));
    Ok(fields)
}

/// Begins a registration. Fields in `told` are passed over.
pub(super) async fn create(
    state: &State,
    caller: &Caller,
    register: Register,
    sent: Sent,
    told: &[&str],
) -> Result<Response, Problem> {
    caller.may(Action::Register)?;
    let mut fields = fields(sent, told)?;
    let key = key_in(register, &mut fields)?;
    let record = Record::from_json(register, &fields, state.now())?;
    let mut response = change(state, caller, key.clone(), Wish::Create(record), Condition::Any).await?;
    *response.status_mut() = StatusCode::CREATED;
    let (_, id) = Register::of(&key).ok_or(Problem::Internal)?;
    if let Ok(location) = HeaderValue::from_str(&format!("/v1/{register}/{id}")) {
        response.headers_mut().insert(LOCATION, location);
    }
    Ok(response)
}

/// Registers the whole anew, or for the first time; who may has been found out.
pub(super) async fn replace(
    state: &State,
    caller: &Caller,
    key: Key,
    (headers, sent): (&HeaderMap, Sent),
    told: &[&str],
) -> Result<Response, Problem> {
    let (register, id) = Register::of(&key).ok_or(Problem::Internal)?;
    let mut fields = fields(sent, told)?;
    if fields.remove("id").is_some_and(|sent| sent != id.as_str()) {
        return Err(Problem::invalid(
            "id",
            "not the id in the path",
            "ce n’est pas l’id du chemin",
        ));
    }
    let record = Record::from_json(register, &fields, state.now())?;
    change(state, caller, key, Wish::Replace(record), condition(headers)).await
}

/// Ends a registration; who may has been found out.
pub(super) async fn end(state: &State, caller: &Caller, key: Key, headers: &HeaderMap) -> Result<Response, Problem> {
    change(state, caller, key, Wish::End, condition(headers)).await
}

async fn change(
    state: &State,
    caller: &Caller,
    key: Key,
    wish: Wish,
    condition: Condition,
) -> Result<Response, Problem> {
    let (_, id) = Register::of(&key).ok_or(Problem::Internal)?;
    let by = caller.principal.subject.clone();
    let sensor = match &key {
        Key::Sensor(sensor) => Some(sensor.clone()),
        _ => None,
    };
    let done = state.parts.registry.record(key, wish, condition, by).await?;
    if let Some(sensor) = sensor {
        let known = state.parts.doors.know(&sensor, SaidOf::Registration(done.revision));
        // Whoever sends for it at once is heard; a door that is late takes a moment longer.
        let _ = tokio::time::timeout(IN_FORCE, known).await;
    }
    let changed = Changed {
        id,
        revision: done.revision,
        position: done.position.to_string(),
    };
    Ok(([(ETAG, tag(done.revision))], Json(changed)).into_response())
}

/// A search: a list by id, and where it ends one by name. A cursor says in its first letter which of them goes on.
pub(super) async fn search<T, ById, ByName>(
    limit: usize,
    cursor: Option<String>,
    by_id: impl Fn(usize, Option<String>) -> ById,
    by_name: impl Fn(usize, Option<String>) -> ByName,
) -> Result<Page<T>, ViewError>
where
    ById: Future<Output = Result<Page<T>, ViewError>>,
    ByName: Future<Output = Result<Page<T>, ViewError>>,
{
    let whole = cursor.as_deref().unwrap_or("i");
    let rest = |rest: &str| Some(rest.to_owned()).filter(|rest| !rest.is_empty());
    let (mut items, after) = if let Some(after) = whole.strip_prefix('i') {
        let page = by_id(limit, rest(after)).await?;
        let next = page.next_cursor.map(|next| format!("i{next}"));
        if next.is_some() || page.items.len() >= limit {
            return Ok(Page {
                items: page.items,
                next_cursor: next.or_else(|| Some("n".to_owned())),
            });
        }
        (page.items, None)
    } else if let Some(after) = whole.strip_prefix('n') {
        (Vec::new(), rest(after))
    } else {
        return Err(ViewError::Cursor);
    };
    let page = by_name(limit - items.len(), after).await?;
    items.extend(page.items);
    Ok(Page {
        items,
        next_cursor: page.next_cursor.map(|next| format!("n{next}")),
    })
}
