//! The embedded program, started on a directory of its own: everything in one process.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use tokio::time::Instant;

use crate::counters::Counters;
use crate::house::{Cpu, House, Ways};
use crate::http::Connection;
use crate::running::{Running, output};
use crate::{Result, process};

/// How to start the server.
#[derive(Debug, Clone)]
pub struct Start {
    /// The binary.
    pub fajma: PathBuf,
    /// The data directory.
    pub data: PathBuf,
    /// The core it may use; `None` for all.
    pub core: Option<usize>,
}

/// A running server, killed when dropped.
#[derive(Debug)]
pub struct Server {
    running: Running,
    ways: Ways,
    control: Connection,
    /// From start to the first positive answer of `/readyz`.
    pub ready_after: Duration,
}

impl Start {
    /// Starts the server and waits until it is ready.
    ///
    /// # Errors
    /// Where it ends, says no addresses, or is not ready in time.
    pub fn start(&self) -> Result<Server> {
        let began = Instant::now();
        let mut command = self.command();
        command.args(["up", "--mqtt", "127.0.0.1:0", "--data"]).arg(&self.data);
        let running = Running::start(&mut command, &self.data.with_extension("log"))?;
        let ready_after = began.elapsed();
        let ways = Ways {
            http: running.http,
            mqtt: running.mqtt.ok_or("it did not say where mqtt is")?,
            desk: running.http,
            token: self.token()?,
        };
        Ok(Server {
            control: Connection::open(ways.http, &ways.token)?,
            ways,
            running,
            ready_after,
        })
    }

    fn command(&self) -> Command {
        let Some(core) = self.core else {
            return Command::new(&self.fajma);
        };
        let mut taskset = Command::new("taskset");
        taskset.args(["-c", &core.to_string()]).arg(&self.fajma);
        taskset
    }

    /// An administrator's token for the directory.
    fn token(&self) -> Result<String> {
        let mut issue = Command::new(&self.fajma);
        output(
            issue
                .args(["token", "issue", "--role", "admin", "--data"])
                .arg(&self.data),
        )
    }

    /// Recomputes what the journal implies and compares it with what was recorded, while no server runs. Returns how
    /// long that took.
    ///
    /// # Errors
    /// Where something differs.
    pub fn verify(&self) -> Result<Duration> {
        let began = Instant::now();
        output(self.command().args(["verify", "--data"]).arg(&self.data))?;
        Ok(began.elapsed())
    }
}

impl Server {
    /// Asks it to stop and waits until it has.
    ///
    /// # Errors
    /// Where it does not, or not well.
    pub fn stop(self) -> Result<()> {
        self.running.stop()
    }
}

impl House for Server {
    fn ways(&self) -> &Ways {
        &self.ways
    }

    fn counters(&mut self) -> Result<Counters> {
        Counters::read(&mut self.control)
    }

    fn cpu(&self) -> Result<Cpu> {
        let used = process::cpu_seconds(self.running.pid())?;
        Ok(Cpu {
            ours: BTreeMap::from([("up", used)]),
            ..Cpu::default()
        })
    }

    fn peak_memory(&self) -> Result<u64> {
        process::peak_memory(self.running.pid())
    }

    fn look_every(&self) -> Duration {
        Duration::from_millis(20)
    }
}
