//! Records as stored: many in one value, guarded by a checksum that covers where they belong.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use schemas::time::Timestamp;
use xxhash_rust::xxh3::Xxh3;

use crate::{Entry, LogError, Offset, Partition, Topic};

const VERSION: u8 = 1;
const HEADER: usize = 1 + 4 + 8 + 8;
const CHECKSUM: usize = 8;
/// Bytes a record costs beside its key and value.
const PER_RECORD: usize = 2 + 4;

/// Some records of one partition, appended at the same moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Block {
    /// The offset of the first record; the others follow without gaps.
    pub(crate) base: Offset,
    /// When they were appended.
    pub(crate) appended_at: Timestamp,
    /// The latest moment at which anything up to here was appended: never falls, though clocks may be set back.
    pub(crate) latest: Timestamp,
    /// The records.
    pub(crate) entries: Vec<Entry>,
}

/// The key of the block that begins at `base`: in offset order.
pub(crate) fn key(base: Offset) -> [u8; 8] {
    base.max(0).cast_unsigned().to_be_bytes()
}

/// The base offset in a block's key.
pub(crate) fn base_of(key: &[u8]) -> Result<Offset, LogError> {
    <[u8; 8]>::try_from(key)
        .map(|bytes| u64::from_be_bytes(bytes).cast_signed())
        .map_err(|_| LogError::Corrupt(format!("a block's key has {} bytes", key.len())))
}

fn checksum(topic: Topic, partition: Partition, base: Offset, body: &[u8]) -> u64 {
    let mut hasher = Xxh3::new();
    hasher.update(topic.name().as_bytes());
    hasher.update(&partition.to_be_bytes());
    hasher.update(&base.to_be_bytes());
    hasher.update(body);
    hasher.digest()
}

impl Block {
    /// One past the last record's offset.
    pub(crate) fn end(&self) -> Offset {
        self.entries.last().map_or(self.base, |entry| entry.offset + 1)
    }

    /// The block's bytes, and the block itself with its records in that memory.
    pub(crate) fn pack(
        (topic, partition): (Topic, Partition),
        base: Offset,
        (appended_at, latest): (Timestamp, Timestamp),
        records: &[(Bytes, Bytes)],
    ) -> (Bytes, Self) {
        let size: usize = records.iter().map(|(k, v)| k.len() + v.len() + PER_RECORD).sum();
        let mut out = BytesMut::with_capacity(HEADER + size + CHECKSUM);
        out.put_u8(VERSION);
        out.put_u32(records.len() as u32);
        out.put_i64(appended_at.0);
        out.put_i64(latest.0);
        for (key, value) in records {
            out.put_u16(key.len() as u16);
            out.put_u32(value.len() as u32);
            out.put_slice(key);
            out.put_slice(value);
        }
        let sum = checksum(topic, partition, base, &out);
        out.put_u64(sum);
        let bytes = out.freeze();
        let mut at = HEADER;
        let entries = (base..)
            .zip(records)
            .map(|(offset, (key, value))| {
                let from = at + PER_RECORD;
                let middle = from + key.len();
                at = middle + value.len();
                Entry {
                    offset,
                    appended_at,
                    key: bytes.slice(from..middle),
                    value: bytes.slice(middle..at),
                }
            })
            .collect();
        let block = Self {
            base,
            appended_at,
            latest,
            entries,
        };
        (bytes, block)
    }

    /// Reads a block.
    pub(crate) fn unpack(topic: Topic, partition: Partition, base: Offset, bytes: &Bytes) -> Result<Self, LogError> {
        let damaged = |what: &str| LogError::Corrupt(format!("block {base} of {}/{partition}: {what}", topic.name()));
        if bytes.len() < HEADER + CHECKSUM {
            return Err(damaged("cut off"));
        }
        let end = bytes.len() - CHECKSUM;
        let (body, mut sum) = bytes.split_at(end);
        if sum.get_u64() != checksum(topic, partition, base, body) {
            return Err(damaged("checksum"));
        }
        let mut header = body;
        if header.get_u8() != VERSION {
            return Err(damaged("written by a newer version of this program"));
        }
        let count = header.get_u32();
        let (appended_at, latest) = (Timestamp(header.get_i64()), Timestamp(header.get_i64()));
        let mut entries = Vec::with_capacity(count as usize);
        let mut at = HEADER;
        for offset in base..base + i64::from(count) {
            let mut lengths = body.get(at..at + PER_RECORD).ok_or_else(|| damaged("length"))?;
            let from = at + PER_RECORD;
            let middle = from + usize::from(lengths.get_u16());
            at = middle + lengths.get_u32() as usize;
            if at > end {
                return Err(damaged("length"));
            }
            entries.push(Entry {
                offset,
                appended_at,
                key: bytes.slice(from..middle),
                value: bytes.slice(middle..at),
            });
        }
        Ok(Self {
            base,
            appended_at,
            latest,
            entries,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records() -> Vec<(Bytes, Bytes)> {
        vec![
            (Bytes::from_static(b"p1"), Bytes::from_static(b"first")),
            (Bytes::new(), Bytes::new()),
            (Bytes::from_static(b"p2"), Bytes::from(vec![7; 300])),
        ]
    }

    fn packed() -> (Bytes, Block) {
        let times = (Timestamp(5), Timestamp(9));
        Block::pack((Topic::Journal, 3), 40, times, &records())
    }

    #[test]
    fn a_block_reads_back_as_it_was_packed() {
        let (bytes, block) = packed();
        assert_eq!(Block::unpack(Topic::Journal, 3, 40, &bytes).unwrap(), block);
        assert_eq!((block.base, block.end(), block.entries.len()), (40, 43, 3));
        assert_eq!(block.entries[2].value.len(), 300);
    }

    #[test]
    fn every_flipped_byte_and_every_cut_is_noticed() {
        let (bytes, _) = packed();
        for at in 0..bytes.len() {
            let mut flipped = bytes.to_vec();
            flipped[at] ^= 0x10;
            assert!(
                Block::unpack(Topic::Journal, 3, 40, &flipped.into()).is_err(),
                "flipped at {at}"
            );
            assert!(
                Block::unpack(Topic::Journal, 3, 40, &bytes.slice(..at)).is_err(),
                "cut at {at}"
            );
        }
    }

    #[test]
    fn a_block_in_another_place_is_damaged() {
        let (bytes, _) = packed();
        for (topic, partition, base) in [(Topic::Audit, 3, 40), (Topic::Journal, 4, 40), (Topic::Journal, 3, 41)] {
            assert!(Block::unpack(topic, partition, base, &bytes).is_err());
        }
    }

    #[test]
    fn keys_are_in_offset_order() {
        let keys: Vec<_> = [0, 1, 255, 256, i64::from(u32::MAX), i64::MAX].map(key).into();
        assert!(keys.is_sorted());
        assert_eq!(base_of(&key(77)).unwrap(), 77);
        assert!(base_of(b"short").is_err());
    }
}
