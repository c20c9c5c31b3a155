//! From the first byte to CONNACK: who it is, whether they may, and which session they have.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::BytesMut;
use mqtt_protocol_core::mqtt::result_code::ConnectReasonCode as Code;
use schemas::access::Principal;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use super::connect::{self, Connect, Unfit};
use super::packet::Version;
use super::sessions::{Attached, Busy, Holder};
use super::will::Testament;
use super::wire::{self, Welcome, Wire};
use super::{MqttDoor, frame, metrics};

/// Bytes of the longest client id.
const LONGEST_CLIENT_ID: usize = 256;

/// A client that is let in.
#[derive(Debug)]
pub(super) struct Guest {
    pub(super) wire: Wire,
    pub(super) attached: Attached,
    pub(super) principal: Principal,
    pub(super) token: String,
    pub(super) will: Option<Testament>,
    /// How long the session is kept after the connection.
    pub(super) keep: Duration,
    /// The client is gone when it is silent for so long; `None` for never.
    pub(super) patience: Option<Duration>,
    /// Messages it takes at once.
    pub(super) receive_maximum: u16,
}

/// Reads CONNECT and answers it; `None` where nobody is let in (an answer was given where there is one to give).
pub(super) async fn login<S>(
    door: &Arc<MqttDoor>,
    io: &mut S,
    input: &mut BytesMut,
    deadline: Instant,
    stop: &CancellationToken,
) -> Option<Guest>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let read = timeout_at(deadline, first_packet(io, input, door.limits.packet_bytes));
    let first = tokio::select! {
        first = read => first,
        () = stop.cancelled() => return None,
    };
    let frame = match first {
        Ok(Ok(frame)) => frame,
        Ok(Err(why)) => {
            metrics::turned_away(why);
            return None;
        }
        Err(_) => {
            metrics::turned_away("timeout");
            return None;
        }
    };
    let mut out = BytesMut::new();
    let guest = match connect::read(&frame) {
        Ok(connect) => admit(door, connect, &mut out).await,
        Err(Unfit::NoMqtt) => {
            metrics::turned_away("no_mqtt");
            None
        }
        Err(Unfit::OtherVersion) => {
            // 0x84 as MQTT 5 says it to versions it does not know; older clients read the first code as theirs.
            let version = if is_older(&frame.body) {
                Version::V3
            } else {
                Version::V5
            };
            refuse(version, Code::UnsupportedProtocolVersion, &mut out);
            None
        }
        Err(Unfit::Refused(version, code)) => {
            refuse(version, code, &mut out);
            None
        }
    };
    let written = timeout(door.limits.write_timeout, async {
        io.write_all(&out).await?;
        io.flush().await
    });
    match written.await {
        Ok(Ok(())) => guest,
        // The session, where one was given, is left as it is when the guest is dropped.
        _ => None,
    }
}

/// A protocol level below 4 (`MQIsdp` has 3).
fn is_older(body: &[u8]) -> bool {
    body.starts_with(b"\0\x06MQIsdp") || body.get(6).is_some_and(|level| *level < 4)
}

async fn first_packet<S: AsyncRead + Unpin>(
    io: &mut S,
    input: &mut BytesMut,
    limit: usize,
) -> Result<frame::Frame, &'static str> {
    loop {
        // Whatever else it is: it is no CONNECT.
        if input.first().is_some_and(|first| *first != 0x10) {
            return Err("no_mqtt");
        }
        match frame::take(input, limit) {
            Ok(Some(frame)) => return Ok(frame),
            Ok(None) => {}
            Err(_) => return Err("no_mqtt"),
        }
        match io.read_buf(input).await {
            Ok(n) if n > 0 => {}
            _ => return Err("silent"),
        }
    }
}

fn refuse(version: Version, code: Code, out: &mut BytesMut) {
    metrics::turned_away(code);
    // A 3.1.1 client that breaks the rules is closed without a word (MQTT 3.1.1 §3.1.4).
    if version == Version::V5 || wire::connect_return_code(code) != 0 {
        wire::refusal(version, code, out);
    }
}

async fn admit(door: &Arc<MqttDoor>, connect: Connect, out: &mut BytesMut) -> Option<Guest> {
    let version = connect.version;
    match judge(door, connect).await {
        Ok((guest, welcome)) => {
            let welcome = Welcome {
                session_present: guest.attached.present,
                assigned: welcome.assigned.then(|| guest.attached.client()),
                expiry: welcome.expiry,
            };
            guest.wire.welcome(&welcome, &door.limits, out).ok()?;
            Some(guest)
        }
        Err(code) => {
            refuse(version, code, out);
            None
        }
    }
}

/// What CONNACK has to say beside "welcome".
struct Terms {
    assigned: bool,
    expiry: Option<u32>,
}

async fn judge(door: &Arc<MqttDoor>, connect: Connect) -> Result<(Guest, Terms), Code> {
    if connect.method {
        return Err(Code::BadAuthenticationMethod);
    }
    // By a wrong clock tokens are not good either.
    if let Some(why) = door.intake.hindrance() {
        tracing::debug!(why, "nobody is let in");
        return Err(Code::ServerUnavailable);
    }
    let token = connect
        .password
        .and_then(|p| String::from_utf8(p).ok())
        .ok_or(Code::BadUserNameOrPassword)?;
    let principal = door
        .tokens
        .authenticate(&token, door.intake.clock().now())
        .map_err(|_| Code::BadUserNameOrPassword)?;
    let assigned = connect.client.is_empty();
    if connect.client.len() > LONGEST_CLIENT_ID || (assigned && connect.version == Version::V3 && !connect.clean) {
        return Err(Code::ClientIdentifierNotValid);
    }
    let client = if assigned { door.new_client_id() } else { connect.client };
    let checked = |will| Testament::checked(will, connect.version, &principal, door.limits.will_bytes);
    let will = connect.will.map(checked).transpose()?;
    let holder = Holder {
        subject: principal.subject.clone(),
        client,
    };
    let attached = door
        .sessions
        .attach(holder, principal.clone(), connect.clean, door.limits.settle * 2)
        .await
        .map_err(|Busy| Code::ServerBusy)?;
    let longest = u32::try_from(door.limits.session_expiry.as_secs()).unwrap_or(u32::MAX);
    let keep = connect.expiry.unwrap_or(longest).min(longest);
    let guest = Guest {
        wire: Wire {
            version: connect.version,
            packet_bytes: connect.packet_bytes,
            problem_information: connect.problem_information,
        },
        attached,
        principal,
        token,
        will,
        keep: Duration::from_secs(keep.into()),
        patience: (connect.keep_alive > 0).then(|| Duration::from_millis(u64::from(connect.keep_alive) * 1500)),
        receive_maximum: connect.receive_maximum,
    };
    let expiry = connect.expiry.is_some_and(|asked| asked > longest).then_some(longest);
    Ok((guest, Terms { assigned, expiry }))
}

impl MqttDoor {
    /// A client id for one who brings none: never given twice by this process.
    fn new_client_id(&self) -> String {
        let n = self.next_client.fetch_add(1, Ordering::Relaxed);
        format!("fajma-{:x}-{n:x}", self.began.0)
    }
}
