//! The same again: what a journal implies, and whether that is what was recorded. Pure; the caller brings the records.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use eventlog::{LogError, Offset, Output, Partition, Shelf, Stored};
use schemas::derived::{Derived, Incarnation, Origin};
use schemas::journal::Recorded;

use super::erased::{AnyTask, Kind};
use super::task::{Decided, Place, Stop};

/// A shelf with nothing on it: everything stays in memory.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoShelf;

impl Shelf for NoShelf {
    fn get(&self, _: &str) -> Result<Option<Stored>, LogError> {
        Ok(None)
    }
    fn visit(&self, _: &mut dyn FnMut(&str, Stored)) -> Result<(), LogError> {
        Ok(())
    }
}

/// What one processor concludes from one partition, from the journal's start on.
pub struct Recompute {
    task: Box<dyn AnyTask>,
    superseded: bool,
}

impl Recompute {
    /// A fresh start, with what is decided beside the journal.
    ///
    /// # Errors
    /// None that a fresh start could have; as [`Kind::restore`].
    pub fn new(
        kind: &Kind,
        incarnation: Incarnation,
        partition: Partition,
        decided: Decided,
    ) -> Result<Self, LogError> {
        let task = (kind.restore)(Place {
            partition,
            incarnation,
            position: 0,
            context: Bytes::new(),
            shelf: Arc::new(NoShelf),
            last_origin: None,
            decided,
            budget: usize::MAX,
        })?;
        Ok(Self {
            task,
            superseded: false,
        })
    }

    /// Handles the next records of the partition; returns what follows from them, in origin order.
    ///
    /// # Errors
    /// [`Stop::Unjudgeable`]. A newer version's activation is no error: nothing follows from there on.
    pub fn feed(&mut self, records: &[Recorded]) -> Result<Vec<Output>, Stop> {
        let mut outputs = Vec::new();
        let Some(end) = records.last().map(|last| last.offset + 1) else {
            return Ok(outputs);
        };
        while !self.superseded && self.task.position() < end {
            match self.task.handle(records) {
                Ok(work) => {
                    outputs.extend(work.outputs);
                    if work.checkpoint.is_some() {
                        // There is nothing to save it to: only what is forgotten is let go.
                        self.task.saved();
                    }
                }
                Err(Stop::Superseded { .. }) => self.superseded = true,
                Err(stop) => return Err(stop),
            }
        }
        Ok(outputs)
    }

    /// The next offset to feed.
    #[must_use]
    pub fn position(&self) -> Offset {
        self.task.position()
    }

    /// Whether nothing follows any more from what is recorded there.
    fn is_past(&self, offset: Offset) -> bool {
        self.superseded || offset < self.task.position()
    }
}

/// A conclusion as it stands in the derived topic.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// Its origin.
    pub origin: Origin,
    /// Whether this build's version of the processor wrote it; what other versions wrote is counted only.
    pub ours: bool,
    /// The framed record.
    pub value: Bytes,
}

impl Found {
    /// A decoded record and its bytes, as written by `kind` or by another version of it.
    #[must_use]
    pub fn new(kind: &Kind, derived: &Derived, value: Bytes) -> Self {
        Self {
            origin: derived.origin.clone(),
            ours: derived.id == Derived::id_of(kind.name, kind.version, &derived.origin),
            value,
        }
    }
}

/// What came of a comparison.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Verdict {
    /// Recorded as implied, byte for byte.
    pub equal: u64,
    /// Implied, but not recorded.
    pub missing: u64,
    /// Recorded, but not implied.
    pub extra: u64,
    /// Recorded with other bytes than implied.
    pub different: u64,
    /// Written by other versions: not judged.
    pub other_versions: u64,
    /// Implied where another version had been heard already with as great an origin: no reader would take it.
    pub spoken_for: u64,
    /// Repeats, which every reader passes over (the origin rule); equal or not to what was accepted.
    pub repeats: u64,
    /// The first place where recorded and implied part.
    pub first: Option<Origin>,
}

impl Verdict {
    /// Whether everything recorded is what the journal implies.
    #[must_use]
    pub const fn holds(&self) -> bool {
        self.missing == 0 && self.extra == 0 && self.different == 0
    }
}

/// Compares the journal's implications with a derived partition, streaming: memory is what one side is ahead.
pub struct Verify {
    recompute: Recompute,
    implied: VecDeque<Output>,
    recorded: VecDeque<Found>,
    last: Option<Origin>,
    verdict: Verdict,
}

impl Verify {
    /// A comparison from the start of both.
    #[must_use]
    pub fn new(recompute: Recompute) -> Self {
        Self {
            recompute,
            implied: VecDeque::new(),
            recorded: VecDeque::new(),
            last: None,
            verdict: Verdict::default(),
        }
    }

    /// The next records of the journal.
    ///
    /// # Errors
    /// As [`Recompute::feed`].
    pub fn journal(&mut self, records: &[Recorded]) -> Result<(), Stop> {
        self.implied.extend(self.recompute.feed(records)?);
        self.compare();
        Ok(())
    }

    /// The next record of the derived topic.
    pub fn recorded(&mut self, found: Found) {
        if self
            .last
            .as_ref()
            .is_some_and(|last| found.origin.place() <= last.place())
        {
            self.verdict.repeats += 1;
            return;
        }
        self.last = Some(found.origin.clone());
        self.verdict.other_versions += u64::from(!found.ours);
        self.recorded.push_back(found);
        self.compare();
    }

    /// The verdict, when both sides have been given whole.
    #[must_use]
    pub fn finish(mut self) -> Verdict {
        while let Some(output) = self.implied.pop_front() {
            self.verdict.missing += 1;
            self.part(output.origin);
        }
        while let Some(found) = self.recorded.pop_front() {
            if found.ours {
                self.verdict.extra += 1;
                self.part(found.origin);
            }
        }
        self.verdict
    }

    fn compare(&mut self) {
        loop {
            match (self.implied.front(), self.recorded.front()) {
                (Some(_), Some(found)) if found.ours => self.judge(),
                (Some(output), Some(other)) if output.origin.place() <= other.origin.place() => {
                    self.implied.pop_front();
                    self.verdict.spoken_for += 1;
                }
                (Some(_), Some(_)) => drop(self.recorded.pop_front()),
                (None, Some(other)) if !other.ours && self.recompute.is_past(other.origin.offset) => {
                    self.recorded.pop_front();
                }
                _ => return,
            }
        }
    }

    /// Of the first that is implied and the first of ours that is recorded, takes the lesser, or both where they are one.
    fn judge(&mut self) {
        use std::cmp::Ordering::{Equal, Greater, Less};
        let (Some(output), Some(found)) = (self.implied.front(), self.recorded.front()) else {
            return;
        };
        let order = output.origin.place().cmp(&found.origin.place());
        let same = output.value == found.value;
        let output = if order == Greater {
            None
        } else {
            self.implied.pop_front()
        };
        let found = if order == Less { None } else { self.recorded.pop_front() };
        match order {
            Less => self.verdict.missing += 1,
            Greater => self.verdict.extra += 1,
            Equal if same => self.verdict.equal += 1,
            Equal => self.verdict.different += 1,
        }
        if order != Equal || !same {
            let origin = output.map(|o| o.origin).or_else(|| found.map(|f| f.origin));
            origin.into_iter().for_each(|origin| self.part(origin));
        }
    }

    fn part(&mut self, origin: Origin) {
        self.verdict.first.get_or_insert(origin);
    }
}

#[cfg(test)]
mod tests {
    use schemas::metric::Metric;
    use schemas::time::Span;

    use super::*;
    use crate::testing::{INCARNATION, Journal, decode};

    fn kind() -> Kind {
        crate::all()[0]
    }

    fn recompute() -> Recompute {
        Recompute::new(&kind(), INCARNATION, 0, Decided::default()).unwrap()
    }

    fn journal() -> Vec<Recorded> {
        let mut journal = Journal::start();
        for n in 0..200 {
            journal.reading("p1", "s1", Metric::HeartRate, Span::seconds(n), 70.0 + (n % 7) as f64);
            journal.tick(Span::seconds(n));
        }
        journal.records
    }

    fn verdict(recorded: impl IntoIterator<Item = Output>) -> Verdict {
        let mut verify = Verify::new(recompute());
        for output in recorded {
            verify.recorded(Found::new(&kind(), &decode(&output), output.value));
        }
        journal().chunks(7).for_each(|records| verify.journal(records).unwrap());
        verify.finish()
    }

    #[test]
    fn what_was_recorded_is_compared_record_by_record() {
        let outputs = recompute().feed(&journal()).unwrap();
        let n = outputs.len() as u64;
        assert!(n > 50);
        let whole = verdict(outputs.clone());
        assert_eq!((whole.equal, whole.holds(), whole.first), (n, true, None));

        let repeated = verdict(outputs.iter().flat_map(|o| [o.clone(), o.clone()]));
        assert_eq!((repeated.equal, repeated.repeats, repeated.holds()), (n, n, true));

        let mut lost = outputs.clone();
        let gone = lost.remove(9);
        let lost = verdict(lost);
        assert_eq!((lost.missing, lost.equal, lost.first), (1, n - 1, Some(gone.origin)));

        let mut changed = outputs.clone();
        let mut bytes = changed[5].value.to_vec();
        let end = bytes.len() - 1;
        bytes[end] = 2 - bytes[end];
        bytes.extend_from_slice(&[0; 8]);
        changed[5].value = bytes.into();
        let mut verify = Verify::new(recompute());
        for output in changed {
            verify.recorded(Found {
                ours: true,
                origin: output.origin,
                value: output.value,
            });
        }
        verify.journal(&journal()).unwrap();
        let changed = verify.finish();
        assert_eq!((changed.different, changed.first), (1, Some(outputs[5].origin.clone())));
    }

    #[test]
    fn where_another_version_was_heard_first_nothing_is_missing_and_nothing_is_judged() {
        let outputs = recompute().feed(&journal()).unwrap();
        let n = outputs.len() as u64;
        for at in [0, 7, outputs.len() - 1] {
            let mut verify = Verify::new(recompute());
            for (place, output) in outputs.iter().enumerate() {
                // Another version spoke here, and for the two before as well.
                let ours = place != at;
                if ours && (at.saturating_sub(2)..at).contains(&place) {
                    continue;
                }
                let (origin, value) = (output.origin.clone(), output.value.clone());
                verify.recorded(Found { origin, ours, value });
            }
            journal().chunks(7).for_each(|records| verify.journal(records).unwrap());
            let verdict = verify.finish();
            let spoken_for = at.min(2) as u64 + 1;
            assert!(verdict.holds(), "{verdict:?}");
            assert_eq!(
                (verdict.equal, verdict.spoken_for, verdict.other_versions),
                (n - spoken_for, spoken_for, 1)
            );
        }
    }

    #[test]
    fn a_conclusion_that_nothing_implies_is_extra() {
        let mut outputs = recompute().feed(&journal()).unwrap();
        let mut invented = outputs[3].clone();
        invented.origin.n += 7;
        outputs.insert(4, invented);
        let mut verify = Verify::new(recompute());
        for output in outputs {
            verify.recorded(Found {
                ours: true,
                origin: output.origin,
                value: output.value,
            });
        }
        verify.journal(&journal()).unwrap();
        let verdict = verify.finish();
        assert_eq!((verdict.extra, verdict.missing, verdict.holds()), (1, 0, false));
    }
}
