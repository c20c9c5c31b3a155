//! `fajma-bench`: starts the real binary, loads it through its doors, prints one table.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use benches::load::Door;
use benches::run::{Plan, run};
use benches::server::{Start, default_binary};
use benches::world::World;
use benches::{Result, process, report};
use clap::{Parser, ValueEnum};

/// Loads the real server and prints what it does, beside the budget.
#[derive(Debug, Parser)]
#[command(name = "fajma-bench", version)]
struct Options {
    /// The server's binary; else the release build.
    fajma: Option<PathBuf>,
    /// Where the data goes (a directory that is not there yet), and stays; else a temporary one.
    #[arg(long)]
    data: Option<PathBuf>,
    /// Patients, with five metrics each.
    #[arg(long, default_value_t = 10_000)]
    patients: u64,
    /// Seconds of each closed-loop phase.
    #[arg(long, default_value_t = 15)]
    closed: u64,
    /// Seconds of each open-loop phase.
    #[arg(long, default_value_t = 20)]
    open: u64,
    /// The part of what is sustained that the open loop sends.
    #[arg(long, default_value_t = 0.7)]
    part: f64,
    /// Readings per HTTP request.
    #[arg(long, default_value_t = 100)]
    batch: u64,
    /// HTTP connections.
    #[arg(long, default_value_t = 16)]
    http_connections: usize,
    /// MQTT connections.
    #[arg(long, default_value_t = 8)]
    mqtt_connections: usize,
    /// Messages of one MQTT connection that may wait for their acknowledgement.
    #[arg(long, default_value_t = 1000)]
    window: usize,
    /// Probes per second: patients whose heart rate raises an alert.
    #[arg(long, default_value_t = 25.0)]
    probes: f64,
    /// One door alone.
    #[arg(long, value_enum)]
    door: Option<Only>,
    /// Fill the log up to so many million readings before the restart.
    #[arg(long, value_name = "MILLIONS", default_value_t = 0.0)]
    fill: f64,
    /// Do not recompute everything at the end.
    #[arg(long)]
    no_replay: bool,
    /// The server on core 0, the generator on core 1: the figure per core.
    #[arg(long)]
    pin: bool,
    /// About 20 seconds in all, with 1,000 patients: does it work?
    #[arg(long)]
    quick: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Only {
    Http,
    Mqtt,
}

impl Options {
    fn plan(&self) -> Plan {
        let http = Door::Http { batch: self.batch };
        let mqtt = Door::Mqtt { window: self.window };
        let quick = |n: u64, quick: u64| Duration::from_secs(if self.quick { quick } else { n });
        Plan {
            world: World {
                patients: if self.quick {
                    self.patients.min(1000)
                } else {
                    self.patients
                },
            },
            batch: self.batch,
            http_connections: self.http_connections,
            mqtt_connections: self.mqtt_connections,
            window: self.window,
            closed: quick(self.closed, 3),
            open: quick(self.open, 4),
            part: self.part,
            probes: self.probes,
            doors: match self.door {
                None => vec![http, mqtt],
                Some(Only::Http) => vec![http],
                Some(Only::Mqtt) => vec![mqtt],
            },
            fill: (self.fill * 1e6) as u64,
            replay: !self.no_replay,
        }
    }

    fn check(&self) -> Result<()> {
        let some = [self.patients, self.closed, self.open, self.batch]
            .iter()
            .all(|n| *n > 0);
        let connections = self.http_connections > 0 && self.mqtt_connections > 0;
        if some && connections && (1..=60_000).contains(&self.window) && self.part > 0.0 && self.probes > 0.0 {
            Ok(())
        } else {
            Err("every number must be above 0, the window at most 60000".into())
        }
    }

    fn run(&self) -> Result<String> {
        self.check()?;
        let (machine, commit) = (process::machine(), process::commit());
        let folder = tempfile::Builder::new().prefix("fajma-bench-").tempdir()?;
        let start = Start {
            fajma: self.fajma.clone().unwrap_or_else(default_binary),
            data: self.data.clone().unwrap_or_else(|| folder.path().join("data")),
            core: self.pin.then_some(0),
        };
        if start.data.exists() {
            return Err(format!(
                "{} is there already: name a directory that is not",
                start.data.display()
            )
            .into());
        }
        if self.pin {
            process::pin(std::process::id(), 1)?;
        }
        let plan = self.plan();
        let figures = run(&plan, &start, &|what| eprintln!("fajma-bench: {what}"))?;
        Ok(report::table(&plan, &figures, &machine, &commit, self.pin))
    }
}

fn main() -> ExitCode {
    match Options::parse().run() {
        Ok(table) => {
            println!("{table}");
            ExitCode::SUCCESS
        }
        Err(trouble) => {
            eprintln!("fajma-bench: {trouble}");
            ExitCode::FAILURE
        }
    }
}
