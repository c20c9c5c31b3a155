//! `make kill-loop`: the server killed many times under load, then every promise checked.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use app::killloop::{Plan, Shared, run};
use clap::Parser;

/// Kills the server again and again under load, then checks every promise.
#[derive(Debug, Parser)]
struct Options {
    /// How often to kill.
    #[arg(long, default_value_t = 50)]
    kills: u32,
    /// Makes the moments of the kills the same again; else one that is printed.
    #[arg(long)]
    seed: Option<u64>,
    /// Simulated patients.
    #[arg(long, default_value_t = 20)]
    patients: usize,
    /// A Kafka, host:port: then every role is a process of its own, and is killed or paused.
    #[arg(long, requires = "cql", env = "FAJMA_TEST_KAFKA")]
    kafka: Option<String>,
    /// A ScyllaDB or Cassandra, host:port.
    #[arg(long, requires = "kafka", env = "FAJMA_TEST_CQL")]
    cql: Option<String>,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let seed = options.seed.unwrap_or_else(|| fastrand::u64(..1_000_000));
    println!(
        "seed {seed}: fajma-killloop --kills {} --patients {} --seed {seed}",
        options.kills, options.patients
    );
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
    let plan = Plan {
        binary,
        data: data.path().join("data"),
        shared: options
            .kafka
            .as_ref()
            .zip(options.cql.as_ref())
            .map(|(kafka, cql)| shared(kafka, cql, seed)),
        kills: options.kills,
        seed,
        patients: options.patients,
        every: Duration::from_millis(50),
    };
    let runtime = tokio::runtime::Runtime::new().map_err(|e| e.to_string())?;
    let outcome = match runtime.block_on(run(&plan)) {
        Ok(outcome) => outcome,
        Err(why) => return Err(format!("{why}\nthe directory is kept: {}", data.keep().display())),
    };
    let changes: Vec<String> = outcome.changes.iter().map(|(what, n)| format!("{n} {what}")).collect();
    Ok(format!(
        "{} kills: {} records acknowledged, none lost; {} readings shown, each once ({} stand in the journal again); {} \
         answers of people, all there; alerts as a plain fold of the journal has them: {}; {} revisions of windows \
         recomputed; verify agrees",
        options.kills,
        outcome.acknowledged,
        outcome.shown,
        outcome.repeats,
        outcome.answers,
        changes.join(", "),
        outcome.windows,
    ))
}
