//! Every session of this door, by who holds it and under which client id: whoever comes back finds theirs, and only one
//! connection has it at a time. In memory: a restart of the door forgets them, and CONNACK says so.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use schemas::access::Principal;
use schemas::ids::SensorId;
use smol_str::SmolStr;
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use super::metrics;
use super::session::{Notice, Session};

/// Whose session: client ids of different people never meet.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Holder {
    /// The token's subject.
    pub(super) subject: SmolStr,
    /// The client id.
    pub(super) client: String,
}

/// A session, shared by its connection and whoever has alerts for it.
#[derive(Debug)]
pub(super) struct Seat {
    session: Mutex<Session>,
    /// Notified when something was queued.
    pub(super) wake: Notify,
}

impl Seat {
    /// The session, for as long as it takes to look and write down.
    pub(super) fn session(&self) -> MutexGuard<'_, Session> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What became of a session whose last will is still waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// Its client came back: the will is not sent.
    Resumed,
    /// It is over: the will is sent now.
    Ended,
}

#[derive(Debug)]
struct Entry {
    seat: Arc<Seat>,
    live: Option<Live>,
    /// Until when it is kept without a connection.
    expires: Option<Instant>,
    will: Option<oneshot::Sender<Fate>>,
}

/// A connection that has the session.
#[derive(Debug, Clone)]
struct Live {
    /// Asks it to leave.
    leave: CancellationToken,
    /// It has left.
    gone: CancellationToken,
}

#[derive(Debug, Default)]
struct Book {
    entries: HashMap<Holder, Entry>,
    /// Those with a subscription.
    listeners: HashMap<Holder, Arc<Seat>>,
    offline: usize,
}

/// All sessions.
#[derive(Debug)]
pub(super) struct Sessions {
    book: Mutex<Book>,
    /// How many are kept without a connection.
    limit: usize,
}

/// The connection before still has the session and does not leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Busy;

impl Sessions {
    pub(super) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self {
            book: Mutex::default(),
            limit,
        })
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives a connection its session, taking it over from another one that has it. `clean` begins anew.
    ///
    /// # Errors
    /// [`Busy`] where the other one has not left within `patience`.
    pub(super) async fn attach(
        self: &Arc<Self>,
        holder: Holder,
        principal: Principal,
        clean: bool,
        patience: Duration,
    ) -> Result<Attached, Busy> {
        let deadline = Instant::now() + patience;
        loop {
            let Some(live) = self.occupant(&holder) else {
                return Ok(self.sit(holder, principal, clean));
            };
            live.leave.cancel();
            timeout_at(deadline, live.gone.cancelled()).await.map_err(|_| Busy)?;
            // Another connection may have been faster: look again, within the same patience.
            if Instant::now() >= deadline {
                return Err(Busy);
            }
        }
    }

    fn occupant(&self, holder: &Holder) -> Option<Live> {
        self.book().entries.get(holder).and_then(|e| e.live.clone())
    }

    fn sit(self: &Arc<Self>, holder: Holder, principal: Principal, clean: bool) -> Attached {
        let now = Instant::now();
        let live = Live {
            leave: CancellationToken::new(),
            gone: CancellationToken::new(),
        };
        let mut book = self.book();
        if book
            .entries
            .get(&holder)
            .is_some_and(|e| clean || e.expires.is_some_and(|at| at <= now))
        {
            book.end(&holder);
        }
        let (seat, present) = match book.entries.get_mut(&holder) {
            Some(entry) => {
                entry.expires = None;
                entry.live = Some(live.clone());
                let seat = Arc::clone(&entry.seat);
                if let Some(will) = entry.will.take() {
                    let _ = will.send(Fate::Resumed);
                }
                book.offline = book.offline.saturating_sub(1);
                seat.session().resumed_by(principal);
                (seat, true)
            }
            None => {
                let seat = Arc::new(Seat {
                    session: Mutex::new(Session::new(principal)),
                    wake: Notify::new(),
                });
                let entry = Entry {
                    seat: Arc::clone(&seat),
                    live: Some(live.clone()),
                    expires: None,
                    will: None,
                };
                book.entries.insert(holder.clone(), entry);
                (seat, false)
            }
        };
        metrics::offline(book.offline);
        drop(book);
        let attached = Attached {
            sessions: Arc::clone(self),
            holder,
            seat,
            present,
            live,
            left: false,
        };
        attached.listens();
        attached
    }

    /// Queues an alert for everyone who asked for it and may see it: how many these are.
    pub(super) fn deliver(&self, notice: &Arc<Notice>, limit: usize) -> usize {
        let mut takers = 0;
        let seats: Vec<_> = self.book().listeners.values().map(Arc::clone).collect();
        for seat in seats {
            let offered = seat.session().offer(notice, limit);
            if let Some(dropped) = offered {
                takers += 1;
                if !notice.live {
                    metrics::alerts("queued", 1);
                    metrics::alerts("dropped", dropped);
                }
                if dropped > 0 && !notice.live {
                    tracing::warn!(
                        dropped,
                        "a subscriber's queue of alerts was full: the oldest were dropped"
                    );
                }
                seat.wake.notify_one();
            }
        }
        takers
    }

    /// Queues a command where its sensor (or the gateway that it is behind) is connected and listens, and then for
    /// everyone else who is connected, asked for it and may see it; whether the sensor listens. Where it does not, nobody
    /// is told: it was not given.
    pub(super) fn deliver_now(&self, notice: &Arc<Notice>, sensor: &SensorId, limit: usize) -> bool {
        let connected = |e: &&Entry| e.live.is_some();
        let seats: Vec<_> = self
            .book()
            .entries
            .values()
            .filter(connected)
            .map(|e| Arc::clone(&e.seat))
            .collect();
        if !seats.iter().any(|seat| seat.session().hears(sensor)) {
            return false;
        }
        let mut taken = false;
        for seat in seats {
            let mut session = seat.session();
            if session.offer(notice, limit).is_some() {
                taken |= session.hears(sensor);
                seat.wake.notify_one();
            }
        }
        taken
    }

    /// Whether a session asks for what comes on a topic.
    pub(super) fn is_asked_for(&self, topic: &str) -> bool {
        let seats: Vec<_> = self.book().listeners.values().map(Arc::clone).collect();
        seats.iter().any(|seat| seat.session().asks_for(topic))
    }

    /// Ends the sessions that were kept long enough.
    pub(super) fn sweep(&self) {
        let now = Instant::now();
        let mut book = self.book();
        let over = |(holder, e): (&Holder, &Entry)| e.expires.is_some_and(|at| at <= now).then(|| holder.clone());
        let ended: Vec<Holder> = book.entries.iter().filter_map(over).collect();
        for holder in ended {
            book.end(&holder);
        }
        metrics::offline(book.offline);
    }
}

impl Book {
    /// Ends a session; what its will was waiting for has come.
    fn end(&mut self, holder: &Holder) {
        self.listeners.remove(holder);
        if let Some(entry) = self.entries.remove(holder) {
            if entry.live.is_none() {
                self.offline = self.offline.saturating_sub(1);
            }
            if let Some(will) = entry.will {
                let _ = will.send(Fate::Ended);
            }
        }
    }
}

/// A connection's hold on its session. Dropped without [`leave`](Self::leave), it ends the session.
#[derive(Debug)]
pub(super) struct Attached {
    sessions: Arc<Sessions>,
    holder: Holder,
    pub(super) seat: Arc<Seat>,
    /// Whether there was a session to take up.
    pub(super) present: bool,
    live: Live,
    left: bool,
}

impl Attached {
    /// Resolves when another connection wants the session.
    pub(super) async fn taken_over(&self) {
        self.live.leave.cancelled().await;
    }

    /// The client id.
    pub(super) fn client(&self) -> &str {
        &self.holder.client
    }

    /// To be called whenever subscriptions have changed.
    pub(super) fn listens(&self) {
        let listens = self.seat.session().listens();
        let mut book = self.sessions.book();
        if listens {
            book.listeners.insert(self.holder.clone(), Arc::clone(&self.seat));
        } else {
            book.listeners.remove(&self.holder);
        }
    }

    /// Leaves the session to whoever comes next, for `keep` at the longest; with no `keep` it is over. Where a will
    /// waits for the session's fate, returns by whom it will be told.
    pub(super) fn leave(mut self, keep: Duration, will_waits: bool) -> Option<oneshot::Receiver<Fate>> {
        self.left = true;
        let (tell, told) = oneshot::channel();
        let mut book = self.sessions.book();
        let full = book.offline >= self.sessions.limit;
        if full && !keep.is_zero() {
            metrics::ended("sessions full");
        }
        if keep.is_zero() || full {
            book.end(&self.holder);
        } else if let Some(entry) = book.entries.get_mut(&self.holder) {
            entry.live = None;
            entry.expires = Some(Instant::now() + keep);
            if will_waits {
                entry.will = Some(tell);
            }
            book.offline += 1;
        }
        metrics::offline(book.offline);
        drop(book);
        will_waits.then_some(told)
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        if !self.left {
            self.sessions.book().end(&self.holder);
        }
        self.live.gone.cancel();
    }
}

#[cfg(test)]
mod tests {
    use schemas::access::Role;

    use super::*;

    fn who() -> (Holder, Principal) {
        let principal = Principal {
            live: schemas::access::Live::default(),
            subject: "s".into(),
            role: Role::Admin,
            patients: Vec::new(),
            sensors: Vec::new(),
        };
        (
            Holder {
                subject: "s".into(),
                client: "c".into(),
            },
            principal,
        )
    }

    const PATIENCE: Duration = Duration::from_secs(5);
    const KEEP: Duration = Duration::from_secs(60);

    async fn attach(sessions: &Arc<Sessions>, clean: bool) -> Result<Attached, Busy> {
        let (holder, principal) = who();
        sessions.attach(holder, principal, clean, PATIENCE).await
    }

    #[tokio::test(start_paused = true)]
    async fn a_session_waits_for_its_client_as_long_as_was_agreed() {
        let sessions = Sessions::new(9);
        assert!(!attach(&sessions, false).await.unwrap().present);
        attach(&sessions, false).await.unwrap().leave(KEEP, false);
        let back = attach(&sessions, false).await.unwrap();
        assert!(back.present);
        back.leave(KEEP, false);
        tokio::time::advance(KEEP).await;
        assert!(!attach(&sessions, false).await.unwrap().present);
    }

    #[tokio::test(start_paused = true)]
    async fn a_waiting_will_hears_what_became_of_the_session() {
        let sessions = Sessions::new(9);
        let will = attach(&sessions, false).await.unwrap().leave(KEEP, true).unwrap();
        let back = attach(&sessions, false).await.unwrap();
        assert_eq!(will.await, Ok(Fate::Resumed));
        let will = back.leave(KEEP, true).unwrap();
        let anew = attach(&sessions, true).await.unwrap();
        assert_eq!(will.await, Ok(Fate::Ended));
        let will = anew.leave(KEEP, true).unwrap();
        tokio::time::advance(KEEP).await;
        sessions.sweep();
        assert_eq!(will.await, Ok(Fate::Ended));
        assert!(sessions.book().entries.is_empty() && sessions.book().offline == 0);
    }

    #[tokio::test(start_paused = true)]
    async fn one_connection_leaves_before_the_next_one_has_the_session() {
        let sessions = Sessions::new(9);
        let first = attach(&sessions, false).await.unwrap();
        let (second, ()) = tokio::join!(attach(&sessions, false), async {
            first.taken_over().await;
            first.leave(KEEP, false);
        });
        let second = second.unwrap();
        assert!(second.present);
        assert_eq!(attach(&sessions, false).await.unwrap_err(), Busy);
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_sessions_are_kept_than_there_is_room_for() {
        let sessions = Sessions::new(0);
        attach(&sessions, false).await.unwrap().leave(KEEP, false);
        assert!(!attach(&sessions, false).await.unwrap().present);
    }
}
