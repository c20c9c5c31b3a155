//! The program `fajma`: command line, configuration, composition.
//!
//! Everything else is in its own room; this crate opens the homes, plugs the rooms together and starts them.
//! [`cli`] names the commands, one file per command does it.

pub mod broker_token;
pub mod cli;
pub mod client;
pub mod commands;
pub mod config;
pub mod control;
pub mod doctor;
pub mod failure;
pub mod house;
pub mod import;
pub mod killloop;
pub mod logging;
pub mod migrate;
pub mod ready;
pub mod simulate;
pub mod tls;
pub mod token;
pub mod up;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser;

use cli::{Cli, Command, Part, Process};
use failure::Failure;
use token::TokenCommand;
use up::Duties;

/// Runs the command line; the exit status is 0 for success, 1 where the command failed, 2 for wrong use.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(told) => {
            let _ = told.print();
            return ExitCode::from(if told.use_stderr() { 2 } else { 0 });
        }
    };
    match dispatch(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("fajma: {failure}");
            failure.status()
        }
    }
}

fn dispatch(cli: Cli) -> Result<(), Failure> {
    match cli.command {
        Command::Up(options) => {
            let config = options.config()?;
            logging::start(&config.logging)?;
            wait_for(up::run(config, Duties::ALL, options.demo, options.json))
        }
        Command::Ingest(part) => run_part(
            &part,
            Duties {
                ingest: true,
                ..Duties::NONE
            },
        ),
        Command::Process(Process { part, standby }) => run_part(
            &part,
            Duties {
                process: !standby,
                standby,
                ..Duties::NONE
            },
        ),
        Command::Project(part) => run_part(
            &part,
            Duties {
                project: true,
                ..Duties::NONE
            },
        ),
        Command::Serve(part) => run_part(
            &part,
            Duties {
                serve: true,
                ..Duties::NONE
            },
        ),
        Command::Topics(command) => wait_for(commands::topics(command)),
        Command::Simulate(options) => wait_for(simulate::run(*options)),
        Command::Import(options) => wait_for(import::run(options)),
        Command::Policy(command) => wait_for(commands::policy(command)),
        Command::Token(TokenCommand::Issue(options)) => token::run(options),
        Command::Token(TokenCommand::Revoke(options)) => wait_for(token::revoke(options)),
        Command::Doctor(options) => wait_for(doctor::run(options)),
        Command::Ready(options) => wait_for(ready::run(options)),
        Command::Replay(options) => wait_for(commands::replay(options)),
        Command::Verify(options) => wait_for(commands::verify(options)),
        Command::Migrate(options) => wait_for(migrate::run(*options)),
        Command::Skip(options) => wait_for(commands::skip(options)),
        Command::Views(command) => wait_for(commands::views(command)),
        Command::Config => {
            print!("{}", config::DEFAULTS);
            Ok(())
        }
    }
}

fn run_part(part: &Part, duties: Duties) -> Result<(), Failure> {
    let config = part.config(duties)?;
    logging::start(&config.logging)?;
    wait_for(up::run(config, duties, 0, part.json))
}

/// Threads that wait for disks: each keeps memory of its own.
const BLOCKING: usize = 16;

/// Runs a command that waits for the world.
fn wait_for(command: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .max_blocking_threads(BLOCKING)
        .enable_all()
        .build()
        .map_err(|e| Failure::because("starting", e))?;
    runtime.block_on(command)
}
