//! Who is let in: whose token is good, with the rights that are registered for them, until it is revoked.

use std::sync::Arc;

use api::token::{Issuer, Keys};
use api::{CareTeams, Revoked};
use schemas::access::{self, Authenticate, Principal, Refused, Revocations};
use schemas::time::Timestamp;

/// Tokens by the house's own key, and those of a configured issuer; with care teams, and who is one person.
#[derive(Debug)]
pub(super) struct Admission {
    pub(super) keys: Arc<Keys>,
    pub(super) issuer: Option<Arc<Issuer>>,
    pub(super) teams: Arc<CareTeams>,
    pub(super) revoked: Arc<Revoked>,
}

impl Admission {
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
            .with_revocations(Arc::clone(&self.revoked) as Arc<dyn Revocations>);
        // For all of them: a patient, or a gateway bound to some, is who they are under each of their registrations.
        let teams = Arc::clone(&self.teams) as Arc<dyn access::CareTeams>;
        principal.live = principal.live.with_teams(teams);
        if principal.is_revoked() {
            return Err(Refused);
        }
        Ok((principal, until))
    }
}
