//! Facts as bytes: Confluent framing (`0x00`, 4-byte schema id, big-endian), then the Avro record.
//!
//! Bytes of the newest version of a kind this build knows are read directly. Bytes of an older version, or of a newer
//! one whose schema has been [learnt](Catalogue::learn), are resolved by Avro's rules first. Ids here are our own, the same
//! in every log: where a registry's stand in stored bytes, the home of the log puts ours in their place.
//!
//! A schema that has been written never changes (`golden/` holds each version's form and bytes for ever): to change a
//! kind, copy its `.avsc` under a new name, give it the next free id and version in [`KINDS`], below the older one, and
//! give every new field a default, so that the older version can still be read.
//!
//! Symbols of enums are the texts of the JSON form. Where a text is no Avro name (`1m`), the schema's symbol has an
//! underscore before it (`_1m`); only the position is written, so the bytes do not show it.

mod catalogue;

pub use catalogue::Catalogue;

use crate::avro::{self, Avro, Malformed};
use crate::derived::{Derived, Outcome};
use crate::journal::{Envelope, Fact};
use crate::known::SchemaRecorded;
use crate::refused::{Cutover, Rejection, Skip};

/// One version of one kind of record.
#[derive(Debug, Clone, Copy)]
pub struct Kind {
    /// Our own schema id, as written in the framing.
    pub id: u32,
    /// The record's name, without namespace.
    pub name: &'static str,
    /// 1, 2, …
    pub version: u16,
    /// The schema, as in `schemas/avro`.
    pub text: &'static str,
}

macro_rules! kinds {
    ($($const:ident = $id:literal, $name:literal, $version:literal, $file:literal;)*) => {
        $(const $const: u32 = $id;)*
        /// Every version of every kind ever written, oldest first; of each kind the last is the one that is written.
        pub const KINDS: &[Kind] = &[
            $(Kind { id: $id, name: $name, version: $version, text: include_str!(concat!("../avro/", $file, ".avsc")) }),*
        ];
    };
}

kinds! {
    _READING_1 = 1, "Reading", 1, "reading";
    _DEVICE_ALARM_1 = 2, "DeviceAlarm", 1, "device_alarm";
    _SENSOR_STATUS_1 = 3, "SensorStatus", 1, "sensor_status";
    THRESHOLDS_SET = 4, "ThresholdsSet", 1, "thresholds_set";
    ALERT_ANSWERED = 5, "AlertAnswered", 1, "alert_answered";
    CLOCK_TICKED = 6, "ClockTicked", 1, "clock_ticked";
    _POLICY_CHANGED_1 = 7, "PolicyChanged", 1, "policy_changed";
    PROCESSOR_ACTIVATED = 8, "ProcessorActivated", 1, "processor_activated";
    SEALED = 9, "Sealed", 1, "sealed";
    WINDOW_REVISED = 10, "WindowRevised", 1, "window_revised";
    ALERT_CHANGED = 11, "AlertChanged", 1, "alert_changed";
    DEVICE_CHANGED = 12, "DeviceChanged", 1, "device_changed";
    _REJECTION_1 = 13, "Rejection", 1, "rejection";
    SKIP = 14, "Skip", 1, "skip";
    CUTOVER = 15, "Cutover", 1, "cutover";
    _PATIENT_RECORDED_1 = 16, "PatientRecorded", 1, "patient_recorded";
    PRACTITIONER_RECORDED = 17, "PractitionerRecorded", 1, "practitioner_recorded";
    SENSOR_RECORDED = 18, "SensorRecorded", 1, "sensor_recorded";
    SENSOR_ASSIGNED = 19, "SensorAssigned", 1, "sensor_assigned";
    SENSOR_ATTACHED = 20, "SensorAttached", 1, "sensor_attached";
    SENSOR_DETACHED = 21, "SensorDetached", 1, "sensor_detached";
    READINGS_REATTRIBUTED = 22, "ReadingsReattributed", 1, "readings_reattributed";
    CONSULTATION_PLANNED = 24, "ConsultationPlanned", 1, "consultation_planned";
    CONSULTATION_OPENED = 25, "ConsultationOpened", 1, "consultation_opened";
    CONSULTATION_CLOSED = 26, "ConsultationClosed", 1, "consultation_closed";
    CONSULTATION_NOTED = 27, "ConsultationNoted", 1, "consultation_noted";
    TOKENS_REVOKED = 28, "TokensRevoked", 1, "tokens_revoked";
    COMMAND_ISSUED = 29, "CommandIssued", 1, "command_issued";
    COMMAND_SENT = 30, "CommandSent", 1, "command_sent";
    COMMAND_ANSWERED = 31, "CommandAnswered", 1, "command_answered";
    COMMAND_EXPIRED = 32, "CommandExpired", 1, "command_expired";
    PATIENT_MERGED = 33, "PatientMerged", 1, "patient_merged";
    CONSULTATION_REVISED = 34, "ConsultationRevised", 1, "consultation_revised";
    ASSIGNMENT_CHANGED = 35, "AssignmentChanged", 1, "assignment_changed";
    POLICY_CHANGED = 36, "PolicyChanged", 2, "policy_changed_2";
    PATIENT_RECORDED = 37, "PatientRecorded", 2, "patient_recorded_2";
    SCHEMA_RECORDED = 40, "SchemaRecorded", 1, "schema_recorded";
    READING = 44, "Reading", 2, "reading_2";
    DEVICE_ALARM = 45, "DeviceAlarm", 2, "device_alarm_2";
    SENSOR_STATUS = 46, "SensorStatus", 2, "sensor_status_2";
    REJECTION = 47, "Rejection", 2, "rejection_2";
}

/// Bytes that cannot be read as a record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// No Confluent framing.
    #[error("not framed: the first byte is not zero or the record is shorter than 5 bytes")]
    NotFramed,
    /// A schema nobody has shown us: fetch it and [learn](Catalogue::learn) it, then try again.
    #[error("schema {0} is not known")]
    UnknownSchema(u32),
    /// A kind this build does not know, and which may not be ignored: a newer build is needed.
    #[error("a record of kind {0} needs a newer version of this program")]
    UnknownKind(String),
    /// The bytes are not what their schema says, or the record is of another family than was asked for.
    #[error("schema {schema_id}: {source}")]
    Malformed {
        /// The schema.
        schema_id: u32,
        /// What is wrong.
        source: Malformed,
    },
    /// The schemas do not fit together.
    #[error("schema {schema_id} does not resolve: {reason}")]
    Unresolvable {
        /// The schema.
        schema_id: u32,
        /// Avro's reason.
        reason: String,
    },
}

/// The newest version of a kind, by name without namespace.
#[must_use]
pub fn newest(name: &str) -> Option<&'static Kind> {
    KINDS.iter().rev().find(|k| k.name == name)
}

/// The schema id and the record of framed bytes.
///
/// # Errors
/// [`DecodeError::NotFramed`].
pub fn unframe(bytes: &[u8]) -> Result<(u32, &[u8]), DecodeError> {
    match bytes {
        [0, a, b, c, d, body @ ..] => Ok((u32::from_be_bytes([*a, *b, *c, *d]), body)),
        _ => Err(DecodeError::NotFramed),
    }
}

fn frame(id: u32, out: &mut Vec<u8>) {
    out.push(0);
    out.extend_from_slice(&id.to_be_bytes());
}

/// Appends a journal record.
pub fn encode(envelope: &Envelope, out: &mut Vec<u8>) {
    let id = match &envelope.fact {
        Fact::Reading(_) => READING,
        Fact::DeviceAlarm(_) => DEVICE_ALARM,
        Fact::SensorStatus(_) => SENSOR_STATUS,
        Fact::ThresholdsSet(_) => THRESHOLDS_SET,
        Fact::AlertAnswered(_) => ALERT_ANSWERED,
        Fact::ClockTicked(_) => CLOCK_TICKED,
        Fact::PolicyChanged(_) => POLICY_CHANGED,
        Fact::ProcessorActivated(_) => PROCESSOR_ACTIVATED,
        Fact::PatientRecorded(_) => PATIENT_RECORDED,
        Fact::PractitionerRecorded(_) => PRACTITIONER_RECORDED,
        Fact::SensorRecorded(_) => SENSOR_RECORDED,
        Fact::SensorAssigned(_) => SENSOR_ASSIGNED,
        Fact::SensorAttached(_) => SENSOR_ATTACHED,
        Fact::SensorDetached(_) => SENSOR_DETACHED,
        Fact::ReadingsReattributed(_) => READINGS_REATTRIBUTED,
        Fact::TokensRevoked(_) => TOKENS_REVOKED,
        Fact::CommandIssued(_) => COMMAND_ISSUED,
        Fact::CommandSent(_) => COMMAND_SENT,
        Fact::CommandAnswered(_) => COMMAND_ANSWERED,
        Fact::CommandExpired(_) => COMMAND_EXPIRED,
        Fact::PatientMerged(_) => PATIENT_MERGED,
        Fact::ConsultationPlanned(_) => CONSULTATION_PLANNED,
        Fact::ConsultationOpened(_) => CONSULTATION_OPENED,
        Fact::ConsultationClosed(_) => CONSULTATION_CLOSED,
        Fact::ConsultationNoted(_) => CONSULTATION_NOTED,
        Fact::Sealed(_) => SEALED,
        Fact::Unknown { schema_id } => *schema_id,
    };
    frame(id, out);
    envelope.id.write(out);
    envelope.key.write(out);
    envelope.measured_at.write(out);
    envelope.gateway_at.write(out);
    envelope.received_at.write(out);
    envelope.clock.write(out);
    envelope.cause.write(out);
    match &envelope.fact {
        Fact::Reading(body) => body.write(out),
        Fact::DeviceAlarm(body) => body.write(out),
        Fact::SensorStatus(body) => body.write(out),
        Fact::ThresholdsSet(body) => body.write(out),
        Fact::AlertAnswered(body) => body.write(out),
        Fact::ClockTicked(body) => body.write(out),
        Fact::PolicyChanged(body) => body.write(out),
        Fact::ProcessorActivated(body) => body.write(out),
        Fact::PatientRecorded(body) => body.write(out),
        Fact::PractitionerRecorded(body) => body.write(out),
        Fact::SensorRecorded(body) => body.write(out),
        Fact::SensorAssigned(body) => body.write(out),
        Fact::SensorAttached(body) => body.write(out),
        Fact::SensorDetached(body) => body.write(out),
        Fact::ReadingsReattributed(body) => body.write(out),
        Fact::TokensRevoked(body) => body.write(out),
        Fact::CommandIssued(body) => body.write(out),
        Fact::CommandSent(body) => body.write(out),
        Fact::CommandAnswered(body) => body.write(out),
        Fact::CommandExpired(body) => body.write(out),
        Fact::PatientMerged(body) => body.write(out),
        Fact::ConsultationPlanned(body) => body.write(out),
        Fact::ConsultationOpened(body) => body.write(out),
        Fact::ConsultationClosed(body) => body.write(out),
        Fact::ConsultationNoted(body) => body.write(out),
        Fact::Sealed(body) => body.write(out),
        Fact::Unknown { .. } => {}
    }
}

/// Reads a journal record.
///
/// # Errors
/// [`DecodeError`], by what can be done about it.
pub fn decode(bytes: &[u8], catalogue: &Catalogue) -> Result<Envelope, DecodeError> {
    let (schema_id, body) = catalogue.resolve(bytes)?;
    let Some(body) = body else {
        return Ok(ignored(schema_id));
    };
    read_envelope(schema_id, &body).map_err(|source| DecodeError::Malformed { schema_id, source })
}

fn read_envelope(schema_id: u32, mut from: &[u8]) -> Result<Envelope, Malformed> {
    let from = &mut from;
    let envelope = Envelope {
        id: Avro::read(from)?,
        key: Avro::read(from)?,
        measured_at: Avro::read(from)?,
        gateway_at: Avro::read(from)?,
        received_at: Avro::read(from)?,
        clock: Avro::read(from)?,
        cause: Avro::read(from)?,
        fact: match schema_id {
            READING => Fact::Reading(Avro::read(from)?),
            DEVICE_ALARM => Fact::DeviceAlarm(Avro::read(from)?),
            SENSOR_STATUS => Fact::SensorStatus(Avro::read(from)?),
            THRESHOLDS_SET => Fact::ThresholdsSet(Avro::read(from)?),
            ALERT_ANSWERED => Fact::AlertAnswered(Avro::read(from)?),
            CLOCK_TICKED => Fact::ClockTicked(Avro::read(from)?),
            POLICY_CHANGED => Fact::PolicyChanged(Avro::read(from)?),
            PROCESSOR_ACTIVATED => Fact::ProcessorActivated(Avro::read(from)?),
            PATIENT_RECORDED => Fact::PatientRecorded(Avro::read(from)?),
            PRACTITIONER_RECORDED => Fact::PractitionerRecorded(Avro::read(from)?),
            SENSOR_RECORDED => Fact::SensorRecorded(Avro::read(from)?),
            SENSOR_ASSIGNED => Fact::SensorAssigned(Avro::read(from)?),
            SENSOR_ATTACHED => Fact::SensorAttached(Avro::read(from)?),
            SENSOR_DETACHED => Fact::SensorDetached(Avro::read(from)?),
            READINGS_REATTRIBUTED => Fact::ReadingsReattributed(Avro::read(from)?),
            TOKENS_REVOKED => Fact::TokensRevoked(Avro::read(from)?),
            COMMAND_ISSUED => Fact::CommandIssued(Avro::read(from)?),
            COMMAND_SENT => Fact::CommandSent(Avro::read(from)?),
            COMMAND_ANSWERED => Fact::CommandAnswered(Avro::read(from)?),
            COMMAND_EXPIRED => Fact::CommandExpired(Avro::read(from)?),
            PATIENT_MERGED => Fact::PatientMerged(Avro::read(from)?),
            CONSULTATION_PLANNED => Fact::ConsultationPlanned(Avro::read(from)?),
            CONSULTATION_OPENED => Fact::ConsultationOpened(Avro::read(from)?),
            CONSULTATION_CLOSED => Fact::ConsultationClosed(Avro::read(from)?),
            CONSULTATION_NOTED => Fact::ConsultationNoted(Avro::read(from)?),
            SEALED => Fact::Sealed(Avro::read(from)?),
            _ => return Err(Malformed::Invalid("a journal record's kind")),
        },
    };
    if from.is_empty() {
        Ok(envelope)
    } else {
        Err(Malformed::LeftOver(from.len()))
    }
}

/// What stands for a record that may be ignored.
fn ignored(schema_id: u32) -> Envelope {
    use crate::{ids, journal::ClockQuality, time::Timestamp};
    Envelope {
        id: ids::EventId([0; 16]),
        key: ids::Key::Nobody,
        measured_at: Timestamp::default(),
        gateway_at: None,
        received_at: Timestamp::default(),
        clock: ClockQuality::Server,
        cause: None,
        fact: Fact::Unknown { schema_id },
    }
}

/// Appends a derived record.
pub fn encode_derived(derived: &Derived, out: &mut Vec<u8>) {
    frame(
        match &derived.outcome {
            Outcome::Window(_) => WINDOW_REVISED,
            Outcome::Alert(_) => ALERT_CHANGED,
            Outcome::Device(_) => DEVICE_CHANGED,
            Outcome::Consultation(_) => CONSULTATION_REVISED,
            Outcome::Assignment(_) => ASSIGNMENT_CHANGED,
        },
        out,
    );
    derived.id.write(out);
    derived.key.write(out);
    derived.origin.write(out);
    derived.recorded_at.write(out);
    match &derived.outcome {
        Outcome::Window(body) => body.write(out),
        Outcome::Alert(body) => body.write(out),
        Outcome::Device(body) => body.write(out),
        Outcome::Consultation(body) => body.write(out),
        Outcome::Assignment(body) => body.write(out),
    }
}

/// Reads a derived record; `None` where it is of a kind that may be ignored.
///
/// # Errors
/// [`DecodeError`], by what can be done about it.
pub fn decode_derived(bytes: &[u8], catalogue: &Catalogue) -> Result<Option<Derived>, DecodeError> {
    let (schema_id, body) = catalogue.resolve(bytes)?;
    let Some(body) = body else { return Ok(None) };
    read_derived(schema_id, &body)
        .map(Some)
        .map_err(|source| DecodeError::Malformed { schema_id, source })
}

fn read_derived(schema_id: u32, mut from: &[u8]) -> Result<Derived, Malformed> {
    let from = &mut from;
    let derived = Derived {
        id: Avro::read(from)?,
        key: Avro::read(from)?,
        origin: Avro::read(from)?,
        recorded_at: Avro::read(from)?,
        outcome: match schema_id {
            WINDOW_REVISED => Outcome::Window(Avro::read(from)?),
            ALERT_CHANGED => Outcome::Alert(Avro::read(from)?),
            DEVICE_CHANGED => Outcome::Device(Avro::read(from)?),
            CONSULTATION_REVISED => Outcome::Consultation(Avro::read(from)?),
            ASSIGNMENT_CHANGED => Outcome::Assignment(Avro::read(from)?),
            _ => return Err(Malformed::Invalid("a derived record's kind")),
        },
    };
    if from.is_empty() {
        Ok(derived)
    } else {
        Err(Malformed::LeftOver(from.len()))
    }
}

/// A record that stands alone: without the header of the journal or of derived topics.
pub trait Plain: Avro {
    /// The id of its newest schema.
    const SCHEMA: u32;
}

impl Plain for Rejection {
    const SCHEMA: u32 = REJECTION;
}

impl Plain for Skip {
    const SCHEMA: u32 = SKIP;
}

impl Plain for Cutover {
    const SCHEMA: u32 = CUTOVER;
}

impl Plain for SchemaRecorded {
    const SCHEMA: u32 = SCHEMA_RECORDED;
}

/// Appends a record that stands alone.
pub fn encode_plain<T: Plain>(record: &T, out: &mut Vec<u8>) {
    frame(T::SCHEMA, out);
    record.write(out);
}

/// Reads a record that stands alone; `None` where it is of a kind that may be ignored.
///
/// # Errors
/// [`DecodeError`], by what can be done about it.
pub fn decode_plain<T: Plain>(bytes: &[u8], catalogue: &Catalogue) -> Result<Option<T>, DecodeError> {
    let (schema_id, body) = catalogue.resolve(bytes)?;
    let Some(body) = body else { return Ok(None) };
    if schema_id != T::SCHEMA {
        return Err(DecodeError::Malformed {
            schema_id,
            source: Malformed::Invalid("the record's kind"),
        });
    }
    avro::whole(&body)
        .map(Some)
        .map_err(|source| DecodeError::Malformed { schema_id, source })
}

#[cfg(test)]
mod tests {
    use apache_avro::Schema;

    use super::*;

    #[test]
    fn every_schema_parses_under_its_name() {
        for kind in KINDS {
            let schema = Schema::parse_str(kind.text).unwrap_or_else(|e| panic!("{}: {e}", kind.name));
            let Schema::Record(record) = schema else {
                panic!("{} is no record", kind.name)
            };
            assert_eq!(record.name.to_string(), format!("fajma.{}", kind.name));
        }
    }
}
