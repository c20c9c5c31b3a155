//! The real engines under a run (`docker/engines/engines run`): killed and started again by their script.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use fastrand::Rng;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::Instant;

/// What the script ends with where something cannot be had here.
const CANNOT: i32 = 3;
/// How long a killed broker stays away.
const AWAY: std::ops::Range<u64> = 1_000..15_000;
/// How long brokers are left alone once one is back: copies catch up.
const SETTLING: Duration = Duration::from_secs(5);

/// The script that started them.
#[derive(Debug, Clone)]
pub struct Engines {
    script: PathBuf,
}

impl Engines {
    /// Those that this program was started for, where it was.
    #[must_use]
    pub fn here() -> Option<Self> {
        std::env::var_os("ENGINES_RUN")?;
        let script = std::env::var_os("ENGINES_SCRIPT")?.into();
        Some(Self { script })
    }

    /// Runs the script; `None` where it says that what is asked for cannot be had here.
    async fn call(&self, what: &[&str]) -> Result<Option<String>, String> {
        let mut command = Command::new(&self.script);
        command.args(what);
        let asked = what.join(" ");
        let done = spawn_blocking(move || command.output()).await;
        let done = done.map_err(|e| e.to_string())?.map_err(|e| e.to_string())?;
        let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        match done.status.code() {
            Some(0) => Ok(Some(said(&done.stdout))),
            Some(CANNOT) => {
                eprintln!("{}", said(&done.stderr));
                Ok(None)
            }
            _ => Err(format!("engines {asked}: {} {}", done.status, said(&done.stderr))),
        }
    }

    async fn done(&self, what: &[&str]) -> Result<(), String> {
        let done = self.call(what).await?;
        done.map(drop)
            .ok_or_else(|| format!("engines {}: not here", what.join(" ")))
    }

    /// The brokers, by name.
    pub(super) async fn brokers(&self) -> Result<Vec<String>, String> {
        let names = self.call(&["names"]).await?.unwrap_or_default();
        Ok(names
            .lines()
            .filter(|name| name.starts_with("kafka"))
            .map(str::to_owned)
            .collect())
    }

    /// kill -9.
    pub(super) async fn kill(&self, engine: &str) -> Result<(), String> {
        self.done(&["kill", engine]).await
    }

    /// Starts it on what it left; until it answers.
    pub(super) async fn again(&self, engine: &str) -> Result<(), String> {
        self.done(&["again", engine]).await
    }

    /// The library that shows a process another time, where it can be had.
    ///
    /// # Errors
    /// What the script says.
    pub async fn wrong_clock(&self) -> Result<Option<PathBuf>, String> {
        Ok(self.call(&["wrong-clock"]).await?.map(PathBuf::from))
    }
}

/// Brokers of a cluster, of which one at a time is away.
#[derive(Debug)]
pub(super) struct Brokers {
    engines: Engines,
    names: Vec<String>,
    now: Now,
}

#[derive(Debug)]
enum Now {
    /// All are there, since then.
    Whole(Instant),
    Away(String, Instant),
    Coming(JoinHandle<Result<(), String>>),
}

impl Brokers {
    /// `None` where one that is away takes everything with it.
    pub(super) async fn of(engines: Option<&Engines>) -> Result<Option<Self>, String> {
        let Some(engines) = engines else { return Ok(None) };
        let names = engines.brokers().await?;
        let now = Now::Whole(Instant::now());
        Ok((names.len() > 2).then(|| Self {
            engines: engines.clone(),
            names,
            now,
        }))
    }

    /// Whether one may be killed now. Starts the one whose time is over.
    pub(super) async fn look(&mut self) -> Result<bool, String> {
        match &mut self.now {
            Now::Whole(since) => return Ok(since.elapsed() >= SETTLING),
            Now::Away(name, until) if *until <= Instant::now() => {
                let (engines, name) = (self.engines.clone(), name.clone());
                self.now = Now::Coming(tokio::spawn(async move { engines.again(&name).await }));
            }
            Now::Away(..) => {}
            Now::Coming(coming) if coming.is_finished() => {
                coming.await.map_err(|e| e.to_string())??;
                self.now = Now::Whole(Instant::now());
            }
            Now::Coming(_) => {}
        }
        Ok(false)
    }

    /// Kills one for a while; what, in words.
    pub(super) async fn kill(&mut self, chance: &mut Rng) -> Result<String, String> {
        let name = self.names[chance.usize(..self.names.len())].clone();
        let away = Duration::from_millis(chance.u64(AWAY));
        self.engines.kill(&name).await?;
        self.now = Now::Away(name.clone(), Instant::now() + away);
        Ok(format!("{name} killed for {} ms", away.as_millis()))
    }

    /// Until all are there.
    pub(super) async fn calm(&mut self) -> Result<(), String> {
        match std::mem::replace(&mut self.now, Now::Whole(Instant::now())) {
            Now::Whole(_) => Ok(()),
            Now::Away(name, _) => self.engines.again(&name).await,
            Now::Coming(coming) => coming.await.map_err(|e| e.to_string())?,
        }
    }
}
