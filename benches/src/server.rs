//! The real binary, started on a directory of its own and stopped again.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tokio::time::Instant;

use crate::http::Connection;
use crate::{Result, process};

/// How long the server may take to be ready, or to end.
const PATIENCE: Duration = Duration::from_secs(120);

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
    child: Child,
    /// Where HTTP is served.
    pub http: SocketAddr,
    /// Where MQTT is served.
    pub mqtt: SocketAddr,
    /// An administrator's token.
    pub token: String,
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
        let log = std::fs::File::create(self.data.with_extension("log"))?;
        let mut child = self
            .command()
            .args([
                "up",
                "--json",
                "--listen",
                "127.0.0.1:0",
                "--mqtt",
                "127.0.0.1:0",
                "--data",
            ])
            .arg(&self.data)
            .env("FAJMA_LOGGING_FILTER", "warn")
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .map_err(|e| format!("{}: {e}; build it with: make build", self.fajma.display()))?;
        let said = said(&mut child).and_then(|line| addresses(&line));
        let (http, mqtt) = match said {
            Ok(addresses) => addresses,
            Err(trouble) => {
                let _ = child.kill();
                let _ = child.wait();
                let log = std::fs::read_to_string(self.data.with_extension("log")).unwrap_or_default();
                return Err(format!("the server did not start: {trouble}\n{log}").into());
            }
        };
        let mut server = Server {
            child,
            http,
            mqtt,
            token: String::new(),
            ready_after: Duration::ZERO,
        };
        server.wait_until_ready()?;
        server.ready_after = began.elapsed();
        server.token = self.token()?;
        Ok(server)
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
        let out = Command::new(&self.fajma)
            .args(["token", "issue", "--role", "admin", "--data"])
            .arg(&self.data)
            .output()?;
        if out.status.success() {
            Ok(String::from_utf8(out.stdout)?.trim().to_owned())
        } else {
            Err(format!("no token: {}", String::from_utf8_lossy(&out.stderr)).into())
        }
    }

    /// Recomputes what the journal implies and compares it with what was recorded, while no server runs. Returns how
    /// long that took.
    ///
    /// # Errors
    /// Where something differs.
    pub fn verify(&self) -> Result<Duration> {
        let began = Instant::now();
        let out = self.command().args(["verify", "--data"]).arg(&self.data).output()?;
        let took = began.elapsed();
        if out.status.success() {
            Ok(took)
        } else {
            let told = [&out.stdout[..], &out.stderr[..]].concat();
            Err(format!("fajma verify: {}", String::from_utf8_lossy(&told)).into())
        }
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

fn addresses(line: &str) -> Result<(SocketAddr, SocketAddr)> {
    let told: serde_json::Value = serde_json::from_str(line)?;
    let address = |name: &str| -> Result<SocketAddr> {
        let text = told[name]
            .as_str()
            .ok_or_else(|| format!("it did not say where {name} is"))?;
        Ok(text.parse()?)
    };
    Ok((address("http")?, address("mqtt")?))
}

impl Server {
    /// Its process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// A connection to its HTTP door.
    ///
    /// # Errors
    /// Where it does not listen any more.
    pub fn connect(&self) -> Result<Connection> {
        Connection::open(self.http, &self.token)
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

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
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
        assert_eq!((http.port(), mqtt.port()), (8080, 1883));
        assert!(addresses(r#"{"http":"127.0.0.1:8080","mqtt":null}"#).is_err());
    }

    #[test]
    fn a_binary_that_is_not_there_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let start = Start {
            fajma: "/nowhere/fajma".into(),
            data: folder.path().join("data"),
            core: None,
        };
        let trouble = start.start().unwrap_err().to_string();
        assert!(trouble.contains("make build"), "{trouble}");
    }
}
