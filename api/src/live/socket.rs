//! The WebSockets: who may open one, what it is told, and when it ends.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade};
use axum::extract::{FromRequestParts, Path, Query, State as Given};
use axum::http::request::Parts;
use axum::response::Response;
use schemas::access::Action;
use schemas::facts::ConsultationState;
use serde::Deserialize;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

use super::feed::{Broken, Feed, Frame, Scope};
use super::held::Held;
use crate::auth::{Caller, bearer, from_our_own_page};
use crate::problem::Problem;
use crate::routes::{person, visible};
use crate::state::State;

/// How often it is looked whether the right to see it still holds, where nothing comes.
const LOOK: Duration = Duration::from_millis(500);
/// Between two pings.
const PING: Duration = Duration::from_secs(15);
/// Without a sign of the client, pongs included.
const SILENCE: Duration = Duration::from_secs(45);
/// For a client to take a frame.
const TAKE_WITHIN: Duration = Duration::from_secs(20);
/// Clients have nothing to say; a longer message closes the connection. Bytes.
const HEARD_BYTES: usize = 4 * 1024;
/// Sleeping longer than this gains nothing.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

/// Why a WebSocket was closed by us: RFC 6455 codes, and our own from 4000 on.
mod code {
    /// What was watched has ended.
    pub(super) const OVER: u16 = 1000;
    /// The server ends: come back with the cursor.
    pub(super) const AWAY: u16 = 1001;
    /// Something failed here: come back with the cursor.
    pub(super) const FAILED: u16 = 1011;
    /// The cursor is none of this stream's: start anew.
    pub(super) const CURSOR: u16 = 4400;
    /// The token has ended: sign in again.
    pub(super) const EXPIRED: u16 = 4401;
    /// The right to see it has ended.
    pub(super) const ENDED: u16 = 4403;
    /// Nothing was heard of the client.
    pub(super) const SILENT: u16 = 4408;
    /// Too much was missed to be told one by one: ask for the state of things, and start anew.
    pub(super) const TOO_OLD: u16 = 4410;
}

/// Parameters of a stream.
#[derive(Debug, Deserialize)]
pub(crate) struct Ask {
    since: Option<String>,
    ticket: Option<String>,
}

/// Whoever opens a WebSocket: by ticket, bearer token, or the cookie of a page of ours.
#[derive(Debug)]
pub(crate) struct Watcher {
    caller: Caller,
    since: Option<String>,
}

impl FromRequestParts<Arc<State>> for Watcher {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &Arc<State>) -> Result<Self, Problem> {
        let Query(ask) = Query::<Ask>::from_request_parts(parts, state)
            .await
            .map_err(|_| Problem::invalid("since", "a cursor is a text", "un curseur est un texte"))?;
        let caller = if let Some(ticket) = ask.ticket {
            let spent = state.tickets.spend(&ticket, state.now());
            let (principal, until) = spent.ok_or(Problem::Unauthenticated)?;
            Caller { principal, until }
        } else {
            let caller = Caller::of(parts, state)?;
            // A page of another site could open a WebSocket with our cookie; it could not send our token.
            if bearer(&parts.headers).is_none() && !from_our_own_page(&parts.headers) {
                return Err(Problem::OtherSite);
            }
            caller
        };
        Ok(Self {
            caller,
            since: ask.since,
        })
    }
}

/// `/ws/patients/{p}`: readings, alerts and windows of one patient.
pub(crate) async fn patient(
    Given(state): Given<Arc<State>>,
    Path(patient): Path<String>,
    watcher: Watcher,
    upgrade: WebSocketUpgrade,
) -> Result<Response, Problem> {
    let patient = watcher.caller.see(&patient)?;
    let patient = person(&state, &patient).await?;
    Ok(open(state, Scope::Patient(patient), watcher, upgrade))
}

/// `/ws/consultation/{c}`: readings, alerts and windows of its patient, while it is open. It may be opened before the
/// consultation is; after the closing, only what was missed is told, to who comes back with a cursor.
pub(crate) async fn consultation(
    Given(state): Given<Arc<State>>,
    Path(id): Path<String>,
    watcher: Watcher,
    upgrade: WebSocketUpgrade,
) -> Result<Response, Problem> {
    let found = visible(&state, &watcher.caller, &id).await?;
    if found.state() == ConsultationState::Closed && watcher.since.is_none() {
        return Err(Problem::Conflict {
            detail: "This consultation is closed: nothing more is told.",
            detail_fr: "Cette consultation est close : il n’y a plus rien à suivre.",
        });
    }
    Ok(open(state, Scope::Consultation(Held::of(&found)), watcher, upgrade))
}

/// `/ws/alerts`: the alerts of everybody whom the caller may see.
pub(crate) async fn alerts(
    Given(state): Given<Arc<State>>,
    watcher: Watcher,
    upgrade: WebSocketUpgrade,
) -> Result<Response, Problem> {
    watcher.caller.sight()?;
    let scope = Scope::Alerts(watcher.caller.principal.clone());
    Ok(open(state, scope, watcher, upgrade))
}

fn open(state: Arc<State>, scope: Scope, watcher: Watcher, upgrade: WebSocketUpgrade) -> Response {
    upgrade
        .max_message_size(HEARD_BYTES)
        .max_frame_size(HEARD_BYTES)
        .on_upgrade(move |mut socket| async move {
            crate::metrics::sockets(1.0);
            let (code, reason) = Box::pin(stream(&state, scope, &watcher, &mut socket)).await;
            crate::metrics::sockets(-1.0);
            let close = CloseFrame {
                code,
                reason: reason.into(),
            };
            // A client that takes nothing is not waited for.
            let _ = timeout(Duration::from_secs(1), socket.send(Message::Close(Some(close)))).await;
        })
}

/// Tells until the end; why it ended.
async fn stream(state: &State, scope: Scope, watcher: &Watcher, socket: &mut WebSocket) -> (u16, &'static str) {
    let watched = match &scope {
        Scope::Patient(patient) | Scope::Consultation(Held { patient, .. }) => Some(patient.clone()),
        Scope::Alerts(_) => None,
    };
    // A consultation stays with the registration that it was begun for.
    let is_of_a_person = matches!(scope, Scope::Patient(_));
    // Rights may end while the stream goes on; those of a list are asked for each of its items. Of what was revoked nothing
    // is left: a list that told nothing more and stayed open would look like a quiet night.
    let who = &watcher.caller.principal;
    let ended = || {
        if who.is_revoked() {
            return Some((code::ENDED, "the token was revoked"));
        }
        let patient = watched.as_ref()?;
        if !who.may(Action::SeePatient(patient)) {
            return Some((code::ENDED, "the right to see this has ended"));
        }
        let stands = !is_of_a_person || who.stands(patient);
        (!stands).then_some((code::TOO_OLD, "another registration stands for this person: start anew"))
    };
    let mut feed = match Feed::begin(&state.hub, scope, watcher.since.as_deref()).await {
        Ok(feed) => feed,
        Err(broken) => return closing(&broken),
    };
    if let Some(held) = feed.held()
        && held.look_again(state).await.is_err()
    {
        return (code::FAILED, "the stream failed: come back with the cursor");
    }
    // The first frame tells the place, so that a client that loses the connection at once can come back to it.
    if !send(socket, Message::Text(Frame::default().json(&feed.cursor()).into())).await {
        return (code::SILENT, "the client takes nothing");
    }
    let lasts = Duration::from_micros(u64::try_from((watcher.caller.until - state.now()).0).unwrap_or(0)).min(LONGEST);
    let mut expiry = std::pin::pin!(sleep(lasts));
    let mut pings = interval(PING);
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut looks = interval(LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut heard = Instant::now();
    loop {
        let message = tokio::select! {
            biased;
            () = state.parts.shutdown.cancelled() => return (code::AWAY, "the server ends"),
            () = &mut expiry => return (code::EXPIRED, "the token has ended"),
            received = socket.recv() => match received {
                Some(Ok(Message::Close(_)) | Err(_)) | None => return (1000, "goodbye"),
                Some(Ok(_)) => {
                    heard = Instant::now();
                    continue;
                }
            },
            _ = looks.tick() => match ended() {
                Some(ended) => return ended,
                None => continue,
            },
            _ = pings.tick() => {
                if heard.elapsed() > SILENCE {
                    return (code::SILENT, "nothing was heard of the client");
                }
                if feed.refresh().await {
                    let frame = Message::Text(Frame::default().json(&feed.cursor()).into());
                    if !send(socket, frame).await {
                        return (code::SILENT, "the client takes nothing");
                    }
                }
                Message::Ping(bytes::Bytes::new())
            },
            frame = feed.next() => match frame {
                Ok(frame) => Message::Text(frame.json(&feed.cursor()).into()),
                Err(broken) => return closing(&broken),
            },
        };
        if let Some(ended) = ended() {
            return ended;
        }
        let told = matches!(message, Message::Text(_));
        if !send(socket, message).await {
            return (code::SILENT, "the client takes nothing");
        }
        crate::metrics::frames(u64::from(told));
    }
}

/// Whether the client took it in time.
async fn send(socket: &mut WebSocket, message: Message) -> bool {
    matches!(timeout(TAKE_WITHIN, socket.send(message)).await, Ok(Ok(())))
}

fn closing(broken: &Broken) -> (u16, &'static str) {
    match broken {
        Broken::Cursor => (code::CURSOR, "the cursor is not one of this stream: start without it"),
        Broken::TooOld => (
            code::TOO_OLD,
            "the cursor is too old: ask for the state of things, start without it",
        ),
        Broken::Over => (code::OVER, "the consultation is over"),
        Broken::Log(_) | Broken::Record(_) => {
            tracing::error!(error = %broken, "a live stream broke");
            (code::FAILED, "the stream failed: come back with the cursor")
        }
    }
}
