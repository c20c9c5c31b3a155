//! How brokers know us and we know them: TLS and SASL. Options name files; what is secret stays in these.

use std::path::{Path, PathBuf};

use rdkafka::ClientConfig;

use crate::LogError;

/// How a connection is made safe and named. Nothing of both by default: brokers on a network of their own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Access {
    /// With it everything is encrypted, and brokers must prove who they are.
    pub tls: Option<Tls>,
    /// With it we say who we are.
    pub sasl: Option<Sasl>,
}

/// Whom we believe, and what we show.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tls {
    /// Who signs the brokers' certificates, PEM; `None` for whom this machine trusts.
    pub ca: Option<PathBuf>,
    /// Our own certificate (the chain) and its key, PEM, for brokers that want one.
    pub own: Option<(PathBuf, PathBuf)>,
}

/// Who we are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sasl {
    /// A user with a password.
    Password {
        /// How it is proved.
        mechanism: Mechanism,
        /// The user.
        user: String,
        /// The file that holds the password and nothing else; a line's end is no part of it.
        password: PathBuf,
    },
    /// Whom a token names (OAUTHBEARER).
    Token {
        /// The file that holds it; read again whenever a client wants one, so whoever renews it replaces the file.
        file: PathBuf,
    },
}

/// How a password is proved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mechanism {
    /// It is sent as it is.
    Plain,
    /// It never leaves us.
    Scram256,
    /// It never leaves us.
    Scram512,
}

impl Mechanism {
    const fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::Scram256 => "SCRAM-SHA-256",
            Self::Scram512 => "SCRAM-SHA-512",
        }
    }
}

/// Reads a file that an option names.
pub(super) fn read(path: &Path) -> Result<String, LogError> {
    let read = std::fs::read_to_string(path);
    read.map_err(|error| LogError::Unavailable(format!("Kafka: {}: {error}", path.display())))
}

impl Access {
    /// The client's settings for it.
    pub(super) fn apply(&self, config: &mut ClientConfig) -> Result<(), LogError> {
        if self.tls.is_none() && self.sasl.is_none() {
            return Ok(());
        }
        let protocol = match (&self.tls, &self.sasl) {
            (Some(_), Some(_)) => "sasl_ssl",
            (Some(_), None) => "ssl",
            (None, _) => "sasl_plaintext",
        };
        config.set("security.protocol", protocol);
        if let Some(tls) = &self.tls {
            tls.apply(config)?;
        }
        match &self.sasl {
            None => {}
            Some(Sasl::Token { .. }) => drop(config.set("sasl.mechanism", "OAUTHBEARER")),
            Some(Sasl::Password {
                mechanism,
                user,
                password,
            }) => {
                config
                    .set("sasl.mechanism", mechanism.name())
                    .set("sasl.username", user)
                    .set("sasl.password", read(password)?.trim_end_matches(['\r', '\n']));
            }
        }
        Ok(())
    }

    /// Where tokens are.
    pub(super) fn token_file(&self) -> Option<&Path> {
        match &self.sasl {
            Some(Sasl::Token { file }) => Some(file),
            _ => None,
        }
    }
}

impl Tls {
    fn apply(&self, config: &mut ClientConfig) -> Result<(), LogError> {
        let mut file = |setting: &str, path: &Path| {
            // The client library does not say which file it cannot read.
            read(path)?;
            config.set(setting, path.to_string_lossy());
            Ok::<_, LogError>(())
        };
        if let Some((certificate, key)) = &self.own {
            file("ssl.certificate.location", certificate)?;
            file("ssl.key.location", key)?;
        }
        match &self.ca {
            Some(ca) => file("ssl.ca.location", ca)?,
            // Where systems keep whom they trust: our OpenSSL was built elsewhere and does not know.
            None => drop(config.set("ssl.ca.location", "probe")),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_follow_and_a_file_that_is_not_there_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let password = dir.path().join("password");
        std::fs::write(&password, "two words\n").unwrap();
        let mut access = Access {
            tls: Some(Tls::default()),
            sasl: Some(Sasl::Password {
                mechanism: Mechanism::Scram512,
                user: "ward".to_owned(),
                password,
            }),
        };
        let mut config = ClientConfig::new();
        access.apply(&mut config).unwrap();
        for (setting, value) in [
            ("security.protocol", "sasl_ssl"),
            ("sasl.mechanism", "SCRAM-SHA-512"),
            ("sasl.username", "ward"),
            ("sasl.password", "two words"),
            ("ssl.ca.location", "probe"),
        ] {
            assert_eq!(config.get(setting), Some(value), "{setting}");
        }
        assert!(!format!("{config:?} {access:?}").contains("two words"));
        access.tls = Some(Tls {
            ca: Some(dir.path().join("nobody.pem")),
            own: None,
        });
        let refused = access.apply(&mut ClientConfig::new()).unwrap_err().to_string();
        assert!(refused.contains("nobody.pem"), "{refused}");
    }

    #[test]
    fn without_it_nothing_is_set() {
        let mut config = ClientConfig::new();
        Access::default().apply(&mut config).unwrap();
        assert!(config.config_map().is_empty());
    }
}
