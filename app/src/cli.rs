//! The command line.

use clap::{Parser, Subcommand};

/// Vital signs from sensors to doctors.
#[derive(Debug, Parser)]
#[command(name = "fajma", version, arg_required_else_help = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Print every option with its default, unit and reason.
    Config,
    /// Send simulated patients or a recording to a door.
    Simulate(Box<crate::simulate::Options>),
}
