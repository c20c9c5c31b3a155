//! What is remembered of the rows, so that most changes are written without looking for what was there: that costs more
//! than writing.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;

/// Keys remembered in each of two generations.
const KEYS: usize = 1 << 16;
/// Values at most this long are remembered whole: rows that say little are said again and again.
const SMALL: usize = 24;
const SLOTS: usize = 1 << 16;

/// What memory says about a change.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// It is newer than what is there.
    Wins,
    /// What is there is newer, or the same.
    Loses,
    /// Memory does not know: look the row up.
    Look,
    /// Memory does not know: find the partition's last row, which will also tell about the changes to come.
    Seek,
}

/// Memory of the store. Only what was committed may be remembered; after a failure all is forgotten.
#[derive(Debug)]
pub(super) struct Known {
    hasher: RandomState,
    /// 64-bit fingerprints of small keys and values, the newest in its slot.
    prints: Vec<u64>,
    /// The version of the row, or of its removal, under a key.
    versions: Recent<i64>,
    /// The greatest key of a partition; `None` where it has been asked for once only.
    ends: Recent<Option<Vec<u8>>>,
}

impl Default for Known {
    fn default() -> Self {
        Self {
            hasher: RandomState::new(),
            prints: vec![0; SLOTS],
            versions: Recent::default(),
            ends: Recent::default(),
        }
    }
}

impl Known {
    /// The fingerprint of a change, where it is small.
    pub(super) fn print(&self, key: &[u8], value: &[u8]) -> Option<u64> {
        (value.len() <= SMALL).then(|| self.hasher.hash_one((key, value)) | 1)
    }

    /// Whether this very change was made before: to make it again changes nothing, whatever was made since.
    pub(super) fn has(&self, print: u64) -> bool {
        self.prints.get(slot(print)) == Some(&print)
    }

    pub(super) fn remember_print(&mut self, print: u64) {
        if let Some(slot) = self.prints.get_mut(slot(print)) {
            *slot = print;
        }
    }

    /// About a row that is written again and again.
    pub(super) fn version(&mut self, key: &[u8], version: i64) -> Answer {
        match self.versions.get(key) {
            None => Answer::Look,
            Some(known) if version > *known => Answer::Wins,
            Some(known) if version < *known => Answer::Loses,
            Some(_) => Answer::Look,
        }
    }

    pub(super) fn remember_version(&mut self, key: &[u8], version: i64) {
        match self.versions.get(key) {
            Some(known) => *known = version.max(*known),
            None => self.versions.insert(key, version),
        }
    }

    /// About a row of a partition that grows at its end: beyond the end there is nothing. Beyond the end is this key from
    /// now on.
    pub(super) fn beyond(&mut self, partition: &[u8], key: &[u8]) -> Answer {
        match self.ends.get(partition) {
            None => {
                self.ends.insert(partition, None);
                Answer::Look
            }
            Some(None) => Answer::Seek,
            Some(Some(end)) if key > end.as_slice() => {
                end.clear();
                end.extend_from_slice(key);
                Answer::Wins
            }
            Some(Some(_)) => Answer::Look,
        }
    }

    pub(super) fn remember_end(&mut self, partition: &[u8], end: Vec<u8>) {
        self.ends.insert(partition, Some(end));
    }
}

const fn slot(print: u64) -> usize {
    (print >> 48) as usize % SLOTS
}

/// A map that forgets what was not asked for lately.
#[derive(Debug)]
struct Recent<V> {
    young: HashMap<Box<[u8]>, V>,
    old: HashMap<Box<[u8]>, V>,
}

impl<V> Default for Recent<V> {
    fn default() -> Self {
        Self {
            young: HashMap::new(),
            old: HashMap::new(),
        }
    }
}

impl<V> Recent<V> {
    fn get(&mut self, key: &[u8]) -> Option<&mut V> {
        if !self.young.contains_key(key) {
            let (key, value) = self.old.remove_entry(key)?;
            self.make_room();
            self.young.insert(key, value);
        }
        self.young.get_mut(key)
    }

    fn insert(&mut self, key: &[u8], value: V) {
        self.make_room();
        self.old.remove(key);
        self.young.insert(key.into(), value);
    }

    fn make_room(&mut self) {
        if self.young.len() >= KEYS {
            self.old = std::mem::take(&mut self.young);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_key_with_the_same_value_has_been_written() {
        let mut known = Known::default();
        let print = known.print(b"k", b"v").unwrap();
        assert!(!known.has(print));
        known.remember_print(print);
        assert!(known.has(print));
        for (key, value) in [(&b"k"[..], &b"w"[..]), (b"kv", b""), (b"", b"kv")] {
            assert!(!known.has(known.print(key, value).unwrap()));
        }
        assert_eq!(known.print(b"k", &[0; SMALL + 1]), None);
    }

    #[test]
    fn a_version_wins_over_a_lower_one_and_equal_ones_are_looked_up() {
        let mut known = Known::default();
        assert_eq!(known.version(b"k", 5), Answer::Look);
        known.remember_version(b"k", 5);
        known.remember_version(b"k", 4);
        let answers = [4, 5, 6].map(|version| known.version(b"k", version));
        assert_eq!(answers, [Answer::Loses, Answer::Look, Answer::Wins]);
    }

    #[test]
    fn beyond_the_end_of_a_partition_there_is_nothing() {
        let mut known = Known::default();
        assert_eq!(known.beyond(b"p", b"p5"), Answer::Look);
        assert_eq!(known.beyond(b"p", b"p5"), Answer::Seek);
        known.remember_end(b"p", b"p5".to_vec());
        let answers = [&b"p5"[..], b"p7", b"p6", b"p7", b"p8"].map(|key| known.beyond(b"p", key));
        use Answer::{Look, Wins};
        assert_eq!(answers, [Look, Wins, Look, Look, Wins]);
    }

    #[test]
    fn what_is_asked_for_is_kept_and_the_rest_forgotten() {
        let mut recent = Recent::default();
        recent.insert(b"kept", 1);
        recent.insert(b"lost", 2);
        for n in 0..3 * KEYS {
            assert_eq!(recent.get(b"kept"), Some(&mut 1));
            recent.insert(&n.to_be_bytes(), 0);
        }
        assert_eq!(recent.get(b"lost"), None);
        assert!(recent.young.len() + recent.old.len() <= 2 * KEYS);
    }
}
