//! What we say to a broker, and what it answers to that: CONNECT, SUBSCRIBE and the rest of the client's side, in MQTT 5
//! and 3.1.1.

use bytes::{BufMut, BytesMut};
use mqtt_protocol_core::mqtt::packet::{
    Properties, Property, Qos, ReceiveMaximum, RetainHandling, SessionExpiryInterval, SubEntry, SubOpts, v3_1_1, v5_0,
};
use mqtt_protocol_core::mqtt::result_code::MqttError;

use super::Broker;
use crate::mqtt::frame::Frame;
use crate::mqtt::packet::Version;

/// The one id of a packet that we ask with.
const SUBSCRIBING: u16 = 1;
/// PINGREQ.
pub(super) const PING: [u8; 2] = [0xc0, 0];
/// DISCONNECT, well: the session stays.
pub(super) const GOODBYE: [u8; 2] = [0xe0, 0];

/// A broker's yes to CONNECT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Welcome {
    /// It still has what we did not acknowledge before.
    pub(super) session_present: bool,
    /// Seconds, where it wants another rhythm than we.
    pub(super) keep_alive: Option<u16>,
}

/// A broker's no.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Refused {
    /// It does not speak this version.
    Version,
    /// Something else, in words.
    Otherwise(String),
}

pub(super) fn connect(version: Version, broker: &Broker) -> Result<Vec<u8>, MqttError> {
    let keep_alive = u16::try_from(broker.keep_alive.as_secs()).unwrap_or(u16::MAX);
    match version {
        Version::V5 => {
            let seconds = u32::try_from(broker.session.as_secs()).unwrap_or(u32::MAX);
            let properties: Properties = vec![
                SessionExpiryInterval::new(seconds)?.into(),
                ReceiveMaximum::new(broker.messages_in_flight.max(1))?.into(),
            ];
            let mut packet = v5_0::Connect::builder()
                .client_id(broker.client_id.as_str())?
                .clean_start(false)
                .keep_alive(keep_alive)
                .props(properties);
            if let Some((user, password)) = &broker.login {
                packet = packet.user_name(user.as_str())?;
                if let Some(password) = password {
                    packet = packet.password(password.as_str())?;
                }
            }
            Ok(packet.build()?.to_continuous_buffer())
        }
        Version::V3 => {
            let mut packet = v3_1_1::Connect::builder()
                .client_id(broker.client_id.as_str())?
                .clean_session(false)
                .keep_alive(keep_alive);
            if let Some((user, password)) = &broker.login {
                packet = packet.user_name(user.as_str())?;
                if let Some(password) = password {
                    packet = packet.password(password.as_str())?;
                }
            }
            Ok(packet.build()?.to_continuous_buffer())
        }
    }
}

/// Asks for every filter at QoS 1. What a broker retains was said some time ago, and would come again each time.
pub(super) fn subscribe(version: Version, filters: &[String]) -> Result<Vec<u8>, MqttError> {
    let options = SubOpts::new().set_qos(Qos::AtLeastOnce);
    let options = match version {
        Version::V5 => options.set_rh(RetainHandling::DoNotSendRetained),
        Version::V3 => options,
    };
    let entries = filters
        .iter()
        .map(|filter| SubEntry::new(filter.as_str(), options))
        .collect::<Result<Vec<_>, _>>()?;
    Ok(match version {
        Version::V5 => v5_0::Subscribe::builder()
            .packet_id(SUBSCRIBING)
            .entries(entries)
            .build()?
            .to_continuous_buffer(),
        Version::V3 => v3_1_1::Subscribe::builder()
            .packet_id(SUBSCRIBING)
            .entries(entries)
            .build()?
            .to_continuous_buffer(),
    })
}

/// PUBACK.
pub(super) fn acknowledge(id: u16, out: &mut BytesMut) {
    out.put_slice(&[0x40, 2]);
    out.put_u16(id);
}

/// Reads CONNACK.
pub(super) fn welcome(frame: &Frame, version: Version) -> Result<Welcome, Refused> {
    let otherwise = |why: String| Err(Refused::Otherwise(why));
    let (2, [flags, code, ..]) = (frame.kind(), &frame.body[..]) else {
        return otherwise("it answers CONNECT with something else: no MQTT broker".to_owned());
    };
    let plain = version == Version::V3 || frame.body.len() == 2;
    match (code, plain) {
        (0, _) => {}
        (1, true) | (0x84, _) => return Err(Refused::Version),
        (4 | 5, true) | (0x86 | 0x87, false) => {
            return otherwise("it does not know this user name and password".to_owned());
        }
        (2, true) | (0x85, false) => return otherwise("it does not take this client id".to_owned()),
        (code, _) => return otherwise(format!("it refuses the connection with code {code:#04x}")),
    }
    let mut keep_alive = None;
    if version == Version::V5 && !plain {
        let Ok((packet, _)) = v5_0::Connack::parse(&frame.body) else {
            return otherwise("its answer to CONNECT is no MQTT 5".to_owned());
        };
        keep_alive = packet.props().iter().find_map(|property| match property {
            Property::ServerKeepAlive(seconds) => Some(seconds.val()),
            _ => None,
        });
    }
    Ok(Welcome {
        session_present: flags & 1 != 0,
        keep_alive,
    })
}

/// Reads SUBACK: the place of a filter that is not granted as it must be, where there is one. QoS 0 is not enough: what
/// comes so is not sent again.
pub(super) fn denied(frame: &Frame, version: Version, filters: usize) -> Option<usize> {
    let codes = frame.body.len().checked_sub(filters).filter(|start| {
        // Properties stand between; codes are the last bytes.
        *start >= if version == Version::V5 { 3 } else { 2 }
    });
    let Some(start) = codes else { return Some(0) };
    frame.body[start..].iter().position(|code| *code != 1 && *code != 2)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;

    use super::*;
    use crate::mqtt::connect as door;
    use crate::mqtt::frame;

    fn broker() -> Broker {
        Broker {
            client_id: "bridge".to_owned(),
            login: Some(("ward".to_owned(), Some("sécret".to_owned()))),
            filters: vec!["a/+".to_owned(), "b/#".to_owned()],
            prefix: String::new(),
            keep_alive: Duration::from_secs(30),
            session: Duration::from_secs(600),
            messages_in_flight: 100,
            bytes_in_flight: 1 << 20,
            packet_bytes: 1 << 20,
        }
    }

    fn frame(bytes: &[u8]) -> Frame {
        frame::take(&mut BytesMut::from(bytes), 1 << 20).unwrap().unwrap()
    }

    #[test]
    fn our_own_door_understands_what_we_say_to_a_broker() {
        for version in [Version::V5, Version::V3] {
            let said = door::read(&frame(&connect(version, &broker()).unwrap())).unwrap();
            assert_eq!(
                (said.version, said.client.as_str(), said.clean),
                (version, "bridge", false)
            );
            assert_eq!((said.keep_alive, said.password), (30, Some("sécret".into())));
            if version == Version::V5 {
                assert_eq!((said.expiry, said.receive_maximum), (Some(600), 100));
            }
            let asked = crate::mqtt::packet::read(&frame(&subscribe(version, &broker().filters).unwrap()), version)
                .map(|packet| format!("{packet:?}"))
                .unwrap();
            assert!(asked.contains("a/+") && asked.contains("b/#"), "{asked}");
        }
    }

    #[test]
    fn a_brokers_answers_are_understood_in_both_versions() {
        let body = |kind: u8, body: &[u8]| Frame {
            first: kind << 4,
            body: Bytes::copy_from_slice(body),
        };
        for (version, bytes, session_present, keep_alive) in [
            (Version::V3, &[1, 0][..], true, None),
            (Version::V5, &[0, 0, 0][..], false, None),
            (Version::V5, &[1, 0, 3, 0x13, 0, 9][..], true, Some(9)),
        ] {
            let expected = Welcome {
                session_present,
                keep_alive,
            };
            assert_eq!(welcome(&body(2, bytes), version), Ok(expected), "{bytes:?}");
        }
        for (version, bytes) in [(Version::V5, &[0, 1][..]), (Version::V5, &[0, 0x84, 0][..])] {
            assert_eq!(welcome(&body(2, bytes), version), Err(Refused::Version), "{bytes:?}");
        }
        for (version, kind, bytes) in [
            (Version::V5, 2, &[0, 0x86, 0][..]),
            (Version::V3, 2, &[0, 5][..]),
            (Version::V3, 3, &[0, 0][..]),
            (Version::V5, 2, &[0][..]),
        ] {
            assert!(matches!(
                welcome(&body(kind, bytes), version),
                Err(Refused::Otherwise(_))
            ));
        }
        for (version, bytes, expected) in [
            (Version::V3, &[0, 1, 1, 1][..], None),
            (Version::V3, &[0, 1, 1, 0x80][..], Some(1)),
            (Version::V5, &[0, 1, 0, 0, 1][..], Some(0)),
            (Version::V5, &[0, 1, 0, 1, 0x87][..], Some(1)),
            (Version::V5, &[0, 1, 1][..], Some(0)),
        ] {
            assert_eq!(denied(&body(9, bytes), version, 2), expected, "{bytes:?}");
        }
    }
}
