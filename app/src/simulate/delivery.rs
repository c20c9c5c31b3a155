//! Getting records to a door: where to, in which groups, and what the door said.

use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use smol_str::SmolStr;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_rustls::rustls::ClientConfig;

use super::record::Record;
use super::{http, mqtt};
use crate::failure::Failure;

/// Records that go together: one request, or one MQTT message of one sensor.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// At least one.
    pub records: Vec<Record>,
}

/// What a door said to a message.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// It is durable; so many of its records were refused, by code, so many were known before.
    Judged {
        /// Refused records by code.
        refused: BTreeMap<String, u64>,
        /// Known before.
        duplicates: u64,
    },
    /// Nothing, for longer than one waits, or that we may not write; the reason.
    Unanswered(String),
}

/// A message with its answer.
#[derive(Debug)]
pub struct Answered {
    /// The message.
    pub message: Message,
    /// What the door said.
    pub verdict: Verdict,
    /// How long it took from the first attempt on.
    pub took: Duration,
}

/// A door.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Whether it speaks MQTT; else HTTP.
    pub mqtt: bool,
    /// Whether it speaks so through TLS.
    pub tls: bool,
    /// Host and port.
    pub address: String,
}

impl Target {
    /// Reads `mqtt://host[:port]` or `http://host[:port]`, or either with TLS: `mqtts`, `https`.
    ///
    /// # Errors
    /// A sentence that says what is wrong.
    pub fn parse(url: &str) -> Result<Self, String> {
        let (scheme, rest) = url
            .split_once("://")
            .ok_or_else(|| format!("`{url}` is no address: write mqtt://host:1883 or http://host:8080"))?;
        let (mqtt, tls, port) = match scheme {
            "mqtt" => (true, false, 1883),
            "mqtts" => (true, true, 8883),
            "http" => (false, false, 8080),
            "https" => (false, true, 443),
            other => return Err(format!("`{other}` is none of mqtt, mqtts, http and https")),
        };
        let host = rest.trim_end_matches('/');
        if host.is_empty() || host.contains('/') {
            return Err(format!("`{url}`: only a host and a port, without a path"));
        }
        let address = if host.rsplit_once(':').is_some_and(|(_, p)| p.parse::<u16>().is_ok()) {
            host.to_owned()
        } else {
            format!("{host}:{port}")
        };
        Ok(Self { mqtt, tls, address })
    }
}

/// How to deliver.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// Where to.
    pub target: Target,
    /// How to speak TLS, where the door does.
    pub tls: Option<Arc<ClientConfig>>,
    /// The token to show.
    pub token: Option<String>,
    /// How many connections; the records of one patient stay on one of them.
    pub connections: usize,
    /// How many MQTT messages may be under way on one connection.
    pub window: usize,
    /// How many records go together at most.
    pub batch: usize,
    /// How long to wait for an answer, connections anew included.
    pub patience: Duration,
}

/// How long a group waits to become full.
const LINGER: Duration = Duration::from_millis(500);

/// Sends: records go in, answers come out.
#[derive(Debug)]
pub struct Sender {
    by_sensor: bool,
    batch: usize,
    lanes: Vec<mpsc::Sender<Message>>,
    groups: HashMap<(usize, SmolStr), (Instant, Vec<Record>)>,
    workers: JoinSet<()>,
}

impl Delivery {
    /// Starts connecting. Answers must be taken from the receiver, or the sending stops.
    #[must_use]
    pub fn start(self) -> (Sender, mpsc::Receiver<Answered>) {
        let (answers, answered) = mpsc::channel(4096);
        let mut workers = JoinSet::new();
        let lane = |number: usize| {
            let (sender, messages) = mpsc::channel(256);
            let (delivery, answers) = (self.clone(), answers.clone());
            if self.target.mqtt {
                workers.spawn(mqtt::run(delivery, number, messages, answers));
            } else {
                workers.spawn(http::run(delivery, messages, answers));
            }
            sender
        };
        let sender = Sender {
            by_sensor: self.target.mqtt,
            batch: self.batch.max(1),
            lanes: (0..self.connections.max(1)).map(lane).collect(),
            groups: HashMap::new(),
            workers,
        };
        (sender, answered)
    }
}

impl Sender {
    /// Takes a record; it goes when its group is full, or after a while ([`flush`](Self::flush)).
    ///
    /// # Errors
    /// When the workers have ended, which only happens when the answers are no longer taken.
    pub async fn send(&mut self, record: Record) -> Result<(), Failure> {
        let mut hasher = DefaultHasher::new();
        record.patient.hash(&mut hasher);
        let lane = (hasher.finish() % self.lanes.len() as u64) as usize;
        if self.batch == 1 {
            return self.hand_over(lane, vec![record]).await;
        }
        let name = if self.by_sensor {
            record.sensor.clone()
        } else {
            SmolStr::default()
        };
        let key = (lane, name);
        let group = self
            .groups
            .entry(key.clone())
            .or_insert_with(|| (Instant::now(), Vec::new()));
        group.1.push(record);
        if group.1.len() >= self.batch
            && let Some((_, records)) = self.groups.remove(&key)
        {
            self.hand_over(lane, records).await?;
        }
        Ok(())
    }

    /// Sends groups that have waited long enough; all of them where `everything`.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub async fn flush(&mut self, everything: bool) -> Result<(), Failure> {
        let now = Instant::now();
        let old = |since: Instant| everything || now.duration_since(since) >= LINGER;
        let ready: Vec<_> = self
            .groups
            .iter()
            .filter(|(_, (since, _))| old(*since))
            .map(|(key, _)| key.clone())
            .collect();
        for key in ready {
            if let Some((_, records)) = self.groups.remove(&key) {
                self.hand_over(key.0, records).await?;
            }
        }
        Ok(())
    }

    /// Sends what is left, waits until everything has its answer, and closes the connections.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub async fn finish(mut self) -> Result<(), Failure> {
        self.flush(true).await?;
        self.lanes.clear();
        while self.workers.join_next().await.is_some() {}
        Ok(())
    }

    async fn hand_over(&self, lane: usize, records: Vec<Record>) -> Result<(), Failure> {
        self.lanes[lane]
            .send(Message { records })
            .await
            .map_err(|_| Failure::Failed("the sending has ended".to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_scheme_a_host_and_perhaps_a_port() {
        for (url, mqtt, tls, address) in [
            ("mqtt://localhost", true, false, "localhost:1883"),
            ("mqtt://10.0.0.1:2883", true, false, "10.0.0.1:2883"),
            ("mqtts://h", true, true, "h:8883"),
            ("http://localhost:9/", false, false, "localhost:9"),
            ("http://[::1]:80", false, false, "[::1]:80"),
            ("https://h", false, true, "h:443"),
        ] {
            let address = address.to_owned();
            assert_eq!(Target::parse(url), Ok(Target { mqtt, tls, address }));
        }
        for bad in ["localhost:80", "ftp://x", "http://", "http://x/v1/readings"] {
            assert!(Target::parse(bad).is_err(), "{bad}");
        }
    }
}
