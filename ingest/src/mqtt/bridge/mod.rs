//! A bridge to somebody else's broker (Mosquitto, EMQX): we are its client, and acknowledge a message once the journal, or
//! `fajma.rejected`, has it.
//!
//! The session there is a lasting one: what is published while we are away waits for us. What we did not acknowledge comes
//! again with the next connection, and is recognised: by what the device said (its time or number), and, as long as this
//! process lives, by packet id and content. Only what bears neither time nor number can be counted twice, where the process
//! dies between the journal and the acknowledgement; it is marked `at_least_once`, as at every door.
//!
//! [`Bridge::connection`] is one connection. Whoever runs it connects again.

mod inbox;
mod wire;

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::BytesMut;
use eventlog::LogError;
use mqtt_protocol_core::mqtt::packet::Qos;
use schemas::facts::Door;
use schemas::ids::EventId;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

use super::frame::Frame;
use super::packet::{self, Incoming, Publish, Version};
use super::{metrics, topic};
use crate::intake::Intake;
use crate::parcel::{self, Parcel, Place};
use inbox::{Inbox, Piece};
use wire::{Refused, Welcome};

/// How long a broker may take to let us in.
const OPENING: Duration = Duration::from_secs(10);
/// How long it may take nothing of what is written to it.
const STALL: Duration = Duration::from_secs(20);
/// How long the end of a connection waits for the log's word on what came before.
const SETTLE: Duration = Duration::from_secs(10);
/// What judging a message costs in memory beside its bytes, about.
const OVERHEAD: usize = 512;

/// A broker, and what we want of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broker {
    /// Who we are to it: its session of this name is ours.
    pub client_id: String,
    /// User name and password.
    pub login: Option<(String, Option<String>)>,
    /// What we subscribe to; empty for the two topics of every sensor, behind the prefix.
    pub filters: Vec<String>,
    /// What stands before the names of our topics there, like `ward7/`.
    pub prefix: String,
    /// How often it hears of us at least.
    pub keep_alive: Duration,
    /// How long it keeps our session while we are away (MQTT 5; a broker of 3.1.1 keeps it as it likes).
    pub session: Duration,
    /// Messages that it may send ahead of our acknowledgement (told to MQTT 5 brokers).
    pub messages_in_flight: u16,
    /// Bytes of messages that wait for the log; above it nothing is read.
    pub bytes_in_flight: usize,
    /// Bytes of one packet; of a larger one the beginning is kept, refused.
    pub packet_bytes: usize,
}

impl Broker {
    fn filters(&self) -> Vec<String> {
        if self.filters.is_empty() {
            let of = |what| format!("{}fajma/patient/+/sensor/+/{what}", self.prefix);
            ["data", "status"].map(of).to_vec()
        } else {
            self.filters.clone()
        }
    }
}

/// The bridge: what outlives its connections.
#[derive(Debug)]
pub struct Bridge {
    intake: Arc<Intake>,
    broker: Broker,
    memory: Mutex<Memory>,
}

#[derive(Debug)]
struct Memory {
    /// What the broker speaks, as far as is known.
    version: Version,
    /// What is durable, by the packet id under which it came. The broker may not have had our word on it.
    settled: HashMap<u16, EventId>,
}

/// What is due for a message once it is durable.
#[derive(Debug, Clone, Copy)]
struct Due {
    id: u16,
    /// What came under that id.
    content: EventId,
}

/// Messages on their way to the log together.
#[derive(Debug, Default)]
struct Batch {
    parcels: Vec<Parcel>,
    dues: Vec<Due>,
    bytes: usize,
}

impl Batch {
    fn is_empty(&self) -> bool {
        self.parcels.is_empty() && self.dues.is_empty()
    }
}

/// Called once a broker gives us what we asked for.
pub type Granted = Box<dyn FnOnce() + Send>;
/// A batch with the log.
type Flight = Pin<Box<dyn Future<Output = (Vec<Due>, Result<(), LogError>)> + Send>>;

impl Bridge {
    /// A bridge that gives what comes to `intake`.
    #[must_use]
    pub fn new(intake: Arc<Intake>, broker: Broker) -> Arc<Self> {
        metrics::describe_bridge();
        let memory = Memory {
            version: Version::V5,
            settled: HashMap::new(),
        };
        Arc::new(Self {
            intake,
            broker,
            memory: Mutex::new(memory),
        })
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One connection, over a stream that is open, until `stop`. `granted` is called once the broker gives us what we asked
    /// for.
    ///
    /// # Errors
    /// Why it ended before: connect again.
    pub async fn connection<S>(&self, stream: S, granted: Granted, stop: CancellationToken) -> Result<(), String>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send,
    {
        let version = self.memory().version;
        let (reader, writer) = tokio::io::split(stream);
        let mut link = Link {
            bridge: self,
            version,
            reader,
            writer,
            inbox: Inbox::new(self.broker.packet_bytes),
            out: BytesMut::new(),
            batch: Batch::default(),
            flight: None,
            flying: 0,
            granted: Some(granted),
            open: None,
        };
        let welcome = timeout(OPENING, link.open()).await;
        let welcome = welcome.map_err(|_| "it does not answer CONNECT".to_owned())??;
        tracing::info!(?version, session = welcome.session_present, "the bridge is connected");
        let ended = link.exchange(&welcome, &stop).await;
        link.close(ended.is_ok()).await;
        ended
    }

    /// Takes in what a message says; what is due for it stands in the batch.
    fn take(&self, frame: &Frame, publish: Publish<'_>, is_whole: bool, batch: &mut Batch) -> Result<(), String> {
        let content = EventId::of("fajma.bridge", &[publish.topic.as_bytes(), &publish.payload]);
        let due = match publish.qos {
            Qos::AtMostOnce => None,
            Qos::AtLeastOnce => Some(Due {
                id: publish.id,
                content,
            }),
            Qos::ExactlyOnce => return Err("it sends QoS 2, which was not asked for".to_owned()),
        };
        let is_again = frame.first & 0x08 != 0;
        let known = due.is_some_and(|due| is_again && self.memory().settled.get(&due.id) == Some(&due.content));
        batch.dues.extend(due);
        batch.bytes += OVERHEAD;
        if known || publish.retain {
            metrics::bridge_message(if known { "again" } else { "retained" });
            return Ok(());
        }
        metrics::bridge_message("taken");
        let prefix = &self.broker.prefix;
        let place = topic::place(publish.topic, prefix);
        batch.bytes += publish.payload.len();
        batch.parcels.push(Parcel {
            place: match place {
                _ if !is_whole => Place::TooLarge,
                Some(place) => place,
                None => Place::Nowhere(publish.topic.to_owned()),
            },
            bytes: publish.payload,
            content_type: publish.content_type,
            origin: None,
        });
        Ok(())
    }

    fn fly(&self, batch: Batch) -> Flight {
        let intake = Arc::clone(&self.intake);
        Box::pin(async move {
            let kept = parcel::keep(&intake, Door::Bridge, &batch.parcels).await;
            (batch.dues, kept)
        })
    }

    /// Remembers what is durable now.
    fn settle(&self, dues: &[Due]) {
        let mut memory = self.memory();
        for due in dues {
            memory.settled.insert(due.id, due.content);
        }
    }
}

/// A connection.
struct Link<'a, S> {
    bridge: &'a Bridge,
    version: Version,
    reader: ReadHalf<S>,
    writer: WriteHalf<S>,
    inbox: Inbox,
    out: BytesMut,
    batch: Batch,
    flight: Option<Flight>,
    /// Bytes of the batch that is with the log.
    flying: usize,
    granted: Option<Granted>,
    open: Option<metrics::Bridged>,
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Link<'_, S> {
    async fn open(&mut self) -> Result<Welcome, String> {
        let hello = wire::connect(self.version, &self.bridge.broker).map_err(|e| e.to_string())?;
        self.write(&hello).await?;
        let welcome = loop {
            match self.inbox.next().map_err(|e| format!("no MQTT: {e}"))? {
                Some(Piece::Whole(frame)) => break wire::welcome(&frame, self.version),
                Some(Piece::Beginning(_)) => return Err("it answers CONNECT with a message".to_owned()),
                None => self.read().await?,
            }
        };
        let welcome = match welcome {
            Ok(welcome) => welcome,
            Err(Refused::Version) if self.version == Version::V5 => {
                self.bridge.memory().version = Version::V3;
                return Err("it does not speak MQTT 5: trying 3.1.1".to_owned());
            }
            Err(Refused::Version) => return Err("it speaks neither MQTT 5 nor 3.1.1".to_owned()),
            Err(Refused::Otherwise(why)) => return Err(why),
        };
        if !welcome.session_present {
            // Another session: its packet ids are others'.
            self.bridge.memory().settled.clear();
        }
        let asked = wire::subscribe(self.version, &self.bridge.broker.filters()).map_err(|e| e.to_string())?;
        self.write(&asked).await?;
        Ok(welcome)
    }

    async fn exchange(&mut self, welcome: &Welcome, stop: &CancellationToken) -> Result<(), String> {
        let own = self.bridge.broker.keep_alive;
        let keep_alive = welcome.keep_alive.map_or(own, |s| Duration::from_secs(s.into()));
        let mut beat = interval((keep_alive / 2).max(Duration::from_secs(1)));
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut heard = Instant::now();
        loop {
            self.take()?;
            if self.flight.is_none() && !self.batch.is_empty() {
                let batch = std::mem::take(&mut self.batch);
                self.flying = batch.bytes;
                self.flight = Some(self.bridge.fly(batch));
            }
            let has_room = self.batch.bytes + self.flying < self.bridge.broker.bytes_in_flight;
            if !has_room {
                // Nothing is heard because nobody listens.
                heard = Instant::now();
            }
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                came = self.inbox.read(&mut self.reader), if has_room => {
                    if !came.map_err(|e| e.to_string())? {
                        return Err("it closed the connection".to_owned());
                    }
                    heard = Instant::now();
                }
                (dues, kept) = landed(&mut self.flight) => {
                    self.flying = 0;
                    kept.map_err(|e| format!("nothing is acknowledged: {e}"))?;
                    self.bridge.settle(&dues);
                    dues.iter().for_each(|due| wire::acknowledge(due.id, &mut self.out));
                    self.flush().await?;
                }
                _ = beat.tick() => {
                    if heard.elapsed() > keep_alive * 2 {
                        return Err(format!("it has been silent for {} s", heard.elapsed().as_secs()));
                    }
                    self.write(&wire::PING).await?;
                }
            }
        }
    }

    /// Takes the packets that have come.
    fn take(&mut self) -> Result<(), String> {
        while let Some(piece) = self.inbox.next().map_err(|e| format!("no MQTT: {e}"))? {
            let (frame, is_whole) = match piece {
                Piece::Whole(frame) => (frame, true),
                Piece::Beginning(frame) => (frame, false),
            };
            match frame.kind() {
                3 => {
                    let read = packet::read(&frame, self.version).map_err(|e| format!("no MQTT: {e}"))?;
                    let Incoming::Publish(publish) = read else { continue };
                    self.bridge.take(&frame, publish, is_whole, &mut self.batch)?;
                }
                9 => {
                    let filters = self.bridge.broker.filters();
                    if let Some(place) = wire::denied(&frame, self.version, filters.len()) {
                        return Err(format!("it does not grant {} with QoS 1", filters[place]));
                    }
                    self.open = Some(metrics::bridged());
                    if let Some(granted) = self.granted.take() {
                        granted();
                    }
                }
                13 => {}
                14 => {
                    let code = frame.body.first().copied().unwrap_or_default();
                    return Err(format!("it says goodbye with code {code:#04x}"));
                }
                kind => return Err(format!("it sends a packet of type {kind}")),
            }
        }
        Ok(())
    }

    /// The end: what the log has after all is remembered, and acknowledged where the connection still stands.
    async fn close(mut self, well: bool) {
        if let Some(flight) = self.flight.take()
            && let Ok((dues, Ok(()))) = timeout(SETTLE, flight).await
        {
            self.bridge.settle(&dues);
            dues.iter().for_each(|due| wire::acknowledge(due.id, &mut self.out));
        }
        if well {
            self.out.extend_from_slice(&wire::GOODBYE);
            let _ = self.flush().await;
            let _ = timeout(STALL, self.writer.shutdown()).await;
        }
    }

    async fn read(&mut self) -> Result<(), String> {
        match self.inbox.read(&mut self.reader).await {
            Ok(true) => Ok(()),
            Ok(false) => Err("it closed the connection".to_owned()),
            Err(e) => Err(e.to_string()),
        }
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.out.extend_from_slice(bytes);
        self.flush().await
    }

    async fn flush(&mut self) -> Result<(), String> {
        let write = async {
            self.writer.write_all(&self.out).await?;
            self.writer.flush().await
        };
        let written = timeout(STALL, write).await;
        self.out.clear();
        written
            .map_err(|_| "it takes nothing".to_owned())?
            .map_err(|e| e.to_string())
    }
}

/// Waits for the batch that is with the log, where there is one.
async fn landed(flight: &mut Option<Flight>) -> (Vec<Due>, Result<(), LogError>) {
    match flight {
        Some(under_way) => {
            let done = under_way.await;
            *flight = None;
            done
        }
        None => std::future::pending().await,
    }
}
