//! What is remembered of the rows, so that most changes are written without looking for what was there: that costs more
//! than writing.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, BuildHasherDefault, Hash, Hasher};

/// Versions remembered in each of two generations, about 40 bytes each: 10,000 patients with five metrics have 50,000
/// rows of `latest` and 200,000 open windows. Whoever has more looks rows up again.
const VERSIONS: usize = 1 << 18;
/// Ends remembered in each of two generations, about 200 bytes each: a series has one per day.
const ENDS: usize = 1 << 16;
/// Values at most this long are remembered whole: rows that say little are said again and again.
const SMALL: usize = 24;
/// A multiple of the 60,000 such rows of 10,000 patients, so that few share a slot.
const SLOTS: usize = 1 << 18;

/// 128 bits of a key, by two secret hashes: two keys with the same do not occur.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Name(u64, u64);

impl Hash for Name {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.0);
    }
}

/// A [`Name`] is its own hash.
#[derive(Debug, Default)]
struct Itself(u64);

impl Hasher for Itself {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, n: u64) {
        self.0 = n;
    }
}

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
    second: RandomState,
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
            second: RandomState::new(),
            prints: vec![0; SLOTS],
            versions: Recent::new(VERSIONS),
            ends: Recent::new(ENDS),
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

    fn name(&self, key: &[u8]) -> Name {
        Name(self.hasher.hash_one(key), self.second.hash_one(key))
    }

    /// About a row that is written again and again.
    pub(super) fn version(&mut self, key: &[u8], version: i64) -> Answer {
        match self.versions.get(self.name(key)) {
            None => Answer::Look,
            Some(known) if version > *known => Answer::Wins,
            Some(known) if version < *known => Answer::Loses,
            Some(_) => Answer::Look,
        }
    }

    pub(super) fn remember_version(&mut self, key: &[u8], version: i64) {
        let name = self.name(key);
        match self.versions.get(name) {
            Some(known) => *known = version.max(*known),
            None => self.versions.insert(name, version),
        }
    }

    /// About a row of a partition that grows at its end: beyond the end there is nothing. Beyond the end is this key from
    /// now on.
    pub(super) fn beyond(&mut self, partition: &[u8], key: &[u8]) -> Answer {
        let name = self.name(partition);
        match self.ends.get(name) {
            None => {
                self.ends.insert(name, None);
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
        self.ends.insert(self.name(partition), Some(end));
    }
}

const fn slot(print: u64) -> usize {
    (print >> 32) as usize % SLOTS
}

/// A map that forgets what was not asked for lately.
#[derive(Debug)]
struct Recent<V> {
    /// Names in each generation.
    room: usize,
    young: Names<V>,
    old: Names<V>,
}

type Names<V> = HashMap<Name, V, BuildHasherDefault<Itself>>;

impl<V> Recent<V> {
    fn new(room: usize) -> Self {
        Self {
            room,
            young: Names::default(),
            old: Names::default(),
        }
    }

    fn get(&mut self, name: Name) -> Option<&mut V> {
        if !self.young.contains_key(&name) {
            let value = self.old.remove(&name)?;
            self.make_room();
            self.young.insert(name, value);
        }
        self.young.get_mut(&name)
    }

    fn insert(&mut self, name: Name, value: V) {
        self.make_room();
        self.old.remove(&name);
        self.young.insert(name, value);
    }

    fn make_room(&mut self) {
        if self.young.len() >= self.room {
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
    fn names_that_share_their_first_half_are_told_apart() {
        let mut recent = Recent::new(100);
        recent.insert(Name(1, 1), "one");
        recent.insert(Name(1, 2), "two");
        let found = [1, 2, 3].map(|second| recent.get(Name(1, second)).copied());
        assert_eq!(found, [Some("one"), Some("two"), None]);
    }

    #[test]
    fn what_is_asked_for_is_kept_and_the_rest_forgotten() {
        let mut recent = Recent::new(100);
        let [kept, lost] = [Name(1, 0), Name(2, 0)];
        recent.insert(kept, 1);
        recent.insert(lost, 2);
        for n in 0..300 {
            assert_eq!(recent.get(kept), Some(&mut 1));
            recent.insert(Name(n, 1), 0);
        }
        assert_eq!(recent.get(lost), None);
        assert!(recent.young.len() + recent.old.len() <= 200);
    }
}
