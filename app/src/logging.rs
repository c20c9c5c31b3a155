//! Log records: text on a terminal, JSON elsewhere, on standard error.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use crate::config::{LogFormat, Logging};
use crate::failure::Failure;

/// Starts logging for the life of the process. A second start (in tests) changes nothing.
///
/// # Errors
/// Where the filter cannot be read.
pub fn start(options: &Logging) -> Result<(), Failure> {
    let filter = EnvFilter::try_new(&options.filter)
        .map_err(|e| Failure::WrongUse(format!("logging.filter `{}`: {e}", options.filter)))?;
    let terminal = std::io::stderr().is_terminal();
    let json = match options.format {
        LogFormat::Auto => !terminal,
        LogFormat::Text => false,
        LogFormat::Json => true,
    };
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    let _ = if json {
        builder.json().flatten_event(true).try_init()
    } else {
        builder.with_ansi(terminal).try_init()
    };
    Ok(())
}
