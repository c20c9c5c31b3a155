//! The server under every HTTP door: one listener, hard limits on whatever a client can hold on to, TLS 1.3.
//!
//! Every wait that a client could stretch has an end: the handshake, the head of a request, its body, the pause between
//! two requests, the reading of our answer. Connections are counted, in all and per address.

mod admission;
mod io;
mod tls;

pub use tls::{TlsError, tls_config};

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::{Request, Response, StatusCode, Version};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tower::{Layer, ServiceExt};
use tower_http::timeout::RequestBodyDeadlineLayer;

use admission::{Admission, Permit};
use io::{Guarded, Pulse};

/// What one client, and all of them together, may hold on to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerLimits {
    /// From a connection's start, and then from a request's first byte, to the end of its head.
    pub head: Duration,
    /// From a request's head to the end of its body, in all.
    pub body: Duration,
    /// Without a request on a connection.
    pub idle: Duration,
    /// Without the client taking a byte of what we send.
    pub stall: Duration,
    /// For the TLS handshake.
    pub handshake: Duration,
    /// For requests under way once the server is told to end.
    pub drain: Duration,
    /// Bytes of a request's head; at least 8,192.
    pub head_bytes: usize,
    /// Header fields of a request.
    pub fields: usize,
    /// Connections in all, WebSockets included.
    pub connections: usize,
    /// Connections from one address (IPv6: from one /64), WebSockets included.
    pub connections_per_address: usize,
    /// Requests under way on one HTTP/2 connection.
    pub streams: u32,
}

impl Default for ServerLimits {
    fn default() -> Self {
        Self {
            head: Duration::from_secs(10),
            body: Duration::from_secs(60),
            idle: Duration::from_secs(75),
            stall: Duration::from_secs(30),
            handshake: Duration::from_secs(10),
            drain: Duration::from_secs(10),
            head_bytes: 32 * 1024,
            fields: 64,
            connections: 4096,
            connections_per_address: 1024,
            streams: 128,
        }
    }
}

/// Whether the request came over TLS: decides whether cookies are marked `Secure`. Absent where it did not.
#[derive(Debug, Clone, Copy)]
pub struct OverTls;

/// How long to wait after the listener itself failed (no file handles left, usually).
const PAUSE: Duration = Duration::from_millis(100);

/// Serves `app` until `shutdown`, then lets requests under way end, at most for `limits.drain`.
///
/// Requests carry [`ConnectInfo<SocketAddr>`] and, over TLS, [`OverTls`].
pub async fn serve(
    listener: TcpListener,
    app: Router,
    tls: Option<Arc<ServerConfig>>,
    limits: ServerLimits,
    shutdown: CancellationToken,
) {
    let limits = Arc::new(limits);
    let admission = Admission::new(limits.connections, limits.connections_per_address);
    let acceptor = tls.map(TlsAcceptor::from);
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be taken");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        // Refusing is closing at once: an answer would cost what the limit is there to save.
        let Some(permit) = admission.admit(peer.ip()) else {
            continue;
        };
        // Small frames must leave at once: an alert waits for nothing.
        let _ = stream.set_nodelay(true);
        let connection = Connection {
            app: app.clone(),
            limits: Arc::clone(&limits),
            peer,
            permit,
            shutdown: shutdown.clone(),
        };
        tokio::spawn(connection.run(stream, acceptor.clone()));
    }
    drop(listener);
    if !admission.drained(limits.drain).await {
        tracing::warn!("connections were still open at the end of the drain and are cut off");
    }
}

/// One connection and what it needs.
struct Connection {
    app: Router,
    limits: Arc<ServerLimits>,
    peer: SocketAddr,
    permit: Permit,
    shutdown: CancellationToken,
}

impl Connection {
    async fn run(self, stream: TcpStream, acceptor: Option<TlsAcceptor>) {
        let Some(acceptor) = acceptor else {
            return self.speak(stream, false).await;
        };
        match tokio::time::timeout(self.limits.handshake, acceptor.accept(stream)).await {
            Ok(Ok(stream)) => Box::pin(self.speak(stream, true)).await,
            Ok(Err(error)) => {
                crate::metrics::refused("handshake");
                tracing::debug!(%error, "TLS handshake failed");
            }
            Err(_) => crate::metrics::refused("handshake_timeout"),
        }
    }

    async fn speak<S>(self, stream: S, over_tls: bool)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let Self {
            app,
            limits,
            peer,
            permit,
            shutdown,
        } = self;
        let pulse = Arc::new(Pulse::default());
        let io = TokioIo::new(Guarded::new(stream, permit, Arc::clone(&pulse), &limits));
        let app = RequestBodyDeadlineLayer::new(limits.body).layer(app);
        let service = service_fn(move |mut request: Request<Incoming>| {
            let busy = pulse.begin(request.version() == Version::HTTP_2);
            request.extensions_mut().insert(ConnectInfo(peer));
            if over_tls {
                request.extensions_mut().insert(OverTls);
            }
            let (app, pulse) = (app.clone(), Arc::clone(&pulse));
            async move {
                let response: Response<Body> = app.oneshot(request).await?;
                if response.status() == StatusCode::SWITCHING_PROTOCOLS {
                    pulse.upgraded();
                }
                Ok::<_, std::convert::Infallible>(response.map(|body| io::Counted::new(body, busy)))
            }
        });
        let builder = protocol(&limits);
        let mut connection = std::pin::pin!(builder.serve_connection_with_upgrades(io, service));
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = shutdown.cancelled() => {
                connection.as_mut().graceful_shutdown();
                // The permit inside ends the wait of the drain; what outlives the drain ends with the runtime.
                connection.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "a connection broke");
        }
    }
}

fn protocol(limits: &ServerLimits) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        // The head's own deadline is kept by `Guarded`: hyper's also counts the pause before the first byte.
        .header_read_timeout(limits.idle + limits.head)
        .max_buf_size(limits.head_bytes.max(8192))
        .max_headers(limits.fields)
        .half_close(false);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.streams)
        .max_header_list_size(u32::try_from(limits.head_bytes).unwrap_or(u32::MAX))
        .max_pending_accept_reset_streams(32)
        .max_local_error_reset_streams(256)
        .max_send_buf_size(256 * 1024)
        .keep_alive_interval(Some(limits.stall))
        .keep_alive_timeout(limits.head);
    builder
}

#[cfg(test)]
mod tests;
