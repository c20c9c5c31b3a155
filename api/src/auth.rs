//! Who is asking: a bearer token, or the cookie of a browser that came through a login link.

use std::borrow::Cow;
use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::header::{AUTHORIZATION, COOKIE, HOST, ORIGIN};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use schemas::access::{Action, Principal, Sight};
use schemas::ids::PatientId;
use schemas::time::Timestamp;

use crate::problem::Problem;
use crate::read_after;
use crate::server::OverTls;
use crate::state::State;

/// The cookie over TLS: browsers keep it to this host, and send it over TLS alone.
pub(crate) const COOKIE_TLS: &str = "__Host-fajma";
/// The cookie without TLS (loopback).
pub(crate) const COOKIE_PLAIN: &str = "fajma";

/// Somebody whose token was good. As an argument of a route it also waits for `Fajma-Read-After`.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    pub(crate) principal: Principal,
    pub(crate) until: Timestamp,
}

impl FromRequestParts<Arc<State>> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &Arc<State>) -> Result<Self, Problem> {
        let caller = Self::of(parts, state)?;
        read_after::wait(state, &parts.headers).await?;
        Ok(caller)
    }
}

impl Caller {
    /// Who is asking, without waiting for anything.
    pub(crate) fn of(parts: &Parts, state: &State) -> Result<Self, Problem> {
        let over_tls = parts.extensions.get::<OverTls>().is_some();
        if let Some(token) = bearer(&parts.headers) {
            return Self::holding(&token, state);
        }
        let token = cookie(&parts.headers, over_tls).ok_or(Problem::Unauthenticated)?;
        if !matches!(parts.method, Method::GET | Method::HEAD) && !from_our_own_page(&parts.headers) {
            return Err(Problem::OtherSite);
        }
        Self::holding(token, state)
    }

    pub(crate) fn holding(token: &str, state: &State) -> Result<Self, Problem> {
        let (principal, until) = state
            .parts
            .authenticate
            .authenticate_until(token, state.now())
            .map_err(|_| Problem::Unauthenticated)?;
        Ok(Self { principal, until })
    }

    /// Passes who may see the patient; for everybody else there is no such patient.
    pub(crate) fn see(&self, patient: &str) -> Result<PatientId, Problem> {
        let patient = PatientId::new(patient).map_err(|_| Problem::NotFound)?;
        if self.principal.may(Action::SeePatient(&patient)) {
            Ok(patient)
        } else {
            Err(Problem::NotFound)
        }
    }

    /// What lists are cut to; who may see nobody is refused.
    pub(crate) fn sight(&self) -> Result<Sight<'_>, Problem> {
        match self.principal.sight() {
            Sight::None => Err(Problem::Forbidden),
            sight => Ok(sight),
        }
    }

    /// Passes who may.
    pub(crate) fn may(&self, action: Action<'_>) -> Result<(), Problem> {
        if self.principal.may(action) {
            Ok(())
        } else {
            Err(Problem::Forbidden)
        }
    }
}

/// The token of an `Authorization` header: `Bearer`, or `Basic` with the token as password for tools that know no other
/// (readers of schema registries), as MQTT does it.
pub(crate) fn bearer(headers: &HeaderMap) -> Option<Cow<'_, str>> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(token.trim().into());
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let pair = String::from_utf8(STANDARD.decode(token.trim()).ok()?).ok()?;
    pair.split_once(':').map(|(_, password)| password.to_owned().into())
}

/// The token in the browser's cookie.
pub(crate) fn cookie(headers: &HeaderMap, over_tls: bool) -> Option<&str> {
    let name = if over_tls { COOKIE_TLS } else { COOKIE_PLAIN };
    let pairs = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
    pairs
        .flat_map(|pairs| pairs.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(key, _)| *key == name)
        .map(|(_, value)| value)
}

/// Whether a browser says that the request comes from a page of ours. Silence is a no: whoever is no browser sends a
/// bearer token.
pub(crate) fn from_our_own_page(headers: &HeaderMap) -> bool {
    let text = |name| {
        headers
            .get(name)
            .and_then(|value: &axum::http::HeaderValue| value.to_str().ok())
    };
    if let Some(site) = headers.get("sec-fetch-site") {
        return site == "same-origin";
    }
    let host = text(HOST);
    let origin = text(ORIGIN)
        .and_then(|origin| origin.split_once("://"))
        .map(|(_, host)| host);
    host.is_some() && host == origin
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let pairs = pairs.iter().map(|(k, v)| ((*k).parse().unwrap(), v.parse().unwrap()));
        pairs.collect()
    }

    #[test]
    fn a_cookie_counts_by_its_exact_name() {
        let both = headers(&[("cookie", "a=1; fajma=plain; __Host-fajma=tls")]);
        assert_eq!(
            (cookie(&both, false), cookie(&both, true)),
            (Some("plain"), Some("tls"))
        );
        assert_eq!(cookie(&headers(&[("cookie", "xfajma=1; fajma2=2")]), false), None);
    }

    #[test]
    fn only_our_own_pages_change_things_by_cookie() {
        for (pairs, ours) in [
            (&[][..], false),
            (&[("sec-fetch-site", "same-origin")], true),
            (&[("sec-fetch-site", "same-site")], false),
            (
                &[
                    ("sec-fetch-site", "cross-site"),
                    ("origin", "http://h:1"),
                    ("host", "h:1"),
                ],
                false,
            ),
            (&[("origin", "http://h:1"), ("host", "h:1")], true),
            (&[("origin", "http://h:2"), ("host", "h:1")], false),
            (&[("origin", "null"), ("host", "h:1")], false),
            (&[("host", "h:1")], false),
        ] {
            assert_eq!(from_our_own_page(&headers(pairs)), ours, "{pairs:?}");
        }
    }
}
