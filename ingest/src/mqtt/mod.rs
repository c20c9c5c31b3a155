//! The MQTT door: 3.1.1 and 5, QoS 0, 1 and 2, over TCP, TLS 1.3 and WebSocket.
//!
//! No general broker: it takes readings and status in, and hands out what the log holds. Nothing is acknowledged
//! before it is durable. Reading order: [`frame`] and [`packet`] (bytes to packets), [`wire`] (packets to bytes),
//! [`connect`] and [`login`] (who it is), [`gather`] (messages to batches), [`session`] and [`sessions`] (what outlives
//! a connection), [`connection`] and [`closing`] (its life), [`outward`] (alerts), [`orders`] (commands), [`realtime`] (consultations),
//! [`listener`] (sockets). [`bridge`] is the other way round: we are the client of somebody else's broker. Why this
//! library and not another: `docs/mqtt-library.md`.

pub mod bridge;
mod closing;
mod connect;
mod connection;
mod flow;
mod frame;
#[cfg(test)]
mod fuzz;
mod gather;
mod limits;
mod listener;
mod login;
mod metrics;
mod orders;
mod outward;
mod packet;
mod realtime;
mod session;
mod sessions;
pub(crate) mod topic;
mod will;
mod wire;
mod ws;

pub use limits::MqttLimits;
pub use listener::Entrance;
pub use realtime::{Consultations, Followed};

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use eventlog::EventLog;
use schemas::access::Authenticate;
use schemas::ids::SensorId;
use schemas::time::Timestamp;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::commands::Commands;
use crate::intake::Intake;
use listener::Doorkeeper;
use realtime::Realtime;
use session::Session;
use sessions::Sessions;

/// The door. One per process: sessions and bounds are shared by all its entrances.
pub struct MqttDoor {
    intake: Arc<Intake>,
    log: Arc<dyn EventLog>,
    tokens: Arc<dyn Authenticate>,
    limits: MqttLimits,
    sessions: Arc<Sessions>,
    realtime: Arc<Realtime>,
    commands: Arc<Commands>,
    keeper: Arc<Doorkeeper>,
    /// Memory for messages on their way, in permits of [`connection::PERMIT`] bytes.
    memory: Arc<Semaphore>,
    tasks: TaskTracker,
    stop: CancellationToken,
    began: Timestamp,
    next_client: AtomicU64,
}

impl std::fmt::Debug for MqttDoor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MqttDoor")
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

impl MqttDoor {
    /// A door that gives what comes in to `intake`, and hands out the alerts of `log`, `commands` to sensors, and what
    /// `consultations` tells (none of them where that is `None`). It stops when `stop` is cancelled.
    #[must_use]
    pub fn new(
        intake: Arc<Intake>,
        log: Arc<dyn EventLog>,
        tokens: Arc<dyn Authenticate>,
        (consultations, commands): (Option<Arc<dyn Consultations>>, Arc<Commands>),
        limits: MqttLimits,
        stop: CancellationToken,
    ) -> Arc<Self> {
        metrics::describe();
        let permits = (limits.total_bytes_in_flight / connection::PERMIT).clamp(1, Semaphore::MAX_PERMITS);
        let sessions = Sessions::new(limits.sessions);
        Arc::new(Self {
            realtime: Realtime::new(consultations, Arc::clone(&sessions), limits.queued_alerts),
            sessions,
            commands,
            keeper: Doorkeeper::new(limits.connections, limits.connections_per_address),
            memory: Arc::new(Semaphore::new(permits)),
            tasks: TaskTracker::new(),
            began: intake.clock().now(),
            next_client: AtomicU64::new(1),
            intake,
            log,
            tokens,
            limits,
            stop,
        })
    }

    /// Serves every entrance, and hands out alerts, until the door is stopped and its connections have ended (each is
    /// told, and waits for the log at most as long as [`MqttLimits::settle`] says). To be called once.
    pub async fn serve(self: Arc<Self>, entrances: Vec<Entrance>) {
        for entrance in entrances {
            self.tasks
                .spawn(listener::listen(Arc::clone(&self), entrance, self.stop.clone()));
        }
        for partition in 0..self.log.layout().partitions {
            let from = (Arc::clone(&self.log), Arc::clone(self.intake.catalogue()));
            let tail = outward::tail(from, partition, Arc::clone(&self.sessions), self.limits.queued_alerts);
            self.tasks.spawn(self.stop.clone().run_until_cancelled_owned(tail));
        }
        let (commands, log, intake) = (
            Arc::clone(&self.commands),
            Arc::clone(&self.log),
            Arc::clone(&self.intake),
        );
        let orders = orders::run(
            commands,
            log,
            intake,
            Arc::clone(&self.sessions),
            self.limits.queued_alerts,
        );
        self.tasks.spawn(self.stop.clone().run_until_cancelled_owned(orders));
        self.sweep().await;
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// A session has begun to listen for these: commands for sensors of its own among them are due.
    fn listened(&self, session: &Session, filters: &[String]) {
        let is_meant = |sensor: &SensorId| {
            let topic = topic::command(sensor);
            session.hears(sensor) && filters.iter().any(|filter| topic::matches(filter, &topic))
        };
        self.commands.listened(is_meant);
    }

    /// Ends sessions whose time has come, until the door is stopped.
    async fn sweep(&self) {
        const EVERY: Duration = Duration::from_secs(5);
        loop {
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = tokio::time::sleep(EVERY) => self.sessions.sweep(),
            }
        }
    }
}
