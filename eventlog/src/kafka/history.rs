//! Older records: read in pieces by a few clients, kept for the next who reads the same stretch.
//!
//! Many readers of one stretch cost one fetch, and a reader that goes on finds a client that stands where it left off.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rdkafka::consumer::Consumer;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::topic_partition_list::TopicPartitionList;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::contact::{self, Reader};
use super::tail::entry;
use super::{Options, blocking, failed, is_not_reached};
use crate::chunks::{cut, size};
use crate::{Batch, Entry, Limit, LogError, Offset, Partition, Topic};

/// Clients that read at once: more would only divide the same brokers' work.
const AT_ONCE: usize = 3;
/// Clients that stand somewhere, each on the partition it has read last: sending one elsewhere costs more than a read.
const CLIENTS: usize = 16;
/// A client that nobody has needed for so long is let go.
const IDLE: Duration = Duration::from_secs(10);
/// A piece holds at most so many records …
const RECORDS: usize = 4096;
/// … and bytes.
const BYTES: usize = 1 << 20;

type At = (Topic, Partition);

/// What is read and kept.
pub(super) struct History {
    options: Options,
    kept: Mutex<Kept>,
    clients: Mutex<Vec<Client>>,
    free: Semaphore,
    /// One fetch at a time per partition: whoever comes second finds the piece of the first.
    fetching: Mutex<HashMap<At, Arc<tokio::sync::Mutex<()>>>>,
}

/// Pieces by where they were asked for, oldest first.
#[derive(Default)]
struct Kept {
    pieces: BTreeMap<(At, Offset), Arc<Batch>>,
    order: VecDeque<(At, Offset)>,
    bytes: usize,
}

/// A client and where it stands.
struct Client {
    consumer: Reader,
    /// The partition it is on.
    on: Option<At>,
    /// What it reads next, where that is known.
    next: Option<Offset>,
    used: Instant,
}

impl Kept {
    fn find(&self, at: At, from: Offset) -> Option<&Arc<Batch>> {
        let (_, piece) = self.pieces.range(..=(at, from)).next_back()?;
        let same = (piece.topic(), piece.partition()) == at;
        (same && piece.next().is_some_and(|next| from < next)).then_some(piece)
    }

    fn keep(&mut self, at: At, from: Offset, piece: &Arc<Batch>, limit: usize) {
        self.bytes += bytes(piece);
        if let Some(old) = self.pieces.insert((at, from), Arc::clone(piece)) {
            self.bytes -= bytes(&old);
        } else {
            self.order.push_back((at, from));
        }
        while self.bytes > limit {
            let Some(oldest) = self.order.pop_front() else { break };
            self.bytes -= self.pieces.remove(&oldest).map_or(0, |piece| bytes(&piece));
        }
    }
}

fn bytes(piece: &Batch) -> usize {
    piece.entries().iter().map(size).sum()
}

impl History {
    pub(super) fn new(options: &Options) -> Result<Self, LogError> {
        Ok(Self {
            options: options.clone(),
            kept: Mutex::default(),
            clients: Mutex::default(),
            free: Semaphore::new(AT_ONCE),
            fetching: Mutex::default(),
        })
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records from an offset on that is known to be one of the partition.
    pub(super) async fn read(
        &self,
        topic: Topic,
        partition: Partition,
        from: Offset,
        limit: Limit,
    ) -> Result<Arc<Batch>, LogError> {
        let at = (topic, partition);
        if let Some(piece) = self.kept().find(at, from) {
            return Ok(cut(piece, from, limit));
        }
        let turn = {
            let mut fetching = self.fetching.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(fetching.entry(at).or_default())
        };
        let _turn = turn.lock().await;
        if let Some(piece) = self.kept().find(at, from) {
            return Ok(cut(piece, from, limit));
        }
        let entries = self.fetch(at, from).await?;
        let piece = Arc::new(Batch::new(topic, partition, entries));
        if !piece.entries().is_empty() {
            self.kept().keep(at, from, &piece, self.options.history_bytes);
        }
        Ok(cut(&piece, from, limit))
    }

    async fn fetch(&self, at: At, from: Offset) -> Result<Vec<Entry>, LogError> {
        let closed = |_| LogError::Unavailable("the log is closed".to_owned());
        let _free = self.free.acquire().await.map_err(closed)?;
        let mut client = self.client(at, from)?;
        let (name, patience) = (self.options.topic(at.0), self.options.failover);
        let idle = self.idle();
        let (client, read) = blocking(move || {
            // Letting go of a client may take a moment.
            drop(idle);
            let read = client.read(&name, at, from, patience);
            Ok((client, read))
        })
        .await?;
        if read.is_ok() {
            self.clients().push(client);
        }
        read.map_err(|e| failed(&e))
    }

    fn clients(&self) -> MutexGuard<'_, Vec<Client>> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The client that stands there, else one on that partition, else a new one, else that which was used longest ago.
    fn client(&self, at: At, from: Offset) -> Result<Client, LogError> {
        let mut clients = self.clients();
        let there = clients.iter().position(|c| c.on == Some(at) && c.next == Some(from));
        let near = || clients.iter().position(|c| c.on == Some(at));
        match there.or_else(near).or_else(|| (clients.len() >= CLIENTS).then_some(0)) {
            Some(which) => Ok(clients.remove(which)),
            None => Ok(Client {
                consumer: contact::reader(&self.options, self.options.rereader())?,
                on: None,
                next: None,
                used: Instant::now(),
            }),
        }
    }

    /// Clients that nobody needs any more.
    fn idle(&self) -> Vec<Client> {
        let mut clients = self.clients();
        // They stand in the order of their last use.
        let old = clients
            .iter()
            .take_while(|client| client.used.elapsed() >= IDLE)
            .count();
        clients.drain(..old).collect()
    }
}

impl Client {
    fn read(&mut self, topic: &str, at: At, from: Offset, patience: Duration) -> Result<Vec<Entry>, KafkaError> {
        self.used = Instant::now();
        let mut goes_on = self.on == Some(at) && self.next == Some(from);
        if !goes_on {
            self.stand(topic, at.1, from)?;
        }
        (self.on, self.next) = (Some(at), None);
        let (mut entries, mut bytes): (Vec<Entry>, usize) = (Vec::new(), 0);
        let until = Instant::now() + patience;
        while entries.len() < RECORDS && bytes < BYTES {
            let wait = if entries.is_empty() {
                until.saturating_duration_since(Instant::now())
            } else {
                Duration::from_millis(1)
            };
            match self.consumer.poll(wait) {
                Some(Ok(message)) => {
                    // Left over from before it was sent elsewhere.
                    if message_is_of(&message, topic, at.1) && rdkafka::Message::offset(&message) >= from {
                        let entry = entry(&message);
                        bytes += size(&entry);
                        entries.push(entry);
                    }
                }
                Some(Err(KafkaError::PartitionEOF(_))) if goes_on && entries.is_empty() => {
                    // Told when the last piece was read: what we are asked for has come since.
                    goes_on = false;
                    self.stand(topic, at.1, from)?;
                }
                Some(Err(KafkaError::PartitionEOF(_))) => break,
                Some(Err(error)) if contact::passes(&error) => {}
                Some(Err(error)) if is_not_reached(&error) && Instant::now() < until => {}
                Some(Err(error)) => return Err(error),
                None if entries.is_empty() => {
                    return Err(KafkaError::MessageConsumption(RDKafkaErrorCode::OperationTimedOut));
                }
                None => break,
            }
        }
        self.next = entries.last().map(|last| last.offset + 1);
        Ok(entries)
    }

    fn stand(&self, topic: &str, partition: Partition, from: Offset) -> Result<(), KafkaError> {
        let mut there = TopicPartitionList::new();
        there.add_partition_offset(topic, i32::from(partition), rdkafka::Offset::Offset(from))?;
        self.consumer.assign(&there)
    }
}

fn message_is_of(message: &rdkafka::message::BorrowedMessage<'_>, topic: &str, partition: Partition) -> bool {
    use rdkafka::Message;
    message.topic() == topic && message.partition() == i32::from(partition)
}

#[cfg(test)]
mod tests {
    use std::thread;

    use rdkafka::mocking::MockCluster;
    use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

    use super::*;

    const JOURNAL: At = (Topic::Journal, 0);

    /// A broker of the client library itself that holds one record and is away.
    fn away() -> (
        MockCluster<'static, rdkafka::producer::DefaultProducerContext>,
        String,
        Client,
    ) {
        let broker = MockCluster::new(1).unwrap();
        let options = Options {
            brokers: broker.bootstrap_servers(),
            ..Options::default()
        };
        let journal = options.topic(Topic::Journal);
        broker.create_topic(&journal, 1, 1).unwrap();
        let mut config = rdkafka::ClientConfig::new();
        let producer: BaseProducer = config.set("bootstrap.servers", &options.brokers).create().unwrap();
        let record = BaseRecord::to(&journal).partition(0).key("p1").payload("a reading");
        producer.send(record).map_err(|(error, _)| error).unwrap();
        producer.flush(options.failover).unwrap();
        broker.broker_down(-1).unwrap();
        let client = History::new(&options).unwrap().client(JOURNAL, 0).unwrap();
        (broker, journal, client)
    }

    #[test]
    fn a_moment_in_which_no_broker_is_reached_is_waited_for() {
        let (broker, journal, mut client) = away();
        let contact = Arc::clone(client.consumer.context());
        let read = thread::scope(|scope| {
            let reading = scope.spawn(|| client.read(&journal, JOURNAL, 0, Duration::from_secs(60)));
            // What the client says then, one after the other: this broker is not reached, and so none is.
            while contact.last().is_none() && !reading.is_finished() {
                thread::sleep(Duration::from_millis(5));
            }
            broker.broker_up(-1).unwrap();
            reading.join().unwrap()
        });
        let values: Vec<_> = read.unwrap().into_iter().map(|entry| entry.value).collect();
        assert_eq!(values, ["a reading"]);
    }

    #[test]
    fn a_log_without_brokers_is_given_up_when_patience_ends() {
        let (_broker, journal, mut client) = away();
        let read = client.read(&journal, JOURNAL, 0, Duration::from_millis(300));
        assert!(read.is_err(), "{:?}", read.ok());
    }
}
