//! A process of the real binary: started, asked, stopped.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tokio::time::Instant;

use crate::http::Connection;
use crate::{Result, process};

/// How long it may take to be ready, or to end.
const PATIENCE: Duration = Duration::from_secs(120);

/// A running process, killed when dropped.
#[derive(Debug)]
pub struct Running {
    child: Child,
    /// Where it speaks HTTP.
    pub http: SocketAddr,
    /// Where it speaks MQTT, where it does.
    pub mqtt: Option<SocketAddr>,
}

impl Running {
    /// Starts it, on ports that the system chooses, and waits until it is ready. What it says goes to `log`.
    ///
    /// # Errors
    /// Where it ends, says no addresses, or is not ready in time.
    pub fn start(command: &mut Command, log: &Path) -> Result<Self> {
        let mut child = command
            .args(["--json", "--listen", "127.0.0.1:0"])
            .env("FAJMA_LOGGING_FILTER", "warn")
            .stdout(Stdio::piped())
            .stderr(File::create(log)?)
            .spawn()
            .map_err(|e| format!("{}: {e}; build it with: make build", command.get_program().display()))?;
        let (http, mqtt) = match said(&mut child).and_then(|line| addresses(&line)) {
            Ok(addresses) => addresses,
            Err(trouble) => {
                let _ = child.kill();
                let _ = child.wait();
                let log = fs::read_to_string(log).unwrap_or_default();
                return Err(format!("the server did not start: {trouble}\n{log}").into());
            }
        };
        let running = Self { child, http, mqtt };
        running.wait_until_ready()?;
        Ok(running)
    }

    /// Its process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    fn wait_until_ready(&self) -> Result<()> {
        let until = Instant::now() + PATIENCE;
        let mut connection = Connection::open(self.http, "")?;
        loop {
            let answer = connection.get("/readyz")?;
            if answer.status == 200 {
                return Ok(());
            }
            if Instant::now() > until {
                return Err(format!("not ready: {}", String::from_utf8_lossy(answer.body)).into());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Asks it to stop and waits until it has.
    ///
    /// # Errors
    /// Where it does not, or not well.
    pub fn stop(mut self) -> Result<()> {
        process::terminate(self.pid())?;
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return if status.success() {
                    Ok(())
                } else {
                    Err(format!("the server ended: {status}").into())
                };
            }
            if Instant::now() > until {
                return Err("the server does not stop".into());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The first line of its standard output; the rest is read and thrown away.
fn said(child: &mut Child) -> Result<String> {
    let mut lines = BufReader::new(child.stdout.take().ok_or("no standard output")?);
    let mut line = String::new();
    lines.read_line(&mut line)?;
    std::thread::spawn(move || std::io::copy(&mut lines, &mut std::io::sink()));
    if line.is_empty() {
        Err("it ended".into())
    } else {
        Ok(line)
    }
}

fn addresses(line: &str) -> Result<(SocketAddr, Option<SocketAddr>)> {
    let told: serde_json::Value = serde_json::from_str(line)?;
    let address = |name: &str| told[name].as_str().map(str::parse).transpose();
    Ok((
        address("http")?.ok_or("it did not say where http is")?,
        address("mqtt")?,
    ))
}

/// What a command that ends prints.
///
/// # Errors
/// Where it fails, what it says.
pub fn output(command: &mut Command) -> Result<String> {
    let out = command
        .output()
        .map_err(|e| format!("{}: {e}; build it with: make build", command.get_program().display()))?;
    if out.status.success() {
        Ok(String::from_utf8(out.stdout)?.trim().to_owned())
    } else {
        let told = [&out.stdout[..], &out.stderr[..]].concat();
        let asked: Vec<_> = command.get_args().map(|a| a.to_string_lossy()).collect();
        Err(format!("fajma {}: {}", asked.join(" "), String::from_utf8_lossy(&told)).into())
    }
}

/// Where the release binary lies: beside this program, or in cargo's target directory.
#[must_use]
pub fn default_binary() -> PathBuf {
    let beside = std::env::current_exe()
        .ok()
        .and_then(|own| Some(own.parent()?.join("fajma")));
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| PathBuf::from("target"), PathBuf::from);
    beside
        .filter(|path| Path::exists(path))
        .unwrap_or_else(|| target.join("release/fajma"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_from_what_the_server_says_first() {
        let line = r#"{"http":"127.0.0.1:8080","mqtt":"127.0.0.1:1883","login":"x"}"#;
        let (http, mqtt) = addresses(line).unwrap();
        assert_eq!((http.port(), mqtt.unwrap().port()), (8080, 1883));
        let (_, none) = addresses(r#"{"http":"127.0.0.1:8080","mqtt":null}"#).unwrap();
        assert!(none.is_none());
        assert!(addresses(r#"{"mqtt":"127.0.0.1:1883"}"#).is_err());
    }

    #[test]
    fn a_binary_that_is_not_there_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new("/nowhere/fajma");
        let trouble = Running::start(&mut command, &folder.path().join("log")).unwrap_err();
        assert!(trouble.to_string().contains("make build"), "{trouble}");
    }
}
