//! The page at `/`: static files of our own, built into the program.

use std::sync::Arc;

use axum::Router;
use axum::http::HeaderValue;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use crate::state::State;

/// Path, media type, content. They hold no data, so they ask for no token; what they show does.
const FILES: [(&str, &str, &str); 4] = [
    ("/", "text/html; charset=utf-8", include_str!("../../static/index.html")),
    (
        "/app.js",
        "text/javascript; charset=utf-8",
        include_str!("../../static/app.js"),
    ),
    (
        "/app.css",
        "text/css; charset=utf-8",
        include_str!("../../static/app.css"),
    ),
    ("/icon.svg", "image/svg+xml", include_str!("../../static/icon.svg")),
];

pub(super) fn router() -> Router<Arc<State>> {
    FILES.into_iter().fold(Router::new(), |router, (path, kind, content)| {
        router.route(path, get(async move || file(kind, content)))
    })
}

fn file(kind: &'static str, content: &'static str) -> Response {
    let mut response = content.into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    // A new version shows at the next load.
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}
