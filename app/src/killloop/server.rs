//! A server under test: a process of its own, started, killed and paused.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::{Plan, Shared};

/// How long it may take to save everything when it is asked to stop.
const STOPPING: Duration = Duration::from_secs(60);

/// How a server is started, each time.
pub(super) struct Start {
    binary: PathBuf,
    pub(super) role: &'static str,
    data: PathBuf,
    shared: Option<(Shared, PathBuf)>,
    pub(super) listen: Option<String>,
    pub(super) mqtt: Option<String>,
    /// Shows it another time.
    pub(super) skew: Option<Skew>,
    /// Its name in groups.
    pub(super) instance: Option<String>,
}

/// How a process is shown another time of day; what it waits by stays as it is.
#[derive(Debug, Clone)]
pub(super) struct Skew {
    /// `docker/engines/wrong_clock.c`.
    pub(super) library: PathBuf,
    /// Seconds, with a sign.
    pub(super) by: &'static str,
}

/// A running server.
pub(super) struct Running {
    child: Child,
    pub(super) http: String,
    pub(super) mqtt: String,
}

impl Start {
    pub(super) fn new(plan: &Plan, role: &'static str, data: PathBuf) -> Self {
        let key = plan.data.join("token.key");
        Self {
            binary: plan.binary.clone(),
            role,
            data,
            shared: plan.shared.clone().map(|shared| (shared, key)),
            listen: None,
            mqtt: None,
            skew: None,
            instance: None,
        }
    }

    /// Starts it and waits until it says where it is.
    pub(super) fn run(&self) -> Result<Running, String> {
        let mut command = command(&self.binary);
        match self.role {
            "standby" => command.args(["process", "--standby"]),
            role => command.arg(role),
        };
        command.args(["--json", "--data"]).arg(&self.data);
        for (flag, value) in [
            ("--listen", &self.listen),
            ("--mqtt", &self.mqtt),
            ("--instance", &self.instance),
        ] {
            if let Some(value) = value {
                command.args([flag, value]);
            }
        }
        if let Some((shared, key)) = &self.shared {
            command
                .args(["--log", &shared.log, "--views", &shared.views, "--key"])
                .arg(key);
        }
        if let Some(skew) = &self.skew {
            command.env("LD_PRELOAD", &skew.library).env("WRONG_CLOCK", skew.by);
        }
        let mut child = command
            .env("FAJMA_LOGGING_FILTER", "error")
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|e| format!("{}: {e}", self.binary.display()))?;
        let stdout = child.stdout.take().ok_or("no standard output")?;
        let mut line = String::new();
        let read = BufReader::new(stdout).read_line(&mut line).map_err(|e| e.to_string());
        let told: Result<Value, String> = read.and_then(|_| serde_json::from_str(&line).map_err(|e| e.to_string()));
        let address = |told: &Value, name: &str| told[name].as_str().unwrap_or_default().to_owned();
        match told {
            Ok(told) => Ok(Running {
                http: address(&told, "http"),
                mqtt: address(&told, "mqtt"),
                child,
            }),
            Err(e) => {
                let _ = child.kill();
                let _ = child.wait();
                Err(format!("the server did not start: {e}"))
            }
        }
    }
}

impl Running {
    fn signal(&self, signal: rustix::process::Signal) -> Result<(), String> {
        let pid = i32::try_from(self.child.id())
            .ok()
            .and_then(rustix::process::Pid::from_raw)
            .ok_or("the server has no process id")?;
        rustix::process::kill_process(pid, signal).map_err(|e| e.to_string())
    }

    /// It stands still, and does not know.
    pub(super) fn pause(&self) -> Result<(), String> {
        self.signal(rustix::process::Signal::STOP)
    }

    /// It goes on as if nothing had been.
    pub(super) fn resume(&self) -> Result<(), String> {
        self.signal(rustix::process::Signal::CONT)
    }

    /// kill -9.
    pub(super) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// SIGTERM, and waits until it has saved everything.
    pub(super) async fn stop(mut self) -> Result<(), String> {
        self.signal(rustix::process::Signal::TERM)?;
        let until = Instant::now() + STOPPING;
        while Instant::now() < until {
            match self.child.try_wait().map_err(|e| e.to_string())? {
                Some(status) if status.success() => return Ok(()),
                Some(status) => return Err(format!("the server did not stop well: {status}")),
                None => sleep(Duration::from_millis(20)).await,
            }
        }
        Err("the server did not stop within a minute".to_owned())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The program, without variables of ours that are no options of it.
fn command(binary: &PathBuf) -> Command {
    let mut command = Command::new(binary);
    command.env_remove("FAJMA_TEST_KAFKA").env_remove("FAJMA_TEST_CQL");
    command
}

/// Whether `fajma verify` agrees.
pub(super) fn verify(plan: &Plan) -> Result<(), String> {
    let mut command = command(&plan.binary);
    command.args(["verify", "--json", "--data"]).arg(&plan.data);
    if let Some(shared) = &plan.shared {
        command
            .env("FAJMA_LOG_URL", &shared.log)
            .env("FAJMA_VIEWS_URL", &shared.views);
    }
    let verified = command.output().map_err(|e| e.to_string())?;
    if verified.status.success() {
        return Ok(());
    }
    let (out, err) = (
        String::from_utf8_lossy(&verified.stdout),
        String::from_utf8_lossy(&verified.stderr),
    );
    Err(format!("fajma verify does not agree: {out}{err}"))
}
