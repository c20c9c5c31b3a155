//! The options of each room, and how they become what the room takes.

use std::path::PathBuf;
use std::sync::Arc;

use eventlog::Limit;
use schemas::codec::Catalogue;
use schemas::time::Span;
use serde::Deserialize;

use super::{Off, Size, Time, brokers, database};

/// Where things live.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Data {
    /// The data directory.
    pub dir: PathBuf,
    /// The key of tokens; empty for the one in the directory.
    pub key: PathBuf,
}

/// The log.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Log {
    /// Where it is; empty for the data directory.
    pub url: String,
    /// Whether brokers are spoken to over TLS.
    pub tls: bool,
    /// Who signs their certificates; empty for whom this machine trusts.
    pub tls_ca: PathBuf,
    /// Our own certificate, where they want one.
    pub tls_certificate: PathBuf,
    /// Its key.
    pub tls_key: PathBuf,
    /// How we say who we are; empty for not at all.
    pub sasl: String,
    /// Who we are.
    pub user: String,
    /// The file that holds the password.
    pub password_file: PathBuf,
    /// The file that holds the token.
    pub token_file: PathBuf,
    /// Who gives it; empty where somebody else puts it into the file.
    pub token_url: String,
    /// What it is to be good for.
    pub token_scope: String,
    /// This process's name in groups of Kafka; empty for none.
    pub instance: String,
    /// Partitions of a new log.
    pub partitions: u16,
    /// The largest record.
    pub record: Size,
    /// Memory for the newest records; on Kafka for older ones, and a quarter of it for the newest of each partition that is
    /// followed.
    pub cache: Size,
    /// Memory for blocks read from disk.
    pub disk_cache: Size,
    /// Memory of one partition until it is written to a table file.
    pub memtable: Size,
    /// What may wait to be written.
    pub queue: Size,
    /// States of a checkpoint that are written at once.
    pub states_at_once: usize,
    /// How long records are kept.
    pub retention_age: Off<Time>,
    /// How much of each partition is kept.
    pub retention_size: Off<Size>,
    /// How often old records are looked for.
    pub retention_every: Time,
}

/// The views.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Views {
    /// Where they are; empty for the data directory.
    pub url: String,
    /// Whether the database's nodes are spoken to over TLS.
    pub tls: bool,
    /// Who signs their certificates; empty for whom this machine trusts.
    pub tls_ca: PathBuf,
    /// Our own certificate, where they want one.
    pub tls_certificate: PathBuf,
    /// Its key.
    pub tls_key: PathBuf,
    /// Who we are; empty for nobody.
    pub user: String,
    /// The file that holds the password.
    pub password_file: PathBuf,
    /// Memory for blocks read from disk.
    pub cache: Size,
    /// Memory for rows not yet in a table file.
    pub memtable: Size,
    /// Threads that write and merge table files.
    pub workers: usize,
    /// Records projected at once.
    pub batch_records: usize,
    /// Their size.
    pub batch: Size,
    /// How long few records gather before they are projected.
    pub gather: Time,
    /// The pause after a failure that may pass.
    pub retry: Time,
    /// How often what is left of removed rows is cleaned away.
    pub sweep_every: Time,
}

/// What stands behind every door.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Intake {
    /// Records on their way into the log.
    pub in_flight: Size,
    /// Ids remembered to recognise what was just sent twice.
    pub recent_ids: usize,
    /// The journal's newest records that are looked through at start.
    pub recalled_records: usize,
    /// Records of a partition that may wait to be evaluated.
    pub behind: usize,
    /// Records of the past, a second and core, while something live comes.
    pub past_rate: usize,
    /// How long a message waits for processors.
    pub held_at_most: Time,
    /// What is kept of a refused message that the log does not take whole.
    pub rejected: Size,
    /// One record.
    pub record: Size,
    /// Records of one message.
    pub records: usize,
    /// Objects and arrays within each other.
    pub depth: usize,
    /// Samples of one waveform.
    pub samples: usize,
}

/// HTTP: doors, queries, the web app.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Http {
    /// Address and port.
    pub listen: String,
    /// A body as it is sent.
    pub body: Size,
    /// A body unpacked.
    pub unpacked: Size,
    /// How long a body may take to come.
    pub body_time: Time,
    /// How long a request waits for room in the log.
    pub patience: Time,
    /// How long a request's head may take to come.
    pub head_time: Time,
    /// How long a connection may be silent between requests.
    pub idle: Time,
    /// How long a client may take nothing of an answer.
    pub stall: Time,
    /// Connections in all.
    pub connections: usize,
    /// Connections from one address.
    pub connections_per_address: usize,
    /// How long a TLS handshake may take.
    pub handshake_time: Time,
    /// A request's head.
    pub head: Size,
    /// Header fields of a request.
    pub fields: usize,
    /// Requests under way on one HTTP/2 connection.
    pub streams: u32,
    /// What unpacking zstd may hold in memory beside its result.
    pub zstd_window: Size,
    /// Records of a streaming request that are made durable together.
    pub group: usize,
}

/// The MQTT door.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mqtt {
    /// Address and port; empty for none.
    pub listen: String,
    /// Connections in all.
    pub connections: usize,
    /// Connections from one address.
    pub connections_per_address: usize,
    /// From the first byte to a whole CONNECT.
    pub connect_time: Time,
    /// One packet.
    pub packet: Size,
    /// Messages of one connection that wait for the log.
    pub messages_in_flight: u16,
    /// Their memory.
    pub in_flight: Size,
    /// The same of all connections together.
    pub total_in_flight: Size,
    /// Alerts waiting for one subscriber.
    pub queued_alerts: usize,
    /// How long a session is kept without a connection.
    pub session_expiry: Time,
    /// Sessions kept without a connection.
    pub sessions: usize,
    /// How often a connection's token is judged again.
    pub reauthenticate: Time,
    /// Topic aliases that an MQTT 5 client may set.
    pub topic_aliases: u16,
    /// What is written but not yet taken by a slow client.
    pub unsent: Size,
    /// How long a client may take nothing of what is written to it.
    pub stall: Time,
    /// Filters that one session may hold.
    pub subscriptions: usize,
    /// Alerts sent to one subscriber and not yet acknowledged.
    pub alerts_in_flight: u16,
    /// A last will.
    pub will: Size,
    /// How long a last will is tried again.
    pub will_retry: Time,
    /// After which silence a connection is probed.
    pub tcp_keepalive: Time,
}

/// The processors.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Processors {
    /// States kept in memory, of all processors together.
    pub states: Size,
    /// How often states are saved.
    pub checkpoint_every: Time,
    /// After how many records they are saved at the latest.
    pub checkpoint_records: usize,
    /// How long few records gather for processors that nobody is waiting for.
    pub gather: Time,
    /// How long an owner may be silent before a standby speaks.
    pub standby_after: Time,
    /// How far what nobody is waiting for stands behind doors and alerts, as `nice` has it.
    pub niceness: u8,
    /// Records read at once, per task.
    pub read_records: usize,
    /// Their size.
    pub read: Size,
}

impl Log {
    /// As Kafka is reached, where the log is there.
    ///
    /// # Errors
    /// What is wrong with the address, or with what goes with it.
    pub fn kafka(&self) -> Result<Option<eventlog::kafka::Options>, String> {
        if self.url.is_empty() {
            return Ok(None);
        }
        let options = eventlog::kafka::Options::parse(&self.url)?;
        Ok(Some(eventlog::kafka::Options {
            partitions: self.partitions,
            max_record_bytes: self.record.bytes(),
            tail_bytes: self.cache.bytes() / 4,
            history_bytes: self.cache.bytes(),
            access: brokers::access(self)?,
            instance: brokers::instance(&self.instance)?,
            ..options
        }))
    }

    /// As the log takes them.
    #[must_use]
    pub fn options(&self) -> eventlog::embedded::Options {
        eventlog::embedded::Options {
            partitions: self.partitions,
            max_record_bytes: self.record.bytes(),
            cache_bytes: self.cache.bytes(),
            disk_cache_bytes: self.disk_cache.0,
            memtable_bytes: self.memtable.0,
            states_at_once: self.states_at_once,
            queue_bytes: u32::try_from(self.queue.0).unwrap_or(u32::MAX),
            retention_age: self.retention_age.0.map(span),
            retention_bytes: self.retention_size.0.map(|size| size.0),
            retention_every: self.retention_every.0,
        }
    }
}

fn span(time: Time) -> Span {
    Span(i64::try_from(time.0.as_micros()).unwrap_or(i64::MAX))
}

impl Views {
    /// As the database is reached, where the views are there.
    ///
    /// # Errors
    /// What is wrong with the address, or which option is missing or stands there for nothing.
    pub fn database(&self) -> Result<Option<projections::scylla::Options>, String> {
        let access = database::access(self)?;
        if self.url.is_empty() {
            return if access == projections::scylla::Access::default() {
                Ok(None)
            } else {
                Err("views.tls and views.user are for a database that others share (views.url)".to_owned())
            };
        }
        let options = projections::scylla::Options::parse(&self.url)?;
        Ok(Some(projections::scylla::Options { access, ..options }))
    }

    /// As their projection takes them, with the names of records that are read by `catalogue`.
    #[must_use]
    pub fn projection(&self, catalogue: Arc<Catalogue>) -> projections::runner::Options {
        projections::runner::Options {
            partitions: None,
            board: Arc::default(),
            catalogue,
            batch: Limit {
                records: self.batch_records,
                bytes: self.batch.bytes(),
            },
            gather: self.gather.0,
            retry: self.retry.0,
            sweep_every: self.sweep_every.0,
        }
    }

    /// As the views take them.
    #[must_use]
    pub const fn options(&self) -> projections::embedded::Options {
        projections::embedded::Options {
            cache_bytes: self.cache.0,
            memtable_bytes: self.memtable.0,
            workers: self.workers,
        }
    }
}

impl Intake {
    /// As the intake takes them.
    #[must_use]
    pub fn limits(&self) -> ingest::Limits {
        ingest::Limits {
            bytes_in_flight: self.in_flight.bytes(),
            recent_ids: self.recent_ids,
            recalled_records: self.recalled_records,
            rejected_bytes: self.rejected.bytes(),
            behind_records: self.behind,
            past_rate: self.past_rate,
            held_at_most: self.held_at_most.0,
            bounds: ingest::Bounds {
                record_bytes: self.record.bytes(),
                records: self.records,
                depth: self.depth,
                samples: self.samples,
            },
        }
    }
}

impl Http {
    /// As the doors that speak HTTP take them.
    #[must_use]
    pub fn doors(&self) -> ingest::http::HttpLimits {
        ingest::http::HttpLimits {
            body_bytes: self.body.bytes(),
            unpacked_bytes: self.unpacked.bytes(),
            body_timeout: self.body_time.0,
            patience: self.patience.0,
            zstd_window_log: self.zstd_window.0.max(1).ilog2(),
            group_records: self.group,
        }
    }

    /// As the server under them takes them.
    #[must_use]
    pub fn server(&self, drain: Time) -> api::server::ServerLimits {
        api::server::ServerLimits {
            head: self.head_time.0,
            body: self.body_time.0,
            idle: self.idle.0,
            stall: self.stall.0,
            drain: drain.0,
            connections: self.connections,
            connections_per_address: self.connections_per_address,
            handshake: self.handshake_time.0,
            head_bytes: self.head.bytes(),
            fields: self.fields,
            streams: self.streams,
        }
    }
}

impl Mqtt {
    /// As the door takes them.
    #[must_use]
    pub fn limits(&self, drain: Time) -> ingest::mqtt::MqttLimits {
        ingest::mqtt::MqttLimits {
            connections: self.connections,
            connections_per_address: self.connections_per_address,
            connect_timeout: self.connect_time.0,
            packet_bytes: self.packet.bytes(),
            messages_in_flight: self.messages_in_flight,
            bytes_in_flight: self.in_flight.bytes(),
            total_bytes_in_flight: self.total_in_flight.bytes(),
            queued_alerts: self.queued_alerts,
            session_expiry: self.session_expiry.0,
            sessions: self.sessions,
            reauthenticate: self.reauthenticate.0,
            settle: drain.0,
            topic_aliases: self.topic_aliases,
            unsent_bytes: self.unsent.bytes(),
            write_timeout: self.stall.0,
            subscriptions: self.subscriptions,
            alerts_in_flight: self.alerts_in_flight,
            will_bytes: self.will.bytes(),
            will_retry: self.will_retry.0,
            tcp_keepalive: self.tcp_keepalive.0,
        }
    }
}

impl Processors {
    /// As the processors' runner takes them.
    #[must_use]
    pub fn options(&self, catalogue: Arc<Catalogue>) -> processors::runner::Options {
        processors::runner::Options {
            partitions: None,
            read: Limit {
                records: self.read_records,
                bytes: self.read.bytes(),
            },
            tick: true,
            alone: false,
            standby: false,
            catalogue,
            board: processors::runner::Board::default(),
            behind: None,
            gather: self.gather.0,
            state_bytes: self.states.bytes(),
            checkpoint_every: self.checkpoint_every.0,
            checkpoint_records: self.checkpoint_records,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use crate::config::{Config, Sources, Time};

    #[test]
    fn the_defaults_are_those_of_the_rooms() {
        let config = Config::load(Sources::default()).unwrap();
        let drain = Time(std::time::Duration::from_secs(10));
        assert_eq!(config.log.options(), eventlog::embedded::Options::default());
        assert_eq!(config.intake.limits(), ingest::Limits::default());
        assert_eq!(config.http.doors(), ingest::http::HttpLimits::default());
        assert_eq!(
            config.http.server(drain),
            api::server::ServerLimits {
                body: config.http.body_time.0,
                ..api::server::ServerLimits::default()
            }
        );
        assert_eq!(config.mqtt.limits(drain), ingest::mqtt::MqttLimits::default());
        let views = projections::runner::Options::default();
        assert_eq!(
            format!("{:?}", config.views.projection(Arc::clone(&views.catalogue))),
            format!("{views:?}")
        );
        let processing = processors::runner::Options::default();
        assert_eq!(
            format!("{:?}", config.processors.options(Arc::clone(&processing.catalogue))),
            format!("{processing:?}")
        );
    }

    /// Everything that rooms are given, as text.
    fn given(config: &Config) -> String {
        let catalogue = Arc::default();
        let (mut raw, mut bridge) = (config.raw.clone(), config.bridge.clone());
        // Without these the others say nothing.
        for (option, usual) in [
            (&mut raw.topics, "t"),
            (&mut raw.url, "kafka://h:1"),
            (&mut bridge.url, "mqtt://h"),
        ] {
            if option.is_empty() {
                usual.clone_into(option);
            }
        }
        format!(
            "{:?} {:?} {:?} {:?} {:?} {:?} {:?} {:?} {:?} {:?} {:?} {:?} {:?}",
            raw.sources(None).ok(),
            bridge.broker().ok(),
            config.log.kafka(),
            config.views.database(),
            config.log.options(),
            config.views.options(),
            config.views.projection(Arc::clone(&catalogue)),
            config.intake.limits(),
            config.http.doors(),
            config.http.server(config.shutdown.drain),
            config.mqtt.limits(config.shutdown.drain),
            config.processors.options(catalogue),
            (config.processors.niceness, config.processors.standby_after),
        )
    }

    #[test]
    fn every_option_of_a_room_reaches_it() {
        let defaults: toml::Table = crate::config::DEFAULTS.parse().unwrap();
        let elsewhere = ("FAJMA_LOG_URL".to_owned(), "kafka://broker".to_owned());
        let usual = Sources {
            environment: vec![elsewhere.clone()],
            ..Sources::default()
        };
        let usual = given(&Config::load(usual).unwrap());
        let mut seen = 0;
        for section in ["log", "views", "intake", "http", "mqtt", "raw", "bridge", "processors"] {
            for (name, value) in defaults[section].as_table().unwrap() {
                // `ca` is read where the bridge is started.
                if name == "listen" || name == "ca" {
                    continue;
                }
                // Another value of the same kind.
                let other = match value {
                    toml::Value::Integer(n) => format!("{}", n + 1),
                    toml::Value::Boolean(on) => format!("{}", !on),
                    toml::Value::String(text) if crate::config::Time::parse(text).is_ok() => "7s".to_owned(),
                    _ => "2MiB".to_owned(),
                };
                let other = match name.as_str() {
                    "retention_age" => "7d".to_owned(),
                    "body" if section == "http" => "3MiB".to_owned(),
                    "url" if section == "raw" => "kafka://h:2".to_owned(),
                    "url" if section == "bridge" => "mqtts://h".to_owned(),
                    _ if value.as_str() == Some(&other) => "3MiB".to_owned(),
                    _ => other,
                };
                let variable = format!("FAJMA_{}_{}", section.to_uppercase(), name.to_uppercase());
                let changed = Config::load(Sources {
                    environment: vec![elsewhere.clone(), (variable.clone(), other.clone())],
                    ..Sources::default()
                });
                assert_ne!(given(&changed.unwrap()), usual, "{variable}={other}");
                seen += 1;
            }
        }
        assert!(seen > 50, "{seen}");
    }
}
