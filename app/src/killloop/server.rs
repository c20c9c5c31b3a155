//! The server under test: a process of its own, started and killed.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::Plan;

/// How long it may take to save everything when it is asked to stop.
const STOPPING: Duration = Duration::from_secs(60);

/// A running server.
pub(super) struct Running {
    child: Child,
    pub(super) http: String,
    pub(super) mqtt: String,
}

impl Running {
    /// Starts it and waits until it says where it is.
    pub(super) fn start(plan: &Plan, http: &str, mqtt: &str) -> Result<Self, String> {
        let mut child = Command::new(&plan.binary)
            .args(["up", "--json", "--listen", http, "--mqtt", mqtt, "--data"])
            .arg(&plan.data)
            .env("FAJMA_LOGGING_FILTER", "error")
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|e| format!("{}: {e}", plan.binary.display()))?;
        let stdout = child.stdout.take().ok_or("no standard output")?;
        let mut line = String::new();
        let read = BufReader::new(stdout).read_line(&mut line).map_err(|e| e.to_string());
        let told: Result<Value, String> = read.and_then(|_| serde_json::from_str(&line).map_err(|e| e.to_string()));
        let address = |told: &Value, name: &str| told[name].as_str().unwrap_or_default().to_owned();
        match told {
            Ok(told) => Ok(Self {
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

    /// kill -9.
    pub(super) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// SIGTERM, and waits until it has saved everything.
    pub(super) async fn stop(mut self) -> Result<(), String> {
        let pid = i32::try_from(self.child.id())
            .ok()
            .and_then(rustix::process::Pid::from_raw)
            .ok_or("the server has no process id")?;
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).map_err(|e| e.to_string())?;
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

/// Whether `fajma verify` agrees with the directory.
pub(super) fn verify(binary: &PathBuf, data: &PathBuf) -> Result<(), String> {
    let verified = Command::new(binary)
        .args(["verify", "--json", "--data"])
        .arg(data)
        .output()
        .map_err(|e| e.to_string())?;
    if verified.status.success() {
        return Ok(());
    }
    let (out, err) = (
        String::from_utf8_lossy(&verified.stdout),
        String::from_utf8_lossy(&verified.stderr),
    );
    Err(format!("fajma verify does not agree: {out}{err}"))
}
