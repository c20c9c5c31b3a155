//! What was given and taken back, as this process knows it.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{PoisonError, RwLock};

use eventlog::follow::Follows;
use projections::query;
use projections::store::{ViewError, ViewStore};
use schemas::access::{Grant, Revocations};
use schemas::journal::{Envelope, Fact};
use schemas::time::Timestamp;
use smol_str::SmolStr;

/// Revoked tokens, and subjects all of whose tokens up to a moment are.
#[derive(Debug, Default)]
pub struct Revoked {
    known: RwLock<Known>,
    /// Whether anything was ever taken back: every record of a device asks.
    any: AtomicBool,
}

#[derive(Debug, Default)]
struct Known {
    tokens: HashSet<SmolStr>,
    subjects: HashMap<SmolStr, Timestamp>,
}

impl Revoked {
    /// Reads what the views show. What comes later is told by whoever follows the journal.
    ///
    /// # Errors
    /// [`ViewError`].
    pub async fn begin(&self, views: &dyn ViewStore) -> Result<(), ViewError> {
        let shown = query::revocations(views).await?;
        for (id, at) in &shown.tokens {
            self.take(Some(id), None, *at);
        }
        for (subject, at) in &shown.subjects {
            self.take(None, Some(subject), *at);
        }
        Ok(())
    }

    fn take(&self, token: Option<&SmolStr>, subject: Option<&SmolStr>, at: Timestamp) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(token) = token {
            known.tokens.insert(token.clone());
        }
        if let Some(subject) = subject {
            let until = known.subjects.entry(subject.clone()).or_insert(at);
            *until = at.max(*until);
        }
        self.any.store(true, Ordering::Relaxed);
    }
}

impl Follows for Revoked {
    fn kinds(&self) -> &'static [&'static str] {
        &["TokensRevoked"]
    }

    fn fact(&self, envelope: &Envelope) {
        if let Fact::TokensRevoked(it) = &envelope.fact {
            self.take(it.token.as_ref(), it.subject.as_ref(), envelope.measured_at);
        }
    }
}

impl Revocations for Revoked {
    fn is_revoked(&self, subject: &str, grant: &Grant) -> bool {
        if !self.any.load(Ordering::Relaxed) {
            return false;
        }
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let until = known.subjects.get(subject);
        (!grant.id.is_empty() && known.tokens.contains(&grant.id))
            || until.is_some_and(|until| grant.issued_at <= *until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_revoked_by_its_id_or_with_all_that_its_subject_was_given_until_then() {
        let revoked = Revoked::default();
        let tell = |token: Option<&str>, subject: Option<&str>, at| {
            let (token, subject) = (token.map(SmolStr::new), subject.map(SmolStr::new));
            revoked.take(token.as_ref(), subject.as_ref(), Timestamp(at));
        };
        tell(Some("one"), None, 0);
        tell(None, Some("ba"), 50);
        tell(None, Some("ba"), 40);
        tell(Some(""), None, 0);
        for (subject, id, issued_at, is) in [
            ("sow", "one", 90, true),
            ("sow", "two", 10, false),
            ("ba", "two", 50, true),
            ("ba", "two", 51, false),
            ("ba", "", 45, true),
            ("sow", "", 45, false),
        ] {
            let grant = Grant {
                id: id.into(),
                issued_at: Timestamp(issued_at),
                ..Grant::default()
            };
            assert_eq!(revoked.is_revoked(subject, &grant), is, "{subject} {id} {issued_at}");
        }
    }
}
