//! `fajma-bench`: starts the real binary, loads it through its doors, prints what it does. With `--engines` on a real Kafka and
//! a real database, a process for each role.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use benches::engines::site::Engines;
use benches::load::Door;
use benches::run::{Plan, run};
use benches::running::default_binary;
use benches::server::Start;
use benches::world::World;
use benches::{Result, engines, phases, process, report};
use clap::{Args, Parser, ValueEnum};

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
    /// Seconds of each closed-loop phase; else 15, on engines 8.
    #[arg(long)]
    closed: Option<u64>,
    /// Seconds of each open-loop phase; else 20, on engines 12.
    #[arg(long)]
    open: Option<u64>,
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
    /// One door alone; on engines always one, else HTTP.
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
    #[command(flatten)]
    on: OnEngines,
}

/// On Kafka and a database (`docker/engines/engines run fajma-bench --engines`).
#[derive(Debug, Args)]
struct OnEngines {
    /// A process for each role, on topics and a keyspace of their own; then processing beside the bare client.
    #[arg(long, requires_all = ["kafka", "cql"], conflicts_with_all = ["data", "fill", "pin"])]
    engines: bool,
    /// Numbers of processors.
    #[arg(long, value_delimiter = ',', default_value = "1,2,4")]
    processors: Vec<usize>,
    /// Millions of readings that processors catch up with.
    #[arg(long, value_name = "MILLIONS", default_value_t = 1.5)]
    journal: f64,
    /// Only processing beside the bare client.
    #[arg(long)]
    compare: bool,
    /// Brokers of Kafka, host:port.
    #[arg(long, env = "FAJMA_TEST_KAFKA")]
    kafka: Option<String>,
    /// Nodes of Cassandra or ScyllaDB, host:port.
    #[arg(long, env = "FAJMA_TEST_CQL")]
    cql: Option<String>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Only {
    Http,
    Mqtt,
}

impl Options {
    fn doors(&self) -> [Door; 2] {
        let (batch, window) = (self.batch, self.window);
        [Door::Http { batch }, Door::Mqtt { window }]
    }

    fn phases(&self) -> phases::Plan {
        let lasting = |asked: Option<u64>, alone, on_engines, quick| {
            let usual = if self.on.engines { on_engines } else { alone };
            Duration::from_secs(asked.unwrap_or(if self.quick { quick } else { usual }))
        };
        phases::Plan {
            world: World {
                patients: if self.quick {
                    self.patients.min(1000)
                } else {
                    self.patients
                },
            },
            http_connections: self.http_connections,
            mqtt_connections: self.mqtt_connections,
            closed: lasting(self.closed, 15, 8, 3),
            open: lasting(self.open, 20, 12, 4),
            part: self.part,
            probes: self.probes,
        }
    }

    fn plan(&self) -> Plan {
        let [http, mqtt] = self.doors();
        Plan {
            phases: self.phases(),
            doors: match self.door {
                None => vec![http, mqtt],
                Some(Only::Http) => vec![http],
                Some(Only::Mqtt) => vec![mqtt],
            },
            fill: (self.fill * 1e6) as u64,
            fill_by: http,
            replay: !self.no_replay,
        }
    }

    fn plan_on_engines(&self) -> engines::Plan {
        let [http, mqtt] = self.doors();
        let millions = if self.quick { 0.2 } else { self.on.journal };
        engines::Plan {
            phases: self.phases(),
            door: match self.door {
                None | Some(Only::Http) => http,
                Some(Only::Mqtt) => mqtt,
            },
            batch: self.batch,
            processors: self.on.processors.clone(),
            records: (millions * 1e6) as u64,
            compare_only: self.on.compare,
        }
    }

    fn check(&self) -> Result<()> {
        let lasting = [self.closed, self.open].into_iter().flatten();
        let some = lasting.chain([self.patients, self.batch]).all(|n| n > 0);
        let connections = self.http_connections > 0 && self.mqtt_connections > 0;
        let processors = self.on.journal > 0.0 && self.on.processors.iter().all(|n| *n > 0);
        let rates = self.part > 0.0 && self.probes > 0.0;
        if some && connections && processors && rates && (1..=60_000).contains(&self.window) {
            Ok(())
        } else {
            Err("every number must be above 0, the window at most 60000".into())
        }
    }

    fn run(&self) -> Result<String> {
        self.check()?;
        let folder = tempfile::Builder::new().prefix("fajma-bench-").tempdir()?;
        let fajma = self.fajma.clone().unwrap_or_else(default_binary);
        let told = |what: &str| eprintln!("fajma-bench: {what}");
        let (machine, commit) = (process::machine(), process::commit());
        if let (true, Some(kafka), Some(cql)) = (self.on.engines, self.on.kafka.clone(), self.on.cql.clone()) {
            let engines = Engines {
                fajma,
                folder: folder.path().to_owned(),
                kafka,
                cql,
            };
            let plan = self.plan_on_engines();
            let name = format!("bench_{}", std::process::id());
            let figures = engines::run(&plan, &engines, &name, &told)?;
            return Ok(engines::report::tables(&plan, &figures, &machine, &commit));
        }
        let start = Start {
            fajma,
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
        let figures = run(&plan, &start, &told)?;
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
