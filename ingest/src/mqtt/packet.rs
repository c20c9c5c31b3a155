//! What a client says, read from whole packets.
//!
//! PUBLISH is read here, without copying anything, because nearly every packet is one; properties, SUBSCRIBE,
//! UNSUBSCRIBE and DISCONNECT are read by `mqtt-protocol-core`. What it lets pass is refused here: packet id 0, NUL in
//! texts, a missing property length, properties of other packets.

use bytes::Bytes;
use mqtt_protocol_core::mqtt::packet::{Properties, PropertiesParse, Property, PropertyId, Qos, v3_1_1, v5_0};
use mqtt_protocol_core::mqtt::prelude::PropertyValueAccess;
use mqtt_protocol_core::mqtt::result_code::{DisconnectReasonCode as Reason, MqttError};

use super::frame::Frame;

/// The version a client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    /// MQTT 3.1.1.
    V3,
    /// MQTT 5.
    V5,
}

/// A packet after CONNECT.
#[derive(Debug)]
pub(super) enum Incoming<'a> {
    Publish(Publish<'a>),
    /// An answer to something we sent.
    Answer(Answer),
    Subscribe {
        id: u16,
        filters: Vec<(String, Qos)>,
    },
    Unsubscribe {
        id: u16,
        filters: Vec<String>,
    },
    Ping,
    Disconnect {
        /// Whether the last will is to be sent all the same.
        with_will: bool,
        /// A new session expiry, in seconds.
        session_expiry: Option<u32>,
    },
}

/// PUBACK, PUBREC, PUBREL or PUBCOMP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Answer {
    /// The packet's type, 4–7.
    pub(super) kind: u8,
    /// Which message.
    pub(super) id: u16,
    /// Whether the reason says that it failed.
    pub(super) failed: bool,
}

/// A message from a client.
#[derive(Debug)]
pub(super) struct Publish<'a> {
    /// As sent: empty where an alias stands for it.
    pub(super) topic: &'a str,
    pub(super) qos: Qos,
    pub(super) retain: bool,
    /// 0 for QoS 0.
    pub(super) id: u16,
    pub(super) alias: Option<u16>,
    pub(super) content_type: Option<String>,
    pub(super) payload: Bytes,
}

/// Reads a packet that is no CONNECT.
///
/// # Errors
/// Why the connection has to end.
pub(super) fn read(frame: &Frame, version: Version) -> Result<Incoming<'_>, Reason> {
    let body: &[u8] = &frame.body;
    match frame.kind() {
        3 => publish(frame, version).map(Incoming::Publish),
        kind @ 4..=7 => answer(kind, body, version).map(Incoming::Answer),
        8 => subscribe(body, version),
        10 => unsubscribe(body, version),
        12 if body.is_empty() => Ok(Incoming::Ping),
        12 => Err(Reason::MalformedPacket),
        14 => disconnect(body, version),
        // A second CONNECT, AUTH without a method, and what only servers send.
        _ => Err(Reason::ProtocolError),
    }
}

fn publish(frame: &Frame, version: Version) -> Result<Publish<'_>, Reason> {
    let mut rest: &[u8] = &frame.body;
    let topic = text(&mut rest)?;
    let qos = Qos::try_from((frame.first >> 1) & 3).map_err(|_| Reason::MalformedPacket)?;
    let id = if qos == Qos::AtMostOnce {
        0
    } else {
        packet_id(&mut rest)?
    };
    let (mut alias, mut content_type) = (None, None);
    if version == Version::V5 {
        for property in properties(&mut rest, &PUBLISH)? {
            match property {
                Property::TopicAlias(a) => alias = Some(a.val()),
                Property::ContentType(_) => content_type = property.as_str().map(str::to_owned),
                _ => {}
            }
        }
    }
    let payload = frame.body.slice(frame.body.len() - rest.len()..);
    Ok(Publish {
        topic,
        qos,
        retain: frame.first & 1 != 0,
        id,
        alias,
        content_type,
        payload,
    })
}

fn answer(kind: u8, body: &[u8], version: Version) -> Result<Answer, Reason> {
    let mut rest = body;
    let id = packet_id(&mut rest)?;
    let mut failed = false;
    if version == Version::V5 && !rest.is_empty() {
        failed = byte(&mut rest)? >= 0x80;
        if !rest.is_empty() {
            properties(&mut rest, &ANSWER)?;
        }
    }
    if rest.is_empty() {
        Ok(Answer { kind, id, failed })
    } else {
        Err(Reason::MalformedPacket)
    }
}

fn subscribe(body: &[u8], version: Version) -> Result<Incoming<'static>, Reason> {
    packet_id(&mut &*body)?;
    let (id, entries) = match version {
        Version::V3 => {
            let (packet, _) = v3_1_1::Subscribe::parse(body).map_err(reason)?;
            (packet.packet_id(), packet.entries().clone())
        }
        Version::V5 => {
            let (packet, _) = v5_0::Subscribe::parse(body).map_err(reason)?;
            if packet
                .props()
                .iter()
                .any(|p| p.id() == PropertyId::SubscriptionIdentifier)
            {
                return Err(Reason::SubscriptionIdentifiersNotSupported);
            }
            (packet.packet_id(), packet.entries().clone())
        }
    };
    let filters = entries
        .iter()
        .map(|e| (e.topic_filter().to_owned(), e.sub_opts().qos()))
        .collect();
    Ok(Incoming::Subscribe { id, filters })
}

fn unsubscribe(body: &[u8], version: Version) -> Result<Incoming<'static>, Reason> {
    packet_id(&mut &*body)?;
    let (id, entries) = match version {
        Version::V3 => {
            let (packet, _) = v3_1_1::Unsubscribe::parse(body).map_err(reason)?;
            (packet.packet_id(), packet.entries().clone())
        }
        Version::V5 => {
            let (packet, _) = v5_0::Unsubscribe::parse(body).map_err(reason)?;
            (packet.packet_id(), packet.entries().clone())
        }
    };
    let filters = entries.iter().map(|e| e.as_str().to_owned()).collect();
    Ok(Incoming::Unsubscribe { id, filters })
}

fn disconnect(body: &[u8], version: Version) -> Result<Incoming<'static>, Reason> {
    if body.is_empty() {
        return Ok(Incoming::Disconnect {
            with_will: false,
            session_expiry: None,
        });
    }
    if version == Version::V3 {
        return Err(Reason::MalformedPacket);
    }
    let (packet, read) = v5_0::Disconnect::parse(body).map_err(reason)?;
    if read != body.len() {
        return Err(Reason::MalformedPacket);
    }
    let session_expiry = packet.props().iter().flatten().find_map(|p| match p {
        Property::SessionExpiryInterval(seconds) => Some(seconds.val()),
        _ => None,
    });
    // 0x00 is a farewell; any other reason means that something went wrong, and the will says so (MQTT 5 §3.1.2.5).
    let with_will = packet.reason_code().is_some_and(|r| r != Reason::NormalDisconnection);
    Ok(Incoming::Disconnect {
        with_will,
        session_expiry,
    })
}

/// What the library found wrong, as a reason to end a connection.
pub(super) fn reason(error: MqttError) -> Reason {
    match error {
        MqttError::ProtocolError => Reason::ProtocolError,
        _ => Reason::MalformedPacket,
    }
}

const PUBLISH: [PropertyId; 7] = [
    PropertyId::PayloadFormatIndicator,
    PropertyId::MessageExpiryInterval,
    PropertyId::TopicAlias,
    PropertyId::ResponseTopic,
    PropertyId::CorrelationData,
    PropertyId::UserProperty,
    PropertyId::ContentType,
];
const ANSWER: [PropertyId; 2] = [PropertyId::ReasonString, PropertyId::UserProperty];

/// Takes properties off the front: those of `allowed`, each at most once but for user properties.
pub(super) fn properties(rest: &mut &[u8], allowed: &[PropertyId]) -> Result<Properties, Reason> {
    if let Some((0, after)) = rest.split_first() {
        *rest = after;
        return Ok(Properties::new());
    }
    let (properties, read) = Properties::parse(rest).map_err(reason)?;
    for (i, property) in properties.iter().enumerate() {
        let id = property.id();
        let repeated = id != PropertyId::UserProperty && properties[..i].iter().any(|p| p.id() == id);
        if repeated || !allowed.contains(&id) {
            return Err(Reason::ProtocolError);
        }
        if property.as_str().is_some_and(|t| t.contains('\0')) {
            return Err(Reason::MalformedPacket);
        }
    }
    *rest = rest.get(read..).ok_or(Reason::MalformedPacket)?;
    Ok(properties)
}

/// Takes one byte.
pub(super) fn byte(rest: &mut &[u8]) -> Result<u8, Reason> {
    let (first, after) = rest.split_first().ok_or(Reason::MalformedPacket)?;
    *rest = after;
    Ok(*first)
}

/// Takes a 16-bit number.
pub(super) fn number(rest: &mut &[u8]) -> Result<u16, Reason> {
    let (head, after) = rest.split_first_chunk::<2>().ok_or(Reason::MalformedPacket)?;
    *rest = after;
    Ok(u16::from_be_bytes(*head))
}

/// Takes a packet id, which is never 0.
fn packet_id(rest: &mut &[u8]) -> Result<u16, Reason> {
    match number(rest)? {
        0 => Err(Reason::ProtocolError),
        id => Ok(id),
    }
}

/// Takes bytes with their length before them.
pub(super) fn binary<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], Reason> {
    let length = usize::from(number(rest)?);
    let (head, after) = rest.split_at_checked(length).ok_or(Reason::MalformedPacket)?;
    *rest = after;
    Ok(head)
}

/// Takes a text: UTF-8 without NUL.
pub(super) fn text<'a>(rest: &mut &'a [u8]) -> Result<&'a str, Reason> {
    let text = std::str::from_utf8(binary(rest)?).map_err(|_| Reason::MalformedPacket)?;
    if text.contains('\0') {
        Err(Reason::MalformedPacket)
    } else {
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(first: u8, body: &[u8]) -> Frame {
        Frame {
            first,
            body: Bytes::copy_from_slice(body),
        }
    }

    #[test]
    fn a_publish_is_read_with_its_alias_and_label() {
        let frame = frame(0x3a, b"\0\x01t\0\x07\x0d\x23\0\x03\x03\0\x07a/jsonxbody");
        let Ok(Incoming::Publish(p)) = read(&frame, Version::V5) else {
            panic!("no publish")
        };
        assert_eq!((p.topic, p.id, p.retain, p.alias), ("t", 7, false, Some(3)));
        assert_eq!(
            (p.content_type.as_deref(), &p.payload[..]),
            (Some("a/jsonx"), &b"body"[..])
        );
    }

    #[test]
    fn what_cannot_be_is_refused_with_its_reason() {
        use Reason::{MalformedPacket as M, ProtocolError as P};
        for (first, body, version, expected) in [
            (0x32, &b"\0\x01t\0\0"[..], Version::V3, P),
            (0x32, &b"\0\x01t\0\x01"[..], Version::V5, M),
            (0x30, &b"\0\x03t\0xx"[..], Version::V3, M),
            (0x30, &b"\0\x02\xff\xfe"[..], Version::V3, M),
            (0x30, &b"\0\x09t"[..], Version::V3, M),
            (0x30, &b"\0\x01t\x04\x01\0\x01\0x"[..], Version::V5, P),
            (0x30, &b"\0\x01t\x02\x0b\x01x"[..], Version::V5, P),
            (0x30, &b"\0\x01t\x09\x01"[..], Version::V5, M),
            (0x40, &b"\0\0"[..], Version::V3, P),
            (0x40, &b"\0\x01\0"[..], Version::V3, M),
            (0x40, &b"\0"[..], Version::V5, M),
            (0x82, &b"\0\0\0\x01a\0"[..], Version::V3, P),
            (0x82, &b"\0\x01"[..], Version::V3, P),
            (0x82, &b"\0\x01\0\x01a\xff"[..], Version::V3, M),
            (
                0x82,
                &b"\0\x01\x02\x0b\x01\0\x01a\0"[..],
                Version::V5,
                Reason::SubscriptionIdentifiersNotSupported,
            ),
            (0xa2, &b"\0\x01"[..], Version::V3, P),
            (0xc0, &b"x"[..], Version::V3, M),
            (0xe0, &b"\0"[..], Version::V3, M),
            (0x10, &b""[..], Version::V5, P),
            (0x20, &b"\0\0"[..], Version::V5, P),
            (0xf0, &b"\0\0"[..], Version::V5, P),
        ] {
            let got = read(&frame(first, body), version).map(|p| format!("{p:?}"));
            assert_eq!(got, Err(expected), "{first:x} {body:x?} {version:?}");
        }
    }
}
