//! The registry of schemas that other tools ask.

use std::path::PathBuf;

use serde::Deserialize;

use super::Time;
use crate::failure::Failure;

/// See `default.toml`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Registry {
    /// Where it is; empty for none.
    pub url: String,
    /// Who we are to it.
    pub user: String,
    /// The file that holds the password.
    pub password_file: PathBuf,
    /// Who signs its certificate; empty for whom this machine trusts.
    pub ca: PathBuf,
    /// How long it may take to answer.
    pub patience: Time,
    /// How often what it could not be asked is asked again.
    pub retry: Time,
}

impl Registry {
    /// Its address without a slash at the end; `None` where there is no registry.
    ///
    /// # Errors
    /// [`Failure::WrongUse`] naming the option at fault.
    pub fn address(&self, on_kafka: bool) -> Result<Option<&str>, Failure> {
        let wrong = |what: &str| Err(Failure::WrongUse(what.to_owned()));
        let secure = self.url.starts_with("https://");
        let password = !self.password_file.as_os_str().is_empty();
        if self.url.is_empty() {
            return Ok(None);
        }
        if !secure && !self.url.starts_with("http://") {
            return wrong("registry.url is http://… or https://…");
        }
        if self.url.contains('@') {
            return wrong("registry.url names no user: registry.user and registry.password_file do");
        }
        if !on_kafka {
            return wrong("registry.url is for a log on Kafka (log.url): no other tool reads the data directory");
        }
        if self.user.is_empty() == password {
            return wrong("registry.user and registry.password_file are given both or neither");
        }
        if !secure && !self.ca.as_os_str().is_empty() {
            return wrong("registry.ca is for https://…");
        }
        Ok(Some(self.url.trim_end_matches('/')))
    }
}

#[cfg(test)]
mod tests {
    use crate::config::{Config, Sources};

    #[test]
    fn options_go_together_or_are_refused() {
        let read = |options: &[(&'static str, &str)], on_kafka| {
            let flags = options.iter().map(|(name, value)| (*name, (*value).to_owned(), "test"));
            let config = Config::load(Sources {
                flags: flags.collect(),
                ..Sources::default()
            });
            let registry = config.unwrap().registry;
            registry
                .address(on_kafka)
                .map(|url| url.map(str::to_owned))
                .map_err(|e| e.to_string())
        };
        let url = ("registry.url", "http://r:8081/");
        assert_eq!(read(&[], false), Ok(None));
        assert_eq!(read(&[url], true), Ok(Some("http://r:8081".to_owned())));
        for (wrong, on_kafka, words) in [
            (&[url][..], false, "log.url"),
            (&[("registry.url", "r:8081")], true, "http://"),
            (&[("registry.url", "http://me:secret@r")], true, "names no user"),
            (&[url, ("registry.user", "me")], true, "both or neither"),
            (&[url, ("registry.password_file", "p")], true, "both or neither"),
            (&[url, ("registry.ca", "ca.pem")], true, "https://"),
        ] {
            let refused = read(wrong, on_kafka).unwrap_err();
            assert!(refused.contains(words), "{wrong:?}: {refused}");
        }
    }
}
