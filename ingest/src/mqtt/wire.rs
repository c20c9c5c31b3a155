//! What the door says, written as packets of the client's version.

use bytes::{BufMut, BytesMut};
use mqtt_protocol_core::mqtt::packet::{
    AssignedClientIdentifier, MaximumPacketSize, Properties, Qos, ReceiveMaximum, RetainAvailable,
    SessionExpiryInterval, SharedSubscriptionAvailable, SubscriptionIdentifierAvailable, TopicAliasMaximum, v3_1_1,
    v5_0,
};
use mqtt_protocol_core::mqtt::result_code::{
    ConnectReasonCode, ConnectReturnCode, DisconnectReasonCode as Reason, MqttError, SubackReasonCode,
    SubackReturnCode, UnsubackReasonCode,
};

use super::limits::MqttLimits;
use super::packet::Version;

/// How to write for one client.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wire {
    pub(super) version: Version,
    /// Bytes of a packet the client takes.
    pub(super) packet_bytes: usize,
    /// Whether answers may carry more than a code.
    pub(super) problem_information: bool,
}

/// The answers to messages, by their first byte.
pub(super) const PUBACK: u8 = 0x40;
/// Answer to a QoS 2 message.
pub(super) const PUBREC: u8 = 0x50;
/// Answer to PUBREC.
pub(super) const PUBREL: u8 = 0x62;
/// Answer to PUBREL.
pub(super) const PUBCOMP: u8 = 0x70;

/// What a client is told when it is let in.
#[derive(Debug)]
pub(super) struct Welcome<'a> {
    pub(super) session_present: bool,
    /// The id it was given, where it brought none.
    pub(super) assigned: Option<&'a str>,
    /// Seconds, where they are fewer than it asked for.
    pub(super) expiry: Option<u32>,
}

impl Wire {
    /// PUBACK, PUBREC, PUBREL or PUBCOMP. `code` and `rejected` (a user property, where it is not 0) are for MQTT 5.
    pub(super) fn answer(&self, first: u8, id: u16, code: u8, rejected: usize, out: &mut BytesMut) {
        let [high, low] = id.to_be_bytes();
        let plain = code == 0 && rejected == 0;
        if self.version == Version::V3 || plain {
            out.put_slice(&[first, 2, high, low]);
        } else if rejected == 0 || !self.problem_information {
            out.put_slice(&[first, 3, high, low, code]);
        } else {
            const NAME: &[u8] = b"rejected";
            let value = rejected.to_string();
            let properties = 5 + NAME.len() + value.len();
            if properties + 6 > self.packet_bytes {
                return out.put_slice(&[first, 3, high, low, code]);
            }
            out.put_slice(&[first, properties as u8 + 4, high, low, code, properties as u8]);
            out.put_slice(&[0x26, 0, NAME.len() as u8]);
            out.put_slice(NAME);
            out.put_slice(&[0, value.len() as u8]);
            out.put_slice(value.as_bytes());
        }
    }

    /// PINGRESP.
    pub(super) fn pong(out: &mut BytesMut) {
        out.put_slice(&[0xd0, 0]);
    }

    /// A JSON message to a subscriber; `false` where it is larger than the client takes.
    pub(super) fn publish(&self, message: &Message<'_>, out: &mut BytesMut) -> bool {
        // Payload Format Indicator 1 (UTF-8) and Content Type `application/json`.
        const LABELS: &[u8] = b"\x15\x01\x01\x03\x00\x10application/json";
        let labels: &[u8] = if self.version == Version::V5 { LABELS } else { &[] };
        let id = if message.qos == Qos::AtMostOnce { 0 } else { 2 };
        let length = 2 + message.topic.len() + id + labels.len() + message.payload.len();
        let first = 0x30 | (message.qos as u8) << 1 | u8::from(message.dup) << 3;
        if length + 5 > self.packet_bytes || message.topic.len() > usize::from(u16::MAX) || length > 0x0fff_ffff {
            return false;
        }
        out.reserve(length + 5);
        out.put_u8(first);
        put_length(length, out);
        out.put_u16(message.topic.len() as u16);
        out.put_slice(message.topic.as_bytes());
        if id != 0 {
            out.put_u16(message.id);
        }
        out.put_slice(labels);
        out.put_slice(message.payload);
        true
    }

    /// DISCONNECT, which a server can say in MQTT 5 only.
    pub(super) fn disconnect(&self, reason: Reason, out: &mut BytesMut) {
        if self.version == Version::V5 {
            out.put_slice(&[0xe0, 1, reason as u8]);
        }
    }

    /// SUBACK, one answer per filter.
    pub(super) fn suback(&self, id: u16, codes: Vec<SubackReasonCode>, out: &mut BytesMut) -> Result<(), MqttError> {
        let bytes = match self.version {
            Version::V3 => {
                let codes = codes.into_iter().map(return_code).collect::<Vec<_>>();
                v3_1_1::Suback::builder()
                    .packet_id(id)
                    .return_codes(codes)
                    .build()?
                    .to_continuous_buffer()
            }
            Version::V5 => v5_0::Suback::builder()
                .packet_id(id)
                .reason_codes(codes)
                .build()?
                .to_continuous_buffer(),
        };
        out.put_slice(&bytes);
        Ok(())
    }

    /// UNSUBACK: for each filter, whether there was such a subscription.
    pub(super) fn unsuback(&self, id: u16, found: &[bool], out: &mut BytesMut) -> Result<(), MqttError> {
        let bytes = match self.version {
            Version::V3 => v3_1_1::Unsuback::builder()
                .packet_id(id)
                .build()?
                .to_continuous_buffer(),
            Version::V5 => {
                let code = |found: &bool| {
                    if *found {
                        UnsubackReasonCode::Success
                    } else {
                        UnsubackReasonCode::NoSubscriptionExisted
                    }
                };
                let codes: Vec<_> = found.iter().map(code).collect();
                v5_0::Unsuback::builder()
                    .packet_id(id)
                    .reason_codes(codes)
                    .build()?
                    .to_continuous_buffer()
            }
        };
        out.put_slice(&bytes);
        Ok(())
    }

    /// CONNACK of a client that is let in.
    pub(super) fn welcome(
        &self,
        welcome: &Welcome<'_>,
        limits: &MqttLimits,
        out: &mut BytesMut,
    ) -> Result<(), MqttError> {
        let bytes = match self.version {
            Version::V3 => v3_1_1::Connack::builder()
                .session_present(welcome.session_present)
                .return_code(ConnectReturnCode::Accepted)
                .build()?
                .to_continuous_buffer(),
            Version::V5 => v5_0::Connack::builder()
                .session_present(welcome.session_present)
                .reason_code(ConnectReasonCode::Success)
                .props(promises(welcome, limits)?)
                .build()?
                .to_continuous_buffer(),
        };
        out.put_slice(&bytes);
        Ok(())
    }
}

/// A message to a subscriber.
#[derive(Debug, Clone, Copy)]
pub(super) struct Message<'a> {
    pub(super) topic: &'a str,
    pub(super) payload: &'a [u8],
    pub(super) qos: Qos,
    pub(super) dup: bool,
    /// Ignored for QoS 0.
    pub(super) id: u16,
}

fn promises(welcome: &Welcome<'_>, limits: &MqttLimits) -> Result<Properties, MqttError> {
    let packet_bytes = u32::try_from(limits.packet_bytes.max(64)).unwrap_or(u32::MAX);
    let mut properties: Properties = vec![
        ReceiveMaximum::new(limits.messages_in_flight.max(1))?.into(),
        MaximumPacketSize::new(packet_bytes)?.into(),
        RetainAvailable::new(0)?.into(),
        TopicAliasMaximum::new(limits.topic_aliases)?.into(),
        SubscriptionIdentifierAvailable::new(0)?.into(),
        SharedSubscriptionAvailable::new(0)?.into(),
    ];
    if let Some(id) = welcome.assigned {
        properties.push(AssignedClientIdentifier::new(id)?.into());
    }
    if let Some(seconds) = welcome.expiry {
        properties.push(SessionExpiryInterval::new(seconds)?.into());
    }
    Ok(properties)
}

/// CONNACK of a client that is not let in.
pub(super) fn refusal(version: Version, code: ConnectReasonCode, out: &mut BytesMut) {
    match version {
        Version::V3 => out.put_slice(&[0x20, 2, 0, connect_return_code(code)]),
        Version::V5 => out.put_slice(&[0x20, 3, 0, code as u8, 0]),
    }
}

/// The same in 3.1.1, whose words are fewer; a packet that breaks the rules is answered by silence there (0 is never
/// sent: the caller closes without an answer where this gives 0).
pub(super) const fn connect_return_code(code: ConnectReasonCode) -> u8 {
    match code {
        ConnectReasonCode::UnsupportedProtocolVersion => 1,
        ConnectReasonCode::ClientIdentifierNotValid => 2,
        ConnectReasonCode::BadUserNameOrPassword => 4,
        ConnectReasonCode::NotAuthorized | ConnectReasonCode::TopicNameInvalid => 5,
        ConnectReasonCode::MalformedPacket | ConnectReasonCode::ProtocolError => 0,
        _ => 3,
    }
}

const fn return_code(code: SubackReasonCode) -> SubackReturnCode {
    match code {
        SubackReasonCode::GrantedQos0 => SubackReturnCode::SuccessMaximumQos0,
        SubackReasonCode::GrantedQos1 => SubackReturnCode::SuccessMaximumQos1,
        SubackReasonCode::GrantedQos2 => SubackReturnCode::SuccessMaximumQos2,
        _ => SubackReturnCode::Failure,
    }
}

fn put_length(mut length: usize, out: &mut BytesMut) {
    loop {
        let low = (length & 0x7f) as u8;
        length >>= 7;
        out.put_u8(if length > 0 { low | 0x80 } else { low });
        if length == 0 {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const V5: Wire = Wire {
        version: Version::V5,
        packet_bytes: usize::MAX,
        problem_information: true,
    };

    fn written(write: impl FnOnce(&mut BytesMut)) -> Vec<u8> {
        let mut out = BytesMut::new();
        write(&mut out);
        out.to_vec()
    }

    #[test]
    fn answers_say_as_much_as_the_client_can_hear() {
        let v3 = Wire {
            version: Version::V3,
            ..V5
        };
        let terse = Wire {
            problem_information: false,
            ..V5
        };
        for (wire, code, rejected, expected) in [
            (v3, 0x99, 3, &[0x40, 2, 0, 7][..]),
            (V5, 0, 0, &[0x40, 2, 0, 7][..]),
            (V5, 0x87, 0, &[0x40, 3, 0, 7, 0x87][..]),
            (terse, 0x99, 1, &[0x40, 3, 0, 7, 0x99][..]),
            (V5, 0x99, 12, b"\x40\x13\x00\x07\x99\x0f\x26\x00\x08rejected\x00\x0212"),
        ] {
            assert_eq!(written(|out| wire.answer(PUBACK, 7, code, rejected, out)), expected);
        }
    }

    #[test]
    fn what_is_written_is_what_the_library_reads() {
        let payload = vec![b'x'; 300];
        let message = Message {
            topic: "a/b",
            payload: &payload,
            qos: Qos::ExactlyOnce,
            dup: true,
            id: 9,
        };
        let bytes = written(|out| assert!(V5.publish(&message, out)));
        let (read, _) = v5_0::Publish::parse(bytes[0] & 15, bytes[3..].to_vec().into()).unwrap();
        assert_eq!(
            (read.topic_name(), read.packet_id(), read.dup()),
            ("a/b", Some(9), true)
        );
        assert_eq!((read.payload().as_slice(), read.props().len()), (&payload[..], 2));
        let small = Wire {
            packet_bytes: 300,
            ..V5
        };
        assert!(!small.publish(&message, &mut BytesMut::new()));
    }
}
