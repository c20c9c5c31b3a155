//! `make kill-loop`, `kill-roles`, `outages`, `clocks`, `rebalance` and `standby`: what can go wrong, done on purpose under load, then
//! every promise checked.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use app::killloop::engines::Engines;
use app::killloop::outages::Away;
use app::killloop::rebalance::Stretch;
use app::killloop::{Outcome, Plan, Shared, clocks, outages, rebalance, run, standby};
use clap::{Parser, Subcommand};

/// Kills the server again and again under load, then checks every promise.
#[derive(Debug, Parser)]
struct Options {
    /// How often to kill.
    #[arg(long, default_value_t = 50)]
    kills: u32,
    /// Makes the moments of the kills the same again; else one that is printed.
    #[arg(long, global = true)]
    seed: Option<u64>,
    /// Simulated patients.
    #[arg(long, global = true, default_value_t = 20)]
    patients: usize,
    /// Milliseconds between two beats of each patient, two readings each.
    #[arg(long, global = true, default_value_t = 50)]
    every: u64,
    /// A Kafka, host:port: then every role is a process of its own, and is killed or paused.
    #[arg(long, global = true, requires = "cql", env = "FAJMA_TEST_KAFKA")]
    kafka: Option<String>,
    /// A ScyllaDB or Cassandra, host:port.
    #[arg(long, global = true, requires = "kafka", env = "FAJMA_TEST_CQL")]
    cql: Option<String>,
    /// Processes have names in their groups, and come back under them.
    #[arg(long, global = true)]
    named: bool,
    #[command(subcommand)]
    proof: Option<Proof>,
}

/// What is done instead of killing.
#[derive(Debug, Subcommand)]
enum Proof {
    /// The views' database away for a while, then the broker.
    Outages {
        /// Seconds that the database is away.
        #[arg(long, default_value_t = 600)]
        store: u64,
        /// Seconds that the broker is away.
        #[arg(long, default_value_t = 30)]
        broker: u64,
    },
    /// Doors whose clocks are wrong.
    Clocks {
        /// Seconds.
        #[arg(long, default_value_t = 90)]
        lasting: u64,
    },
    /// One processor, four, two.
    Rebalance {
        /// Seconds with each number of processors.
        #[arg(long, default_value_t = 45)]
        each: u64,
    },
    /// The only processor killed, with a standby beside it, with a second one, with nobody.
    Standby {
        /// How often, with each of them.
        #[arg(long, default_value_t = 5)]
        times: u32,
        /// Seconds before each.
        #[arg(long, default_value_t = 8)]
        each: u64,
    },
}

fn main() -> ExitCode {
    let options = Options::parse();
    let seed = options.seed.unwrap_or_else(|| fastrand::u64(..1_000_000));
    let kills = match &options.proof {
        None => format!("--kills {}", options.kills),
        Some(proof) => format!("{proof:?}"),
    };
    println!(
        "seed {seed}: fajma-killloop {kills} --patients {} --every {} --seed {seed}",
        options.patients, options.every
    );
    let _ = tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_writer(std::io::stderr)
        .try_init();
    match go(&options, seed) {
        Ok(told) => {
            println!("{told}");
            ExitCode::SUCCESS
        }
        Err(why) => {
            eprintln!("BROKEN with seed {seed}: {why}");
            ExitCode::FAILURE
        }
    }
}

/// Topics and tables of this run's own.
fn shared(kafka: &str, cql: &str, seed: u64) -> Shared {
    let name = format!("kill_{seed}_{}", std::process::id());
    Shared {
        log: format!("kafka://{kafka}/{name}"),
        views: format!("scylla://{cql}/{name}"),
    }
}

fn go(options: &Options, seed: u64) -> Result<String, String> {
    let here = std::env::current_exe().map_err(|e| e.to_string())?;
    let binary: PathBuf = here.with_file_name("fajma");
    let data = tempfile::tempdir().map_err(|e| e.to_string())?;
    let engines = options.kafka.as_ref().zip(options.cql.as_ref());
    let shared = engines.map(|(kafka, cql)| shared(kafka, cql, seed));
    if options.proof.is_some() && shared.is_none() {
        return Err("it needs --kafka and --cql: docker/engines/engines run".to_owned());
    }
    let plan = Plan {
        binary,
        data: data.path().join("data"),
        shared,
        engines: Engines::here(),
        processors: if matches!(options.proof, Some(Proof::Rebalance { .. })) {
            1
        } else {
            3
        },
        kills: match options.proof {
            Some(Proof::Standby { times, .. }) => times,
            _ => options.kills,
        },
        seed,
        patients: options.patients,
        every: Duration::from_millis(options.every),
        alarms: 0.0,
        named: options.named,
    };
    let runtime = tokio::runtime::Runtime::new().map_err(|e| e.to_string())?;
    let told = runtime.block_on(prove(options.proof.as_ref(), &plan));
    told.map_err(|why| format!("{why}\nthe directory is kept: {}", data.keep().display()))
}

async fn prove(proof: Option<&Proof>, plan: &Plan) -> Result<String, String> {
    match proof {
        None => {
            let outcome = run(plan).await?;
            Ok(format!("{} kills: {}", plan.kills, sentence(&outcome)))
        }
        Some(Proof::Outages { store, broker }) => {
            let away = Away {
                store: Duration::from_secs(*store),
                broker: Duration::from_secs(*broker),
            };
            let (outcome, told) = outages::run(plan, away).await?;
            Ok(format!("{}\n{}", told.join("\n"), sentence(&outcome)))
        }
        Some(Proof::Clocks { lasting }) => {
            let library = match &plan.engines {
                Some(engines) => engines.wrong_clock().await?,
                None => None,
            };
            let Some(library) = library else {
                return Ok("NOT RUN: clocks (a C compiler is missing, or docker/engines/engines run)".to_owned());
            };
            let told = clocks::run(plan, library, Duration::from_secs(*lasting)).await?;
            Ok(told.join("\n"))
        }
        Some(Proof::Rebalance { each }) => {
            let (outcome, stretches) = rebalance::run(plan, Duration::from_secs(*each)).await?;
            let rows: Vec<String> = stretches.iter().map(row).collect();
            let head = "from a reading in the log to what an alert makes of it in the log | changes | p50 ms | p99 ms | max ms";
            Ok(format!("{head}\n{}\n{}", rows.join("\n"), sentence(&outcome)))
        }
        Some(Proof::Standby { each, .. }) => {
            let mut told = Vec::new();
            for waiting in standby::Waiting::ALL {
                let (outcome, stretches) = standby::run(plan, waiting, Duration::from_secs(*each)).await?;
                told.push(format!(
                    "{}: from its death to the next alert | kills | p50 ms | p99 ms | max ms",
                    waiting.words()
                ));
                told.extend(stretches.iter().map(row));
                told.push(sentence(&outcome));
                // Whoever waits sees what there is.
                println!("{}", told.join("\n"));
                told.clear();
            }
            Ok("everything held".to_owned())
        }
    }
}

fn row(stretch: &Stretch) -> String {
    let [half, nearly, all] = [0.5, 0.99, 1.0].map(|part| {
        let within = stretch.within(part);
        within.map_or_else(|| "-".to_owned(), |took| format!("{:.0}", took.as_seconds() * 1e3))
    });
    let (name, count) = (&stretch.name, stretch.took.len());
    format!("{name} | {count} | {half} | {nearly} | {all}")
}

fn sentence(outcome: &Outcome) -> String {
    let changes: Vec<String> = outcome.changes.iter().map(|(what, n)| format!("{n} {what}")).collect();
    format!(
        "{} records acknowledged, none lost; {} readings shown, each once ({} stand in the journal again); {} answers of \
         people, all there; alerts as a plain fold of the journal has them: {}; {} revisions of windows recomputed; in \
         derived topics nothing but records in origin order and {} repeats, each byte for byte the first; verify agrees",
        outcome.acknowledged,
        outcome.shown,
        outcome.repeats,
        outcome.answers,
        changes.join(", "),
        outcome.windows,
        outcome.passed_over,
    )
}
