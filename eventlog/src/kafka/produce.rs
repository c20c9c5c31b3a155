//! Sending, and waiting until the brokers have it.
//!
//! Where messages wait in the client behind others of their partition that are under way, its thread looks without a pause
//! whether they may go, with all of a core: a millisecond at a time as a rule, half a minute where a copy is gone and
//! everybody waits for it to be given up. So they wait here, and go together once those before them have landed.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use futures::future::join_all;
use rdkafka::ClientConfig;
use rdkafka::client::{ClientContext, OAuthToken};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Header, Message as _, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer, ProducerContext, ThreadedProducer};
use schemas::time::Timestamp;
use smol_str::SmolStr;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::access::Access;
use super::contact::Contact;
use super::frames::SCHEMA;
use super::{Options, failed};
use crate::{LogError, Offset, Partition};

/// How long to wait before what did not fit into the client's queue is tried again.
const FULL: Duration = Duration::from_millis(2);
/// So long after the first, messages join those that are about to leave: a little less than the client's `linger.ms`.
const BOARDING: Duration = Duration::from_micros(400);
/// While fewer than so many messages are under way to a partition, the client lets others follow them.
const FOLLOWED: usize = 5;
/// Which header of a derived record says where it comes from.
pub(super) const ORIGIN: &str = "origin";
/// Which header of a record that was carried here says when it was first appended: microseconds since 1970, in digits.
pub(super) const APPENDED_AT: &str = "appended_at";

/// What is sent.
pub(super) struct Message<'a> {
    pub(super) topic: &'a str,
    pub(super) partition: Partition,
    pub(super) key: &'a [u8],
    /// `None` lets a compacted topic go of the key.
    pub(super) value: Option<&'a [u8]>,
    /// The encoded origin of a derived record.
    pub(super) origin: Option<&'a [u8]>,
    /// When another log took it, from which it is carried here.
    pub(super) appended_at: Option<Timestamp>,
    /// Our own id of the schema, where the value is framed by a registry's.
    pub(super) schema: Option<&'a [u8]>,
}

impl<'a> Message<'a> {
    /// A record with neither origin nor past.
    pub(super) const fn of(topic: &'a str, partition: Partition, key: &'a [u8], value: &'a [u8]) -> Self {
        Self {
            topic,
            partition,
            key,
            value: Some(value),
            origin: None,
            appended_at: None,
            schema: None,
        }
    }

    /// Where it comes from, its schema, and the moment of its first append, which Kafka would cut to milliseconds.
    fn headers(&self) -> Option<OwnedHeaders> {
        let appended_at = self.appended_at.map(|at| at.0.to_string());
        let given = [
            (ORIGIN, self.origin),
            (SCHEMA, self.schema),
            (APPENDED_AT, appended_at.as_ref().map(String::as_bytes)),
        ];
        let mut given = given.into_iter().filter_map(|(key, value)| {
            Some(Header {
                key,
                value: Some(value?),
            })
        });
        let first = OwnedHeaders::new_with_capacity(3).insert(given.next()?);
        Some(given.fold(first, OwnedHeaders::insert))
    }
}

/// Messages of one call, on their way.
struct Flight {
    offsets: Vec<AtomicI64>,
    left: AtomicUsize,
    error: OnceLock<KafkaError>,
    landed: Notify,
}

impl Flight {
    fn settle(&self, messages: usize) {
        if self.left.fetch_sub(messages, Ordering::AcqRel) == messages {
            self.landed.notify_one();
        }
    }
}

/// What is under way to one partition.
#[derive(Default)]
struct Lane {
    way: Mutex<Way>,
    landed: Notify,
}

#[derive(Default)]
struct Way {
    flying: usize,
    /// When the first of those came aboard that left last, or are about to.
    since: Option<Instant>,
}

impl Lane {
    fn way(&self) -> MutexGuard<'_, Way> {
        self.way.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until hardly anything is under way, or what is has not left yet.
    async fn enter(self: Arc<Self>, messages: usize) -> Aboard {
        loop {
            let mut landed = std::pin::pin!(self.landed.notified());
            landed.as_mut().enable();
            if self.is_boarding(messages) {
                break;
            }
            landed.await;
        }
        Aboard { lane: self, messages }
    }

    fn is_boarding(&self, messages: usize) -> bool {
        let (mut way, now) = (self.way(), Instant::now());
        if way.flying < FOLLOWED {
            way.since = Some(now);
        }
        let boarding = way.since.is_some_and(|since| now - since < BOARDING);
        if boarding {
            way.flying += messages;
        }
        boarding
    }
}

/// Messages under way, until this is dropped.
struct Aboard {
    lane: Arc<Lane>,
    messages: usize,
}

impl Aboard {
    /// One of them, by itself.
    fn one(&mut self) -> Self {
        let messages = self.messages.min(1);
        self.messages -= messages;
        let lane = Arc::clone(&self.lane);
        Self { lane, messages }
    }
}

impl Drop for Aboard {
    fn drop(&mut self) {
        let mut way = self.lane.way();
        way.flying -= self.messages;
        if way.flying < FOLLOWED {
            self.lane.landed.notify_waiters();
        }
    }
}

/// One message of a flight.
struct Ticket {
    flight: Arc<Flight>,
    seat: usize,
    _aboard: Aboard,
}

/// Takes the brokers' word.
struct Acks(Contact);

impl ClientContext for Acks {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn error(&self, error: KafkaError, reason: &str) {
        self.0.error(error, reason);
    }

    fn generate_oauth_token(&self, config: Option<&str>) -> Result<OAuthToken, Box<dyn std::error::Error>> {
        self.0.generate_oauth_token(config)
    }
}

impl ProducerContext for Acks {
    type DeliveryOpaque = Box<Ticket>;

    fn delivery(&self, result: &DeliveryResult<'_>, ticket: Box<Ticket>) {
        match result {
            Ok(message) => ticket.flight.offsets[ticket.seat].store(message.offset(), Ordering::Release),
            Err((error, _)) => drop(ticket.flight.error.set(error.clone())),
        }
        ticket.flight.settle(1);
    }
}

/// A client that sends, and another in its place once one has failed for good.
pub(super) struct Senders {
    access: Access,
    config: ClientConfig,
    current: Mutex<Arc<Sender>>,
}

impl Senders {
    pub(super) fn open(options: &Options, config: ClientConfig) -> Result<Self, LogError> {
        let access = options.access.clone();
        let current = Mutex::new(Arc::new(Sender::open(&access, config.clone())?));
        Ok(Self {
            access,
            config,
            current,
        })
    }

    /// One whose deliveries have not failed for good.
    pub(super) fn now(&self) -> Result<Arc<Sender>, LogError> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if current.is_broken() {
            tracing::warn!("the Kafka client that sends has failed for good: another takes its place");
            *current = Arc::new(Sender::open(&self.access, self.config.clone())?);
        }
        Ok(Arc::clone(&current))
    }
}

/// A client that sends.
pub(super) struct Sender {
    producer: ThreadedProducer<Acks>,
    lanes: Mutex<HashMap<(SmolStr, Partition), Arc<Lane>>>,
}

impl Sender {
    pub(super) fn open(access: &Access, mut config: ClientConfig) -> Result<Self, LogError> {
        let contact = Contact::new(access);
        access.apply(&mut config)?;
        let acks = Acks(contact.clone());
        let producer: ThreadedProducer<Acks> = config.create_with_context(acks).map_err(|e| failed(&e))?;
        contact.introduce(producer.client())?;
        Ok(Self {
            producer,
            lanes: Mutex::default(),
        })
    }

    /// Whether nothing can be sent by it any more.
    fn is_broken(&self) -> bool {
        self.producer.client().fatal_error().is_some()
    }

    /// Sends messages, in order per partition, and waits until all are durable. Returns the offset of each.
    pub(super) async fn send<'a>(&self, messages: impl Iterator<Item = Message<'a>>) -> Result<Vec<Offset>, LogError> {
        let (mut lanes, mut all) = (BTreeMap::<_, Vec<_>>::new(), 0);
        for message in messages {
            let lane = lanes.entry((message.topic, message.partition)).or_default();
            lane.push((all, message));
            all += 1;
        }
        if all == 0 {
            return Ok(Vec::new());
        }
        let flight = Arc::new(Flight {
            offsets: (0..all).map(|_| AtomicI64::new(-1)).collect(),
            left: AtomicUsize::new(all),
            error: OnceLock::new(),
            landed: Notify::new(),
        });
        let boarding = lanes.into_iter().map(|((topic, partition), messages)| {
            let lane = self.lane(topic, partition);
            self.board_all(&flight, lane, messages)
        });
        join_all(boarding).await;
        while flight.left.load(Ordering::Acquire) > 0 {
            flight.landed.notified().await;
        }
        match flight.error.get() {
            Some(error) => Err(failed(error)),
            None => Ok(flight
                .offsets
                .iter()
                .map(|offset| offset.load(Ordering::Acquire))
                .collect()),
        }
    }

    fn lane(&self, topic: &str, partition: Partition) -> Arc<Lane> {
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(lanes.entry((SmolStr::new(topic), partition)).or_default())
    }

    /// Hands the client the messages of one partition, in order, once it is their turn.
    async fn board_all(&self, flight: &Arc<Flight>, lane: Arc<Lane>, messages: Vec<(usize, Message<'_>)>) {
        let all = messages.len();
        let mut aboard = lane.enter(all).await;
        for (n, (seat, message)) in messages.iter().enumerate() {
            let ticket = Box::new(Ticket {
                flight: Arc::clone(flight),
                seat: *seat,
                _aboard: aboard.one(),
            });
            if let Err(error) = self.board(ticket, message).await {
                drop(flight.error.set(error));
                return flight.settle(all - n);
            }
        }
    }

    async fn board(&self, mut ticket: Box<Ticket>, message: &Message<'_>) -> Result<(), KafkaError> {
        loop {
            let mut record = BaseRecord::with_opaque_to(message.topic, ticket)
                .partition(i32::from(message.partition))
                .key(message.key);
            if let Some(value) = message.value {
                record = record.payload(value);
            }
            if let Some(at) = message.appended_at {
                record = record.timestamp(at.0.div_euclid(1000));
            }
            if let Some(headers) = message.headers() {
                record = record.headers(headers);
            }
            match self.producer.send(record) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), record)) => {
                    ticket = record.delivery_opaque;
                    tokio::time::sleep(FULL).await;
                }
                Err((error, _)) => return Err(error),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use rdkafka::mocking::MockCluster;
    use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

    use super::*;

    fn message(value: &[u8]) -> Message<'_> {
        Message {
            topic: "t",
            partition: 0,
            key: b"k",
            value: Some(value),
            origin: None,
            appended_at: None,
            schema: None,
        }
    }

    #[tokio::test]
    async fn a_client_that_has_failed_for_good_is_replaced_and_nothing_is_said_to_be_there_that_is_not() {
        let mock: MockCluster<'_, rdkafka::producer::DefaultProducerContext> = MockCluster::new(1).unwrap();
        mock.create_topic("t", 1, 1).unwrap();
        let options = Options {
            brokers: mock.bootstrap_servers(),
            ..Options::default()
        };
        let senders = Senders::open(&options, options.conclusions()).unwrap();
        let first = senders.now().unwrap();
        assert_eq!(
            first.send([message(b"a"), message(b"b")].into_iter()).await.unwrap(),
            [0, 1]
        );
        // What it was told about its own order leaves it no way to go on without a gap.
        mock.request_errors(
            RDKafkaApiKey::Produce,
            &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER],
        );
        let refused = first.send(std::iter::once(message(b"c"))).await;
        assert!(matches!(refused, Err(LogError::Unavailable(_))), "{refused:?}");
        assert!(first.send(std::iter::once(message(b"d"))).await.is_err());
        let second = senders.now().unwrap();
        assert!(!Arc::ptr_eq(&first, &second));
        assert_eq!(second.send(std::iter::once(message(b"c"))).await.unwrap(), [2]);
        assert!(Arc::ptr_eq(&second, &senders.now().unwrap()));
    }

    #[tokio::test(start_paused = true)]
    async fn what_comes_too_late_waits_until_all_before_it_has_landed_and_then_goes_together() {
        let lane = Arc::new(Lane::default());
        let mut first = Arc::clone(&lane).enter(6).await;
        let joined = Arc::clone(&lane).enter(1).await;
        tokio::time::sleep(BOARDING).await;
        let late: Vec<_> = (0..3).map(|_| tokio::spawn(Arc::clone(&lane).enter(5))).collect();
        let last: Vec<_> = (0..FOLLOWED).map(|_| first.one()).collect();
        drop((first, joined));
        tokio::time::sleep(FULL).await;
        assert!(late.iter().all(|late| !late.is_finished()), "so many are under way");
        drop(last);
        tokio::time::sleep(FULL).await;
        assert!(late.iter().all(tokio::task::JoinHandle::is_finished), "all at once");
        assert_eq!(lane.way().flying, 15);
        drop(late);
        tokio::task::yield_now().await;
        assert!(lane.is_boarding(1), "whoever gives up holds nobody up");
    }
}
