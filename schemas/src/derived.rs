//! What processors concluded: records of derived topics, each with the origin that makes it the same one when repeated.

use smol_str::SmolStr;

use crate::avro::record;
use crate::facts::{AlertChanged, AssignmentChanged, ConsultationRevised, DeviceChanged, WindowRevised};
use crate::ids::{EventId, Key};
use crate::time::Timestamp;

/// Which life of a journal: given when it is created (in Kafka, the topic's id).
pub type Incarnation = EventId;

record! {
    /// Where a derived record comes from: unique, and ordered as a processor emits.
    pub struct Origin {
        /// The journal.
        pub incarnation: Incarnation,
        /// The journal's offset whose record led to it.
        pub offset: i64,
        /// The state key that acted.
        pub key: SmolStr,
        /// 0, 1, …: which of that key's outputs for that record.
        pub n: i32,
    }
}

impl Origin {
    /// Order within one journal partition: offset, then key in byte order, then n.
    #[must_use]
    pub fn place(&self) -> (i64, &[u8], i32) {
        (self.offset, self.key.as_bytes(), self.n)
    }
}

impl PartialOrd for Origin {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        (self.incarnation == other.incarnation).then(|| self.place().cmp(&other.place()))
    }
}

/// A derived record.
#[derive(Debug, Clone, PartialEq)]
pub struct Derived {
    /// Hash of processor, version and origin.
    pub id: EventId,
    /// Whom it is about: the journal key of its origin.
    pub key: Key,
    /// Where it comes from.
    pub origin: Origin,
    /// Recorded time when it was concluded.
    pub recorded_at: Timestamp,
    /// What was concluded.
    pub outcome: Outcome,
}

/// Every kind of conclusion.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// A window has a new revision.
    Window(WindowRevised),
    /// An alert changed.
    Alert(AlertChanged),
    /// A sensor is heard differently.
    Device(DeviceChanged),
    /// A part of a consultation has a new revision.
    Consultation(ConsultationRevised),
    /// A sensor is somebody else's.
    Assignment(AssignmentChanged),
}

impl Derived {
    /// The id of what `processor` at `version` concluded from `origin`.
    #[must_use]
    pub fn id_of(processor: &str, version: u16, origin: &Origin) -> EventId {
        EventId::of(
            "fajma.derived",
            &[
                processor.as_bytes(),
                &version.to_be_bytes(),
                &origin.incarnation.0,
                &origin.offset.to_be_bytes(),
                origin.key.as_bytes(),
                &origin.n.to_be_bytes(),
            ],
        )
    }
}
