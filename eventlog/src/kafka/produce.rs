//! Sending, and waiting until the brokers have it.

use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::client::{ClientContext, OAuthToken};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Header, Message as _, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer, ProducerContext, ThreadedProducer};
use schemas::time::Timestamp;
use tokio::sync::Notify;

use super::access::Access;
use super::contact::Contact;
use super::frames::SCHEMA;
use super::{Options, failed};
use crate::{LogError, Offset, Partition};

/// How long to wait before what did not fit into the client's queue is tried again.
const FULL: Duration = Duration::from_millis(2);
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

/// One message of a flight.
struct Ticket {
    flight: Arc<Flight>,
    seat: usize,
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
}

impl Sender {
    pub(super) fn open(access: &Access, mut config: ClientConfig) -> Result<Self, LogError> {
        let contact = Contact::new(access);
        access.apply(&mut config)?;
        let acks = Acks(contact.clone());
        let producer: ThreadedProducer<Acks> = config.create_with_context(acks).map_err(|e| failed(&e))?;
        contact.introduce(producer.client())?;
        Ok(Self { producer })
    }

    /// Whether nothing can be sent by it any more.
    fn is_broken(&self) -> bool {
        self.producer.client().fatal_error().is_some()
    }

    /// Sends messages, in order per partition, and waits until all are durable. Returns the offset of each.
    pub(super) async fn send<'a>(&self, messages: impl Iterator<Item = Message<'a>>) -> Result<Vec<Offset>, LogError> {
        let messages: Vec<_> = messages.collect();
        if messages.is_empty() {
            return Ok(Vec::new());
        }
        let flight = Arc::new(Flight {
            offsets: messages.iter().map(|_| AtomicI64::new(-1)).collect(),
            left: AtomicUsize::new(messages.len()),
            error: OnceLock::new(),
            landed: Notify::new(),
        });
        let all = messages.len();
        for (seat, message) in messages.into_iter().enumerate() {
            if let Err(error) = self.board(&flight, seat, &message).await {
                drop(flight.error.set(error));
                flight.settle(all - seat);
                break;
            }
        }
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

    async fn board(&self, flight: &Arc<Flight>, seat: usize, message: &Message<'_>) -> Result<(), KafkaError> {
        loop {
            let ticket = Box::new(Ticket {
                flight: Arc::clone(flight),
                seat,
            });
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
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => tokio::time::sleep(FULL).await,
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
}
