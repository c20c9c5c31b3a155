//! Taking back what was given.

use std::sync::Arc;

use axum::Json;
use axum::extract::State as Given;
use schemas::access::Action;
use schemas::facts::TokensRevoked;
use schemas::ids::Key;
use schemas::journal::Fact;
use smol_str::SmolStr;
use utoipa::ToSchema;

use super::input::{Sent, text};
use crate::auth::Caller;
use crate::command::{self, Done};
use crate::problem::{Body, Problem};
use crate::state::State;

/// The longest id of a token, and the longest subject.
const LONGEST: usize = 256;

/// What is taken back: one of the three.
#[derive(ToSchema)]
#[expect(
    dead_code,
    reason = "for the OpenAPI document; read by `revoke`, which names what is wrong"
)]
pub(super) struct Revoke {
    /// The token itself, and the sessions that were begun with it.
    token: Option<String>,
    /// The same by its id, the claim `jti`.
    id: Option<String>,
    /// All tokens that this subject was given up to now, whoever issued them.
    subject: Option<String>,
}

/// Takes tokens back: within a second they are good for nothing, on what is open as well.
#[utoipa::path(post, path = "/v1/tokens/revoke", tag = "session", request_body(content = Revoke),
    security(("bearer" = [])), responses((status = 200, body = Done),
    (status = "default", body = Body, content_type = "application/problem+json")))]
pub(super) async fn revoke(Given(state): Given<Arc<State>>, caller: Caller, sent: Sent) -> Result<Json<Done>, Problem> {
    caller.may(Action::Revoke)?;
    let fields = sent.fields(&["token", "id", "subject"])?;
    let named = fields.values().filter(|value| !value.is_null()).count();
    if named != 1 {
        return Err(Problem::invalid(
            "token",
            "one of token, id, subject",
            "un seul de token, id, subject",
        ));
    }
    let id = match text(&fields, "token")? {
        Some(token) => {
            // One that is good for nothing need not be taken back.
            let holder = state.parts.authenticate.authenticate(token, state.now());
            let holder = holder.map_err(|_| Problem::invalid("token", "it is not good", "il n’est pas valable"))?;
            let id = holder.live.grant().id.clone();
            if id.is_empty() {
                let detail = "it has no id: take back all of its subject's";
                return Err(Problem::invalid(
                    "token",
                    detail,
                    "il n’a pas d’identifiant : révoquez tout de son titulaire",
                ));
            }
            Some(id)
        }
        None => short("id", text(&fields, "id")?)?,
    };
    let fact = TokensRevoked {
        token: id,
        subject: short("subject", text(&fields, "subject")?)?,
        by: caller.principal.subject.clone(),
    };
    Ok(Json(
        command::record(&state, Key::Nobody, Fact::TokensRevoked(fact)).await?,
    ))
}

fn short(field: &'static str, text: Option<&str>) -> Result<Option<SmolStr>, Problem> {
    match text {
        Some(text) if text.len() > LONGEST => Err(Problem::invalid(
            field,
            format!("at most {LONGEST} bytes"),
            format!("{LONGEST} octets au plus"),
        )),
        Some("") => Err(Problem::invalid(field, "empty", "vide")),
        text => Ok(text.map(SmolStr::new)),
    }
}
