//! What lies with others, fetched by a program that is killed: topics that others fill, a broker that devices use already.

mod bridge;
mod mosquitto;
mod raw;

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use app::client;
use app::config::{Config, Sources};
use eventlog::{Limit, Topic};
use hyper::Method;
use hyper::body::Bytes;
use schemas::codec;
use schemas::journal::Fact;
use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::house::{PATIENCE, fajma};

/// The program in a process of its own, which can be killed.
struct Program {
    child: Child,
    http: String,
    token: String,
}

impl Program {
    /// Starts `fajma ROLE` on a directory, with these variables, and waits until it says where it is.
    fn start(role: &str, dir: &Path, variables: &[(&str, String)]) -> Self {
        let data = dir.join(role).display().to_string();
        let key = dir.join("token.key").display().to_string();
        let (status, token, error) = fajma(&["token", "issue", "--role", "admin", "--key", &key]);
        assert_eq!(status, Some(0), "{error}");
        let mut child = Command::new(env!("CARGO_BIN_EXE_fajma"))
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
            .env_remove("FAJMA_TEST_KAFKA")
            .env_remove("FAJMA_TEST_CQL")
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
            token: token.trim().to_owned(),
        }
    }

    /// kill -9.
    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM, and waits until it has ended well.
    async fn stop(mut self) {
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

    async fn ask(&self, path: &str) -> Value {
        let asked = client::call(&self.http, Method::GET, path, &self.token, ("", Bytes::new()));
        asked.await.map_or_else(Value::String, |(_, answer)| answer)
    }

    /// Asks until the answer is as it should be, for as long as anything still happens.
    async fn until<T: PartialEq + std::fmt::Debug>(
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

    /// How many readings of each patient there are, whatever has been said twice.
    async fn readings(&self, patients: &[String]) -> Vec<i64> {
        let mut counts = Vec::new();
        for patient in patients {
            let answer = self
                .ask(&format!(
                    "/v1/patients/{patient}/readings?metric=heart_rate&limit=10000"
                ))
                .await;
            let ids = answer["readings"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(|row| row["id"].as_str());
            counts.push(ids.collect::<BTreeSet<_>>().len() as i64);
        }
        counts
    }

    /// How many readings the minutes of each patient have counted. Under load they are written late.
    async fn counted(&self, patients: &[String]) -> Vec<i64> {
        let mut counts = Vec::new();
        for patient in patients {
            let path = format!("/v1/patients/{patient}/windows?metric=heart_rate&size=1m&limit=1000");
            let answer = self.ask(&path).await;
            let windows = answer["windows"].as_array().into_iter().flatten();
            counts.push(windows.filter_map(|window| window["count"].as_i64()).sum());
        }
        counts
    }

    /// Waits until every reading is there, and counted once.
    async fn counts(&self, patients: &[String], each: &[i64]) {
        let readings = async |program: &Self| program.readings(patients).await;
        self.until("every reading", readings, |n| n == each).await;
        let counted = async |program: &Self| program.counted(patients).await;
        self.until("each counted once", counted, |n| n == each).await;
    }

    /// Codes and beginnings of what was refused at a door, sorted.
    async fn refused(&self, door: &str) -> Vec<(String, String)> {
        let answer = self.ask("/v1/rejected?limit=1000").await;
        let all = answer["rejected"].as_array().into_iter().flatten();
        let text = |row: &Value, name: &str| row[name].as_str().unwrap_or_default().to_owned();
        let mut refused: Vec<_> = all
            .filter(|row| row["door"] == door)
            .map(|row| (text(row, "code"), text(row, "start")))
            .collect();
        refused.sort();
        refused
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// How many readings stand in the journal of a stopped program, and how many different ones.
async fn journal(dir: &Path) -> (usize, usize) {
    let flags = vec![
        ("data.dir", dir.join("up").display().to_string(), "test"),
        ("log.partitions", "2".to_owned(), "test"),
    ];
    let config = Config::load(Sources {
        flags,
        ..Sources::default()
    });
    let house = app::house::House::open(&config.unwrap()).await.unwrap();
    let (mut all, mut different) = (0, BTreeSet::new());
    for partition in 0..house.log.layout().partitions {
        let bounds = house.log.bounds(Topic::Journal, partition).await.unwrap();
        let mut from = bounds.start;
        while from < bounds.end {
            let batch = house
                .log
                .read(Topic::Journal, partition, from, Limit::default())
                .await
                .unwrap();
            for entry in batch.entries() {
                let envelope = codec::decode(&entry.value, &house.catalogue).unwrap();
                if let Fact::Reading(_) = envelope.fact {
                    all += 1;
                    different.insert(envelope.id);
                }
            }
            from = batch.next().unwrap_or(bounds.end);
        }
    }
    (all, different.len())
}

/// Recomputes what the stopped program recorded.
fn verify(dir: &Path, variables: &[(&str, String)]) {
    let output = Command::new(env!("CARGO_BIN_EXE_fajma"))
        .args(["verify", "--data"])
        .arg(dir.join("up"))
        .env_remove("FAJMA_TEST_KAFKA")
        .env_remove("FAJMA_TEST_CQL")
        .envs(variables.iter().map(|(name, value)| (*name, value)))
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
}
