//! Codes that are good once and not for long: login links, tickets for WebSockets.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use aws_lc_rs::rand;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use schemas::access::Principal;
use schemas::ids::EventId;
use schemas::time::{Span, Timestamp};

/// Why no code was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OnceError {
    /// Too many are waiting to be used: try again later.
    #[error("too many codes are waiting to be used")]
    Full,
    /// The machine gives no randomness.
    #[error("the machine gives no randomness")]
    Random,
}

/// What a code stands for.
#[derive(Debug, Clone)]
struct Held {
    principal: Principal,
    until: Timestamp,
    spend_by: Timestamp,
}

/// Codes waiting to be used. Only their hashes are kept: a look-up tells nothing by its time.
#[derive(Debug)]
pub struct Once {
    domain: &'static str,
    lifetime: Span,
    most: usize,
    held: Mutex<BTreeMap<EventId, Held>>,
}

impl Once {
    /// Codes of one kind (`domain`), each good for `lifetime`, at most `most` of them at a time.
    #[must_use]
    pub const fn new(domain: &'static str, lifetime: Span, most: usize) -> Self {
        Self {
            domain,
            lifetime,
            most,
            held: Mutex::new(BTreeMap::new()),
        }
    }

    /// A code (256 random bits) for `principal`, whose rights end at `until`; also when the code itself runs out.
    ///
    /// # Errors
    /// [`OnceError`].
    pub fn give(
        &self,
        principal: Principal,
        until: Timestamp,
        now: Timestamp,
    ) -> Result<(String, Timestamp), OnceError> {
        let mut bytes = [0; 32];
        rand::fill(&mut bytes).map_err(|_| OnceError::Random)?;
        let code = URL_SAFE_NO_PAD.encode(bytes);
        let spend_by = now + self.lifetime;
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if held.len() >= self.most {
            held.retain(|_, h| now < h.spend_by);
        }
        if held.len() >= self.most {
            return Err(OnceError::Full);
        }
        let kept = Held {
            principal,
            until,
            spend_by,
        };
        held.insert(self.hash(&code), kept);
        Ok((code, spend_by))
    }

    /// Uses a code up: whom it was given to, and until when their rights last.
    #[must_use]
    pub fn spend(&self, code: &str, now: Timestamp) -> Option<(Principal, Timestamp)> {
        let held = {
            let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
            held.remove(&self.hash(code))?
        };
        let good = now < held.spend_by && now < held.until && !held.principal.is_revoked();
        good.then_some((held.principal, held.until))
    }

    fn hash(&self, code: &str) -> EventId {
        EventId::of(self.domain, &[code.as_bytes()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use schemas::access::Role;

    fn somebody() -> Principal {
        Principal {
            live: schemas::access::Live::default(),
            subject: "dr-b".into(),
            role: Role::Doctor,
            patients: Vec::new(),
            sensors: Vec::new(),
        }
    }

    #[test]
    fn a_code_is_good_once_and_not_for_long() {
        let codes = Once::new("t", Span::seconds(30), 10);
        let now = Timestamp::from_millis(1_000_000);
        let later = now + Span::hours(1);
        let (code, spend_by) = codes.give(somebody(), later, now).unwrap();
        assert_eq!(spend_by, now + Span::seconds(30));
        assert_eq!(codes.spend("another", now), None);
        assert_eq!(codes.spend(&code, now), Some((somebody(), later)));
        assert_eq!(codes.spend(&code, now), None, "only once");
        let (late, _) = codes.give(somebody(), later, now).unwrap();
        assert_eq!(codes.spend(&late, now + Span::seconds(30)), None, "too late");
        let (ended, _) = codes.give(somebody(), now + Span::seconds(1), now).unwrap();
        assert_eq!(
            codes.spend(&ended, now + Span::seconds(1)),
            None,
            "the token it came from has ended"
        );
    }

    #[test]
    fn unused_codes_do_not_pile_up() {
        let codes = Once::new("t", Span::seconds(30), 2);
        let now = Timestamp::from_millis(0);
        let give = |at| codes.give(somebody(), Timestamp::MAX, at);
        assert!(give(now).is_ok() && give(now).is_ok());
        assert_eq!(give(now).unwrap_err(), OnceError::Full);
        assert!(give(now + Span::seconds(30)).is_ok());
    }
}
