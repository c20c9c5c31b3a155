//! Small rows that were written just now and are said again and again ("there are readings on this day").

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;

/// Values at most this long are remembered: a row that says more seldom comes twice.
const SMALL: usize = 24;
const SLOTS: usize = 1 << 16;

/// 64-bit fingerprints of keys with their values, the newest in its slot. To write such a change again changes nothing,
/// whatever was written since, so it need not be looked up.
#[derive(Debug)]
pub(super) struct Recent {
    hasher: RandomState,
    slots: Vec<u64>,
}

impl Default for Recent {
    fn default() -> Self {
        Self {
            hasher: RandomState::new(),
            slots: vec![0; SLOTS],
        }
    }
}

/// What to remember of a change.
pub(super) type Print = u64;

impl Recent {
    /// The fingerprint of a change, where it is one to be remembered.
    pub(super) fn print(&self, key: &[u8], value: &[u8]) -> Option<Print> {
        (value.len() <= SMALL).then(|| self.hasher.hash_one((key, value)) | 1)
    }

    /// Whether this very change was written before, as far as is remembered.
    pub(super) fn has(&self, print: Print) -> bool {
        self.slots.get(slot(print)) == Some(&print)
    }

    /// These changes are written.
    pub(super) fn remember(&mut self, prints: Vec<Print>) {
        for print in prints {
            if let Some(slot) = self.slots.get_mut(slot(print)) {
                *slot = print;
            }
        }
    }
}

const fn slot(print: Print) -> usize {
    (print >> 48) as usize % SLOTS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_key_with_the_same_value_is_known() {
        let mut recent = Recent::default();
        let print = recent.print(b"k", b"v").unwrap();
        assert!(!recent.has(print));
        recent.remember(vec![print]);
        assert!(recent.has(print));
        for (key, value) in [(&b"k"[..], &b"w"[..]), (b"kv", b""), (b"", b"kv")] {
            assert!(!recent.has(recent.print(key, value).unwrap()));
        }
        assert_eq!(recent.print(b"k", &[0; SMALL + 1]), None);
    }
}
