//! Roles that come back when they fail, with a pause that grows; what is wrong with them shows in `/readyz`.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::config;

/// What is known about each role.
#[derive(Debug, Default)]
pub struct Roles(Mutex<BTreeMap<&'static str, Role>>);

/// One role.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Role {
    /// Why it is not running; `None` while it is.
    pub down: Option<String>,
    /// How often it failed.
    pub failures: u64,
    /// Since when it has been failing, without a calm time between.
    failing_since: Option<Instant>,
    /// What it needs is outside: where it fails, a fresh start of this program helps nothing.
    outside: bool,
    started: Option<Instant>,
}

impl Roles {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<&'static str, Role>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is not running, and why, one sentence each.
    #[must_use]
    pub fn down(&self) -> Vec<String> {
        let lock = self.lock();
        let down = lock.iter().filter_map(|(name, role)| Some((name, role.down.as_ref()?)));
        down.map(|(name, why)| format!("{name}: {why}")).collect()
    }

    /// Who has been failing for longer than is hoped for, and why, where there is one. Roles whose work lies outside are
    /// not among them.
    #[must_use]
    pub fn hopeless(&self, options: &config::Supervisor) -> Option<String> {
        let lock = self.lock();
        lock.iter().filter(|(_, role)| !role.outside).find_map(|(name, role)| {
            let calm = role.down.is_none() && role.started.is_some_and(|at| at.elapsed() >= options.calm_after.0);
            let since = role.failing_since.filter(|_| !calm)?;
            let long = since.elapsed() >= options.hopeless_after.0;
            long.then(|| {
                format!(
                    "{name} fails again and again: {}",
                    role.down.as_deref().unwrap_or("it is up now")
                )
            })
        })
    }

    fn starts(&self, name: &'static str) {
        let mut lock = self.lock();
        let role = lock.entry(name).or_default();
        role.started = Some(Instant::now());
        if role.outside {
            role.down.get_or_insert_with(|| "it is not there yet".to_owned());
            return;
        }
        role.down = None;
        metrics::gauge!("fajma_role_up", "role" => name).set(1.0);
    }

    fn is_well(&self, name: &'static str) {
        self.lock().entry(name).or_default().down = None;
        metrics::gauge!("fajma_role_up", "role" => name).set(1.0);
    }

    fn fails(&self, name: &'static str, why: &str, was_calm: bool) {
        let mut lock = self.lock();
        let role = lock.entry(name).or_default();
        if was_calm || role.failing_since.is_none() {
            role.failing_since = Some(Instant::now());
        }
        role.down = Some(why.to_owned());
        role.failures += 1;
        metrics::gauge!("fajma_role_up", "role" => name).set(0.0);
        metrics::counter!("fajma_role_failures_total", "role" => name).increment(1);
    }
}

/// How a role that needs somebody outside says that it has them.
#[derive(Debug, Clone)]
pub struct Well(Arc<Roles>, &'static str);

impl Well {
    /// It is well, until it ends or says otherwise.
    pub fn say(&self) {
        self.0.is_well(self.1);
    }

    /// It goes on, and lacks something for the time being.
    pub fn lacks(&self, why: &str) {
        self.0.lock().entry(self.1).or_default().down = Some(why.to_owned());
        metrics::gauge!("fajma_role_up", "role" => self.1).set(0.0);
    }
}

/// Starts roles and starts them again.
#[derive(Debug)]
pub struct Supervisor {
    pauses: config::Supervisor,
    roles: Arc<Roles>,
    running: JoinSet<&'static str>,
    started: Vec<&'static str>,
}

impl Supervisor {
    /// Nothing runs yet. What becomes of the roles is written into `roles`.
    #[must_use]
    pub fn new(pauses: config::Supervisor, roles: Arc<Roles>) -> Self {
        Self {
            pauses,
            roles,
            running: JoinSet::new(),
            started: Vec::new(),
        }
    }

    /// What is known about the roles.
    #[must_use]
    pub fn roles(&self) -> Arc<Roles> {
        Arc::clone(&self.roles)
    }

    /// The same for a role that needs somebody outside, who may be away for long: it is down until it says that it is well,
    /// which shows, and nothing else comes of it.
    pub fn start_outside<F, R>(&mut self, name: &'static str, stop: CancellationToken, mut role: F)
    where
        F: FnMut(Well) -> R + Send + 'static,
        R: Future<Output = Result<(), String>> + Send + 'static,
    {
        self.roles.lock().entry(name).or_default().outside = true;
        let well = Well(Arc::clone(&self.roles), name);
        self.start(name, stop, move || role(well.clone()));
    }

    /// Starts `role`, and again whenever it ends, panics included, until `stop`; then it ends by itself.
    pub fn start<F, R>(&mut self, name: &'static str, stop: CancellationToken, mut role: F)
    where
        F: FnMut() -> R + Send + 'static,
        R: Future<Output = Result<(), String>> + Send + 'static,
    {
        let (roles, pauses) = (Arc::clone(&self.roles), self.pauses.clone());
        roles.starts(name);
        self.started.push(name);
        self.running.spawn(async move {
            let mut pause = pauses.first_pause.0;
            while !stop.is_cancelled() {
                roles.starts(name);
                let begun = Instant::now();
                let ended = tokio::spawn(role()).await;
                if stop.is_cancelled() {
                    break;
                }
                let why = match ended {
                    Ok(Ok(())) => "it ended by itself".to_owned(),
                    Ok(Err(why)) => why,
                    Err(panic) => panic.to_string(),
                };
                let calm = begun.elapsed() >= pauses.calm_after.0;
                if calm {
                    pause = pauses.first_pause.0;
                }
                tracing::error!(
                    role = name,
                    why,
                    pause_ms = pause.as_millis() as u64,
                    "a role failed and starts again"
                );
                roles.fails(name, &why, calm);
                tokio::select! {
                    () = stop.cancelled() => break,
                    () = sleep(pause) => {}
                }
                pause = (pause * 2).min(pauses.longest_pause.0);
            }
            name
        });
    }

    /// Waits until every role has ended after its stop; `false` where that takes longer than `patience`, and then says
    /// in the log which are left.
    pub async fn ended(&mut self, patience: Duration) -> bool {
        let until = Instant::now() + patience;
        while let Ok(Some(ended)) = tokio::time::timeout_at(until, self.running.join_next()).await {
            if let Ok(name) = ended {
                self.started.retain(|started| *started != name);
            }
        }
        if self.running.is_empty() {
            return true;
        }
        tracing::error!(roles = ?self.started, "cut off: they did not end in time");
        false
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;
    use crate::config::Time;

    fn supervisor() -> Supervisor {
        Supervisor::new(
            config::Supervisor {
                first_pause: Time(Duration::from_millis(100)),
                longest_pause: Time(Duration::from_secs(1)),
                calm_after: Time(Duration::from_secs(60)),
                stalled_after: Time(Duration::from_secs(20)),
                hopeless_after: Time(Duration::from_secs(300)),
            },
            Arc::default(),
        )
    }

    #[tokio::test(start_paused = true)]
    async fn a_role_that_fails_or_panics_comes_back_with_a_growing_pause() {
        let mut supervisor = supervisor();
        let (stop, starts) = (CancellationToken::new(), Arc::new(AtomicU64::new(0)));
        let count = Arc::clone(&starts);
        let begun = Instant::now();
        supervisor.start("r", stop.clone(), move || {
            let n = count.fetch_add(1, Ordering::SeqCst);
            async move {
                if n == 1 {
                    panic!("broken")
                } else {
                    Err(format!("failure {n}"))
                }
            }
        });
        while starts.load(Ordering::SeqCst) < 4 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let passed = begun.elapsed();
        assert!(
            (700..800).contains(&passed.as_millis()),
            "100 + 200 + 400 ms: {passed:?}"
        );
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert_eq!(supervisor.roles().down(), ["r: failure 3"]);
        stop.cancel();
        assert!(supervisor.ended(Duration::from_secs(1)).await);
    }

    #[tokio::test(start_paused = true)]
    async fn a_role_that_only_ever_fails_is_hopeless_after_a_while_and_one_that_is_calm_again_is_not() {
        let mut supervisor = supervisor();
        let (stop, mended) = (CancellationToken::new(), CancellationToken::new());
        let mends = mended.clone();
        supervisor.start("r", stop.clone(), move || {
            let mends = mends.clone();
            async move {
                if mends.is_cancelled() {
                    std::future::pending::<()>().await;
                }
                Err("no".to_owned())
            }
        });
        let (roles, options) = (supervisor.roles(), supervisor.pauses.clone());
        sleep(Duration::from_secs(290)).await;
        assert_eq!(roles.hopeless(&options), None);
        sleep(Duration::from_secs(20)).await;
        assert!(roles.hopeless(&options).is_some_and(|why| why.contains("r fails")));
        mended.cancel();
        sleep(Duration::from_secs(30)).await;
        assert!(roles.hopeless(&options).is_some(), "up, but not for long");
        sleep(Duration::from_secs(40)).await;
        assert_eq!(roles.hopeless(&options), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_role_that_needs_somebody_outside_shows_and_is_never_hopeless() {
        let mut supervisor = supervisor();
        let stop = CancellationToken::new();
        let back = CancellationToken::new();
        let is_back = back.clone();
        supervisor.start_outside("b", stop.clone(), move |well| {
            let is_back = is_back.clone();
            async move {
                // It takes long to see that nobody is there; what was wrong shows meanwhile.
                sleep(Duration::from_secs(9)).await;
                if is_back.is_cancelled() {
                    well.say();
                    std::future::pending::<()>().await;
                }
                Err("away".to_owned())
            }
        });
        let (roles, options) = (supervisor.roles(), supervisor.pauses.clone());
        assert_eq!(roles.down(), ["b: it is not there yet"]);
        for _ in 0..1000 {
            sleep(Duration::from_millis(3700)).await;
            assert!(roles.down().len() == 1, "it shows all the time");
            assert_eq!(roles.hopeless(&options), None);
        }
        back.cancel();
        sleep(Duration::from_secs(20)).await;
        assert!(roles.down().is_empty());
        stop.cancel();
    }

    #[tokio::test(start_paused = true)]
    async fn a_role_that_is_told_to_stop_is_not_started_again() {
        let mut supervisor = supervisor();
        let stop = CancellationToken::new();
        let told = stop.clone();
        supervisor.start("r", stop.clone(), move || {
            let told = told.clone();
            async move {
                told.cancelled().await;
                Ok(())
            }
        });
        assert!(supervisor.roles().down().is_empty());
        stop.cancel();
        assert!(supervisor.ended(Duration::from_secs(1)).await);
    }
}
