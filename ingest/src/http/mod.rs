//! The doors that speak HTTP: our own (`/v1/readings`) and requests written for Confluent's REST Proxy (v2 and v3).
//!
//! All of them do the same: who sends, unpack, judge record by record, make durable, and only then answer.

mod answer;
mod avro_json;
mod body;
mod metadata;
mod native;
mod produce;
mod token;
mod v2;
mod v3;
mod v3_stream;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::Method;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use eventlog::{Clock, LogError};
use schemas::access::Authenticate;
use smol_str::SmolStr;

use crate::accept::Verdict;
use crate::intake::{Intake, Receipt};
use crate::metrics;
use answer::Trouble;

/// The topic that stands for the door. What is written to it lands in `fajma.journal`.
pub const TOPIC: &str = "fajma.readings";

/// Bounds of the doors that speak HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HttpLimits {
    /// Bytes of a body as it is sent.
    pub body_bytes: usize,
    /// Bytes of a body unpacked.
    pub unpacked_bytes: usize,
    /// Window of zstd as a power of two: what unpacking may hold in memory beside its result.
    pub zstd_window_log: u32,
    /// How long a body may take to come.
    pub body_timeout: Duration,
    /// How long a request waits for room in the log before it is told to come back later.
    pub patience: Duration,
    /// Records of a streaming request that are made durable together.
    pub group_records: usize,
}

impl Default for HttpLimits {
    fn default() -> Self {
        Self {
            body_bytes: 4 << 20,
            unpacked_bytes: 16 << 20,
            zstd_window_log: 23,
            body_timeout: Duration::from_secs(30),
            patience: Duration::from_secs(10),
            group_records: 256,
        }
    }
}

/// What the doors stand before.
#[derive(Clone)]
pub struct HttpDoors {
    /// The intake of this process.
    pub intake: Arc<Intake>,
    /// Who holds which token.
    pub auth: Arc<dyn Authenticate>,
    /// The clock that stamps arrivals.
    pub clock: Arc<dyn Clock>,
    /// Bounds.
    pub limits: HttpLimits,
    /// What clients of the REST Proxy's v3 see as the cluster's id; any id is accepted in their paths.
    pub cluster_id: SmolStr,
}

impl fmt::Debug for HttpDoors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpDoors")
            .field("limits", &self.limits)
            .field("cluster_id", &self.cluster_id)
            .finish_non_exhaustive()
    }
}

impl HttpDoors {
    /// Makes verdicts durable, or says within [`HttpLimits::patience`] that it cannot be done now.
    async fn submit(&self, verdicts: Vec<Verdict>) -> Result<Vec<Receipt>, LogError> {
        let submitting = self.intake.submit(verdicts);
        match tokio::time::timeout(self.limits.patience, submitting).await {
            Ok(done) => done,
            Err(_) => Err(LogError::Unavailable("too much is on its way".to_owned())),
        }
    }
}

/// What handlers share: the doors, and the schemas that clients have shown them.
#[derive(Debug, Clone)]
struct Shared {
    doors: HttpDoors,
    schemas: Arc<produce::Schemas>,
}

impl std::ops::Deref for Shared {
    type Target = HttpDoors;
    fn deref(&self) -> &HttpDoors {
        &self.doors
    }
}

/// Lets nothing in that could not be judged now, whoever sends it: by a wrong clock tokens are not good either.
async fn timely(State(intake): State<Arc<Intake>>, request: Request, next: Next) -> Response {
    let Some(why) = (request.method() == Method::POST).then(|| intake.hindrance()).flatten() else {
        return next.run(request).await;
    };
    // Readiness and the ticker's log say it once; senders come by the thousand.
    tracing::debug!(why, "nothing was taken");
    metrics::hindered();
    match request.uri().path() {
        path if path.starts_with("/v3/") => Trouble::Clock.confluent(v3::JSON),
        path if path.starts_with("/topics/") => Trouble::Clock.confluent(answer::KAFKA_V2),
        _ => Trouble::Clock.into_response(),
    }
}

/// The doors as a router, to be merged into a server's.
pub fn router(doors: HttpDoors) -> Router {
    let records = "/v3/clusters/{cluster}/topics/{topic}/records";
    let batch = "/v3/clusters/{cluster}/topics/{topic}/records:batch";
    Router::new()
        .route("/v1/readings", post(native::readings))
        .route("/topics", get(metadata::topics))
        .route("/topics/{topic}", get(metadata::topic).post(v2::produce))
        .route("/topics/{topic}/partitions", get(metadata::partitions))
        .route(
            "/topics/{topic}/partitions/{partition}",
            get(metadata::partition).post(v2::produce_to_partition),
        )
        .route("/v3/clusters", get(metadata::clusters))
        .route("/v3/clusters/{cluster}", get(metadata::cluster))
        .route("/v3/clusters/{cluster}/topics", get(metadata::cluster_topics))
        .route("/v3/clusters/{cluster}/topics/{topic}", get(metadata::cluster_topic))
        .route(records, post(v3::produce))
        .route(batch, post(v3::batch))
        .layer(middleware::from_fn_with_state(Arc::clone(&doors.intake), timely))
        // Bodies have limits of their own here, which say more than the framework's.
        .layer(DefaultBodyLimit::disable())
        .with_state(Shared {
            doors,
            schemas: Arc::default(),
        })
}
