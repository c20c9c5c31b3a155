//! What a partition holds, in a few words that two homes can compare.

use crate::{Entry, Offset, Topic};

/// Count, ends and hash of the records of a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sum {
    /// How many.
    pub records: u64,
    /// Bytes of their keys and values.
    pub bytes: u64,
    /// The first offset.
    pub first: Option<Offset>,
    /// The last offset.
    pub last: Option<Offset>,
    /// BLAKE3 of offsets, moments of append, keys and values.
    pub hash: [u8; 32],
}

/// A sum under way.
pub(super) struct Summing {
    /// `fajma.control` has offsets of its own in every home.
    offsets: bool,
    records: u64,
    bytes: u64,
    ends: Option<(Offset, Offset)>,
    hasher: blake3::Hasher,
}

impl Summing {
    pub(super) fn of(topic: Topic) -> Self {
        Self {
            offsets: topic != Topic::Control,
            records: 0,
            bytes: 0,
            ends: None,
            hasher: blake3::Hasher::new(),
        }
    }

    pub(super) fn take(&mut self, entries: &[Entry]) {
        for entry in entries {
            let offset = if self.offsets { entry.offset } else { 0 };
            let mut head = [0; 24];
            head[..8].copy_from_slice(&offset.to_be_bytes());
            head[8..16].copy_from_slice(&entry.appended_at.0.to_be_bytes());
            head[16..20].copy_from_slice(&(entry.key.len() as u32).to_be_bytes());
            head[20..].copy_from_slice(&(entry.value.len() as u32).to_be_bytes());
            self.hasher.update(&head);
            self.hasher.update(&entry.key);
            self.hasher.update(&entry.value);
            self.records += 1;
            self.bytes += (entry.key.len() + entry.value.len()) as u64;
            let first = self.ends.map_or(entry.offset, |(first, _)| first);
            self.ends = Some((first, entry.offset));
        }
    }

    pub(super) fn finish(self) -> Sum {
        let ends = self.ends.filter(|_| self.offsets);
        Sum {
            records: self.records,
            bytes: self.bytes,
            first: ends.map(|(first, _)| first),
            last: ends.map(|(_, last)| last),
            hash: *self.hasher.finalize().as_bytes(),
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use schemas::time::Timestamp;

    use super::*;

    fn entry(offset: Offset, at: i64, key: &'static str, value: &'static str) -> Entry {
        Entry {
            offset,
            appended_at: Timestamp(at),
            key: Bytes::from_static(key.as_bytes()),
            value: Bytes::from_static(value.as_bytes()),
        }
    }

    fn sum(topic: Topic, entries: &[Entry]) -> Sum {
        let mut summing = Summing::of(topic);
        // However it is cut.
        entries.chunks(1).for_each(|some| summing.take(some));
        summing.finish()
    }

    #[test]
    fn any_difference_between_records_is_a_difference_between_sums() {
        let one = [entry(3, 5, "ab", "c"), entry(4, 6, "", "x")];
        let same = sum(Topic::Journal, &one);
        assert_eq!(
            (same.records, same.bytes, same.first, same.last),
            (2, 4, Some(3), Some(4))
        );
        for other in [
            vec![entry(3, 5, "ab", "c")],
            vec![entry(3, 5, "a", "bc"), entry(4, 6, "", "x")],
            vec![entry(3, 5, "ab", "c"), entry(5, 6, "", "x")],
            vec![entry(3, 5, "ab", "c"), entry(4, 7, "", "x")],
            vec![entry(4, 6, "", "x"), entry(3, 5, "ab", "c")],
            vec![entry(3, 5, "ab", "d"), entry(4, 6, "", "x")],
        ] {
            assert_ne!(sum(Topic::Journal, &other).hash, same.hash, "{other:?}");
        }
    }

    #[test]
    fn decisions_are_the_same_wherever_they_stand() {
        let one = sum(Topic::Control, &[entry(3, 5, "k", "v"), entry(9, 5, "l", "w")]);
        assert_eq!(
            one,
            sum(Topic::Control, &[entry(0, 5, "k", "v"), entry(1, 5, "l", "w")])
        );
        assert_eq!((one.first, one.last), (None, None));
    }
}
