//! Refused input, and what is decided beside the journal: records passed over, versions that take over.

use bytes::Bytes;
use smol_str::SmolStr;

use crate::avro::{record, symbols};
use crate::facts::Door;
use crate::ids::EventId;
use crate::time::Timestamp;

symbols! {
    /// Why a record was refused. Stable: scripts and devices depend on it.
    pub enum Code {
        /// The bytes are no record at all.
        Unreadable = "unreadable",
        /// A required field is absent.
        MissingField = "missing_field",
        /// No such metric.
        UnknownMetric = "unknown_metric",
        /// The unit is not one of this metric's.
        UnknownUnit = "unknown_unit",
        /// Outside what a living patient or a working sensor can give.
        Implausible = "implausible",
        /// NaN, infinity, or no number.
        NotANumber = "not_a_number",
        /// The time cannot be read.
        TimeUnreadable = "time_unreadable",
        /// The time is too far ahead of ours.
        TimeAhead = "time_ahead",
        /// Fields contradict each other.
        Inconsistent = "inconsistent",
        /// No such sensor is registered.
        UnknownSensor = "unknown_sensor",
        /// The sensor is another patient's.
        NotThisPatientsSensor = "not_this_patients_sensor",
        /// The record or message is too large.
        TooLarge = "too_large",
        /// The sender may not write this.
        Unauthorised = "unauthorised",
    }
}

record! {
    /// A refused record, bytes whole. In `fajma.rejected`.
    pub struct Rejection {
        /// Hash of door, arrival and bytes.
        pub id: EventId,
        /// When it reached our door.
        pub received_at: Timestamp,
        /// Which door.
        pub door: Door,
        /// The patient named, as text: it may be no valid id.
        pub patient_id: Option<SmolStr>,
        /// The sensor named, as text.
        pub sensor_id: Option<SmolStr>,
        /// Why.
        pub code: Code,
        /// The field at fault.
        pub field: Option<SmolStr>,
        /// What a person reads, in English.
        pub detail: SmolStr,
        /// The same in French.
        pub detail_fr: SmolStr,
        /// Place of the record in its message, from 0.
        pub index: i32,
        /// The record's bytes as they came (the whole message where it could not be taken apart).
        pub bytes: Bytes,
        /// How the message was labelled.
        pub content_type: Option<SmolStr>,
    }
}

record! {
    /// An operator's decision that a processor passes over a record. In `fajma.control`.
    pub struct Skip {
        /// The processor.
        pub processor: SmolStr,
        /// The journal partition.
        pub partition: u16,
        /// The journal offset.
        pub offset: i64,
        /// Who decided.
        pub by: SmolStr,
        /// Why.
        pub reason: SmolStr,
        /// When.
        pub at: Timestamp,
    }
}

record! {
    /// From an offset on a newer version of a processor speaks: up to there the version before it has said everything. Of
    /// several about one version and partition the first counts. In `fajma.control`.
    pub struct Cutover {
        /// The processor.
        pub processor: SmolStr,
        /// The version that speaks.
        pub version: u16,
        /// The journal partition.
        pub partition: u16,
        /// The first journal offset for which it speaks.
        pub offset: i64,
        /// Who decided.
        pub by: SmolStr,
        /// When.
        pub at: Timestamp,
    }
}
