//! A derived topic as it lies there, every record of it: nothing but records in origin order, and repeats that are equal to
//! the first byte for byte. Asked of the bytes, without the reader that everybody else goes by.

use std::collections::BTreeMap;

use bytes::Bytes;
use eventlog::Entry;
use schemas::derived::Origin;
use schemas::ids::EventId;
use smol_str::SmolStr;

/// Where something comes from: offset, key, which of the key's.
type Place = (i64, SmolStr, i32);

/// One partition of a derived topic.
#[derive(Debug)]
pub(super) struct Raw {
    name: String,
    incarnation: EventId,
    /// Key and value of the first record of each place.
    first: BTreeMap<Place, (Bytes, Bytes)>,
    pub(super) repeats: usize,
    pub(super) wrong: Vec<String>,
}

impl Raw {
    pub(super) fn new(name: String, incarnation: EventId) -> Self {
        Self {
            name,
            incarnation,
            first: BTreeMap::new(),
            repeats: 0,
            wrong: Vec::new(),
        }
    }

    /// The next record. Whether it is the first of its place.
    pub(super) fn see(&mut self, entry: &Entry, origin: &Origin) -> bool {
        let at = format_args!("{} at {}", self.name, entry.offset);
        if origin.incarnation != self.incarnation {
            self.wrong.push(format!("{at}: from another journal"));
        }
        let place = (origin.offset, origin.key.clone(), origin.n);
        if self.first.last_key_value().is_none_or(|(last, _)| *last < place) {
            self.first.insert(place, (entry.key.clone(), entry.value.clone()));
            return true;
        }
        match self.first.get(&place) {
            None => self.wrong.push(format!(
                "{at}: {place:?} comes for the first time after {:?}",
                self.first.keys().next_back()
            )),
            Some((key, value)) if *key != entry.key || *value != entry.value => {
                self.wrong.push(format!("{at}: a repeat of {place:?} with other bytes"));
            }
            Some(_) => self.repeats += 1,
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use schemas::time::Timestamp;

    use super::*;

    const JOURNAL: EventId = EventId([1; 16]);

    fn see(raw: &mut Raw, offset: i64, key: &str, value: &'static str) -> bool {
        let entry = Entry {
            offset: 0,
            appended_at: Timestamp::MIN,
            key: Bytes::from_static(b"p"),
            value: Bytes::from_static(value.as_bytes()),
        };
        let origin = Origin {
            incarnation: JOURNAL,
            offset,
            key: key.into(),
            n: 0,
        };
        raw.see(&entry, &origin)
    }

    #[test]
    fn an_equal_repeat_is_well_and_another_or_one_that_was_left_out_is_not() {
        let mut raw = Raw::new("alerts/0".to_owned(), JOURNAL);
        let news = [(1, "b", "x"), (3, "a", "y"), (1, "b", "x"), (3, "b", "z")].map(|(o, k, v)| see(&mut raw, o, k, v));
        assert_eq!(news, [true, true, false, true]);
        assert_eq!((raw.repeats, raw.wrong.len()), (1, 0));
        assert!(!see(&mut raw, 3, "a", "other"));
        assert!(!see(&mut raw, 2, "a", "never seen before"));
        assert_eq!((raw.repeats, raw.wrong.len()), (1, 2), "{:?}", raw.wrong);
    }
}
