//! What the service manager is told: that we are ready, that we live, that we stop. Without one, nothing happens.

use std::time::Duration;

use sd_notify::NotifyState;
use tokio_util::sync::CancellationToken;

/// Everything is started.
pub fn ready() {
    tell(&[NotifyState::Ready]);
}

/// We are stopping because we were asked to.
pub fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// Feeds the watchdog, where there is one, at twice the pace that it asks for, as long as `stuck` finds nothing.
pub async fn watchdog(stop: CancellationToken, stuck: impl Fn() -> Option<String>) {
    let Some(limit) = sd_notify::watchdog_enabled() else {
        return;
    };
    let every = (limit / 2).max(Duration::from_millis(10));
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(every) => match stuck() {
                None => tell(&[NotifyState::Watchdog]),
                Some(why) => tracing::error!(why, "stuck: the watchdog is not fed"),
            },
        }
    }
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "the service manager was not told");
    }
}
