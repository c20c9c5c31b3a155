//! CONNECT: who it is, what session they want, and what is to be said when they vanish.

use std::time::Duration;

use bytes::Bytes;
use mqtt_protocol_core::mqtt::packet::{Property, PropertyId};
use mqtt_protocol_core::mqtt::prelude::PropertyValueAccess;
use mqtt_protocol_core::mqtt::result_code::{ConnectReasonCode, DisconnectReasonCode as Reason};

use super::frame::Frame;
use super::packet::{Version, binary, byte, number, properties, text};

/// A well-formed CONNECT.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Connect {
    pub(super) version: Version,
    pub(super) client: String,
    /// Begin anew: forget the session there may be.
    pub(super) clean: bool,
    /// How long the session outlives the connection, in seconds; `None` (3.1.1, not clean) for as long as we keep it.
    pub(super) expiry: Option<u32>,
    /// Seconds; 0 for never.
    pub(super) keep_alive: u16,
    pub(super) password: Option<Vec<u8>>,
    pub(super) will: Option<Will>,
    /// Messages the client takes at once.
    pub(super) receive_maximum: u16,
    /// Bytes of a packet the client takes.
    pub(super) packet_bytes: usize,
    /// Whether answers may carry more than a code.
    pub(super) problem_information: bool,
    /// An authentication method was asked for.
    pub(super) method: bool,
}

/// A last will.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Will {
    pub(super) topic: String,
    pub(super) payload: Bytes,
    pub(super) content_type: Option<String>,
    pub(super) retain: bool,
    /// How long to wait for the client to come back.
    pub(super) delay: Duration,
}

/// Why there is no connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unfit {
    /// No MQTT: nothing is answered.
    NoMqtt,
    /// A version that is not spoken here.
    OtherVersion,
    /// An answer in the client's version.
    Refused(Version, ConnectReasonCode),
}

/// Reads the first packet.
///
/// # Errors
/// [`Unfit`].
pub(super) fn read(frame: &Frame) -> Result<Connect, Unfit> {
    if frame.kind() != 1 {
        return Err(Unfit::NoMqtt);
    }
    let mut rest: &[u8] = &frame.body;
    match text(&mut rest) {
        Ok("MQTT") => {}
        Ok("MQIsdp") => return Err(Unfit::OtherVersion),
        _ => return Err(Unfit::NoMqtt),
    }
    let version = match byte(&mut rest) {
        Ok(4) => Version::V3,
        Ok(5) => Version::V5,
        Ok(_) => return Err(Unfit::OtherVersion),
        Err(_) => return Err(Unfit::NoMqtt),
    };
    body(rest, version).map_err(|why| match why {
        Reason::ProtocolError => Unfit::Refused(version, ConnectReasonCode::ProtocolError),
        _ => Unfit::Refused(version, ConnectReasonCode::MalformedPacket),
    })
}

fn body(mut rest: &[u8], version: Version) -> Result<Connect, Reason> {
    let rest = &mut rest;
    let flags = byte(rest)?;
    check_flags(flags, version)?;
    let keep_alive = number(rest)?;
    let clean = flags & 0x02 != 0;
    let mut connect = Connect {
        version,
        client: String::new(),
        clean,
        expiry: if version == Version::V3 && !clean {
            None
        } else {
            Some(0)
        },
        keep_alive,
        password: None,
        will: None,
        receive_maximum: u16::MAX,
        packet_bytes: usize::MAX,
        problem_information: true,
        method: false,
    };
    if version == Version::V5 {
        wishes(&mut connect, rest)?;
    }
    text(rest)?.clone_into(&mut connect.client);
    if flags & 0x04 != 0 {
        connect.will = Some(will(rest, version, flags & 0x20 != 0)?);
    }
    if flags & 0x80 != 0 {
        text(rest)?;
    }
    if flags & 0x40 != 0 {
        connect.password = Some(binary(rest)?.to_vec());
    }
    if rest.is_empty() {
        Ok(connect)
    } else {
        Err(Reason::MalformedPacket)
    }
}

/// Reserved bit, a will's QoS and retain without a will, and in 3.1.1 a password without a user name.
fn check_flags(flags: u8, version: Version) -> Result<(), Reason> {
    let will = flags & 0x04 != 0;
    let will_qos = (flags >> 3) & 3;
    let no_name = version == Version::V3 && flags & 0xc0 == 0x40;
    if flags & 0x01 != 0 || will_qos == 3 || (!will && flags & 0x38 != 0) || no_name {
        Err(Reason::MalformedPacket)
    } else {
        Ok(())
    }
}

fn wishes(connect: &mut Connect, rest: &mut &[u8]) -> Result<(), Reason> {
    const ALLOWED: [PropertyId; 9] = [
        PropertyId::SessionExpiryInterval,
        PropertyId::ReceiveMaximum,
        PropertyId::MaximumPacketSize,
        PropertyId::TopicAliasMaximum,
        PropertyId::RequestResponseInformation,
        PropertyId::RequestProblemInformation,
        PropertyId::UserProperty,
        PropertyId::AuthenticationMethod,
        PropertyId::AuthenticationData,
    ];
    for property in properties(rest, &ALLOWED)? {
        match property {
            Property::SessionExpiryInterval(seconds) => connect.expiry = Some(seconds.val()),
            Property::ReceiveMaximum(n) if n.val() == 0 => return Err(Reason::ProtocolError),
            Property::ReceiveMaximum(n) => connect.receive_maximum = n.val(),
            Property::MaximumPacketSize(n) if n.val() == 0 => return Err(Reason::ProtocolError),
            Property::MaximumPacketSize(n) => connect.packet_bytes = n.val() as usize,
            Property::RequestProblemInformation(flag) => connect.problem_information = flag.val() != 0,
            Property::AuthenticationMethod(_) => connect.method = true,
            _ => {}
        }
    }
    Ok(())
}

fn will(rest: &mut &[u8], version: Version, retain: bool) -> Result<Will, Reason> {
    const ALLOWED: [PropertyId; 7] = [
        PropertyId::WillDelayInterval,
        PropertyId::PayloadFormatIndicator,
        PropertyId::MessageExpiryInterval,
        PropertyId::ContentType,
        PropertyId::ResponseTopic,
        PropertyId::CorrelationData,
        PropertyId::UserProperty,
    ];
    let (mut delay, mut content_type) = (Duration::ZERO, None);
    if version == Version::V5 {
        for property in properties(rest, &ALLOWED)? {
            match property {
                Property::WillDelayInterval(seconds) => delay = Duration::from_secs(seconds.val().into()),
                Property::ContentType(_) => content_type = property.as_str().map(str::to_owned),
                _ => {}
            }
        }
    }
    Ok(Will {
        topic: text(rest)?.to_owned(),
        payload: Bytes::copy_from_slice(binary(rest)?),
        content_type,
        retain,
        delay,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(body: &[u8]) -> Result<Connect, Unfit> {
        read(&Frame {
            first: 0x10,
            body: Bytes::copy_from_slice(body),
        })
    }

    #[test]
    fn a_whole_connect_is_read_in_both_versions() {
        let v3 = given(b"\0\x04MQTT\x04\xee\0\x3c\0\x01c\0\x01w\0\x02ok\0\x01u\0\x01p");
        let v3 = v3.unwrap();
        assert_eq!(
            (v3.client.as_str(), v3.keep_alive, v3.clean, v3.expiry),
            ("c", 60, true, Some(0))
        );
        assert_eq!(v3.password.as_deref(), Some(&b"p"[..]));
        assert!(v3.will.is_some_and(|w| w.retain && w.topic == "w" && w.payload == "ok"));

        // A token without a user name is right in MQTT 5; so is a Topic Alias Maximum of 0.
        let v5 = given(b"\0\x04MQTT\x05\x40\0\0\x0d\x11\0\0\0\x09\x21\0\x05\x22\0\0\x17\0\0\0\0\x01p").unwrap();
        assert_eq!(
            (v5.expiry, v5.receive_maximum, v5.problem_information),
            (Some(9), 5, false)
        );
        assert_eq!(given(b"\0\x04MQTT\x04\0\0\0\0\x01c").unwrap().expiry, None);
    }

    #[test]
    fn a_connect_that_is_none_is_told_apart_from_one_in_another_version() {
        use ConnectReasonCode::{MalformedPacket as M, ProtocolError as P};
        for (body, expected) in [
            (&b"\0\x04MQTT\x06\x02\0\0\0\x01x"[..], Unfit::OtherVersion),
            (&b"\0\x06MQIsdp\x03\x02\0\0\0\x01x"[..], Unfit::OtherVersion),
            (&b"\0\x04HTTP\x04\x02\0\0\0\x01x"[..], Unfit::NoMqtt),
            (&b""[..], Unfit::NoMqtt),
            (&b"\0\x04MQTT\x05\x03\0\0\0\0\x01x"[..], Unfit::Refused(Version::V5, M)),
            (&b"\0\x04MQTT\x04\x1a\0\0\0\x01x"[..], Unfit::Refused(Version::V3, M)),
            (&b"\0\x04MQTT\x04\x22\0\0\0\x01x"[..], Unfit::Refused(Version::V3, M)),
            (
                &b"\0\x04MQTT\x04\x42\0\0\0\x01x\0\x01p"[..],
                Unfit::Refused(Version::V3, M),
            ),
            (
                &b"\0\x04MQTT\x04\x02\0\0\0\x01xmore"[..],
                Unfit::Refused(Version::V3, M),
            ),
            (
                &b"\0\x04MQTT\x05\x02\0\0\x03\x21\0\0\0\x01x"[..],
                Unfit::Refused(Version::V5, P),
            ),
            (
                &b"\0\x04MQTT\x05\x02\0\0\x03\x23\0\x01\0\x01x"[..],
                Unfit::Refused(Version::V5, P),
            ),
        ] {
            assert_eq!(given(body), Err(expected), "{body:x?}");
        }
    }
}
