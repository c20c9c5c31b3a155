//! What is stored about processors' places: positions, states, and where their outputs end. Each value is sealed by a
//! checksum that covers its key.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use schemas::derived::{Incarnation, Origin};
use schemas::ids::EventId;
use smol_str::SmolStr;
use xxhash_rust::xxh3::Xxh3;

use crate::{LogError, Offset, Partition, Reached, Stored, Topic};

fn checksum(key: &[u8], body: &[u8]) -> u64 {
    let mut hasher = Xxh3::new();
    hasher.update(&(key.len() as u64).to_be_bytes());
    hasher.update(key);
    hasher.update(body);
    hasher.digest()
}

/// `body` with a checksum over it and its key.
pub(crate) fn seal(key: &[u8], mut body: BytesMut) -> Bytes {
    let sum = checksum(key, &body);
    body.put_u64(sum);
    body.freeze()
}

/// The body of a sealed value.
pub(crate) fn unseal(key: &[u8], mut bytes: Bytes) -> Result<Bytes, LogError> {
    let damaged = || LogError::Corrupt(format!("the value of {}", key.escape_ascii()));
    let end = bytes.len().checked_sub(8).ok_or_else(damaged)?;
    let mut sum = bytes.split_off(end);
    if sum.get_u64() == checksum(key, &bytes) {
        Ok(bytes)
    } else {
        Err(damaged())
    }
}

fn place_key(kind: u8, name: &str, partition: Partition, rest: &[u8]) -> Bytes {
    let mut key = BytesMut::with_capacity(name.len() + rest.len() + 4);
    key.put_u8(kind);
    key.put_slice(name.as_bytes());
    key.put_u8(0);
    key.put_u16(partition);
    key.put_slice(rest);
    key.freeze()
}

/// The key of a processor's position on a partition.
pub(crate) fn position_key(processor: &str, partition: Partition) -> Bytes {
    place_key(b'p', processor, partition, &[])
}

/// The key of one state.
pub(crate) fn state_key(processor: &str, partition: Partition, key: &str) -> Bytes {
    place_key(b's', processor, partition, key.as_bytes())
}

/// The keys of all states of a place: from, up to, and how many bytes come before the state's own key.
pub(crate) fn state_range(processor: &str, partition: Partition) -> (Bytes, Bytes, usize) {
    let from = state_key(processor, partition, "");
    // No state key holds the byte 0xff: they are text.
    let to = place_key(b's', processor, partition, &[0xff]);
    let prefix = from.len();
    (from, to, prefix)
}

/// The key of where a derived topic's partition ends.
pub(crate) fn output_key(output: Topic, partition: Partition) -> Bytes {
    place_key(b'o', output.name(), partition, &[])
}

/// A processor's place, as saved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) incarnation: Incarnation,
    pub(crate) offset: Offset,
    pub(crate) context: Bytes,
}

impl Position {
    pub(crate) fn pack(&self, key: &[u8]) -> Bytes {
        let mut out = BytesMut::with_capacity(32 + self.context.len());
        out.put_slice(&self.incarnation.0);
        out.put_i64(self.offset);
        out.put_slice(&self.context);
        seal(key, out)
    }

    pub(crate) fn unpack(key: &[u8], bytes: Bytes) -> Result<Self, LogError> {
        let mut from = unseal(key, bytes)?;
        let mut incarnation = [0; 16];
        from.try_copy_to_slice(&mut incarnation).map_err(|e| short(key, &e))?;
        Ok(Self {
            incarnation: EventId(incarnation),
            offset: from.try_get_i64().map_err(|e| short(key, &e))?,
            context: from,
        })
    }
}

fn short(key: &[u8], _: &bytes::TryGetError) -> LogError {
    LogError::Corrupt(format!("the value of {} is too short", key.escape_ascii()))
}

/// A state as saved; a removed one is not saved.
pub(crate) fn pack_state(key: &[u8], applied: Offset, value: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(16 + value.len());
    out.put_i64(applied);
    out.put_slice(value);
    seal(key, out)
}

pub(crate) fn unpack_state(key: &[u8], bytes: Bytes) -> Result<Stored, LogError> {
    let mut from = unseal(key, bytes)?;
    Ok(Stored {
        applied: from.try_get_i64().map_err(|e| short(key, &e))?,
        value: Some(from),
    })
}

/// Where a derived topic's partition ends.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct OutputEnd {
    /// Who writes it.
    pub(crate) processor: SmolStr,
    pub(crate) reached: Reached,
    pub(crate) last: Option<Origin>,
}

impl OutputEnd {
    pub(crate) fn pack(&self, key: &[u8]) -> Bytes {
        let mut out = BytesMut::with_capacity(128);
        out.put_u16(self.processor.len() as u16);
        out.put_slice(self.processor.as_bytes());
        out.put_i64(self.reached.journal);
        out.put_i64(self.reached.end);
        if let Some(origin) = &self.last {
            out.put_slice(&origin.incarnation.0);
            out.put_i64(origin.offset);
            out.put_i32(origin.n);
            out.put_slice(origin.key.as_bytes());
        }
        seal(key, out)
    }

    pub(crate) fn unpack(key: &[u8], bytes: Bytes) -> Result<Self, LogError> {
        let mut from = unseal(key, bytes)?;
        let damaged = || LogError::Corrupt(format!("the value of {}", key.escape_ascii()));
        let length = usize::from(from.try_get_u16().map_err(|e| short(key, &e))?);
        if from.len() < length {
            return Err(damaged());
        }
        let text = |bytes: Bytes| std::str::from_utf8(&bytes).map(SmolStr::new).map_err(|_| damaged());
        let processor = text(from.split_to(length))?;
        let reached = Reached {
            journal: from.try_get_i64().map_err(|e| short(key, &e))?,
            end: from.try_get_i64().map_err(|e| short(key, &e))?,
        };
        let last = if from.is_empty() {
            None
        } else {
            let mut incarnation = [0; 16];
            from.try_copy_to_slice(&mut incarnation).map_err(|e| short(key, &e))?;
            Some(Origin {
                incarnation: EventId(incarnation),
                offset: from.try_get_i64().map_err(|e| short(key, &e))?,
                n: from.try_get_i32().map_err(|e| short(key, &e))?,
                key: text(from)?,
            })
        };
        Ok(Self {
            processor,
            reached,
            last,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_read_back_and_are_bound_to_their_keys() {
        let key = position_key("alerts", 2);
        let position = Position {
            incarnation: EventId([3; 16]),
            offset: 12,
            context: Bytes::from_static(b"recorded time"),
        };
        assert_eq!(Position::unpack(&key, position.pack(&key)).unwrap(), position);
        assert!(Position::unpack(&position_key("alerts", 3), position.pack(&key)).is_err());

        let key = state_key("alerts", 2, "p1");
        let stored = Stored {
            applied: 9,
            value: Some(Bytes::from_static(b"state")),
        };
        assert_eq!(unpack_state(&key, pack_state(&key, 9, b"state")).unwrap(), stored);
    }

    #[test]
    fn the_end_of_a_derived_topic_reads_back_with_and_without_a_last_origin() {
        let key = output_key(Topic::Alerts, 1);
        for last in [
            None,
            Some(Origin {
                incarnation: EventId([8; 16]),
                offset: 4,
                key: "p1/hr".into(),
                n: 2,
            }),
        ] {
            let end = OutputEnd {
                processor: "alerts".into(),
                reached: Reached { journal: 5, end: 7 },
                last,
            };
            assert_eq!(OutputEnd::unpack(&key, end.pack(&key)).unwrap(), end);
        }
    }

    #[test]
    fn states_of_one_place_are_a_range_of_their_own() {
        let (from, to, prefix) = state_range("alerts", 2);
        for (key, inside) in [
            (state_key("alerts", 2, ""), true),
            (state_key("alerts", 2, "\u{10ffff}"), true),
            (state_key("alerts", 3, "a"), false),
            (state_key("alert", 2, "a"), false),
            (state_key("alertss", 2, "a"), false),
        ] {
            assert_eq!((from.as_ref()..to.as_ref()).contains(&key.as_ref()), inside);
        }
        assert_eq!(&state_key("alerts", 2, "p1")[prefix..], b"p1");
    }
}
