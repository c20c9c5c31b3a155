//! Tokens: who somebody is, signed with our own key (JWT, EdDSA over Ed25519).
//!
//! Nothing in a token's header chooses how it is checked: one algorithm, one key. Time is an argument throughout.
//! A signature that was good stays so, and a check of one costs more than everything else about a small request: what the
//! last few thousand good tokens say is remembered. Whether it is time for one is judged each time.

mod issuer;
mod key;
mod once;
mod seal;

pub use issuer::{Issuer, JwksError, Terms};
pub use key::{KeyError, Keys};
pub use once::{Once, OnceError};

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, Header, Validation};
use schemas::access::{Authenticate, Grant, Live, Principal, Refused, Role};
use schemas::ids::{PatientId, SensorId};
use schemas::time::{Span, Timestamp};
use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

/// Who issues our tokens, and whom they are for.
const HOUSE: &str = "fajma";
/// What our header says the token is.
const KIND: &str = "JWT";
/// How far the clocks of two of our processes may differ.
const LEEWAY: Span = Span::seconds(30);
/// A longer one is checked anew each time.
const REMEMBERED: usize = 8 * 1024;
/// A longer one is not read at all.
const LONGEST: usize = 64 * 1024;

/// What a token says. Times in seconds since 1970.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Claims {
    iss: String,
    aud: String,
    sub: SmolStr,
    exp: i64,
    nbf: i64,
    iat: i64,
    /// Which token; of a session, the token that it was begun with.
    #[serde(default, skip_serializing_if = "SmolStr::is_empty")]
    jti: SmolStr,
    /// Of a session that was begun with a token of another issuer: the key that this one was signed with.
    #[serde(default, skip_serializing_if = "SmolStr::is_empty")]
    issuer_key: SmolStr,
    role: Role,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    patients: Vec<PatientId>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    sensors: Vec<SensorId>,
}

/// A token for `principal`, good from `now` for `lifetime`.
///
/// # Errors
/// [`KeyError::Sign`] where the key does not sign.
pub fn issue(keys: &Keys, principal: &Principal, lifetime: Span, now: Timestamp) -> Result<String, KeyError> {
    let seconds = |t: Timestamp| t.0.div_euclid(1_000_000);
    // A session is its token's: whatever ends that one, by its id or by when it was given, ends the session.
    let grant = principal.live.grant();
    let (jti, iat) = if grant.id.is_empty() {
        (new_id()?, seconds(now))
    } else {
        (grant.id.clone(), seconds(grant.issued_at))
    };
    let claims = Claims {
        iss: HOUSE.to_owned(),
        aud: HOUSE.to_owned(),
        sub: principal.subject.clone(),
        exp: seconds(now + lifetime),
        nbf: seconds(now),
        iat,
        jti,
        issuer_key: grant.key.clone(),
        role: principal.role,
        patients: principal.patients.clone(),
        sensors: principal.sensors.clone(),
    };
    let mut header = Header::new(Algorithm::EdDSA);
    header.kid = Some(keys.id().to_owned());
    jsonwebtoken::encode(&header, &claims, keys.signing()).map_err(|_| KeyError::Sign)
}

/// The id in a token, whoever issued it and whether it is good or not; `None` where it has none.
#[must_use]
pub fn id_of(token: &str) -> Option<String> {
    let body = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    let claims: serde_json::Value = serde_json::from_slice(&body).ok()?;
    claims["jti"].as_str().filter(|id| !id.is_empty()).map(str::to_owned)
}

/// An id that nobody can guess.
fn new_id() -> Result<SmolStr, KeyError> {
    let mut bytes = [0; 16];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| KeyError::Random)?;
    Ok(SmolStr::from(URL_SAFE_NO_PAD.encode(bytes)))
}

impl Keys {
    /// Who holds this token at `now`, and until when it is good.
    ///
    /// # Errors
    /// [`Refused`], whatever is wrong with it.
    pub fn verify(&self, token: &str, now: Timestamp) -> Result<(Principal, Timestamp), Refused> {
        if token.len() > LONGEST {
            return Err(Refused);
        }
        if let Some(known) = self.known().get(token) {
            return judge(&known, now);
        }
        let claims = Arc::new(self.check(token)?);
        if token.len() <= REMEMBERED {
            self.known().insert(token.into(), Arc::clone(&claims));
        }
        judge(&claims, now)
    }

    /// What a token says, where it is signed as ours are.
    fn check(&self, token: &str) -> Result<Claims, Refused> {
        // The header's own words first: nothing may name a key, and an extension we do not know may change the meaning.
        let header = jsonwebtoken::decode_header(token).map_err(|_| Refused)?;
        let names_a_key = header.jwk.is_some() || header.jku.is_some() || header.x5u.is_some() || header.x5c.is_some();
        let other_key = header.kid.as_deref().is_some_and(|kid| kid != self.id());
        let other_kind = header.typ.as_deref() != Some(KIND) || header.crit.is_some() || header.enc.is_some();
        if names_a_key || other_key || other_kind {
            return Err(Refused);
        }
        jsonwebtoken::decode::<Claims>(token, self.checking(), &validation())
            .map(|data| data.claims)
            .map_err(|_| Refused)
    }
}

/// What the library checks: algorithm, issuer, audience, presence. Not times: it would read the machine's clock.
fn validation() -> Validation {
    let mut validation = Validation::new(Algorithm::EdDSA);
    validation.set_required_spec_claims(&["exp", "nbf", "aud", "iss", "sub"]);
    validation.set_audience(&[HOUSE]);
    validation.set_issuer(&[HOUSE]);
    validation.validate_exp = false;
    validation.validate_nbf = false;
    validation
}

fn judge(claims: &Claims, now: Timestamp) -> Result<(Principal, Timestamp), Refused> {
    let moment = |seconds: i64| Timestamp(seconds.saturating_mul(1_000_000));
    let (from, until) = (moment(claims.nbf), moment(claims.exp));
    let timely = now + LEEWAY >= from && now - LEEWAY < until && moment(claims.iat) <= now + LEEWAY && from <= until;
    if !timely || claims.sub.is_empty() || claims.iss != HOUSE || claims.aud != HOUSE {
        return Err(Refused);
    }
    let principal = Principal {
        live: Live::granted(Grant {
            id: claims.jti.clone(),
            issued_at: moment(claims.iat),
            key: claims.issuer_key.clone(),
        }),
        subject: claims.sub.clone(),
        role: claims.role,
        patients: claims.patients.clone(),
        sensors: claims.sensors.clone(),
    };
    Ok((principal, until))
}

impl Authenticate for Keys {
    fn authenticate(&self, token: &str, now: Timestamp) -> Result<Principal, Refused> {
        self.verify(token, now).map(|(principal, _)| principal)
    }

    fn authenticate_until(&self, token: &str, now: Timestamp) -> Result<(Principal, Timestamp), Refused> {
        self.verify(token, now)
    }
}

#[cfg(test)]
mod tests;
