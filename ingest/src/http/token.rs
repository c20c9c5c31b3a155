//! Who sends: `Authorization: Bearer <token>`, or Basic with the token as password, which is all that some clients of
//! the REST Proxy can do.

use axum::http::{HeaderMap, header};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use schemas::access::{Principal, Refused};
use schemas::time::Timestamp;

use super::HttpDoors;

/// The sender of a request.
pub(super) fn sender(doors: &HttpDoors, headers: &HeaderMap) -> Result<Principal, Refused> {
    sender_until(doors, headers).map(|(sender, _)| sender)
}

/// The sender of a request that may take long, and when their token ends.
pub(super) fn sender_until(doors: &HttpDoors, headers: &HeaderMap) -> Result<(Principal, Timestamp), Refused> {
    let value = headers
        .get(header::AUTHORIZATION)
        .and_then(|v| v.to_str().ok())
        .ok_or(Refused)?;
    let (scheme, credentials) = value.trim().split_once(' ').ok_or(Refused)?;
    let now = doors.clock.now();
    if scheme.eq_ignore_ascii_case("bearer") {
        doors.auth.authenticate_until(credentials.trim(), now)
    } else if scheme.eq_ignore_ascii_case("basic") {
        let plain = STANDARD.decode(credentials.trim()).map_err(|_| Refused)?;
        let plain = String::from_utf8(plain).map_err(|_| Refused)?;
        let (_, token) = plain.split_once(':').ok_or(Refused)?;
        doors.auth.authenticate_until(token, now)
    } else {
        Err(Refused)
    }
}
