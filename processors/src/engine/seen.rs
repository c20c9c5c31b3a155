//! Which facts have been recorded before: bounded memory, one segment per series and minute of measured time.
//!
//! A segment keeps for each fact the *first* journal offset that carried it; a record is new exactly if it stands at
//! that offset. So the verdict is a function of history alone: it stays the same when a restored segment is ahead of,
//! or behind, the key that asks (DESIGN §3, the origin rule).

use schemas::ids::EventId;
use schemas::time::{Span, Timestamp};
use serde::{Deserialize, Serialize};

/// How much measured time a segment holds.
pub const SEGMENT: Span = Span::minutes(1);

/// One fact: microseconds into the segment, fingerprint of its id, first offset.
type Entry = (u32, u32, i64);

/// The facts of one series and minute, sorted.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Segment(Vec<Entry>);

impl Segment {
    /// The first offset that carried this fact, which is `offset` where it is not known yet; and whether it was added.
    pub fn first(&mut self, measured_at: Timestamp, id: &EventId, offset: i64) -> (i64, bool) {
        let into = (measured_at - measured_at.floor(SEGMENT)).0 as u32;
        self.insert((into, id.fingerprint()), offset)
    }

    /// The first offset at which what this segment stands for happened, taking it to be `offset` where it had not yet.
    pub fn happened(&mut self, offset: i64) -> bool {
        self.insert((0, 0), offset).1
    }

    /// Whether what this segment stands for had happened before `offset`.
    #[must_use]
    pub fn had_happened(&self, offset: i64) -> bool {
        self.0.first().is_some_and(|entry| entry.2 < offset)
    }

    fn insert(&mut self, name: (u32, u32), offset: i64) -> (i64, bool) {
        let place = match self.0.last() {
            Some(last) if (last.0, last.1) < name => Err(self.0.len()),
            None => Err(0),
            Some(_) => self.0.binary_search_by(|e| (e.0, e.1).cmp(&name)),
        };
        match place {
            Ok(i) => (self.0[i].2, false),
            Err(i) => {
                self.0.insert(i, (name.0, name.1, offset));
                (offset, true)
            }
        }
    }

    /// Bytes held on the heap.
    #[must_use]
    pub const fn heap(&self) -> usize {
        self.0.capacity() * size_of::<Entry>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u8) -> EventId {
        EventId::of("t", &[&[n]])
    }

    #[test]
    fn a_fact_is_new_at_its_first_offset_however_often_it_is_asked() {
        let mut seen = Segment::default();
        for (t, n, offset, first) in [
            (5, 1, 10, 10),
            (5, 1, 12, 10),
            (3, 2, 13, 13),
            (5, 3, 14, 14),
            (5, 1, 10, 10),
        ] {
            assert_eq!(seen.first(Timestamp(t), &id(n), offset).0, first);
        }
        assert!(seen.0.is_sorted());
    }

    #[test]
    fn a_promise_holds_for_what_comes_after_it() {
        let mut seen = Segment::default();
        assert!(!seen.had_happened(5));
        assert!(seen.happened(5) && !seen.happened(9));
        assert!(!seen.had_happened(5) && seen.had_happened(6));
    }
}
