//! How a browser signs in and out, and tickets for WebSocket clients that can set neither header nor cookie.

use std::sync::Arc;

use axum::extract::{Query, State as Given};
use axum::http::header::{LOCATION, SET_COOKIE};
use axum::http::{HeaderMap, Request, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use schemas::access::Principal;
use schemas::time::{Span, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::auth::{COOKIE_PLAIN, COOKIE_TLS, Caller, bearer, from_our_own_page};
use crate::problem::{Body, Problem};
use crate::server::OverTls;
use crate::state::{SESSION, State};
use crate::token::{OnceError, issue};

pub(super) fn router() -> Router<Arc<State>> {
    Router::new()
        .route("/login", get(login).post(sign_in))
        .route("/logout", post(logout))
        .route("/v1/me", get(me))
}

#[derive(Debug, Deserialize)]
struct Code {
    code: String,
}

/// `GET /login?code=…`: uses the link up; on to the page, signed in.
async fn login(
    Given(state): Given<Arc<State>>,
    Query(Code { code }): Query<Code>,
    request: Request<axum::body::Body>,
) -> Result<Response, Problem> {
    let now = state.now();
    let (principal, until) = state.logins.spend(&code, now).ok_or(Problem::Unauthenticated)?;
    let cookie = session(
        &state,
        &principal,
        until,
        now,
        request.extensions().get::<OverTls>().is_some(),
    )?;
    Ok((
        StatusCode::SEE_OTHER,
        [(LOCATION, "/".to_owned()), (SET_COOKIE, cookie)],
    )
        .into_response())
}

/// `POST /login` with a bearer token: the page signs somebody in who has pasted one.
async fn sign_in(Given(state): Given<Arc<State>>, request: Request<axum::body::Body>) -> Result<Response, Problem> {
    // Another site must not sign somebody in as somebody else.
    if !from_our_own_page(request.headers()) {
        return Err(Problem::OtherSite);
    }
    let token = bearer(request.headers()).ok_or(Problem::Unauthenticated)?;
    let Caller { principal, until } = Caller::holding(&token, &state)?;
    let over_tls = request.extensions().get::<OverTls>().is_some();
    let cookie = session(&state, &principal, until, state.now(), over_tls)?;
    Ok((StatusCode::NO_CONTENT, [(SET_COOKIE, cookie)]).into_response())
}

/// `POST /logout`: the browser forgets.
async fn logout(headers: HeaderMap) -> Result<Response, Problem> {
    if !from_our_own_page(&headers) {
        return Err(Problem::OtherSite);
    }
    let forget = |name| format!("{name}=; Path=/; HttpOnly; SameSite=Strict; Max-Age=0");
    let mut response = StatusCode::NO_CONTENT.into_response();
    for cookie in [forget(COOKIE_PLAIN), format!("{}; Secure", forget(COOKIE_TLS))] {
        let cookie = cookie.parse().map_err(|_| Problem::Internal)?;
        response.headers_mut().append(SET_COOKIE, cookie);
    }
    Ok(response)
}

/// A cookie that holds a token of our own, for as long as a session lasts and the rights behind it do.
fn session(
    state: &State,
    principal: &Principal,
    until: Timestamp,
    now: Timestamp,
    over_tls: bool,
) -> Result<String, Problem> {
    let lifetime = SESSION.min(until - now);
    let token = issue(&state.parts.keys, principal, lifetime, now).map_err(|error| {
        tracing::error!(%error, "no session could be issued");
        Problem::Internal
    })?;
    let (name, secure) = if over_tls {
        (COOKIE_TLS, "; Secure")
    } else {
        (COOKIE_PLAIN, "")
    };
    let seconds = lifetime.0 / Span::seconds(1).0;
    Ok(format!(
        "{name}={token}; Path=/; HttpOnly; SameSite=Strict; Max-Age={seconds}{secure}"
    ))
}

/// Who somebody is: for the page.
#[derive(Debug, Serialize)]
struct Me {
    subject: String,
    role: &'static str,
    until: Timestamp,
}

async fn me(caller: Caller) -> Json<Me> {
    Json(Me {
        subject: caller.principal.subject.to_string(),
        role: caller.principal.role.as_str(),
        until: caller.until,
    })
}

/// A ticket.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Ticket {
    /// For `?ticket=`, once.
    ticket: String,
    /// When it runs out.
    #[schema(value_type = String, format = DateTime)]
    expires_at: Timestamp,
}

/// A ticket for a WebSocket: good once, for 30 s.
#[utoipa::path(post, path = "/v1/tickets", tag = "session", security(("bearer" = [])),
    responses((status = 200, body = Ticket), (status = "default", body = Body, content_type = "application/problem+json")))]
pub(super) async fn ticket(Given(state): Given<Arc<State>>, caller: Caller) -> Result<Json<Ticket>, Problem> {
    let given = state.tickets.give(caller.principal, caller.until, state.now());
    let (ticket, expires_at) = given.map_err(|error| match error {
        OnceError::Full => Problem::Unavailable,
        OnceError::Random => Problem::Internal,
    })?;
    Ok(Json(Ticket { ticket, expires_at }))
}
