//! Packets from a broker. One that is larger than we take is not read whole, but it is not what we stand still at either:
//! its beginning says what it is, and the rest is passed over.

use bytes::{Buf, BytesMut};
use mqtt_protocol_core::mqtt::result_code::DisconnectReasonCode as Reason;
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::mqtt::frame::{self, Frame};

/// How much of a packet that is too large is looked at: the longest topic and its properties fit.
const BEGINNING: usize = 160 << 10;

/// A packet.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece {
    Whole(Frame),
    /// The beginning of a message that is too large.
    Beginning(Frame),
}

#[derive(Debug)]
pub(super) struct Inbox {
    buffer: BytesMut,
    limit: usize,
    /// Bytes still to come of a packet that is passed over.
    passing: usize,
}

impl Inbox {
    /// Takes packets of at most `limit` bytes.
    pub(super) fn new(limit: usize) -> Self {
        Self {
            buffer: BytesMut::with_capacity(16 << 10),
            limit: limit.max(2 * BEGINNING),
            passing: 0,
        }
    }

    /// Reads what has come; `false` where nothing will come any more.
    pub(super) async fn read<R: AsyncRead + Unpin>(&mut self, reader: &mut R) -> std::io::Result<bool> {
        self.buffer.reserve(16 << 10);
        Ok(reader.read_buf(&mut self.buffer).await? > 0)
    }

    /// The next packet; `None` until more has been read.
    ///
    /// # Errors
    /// Why this is no MQTT.
    pub(super) fn next(&mut self) -> Result<Option<Piece>, Reason> {
        let here = self.passing.min(self.buffer.len());
        self.buffer.advance(here);
        self.passing -= here;
        if self.passing > 0 {
            return Ok(None);
        }
        match frame::take(&mut self.buffer, self.limit) {
            Err(Reason::PacketTooLarge) if self.buffer.first().is_some_and(|first| first >> 4 == 3) => self.beginning(),
            whole => Ok(whole?.map(Piece::Whole)),
        }
    }

    fn beginning(&mut self) -> Result<Option<Piece>, Reason> {
        let Some((length, header)) = frame::remaining_length(self.buffer.get(1..).unwrap_or_default())? else {
            return Ok(None);
        };
        if self.buffer.len() < 1 + header + BEGINNING {
            return Ok(None);
        }
        let first = self.buffer.get_u8();
        self.buffer.advance(header);
        let body = self.buffer.split_to(BEGINNING).freeze();
        self.passing = length - BEGINNING;
        Ok(Some(Piece::Beginning(Frame { first, body })))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_message_that_is_too_large_is_seen_and_passed_over_and_the_next_one_is_whole() {
        let limit = 2 * BEGINNING;
        let body = vec![7; limit + 1];
        let mut bytes = vec![0x32];
        let mut length = body.len();
        while length > 0 {
            bytes.push((length & 0x7f) as u8 | if length > 0x7f { 0x80 } else { 0 });
            length >>= 7;
        }
        bytes.extend(&body);
        bytes.extend([0xd0, 0]);
        let (mut inbox, mut reader, mut seen) = (Inbox::new(0), &bytes[..], Vec::new());
        while inbox.read(&mut reader).await.unwrap() {
            while let Some(piece) = inbox.next().unwrap() {
                seen.push(piece);
            }
        }
        let [Piece::Beginning(large), Piece::Whole(pong)] = &seen[..] else {
            panic!("{}", seen.len())
        };
        assert_eq!((large.first, large.body.len(), pong.first), (0x32, BEGINNING, 0xd0));
    }
}
