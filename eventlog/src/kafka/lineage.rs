//! What a log in Kafka says of itself where it was carried here, or from here: which journal its topic holds, and where it
//! stands. One small topic, which other logs do not have.
//!
//! The journal's own topic is named by its id: a topic that was deleted and made again holds another journal, whatever is
//! said here.

use rdkafka::admin::{NewTopic, TopicReplication};
use rdkafka::consumer::Consumer;
use rdkafka::error::KafkaError;
use rdkafka::message::Message as _;
use rdkafka::topic_partition_list::TopicPartitionList;
use schemas::derived::Incarnation;
use schemas::ids::EventId;
use tokio::time::Instant;

use super::contact::{self, Reader};
use super::produce::{Message, Sender};
use super::{Options, admin, failed, is_not_reached, watermarks};
use crate::{LogError, Standing};

/// The key of its records.
const KEY: &[u8] = b"journal";
/// The id of no topic: it is not made yet.
pub(super) const NO_TOPIC: EventId = EventId([0; 16]);

/// What is said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Lineage {
    /// The id of the topic that holds the journal.
    pub(super) topic: EventId,
    /// The journal.
    pub(super) incarnation: Incarnation,
    /// Where it stands.
    pub(super) standing: Standing,
}

impl Lineage {
    /// The journal that a topic of this id holds.
    pub(super) fn incarnation_of(&self, topic: EventId, options: &Options) -> Result<Incarnation, LogError> {
        if topic == self.topic {
            return Ok(self.incarnation);
        }
        let lineage = options.lineage();
        Err(LogError::Elsewhere(format!(
            "{lineage} is about a journal's topic {}, and this is {topic}: where all topics were made anew, delete {lineage}",
            self.topic
        )))
    }

    fn text(&self) -> String {
        format!("{} {} {}", self.topic, self.incarnation, self.standing)
    }

    fn parse(text: &[u8]) -> Result<Self, LogError> {
        let corrupt = || LogError::Corrupt("what the log says of itself cannot be read".to_owned());
        let text = std::str::from_utf8(text).map_err(|_| corrupt())?;
        let mut parts = text.splitn(3, ' ');
        let mut next = || parts.next().ok_or_else(corrupt);
        let mut id = || next()?.parse().map_err(|_| corrupt());
        Ok(Self {
            topic: id()?,
            incarnation: id()?,
            standing: Standing::parse(next()?)?,
        })
    }
}

/// What was said last. The topic is there.
pub(super) fn read(client: &Reader, options: &Options) -> Result<Option<Lineage>, LogError> {
    let topic = options.lineage();
    let (start, end) = watermarks(client, &topic, 0, options.failover).map_err(|e| failed(&e))?;
    if start == end {
        return Ok(None);
    }
    let mut there = TopicPartitionList::new();
    let from = rdkafka::Offset::Offset(start);
    there.add_partition_offset(&topic, 0, from).map_err(|e| failed(&e))?;
    client.assign(&there).map_err(|e| failed(&e))?;
    let (mut last, until) = (None, Instant::now() + options.failover);
    while Instant::now() < until {
        match client.poll(options.timeout) {
            Some(Ok(message)) => last = message.payload().map(Lineage::parse).transpose()?.or(last),
            Some(Err(KafkaError::PartitionEOF(_))) => return Ok(last),
            Some(Err(error)) if contact::passes(&error) || is_not_reached(&error) => {}
            Some(Err(error)) => return Err(failed(&error)),
            None => {}
        }
    }
    Err(LogError::Unavailable(format!("{topic} is not delivered")))
}

/// Says it, durably; the topic is made where it is not there.
pub(super) async fn write(options: &Options, lineage: &Lineage, replication: u8) -> Result<(), LogError> {
    let name = options.lineage();
    let copies = TopicReplication::Fixed(i32::from(replication.max(1)));
    let mut topic = NewTopic::new(&name, 1, copies).set("cleanup.policy", "compact");
    if replication > 2 {
        topic = topic.set("min.insync.replicas", "2");
    }
    admin::create(options, &[topic]).await?;
    let text = lineage.text();
    let message = Message::of(&name, 0, KEY, text.as_bytes());
    let sender = Sender::open(&options.access, options.producer())?;
    sender.send(std::iter::once(message)).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_reads_back_and_is_about_one_topic() {
        let to = "kafka://a:1/b".to_owned();
        let lineage = Lineage {
            topic: EventId([1; 16]),
            incarnation: EventId([2; 16]),
            standing: Standing::Left { to },
        };
        assert_eq!(Lineage::parse(lineage.text().as_bytes()).ok(), Some(lineage.clone()));
        let options = Options::default();
        assert_eq!(
            lineage.incarnation_of(EventId([1; 16]), &options).ok(),
            Some(EventId([2; 16]))
        );
        assert!(lineage.incarnation_of(EventId([2; 16]), &options).is_err());
        for odd in [&b""[..], b"x y serving", b"\xff"] {
            assert!(Lineage::parse(odd).is_err());
        }
    }
}
