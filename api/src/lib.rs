//! Rows to people: the REST API, WebSockets, the page, tokens, and the server that carries every HTTP door.
//!
//! `app` makes [`Keys`](token::Keys), fills [`Parts`], gives [`State`] to [`router`], merges other crates' routers, puts
//! [`with_common_layers`] around the whole and hands it to [`server::serve`].

mod auth;
mod care;
mod command;
mod consultations;
mod doors;
mod layers;
mod live;
mod metrics;
mod operations;
mod problem;
mod read_after;
mod registry;
mod revoked;
mod routes;
pub mod server;
mod state;
#[cfg(test)]
mod testing;
pub mod token;
mod wire;

pub use care::CareTeams;
pub use command::envelope as decided;
pub use doors::{Doors, NoDoors, SaidOf};
pub use layers::with_common_layers;
pub use live::{Followed, follow_consultation};
pub use operations::{Disk, DoorTraffic, Lag, Operations, Stats};
pub use problem::Problem;
pub use read_after::Position;
pub use registry::{Imported, RefusedRow, Registry};
pub use revoked::Revoked;
pub use routes::{router, running_router};
pub use state::{LOGIN_LINK, Parts, SESSION, State, TICKET};
