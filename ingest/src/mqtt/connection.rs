//! One connection after login: reads what the socket has, judges it, hands it to the log batch by batch, answers in
//! order when it is durable, and hands alerts out. Reading, writing and waiting for the log go on side by side.

use std::collections::HashSet;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use eventlog::LogError;
use mqtt_protocol_core::mqtt::packet::Qos;
use mqtt_protocol_core::mqtt::result_code::{DisconnectReasonCode as Reason, SubackReasonCode};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::flow::{self, Pushed, next_chunk, push};
use super::gather::{Batch, Due, Gather};
use super::login::{self, Guest};
use super::packet::{self, Answer, Incoming, Publish, Version};
use super::session::Window;
use super::topic::{self, Grant};
use super::wire::{PUBACK, PUBCOMP, PUBREC, Wire};
use super::{MqttDoor, frame, metrics};
use crate::intake::Receipt;

/// Bytes that a permit of the door's memory stands for.
pub(super) const PERMIT: usize = 1 << 10;
/// Messages beyond the promised number that are read before reading stops, so that who breaks the promise is told.
const GRACE: usize = 1024;

/// Why a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// DISCONNECT; with the will all the same, where it says so.
    Farewell { with_will: bool },
    /// The network broke.
    Lost,
    /// The client broke the rules, or we had to end it.
    Broken(Reason),
    /// Another connection wants the session.
    TakenOver,
    /// The door stops.
    Stopping,
    /// Nothing was taken of what we wrote for too long.
    Stuck,
}

type Submission = Pin<Box<dyn Future<Output = Result<Vec<Receipt>, LogError>> + Send>>;

/// A batch that is with the log.
pub(super) struct Submitted {
    pub(super) answer: Submission,
    pub(super) dues: Vec<Due>,
    cost: usize,
    _permit: Option<OwnedSemaphorePermit>,
}

/// A connection's state beside its socket.
pub(super) struct Connection {
    pub(super) door: Arc<MqttDoor>,
    pub(super) guest: Guest,
    pub(super) gather: Gather,
    pub(super) submitted: Option<Submitted>,
    /// Written, but not yet taken by the client.
    pub(super) out: BytesMut,
    /// QoS 2 messages answered on this connection and not yet released.
    unreleased: HashSet<u16>,
    heard: Instant,
    taken: Instant,
    judged: Instant,
    stalled: bool,
}

/// Serves one connection from its first byte to its end.
pub(super) async fn serve<S>(
    door: Arc<MqttDoor>,
    mut io: S,
    mut input: BytesMut,
    peer: SocketAddr,
    deadline: Instant,
    stop: CancellationToken,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let Some(guest) = login::login(&door, &mut io, &mut input, deadline, &stop).await else {
        let _ = tokio::time::timeout(Duration::from_secs(1), io.shutdown()).await;
        return;
    };
    let mut connection = Connection::new(door, guest);
    let end = connection.run(&mut io, &mut input, &stop).await;
    drop(input);
    tracing::debug!(%peer, client = connection.guest.attached.client(), ?end, "a connection ended");
    connection.close(io, end).await;
}

impl Connection {
    fn new(door: Arc<MqttDoor>, guest: Guest) -> Self {
        let now = Instant::now();
        let limits = &door.limits;
        let gather = Gather::new(
            guest.wire.version,
            guest.principal.clone(),
            limits.topic_aliases,
            limits.messages_in_flight,
        );
        Self {
            door,
            guest,
            gather,
            submitted: None,
            out: BytesMut::new(),
            unreleased: HashSet::new(),
            heard: now,
            taken: now,
            judged: now,
            stalled: false,
        }
    }

    fn wire(&self) -> Wire {
        self.guest.wire
    }

    async fn run<S>(&mut self, io: &mut S, input: &mut BytesMut, stop: &CancellationToken) -> End
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let (mut reader, mut writer) = tokio::io::split(io);
        let seat = Arc::clone(&self.guest.attached.seat);
        let mut unflushed = false;
        let memory = Arc::clone(&self.door.memory);
        let mut starved = false;
        let mut chunk = flow::CHUNKS.0;
        let wanted: Vec<String> = {
            let mut session = seat.session();
            session.resume(&self.guest.wire, &mut self.out);
            session.filters().map(str::to_owned).collect()
        };
        self.door.listened(&seat.session(), &wanted);
        self.hand_out();
        // The client may have sent more than CONNECT.
        let mut fresh = !input.is_empty();
        loop {
            if fresh {
                fresh = false;
                if let Err(end) = self.read(input) {
                    return end;
                }
                starved = !self.borrow_memory();
            }
            self.submit();
            let may_read = !starved && self.has_room();
            if !may_read {
                // A client that is not read from cannot be heard.
                self.heard = Instant::now();
            }
            self.note_stall(!may_read);
            input.reserve(if may_read { chunk } else { 0 });
            let spare = input.capacity() - input.len();
            let alarm = self.alarm();
            tokio::select! {
                biased;
                () = self.guest.attached.taken_over() => return End::TakenOver,
                () = stop.cancelled() => return End::Stopping,
                answer = settled(&mut self.submitted), if self.submitted.is_some() => {
                    if let Err(reason) = self.settle(answer) {
                        return End::Broken(reason);
                    }
                    self.hand_out();
                }
                pushed = push(&mut writer, &mut self.out), if unflushed || !self.out.is_empty() => match pushed {
                    Ok(Pushed::Some) => {
                        self.taken = Instant::now();
                        unflushed = true;
                        if self.out.is_empty() {
                            self.hand_out();
                        }
                    }
                    Ok(Pushed::All) => unflushed = false,
                    Err(_) => return End::Lost,
                },
                () = seat.wake.notified() => self.hand_out(),
                // What was read has gone to the log all the same; when others have let go of theirs, there is room for
                // more. The permit itself is given back at once.
                _ = memory.acquire(), if starved => starved = false,
                () = tokio::time::sleep_until(alarm) => {
                    if let Some(end) = self.overdue() {
                        return end;
                    }
                }
                read = reader.read_buf(input), if may_read => match read {
                    Ok(n) if n > 0 => {
                        fresh = true;
                        chunk = next_chunk(chunk, n, spare);
                    }
                    _ => return End::Lost,
                },
            }
        }
    }

    /// Whether more may be read: neither the log, nor memory, nor the client's own reading is behind.
    fn has_room(&self) -> bool {
        let limits = &self.door.limits;
        let (messages, cost) = self.submitted.as_ref().map_or((0, 0), |s| (s.dues.len(), s.cost));
        let messages = messages + self.gather.batch.dues.len();
        messages < usize::from(limits.messages_in_flight) + if self.wire().version == Version::V5 { GRACE } else { 0 }
            && cost + self.gather.batch.cost < limits.bytes_in_flight
            && self.out.len() < limits.unsent_bytes
    }

    fn note_stall(&mut self, stalled: bool) {
        if stalled && !self.stalled {
            metrics::stalled();
        }
        self.stalled = stalled;
    }

    /// Takes every whole packet off the input.
    fn read(&mut self, input: &mut BytesMut) -> Result<(), End> {
        if self.guest.principal.is_revoked() {
            return Err(End::Broken(Reason::NotAuthorized));
        }
        while let Some(frame) = frame::take(input, self.door.limits.packet_bytes).map_err(End::Broken)? {
            self.heard = Instant::now();
            let version = self.wire().version;
            match packet::read(&frame, version).map_err(End::Broken)? {
                Incoming::Publish(publish) => self.publish(publish).map_err(End::Broken)?,
                Incoming::Answer(answer) if answer.kind == 6 => self.release(answer).map_err(End::Broken)?,
                Incoming::Answer(answer) => {
                    self.guest
                        .attached
                        .seat
                        .session()
                        .answered(answer, &self.guest.wire, &mut self.out);
                    self.hand_out();
                }
                Incoming::Subscribe { id, filters } => self.subscribe(id, filters).map_err(End::Broken)?,
                Incoming::Unsubscribe { id, filters } => self.unsubscribe(id, &filters).map_err(End::Broken)?,
                Incoming::Ping => Wire::pong(&mut self.out),
                Incoming::Disconnect {
                    with_will,
                    session_expiry,
                } => {
                    self.change_expiry(session_expiry).map_err(End::Broken)?;
                    return Err(End::Farewell { with_will });
                }
            }
        }
        Ok(())
    }

    fn publish(&mut self, publish: Publish<'_>) -> Result<(), Reason> {
        if self.gather.is_waiting(&publish) {
            // Answered once, when the first one is durable.
            return Ok(());
        }
        let known =
            publish.qos == Qos::ExactlyOnce && self.guest.attached.seat.session().received.contains(&publish.id);
        self.gather.take(publish, known, &self.door.intake)
    }

    /// PUBREL: the client will not send this message again.
    fn release(&mut self, answer: Answer) -> Result<(), Reason> {
        const NOT_FOUND: u8 = 0x92;
        if self.gather.waiting.contains(&answer.id) {
            // Nobody releases what has not been answered.
            return Err(Reason::ProtocolError);
        }
        let found = self.guest.attached.seat.session().received.remove(&answer.id);
        if self.unreleased.remove(&answer.id) {
            self.gather.closed(1);
        }
        let code = if found || self.wire().version == Version::V3 {
            0
        } else {
            NOT_FOUND
        };
        self.wire().answer(PUBCOMP, answer.id, code, 0, &mut self.out);
        Ok(())
    }

    fn subscribe(&mut self, id: u16, filters: Vec<(String, Qos)>) -> Result<(), Reason> {
        if filters.iter().any(|(filter, _)| !topic::is_filter(filter)) {
            return Err(Reason::MalformedPacket);
        }
        let limit = self.door.limits.subscriptions;
        let asked: Vec<_> = filters
            .iter()
            .filter_map(|(filter, _)| topic::consultation(filter))
            .collect();
        let wanted: Vec<String> = filters.iter().map(|(filter, _)| filter.clone()).collect();
        let mut session = self.guest.attached.seat.session();
        let codes = filters
            .into_iter()
            .map(|(filter, qos)| match topic::grant(&filter, &session.principal) {
                Grant::Yes if topic::consultation(&filter).is_some() && !self.door.realtime.is_there() => {
                    SubackReasonCode::TopicFilterInvalid
                }
                Grant::Yes if !session.subscribe(filter, qos, limit) => SubackReasonCode::QuotaExceeded,
                Grant::Yes => match qos {
                    Qos::AtMostOnce => SubackReasonCode::GrantedQos0,
                    Qos::AtLeastOnce => SubackReasonCode::GrantedQos1,
                    Qos::ExactlyOnce => SubackReasonCode::GrantedQos2,
                },
                Grant::Denied => SubackReasonCode::NotAuthorized,
                Grant::Nowhere => SubackReasonCode::TopicFilterInvalid,
                Grant::Shared => SubackReasonCode::SharedSubscriptionsNotSupported,
            })
            .collect();
        drop(session);
        self.guest.attached.listens();
        self.door.listened(&self.guest.attached.seat.session(), &wanted);
        for told in asked.into_iter().filter_map(|id| self.door.realtime.listened(id)) {
            let stop = self.door.stop.clone();
            self.door.tasks.spawn(stop.run_until_cancelled_owned(told));
        }
        self.wire().suback(id, codes, &mut self.out).map_err(packet::reason)
    }

    fn unsubscribe(&mut self, id: u16, filters: &[String]) -> Result<(), Reason> {
        if filters.iter().any(|filter| !topic::is_filter(filter)) {
            return Err(Reason::MalformedPacket);
        }
        let mut session = self.guest.attached.seat.session();
        let found: Vec<bool> = filters.iter().map(|filter| session.unsubscribe(filter)).collect();
        drop(session);
        self.guest.attached.listens();
        self.wire().unsuback(id, &found, &mut self.out).map_err(packet::reason)
    }

    /// A session that was to end with its connection cannot be kept after all (MQTT 5 §3.14.2.2.2).
    fn change_expiry(&mut self, seconds: Option<u32>) -> Result<(), Reason> {
        let Some(seconds) = seconds else { return Ok(()) };
        if self.guest.keep.is_zero() && seconds > 0 {
            return Err(Reason::ProtocolError);
        }
        self.guest.keep = Duration::from_secs(seconds.into()).min(self.door.limits.session_expiry);
        Ok(())
    }

    /// Hands what is gathered to the log, where nothing of ours is there already.
    pub(super) fn submit(&mut self) {
        if self.submitted.is_some() || self.gather.batch.is_empty() {
            return;
        }
        let Batch {
            verdicts,
            dues,
            cost,
            permit,
            ..
        } = {
            self.gather.batch.count();
            std::mem::take(&mut self.gather.batch)
        };
        let intake = Arc::clone(&self.door.intake);
        self.submitted = Some(Submitted {
            answer: Box::pin(async move { intake.submit(verdicts).await }),
            dues,
            cost,
            _permit: permit,
        });
    }

    /// Answers a batch of which the log has spoken.
    ///
    /// # Errors
    /// The reason to end the connection, where nothing may be acknowledged.
    pub(super) fn settle(&mut self, answer: Result<Vec<Receipt>, LogError>) -> Result<(), Reason> {
        let Some(Submitted { dues, .. }) = self.submitted.take() else {
            return Ok(());
        };
        let receipts = answer.map_err(|error| {
            tracing::warn!(%error, client = self.guest.attached.client(), "not acknowledged: the log did not take it");
            match error {
                LogError::Full(_) => Reason::QuotaExceeded,
                _ => Reason::ServerBusy,
            }
        })?;
        let wire = self.wire();
        let mut session = self.guest.attached.seat.session();
        for answered in Batch::answers(dues, &receipts) {
            let (id, code) = (answered.due.id, answered.code);
            match answered.due.qos {
                Qos::AtMostOnce => {}
                Qos::AtLeastOnce => {
                    self.gather.closed(1);
                    wire.answer(PUBACK, id, code, answered.rejected, &mut self.out);
                }
                Qos::ExactlyOnce => {
                    self.gather.waiting.remove(&id);
                    if wire.version == Version::V5 && code >= 0x80 {
                        // The id is free again (MQTT 5 §4.3.3).
                        self.gather.closed(1);
                        session.received.remove(&id);
                    } else {
                        session.received.insert(id);
                        self.unreleased.insert(id);
                    }
                    wire.answer(PUBREC, id, code, answered.rejected, &mut self.out);
                }
            }
        }
        Ok(())
    }

    /// Takes a share of the door's memory for what is gathered; `false` where there is not enough.
    fn borrow_memory(&mut self) -> bool {
        let held = self
            .gather
            .batch
            .permit
            .as_ref()
            .map_or(0, OwnedSemaphorePermit::num_permits);
        let all = (self.door.limits.total_bytes_in_flight / PERMIT).max(1);
        let needed = self.gather.batch.cost.div_ceil(PERMIT).min(all).saturating_sub(held);
        let needed = u32::try_from(needed).unwrap_or(u32::MAX);
        if needed == 0 {
            return true;
        }
        let Ok(more) = Arc::clone(&self.door.memory).try_acquire_many_owned(needed) else {
            return false;
        };
        match &mut self.gather.batch.permit {
            Some(held) => held.merge(more),
            none => *none = Some(more),
        }
        true
    }

    /// Writes alerts that wait for this client, as far as it takes them.
    fn hand_out(&mut self) {
        let limits = &self.door.limits;
        let window = Window {
            flights: self.guest.receive_maximum.min(limits.alerts_in_flight).into(),
            unsent: limits.unsent_bytes,
        };
        let (sent, too_large) = self
            .guest
            .attached
            .seat
            .session()
            .drain(&self.guest.wire, window, &mut self.out);
        metrics::alerts("sent", sent);
        metrics::alerts("too_large", too_large);
    }

    /// The next moment at which something may be overdue.
    fn alarm(&self) -> Instant {
        let limits = &self.door.limits;
        let mut alarm = self.judged + limits.reauthenticate;
        if let Some(patience) = self.guest.patience {
            alarm = alarm.min(self.heard + patience);
        }
        if !self.out.is_empty() {
            alarm = alarm.min(self.taken + limits.write_timeout);
        }
        alarm
    }

    fn overdue(&mut self) -> Option<End> {
        let now = Instant::now();
        let limits = &self.door.limits;
        if !self.out.is_empty() && now >= self.taken + limits.write_timeout {
            return Some(End::Stuck);
        }
        if self.guest.patience.is_some_and(|patience| now >= self.heard + patience) {
            return Some(End::Broken(Reason::KeepAliveTimeout));
        }
        if now >= self.judged + limits.reauthenticate {
            self.judged = now;
            if self.door.intake.hindrance().is_some() {
                return Some(End::Broken(Reason::ServerBusy));
            }
            let clock = self.door.intake.clock().now();
            if self.door.tokens.authenticate(&self.guest.token, clock).is_err() {
                return Some(End::Broken(Reason::NotAuthorized));
            }
        }
        None
    }
}

async fn settled(submitted: &mut Option<Submitted>) -> Result<Vec<Receipt>, LogError> {
    match submitted {
        Some(submitted) => (&mut submitted.answer).await,
        None => std::future::pending().await,
    }
}
