//! Who is let in: whose token is good, with the rights that are registered for them, until it is revoked.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use api::token::{Issuer, Keys};
use api::{CareTeams, Revoked};
use schemas::access::{self, Authenticate, Grant, Principal, Refused, Revocations};
use schemas::time::Timestamp;

use super::known::Known;

/// Tokens by the house's own key, and those of a configured issuer; with care teams, and who is one person.
#[derive(Debug)]
pub(super) struct Admission {
    keys: Arc<Keys>,
    issuer: Option<Arc<Issuer>>,
    teams: Arc<CareTeams>,
    ends: Arc<Ends>,
    /// Whether it is known what was revoked: nobody is let in before.
    known: Arc<AtomicBool>,
}

impl Admission {
    pub(super) fn new(keys: &Arc<Keys>, issuer: Option<&Arc<Issuer>>, known: &Known) -> Self {
        Self {
            keys: Arc::clone(keys),
            issuer: issuer.cloned(),
            teams: Arc::clone(&known.teams),
            ends: Arc::new(Ends {
                revoked: Arc::clone(&known.revoked),
                issuer: issuer.cloned(),
            }),
            known: Arc::clone(&known.begun),
        }
    }

    fn holder(&self, token: &str, now: Timestamp) -> Result<(Principal, Timestamp), Refused> {
        match (self.keys.authenticate_until(token, now), &self.issuer) {
            (Err(Refused), Some(issuer)) => issuer.verify(token, now),
            (own, _) => own,
        }
    }
}

impl Authenticate for Admission {
    fn authenticate(&self, token: &str, now: Timestamp) -> Result<Principal, Refused> {
        self.authenticate_until(token, now).map(|(principal, _)| principal)
    }

    fn authenticate_until(&self, token: &str, now: Timestamp) -> Result<(Principal, Timestamp), Refused> {
        let (mut principal, until) = self.holder(token, now)?;
        principal.live = principal
            .live
            .with_revocations(Arc::clone(&self.ends) as Arc<dyn Revocations>);
        // For all of them: a patient, or a gateway bound to some, is who they are under each of their registrations.
        let teams = Arc::clone(&self.teams) as Arc<dyn access::CareTeams>;
        principal.live = principal.live.with_teams(teams);
        if principal.is_revoked() || !self.known.load(Ordering::Acquire) {
            return Err(Refused);
        }
        Ok((principal, until))
    }
}

/// What ends a token, and the sessions and streams that were begun with it, before its time: it is taken back, or the
/// issuer withdraws the key that it was signed with.
#[derive(Debug)]
struct Ends {
    revoked: Arc<Revoked>,
    issuer: Option<Arc<Issuer>>,
}

impl Revocations for Ends {
    fn is_revoked(&self, subject: &str, grant: &Grant) -> bool {
        let withdrawn = || !self.issuer.as_ref().is_some_and(|issuer| issuer.holds(&grant.key));
        (!grant.key.is_empty() && withdrawn()) || self.revoked.is_revoked(subject, grant)
    }
}
