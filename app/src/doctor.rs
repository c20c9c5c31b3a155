//! `fajma doctor`: looks at everything a server needs on this machine, and says what to do about what it finds.

use std::fs;
use std::io::Write;
use std::path::Path;

use clap::Args;
use eventlog::{Clock, SystemClock};
use schemas::codec::{Catalogue, KINDS};
use schemas::time::Timestamp;
use serde::Serialize;
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::time::Instant;

use crate::cli::Place;
use crate::config::Config;
use crate::failure::Failure;
use crate::house::House;
use crate::house::dir::DataDir;

/// What `fajma doctor` takes.
#[derive(Debug, Clone, Args)]
pub struct Doctor {
    /// Print one JSON object.
    #[arg(long)]
    pub json: bool,
    /// Where things are.
    #[command(flatten)]
    pub place: Place,
}

/// How a check came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Health {
    /// As it should be.
    Ok,
    /// It works, but not as it should.
    Warning,
    /// It does not work.
    Failed,
}

/// One check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What was looked at.
    pub name: &'static str,
    /// How it came out.
    pub health: Health,
    /// What was seen.
    pub seen: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
}

impl Check {
    fn ok(name: &'static str, seen: impl Into<String>) -> Self {
        Self {
            name,
            health: Health::Ok,
            seen: seen.into(),
            advice: None,
        }
    }

    fn bad(name: &'static str, health: Health, seen: impl Into<String>, advice: impl Into<String>) -> Self {
        Self {
            name,
            health,
            seen: seen.into(),
            advice: Some(advice.into()),
        }
    }
}

/// Below so many free bytes the disk is a danger, below this share of it a worry.
const LITTLE: u64 = 1 << 30;
/// An acknowledgement waits for one `fdatasync`: above this many milliseconds patients' alerts are late.
const SLOW_MS: f64 = 20.0;
/// Before this moment (2026-01-01) a clock is certainly wrong.
const EARLIEST: Timestamp = Timestamp::from_millis(1_767_225_600_000);

/// Checks, prints, fails where a check did.
///
/// # Errors
/// Where a check failed.
pub async fn run(options: Doctor) -> Result<(), Failure> {
    let config = options.place.config(Vec::new())?;
    let checks = examine(&config).await;
    if options.json {
        println!("{}", serde_json::json!({ "checks": checks }));
    } else {
        for check in &checks {
            let mark = match check.health {
                Health::Ok => "ok  ",
                Health::Warning => "WARN",
                Health::Failed => "FAIL",
            };
            println!("{mark}  {:<10} {}", check.name, check.seen);
            if let Some(advice) = &check.advice {
                println!("{:16} -> {advice}", "");
            }
        }
    }
    let failed = checks.iter().filter(|check| check.health == Health::Failed).count();
    if failed == 0 {
        Ok(())
    } else {
        Err(Failure::Failed(format!("{failed} of {} checks failed", checks.len())))
    }
}

/// All checks. Leaves nothing behind.
pub async fn examine(config: &Config) -> Vec<Check> {
    let dir = DataDir::new(&config.data.dir);
    let serving = UnixStream::connect(dir.socket()).await.is_ok();
    // What is not there yet is judged by where it will be.
    let standing = dir
        .path()
        .ancestors()
        .find(|p| p.is_dir())
        .unwrap_or_else(|| Path::new("."));
    let mut checks = vec![directory(&dir, standing)];
    if !serving && dir.has_log() {
        checks.push(log(config).await);
    } else if serving {
        checks.push(Check::ok("server", "one runs on this directory and answers"));
    }
    checks.push(room(standing));
    checks.push(sync(standing));
    checks.push(port("http", &config.http.listen, serving, "--listen").await);
    if !config.mqtt.listen.is_empty() {
        checks.push(port("mqtt", &config.mqtt.listen, serving, "--mqtt").await);
    }
    checks.push(clock(SystemClock.now()));
    checks.push(key(&dir));
    checks.push(schemas());
    checks.push(files());
    checks
}

fn directory(dir: &DataDir, standing: &Path) -> Check {
    let name = "directory";
    let place = dir.path().display();
    match tempfile::tempfile_in(standing) {
        Err(e) => Check::bad(
            name,
            Health::Failed,
            format!("{}: {e}", standing.display()),
            "make it writable for the user that runs fajma, or name another with --data",
        ),
        Ok(_) if standing == dir.path() => Check::ok(name, format!("{place} is there and writable")),
        Ok(_) => Check::ok(name, format!("{place} will be made by the first `fajma up`")),
    }
}

async fn log(config: &Config) -> Check {
    match House::open(config).await {
        Ok(house) => {
            if let Err(e) = house.serving() {
                return Check::bad("log", Health::Warning, e.to_string(), "go on where it says");
            }
            let layout = house.log.layout();
            Check::ok(
                "log",
                format!("{} partitions, journal {}", layout.partitions, layout.incarnation),
            )
        }
        Err(e) => Check::bad(
            "log",
            Health::Failed,
            e.to_string(),
            "see the message; the log holds everything, keep a copy first",
        ),
    }
}

fn room(place: &Path) -> Check {
    let name = "disk";
    match DataDir::new(place).room() {
        Err(e) => Check::bad(name, Health::Warning, e.to_string(), "look with df"),
        Ok(room) => {
            let gib = |bytes: u64| bytes as f64 / f64::from(1 << 30);
            let seen = format!("{:.1} of {:.1} GiB free", gib(room.free), gib(room.total));
            if room.free < LITTLE {
                let advice = "make room: a full disk stops all acknowledgements";
                Check::bad(name, Health::Failed, seen, advice)
            } else if room.free < room.total / 10 {
                Check::bad(name, Health::Warning, seen, "make room soon: less than a tenth is free")
            } else {
                Check::ok(name, seen)
            }
        }
    }
}

fn sync(place: &Path) -> Check {
    let name = "fdatasync";
    let measured = || -> std::io::Result<f64> {
        let mut file = tempfile::tempfile_in(place)?;
        let mut times = Vec::new();
        for _ in 0..32 {
            file.write_all(&[7; 4096])?;
            let begun = Instant::now();
            file.sync_data()?;
            times.push(begun.elapsed().as_secs_f64() * 1e3);
        }
        times.sort_by(f64::total_cmp);
        Ok(times[times.len() * 9 / 10])
    };
    match measured() {
        Err(e) => Check::bad(name, Health::Failed, e.to_string(), "the disk does not take data"),
        Ok(ms) if ms > SLOW_MS => Check::bad(
            name,
            Health::Warning,
            format!("{ms:.1} ms, nine of ten"),
            "every acknowledgement waits for it: use a local SSD, not a network or SD-card volume",
        ),
        Ok(ms) => Check::ok(name, format!("{ms:.1} ms, nine of ten")),
    }
}

async fn port(name: &'static str, address: &str, serving: bool, flag: &str) -> Check {
    if serving {
        return match TcpStream::connect(address).await {
            Ok(_) => Check::ok(name, format!("{address} answers")),
            Err(e) => Check::bad(
                name,
                Health::Warning,
                format!("{address}: {e}"),
                "the running server may listen elsewhere: compare its options",
            ),
        };
    }
    match TcpListener::bind(address).await {
        Ok(_) => Check::ok(name, format!("{address} is free")),
        Err(e) => Check::bad(
            name,
            Health::Failed,
            format!("{address}: {e}"),
            format!("find who has it with ss -ltnp, or name another with {flag}"),
        ),
    }
}

fn clock(now: Timestamp) -> Check {
    let name = "clock";
    if now < EARLIEST {
        return Check::bad(
            name,
            Health::Failed,
            now.to_string(),
            "set the clock: timedatectl set-ntp true",
        );
    }
    let kept = [
        "/run/systemd/timesync/synchronized",
        "/run/chrony/chronyd.pid",
        "/run/chronyd.pid",
        "/run/ntpd.pid",
    ];
    if kept.iter().any(|path| Path::new(path).exists()) {
        Check::ok(name, format!("{now}, kept by a time service"))
    } else {
        Check::bad(
            name,
            Health::Warning,
            format!("{now}; no time service was found"),
            "recorded times are only as good as this clock: timedatectl set-ntp true, or install chrony",
        )
    }
}

fn key(dir: &DataDir) -> Check {
    let path = dir.token_key();
    if !path.exists() {
        return Check::ok("tokens", "the key will be made by the first start");
    }
    match api::token::Keys::load(&path) {
        Ok(keys) => Check::ok("tokens", format!("key {}", keys.id())),
        Err(e) => Check::bad("tokens", Health::Failed, e.to_string(), "see the message"),
    }
}

fn schemas() -> Check {
    let catalogue = Catalogue::default();
    for kind in KINDS {
        if let Err(e) = catalogue.learn(kind.id, kind.text) {
            return Check::bad(
                "schemas",
                Health::Failed,
                format!("{}: {e}", kind.name),
                "this build is broken: install it anew",
            );
        }
    }
    Check::ok("schemas", format!("{} record types", KINDS.len()))
}

fn files() -> Check {
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let line = limits.lines().find(|line| line.starts_with("Max open files"));
    let soft = line
        .and_then(|line| line.split_whitespace().nth(3))
        .and_then(|n| n.parse::<u64>().ok());
    match soft {
        Some(n) if n < 4096 => Check::bad(
            "files",
            Health::Warning,
            format!("{n} open files at most"),
            "raise it for many connections: ulimit -n 65536, or LimitNOFILE= in the unit",
        ),
        Some(n) => Check::ok("files", format!("{n} open files at most")),
        None => Check::ok("files", "no limit known"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Sources};

    async fn on(listen: &str) -> (Vec<Check>, tempfile::TempDir) {
        let dir = tempfile::tempdir().unwrap();
        let flags = vec![
            ("data.dir", dir.path().join("d").display().to_string(), "--data"),
            ("http.listen", listen.to_owned(), "--listen"),
            ("mqtt.listen", String::new(), "--mqtt"),
        ];
        let config = Config::load(Sources {
            flags,
            ..Sources::default()
        });
        (examine(&config.unwrap()).await, dir)
    }

    fn health(checks: &[Check], name: &str) -> Health {
        checks.iter().find(|c| c.name == name).map(|c| c.health).unwrap()
    }

    #[tokio::test]
    async fn a_fresh_machine_is_healthy_and_stays_untouched() {
        let (checks, dir) = on("127.0.0.1:0").await;
        for name in ["directory", "http", "tokens", "schemas"] {
            assert_eq!(health(&checks, name), Health::Ok, "{checks:?}");
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn a_taken_port_fails_with_advice() {
        let other = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (checks, _dir) = on(&other.local_addr().unwrap().to_string()).await;
        assert_eq!(health(&checks, "http"), Health::Failed);
        let told = checks.iter().all(|c| c.health == Health::Ok || c.advice.is_some());
        assert!(told, "{checks:?}");
    }

    #[test]
    fn a_clock_before_this_program_was_written_is_wrong() {
        assert_eq!(clock(Timestamp(0)).health, Health::Failed);
    }
}
