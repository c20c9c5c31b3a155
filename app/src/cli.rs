//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::commands::{PolicyCommand, Replay, Skip, TopicsCommand, Verify, ViewsCommand};
use crate::config::{self, Config, Sources};
use crate::doctor::Doctor;
use crate::failure::Failure;
use crate::ready::Ready;
use crate::token::TokenCommand;
use crate::up::Duties;

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
    /// Run everything in one process.
    Up(Up),
    /// Run the doors alone, for a log that others share.
    Ingest(Part),
    /// Run the processors alone; several share the partitions.
    Process(Process),
    /// Project views alone; several share the partitions.
    Project(Part),
    /// Answer people and their programs alone.
    Serve(Part),
    /// Make or check the topics of a log in Kafka.
    #[command(subcommand)]
    Topics(TopicsCommand),
    /// Send simulated patients or a recording to a door.
    Simulate(Box<crate::simulate::Options>),
    /// Register patients, practitioners and sensors from a file.
    Import(crate::import::Options),
    /// Show or change what processors go by.
    #[command(subcommand)]
    Policy(PolicyCommand),
    /// Give somebody a token.
    #[command(subcommand)]
    Token(TokenCommand),
    /// Check ports, disk, clock, directory and schemas; say what to do.
    Doctor(Doctor),
    /// Whether the process on this machine can do its work; status 0 only if so.
    Ready(Ready),
    /// Rebuild windows, alerts and views from the journal, in a place of its own.
    Replay(Replay),
    /// Compare what the journal implies with what was recorded; status 0 only if equal.
    Verify(Verify),
    /// Carry the log from a directory to Kafka, or back: offsets, ids and states stay as they are.
    Migrate(Box<crate::migrate::Migrate>),
    /// Let a processor pass over a record that stopped it.
    Skip(Skip),
    /// Make or check the tables of views, or make views again from the log.
    #[command(subcommand)]
    Views(ViewsCommand),
    /// Print every option with its default, unit and reason.
    Config,
}

/// Where things are.
#[derive(Debug, Clone, Default, Args)]
pub struct Place {
    /// The data directory (option data.dir).
    #[arg(long)]
    pub data: Option<PathBuf>,
    /// The file of options; else fajma.toml here, where there is one.
    #[arg(long, env = "FAJMA_CONFIG")]
    pub config: Option<PathBuf>,
}

impl Place {
    /// The options of all layers, with these flags on top.
    ///
    /// # Errors
    /// [`Failure::WrongUse`] naming the layer and the key at fault.
    pub fn config(&self, mut flags: Vec<(&'static str, String, &'static str)>) -> Result<Config, Failure> {
        if let Some(dir) = &self.data {
            flags.push(("data.dir", dir.to_string_lossy().into_owned(), "--data"));
        }
        let file = config::find_file(self.config.as_deref())?;
        let environment = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        Ok(Config::load(Sources {
            file,
            environment,
            flags,
        })?)
    }
}

/// What `fajma up` takes.
#[derive(Debug, Clone, Args)]
pub struct Up {
    /// Where things are.
    #[command(flatten)]
    pub place: Place,
    /// Add so many simulated patients; one of them turns ill.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub demo: usize,
    /// Address and port of HTTP (option http.listen).
    #[arg(long, value_name = "ADDR")]
    pub listen: Option<String>,
    /// Address and port of the MQTT door, or nothing for none (option mqtt.listen).
    #[arg(long, value_name = "ADDR")]
    pub mqtt: Option<String>,
    /// Where the log and the views are.
    #[command(flatten)]
    pub shared: Shared,
    /// Print addresses and login link as one JSON object.
    #[arg(long)]
    pub json: bool,
}

/// Where that is what others share.
#[derive(Debug, Clone, Default, Args)]
pub struct Shared {
    /// The log: kafka://host:port,… (option log.url).
    #[arg(long, value_name = "URL")]
    pub log: Option<String>,
    /// The views: scylla://host:port,… (option views.url).
    #[arg(long, value_name = "URL")]
    pub views: Option<String>,
}

impl Shared {
    /// As flags of the configuration.
    #[must_use]
    pub fn flags(&self) -> Vec<(&'static str, String, &'static str)> {
        let log = self.log.iter().map(|url| ("log.url", url.clone(), "--log"));
        let views = self.views.iter().map(|url| ("views.url", url.clone(), "--views"));
        log.chain(views).collect()
    }
}

/// What one role takes.
#[derive(Debug, Clone, Args)]
pub struct Part {
    /// Where things of this process are: a directory of its own.
    #[command(flatten)]
    pub place: Place,
    /// Where the log and the views are.
    #[command(flatten)]
    pub shared: Shared,
    /// Address and port of HTTP (option http.listen); health and metrics alone for process and project, by default at a
    /// port of the system's choice.
    #[arg(long, value_name = "ADDR")]
    pub listen: Option<String>,
    /// Address and port of the MQTT door (option mqtt.listen).
    #[arg(long, value_name = "ADDR")]
    pub mqtt: Option<String>,
    /// The key of tokens that all roles share (option data.key).
    #[arg(long, value_name = "FILE")]
    pub key: Option<PathBuf>,
    /// This process's name among those that share the partitions, or @host for the machine's (option log.instance).
    #[arg(long, value_name = "NAME")]
    pub instance: Option<String>,
    /// Print addresses as one JSON object.
    #[arg(long)]
    pub json: bool,
}

/// What `fajma process` takes.
#[derive(Debug, Clone, Args)]
pub struct Process {
    /// Compute every partition and say nothing, until the process that owns one falls silent; then speak in its place.
    #[arg(long)]
    pub standby: bool,
    /// What every role takes.
    #[command(flatten)]
    pub part: Part,
}

impl Part {
    /// The options of all layers.
    ///
    /// # Errors
    /// As [`Place::config`]; [`Failure::WrongUse`] where nothing is shared.
    pub fn config(&self, duties: Duties) -> Result<Config, Failure> {
        let mut flags = self.shared.flags();
        let listen = match &self.listen {
            None if !duties.ingest && !duties.serve => Some("127.0.0.1:0".to_owned()),
            listen => listen.clone(),
        };
        flags.extend(listen.map(|address| ("http.listen", address, "--listen")));
        flags.extend(
            self.mqtt
                .iter()
                .map(|address| ("mqtt.listen", address.clone(), "--mqtt")),
        );
        let key = self.key.iter().map(|path| path.to_string_lossy().into_owned());
        flags.extend(key.map(|path| ("data.key", path, "--key")));
        let instance = self.instance.iter();
        flags.extend(instance.map(|name| ("log.instance", name.clone(), "--instance")));
        let config = self.place.config(flags)?;
        if config.log.url.is_empty() {
            let why = "one role alone needs a log that others share: --log kafka://host:port (all in one is fajma up)";
            return Err(Failure::WrongUse(why.to_owned()));
        }
        if config.views.url.is_empty() && (duties.project || duties.serve) {
            let why = "one role alone needs views that others share: --views scylla://host:port";
            return Err(Failure::WrongUse(why.to_owned()));
        }
        Ok(config)
    }
}

impl Up {
    /// The options of all layers.
    ///
    /// # Errors
    /// As [`Place::config`].
    pub fn config(&self) -> Result<Config, Failure> {
        let mut flags = self.shared.flags();
        if let Some(listen) = &self.listen {
            flags.push(("http.listen", listen.clone(), "--listen"));
        }
        if let Some(mqtt) = &self.mqtt {
            flags.push(("mqtt.listen", mqtt.clone(), "--mqtt"));
        }
        self.place.config(flags)
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn wrong_use_is_told_apart_from_failure() {
        for wrong in [
            &["fajma", "simulate"][..],
            &["fajma", "simulate", "--to", "ftp://x"],
            &["fajma", "token", "issue"],
            &["fajma", "token", "issue", "--role", "king"],
            &["fajma", "up", "--demo", "many"],
            &["fajma", "replay", "--into", "x", "--from", "yesterday"],
            &["fajma", "fly"],
            &["fajma", "topics"],
            &["fajma", "migrate"],
            &["fajma", "migrate", "--from", "a"],
            &["fajma", "migrate", "--take-back", "a", "--to", "b"],
        ] {
            assert!(Cli::try_parse_from(wrong).is_err_and(|e| e.use_stderr()), "{wrong:?}");
        }
    }
}
