//! Sending, a request's worth at a time and when it is its turn ([`lane`](super::lane)), and waiting until the brokers have it.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
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

use super::access::Access;
use super::contact::Contact;
use super::frames::SCHEMA;
use super::lane::{Aboard, Lane, Load};
use super::{Options, failed};
use crate::{LogError, Offset, Partition};

/// How long to wait before what did not fit into the client's queue is tried again.
const FULL: Duration = Duration::from_millis(2);
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

    use super::super::options::{BATCH_BYTES, BATCH_MESSAGES};
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

    type Mock = MockCluster<'static, rdkafka::producer::DefaultProducerContext>;

    /// A stand-in for brokers, for what only they can answer, and a client of it.
    fn cluster() -> (Mock, Senders) {
        let mock: Mock = MockCluster::new(1).unwrap();
        mock.create_topic("t", 1, 1).unwrap();
        let options = Options {
            brokers: mock.bootstrap_servers(),
            ..Options::default()
        };
        let senders = Senders::open(&options, options.conclusions()).unwrap();
        (mock, senders)
    }

    #[tokio::test]
    async fn a_client_that_has_failed_for_good_is_replaced_and_nothing_is_said_to_be_there_that_is_not() {
        let (mock, senders) = cluster();
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
        let (_mock, senders) = cluster();
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
