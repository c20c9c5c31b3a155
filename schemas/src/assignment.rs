//! Whose sensor, when: intervals of measured time, folded from what is recorded.
//!
//! [`Timeline`] is a sensor's own, in the order of its journal. [`Owners`] is put together from several patients'
//! journals, which are read in any order: of what is said about a moment, the greatest `order` holds. [`Worn`] is what one
//! patient's journal was told.

mod told;

use serde::{Deserialize, Serialize};

pub use told::{Home, Worn, moved, told};

use crate::ids::{Key, PatientId};
use crate::journal::Fact;
use crate::time::Timestamp;

/// Who wears a sensor from when on, as has been said so far.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Timeline(Vec<(Timestamp, Option<PatientId>)>);

/// A stretch of a timeline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stretch {
    /// From when on.
    pub from: Timestamp,
    /// Until when; `None` for the last one.
    pub until: Option<Timestamp>,
    /// Who wore it before this was said.
    pub before: Option<PatientId>,
    /// Who wears it.
    pub after: Option<PatientId>,
}

impl Timeline {
    /// Takes in who wears it from a moment on, until the next moment that something was said of; the last word about
    /// one moment holds.
    pub fn put(&mut self, from: Timestamp, patient: Option<PatientId>) -> Stretch {
        let next = self.0.partition_point(|(at, _)| *at <= from);
        let until = self.0.get(next).map(|(at, _)| *at);
        let there = self.0[..next].last_mut();
        let before = there.as_ref().and_then(|(_, patient)| patient.clone());
        match there {
            Some((at, worn)) if *at == from => worn.clone_from(&patient),
            _ => self.0.insert(next, (from, patient.clone())),
        }
        Stretch {
            from,
            until,
            before,
            after: patient,
        }
    }

    /// The stretch that goes on until something else is said, where something has been said.
    #[must_use]
    pub fn last(&self) -> Option<(Timestamp, Option<&PatientId>)> {
        self.0.last().map(|(from, patient)| (*from, patient.as_ref()))
    }

    /// Who wears it at a moment.
    #[must_use]
    pub fn at(&self, at: Timestamp) -> Option<&PatientId> {
        let after = self.0.partition_point(|(from, _)| *from <= at);
        self.0[..after].last().and_then(|(_, patient)| patient.as_ref())
    }

    /// Bytes held on the heap.
    #[must_use]
    pub const fn heap(&self) -> usize {
        self.0.capacity() * size_of::<(Timestamp, Option<PatientId>)>()
    }
}

/// Whose a sensor is at a moment, as far as is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose<'a> {
    /// Nothing has been said of that moment.
    Unsaid,
    /// It was said to be this patient's no more, and nobody else's.
    Nobodys,
    /// This patient's.
    Of(&'a PatientId),
}

/// A stretch of measured time about which one thing holds.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Piece {
    from: Timestamp,
    /// [`Timestamp::MAX`] for no end.
    until: Timestamp,
    order: i64,
    patient: Option<PatientId>,
}

/// Whose a sensor is, put together from what stands in the journals of its patients.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Owners {
    pieces: Vec<Piece>,
    order: i64,
}

impl Owners {
    /// Takes in that it is a patient's, or no more a patient's (`None`), for a stretch of measured time. In whatever order
    /// and however often things are taken in, the same comes out.
    pub fn take(&mut self, from: Timestamp, until: Option<Timestamp>, order: i64, patient: Option<PatientId>) {
        self.order = self.order.max(order);
        let until = until.unwrap_or(Timestamp::MAX);
        let new = |from, until| Piece {
            from,
            until,
            order,
            patient: patient.clone(),
        };
        let mut pieces = Vec::with_capacity(self.pieces.len() + 2);
        let mut free = from;
        for piece in std::mem::take(&mut self.pieces) {
            if piece.until <= from || piece.from >= until {
                if piece.from >= until && free < until {
                    pieces.push(new(free, until));
                    free = until;
                }
                pieces.push(piece);
                continue;
            }
            if free < piece.from {
                pieces.push(new(free, piece.from));
            }
            let newer = (order, patient.is_some()) > (piece.order, piece.patient.is_some());
            let (start, end) = (piece.from.max(from), piece.until.min(until));
            let part = |from, until| Piece {
                from,
                until,
                ..piece.clone()
            };
            if piece.from < start {
                pieces.push(part(piece.from, start));
            }
            pieces.push(if newer { new(start, end) } else { part(start, end) });
            if end < piece.until {
                pieces.push(part(end, piece.until));
            }
            free = end;
        }
        if free < until {
            pieces.push(new(free, until));
        }
        pieces.dedup_by(|next, last| {
            let same = last.until == next.from && last.order == next.order && last.patient == next.patient;
            if same {
                last.until = next.until;
            }
            same
        });
        self.pieces = pieces;
    }

    /// Whose it is at a moment.
    #[must_use]
    pub fn at(&self, at: Timestamp) -> Whose<'_> {
        let after = self.pieces.partition_point(|piece| piece.from <= at);
        match self.pieces[..after].last().filter(|piece| at < piece.until) {
            None => Whose::Unsaid,
            Some(Piece { patient: None, .. }) => Whose::Nobodys,
            Some(Piece { patient: Some(it), .. }) => Whose::Of(it),
        }
    }

    /// Whether it is ever said to be nobody's between two moments.
    #[must_use]
    pub fn is_ever_nobodys(&self, from: Timestamp, until: Timestamp) -> bool {
        let within = |piece: &&Piece| piece.from < until && from < piece.until;
        self.pieces.iter().filter(within).any(|piece| piece.patient.is_none())
    }

    /// Whether it is said to be somebody's all the time between two moments.
    #[must_use]
    pub fn is_always_somebodys(&self, from: Timestamp, until: Timestamp) -> bool {
        let mut known = from;
        for piece in self.pieces.iter().filter(|piece| piece.patient.is_some()) {
            if piece.from <= known && known < piece.until {
                known = piece.until;
            }
        }
        known >= until
    }

    /// The greatest order that was taken in; 0 where none was.
    #[must_use]
    pub const fn order(&self) -> i64 {
        self.order
    }

    /// Takes in a fact of a patient's journal; `false` where it is about something else.
    pub fn fact(&mut self, key: &Key, fact: &Fact) -> bool {
        match (key, fact) {
            (Key::Patient(patient), Fact::SensorAttached(it)) => {
                self.take(it.from, it.until, it.order, Some(patient.clone()));
            }
            (Key::Patient(_), Fact::SensorDetached(it)) => self.take(it.from, it.until, it.order, None),
            _ => return false,
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) const fn t(n: i64) -> Timestamp {
        Timestamp(n)
    }

    pub(super) fn p(id: &str) -> Option<PatientId> {
        (!id.is_empty()).then(|| PatientId::new(id).unwrap())
    }

    #[test]
    fn what_is_said_of_a_moment_holds_until_the_next_that_something_was_said_of() {
        let mut timeline = Timeline::default();
        for (from, patient, until, before) in [
            (10, "a", None, ""),
            (30, "b", None, "a"),
            (20, "c", Some(30), "a"),
            (20, "", Some(30), "c"),
            (30, "a", None, "b"),
        ] {
            let stretch = timeline.put(t(from), p(patient));
            assert_eq!(
                (stretch.until, stretch.before),
                (until.map(t), p(before)),
                "{from} {patient}"
            );
        }
        let at = |n| timeline.at(t(n)).map(ToString::to_string);
        assert_eq!(
            [9, 10, 19, 20, 30].map(at),
            [None, Some("a".into()), Some("a".into()), None, Some("a".into())]
        );
        assert_eq!(timeline.last(), Some((t(30), p("a").as_ref())));
    }

    /// A plain table: for each moment the greatest that was said of it.
    #[test]
    fn owners_are_the_same_in_whatever_order_and_however_often_they_are_told() {
        let mut timeline = Timeline::default();
        let mut told: Vec<(i64, Option<i64>, i64, Option<PatientId>)> = Vec::new();
        let mut n = 1_u64;
        let mut next = |below: u64| {
            n = n
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (n >> 33) % below
        };
        for order in 1..60 {
            let patient = p(["", "a", "b", "c"][next(4) as usize]);
            let stretch = timeline.put(t(next(40) as i64), patient);
            let (from, until) = (stretch.from.0, stretch.until.map(|until| until.0));
            if stretch.before.is_some() && stretch.before != stretch.after {
                told.push((from, until, order, None));
            }
            if stretch.after.is_some() {
                told.push((from, until, order, stretch.after));
            }
        }
        for round in 0..50 {
            let mut owners = Owners::default();
            let mut left = told.clone();
            left.extend(told.iter().take(round).cloned());
            while !left.is_empty() {
                let (from, until, order, patient) = left.swap_remove(next(left.len() as u64) as usize);
                owners.take(t(from), until.map(t), order, patient);
            }
            for moment in 0..50 {
                let owner = match owners.at(t(moment)) {
                    Whose::Of(patient) => Some(patient),
                    Whose::Nobodys | Whose::Unsaid => None,
                };
                assert_eq!(owner, timeline.at(t(moment)), "round {round} at {moment}");
            }
            assert!(owners.pieces.is_sorted_by(|a, b| a.until <= b.from));
        }
    }
}
