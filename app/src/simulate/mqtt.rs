//! Sending over MQTT 5 with QoS 1, many messages under way. The packets' bytes are rumqttc's; the connection is ours,
//! because a message counts as sent until its own acknowledgement came, across as many connections as that takes.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use rumqttc::v5::mqttbytes::v5::{
    Connect, ConnectReturnCode, Disconnect, DisconnectReasonCode, Login, Packet, PingReq, PubAck, PubAckReason, Publish,
};
use rumqttc::v5::mqttbytes::{Error as CodecError, QoS};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

use super::delivery::{Answered, Delivery, Message, Verdict};
use super::record::{for_mqtt, topic};
use crate::tls::{self, Wire};

/// Largest packet that is read: answers are small.
const LARGEST: u32 = 64 * 1024;
/// Seconds of silence after which the door may think that we are gone.
const KEEP_ALIVE: u16 = 60;

/// A message under way.
#[derive(Debug)]
struct Under {
    message: Message,
    publish: Publish,
    since: Instant,
}

/// How a connection ended.
enum End {
    /// Everything is answered, and there is no more.
    Done,
    /// Broken: connect again.
    Broken(String),
    /// The door does not let us in.
    Refused(String),
}

/// Delivers messages until there are no more.
pub(super) async fn run(
    delivery: Delivery,
    lane: usize,
    messages: mpsc::Receiver<Message>,
    answers: mpsc::Sender<Answered>,
) {
    let mut publisher = Publisher {
        client_id: format!("fajma-sim-{}-{lane}", std::process::id()),
        delivery,
        messages,
        answers,
        under: BTreeMap::new(),
        waiting: VecDeque::new(),
        last_id: 0,
        closing: false,
        let_in: Instant::now(),
    };
    let mut pause = Duration::from_millis(50);
    loop {
        let begun = Instant::now();
        match publisher.connection().await {
            End::Done => return,
            End::Refused(reason) => return publisher.give_up(&reason).await,
            End::Broken(reason) => {
                tracing::debug!(reason, "connecting again");
                if publisher.let_in.elapsed() > publisher.delivery.patience {
                    return publisher.give_up(&reason).await;
                }
                publisher.give_up_the_old(&reason).await;
                if begun.elapsed() > Duration::from_secs(5) {
                    pause = Duration::from_millis(50);
                }
                sleep(pause).await;
                pause = (pause * 2).min(Duration::from_secs(2));
            }
        }
    }
}

struct Publisher {
    client_id: String,
    delivery: Delivery,
    messages: mpsc::Receiver<Message>,
    answers: mpsc::Sender<Answered>,
    /// By packet id.
    under: BTreeMap<u16, Under>,
    /// From an earlier connection, to be sent again, oldest first.
    waiting: VecDeque<Under>,
    last_id: u16,
    closing: bool,
    /// When the door last let us in, or answered.
    let_in: Instant,
}

impl Publisher {
    /// One connection, from CONNECT to its end.
    async fn connection(&mut self) -> End {
        let opened = timeout(Duration::from_secs(5), self.open()).await;
        let (mut stream, mut input) = match opened {
            Ok(Ok(opened)) => opened,
            Ok(Err(end)) => return end,
            Err(_) => return End::Broken("no answer to CONNECT".to_owned()),
        };
        let mut again: Vec<Under> = std::mem::take(&mut self.under).into_values().collect();
        again.sort_by_key(|under| under.since);
        for under in again.into_iter().rev() {
            self.waiting.push_front(under);
        }
        let end = self.exchange(&mut stream, &mut input).await;
        self.let_in = Instant::now();
        if matches!(end, End::Done) {
            let mut out = BytesMut::new();
            let goodbye = Packet::Disconnect(Disconnect::new(DisconnectReasonCode::NormalDisconnection));
            if goodbye.write(&mut out, None).is_ok() {
                let _ = stream.write_all(&out).await;
            }
            let _ = stream.shutdown().await;
        }
        end
    }

    async fn open(&self) -> Result<(Box<dyn Wire>, BytesMut), End> {
        let broken = |e: String| End::Broken(format!("{}: {e}", self.delivery.target.address));
        let mut stream = tls::connect(&self.delivery.target.address, self.delivery.tls.as_ref())
            .await
            .map_err(End::Broken)?;
        let connect = Connect {
            keep_alive: KEEP_ALIVE,
            client_id: self.client_id.clone(),
            clean_start: true,
            properties: None,
        };
        let login = self.delivery.token.clone().map(|password| Login {
            username: "simulate".to_owned(),
            password,
        });
        let mut out = BytesMut::new();
        Packet::Connect(connect, None, login)
            .write(&mut out, None)
            .map_err(|e| End::Refused(e.to_string()))?;
        stream.write_all(&out).await.map_err(|e| broken(e.to_string()))?;
        let mut input = BytesMut::with_capacity(8192);
        loop {
            match Packet::read(&mut input, Some(LARGEST)) {
                Ok(Packet::ConnAck(ack)) if ack.code == ConnectReturnCode::Success => return Ok((stream, input)),
                Ok(Packet::ConnAck(ack)) => return Err(refused_connection(ack.code)),
                Ok(other) => return Err(End::Refused(format!("an answer to CONNECT was {other:?}"))),
                Err(CodecError::InsufficientBytes(_)) => {}
                Err(e) => return Err(End::Refused(format!("not MQTT 5: {e}"))),
            }
            match stream.read_buf(&mut input).await {
                Ok(0) => return Err(End::Broken("closed".to_owned())),
                Ok(_) => {}
                Err(e) => return Err(broken(e.to_string())),
            }
        }
    }

    async fn exchange(&mut self, stream: &mut Box<dyn Wire>, input: &mut BytesMut) -> End {
        let (mut reader, mut writer) = tokio::io::split(stream);
        let mut out = BytesMut::new();
        let mut beat = interval(Duration::from_secs(1));
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut beats = 0_u64;
        loop {
            self.fill(&mut out);
            if !out.is_empty() {
                if let Err(e) = writer.write_all(&out).await {
                    return End::Broken(e.to_string());
                }
                out.clear();
            }
            if self.closing && self.under.is_empty() && self.waiting.is_empty() {
                return End::Done;
            }
            tokio::select! {
                read = reader.read_buf(input) => match read {
                    Ok(0) => return End::Broken("closed".to_owned()),
                    Ok(_) => if let Err(end) = self.take(input).await { return end },
                    Err(e) => return End::Broken(e.to_string()),
                },
                message = self.messages.recv(), if !self.closing && self.has_room() => match message {
                    Some(message) => self.publish(message, &mut out),
                    None => self.closing = true,
                },
                _ = beat.tick() => {
                    beats += 1;
                    if self.oldest().is_some_and(|since| since.elapsed() > self.delivery.patience) {
                        return End::Broken("no acknowledgement in time".to_owned());
                    }
                    if beats.is_multiple_of(u64::from(KEEP_ALIVE / 3)) {
                        let _ = Packet::PingReq(PingReq).write(&mut out, None);
                    }
                }
            }
        }
    }

    fn has_room(&self) -> bool {
        self.waiting.is_empty() && self.under.len() < self.delivery.window.max(1)
    }

    /// Writes what waits and what has come meanwhile, as far as the window allows.
    fn fill(&mut self, out: &mut BytesMut) {
        while self.under.len() < self.delivery.window.max(1) {
            let Some(under) = self.waiting.pop_front() else { break };
            self.write(under, out);
        }
        while self.has_room() {
            match self.messages.try_recv() {
                Ok(message) => self.publish(message, out),
                Err(_) => break,
            }
        }
    }

    fn publish(&mut self, message: Message, out: &mut BytesMut) {
        let Some(first) = message.records.first() else { return };
        let publish = Publish {
            qos: QoS::AtLeastOnce,
            topic: Bytes::from(topic(first)),
            payload: Bytes::from(for_mqtt(&message.records)),
            ..Publish::default()
        };
        let since = Instant::now();
        self.write(
            Under {
                message,
                publish,
                since,
            },
            out,
        );
    }

    fn write(&mut self, mut under: Under, out: &mut BytesMut) {
        loop {
            self.last_id = self.last_id.checked_add(1).unwrap_or(1);
            if !self.under.contains_key(&self.last_id) {
                break;
            }
        }
        under.publish.pkid = self.last_id;
        // Only packets beyond the protocol's own limit cannot be written; the records' shape keeps far below it.
        let _ = under.publish.write(out);
        self.under.insert(self.last_id, under);
    }

    /// Takes the packets that have come.
    async fn take(&mut self, input: &mut BytesMut) -> Result<(), End> {
        loop {
            match Packet::read(input, Some(LARGEST)) {
                Ok(Packet::PubAck(ack)) => self.acknowledged(&ack).await?,
                Ok(Packet::Disconnect(end)) => return Err(End::Broken(format!("{:?}", end.reason_code))),
                Ok(_) => {}
                Err(CodecError::InsufficientBytes(_)) => return Ok(()),
                Err(e) => return Err(End::Broken(e.to_string())),
            }
        }
    }

    async fn acknowledged(&mut self, ack: &PubAck) -> Result<(), End> {
        let Some(under) = self.under.remove(&ack.pkid) else {
            return Ok(());
        };
        let all = under.message.records.len() as u64;
        let refused = match ack.reason {
            PubAckReason::Success | PubAckReason::NoMatchingSubscribers => told(ack).map(|n| ("rejected", n.min(all))),
            PubAckReason::PayloadFormatInvalid | PubAckReason::TopicNameInvalid => Some(("rejected", all)),
            PubAckReason::NotAuthorized => Some(("unauthorised", all)),
            other => {
                self.waiting.push_back(under);
                return Err(End::Broken(format!("the door cannot take it now: {other:?}")));
            }
        };
        let refused = refused.into_iter().map(|(code, n)| (code.to_owned(), n)).collect();
        let verdict = Verdict::Judged { refused, duplicates: 0 };
        self.answer(under, verdict).await;
        Ok(())
    }

    async fn answer(&self, under: Under, verdict: Verdict) {
        let took = under.since.elapsed();
        let message = under.message;
        let _ = self.answers.send(Answered { message, verdict, took }).await;
    }

    fn oldest(&self) -> Option<Instant> {
        self.under.values().map(|u| u.since).min()
    }

    /// Answers for messages that have waited longer than one waits.
    async fn give_up_the_old(&mut self, reason: &str) {
        let under = std::mem::take(&mut self.under).into_values();
        let all: Vec<Under> = under.chain(std::mem::take(&mut self.waiting)).collect();
        for under in all {
            if under.since.elapsed() > self.delivery.patience {
                self.answer(under, Verdict::Unanswered(reason.to_owned())).await;
            } else {
                self.waiting.push_back(under);
            }
        }
    }

    /// Answers for everything, now and to come.
    async fn give_up(&mut self, reason: &str) {
        let under = std::mem::take(&mut self.under).into_values();
        let all: Vec<Under> = under.chain(std::mem::take(&mut self.waiting)).collect();
        for under in all {
            self.answer(under, Verdict::Unanswered(reason.to_owned())).await;
        }
        while let Some(message) = self.messages.recv().await {
            let verdict = Verdict::Unanswered(reason.to_owned());
            let took = Duration::ZERO;
            let _ = self.answers.send(Answered { message, verdict, took }).await;
        }
    }
}

/// How many records of the message were refused, where the door says so.
fn told(ack: &PubAck) -> Option<u64> {
    let properties = ack.properties.as_ref()?;
    let (_, n) = properties.user_properties.iter().find(|(name, _)| name == "rejected")?;
    n.parse().ok().filter(|n| *n > 0)
}

fn refused_connection(code: ConnectReturnCode) -> End {
    match code {
        ConnectReturnCode::BadUserNamePassword | ConnectReturnCode::NotAuthorized | ConnectReturnCode::Banned => {
            End::Refused("the door asks for another token (--token or FAJMA_TOKEN)".to_owned())
        }
        ConnectReturnCode::ServerBusy | ConnectReturnCode::ServerUnavailable | ConnectReturnCode::QuotaExceeded => {
            End::Broken(format!("{code:?}"))
        }
        other => End::Refused(format!("the door refuses the connection: {other:?}")),
    }
}
