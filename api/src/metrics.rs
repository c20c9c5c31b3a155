//! What this crate counts.

use metrics::{counter, gauge, histogram};

/// A connection was refused or cut off for reaching this limit.
pub(crate) fn refused(limit: &'static str) {
    counter!("fajma_http_connections_cut_total", "limit" => limit).increment(1);
}

/// Connections opened (positive) or closed.
pub(crate) fn connections(change: f64) {
    gauge!("fajma_http_connections").increment(change);
}

/// A request was answered.
pub(crate) fn answered(route: String, method: &'static str, status: u16, seconds: f64) {
    counter!("fajma_http_requests_total", "route" => route.clone(), "method" => method, "status" => status.to_string())
        .increment(1);
    histogram!("fajma_http_request_duration_seconds", "route" => route).record(seconds);
}

/// WebSockets opened (positive) or closed.
pub(crate) fn sockets(change: f64) {
    gauge!("fajma_ws_connections").increment(change);
}

/// Frames sent to WebSockets.
pub(crate) fn frames(count: u64) {
    counter!("fajma_ws_frames_total").increment(count);
}

/// A WebSocket was too slow for live events and reads on from the log.
pub(crate) fn lagged() {
    counter!("fajma_ws_lagged_total").increment(1);
}
