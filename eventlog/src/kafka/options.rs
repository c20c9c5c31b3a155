//! How Kafka is reached, and every setting of its client with the reason for it.

use std::time::Duration;

use rdkafka::ClientConfig;

use super::access::Access;
use crate::Topic;

/// So many bytes go in one request to a partition, as the client counts them: brokers take no more than a megabyte of
/// records at once, unless they are told otherwise.
pub(super) const BATCH_BYTES: usize = 1_000_000;
/// So many messages do.
pub(super) const BATCH_MESSAGES: usize = 10_000;

/// How the log is reached and used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Some of the brokers, `host:port`, separated by commas.
    pub brokers: String,
    /// What topics' names begin with.
    pub prefix: String,
    /// Partitions of the journal, where topics are made.
    pub partitions: u16,
    /// Copies of every partition, where topics are made.
    pub replication: u8,
    /// The largest record, key and value together.
    pub max_record_bytes: usize,
    /// How long a question to the brokers may take, where any of them can answer it.
    pub timeout: Duration,
    /// How long a partition may be without a leader, and nobody is told: brokers wait some seconds for one that is gone (9
    /// unless they are told otherwise) before they choose.
    pub failover: Duration,
    /// How long an append may wait for its acknowledgement; then it may or may not be there.
    pub append_timeout: Duration,
    /// How long a commit may wait; then its place is to be claimed again.
    pub commit_timeout: Duration,
    /// Bytes of memory for the newest records of each partition that is followed, decoded.
    pub tail_bytes: usize,
    /// Bytes of older records that are kept for the next who reads them.
    pub history_bytes: usize,
    /// How long a writer of states has been silent when copies of its states that others have overtaken may go, and how
    /// old a removed state is when it goes whole.
    pub silent_after: Duration,
    /// How brokers know us and we know them.
    pub access: Access,
    /// The name of this process among the members of its groups: who comes back under it within their patience has its
    /// partitions again, and nobody else's change hands. Without one it is a new member at every start.
    pub instance: Option<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            brokers: "127.0.0.1:9092".to_owned(),
            prefix: "fajma".to_owned(),
            partitions: 6,
            replication: 1,
            max_record_bytes: 1_000_000,
            timeout: Duration::from_secs(10),
            failover: Duration::from_secs(30),
            append_timeout: Duration::from_secs(30),
            commit_timeout: Duration::from_secs(60),
            tail_bytes: 32 << 20,
            history_bytes: 64 << 20,
            silent_after: Duration::from_secs(7 * 24 * 3600),
            access: Access::default(),
            instance: None,
        }
    }
}

impl Options {
    /// Reads `kafka://host:port,host:port/prefix`; what is left out stays as it is by default.
    ///
    /// # Errors
    /// What is wrong with the text.
    pub fn parse(url: &str) -> Result<Self, String> {
        let rest = url
            .strip_prefix("kafka://")
            .ok_or_else(|| format!("{url}: a log is at kafka://host:port,…"))?;
        let (brokers, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let mut options = Self::default();
        if brokers.is_empty() {
            return Err(format!("{url} names no broker"));
        }
        brokers.clone_into(&mut options.brokers);
        if !prefix.is_empty() {
            let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
            if !prefix.chars().all(good) || prefix.len() > 100 {
                return Err(format!("{prefix:?} cannot begin the name of a topic"));
            }
            prefix.clone_into(&mut options.prefix);
        }
        Ok(options)
    }

    /// A topic's name in Kafka.
    #[must_use]
    pub fn topic(&self, topic: Topic) -> String {
        topic.name().replacen("fajma", &self.prefix, 1)
    }

    /// The name of the topic in which the states of those are kept who write a derived topic.
    #[must_use]
    pub fn states(&self, output: Topic) -> String {
        output.name().replacen("fajma", &format!("{}.state", self.prefix), 1)
    }

    /// The name of the topic that tells how far places have come.
    #[must_use]
    pub fn progress(&self) -> String {
        format!("{}.progress", self.prefix)
    }

    /// The name of the topic that says where a log stands that was carried here, or from here.
    #[must_use]
    pub fn lineage(&self) -> String {
        format!("{}.lineage", self.prefix)
    }

    fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", &self.brokers)
            .set("client.id", "fajma")
            // A broker that was away is tried again soon: an alert may be waiting.
            .set("reconnect.backoff.ms", "50")
            .set("reconnect.backoff.max.ms", "2000")
            // Without it, small requests wait for the acknowledgement of those before them.
            .set("socket.nagle.disable", "true")
            .set("socket.keepalive.enable", "true")
            .set("log.connection.close", "false");
        config
    }

    fn writer(&self) -> ClientConfig {
        let mut config = self.client();
        config
            // Acknowledged is durable: on every copy that is in step.
            .set("acks", "all")
            // A retry below us writes nothing twice and changes no order.
            .set("enable.idempotence", "true")
            .set("message.max.bytes", (self.max_record_bytes + 64_000).to_string())
            // What waits is gathered while a request is under way; more than this no alert should wait.
            .set("linger.ms", "0.5")
            .set("batch.size", BATCH_BYTES.to_string())
            .set("batch.num.messages", BATCH_MESSAGES.to_string())
            .set("queue.buffering.max.kbytes", "262144")
            .set("queue.buffering.max.messages", "1000000")
            .set("compression.codec", "lz4");
        config
    }

    /// For the journal and all that doors and people append; also for what the log is compared with.
    #[must_use]
    pub fn producer(&self) -> ClientConfig {
        let mut config = self.writer();
        config.set("message.timeout.ms", self.append_timeout.as_millis().to_string());
        config
    }

    /// For a log that is carried here: much at once, and nobody waits for a single record.
    pub(super) fn carrier(&self) -> ClientConfig {
        let mut config = self.writer();
        config.set("linger.ms", "5").set("message.timeout.ms", "300000");
        config
    }

    /// For conclusions and states, by the origin rule: one request in flight, nothing left out in the middle, no message
    /// given up; whoever cannot deliver ends before its checkpoint.
    pub(super) fn conclusions(&self) -> ClientConfig {
        let mut config = self.writer();
        config
            .set("max.in.flight.requests.per.connection", "1")
            .set("enable.gapless.guarantee", "true")
            .set("message.timeout.ms", "0");
        config
    }

    /// For a group that hands out partitions and delivers nothing.
    pub(super) fn member(&self, group: &str) -> ClientConfig {
        let mut config = self.client();
        config
            .set("group.id", group)
            .set("enable.auto.commit", "false")
            .set("auto.offset.reset", "latest")
            // Who keeps a partition goes on while others change hands.
            .set("partition.assignment.strategy", "cooperative-sticky")
            // A process that died is noticed after so long: until then nobody evaluates its patients.
            .set("session.timeout.ms", "6000")
            .set("heartbeat.interval.ms", "1500")
            // How it stands in its group: a client may stay outside for ever, and says nothing else of it.
            .set("statistics.interval.ms", "1000")
            .set("queued.min.messages", "1");
        if let Some(instance) = &self.instance {
            config.set("group.instance.id", instance);
        }
        config
    }

    /// For reading partitions that we choose ourselves; also for what the log is compared with.
    #[must_use]
    pub fn consumer(&self) -> ClientConfig {
        let mut config = self.client();
        config
            // The client wants a name even where no group is joined.
            .set("group.id", format!("{}-reader", self.prefix))
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            // A place that is not there is told, never replaced by another.
            .set("auto.offset.reset", "error")
            .set("enable.partition.eof", "true")
            // Otherwise the fetcher sleeps for a second whenever its queue is full.
            .set("fetch.queue.backoff.ms", "2")
            .set("fetch.wait.max.ms", "50")
            .set("fetch.error.backoff.ms", "50")
            .set("queued.min.messages", "20000")
            .set("queued.max.messages.kbytes", "16384")
            .set("fetch.message.max.bytes", "4194304")
            .set("check.crcs", "true");
        config
    }

    /// For a group that reads topics which others fill.
    pub(super) fn outside(&self, group: &str) -> ClientConfig {
        let mut config = self.consumer();
        config
            .set("group.id", group)
            // Nothing that lay there before we came is passed over.
            .set("auto.offset.reset", "earliest")
            .set("enable.partition.eof", "false")
            // As of members that only share partitions: see there.
            .set("partition.assignment.strategy", "cooperative-sticky")
            .set("session.timeout.ms", "6000")
            .set("heartbeat.interval.ms", "1500")
            // A topic that is not there (any more) is said at once.
            .set("allow.auto.create.topics", "false")
            .set("topic.metadata.refresh.interval.ms", "30000");
        config
    }

    /// For reading older records, a piece at a time: each of several clients fetches little ahead.
    pub(super) fn rereader(&self) -> ClientConfig {
        let mut config = self.consumer();
        config
            .set("queued.max.messages.kbytes", "4096")
            .set("fetch.message.max.bytes", "2097152");
        config
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_says_what_it_says_and_the_rest_is_by_default() {
        let options = Options::parse("kafka://a:1,b:2/ward").unwrap_or_default();
        assert_eq!((options.brokers.as_str(), options.prefix.as_str()), ("a:1,b:2", "ward"));
        assert_eq!(options.topic(Topic::Journal), "ward.journal");
        assert_eq!(options.states(Topic::Alerts), "ward.state.alerts");
        for bad in ["scylla://a", "kafka://", "kafka:///x", "kafka://a/b c"] {
            assert!(Options::parse(bad).is_err(), "{bad}");
        }
    }
}
