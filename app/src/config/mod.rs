//! The options of the program. `default.toml` names every one with its unit and reason; nothing else exists.
//!
//! Defaults < file < environment (`FAJMA_SECTION_OPTION`) < flags. What processors go by is not here: that is policy,
//! a fact in the journal.

mod brokers;
mod database;
mod issuer;
mod layers;
mod outside;
mod registry;
mod rooms;
mod secured;
mod values;

use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::Table;

pub use issuer::Issuer;
pub use layers::{ConfigError, NOT_OPTIONS, PREFIX};
pub use outside::{Bridge, Raw, Reached};
pub use registry::Registry;
pub use rooms::{Data, Http, Intake, Log, Mqtt, Processors, Views};
pub use values::{Off, Size, Time};

/// The commented defaults, as `fajma config` prints them.
pub const DEFAULTS: &str = include_str!("../default.toml");

/// Every option; see `default.toml` for what they mean.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where things live.
    pub data: Data,
    /// The log.
    pub log: Log,
    /// The views.
    pub views: Views,
    /// What stands behind every door.
    pub intake: Intake,
    /// HTTP: doors, queries, the web app.
    pub http: Http,
    /// The MQTT door.
    pub mqtt: Mqtt,
    /// Topics of Kafka that others fill.
    pub raw: Raw,
    /// A broker that devices use already.
    pub bridge: Bridge,
    /// The certificate of the doors.
    pub tls: crate::tls::Tls,
    /// Whose tokens are good beside our own.
    pub issuer: Issuer,
    /// The registry of schemas that other tools ask.
    pub registry: Registry,
    /// The processors.
    pub processors: Processors,
    /// How failed roles come back.
    pub supervisor: Supervisor,
    /// How the program stops.
    pub shutdown: Shutdown,
    /// What the program says about itself.
    pub logging: Logging,
}

/// How failed roles come back.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Supervisor {
    /// The pause after a first failure.
    pub first_pause: Time,
    /// The longest pause.
    pub longest_pause: Time,
    /// After this long without failure the next pause is the first again.
    pub calm_after: Time,
    /// After so long without a tick in the log, the watchdog is not fed.
    pub stalled_after: Time,
    /// After so long with a failing role, the watchdog is not fed.
    pub hopeless_after: Time,
}

/// How the program stops.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shutdown {
    /// How long requests under way may take before they are cut off.
    pub drain: Time,
}

/// What the program says about itself.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Logging {
    /// Which records.
    pub filter: String,
    /// In which form.
    pub format: LogFormat,
}

/// The form of log records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Text on a terminal, JSON elsewhere.
    Auto,
    /// One line of text each.
    Text,
    /// One JSON object each.
    Json,
}

/// Where options come from, beside the defaults.
#[derive(Debug, Default)]
pub struct Sources {
    /// A file: its name and content.
    pub file: Option<(PathBuf, String)>,
    /// The environment.
    pub environment: Vec<(String, String)>,
    /// Flags given: the option's dotted name, the value's text, and the flag's name.
    pub flags: Vec<(&'static str, String, &'static str)>,
}

impl Config {
    /// The options as they come out of all layers.
    ///
    /// # Errors
    /// [`ConfigError`], naming the layer and the key at fault.
    pub fn load(sources: Sources) -> Result<Self, ConfigError> {
        let mut table = parse(DEFAULTS, "default.toml")?;
        if let Some((name, text)) = sources.file {
            let layer = name.display().to_string();
            let over = parse(&text, &layer)?;
            layers::lay(&mut table, over, &layer)?;
            check(&table, &layer)?;
        }
        layers::lay_environment(&mut table, sources.environment)?;
        check(&table, "the environment")?;
        for (key, text, flag) in sources.flags {
            let path: Vec<String> = key.split('.').map(str::to_owned).collect();
            let wrong = |reason| ConfigError::WrongValue {
                layer: flag.to_owned(),
                key: key.to_owned(),
                reason,
            };
            layers::set(&mut table, &path, &text).map_err(wrong)?;
            check(&table, flag)?;
        }
        let config = check(&table, "default.toml")?;
        match config.tls.missing() {
            None => Ok(config),
            Some(missing) => Err(ConfigError::WrongValue {
                layer: "the options together".to_owned(),
                key: missing.to_owned(),
                reason: "tls.certificate and tls.key are given both or neither".to_owned(),
            }),
        }
    }
}

fn parse(text: &str, layer: &str) -> Result<Table, ConfigError> {
    text.parse().map_err(|e: toml::de::Error| ConfigError::Unreadable {
        layer: layer.to_owned(),
        reason: e.to_string(),
    })
}

fn check(table: &Table, layer: &str) -> Result<Config, ConfigError> {
    let wrong = |key: String, reason: String| ConfigError::WrongValue {
        layer: layer.to_owned(),
        key,
        reason,
    };
    let config: Config = serde_path_to_error::deserialize(table.clone()).map_err(|e| {
        let reason = e.inner().message().to_owned();
        wrong(e.path().to_string(), reason)
    })?;
    for (key, text) in [
        ("http.listen", &config.http.listen),
        ("mqtt.listen", &config.mqtt.listen),
    ] {
        let none = key == "mqtt.listen" && text.is_empty();
        if !none && text.parse::<std::net::SocketAddr>().is_err() && !is_host_and_port(text) {
            return Err(wrong(
                key.to_owned(),
                format!("`{text}` is no address: write one like 127.0.0.1:8080"),
            ));
        }
    }
    if config.log.partitions == 0 {
        return Err(wrong("log.partitions".to_owned(), "at least 1".to_owned()));
    }
    Ok(config)
}

fn is_host_and_port(text: &str) -> bool {
    text.rsplit_once(':')
        .is_some_and(|(host, port)| !host.is_empty() && !host.contains(':') && port.parse::<u16>().is_ok())
}

/// The file to read: the one named, else `fajma.toml` here where there is one.
///
/// # Errors
/// [`ConfigError::Unreadable`] where it cannot be read.
pub fn find_file(named: Option<&Path>) -> Result<Option<(PathBuf, String)>, ConfigError> {
    let path = named.unwrap_or_else(|| Path::new("fajma.toml"));
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some((path.to_owned(), text))),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound && named.is_none() => Ok(None),
        Err(e) => Err(ConfigError::Unreadable {
            layer: path.display().to_string(),
            reason: e.to_string(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from_file(text: &str) -> Result<Config, ConfigError> {
        Config::load(Sources {
            file: Some((PathBuf::from("fajma.toml"), text.to_owned())),
            ..Sources::default()
        })
    }

    #[test]
    fn the_defaults_are_whole_and_every_option_says_why() {
        let config = Config::load(Sources::default()).unwrap();
        assert!(config.http.listen.starts_with("127.0.0.1:"), "bound to loopback");
        let mut commented = false;
        for line in DEFAULTS.lines() {
            let is_option = line.contains(" = ") && !line.starts_with('#');
            assert!(!is_option || commented, "no comment above: {line}");
            commented = line.starts_with('#') || (is_option && commented && line.ends_with(','));
        }
    }

    #[test]
    fn flags_win_over_the_environment_which_wins_over_the_file() {
        let config = Config::load(Sources {
            file: Some((
                "f.toml".into(),
                "[http]\nlisten = \"127.0.0.1:1\"\n[mqtt]\nlisten = \"127.0.0.1:2\"".to_owned(),
            )),
            environment: vec![
                ("FAJMA_HTTP_LISTEN".to_owned(), "127.0.0.1:3".to_owned()),
                ("FAJMA_LOG_PARTITIONS".to_owned(), "3".to_owned()),
            ],
            flags: vec![("http.listen", "localhost:4".to_owned(), "--listen")],
        })
        .unwrap();
        assert_eq!(
            (
                config.http.listen.as_str(),
                config.mqtt.listen.as_str(),
                config.log.partitions
            ),
            ("localhost:4", "127.0.0.1:2", 3)
        );
    }

    #[test]
    fn wrong_samples_are_refused_with_the_key_at_fault() {
        for (text, part) in [
            ("[http]\nlistn = \"x\"", "`http.listn` (did you mean `listen`?)"),
            ("[http]\nlisten = \"8080\"", "fajma.toml gives `http.listen`"),
            ("[http]\nlisten = 8080", "it is string, not integer"),
            ("[shutdown]\ndrain = \"10\"", "`shutdown.drain`"),
            ("[log]\npartitions = 0", "`log.partitions`"),
            ("[log]\npartitions = 70000", "`log.partitions`"),
            ("[logging]\nformat = \"xml\"", "`logging.format`"),
            ("[tls]\ncertificate = \"c.pem\"", "`tls.key`"),
            ("http {", "fajma.toml cannot be read"),
        ] {
            let message = from_file(text).unwrap_err().to_string();
            assert!(message.contains(part), "{text}: {message}");
        }
    }

    #[test]
    fn no_mqtt_is_an_empty_address() {
        assert_eq!(from_file("[mqtt]\nlisten = \"\"").unwrap().mqtt.listen, "");
    }
}
