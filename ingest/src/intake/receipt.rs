//! What a door tells a sender about each record.

use std::fmt;

use eventlog::{Offset, Partition};
use schemas::refused::{Code, Rejection};
use smol_str::SmolStr;

use super::Pending;
use super::memory::Known;
use crate::refusal::Refusal;

/// A place in the journal. Written `journal:partition:offset`, as every command of the house answers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// The journal's partition.
    pub partition: Partition,
    /// The offset in it.
    pub offset: Offset,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "journal:{}:{}", self.partition, self.offset)
    }
}

/// What became of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Durable in the journal.
    Accepted,
    /// Durable in the journal already, where [`Receipt::position`] says.
    Duplicate,
    /// Durable in `fajma.rejected`.
    Rejected,
}

impl Status {
    /// As text.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Duplicate => "duplicate",
            Self::Rejected => "rejected",
        }
    }
}

/// The answer to one record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// Place of the record in its message.
    pub index: i32,
    /// What became of it.
    pub status: Status,
    /// Where it stands in the journal (of several facts, the last); `None` where it was refused.
    pub position: Option<Position>,
    /// Why it was refused.
    pub refusal: Option<Box<Refusal>>,
}

impl Receipt {
    pub(super) const fn new(index: i32) -> Self {
        Self {
            index,
            status: Status::Duplicate,
            position: None,
            refusal: None,
        }
    }

    pub(super) fn refuse(&mut self, rejection: &Rejection) {
        self.status = Status::Rejected;
        self.refusal = Some(Box::new(Refusal {
            code: rejection.code,
            field: rejection.field.clone(),
            detail: rejection.detail.clone(),
            detail_fr: rejection.detail_fr.clone(),
        }));
    }

    /// The code of the refusal, where it was refused.
    #[must_use]
    pub fn code(&self) -> Option<Code> {
        self.refusal.as_ref().map(|r| r.code)
    }

    /// The field at fault, where there is one.
    #[must_use]
    pub fn field(&self) -> Option<&SmolStr> {
        self.refusal.as_ref().and_then(|r| r.field.as_ref())
    }
}

/// Enters what became of a fact into its record's receipt: a record is a duplicate where all its facts are.
pub(super) fn fold(receipts: &mut [Receipt], fact: Pending) {
    let Some(receipt) = receipts.get(fact.receipt) else {
        return;
    };
    let (status, position) = match fact.known {
        Known::Appended(position) => (Status::Accepted, Some(position)),
        Known::Durable(position) => (Status::Duplicate, Some(position)),
        // The place of the fact it repeats is in that fact's own receipt.
        _ => (Status::Duplicate, receipt.position),
    };
    let receipt = &mut receipts[fact.receipt];
    // Of a record that says several things, one of which is refused, the refusal is what its sender must know.
    if status == Status::Accepted && receipt.status != Status::Rejected {
        receipt.status = status;
    }
    receipt.position = position.max(receipt.position);
}

/// How many records became what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// Newly durable.
    pub accepted: usize,
    /// Known already.
    pub duplicates: usize,
    /// Refused.
    pub rejected: usize,
}

impl Tally {
    /// Counts receipts.
    #[must_use]
    pub fn of(receipts: &[Receipt]) -> Self {
        let mut tally = Self::default();
        for receipt in receipts {
            match receipt.status {
                Status::Accepted => tally.accepted += 1,
                Status::Duplicate => tally.duplicates += 1,
                Status::Rejected => tally.rejected += 1,
            }
        }
        tally
    }
}
