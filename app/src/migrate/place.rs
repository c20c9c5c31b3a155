//! The two kinds of place that a log can be in.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use eventlog::embedded::{self, Embedded};
use eventlog::kafka::{self, Kafka};
use eventlog::moving::{Arriving, Carriable};
use eventlog::{Layout, SystemClock};

use crate::cli::Place;
use crate::config::Config;
use crate::failure::Failure;
use crate::house::dir::DataDir;

/// A place that a log is in, or is to be in.
pub(super) struct Home {
    /// As the other place will name it.
    pub(super) name: String,
    kind: Kind,
}

enum Kind {
    Dir(DataDir, embedded::Options),
    Kafka(kafka::Options),
}

impl fmt::Display for Home {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl Home {
    /// A directory, or an address of Kafka; everything else about it is in the options.
    pub(super) fn parse(text: &str, settings: &Place) -> Result<Self, Failure> {
        if text.starts_with("kafka:") {
            let config = settings.config(vec![("log.url", text.to_owned(), "--from and --to")])?;
            let options = config.log.kafka().map_err(Failure::WrongUse)?;
            let options = options.ok_or_else(|| Failure::WrongUse(format!("{text} names no log")))?;
            return Ok(Self {
                name: format!("kafka://{}/{}", options.brokers, options.prefix),
                kind: Kind::Kafka(options),
            });
        }
        if text.is_empty() || text.contains("://") {
            return Err(Failure::WrongUse(format!(
                "{text:?} is neither a directory nor kafka://host:port"
            )));
        }
        let config: Config = settings.config(Vec::new())?;
        let dir = std::path::absolute(text).map_err(|e| Failure::because(text, e))?;
        Ok(Self {
            name: dir.display().to_string(),
            kind: Kind::Dir(DataDir::new(dir), kept(config.log.options())),
        })
    }

    /// The data directory, where it is one.
    pub(super) fn dir(&self) -> Option<&Path> {
        match &self.kind {
            Kind::Dir(dir, _) => Some(dir.path()),
            Kind::Kafka(_) => None,
        }
    }

    /// The log that is there.
    pub(super) async fn open(&self) -> Result<Arc<dyn Carriable>, Failure> {
        let failed = |e| Failure::because(format_args!("the log at {self}"), e);
        match &self.kind {
            Kind::Dir(dir, _) if !dir.has_log() => Err(Failure::Failed(format!("there is no log in {self}"))),
            Kind::Dir(dir, options) => {
                let log = Embedded::open(&dir.log(), options.clone(), Arc::new(SystemClock));
                Ok(log.map_err(failed)?)
            }
            Kind::Kafka(options) => Ok(Kafka::open(options.clone()).await.map_err(failed)?),
        }
    }

    /// Begins a log there.
    pub(super) async fn begin(
        &self,
        (layout, from): (Layout, &str),
        replication: u8,
    ) -> Result<Arc<dyn Arriving>, Failure> {
        let failed = |e| Failure::because(format_args!("nothing can be carried to {self}"), e);
        match &self.kind {
            Kind::Dir(dir, options) => {
                if dir.views().exists() {
                    let why = format!("{self} holds views of another log: name a directory without");
                    return Err(Failure::Failed(why));
                }
                dir.make()?;
                let with = (options.clone(), Arc::new(SystemClock) as _);
                Ok(embedded::Arriving::begin(&dir.log(), with, layout, from).map_err(failed)?)
            }
            Kind::Kafka(options) => {
                let options = kafka::Options {
                    replication,
                    ..options.clone()
                };
                Ok(kafka::Arriving::begin(options, layout, from).await.map_err(failed)?)
            }
        }
    }
}

/// Options under which nothing is let go of while it is carried.
fn kept(options: embedded::Options) -> embedded::Options {
    embedded::Options {
        retention_age: None,
        retention_bytes: None,
        ..options
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_a_directory_or_an_address_and_has_one_name() {
        let settings = Place::default();
        let named = |text: &str| Home::parse(text, &settings).map(|home| home.name).ok();
        assert_eq!(named("kafka://a:1,b:2"), Some("kafka://a:1,b:2/fajma".to_owned()));
        assert_eq!(named("kafka://a:1/ward"), Some("kafka://a:1/ward".to_owned()));
        assert_eq!(named("/srv/fajma"), Some("/srv/fajma".to_owned()));
        assert!(named("here").is_some_and(|name| name.starts_with('/') && name.ends_with("/here")));
        for wrong in ["", "scylla://a:1", "kafka:a", "http://a"] {
            assert_eq!(named(wrong), None, "{wrong}");
        }
    }
}
