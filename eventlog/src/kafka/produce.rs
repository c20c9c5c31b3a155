//! Sending, and waiting until the brokers have it.
//!
//! Where messages wait in the client behind others of their partition that are under way, its thread looks without a pause
//! whether they may go, with all of a core: a millisecond at a time as a rule, half a minute where a copy is gone and
//! everybody waits for it to be given up. So they wait here, and go together once those before them have landed: what does
//! not fit into one request too, since the rest of it would wait in the client.

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
use super::options::{BATCH_BYTES, BATCH_MESSAGES};
use super::{Options, failed};
use crate::{LogError, Offset, Partition};

/// How long to wait before what did not fit into the client's queue is tried again.
const FULL: Duration = Duration::from_millis(2);
/// So long after the first, messages join those that are about to leave: a little less than the client's `linger.ms`.
const BOARDING: Duration = Duration::from_micros(400);
/// While fewer than so many messages are under way to a partition, the client lets others follow them.
const FOLLOWED: usize = 5;
/// What a message costs at most in a request beside its key, its value and what its headers say.
const ENVELOPE: usize = 100;
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

    /// What it takes of a request, at most.
    fn size(&self) -> usize {
        let parts = [Some(self.key), self.value, self.origin, self.schema];
        ENVELOPE + parts.into_iter().flatten().map(<[u8]>::len).sum::<usize>()
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
    /// What came aboard with it.
    aboard: Load,
}

/// What goes to a partition at once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Load {
    messages: usize,
    bytes: usize,
}

impl Load {
    const fn and(self, other: Self) -> Self {
        Self {
            messages: self.messages + other.messages,
            bytes: self.bytes + other.bytes,
        }
    }

    /// Whether it fits into one request. A single message always goes.
    const fn fits(self) -> bool {
        self.messages <= 1 || (self.messages <= BATCH_MESSAGES && self.bytes <= BATCH_BYTES)
    }
}

impl Lane {
    fn way(&self) -> MutexGuard<'_, Way> {
        self.way.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until hardly anything is under way, or what is has not left yet.
    async fn enter(self: Arc<Self>, load: Load) -> Aboard {
        loop {
            let mut landed = std::pin::pin!(self.landed.notified());
            landed.as_mut().enable();
            if self.is_boarding(load) {
                break;
            }
            landed.await;
        }
        Aboard {
            lane: self,
            messages: load.messages,
        }
    }

    fn is_boarding(&self, load: Load) -> bool {
        let (mut way, now) = (self.way(), Instant::now());
        if way.flying < FOLLOWED {
            (way.since, way.aboard) = (Some(now), Load::default());
        }
        let together = way.aboard.and(load);
        let boarding = together.fits() && way.since.is_some_and(|since| now - since < BOARDING);
        if boarding {
            way.flying += load.messages;
            way.aboard = together;
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

    /// Hands the client the messages of one partition, in order, a request's worth at a time, once it is their turn.
    async fn board_all(&self, flight: &Arc<Flight>, lane: Arc<Lane>, messages: Vec<(usize, Message<'_>)>) {
        let mut left = &messages[..];
        while !left.is_empty() {
            let load = first_load(left);
            let (now, later) = left.split_at(load.messages);
            let aboard = Arc::clone(&lane).enter(load).await;
            // Nothing comes after what is not there.
            if flight.error.get().is_some() {
                return flight.settle(left.len());
            }
            if let Err((error, missed)) = self.board_some(flight, aboard, now).await {
                drop(flight.error.set(error));
                return flight.settle(missed + later.len());
            }
            left = later;
        }
    }

    /// Hands it what goes at once; an error says how many did not.
    async fn board_some(
        &self,
        flight: &Arc<Flight>,
        mut aboard: Aboard,
        messages: &[(usize, Message<'_>)],
    ) -> Result<(), (KafkaError, usize)> {
        for (n, (seat, message)) in messages.iter().enumerate() {
            let ticket = Box::new(Ticket {
                flight: Arc::clone(flight),
                seat: *seat,
                _aboard: aboard.one(),
            });
            self.board(ticket, message)
                .await
                .map_err(|error| (error, messages.len() - n))?;
        }
        Ok(())
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

/// As many of the first messages as fit into one request.
fn first_load(messages: &[(usize, Message<'_>)]) -> Load {
    let mut load = Load::default();
    for (_, message) in messages {
        let and = load.and(Load {
            messages: 1,
            bytes: message.size(),
        });
        if !and.fits() {
            break;
        }
        load = and;
    }
    load
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

    const fn load(messages: usize, bytes: usize) -> Load {
        Load { messages, bytes }
    }

    #[tokio::test(start_paused = true)]
    async fn what_comes_too_late_waits_until_all_before_it_has_landed_and_then_goes_together() {
        let lane = Arc::new(Lane::default());
        let mut first = Arc::clone(&lane).enter(load(6, 600)).await;
        let joined = Arc::clone(&lane).enter(load(1, 100)).await;
        tokio::time::sleep(BOARDING).await;
        let late: Vec<_> = (0..3)
            .map(|_| tokio::spawn(Arc::clone(&lane).enter(load(5, 500))))
            .collect();
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
        assert!(lane.is_boarding(load(1, 1)), "whoever gives up holds nobody up");
    }

    #[tokio::test(start_paused = true)]
    async fn what_does_not_fit_into_the_request_of_those_aboard_waits_for_the_next() {
        let lane = Arc::new(Lane::default());
        let first = Arc::clone(&lane).enter(load(6, BATCH_BYTES - 500)).await;
        assert!(lane.is_boarding(load(5, 400)));
        assert!(!lane.is_boarding(load(5, 400)));
        drop(first);
        assert!(!lane.is_boarding(load(5, 400)), "the second is under way");
        lane.way().flying -= 5;
        assert!(
            lane.is_boarding(load(1, 2 * BATCH_BYTES)),
            "a single message goes, whatever its size"
        );
    }

    #[test]
    fn a_call_goes_in_pieces_that_each_fit_into_a_request() {
        let value = vec![0; 300_000];
        let large = |n: usize| -> Vec<_> { (0..n).map(|seat| (seat, message(&value))).collect() };
        assert_eq!(first_load(&large(7)).messages, 3);
        assert_eq!(first_load(&large(2)).messages, 2);
        let small: Vec<_> = (0..BATCH_MESSAGES + 7).map(|seat| (seat, message(b""))).collect();
        assert_eq!(first_load(&small).messages, BATCH_BYTES / (ENVELOPE + 1));
        let larger = vec![0; 2 * BATCH_BYTES];
        assert_eq!(first_load(&[(0, message(&larger)), (1, message(b""))]).messages, 1);
    }

    #[tokio::test]
    async fn a_call_of_many_requests_arrives_whole_and_in_order() {
        let mock: MockCluster<'_, rdkafka::producer::DefaultProducerContext> = MockCluster::new(1).unwrap();
        mock.create_topic("t", 1, 1).unwrap();
        let options = Options {
            brokers: mock.bootstrap_servers(),
            ..Options::default()
        };
        let senders = Senders::open(&options, options.conclusions()).unwrap();
        let value = vec![0; 300_000];
        let sent = senders
            .now()
            .unwrap()
            .send((0..11).map(|_| message(&value)))
            .await
            .unwrap();
        assert_eq!(sent, (0..11).collect::<Vec<_>>());
    }
}
