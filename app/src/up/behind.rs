//! Where work runs that nobody is waiting for: threads that the system lets run when those of doors and alerts rest.

use tokio::runtime::{Builder, Handle, Runtime};

use crate::failure::Failure;

/// Threads that wait for disks: each keeps memory of its own, and no disk is faster for more of them.
const BLOCKING: usize = 4;

/// A runtime with threads of a lower priority.
#[derive(Debug)]
pub(super) struct Behind {
    handle: Handle,
    runtime: Option<Runtime>,
}

impl Behind {
    /// Starts it. `niceness` is what its threads add to the process's own, 0 to 19.
    ///
    /// # Errors
    /// [`Failure::Failed`] where the system gives no threads.
    pub(super) fn start(niceness: u8) -> Result<Self, Failure> {
        let niceness = i32::from(niceness.min(19));
        let runtime = Builder::new_multi_thread()
            .thread_name("behind")
            .max_blocking_threads(BLOCKING)
            .on_thread_start(move || {
                // On Linux the niceness is a thread's own; elsewhere, or where it is refused, all are equal.
                let _ = rustix::process::nice(niceness);
            })
            .enable_all()
            .build()
            .map_err(|e| Failure::because("starting", e))?;
        Ok(Self {
            handle: runtime.handle().clone(),
            runtime: Some(runtime),
        })
    }

    /// Where to spawn.
    pub(super) const fn handle(&self) -> &Handle {
        &self.handle
    }
}

impl Drop for Behind {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Everything on it has ended, or was given up.
            runtime.shutdown_background();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn its_threads_stand_behind_the_others() {
        let behind = Behind::start(7).unwrap();
        let own = rustix::process::getpriority_process(None).unwrap();
        let theirs = behind
            .handle()
            .spawn_blocking(|| rustix::process::getpriority_process(None).unwrap());
        assert_eq!(theirs.await.unwrap(), (own + 7).min(19));
    }
}
