//! The end of a connection: what it had sent is made durable all the same, its last words are said, its will is sent
//! where it must be, and its session is left to whoever comes next.

use std::sync::Arc;
use std::time::Duration;

use mqtt_protocol_core::mqtt::result_code::DisconnectReasonCode as Reason;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, timeout, timeout_at};

use super::connection::{Connection, End};
use super::metrics;

impl End {
    /// What the client is told, where it can be told anything.
    const fn last_word(self) -> Option<Reason> {
        match self {
            Self::Farewell { .. } | Self::Lost | Self::Stuck => None,
            Self::Broken(reason) => Some(reason),
            Self::TakenOver => Some(Reason::SessionTakenOver),
            Self::Stopping => Some(Reason::ServerShuttingDown),
        }
    }

    /// Whether the connection broke, as others see it. When the door itself stops, the sensor has nothing to do with
    /// it: no will is sent.
    const fn sends_will(self) -> bool {
        match self {
            Self::Farewell { with_will } => with_will,
            Self::Stopping => false,
            Self::Lost | Self::Broken(_) | Self::TakenOver | Self::Stuck => true,
        }
    }

    fn label(self) -> String {
        match self {
            Self::Farewell { .. } => "farewell".to_owned(),
            Self::Lost => "lost".to_owned(),
            Self::Broken(reason) => reason.to_string(),
            Self::TakenOver => "taken_over".to_owned(),
            Self::Stopping => "stopping".to_owned(),
            Self::Stuck => "stuck".to_owned(),
        }
    }
}

impl Connection {
    /// Ends the connection.
    pub(super) async fn close<S: AsyncWrite + Unpin>(mut self, io: S, end: End) {
        metrics::ended(end.label());
        if end == End::Stopping {
            // There is time to say what became of the last messages.
            self.settle_all().await;
            self.say_last_word(io, end).await;
        } else {
            self.say_last_word(io, end).await;
            self.settle_all().await;
        }
        self.leave(end).await;
    }

    async fn say_last_word<S: AsyncWrite + Unpin>(&mut self, mut io: S, end: End) {
        const PATIENCE: Duration = Duration::from_secs(2);
        if let Some(reason) = end.last_word() {
            self.guest.wire.disconnect(reason, &mut self.out);
        }
        if end == End::Lost || end == End::Stuck {
            return;
        }
        let out = std::mem::take(&mut self.out);
        let written = timeout(PATIENCE, async {
            io.write_all(&out).await?;
            io.shutdown().await
        });
        let _ = written.await;
    }

    /// Waits for the log's word on everything that was received: a QoS 2 message that is durable must not be taken
    /// again on the next connection.
    async fn settle_all(&mut self) {
        let deadline = Instant::now() + self.door.limits.settle;
        loop {
            self.submit();
            let Some(submitted) = &mut self.submitted else { return };
            let Ok(answer) = timeout_at(deadline, &mut submitted.answer).await else {
                tracing::warn!(
                    client = self.guest.attached.client(),
                    "a session was left before the log had spoken"
                );
                return;
            };
            if self.settle(answer).is_err() {
                return;
            }
        }
    }

    async fn leave(self, end: End) {
        let Self { door, guest, .. } = self;
        let will = guest.will.filter(|_| end.sends_will());
        let Some(will) = will else {
            guest.attached.leave(guest.keep, false);
            return;
        };
        let (intake, retry) = (Arc::clone(&door.intake), door.limits.will_retry);
        if will.delay().is_zero() || guest.keep.is_zero() {
            // Before anyone takes the session up: what comes next must not stand before the will in the journal.
            if timeout(door.limits.settle, will.clone().send(&intake, retry))
                .await
                .is_err()
            {
                door.tasks.spawn(async move { will.send(&intake, retry).await });
            }
            guest.attached.leave(guest.keep, false);
        } else if let Some(fate) = guest.attached.leave(guest.keep, true) {
            let stop = door.stop.clone();
            door.tasks.spawn(will.wait(fate, intake, retry, stop));
        }
    }
}
