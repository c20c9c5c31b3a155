//! The routes of the REST API, one file per subject, and the OpenAPI document that follows from them.

mod alerts;
mod assignments;
mod commands;
mod consultation_shapes;
mod consultations;
mod consulting;
mod input;
mod page;
mod patients;
mod practitioners;
mod readings;
mod register;
mod registry;
mod running;
mod sensors;
mod session;
mod thresholds;
mod tokens;

use std::sync::Arc;

use axum::extract::DefaultBodyLimit;
use axum::routing::get;
use axum::{Json, Router};
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::{Modify, OpenApi};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(crate) use consultations::visible;
pub(crate) use patients::person;

use crate::auth::Caller;
use crate::live;
use crate::state::State;

/// The longest body of a request, in bytes: thresholds of every metric fit many times over.
const BODY_BYTES: usize = 64 * 1024;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "FAJMA",
        description = "Vital signs from sensors to doctors. Every request carries `Authorization: Bearer <token>`. A \
                       command answers with its `position`; a query with `Fajma-Read-After: <position>` is answered \
                       at or after it. Problems are RFC 9457, in English and French."
    ),
    modifiers(&Bearer)
)]
struct Document;

struct Bearer;

impl Modify for Bearer {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let scheme = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
        document
            .components
            .get_or_insert_default()
            .add_security_scheme("bearer", scheme);
    }
}

/// The REST API, the WebSockets and the page. Merge it with other routers and put
/// [`with_common_layers`](crate::with_common_layers) around the whole.
pub fn router(state: Arc<State>) -> Router {
    let (documented, document) = documented();
    let document = Arc::new(document);
    documented
        .route("/openapi.json", get(async move |_: Caller| Json(document)))
        .route("/ws/patients/{patient_id}", get(live::patient))
        .route("/ws/patients/{patient_id}/", get(live::patient))
        .route("/ws/consultation/{consultation_id}", get(live::consultation))
        .route("/ws/consultation/{consultation_id}/", get(live::consultation))
        .route("/ws/alerts", get(live::alerts))
        .route("/ws/alerts/", get(live::alerts))
        .merge(session::router())
        .merge(registry::router())
        .merge(page::router())
        .layer(DefaultBodyLimit::max(BODY_BYTES))
        .with_state(state)
}

/// Health, metrics and traffic alone, for a process that serves nobody else.
pub fn running_router(state: Arc<State>) -> Router {
    Router::new()
        .route("/livez", get(running::livez))
        .route("/readyz", get(running::readyz))
        .route("/metrics", get(running::metrics))
        .route("/v1/stats", get(running::stats))
        .with_state(state)
}

/// What the OpenAPI document tells of.
fn documented() -> (Router<Arc<State>>, utoipa::openapi::OpenApi) {
    OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(patients::list, patients::create))
        .routes(routes!(patients::one, patients::replace, patients::end))
        .routes(routes!(patients::merge))
        .routes(routes!(practitioners::list, practitioners::create))
        .routes(routes!(practitioners::one, practitioners::replace, practitioners::end))
        .routes(routes!(readings::latest))
        .routes(routes!(readings::readings))
        .routes(routes!(readings::windows))
        .routes(routes!(alerts::of_patient))
        .routes(routes!(alerts::list))
        .routes(routes!(alerts::one))
        .routes(routes!(alerts::acknowledge))
        .routes(routes!(alerts::snooze))
        .routes(routes!(alerts::comment))
        .routes(routes!(alerts::resolve))
        .routes(routes!(consultations::list, consulting::plan))
        .routes(routes!(consultations::one))
        .routes(routes!(consulting::open))
        .routes(routes!(consulting::close))
        .routes(routes!(consulting::note))
        .routes(routes!(thresholds::read, thresholds::set))
        .routes(routes!(sensors::list, sensors::create))
        .routes(routes!(sensors::one, sensors::replace, sensors::end))
        .routes(routes!(assignments::read, assignments::assign))
        .routes(routes!(assignments::waiting))
        .routes(routes!(assignments::reattribute))
        .routes(routes!(commands::list, commands::issue))
        .routes(routes!(running::rejected))
        .routes(routes!(running::stats))
        .routes(routes!(running::livez))
        .routes(routes!(running::readyz))
        .routes(routes!(running::metrics))
        .routes(routes!(session::ticket))
        .routes(routes!(tokens::revoke))
        .split_for_parts()
}

#[cfg(test)]
mod access_tests;
#[cfg(test)]
mod consultation_tests;
#[cfg(test)]
mod cursor_tests;
#[cfg(test)]
mod kept_tests;
#[cfg(test)]
mod register_tests;
#[cfg(test)]
#[path = "../../../ingest/tests/it/routes_of.rs"]
mod routes_of;
#[cfg(test)]
mod tests;
