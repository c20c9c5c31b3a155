//! What we fetch from others: topics that they fill, a broker that their devices use.

use std::collections::BTreeMap;
use std::path::PathBuf;

use eventlog::Limit;
use eventlog::kafka::{Options, Outside};
use ingest::mqtt::bridge::Broker;
use ingest::raw::{Sources, TopicFrom};
use serde::Deserialize;
use smol_str::SmolStr;

use super::{Size, Time};
use crate::failure::Failure;

/// Topics that others fill; see `default.toml`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Raw {
    /// Which, and where the MQTT topic stands in each.
    pub topics: String,
    /// Where they are; empty for the log's own brokers.
    pub url: String,
    /// The group that reads them; empty for one of the log's.
    pub group: String,
    /// What stands before the names of our MQTT topics there.
    pub prefix: String,
    /// Records that go to the log at once.
    pub batch_records: usize,
    /// Their size.
    pub batch: Size,
    /// What is fetched ahead of each partition.
    pub ahead: Size,
}

/// A broker that devices use already; see `default.toml`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bridge {
    /// Where it is; empty for none.
    pub url: String,
    /// Whose signature its certificate has.
    pub ca: PathBuf,
    /// Who we are to it.
    pub client_id: String,
    /// What we subscribe to.
    pub topics: String,
    /// What stands before the names of our topics there.
    pub prefix: String,
    /// How long it keeps our session.
    pub session: Time,
    /// How often it hears of us.
    pub keep_alive: Time,
    /// Messages ahead of our acknowledgement.
    pub messages_in_flight: u16,
    /// Bytes that wait for the log.
    pub in_flight: Size,
    /// The largest packet.
    pub packet: Size,
}

/// A broker, and how it is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reached {
    /// Host and port.
    pub address: String,
    /// Whether through TLS.
    pub secured: bool,
    /// What we want of it.
    pub broker: Broker,
}

/// The parts of a list that is separated by commas.
fn list(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|part| !part.is_empty())
}

impl Raw {
    /// What is read and as whom, and how it is read; `None` where nothing is. `log` is where the log is, where that is Kafka.
    ///
    /// # Errors
    /// [`Failure::WrongUse`] naming the option at fault.
    pub fn sources(&self, log: Option<&Options>) -> Result<Option<(Outside, Sources)>, Failure> {
        let mut topics = BTreeMap::new();
        for part in list(&self.topics) {
            let (name, from) = part.split_once('=').unwrap_or((part, "value"));
            let from = TopicFrom::parse(from.trim()).map_err(|e| Failure::WrongUse(format!("raw.topics: {e}")))?;
            topics.insert(SmolStr::new(name.trim()), from);
        }
        if topics.is_empty() {
            return Ok(None);
        }
        let options = match (self.url.as_str(), log) {
            ("", Some(log)) => log.clone(),
            ("", None) => {
                let what = "raw.url must say where the topics are: the log is in the data directory";
                return Err(Failure::WrongUse(what.to_owned()));
            }
            (url, _) => Options::parse(url).map_err(|e| Failure::WrongUse(format!("raw.url: {e}")))?,
        };
        let prefix = log.map_or("fajma", |log| log.prefix.as_str());
        let outside = Outside {
            topics: topics.keys().map(ToString::to_string).collect(),
            group: if self.group.is_empty() {
                format!("{prefix}-raw")
            } else {
                self.group.clone()
            },
            ahead_bytes: self.ahead.bytes(),
            options,
        };
        let sources = Sources {
            topics,
            prefix: self.prefix.clone(),
            batch: Limit {
                records: self.batch_records.max(1),
                bytes: self.batch.bytes(),
            },
        };
        Ok(Some((outside, sources)))
    }
}

impl Bridge {
    /// The broker; `None` where there is none.
    ///
    /// # Errors
    /// [`Failure::WrongUse`] naming the option at fault. A password is in none of its sentences.
    pub fn broker(&self) -> Result<Option<Reached>, Failure> {
        if self.url.is_empty() {
            return Ok(None);
        }
        let wrong = |what: &str| {
            Failure::WrongUse(format!(
                "bridge.url: {what}; it is written like mqtt://user:password@host:1883, or mqtts://"
            ))
        };
        let (scheme, rest) = self.url.split_once("://").ok_or_else(|| wrong("there is no ://"))?;
        let (secured, port) = match scheme {
            "mqtt" | "tcp" => (false, 1883),
            "mqtts" | "ssl" => (true, 8883),
            _ => return Err(wrong("it is neither mqtt nor mqtts")),
        };
        let (login, host) = match rest.rsplit_once('@') {
            None => (None, rest),
            Some((login, host)) => (Some(login), host),
        };
        let host = host.trim_end_matches('/');
        if host.is_empty() || host.contains('/') {
            return Err(wrong("a host and a port stand at its end"));
        }
        let login = login
            .map(|login| {
                let (user, password) = login.split_once(':').map_or((login, None), |(u, p)| (u, Some(p)));
                let read = |text: &str| unescaped(text).ok_or_else(|| wrong("%XX in it is no UTF-8"));
                Ok::<_, Failure>((read(user)?, password.map(read).transpose()?))
            })
            .transpose()?;
        if self.client_id.is_empty() {
            return Err(Failure::WrongUse(
                "bridge.client_id: without one the broker keeps no session for us".to_owned(),
            ));
        }
        let has_port = host
            .rsplit_once(':')
            .is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        Ok(Some(Reached {
            address: if has_port {
                host.to_owned()
            } else {
                format!("{host}:{port}")
            },
            secured,
            broker: Broker {
                client_id: self.client_id.clone(),
                login,
                filters: list(&self.topics).map(str::to_owned).collect(),
                prefix: self.prefix.clone(),
                keep_alive: self.keep_alive.0,
                session: self.session.0,
                messages_in_flight: self.messages_in_flight,
                bytes_in_flight: self.in_flight.bytes(),
                packet_bytes: self.packet.bytes(),
            },
        }))
    }
}

/// A part of a URL with its %XX as what they stand for.
fn unescaped(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let (digits, after) = rest.split_at_checked(2)?;
        bytes.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
        rest = after;
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Sources as Layers};

    fn config(changes: &[(&'static str, &str)]) -> Config {
        let flags = changes.iter().map(|(name, value)| (*name, (*value).to_owned(), "test"));
        Config::load(Layers {
            flags: flags.collect(),
            ..Layers::default()
        })
        .unwrap()
    }

    #[test]
    fn each_raw_topic_says_where_its_mqtt_topic_stands() {
        let read = |topics: &str, url: &str, log: Option<&Options>| {
            config(&[("raw.topics", topics), ("raw.url", url)]).raw.sources(log)
        };
        assert!(matches!(read("", "", None), Ok(None)));
        let log = Options::parse("kafka://a:1/ward").unwrap();
        let (outside, sources) = read("mqtt-raw=key, rest, camel=header:mqtt.topic", "", Some(&log))
            .unwrap()
            .unwrap();
        assert_eq!(outside.topics, ["camel", "mqtt-raw", "rest"]);
        assert_eq!(
            (outside.group.as_str(), outside.options.brokers.as_str()),
            ("ward-raw", "a:1")
        );
        assert_eq!(
            sources.topics.into_values().collect::<Vec<_>>(),
            [TopicFrom::Header("mqtt.topic".into()), TopicFrom::Key, TopicFrom::Value]
        );
        let (elsewhere, _) = read("a", "kafka://b:2", None).unwrap().unwrap();
        assert_eq!(
            (elsewhere.group.as_str(), elsewhere.options.brokers.as_str()),
            ("fajma-raw", "b:2")
        );
        for (topics, url) in [("a", ""), ("a=somewhere", "kafka://b:2"), ("a", "http://b")] {
            assert!(
                matches!(read(topics, url, None), Err(Failure::WrongUse(_))),
                "{topics} {url}"
            );
        }
    }

    #[test]
    fn a_broker_is_reached_as_its_url_says_and_no_error_tells_the_password() {
        let read = |url: &str| config(&[("bridge.url", url)]).bridge.broker();
        assert!(matches!(read(""), Ok(None)));
        for (url, address, secured, login) in [
            ("mqtt://broker", "broker:1883", false, None),
            ("mqtts://broker", "broker:8883", true, None),
            ("mqtt://ward@broker:99/", "broker:99", false, Some(("ward", None))),
            (
                "mqtts://w%40rd:p:%2F@[::1]:99",
                "[::1]:99",
                true,
                Some(("w@rd", Some("p:/"))),
            ),
        ] {
            let reached = read(url).unwrap().unwrap();
            let login = login.map(|(user, password)| (user.to_owned(), password.map(str::to_owned)));
            assert_eq!((reached.address.as_str(), reached.secured), (address, secured), "{url}");
            assert_eq!(reached.broker.login, login, "{url}");
        }
        for url in [
            "broker:1883",
            "http://u:secret@b",
            "mqtt://u:secret%ZZ@b",
            "mqtt://u:secret@",
        ] {
            let Err(Failure::WrongUse(why)) = read(url) else {
                panic!("{url}")
            };
            assert!(why.contains("bridge.url") && !why.contains("secret"), "{why}");
        }
    }

    #[test]
    fn what_is_subscribed_to_may_be_said() {
        let given = [("bridge.url", "mqtt://b"), ("bridge.topics", "a/#, $share/fajma/b/+")];
        let reached = config(&given).bridge.broker().unwrap().unwrap();
        assert_eq!(reached.broker.filters, ["a/#", "$share/fajma/b/+"]);
        let nobody = config(&[given[0], ("bridge.client_id", "")]).bridge.broker();
        assert!(matches!(nobody, Err(Failure::WrongUse(_))));
    }
}
