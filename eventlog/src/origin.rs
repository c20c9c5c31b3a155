//! The origin rule for homes whose writes are not atomic (DESIGN §3), as pure functions.
//!
//! An owner writes its outputs in origin order, then its states, then its position, each durable before the next. A
//! restore takes for each key the state with the greatest applied offset, whoever wrote it, and the greatest position.
//! A reader accepts only what is greater than the last it accepted. So every conclusion is seen once by every reader,
//! though owners crash anywhere and wake late: what they write late is true, because processors are deterministic.

use std::collections::BTreeMap;

use bytes::Bytes;
use schemas::derived::{Incarnation, Origin};
use smol_str::SmolStr;

use crate::{LogError, Offset, Output, Shelving, Stored, Work};

/// One write of a plan.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// A record of the derived topic.
    Output(Output),
    /// A record of the state topic, under (key, writer).
    State {
        /// Whose state.
        key: SmolStr,
        /// The state; a removal is written too.
        stored: Stored,
    },
    /// A record of the state topic, under the writer alone.
    Position {
        /// The next journal offset to process.
        offset: Offset,
        /// What the partition goes by there.
        context: Bytes,
    },
}

impl Step {
    /// 0 for outputs, 1 for states, 2 for the position: everything of a lower stage is durable before a higher begins.
    #[must_use]
    pub const fn stage(&self) -> u8 {
        match self {
            Self::Output(_) => 0,
            Self::State { .. } => 1,
            Self::Position { .. } => 2,
        }
    }
}

/// The writes of `work`, in the order in which they must become durable.
#[must_use]
pub fn plan(work: Work) -> Vec<Step> {
    let mut steps: Vec<_> = work.outputs.into_iter().map(Step::Output).collect();
    if let Some(checkpoint) = work.checkpoint {
        let states = checkpoint.states.into_iter();
        steps.extend(states.map(|(key, stored)| Step::State { key, stored }));
        steps.push(Step::Position {
            offset: checkpoint.position,
            context: checkpoint.context,
        });
    }
    steps
}

/// What a state topic's partition says, folded in any order.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Restore {
    states: BTreeMap<SmolStr, Stored>,
    position: Offset,
    context: Bytes,
}

impl Restore {
    /// Takes a state, whoever wrote it. Of equal ones the later is kept: it may be the same in a newer form.
    pub fn state(&mut self, key: SmolStr, stored: Stored) {
        match self.states.get_mut(&key) {
            Some(known) if known.applied > stored.applied => {}
            Some(known) => *known = stored,
            None => drop(self.states.insert(key, stored)),
        }
    }

    /// Takes a position with its context, whoever wrote it.
    pub fn position(&mut self, offset: Offset, context: Bytes) {
        if offset >= self.position {
            (self.position, self.context) = (offset, context);
        }
    }

    /// How many states it holds.
    #[must_use]
    pub fn states(&self) -> usize {
        self.states.len()
    }

    /// Puts its states on a shelf on which older ones or newer ones may be, by the same rule, and holds none any more.
    ///
    /// # Errors
    /// As the shelf's.
    pub fn unload(&mut self, shelf: &dyn Shelving) -> Result<(), LogError> {
        let mut changes = Vec::with_capacity(self.states.len());
        for (key, stored) in std::mem::take(&mut self.states) {
            if shelf.get(&key)?.is_none_or(|known| known.applied <= stored.applied) {
                changes.push((key, Some(stored)));
            }
        }
        shelf.put(changes)
    }

    /// The states by key (removed ones with their offset too), the next journal offset to process, and its context.
    #[must_use]
    pub fn finish(self) -> (BTreeMap<SmolStr, Stored>, Offset, Bytes) {
        (self.states, self.position, self.context)
    }
}

/// The strict reader of one partition of a derived topic. Its state, saved together with the offset read up to, is a
/// place from which reading goes on without loss or repeat.
#[derive(Debug, Clone, PartialEq)]
pub struct Reader {
    incarnation: Incarnation,
    last: Option<Origin>,
}

impl Reader {
    /// A reader of what was concluded from this journal that has accepted up to `last`.
    #[must_use]
    pub const fn new(incarnation: Incarnation, last: Option<Origin>) -> Self {
        Self { incarnation, last }
    }

    /// Whether a record is news; if so it is now the last accepted one. `false` is a repeat: leave it out.
    ///
    /// # Errors
    /// [`LogError::OtherIncarnation`] where it was concluded from another journal: stop.
    pub fn accept(&mut self, origin: &Origin) -> Result<bool, LogError> {
        if origin.incarnation != self.incarnation {
            return Err(LogError::OtherIncarnation {
                expected: self.incarnation,
                found: origin.incarnation,
            });
        }
        let news = self.last.as_ref().is_none_or(|last| origin.place() > last.place());
        if news {
            self.last = Some(origin.clone());
        }
        Ok(news)
    }

    /// The last accepted origin.
    #[must_use]
    pub const fn last(&self) -> Option<&Origin> {
        self.last.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use schemas::ids::EventId;

    use super::*;
    use crate::{Checkpoint, MemoryShelf, Shelf};

    const JOURNAL: Incarnation = EventId([1; 16]);

    fn origin(offset: Offset, key: &str, n: i32) -> Origin {
        Origin {
            incarnation: JOURNAL,
            offset,
            key: key.into(),
            n,
        }
    }

    fn stored(applied: Offset, value: Option<&'static str>) -> Stored {
        Stored {
            applied,
            value: value.map(text),
        }
    }

    fn text(text: &'static str) -> Bytes {
        Bytes::from_static(text.as_bytes())
    }

    #[test]
    fn outputs_come_before_states_and_states_before_the_position() {
        let output = |offset| Output {
            origin: origin(offset, "p", 0),
            key: Bytes::new(),
            value: Bytes::new(),
        };
        let work = Work {
            outputs: vec![output(3), output(4)],
            reached: 5,
            checkpoint: Some(Checkpoint {
                states: vec![("a".into(), stored(4, None)), ("b".into(), stored(3, Some("x")))],
                position: 5,
                context: Bytes::from_static(b"policy"),
            }),
        };
        let steps = plan(work);
        assert_eq!(steps.iter().map(Step::stage).collect::<Vec<_>>(), [0, 0, 1, 1, 2]);
        assert_eq!(steps[0], Step::Output(output(3)));
        assert!(
            matches!(&steps[2], Step::State { stored, .. } if stored.value.is_none()),
            "a removal is written"
        );
        assert!(plan(Work::default()).is_empty());
    }

    #[test]
    fn a_restore_takes_the_greatest_applied_state_whoever_wrote_it_and_in_whatever_order() {
        let older = stored(3, Some("older"));
        let newer = stored(7, Some("newer"));
        let removed = stored(9, None);
        for (written, kept) in [
            (vec![older.clone()], &older),
            (vec![older.clone(), newer.clone()], &newer),
            (vec![newer.clone(), older.clone()], &newer),
            (vec![removed.clone(), newer.clone()], &removed),
            (vec![stored(7, Some("older form")), newer.clone()], &newer),
        ] {
            let mut restore = Restore::default();
            for state in written {
                restore.state("k".into(), state);
            }
            assert_eq!(restore.finish().0.get("k"), Some(kept));
        }
    }

    #[test]
    fn a_restore_in_pieces_puts_on_a_shelf_what_one_at_once_holds() {
        let written = [
            ("a", stored(3, Some("older"))),
            ("b", stored(8, None)),
            ("a", stored(7, Some("newer"))),
            ("c", stored(2, Some("older form"))),
            ("b", stored(5, Some("before it was removed"))),
            ("c", stored(2, Some("newer form"))),
            ("a", stored(6, Some("late"))),
        ];
        for at_once in 1..=written.len() {
            let (shelf, mut whole, mut piece) = (MemoryShelf::default(), Restore::default(), Restore::default());
            for some in written.chunks(at_once) {
                for (key, stored) in some {
                    whole.state((*key).into(), stored.clone());
                    piece.state((*key).into(), stored.clone());
                }
                assert_eq!(
                    piece.states(),
                    some.iter().map(|(key, _)| key).collect::<BTreeSet<_>>().len()
                );
                piece.unload(&shelf).unwrap();
            }
            let mut there = BTreeMap::new();
            shelf
                .visit(&mut |key, stored| drop(there.insert(key.into(), stored)))
                .unwrap();
            assert_eq!(there, whole.finish().0, "{at_once} at once");
        }
    }

    #[test]
    fn a_restore_takes_the_greatest_position_with_its_own_context() {
        let mut restore = Restore::default();
        for (offset, context) in [(4, "four"), (9, "nine"), (6, "six")] {
            restore.position(offset, text(context));
        }
        let (states, position, context) = restore.finish();
        assert_eq!((states.len(), position, &context[..]), (0, 9, &b"nine"[..]));
        assert_eq!(Restore::default().finish().1, 0);
    }

    #[test]
    fn a_reader_accepts_only_what_is_greater() {
        let mut reader = Reader::new(JOURNAL, None);
        for (origin, news) in [
            (origin(3, "b", 0), true),
            (origin(3, "b", 0), false),
            (origin(3, "a", 9), false),
            (origin(3, "b", 1), true),
            (origin(3, "ba", 0), true),
            (origin(2, "z", 9), false),
            (origin(10, "", 0), true),
            (origin(9, "z", 0), false),
        ] {
            assert_eq!(reader.accept(&origin).unwrap(), news, "{origin:?}");
        }
        let mut resumed = Reader::new(JOURNAL, reader.last().cloned());
        assert!(!resumed.accept(&origin(10, "", 0)).unwrap());
        assert!(resumed.accept(&origin(10, "a", 0)).unwrap());
    }

    #[test]
    fn a_reader_stops_at_conclusions_from_another_journal() {
        let mut reader = Reader::new(EventId([2; 16]), None);
        assert!(matches!(
            reader.accept(&origin(1, "a", 0)),
            Err(LogError::OtherIncarnation { .. })
        ));
        assert_eq!(reader.last(), None);
    }
}
