//! The program in processes of its own.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Stdio};

use app::client;
use hyper::Method;
use hyper::body::Bytes;
use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::house::{PATIENCE, fajma, program};

/// The program in a process of its own, which can be killed.
pub(super) struct Program {
    child: Child,
    pub(super) http: String,
    pub(super) mqtt: String,
    /// An administrator's.
    pub(super) token: String,
}

impl Program {
    /// Starts `fajma ROLE` on a directory, with these variables, and waits until it says where it is.
    pub(super) fn start(role: &str, dir: &Path, variables: &[(&str, String)]) -> Self {
        Self::named(role, role, dir, variables)
    }

    /// The same, one of several of its role: in a directory of this name.
    pub(super) fn named(role: &str, name: &str, dir: &Path, variables: &[(&str, String)]) -> Self {
        let data = dir.join(name).display().to_string();
        let key = dir.join("token.key").display().to_string();
        let (status, token, error) = fajma(&["token", "issue", "--role", "admin", "--key", &key]);
        assert_eq!(status, Some(0), "{error}");
        let mut child = program()
            .args([
                role,
                "--json",
                "--listen",
                "127.0.0.1:0",
                "--mqtt",
                "127.0.0.1:0",
                "--data",
            ])
            .arg(data)
            .env("FAJMA_DATA_KEY", key)
            .env("FAJMA_LOG_PARTITIONS", "2")
            .env("FAJMA_SUPERVISOR_LONGEST_PAUSE", "1s")
            .env(
                "FAJMA_LOGGING_FILTER",
                std::env::var("OUTSIDE_LOG").unwrap_or_else(|_| "off".to_owned()),
            )
            .envs(variables.iter().map(|(name, value)| (*name, value)))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let told: Value = serde_json::from_str(&line).unwrap_or_else(|e| panic!("{role} did not start: {e}: {line}"));
        Self {
            child,
            http: told["http"].as_str().unwrap().to_owned(),
            mqtt: told["mqtt"].as_str().unwrap_or_default().to_owned(),
            token: token.trim().to_owned(),
        }
    }

    /// kill -9.
    pub(super) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM, and waits until it has ended well.
    pub(super) async fn stop(mut self) {
        let pid = rustix::process::Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                assert!(status.success(), "{status}");
                return;
            }
            assert!(Instant::now() < until, "it does not stop");
            sleep(std::time::Duration::from_millis(20)).await;
        }
    }

    pub(super) async fn ask(&self, path: &str) -> Value {
        let asked = client::call(&self.http, Method::GET, path, &self.token, ("", Bytes::new()));
        asked.await.map_or_else(Value::String, |(_, answer)| answer)
    }

    /// Asks until the answer is as it should be, for as long as anything still happens.
    pub(super) async fn until<T: PartialEq + std::fmt::Debug>(
        &self,
        what: &str,
        ask: impl AsyncFn(&Self) -> T,
        there: impl Fn(&T) -> bool,
    ) -> T {
        let (mut since, mut last) = (Instant::now(), None);
        loop {
            let now = ask(self).await;
            if there(&now) {
                return now;
            }
            if last.as_ref() != Some(&now) {
                since = Instant::now();
            }
            assert!(
                since.elapsed() < PATIENCE,
                "{what}: {now:?}; {}",
                self.ask("/readyz").await
            );
            last = Some(now);
            sleep(std::time::Duration::from_millis(50)).await;
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
