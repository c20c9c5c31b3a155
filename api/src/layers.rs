//! What every HTTP answer of the house has, whichever crate gives it: a request id, security headers, an end in time,
//! problems instead of empty pages.

use std::panic::AssertUnwindSafe;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::{MatchedPath, Request};
use axum::http::header::{self, HeaderName, HeaderValue};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use futures::FutureExt;
use tokio::time::Instant;
use tracing::Instrument;

use crate::problem::Problem;
use crate::server::OverTls;

/// To the beginning of an answer. Longer than a body may take to arrive
/// ([`ServerLimits::body`](crate::server::ServerLimits)), so that a slow upload is told what was wrong.
const ANSWER_WITHIN: Duration = Duration::from_secs(70);

/// Names the request in our log and in the answer.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// What a page of ours may load: its own files, nothing inline, nothing from elsewhere; nobody may frame it.
const CSP: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; \
                   connect-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'self'; \
                   frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'";

const HEADERS: [(HeaderName, &str); 7] = [
    (header::CONTENT_SECURITY_POLICY, CSP),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (
        HeaderName::from_static("permissions-policy"),
        "camera=(), geolocation=(), microphone=()",
    ),
];

/// Puts around a whole application what every answer has. Call it last, once, on the merged router: it sets the
/// fallbacks for unknown paths and methods.
pub fn with_common_layers(app: Router) -> Router {
    app.fallback(async || Problem::NotFound)
        .method_not_allowed_fallback(async || Problem::Method)
        .layer(from_fn(common))
}

async fn common(request: Request, next: Next) -> Response {
    let began = Instant::now();
    let id = request_id();
    let method = method(request.method());
    let route = request
        .extensions()
        .get::<MatchedPath>()
        .map_or_else(|| "none".to_owned(), |path| path.as_str().to_owned());
    let over_tls = request.extensions().get::<OverTls>().is_some();
    let span = tracing::debug_span!("request", id, method, route);
    let answer = AssertUnwindSafe(next.run(request))
        .catch_unwind()
        .instrument(span.clone());
    let mut response = match tokio::time::timeout(ANSWER_WITHIN, answer).await {
        Ok(Ok(response)) => response,
        Ok(Err(_)) => {
            // The panic's own words are in the log by the panic hook; they may hold data and stay there.
            span.in_scope(|| tracing::error!("a handler panicked"));
            Problem::Internal.into_response()
        }
        Err(_) => Problem::Timeout.into_response(),
    };
    dress(&mut response, &id, over_tls);
    crate::metrics::answered(route, method, response.status().as_u16(), began.elapsed().as_secs_f64());
    response
}

fn dress(response: &mut Response, id: &str, over_tls: bool) {
    let headers = response.headers_mut();
    for (name, value) in HEADERS {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
    // Patients' data: nothing is kept unless a handler says so.
    headers
        .entry(header::CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
    if over_tls {
        headers
            .entry(header::STRICT_TRANSPORT_SECURITY)
            .or_insert(HeaderValue::from_static("max-age=31536000"));
    }
    if let Ok(id) = HeaderValue::from_str(id) {
        headers.insert(REQUEST_ID, id);
    }
}

/// One of a few words: a method that a client made up must not become a time series.
fn method(method: &axum::http::Method) -> &'static str {
    use axum::http::Method;
    match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        Method::HEAD => "HEAD",
        Method::OPTIONS => "OPTIONS",
        Method::PATCH => "PATCH",
        _ => "other",
    }
}

/// Unique in this installation: a random start for the process, and a count.
fn request_id() -> String {
    static START: LazyLock<u64> = LazyLock::new(|| {
        let mut bytes = [0; 8];
        // Without randomness ids repeat after a restart: no reason not to serve.
        let _ = aws_lc_rs::rand::fill(&mut bytes);
        u64::from_le_bytes(bytes)
    });
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("{:016x}", START.wrapping_add(count.wrapping_mul(0x9e37_79b9_7f4a_7c15)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;
    use axum::routing::get;
    use tower::ServiceExt;

    fn app() -> Router {
        async fn panics() -> &'static str {
            panic!("on purpose")
        }
        async fn sleeps() -> &'static str {
            tokio::time::sleep(Duration::from_secs(1000)).await;
            "late"
        }
        with_common_layers(
            Router::new()
                .route("/ok", get(async || "ok"))
                .route("/panics", get(panics))
                .route("/sleeps", get(sleeps)),
        )
    }

    async fn ask(path: &str, method: &str) -> Response {
        let request = Request::builder().uri(path).method(method).body(Body::empty()).unwrap();
        app().oneshot(request).await.unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn whatever_happens_the_answer_is_a_problem_with_an_id_and_the_security_headers() {
        for (path, method, status) in [
            ("/ok", "GET", 200),
            ("/none", "GET", 404),
            ("/ok", "POST", 405),
            ("/panics", "GET", 500),
            ("/sleeps", "GET", 503),
        ] {
            let response = ask(path, method).await;
            assert_eq!(response.status(), status, "{path}");
            let headers = response.headers();
            assert_eq!(headers[REQUEST_ID].len(), 16);
            assert!(
                headers[header::CONTENT_SECURITY_POLICY]
                    .to_str()
                    .unwrap()
                    .contains("default-src 'none'")
            );
            assert!(!CSP.contains("unsafe"));
            assert_eq!(headers[header::CACHE_CONTROL], "no-store");
            assert!(!headers.contains_key(header::SERVER), "no version is given away");
            if status != 200 {
                assert_eq!(headers[header::CONTENT_TYPE], "application/problem+json", "{path}");
            }
        }
        assert_ne!(request_id(), request_id());
    }
}
