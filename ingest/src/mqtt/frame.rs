//! Packets cut out of a stream of bytes, and what their first byte may say.
//!
//! Sizes are checked before anything is kept: a peer that announces a large packet is refused at its fifth byte.

use bytes::{Buf, Bytes, BytesMut};
use mqtt_protocol_core::mqtt::result_code::DisconnectReasonCode as Reason;

/// One whole packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Frame {
    /// Type and flags.
    pub(super) first: u8,
    /// What follows the length.
    pub(super) body: Bytes,
}

impl Frame {
    /// The packet's type, 1–15.
    pub(super) const fn kind(&self) -> u8 {
        self.first >> 4
    }
}

/// Takes the first packet off `buffer`; `None` where it has not arrived whole.
///
/// # Errors
/// `MalformedPacket` for flags or a length that cannot be, `PacketTooLarge` above `limit` bytes.
pub(super) fn take(buffer: &mut BytesMut, limit: usize) -> Result<Option<Frame>, Reason> {
    let Some(&first) = buffer.first() else {
        return Ok(None);
    };
    if !flags_fit(first) {
        return Err(Reason::MalformedPacket);
    }
    let Some((length, header)) = remaining_length(&buffer[1..])? else {
        return Ok(None);
    };
    let total = 1 + header + length;
    if total > limit {
        return Err(Reason::PacketTooLarge);
    }
    if buffer.len() < total {
        return Ok(None);
    }
    let mut packet = buffer.split_to(total);
    packet.advance(1 + header);
    Ok(Some(Frame {
        first,
        body: packet.freeze(),
    }))
}

/// The flags each type may carry (MQTT 5 §2.1.3; 3.1.1 §2.2.2).
const fn flags_fit(first: u8) -> bool {
    let flags = first & 0x0f;
    match first >> 4 {
        0 => false,
        3 => {
            let qos = (flags >> 1) & 3;
            let dup = flags & 8 != 0;
            qos != 3 && !(dup && qos == 0)
        }
        6 | 8 | 10 => flags == 2,
        _ => flags == 0,
    }
}

/// A length of one to four bytes, and how many those are.
pub(super) fn remaining_length(bytes: &[u8]) -> Result<Option<(usize, usize)>, Reason> {
    let mut length = 0;
    for (i, &byte) in bytes.iter().take(4).enumerate() {
        length |= usize::from(byte & 0x7f) << (7 * i);
        if byte & 0x80 == 0 {
            return Ok(Some((length, i + 1)));
        }
    }
    if bytes.len() >= 4 {
        Err(Reason::MalformedPacket)
    } else {
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(bytes: &[u8]) -> Result<Option<Frame>, Reason> {
        take(&mut BytesMut::from(bytes), 1000)
    }

    #[test]
    fn a_packet_comes_out_whole_or_not_at_all() {
        let mut buffer = BytesMut::new();
        let mut seen = Vec::new();
        for byte in [0x30, 3, b'a', b'b', b'c', 0xc0, 0] {
            buffer.extend_from_slice(&[byte]);
            seen.extend(take(&mut buffer, 1000).unwrap().map(|f| (f.first, f.body.to_vec())));
        }
        assert_eq!(seen, [(0x30, b"abc".to_vec()), (0xc0, Vec::new())]);
    }

    #[test]
    fn flags_and_lengths_that_cannot_be_are_refused_before_the_body_comes() {
        for (bytes, expected) in [
            (&[0x00, 0][..], Reason::MalformedPacket),
            (&[0x36][..], Reason::MalformedPacket),
            (&[0x38][..], Reason::MalformedPacket),
            (&[0x80][..], Reason::MalformedPacket),
            (&[0x60, 2][..], Reason::MalformedPacket),
            (&[0xc1][..], Reason::MalformedPacket),
            (&[0x11][..], Reason::MalformedPacket),
            (&[0x30, 0xff, 0xff, 0xff, 0xff][..], Reason::MalformedPacket),
            (&[0x30, 0xe8, 0x07][..], Reason::PacketTooLarge),
            (&[0x30, 0xff, 0xff, 0xff, 0x7f][..], Reason::PacketTooLarge),
        ] {
            assert_eq!(one(bytes), Err(expected), "{bytes:x?}");
        }
        for open in [&[][..], &[0x30][..], &[0x30, 0x80][..], &[0x30, 0xff, 0x02][..]] {
            assert_eq!(one(open), Ok(None), "{open:x?}");
        }
    }
}
