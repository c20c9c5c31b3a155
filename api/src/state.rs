//! What the routes stand on, filled by `app`.

use std::fmt;
use std::sync::Arc;

use eventlog::{Clock, EventLog};
use projections::runner::ProgressBoard;
use projections::store::ViewStore;
use schemas::access::{Authenticate, Principal};
use schemas::codec::Catalogue;
use schemas::time::{Span, Timestamp};
use tokio_util::sync::CancellationToken;

use crate::consultations::Desk;
use crate::doors::Doors;
use crate::live::Hub;
use crate::operations::Operations;
use crate::registry::Registry;
use crate::token::{Keys, Once, OnceError};

/// How long a login link is good.
pub const LOGIN_LINK: Span = Span::hours(1);
/// How long a browser stays signed in.
pub const SESSION: Span = Span::hours(12);
/// How long a WebSocket ticket is good.
pub const TICKET: Span = Span::seconds(30);

/// What `app` gives.
#[derive(Clone)]
pub struct Parts {
    /// The log: commands go there, WebSockets read from there.
    pub log: Arc<dyn EventLog>,
    /// The views: queries read from there.
    pub views: Arc<dyn ViewStore>,
    /// Who is registered; the house has one, so that its writers wait for each other.
    pub registry: Arc<Registry>,
    /// How far the views are, where this process projects them; `None` where another one does.
    pub board: Option<Arc<ProgressBoard>>,
    /// The schemas that records are read by.
    pub catalogue: Arc<Catalogue>,
    /// Signs the sessions of browsers.
    pub keys: Arc<Keys>,
    /// Tells good tokens from bad ones; usually the same `keys`.
    pub authenticate: Arc<dyn Authenticate>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// How the house runs.
    pub operations: Arc<dyn Operations>,
    /// The doors of this process.
    pub doors: Arc<dyn Doors>,
    /// Closes WebSockets when the process is to end.
    pub shutdown: CancellationToken,
}

/// What the routes stand on.
pub struct State {
    pub(crate) parts: Parts,
    pub(crate) logins: Once,
    pub(crate) tickets: Once,
    pub(crate) hub: Hub,
    pub(crate) consultations: Desk,
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State")
            .field("keys", &self.parts.keys)
            .finish_non_exhaustive()
    }
}

impl State {
    /// The state of one API. Give it to [`crate::router`].
    #[must_use]
    pub fn new(parts: Parts) -> Arc<Self> {
        let hub = Hub::new(
            Arc::clone(&parts.log),
            Arc::clone(&parts.catalogue),
            parts.shutdown.clone(),
        );
        Arc::new(Self {
            logins: Once::new("fajma.login", LOGIN_LINK, 1000),
            tickets: Once::new("fajma.ticket", TICKET, 10_000),
            hub,
            consultations: Desk::default(),
            parts,
        })
    }

    /// The path and query of a link that signs a browser in as `principal`, once, within [`LOGIN_LINK`]:
    /// `/login?code=…`.
    ///
    /// # Errors
    /// [`OnceError`].
    pub fn login_path(&self, principal: Principal) -> Result<String, OnceError> {
        let (code, _) = self.logins.give(principal, Timestamp::MAX, self.now())?;
        Ok(format!("/login?code={code}"))
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.parts.clock.now()
    }
}
