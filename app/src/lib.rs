//! The program `fajma`: command line, configuration, composition.
//!
//! Everything else is in its own room; this crate opens the homes, plugs the rooms together and starts them.
//! [`cli`] names the commands, one file per command does it.

pub mod cli;
pub mod config;
pub mod failure;
pub mod logging;
pub mod simulate;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser;

use cli::{Cli, Command};
use failure::Failure;

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
        Command::Config => print!("{}", config::DEFAULTS),
        Command::Simulate(options) => return wait_for(simulate::run(*options)),
    }
    Ok(())
}

/// Runs a command that waits for the world.
fn wait_for(command: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::because("starting", e))?;
    runtime.block_on(command)
}
