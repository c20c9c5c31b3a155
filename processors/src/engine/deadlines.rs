//! Which keys want to be woken when: ordered, in memory, rebuilt at a restore.
//!
//! An entry may stand earlier than what its state wants by now (a deadline that moves with every message would cost more
//! than the message): who is woken by an entry asks the state again.

use std::collections::BTreeSet;

use schemas::time::Timestamp;
use smol_str::SmolStr;

use super::processor::Deadlines;

/// The index.
#[derive(Debug, Default)]
pub(crate) struct Index {
    recorded: BTreeSet<(Timestamp, SmolStr)>,
    ingest: BTreeSet<(Timestamp, SmolStr)>,
}

impl Index {
    /// Sees to it that a key is woken no later than it wants; `indexed` is what stands in the index for it.
    pub(crate) fn want(&mut self, key: &SmolStr, wanted: Deadlines, indexed: &mut Deadlines) {
        let move_up =
            |set: &mut BTreeSet<(Timestamp, SmolStr)>, wanted: Option<Timestamp>, there: &mut Option<Timestamp>| {
                let Some(at) = wanted else { return };
                match *there {
                    Some(old) if old <= at => return,
                    Some(old) => {
                        set.remove(&(old, key.clone()));
                    }
                    None => {}
                }
                set.insert((at, key.clone()));
                *there = Some(at);
            };
        move_up(&mut self.recorded, wanted.recorded, &mut indexed.recorded);
        move_up(&mut self.ingest, wanted.ingest, &mut indexed.ingest);
    }

    /// Takes out every key whose entry has passed, in byte order, each once.
    pub(crate) fn take_due(&mut self, recorded: Timestamp, ingest: Timestamp) -> Vec<SmolStr> {
        let mut due = Vec::new();
        for (set, now) in [(&mut self.recorded, recorded), (&mut self.ingest, ingest)] {
            while set.first().is_some_and(|(at, _)| *at <= now) {
                due.extend(set.pop_first().map(|(_, key)| key));
            }
        }
        due.sort_unstable();
        due.dedup();
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_taken_once_in_byte_order_and_a_later_wish_waits_for_the_earlier_entry() {
        let mut index = Index::default();
        let (a, b) = (SmolStr::new("a"), SmolStr::new("b"));
        let (mut ia, mut ib) = (Deadlines::default(), Deadlines::default());
        let at = |n| Some(Timestamp(n));
        index.want(
            &b,
            Deadlines {
                recorded: at(5),
                ingest: at(5),
            },
            &mut ib,
        );
        index.want(
            &a,
            Deadlines {
                recorded: at(9),
                ingest: None,
            },
            &mut ia,
        );
        index.want(
            &a,
            Deadlines {
                recorded: at(7),
                ingest: None,
            },
            &mut ia,
        );
        index.want(
            &a,
            Deadlines {
                recorded: at(8),
                ingest: None,
            },
            &mut ia,
        );
        assert_eq!(ia.recorded, at(7));
        assert!(index.take_due(Timestamp(4), Timestamp(4)).is_empty());
        assert_eq!(index.take_due(Timestamp(7), Timestamp(5)), [a, b]);
        assert!(index.take_due(Timestamp::MAX, Timestamp::MAX).is_empty());
    }
}
