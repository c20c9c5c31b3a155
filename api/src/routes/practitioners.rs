//! Practitioners, as registered.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State as Given};
use axum::http::HeaderMap;
use axum::response::Response;
use projections::query::{self, Page, Registered};
use schemas::access::{Action, StaffSight};
use schemas::facts::{self, Zone};
use schemas::ids::{Key, StaffId};
use schemas::registry::{Record, Register};
use serde::Serialize;
use smol_str::SmolStr;
use utoipa::ToSchema;

use super::input::{Params, Sent, cut, paging, rows, viewed};
use super::register::{self, Asked, Changed, Standing};
use crate::auth::Caller;
use crate::problem::{Body, Problem};
use crate::state::State;

/// A practitioner.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Practitioner {
    #[schema(value_type = String)]
    id: SmolStr,
    #[schema(value_type = Option<String>)]
    name: Option<SmolStr>,
    /// What they are, like `doctor` or `nurse`.
    #[schema(value_type = Option<String>)]
    profession: Option<SmolStr>,
    #[schema(value_type = Option<String>)]
    speciality: Option<SmolStr>,
    /// Where they work.
    #[schema(value_type = Option<String>)]
    organisation: Option<SmolStr>,
    /// `urban`, `semi_urban` or `rural`.
    #[schema(value_type = Option<String>)]
    zone: Option<Zone>,
    #[serde(flatten)]
    standing: Standing,
}

impl From<Registered> for Practitioner {
    fn from(registered: Registered) -> Self {
        let standing = Standing::from(Some(&registered));
        let it = match registered.record {
            Record::Practitioner(it) => it,
            _ => facts::Practitioner::default(),
        };
        Self {
            id: registered.id,
            name: it.name,
            profession: it.profession,
            speciality: it.speciality,
            organisation: it.organisation,
            zone: it.zone,
            standing,
        }
    }
}

/// Part of the list of practitioners.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Practitioners {
    practitioners: Vec<Practitioner>,
    next_cursor: Option<String>,
}

/// Practitioners, by id, cut to those the caller may see. A page may be short although the list goes on.
#[utoipa::path(get, path = "/v1/practitioners", tag = "practitioners", params(Asked), security(("bearer" = [])),
    responses((status = 200, body = Practitioners),
    (status = "default", body = Body, content_type = "application/problem+json")))]
pub(super) async fn list(
    Given(state): Given<Arc<State>>,
    caller: Caller,
    Params(ask): Params<Asked>,
) -> Result<Json<Practitioners>, Problem> {
    const OF: Register = Register::Practitioners;
    let limit = rows(ask.limit.as_deref(), query::USUAL)?;
    let views = &*state.parts.views;
    let page = match caller.principal.staff_sight() {
        StaffSight::None => return Err(Problem::Forbidden),
        StaffSight::Own(own) => {
            let own = query::registered(views, &Key::Staff(own)).await.map_err(viewed)?;
            let meant = |r: &Registered| match &ask.q {
                Some(q) => r.is_meant(q),
                None => r.id.starts_with(ask.prefix()),
            };
            Page {
                items: own.into_iter().filter(|r| ask.wants(Some(r)) && meant(r)).collect(),
                next_cursor: None,
            }
        }
        StaffSight::All => {
            let by_id = async |limit, cursor: Option<String>| {
                query::register(views, OF, ask.prefix(), paging(limit, cursor.as_deref())).await
            };
            let by_name = async |limit, cursor: Option<String>| {
                query::named(views, OF, ask.prefix(), paging(limit, cursor.as_deref())).await
            };
            let wanted = |registered: &Registered| ask.wants(Some(registered));
            let list = (&*state.parts.keys, "practitioners");
            cut(list, limit, ask.cursor.as_deref(), wanted, async |limit, cursor| {
                if ask.q.is_some() {
                    register::search(limit, cursor, by_id, by_name).await
                } else {
                    by_id(limit, cursor).await
                }
            })
            .await?
        }
    };
    Ok(Json(Practitioners {
        practitioners: page.items.into_iter().map(Practitioner::from).collect(),
        next_cursor: page.next_cursor,
    }))
}

/// A practitioner whom the caller may see; for anybody else there is none.
fn see(caller: &Caller, practitioner: &str) -> Result<StaffId, Problem> {
    let id = StaffId::new(practitioner).map_err(|_| Problem::NotFound)?;
    if caller.principal.may(Action::SeeStaff(&id)) {
        Ok(id)
    } else {
        Err(Problem::NotFound)
    }
}

/// One practitioner, also one whose registration has ended. The `ETag` is the registration's revision.
#[utoipa::path(get, path = "/v1/practitioners/{practitioner_id}", tag = "practitioners",
    params(("practitioner_id" = String, Path)), security(("bearer" = [])),
    responses((status = 200, body = Practitioner),
    (status = "default", body = Body, content_type = "application/problem+json")))]
pub(super) async fn one(
    Given(state): Given<Arc<State>>,
    caller: Caller,
    Path(practitioner): Path<String>,
) -> Result<Response, Problem> {
    let id = see(&caller, &practitioner)?;
    let registered = query::registered(&*state.parts.views, &Key::Staff(id))
        .await
        .map_err(viewed)?;
    let registered = registered.ok_or(Problem::NotFound)?;
    Ok(register::tagged(
        Practitioner::from(registered.clone()),
        Some(&registered),
    ))
}

/// Registers a practitioner. The body has an `id` and any of `name`, `profession`, `speciality`, `organisation`, `zone`.
#[utoipa::path(post, path = "/v1/practitioners", tag = "practitioners", request_body(content = Practitioner),
    security(("bearer" = [])), responses((status = 201, body = Changed),
    (status = "default", body = Body, content_type = "application/problem+json")))]
pub(super) async fn create(Given(state): Given<Arc<State>>, caller: Caller, sent: Sent) -> Result<Response, Problem> {
    register::create(&state, &caller, Register::Practitioners, sent, &[]).await
}

/// Registers the whole anew: a field that is left out is registered no more. With `If-Match` only over that revision,
/// with `If-None-Match: *` only for the first time.
#[utoipa::path(put, path = "/v1/practitioners/{practitioner_id}", tag = "practitioners",
    params(("practitioner_id" = String, Path)), request_body(content = Practitioner), security(("bearer" = [])),
    responses((status = 200, body = Changed),
    (status = "default", body = Body, content_type = "application/problem+json")))]
pub(super) async fn replace(
    Given(state): Given<Arc<State>>,
    caller: Caller,
    Path(practitioner): Path<String>,
    headers: HeaderMap,
    sent: Sent,
) -> Result<Response, Problem> {
    let id = see(&caller, &practitioner)?;
    caller.may(Action::Register)?;
    register::replace(&state, &caller, Key::Staff(id), (&headers, sent), &[]).await
}

/// Ends the registration; what was recorded stays.
#[utoipa::path(delete, path = "/v1/practitioners/{practitioner_id}", tag = "practitioners",
    params(("practitioner_id" = String, Path)), security(("bearer" = [])),
    responses((status = 200, body = Changed),
    (status = "default", body = Body, content_type = "application/problem+json")))]
pub(super) async fn end(
    Given(state): Given<Arc<State>>,
    caller: Caller,
    Path(practitioner): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let id = see(&caller, &practitioner)?;
    caller.may(Action::Register)?;
    register::end(&state, &caller, Key::Staff(id), &headers).await
}
