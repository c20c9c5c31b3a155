//! Who is let in: whose token is good, with the rights that are registered for them.

use std::sync::Arc;

use api::CareTeams;
use api::token::Keys;
use schemas::access::{self, Authenticate, Principal, Refused, Role, Teams};
use schemas::time::Timestamp;

/// Tokens by the house's own key; doctors see the patients of their care teams as well.
#[derive(Debug)]
pub(super) struct Admission {
    pub(super) keys: Arc<Keys>,
    pub(super) teams: Arc<CareTeams>,
}

impl Authenticate for Admission {
    fn authenticate(&self, token: &str, now: Timestamp) -> Result<Principal, Refused> {
        self.authenticate_until(token, now).map(|(principal, _)| principal)
    }

    fn authenticate_until(&self, token: &str, now: Timestamp) -> Result<(Principal, Timestamp), Refused> {
        let (mut principal, until) = self.keys.authenticate_until(token, now)?;
        if principal.role == Role::Doctor {
            principal.teams = Teams::of(Arc::clone(&self.teams) as Arc<dyn access::CareTeams>);
        }
        Ok((principal, until))
    }
}
