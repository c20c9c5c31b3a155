//! Tokens of somebody else: the platform around us has logins of its own.
//!
//! The keys are a JWKS that is read again and again; nothing in a token's header chooses how it is checked but which of
//! those keys, and each key checks by the algorithm that it is for. Keys that are secrets (`oct`) are passed over: whoever
//! knows what checks a token could make one.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, JwkSet, KeyAlgorithm, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use schemas::access::{Grant, Live, Principal, Refused, Role};
use schemas::ids::{EventId, PatientId, SensorId};
use schemas::time::Timestamp;
use serde_json::{Map, Value};
use smol_str::{SmolStr, ToSmolStr};
use tokio::sync::Notify;

use super::{LEEWAY, LONGEST, REMEMBERED};

/// So many good tokens are remembered.
const KNOWN: usize = 4096;
/// Longer subjects are nobody's.
const SUBJECT: usize = 128;

/// Whose tokens are good here, and what their claims mean.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Terms {
    /// The `iss` of its tokens.
    pub name: String,
    /// The `aud` of tokens for us.
    pub audience: String,
    /// The claim that says who: `sub`, or another that is the id under which a practitioner is registered.
    pub subject_claim: String,
    /// The claim that says as what: a text or a list of texts; dots go into objects (`realm_access.roles`).
    pub role_claim: String,
    /// What its words mean here, in the order in which they count.
    pub roles: Vec<(String, Role)>,
    /// The claim that names patients, where there is one.
    pub patients_claim: String,
    /// The claim that names sensors, where there is one.
    pub sensors_claim: String,
}

/// An issuer of tokens.
pub struct Issuer {
    terms: Terms,
    keys: RwLock<KeySet>,
    known: quick_cache::sync::Cache<Box<str>, Arc<Said>>,
    /// Somebody showed a token by a key that is not known.
    wanted: Notify,
}

impl fmt::Debug for Issuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Issuer")
            .field("terms", &self.terms)
            .finish_non_exhaustive()
    }
}

/// A key, and what it is for.
struct Key {
    /// Which key it is, whatever it is called: another one of the same name is another.
    digest: SmolStr,
    key: DecodingKey,
    algorithms: Vec<Algorithm>,
}

/// All keys that are good at a time.
type KeySet = Arc<HashMap<String, Key>>;

/// What a good token says.
struct Said {
    principal: Principal,
    from: Timestamp,
    until: Timestamp,
    issued_at: Timestamp,
    /// By which keys that was found: where others took their place it is found out anew.
    keys: KeySet,
}

/// Why a JWKS was not taken; the keys that were known stay.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JwksError {
    /// It is no JWKS.
    #[error("it is no JWKS: {0}")]
    Unreadable(String),
    /// It holds no key that could check a signature.
    #[error("it holds no public key for signatures with a `kid`")]
    Empty,
}

impl Issuer {
    /// Knows no key yet.
    #[must_use]
    pub fn new(terms: Terms) -> Arc<Self> {
        Arc::new(Self {
            terms,
            keys: RwLock::default(),
            known: quick_cache::sync::Cache::new(KNOWN),
            wanted: Notify::new(),
        })
    }

    /// Takes keys in place of those that were known: a key that is not among them any more checks nothing from now on.
    /// Returns how many there are.
    ///
    /// # Errors
    /// [`JwksError`]; then the keys that were known stay.
    pub fn read(&self, jwks: &[u8]) -> Result<usize, JwksError> {
        let set: JwkSet = serde_json::from_slice(jwks).map_err(|e| JwksError::Unreadable(e.to_string()))?;
        let keys: HashMap<String, Key> = set.keys.iter().filter_map(usable).collect();
        if keys.is_empty() {
            return Err(JwksError::Empty);
        }
        let count = keys.len();
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(keys);
        Ok(count)
    }

    /// Whether a key, by what [`Grant::key`] says of it, is among those that are good now.
    #[must_use]
    pub fn holds(&self, digest: &str) -> bool {
        let keys = Arc::clone(&self.keys.read().unwrap_or_else(PoisonError::into_inner));
        let held = keys.values().any(|key| key.digest == digest);
        if !held {
            // A session may come from a process that has read newer keys.
            self.wanted.notify_one();
        }
        held
    }

    /// Returns when somebody has shown a token by a key that is not known: the keys may have been changed.
    pub async fn wanted(&self) {
        self.wanted.notified().await;
    }

    /// Who holds this token at `now`, and until when it is good.
    ///
    /// # Errors
    /// [`Refused`], whatever is wrong with it.
    pub fn verify(&self, token: &str, now: Timestamp) -> Result<(Principal, Timestamp), Refused> {
        if token.len() > LONGEST {
            return Err(Refused);
        }
        let keys = Arc::clone(&self.keys.read().unwrap_or_else(PoisonError::into_inner));
        let said = match self.known.get(token).filter(|said| Arc::ptr_eq(&said.keys, &keys)) {
            Some(said) => said,
            None => {
                let said = Arc::new(self.check(token, &keys)?);
                if token.len() <= REMEMBERED {
                    self.known.insert(token.into(), Arc::clone(&said));
                }
                said
            }
        };
        let timely = now + LEEWAY >= said.from && now - LEEWAY < said.until && said.issued_at <= now + LEEWAY;
        if timely {
            Ok((said.principal.clone(), said.until))
        } else {
            Err(Refused)
        }
    }

    fn check(&self, token: &str, keys: &KeySet) -> Result<Said, Refused> {
        let header = jsonwebtoken::decode_header(token).map_err(|_| Refused)?;
        let names_a_key = header.jwk.is_some() || header.jku.is_some() || header.x5u.is_some();
        if names_a_key || header.crit.is_some() || header.enc.is_some() {
            return Err(Refused);
        }
        let kid = match header.kid {
            Some(kid) => kid,
            // Where there is one key, a token need not say which.
            None if keys.len() == 1 => keys.keys().next().cloned().unwrap_or_default(),
            None => return Err(Refused),
        };
        let Some(key) = keys.get(&kid) else {
            self.wanted.notify_one();
            return Err(Refused);
        };
        if !key.algorithms.contains(&header.alg) {
            return Err(Refused);
        }
        let decoded = jsonwebtoken::decode::<Map<String, Value>>(token, &key.key, &self.validation(header.alg));
        let claims = decoded.map_err(|_| Refused)?.claims;
        self.said(token, &claims, (keys, &key.digest)).ok_or(Refused)
    }

    /// What the library checks: algorithm, issuer, audience, presence. Not times: it would read the machine's clock.
    fn validation(&self, algorithm: Algorithm) -> Validation {
        let mut validation = Validation::new(algorithm);
        validation.set_required_spec_claims(&["exp", "aud", "iss"]);
        validation.set_audience(&[&self.terms.audience]);
        validation.set_issuer(&[&self.terms.name]);
        validation.validate_exp = false;
        validation.validate_nbf = false;
        validation
    }

    fn said(&self, token: &str, claims: &Map<String, Value>, (keys, by): (&KeySet, &SmolStr)) -> Option<Said> {
        let moment = |claim: &str| {
            let seconds = claims.get(claim)?.as_f64().filter(|s| s.abs() < 1e12)?;
            Some(Timestamp((seconds * 1e6) as i64))
        };
        let issued_at = moment("iat").or_else(|| moment("nbf")).unwrap_or(Timestamp::MIN);
        let subject = found(claims, &self.terms.subject_claim)?.as_str()?;
        if subject.is_empty() || subject.len() > SUBJECT {
            return None;
        }
        let words = texts(found(claims, &self.terms.role_claim)?);
        let role = self
            .terms
            .roles
            .iter()
            .find(|(word, _)| words.contains(&word.as_str()))?
            .1;
        let id = match claims.get("jti").and_then(Value::as_str) {
            Some(id) if !id.is_empty() => SmolStr::new(id),
            // What is signed, not the signature: some kinds can be written in more than one way.
            _ => {
                let (signed, _) = token.rsplit_once('.')?;
                EventId::of("fajma.token", &[signed.as_bytes()]).to_smolstr()
            }
        };
        let listed = |claim: &str| found(claims, claim).map(texts).unwrap_or_default();
        let patients = listed(&self.terms.patients_claim).into_iter();
        let sensors = listed(&self.terms.sensors_claim).into_iter();
        Some(Said {
            principal: Principal {
                subject: SmolStr::new(subject),
                role,
                patients: patients.map(PatientId::new).collect::<Result<_, _>>().ok()?,
                sensors: sensors.map(SensorId::new).collect::<Result<_, _>>().ok()?,
                live: Live::granted(Grant {
                    id,
                    issued_at,
                    key: by.clone(),
                }),
            },
            from: moment("nbf").unwrap_or(Timestamp::MIN),
            until: moment("exp")?,
            issued_at,
            keys: Arc::clone(keys),
        })
    }
}

/// A claim by its path.
fn found<'c>(claims: &'c Map<String, Value>, path: &str) -> Option<&'c Value> {
    // A claim may have dots in its own name, as namespaced ones do.
    if let Some(value) = claims.get(path) {
        return Some(value);
    }
    let (first, rest) = path.split_once('.')?;
    let mut value = claims.get(first)?;
    for part in rest.split('.') {
        value = value.get(part)?;
    }
    Some(value)
}

/// A text, words with blanks between them, or a list of texts.
fn texts(value: &Value) -> Vec<&str> {
    match value {
        Value::String(text) => text.split_whitespace().collect(),
        Value::Array(items) => items.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

/// A key that can check signatures, under its name.
fn usable(jwk: &Jwk) -> Option<(String, Key)> {
    let for_signatures = matches!(&jwk.common.public_key_use, None | Some(PublicKeyUse::Signature));
    let by_kind: &[Algorithm] = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => &[
            Algorithm::RS256,
            Algorithm::RS384,
            Algorithm::RS512,
            Algorithm::PS256,
            Algorithm::PS384,
            Algorithm::PS512,
        ],
        AlgorithmParameters::EllipticCurve(it) if it.curve == EllipticCurve::P256 => &[Algorithm::ES256],
        AlgorithmParameters::EllipticCurve(it) if it.curve == EllipticCurve::P384 => &[Algorithm::ES384],
        AlgorithmParameters::OctetKeyPair(it) if it.curve == EllipticCurve::Ed25519 => &[Algorithm::EdDSA],
        _ => return None,
    };
    let algorithms = match &jwk.common.key_algorithm {
        None => by_kind.to_vec(),
        Some(named) => by_kind.iter().filter(|by| same(named, **by)).copied().collect(),
    };
    let kid = jwk.common.key_id.clone()?;
    let key = Key {
        digest: EventId::of("fajma.issuer_key", &[&serde_json::to_vec(&jwk.algorithm).ok()?]).to_smolstr(),
        key: DecodingKey::from_jwk(jwk).ok()?,
        algorithms,
    };
    (for_signatures && !key.algorithms.is_empty()).then_some((kid, key))
}

fn same(named: &KeyAlgorithm, algorithm: Algorithm) -> bool {
    named
        .to_string()
        .parse::<Algorithm>()
        .is_ok_and(|named| named == algorithm)
}

#[cfg(test)]
mod tests;
