//! Holds a running role still for a moment, so that what it writes can be looked at.

use std::future::Future;

use tokio::sync::{Mutex, MutexGuard, watch};
use tokio_util::sync::CancellationToken;

/// A gate through which a role runs. Whoever [holds](Gate::hold) it waits until the role has come to rest.
#[derive(Debug)]
pub struct Gate {
    /// Held while the role runs.
    running: Mutex<()>,
    wanted: watch::Sender<usize>,
}

impl Default for Gate {
    fn default() -> Self {
        Self {
            running: Mutex::new(()),
            wanted: watch::Sender::new(0),
        }
    }
}

/// While it lives, the role stands still.
#[derive(Debug)]
pub struct Held<'a> {
    _rest: MutexGuard<'a, ()>,
    gate: &'a Gate,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.gate.wanted.send_modify(|n| *n -= 1);
    }
}

impl Gate {
    /// Waits until the role stands still, and keeps it so.
    pub async fn hold(&self) -> Held<'_> {
        self.wanted.send_modify(|n| *n += 1);
        let wanted = Wanted(Some(self));
        let rest = self.running.lock().await;
        wanted.keep();
        Held {
            _rest: rest,
            gate: self,
        }
    }

    /// Runs `role` until `stop`, with rests while the gate is held. The role gets a token that tells it to rest.
    ///
    /// # Errors
    /// As the role.
    pub async fn run<E, R>(&self, stop: &CancellationToken, role: impl Fn(CancellationToken) -> R) -> Result<(), E>
    where
        R: Future<Output = Result<(), E>>,
    {
        let mut wanted = self.wanted.subscribe();
        loop {
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                free = wanted.wait_for(|n| *n == 0) => if free.is_err() { return Ok(()) },
            }
            let rest = stop.child_token();
            let _running = self.running.lock().await;
            let running = role(rest.clone());
            tokio::pin!(running);
            tokio::select! {
                ended = &mut running => return ended,
                _ = wanted.wait_for(|n| *n > 0) => rest.cancel(),
            }
            running.await?;
        }
    }
}

/// Takes a wish back when whoever had it does not wait any more.
struct Wanted<'a>(Option<&'a Gate>);

impl Wanted<'_> {
    fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for Wanted<'_> {
    fn drop(&mut self) {
        if let Some(gate) = self.0 {
            gate.wanted.send_modify(|n| *n -= 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_role_rests_while_it_is_held_and_goes_on_afterwards() {
        let gate = Arc::new(Gate::default());
        let stop = CancellationToken::new();
        let (runs, active) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (g, s, r, a) = (Arc::clone(&gate), stop.clone(), Arc::clone(&runs), Arc::clone(&active));
        let role = tokio::spawn(async move {
            let run = |rest: CancellationToken| {
                let (runs, active) = (Arc::clone(&r), Arc::clone(&a));
                async move {
                    runs.fetch_add(1, Ordering::SeqCst);
                    active.store(true, Ordering::SeqCst);
                    rest.cancelled().await;
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    active.store(false, Ordering::SeqCst);
                    Ok::<(), String>(())
                }
            };
            g.run(&s, run).await
        });
        for round in 1..=3 {
            while !active.load(Ordering::SeqCst) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            let held = gate.hold().await;
            assert!(!active.load(Ordering::SeqCst), "it came to rest first");
            tokio::time::sleep(Duration::from_secs(5)).await;
            assert_eq!(runs.load(Ordering::SeqCst), round);
            drop(held);
        }
        stop.cancel();
        role.await.unwrap().unwrap();
    }
}
