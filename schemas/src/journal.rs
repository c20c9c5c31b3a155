//! What happened in the world: facts in the journal, with their circumstances.

use crate::avro::symbols;
use crate::facts::{
    AlertAnswered, ClockTicked, CommandAnswered, CommandExpired, CommandIssued, CommandSent, ConsultationClosed,
    ConsultationNoted, ConsultationOpened, ConsultationPlanned, DeviceAlarm, PatientMerged, PatientRecorded,
    PolicyChanged, PractitionerRecorded, ProcessorActivated, Reading, ReadingsReattributed, Sealed, SensorAssigned,
    SensorAttached, SensorDetached, SensorRecorded, SensorStatus, ThresholdsSet, TokensRevoked,
};
use crate::ids::{EventId, Key};
use crate::time::Timestamp;

symbols! {
    /// How far the device's clock can be trusted.
    pub enum ClockQuality {
        /// The device gave a time within what is allowed.
        Device = "device",
        /// The device gave no time: it is ours, at arrival.
        Arrival = "arrival",
        /// The moment is the server's own (ticks, commands).
        Server = "server",
    }
}

/// A fact and its circumstances. Never changed once appended.
#[derive(Debug, Clone, PartialEq)]
pub struct Envelope {
    /// Same id, same fact.
    pub id: EventId,
    /// Whom it is about; chooses the partition.
    pub key: Key,
    /// When it happened, by the clock that saw it.
    pub measured_at: Timestamp,
    /// When a gateway took it, where one did.
    pub gateway_at: Option<Timestamp>,
    /// When it reached our door, by our clock.
    pub received_at: Timestamp,
    /// Whose clock `measured_at` is.
    pub clock: ClockQuality,
    /// The fact that led to this one.
    pub cause: Option<EventId>,
    /// The fact.
    pub fact: Fact,
}

/// Every kind of fact a journal holds.
#[derive(Debug, Clone, PartialEq)]
pub enum Fact {
    /// A sensor measured something.
    Reading(Reading),
    /// A device raised an alarm by itself.
    DeviceAlarm(DeviceAlarm),
    /// A sensor said how it is.
    SensorStatus(SensorStatus),
    /// Somebody set a patient's limits.
    ThresholdsSet(ThresholdsSet),
    /// Somebody answered an alert.
    AlertAnswered(AlertAnswered),
    /// Recorded time moved on.
    ClockTicked(ClockTicked),
    /// What processors go by changed.
    PolicyChanged(PolicyChanged),
    /// A version of a processor took over.
    ProcessorActivated(ProcessorActivated),
    /// Somebody registered a patient, changed or ended the registration.
    PatientRecorded(PatientRecorded),
    /// The same of a practitioner.
    PractitionerRecorded(PractitionerRecorded),
    /// The same of a sensor.
    SensorRecorded(SensorRecorded),
    /// Somebody said who wears a sensor.
    SensorAssigned(SensorAssigned),
    /// A patient's journal is told that a sensor is theirs.
    SensorAttached(SensorAttached),
    /// A patient's journal is told that a sensor is not theirs.
    SensorDetached(SensorDetached),
    /// Somebody said whose readings are.
    ReadingsReattributed(ReadingsReattributed),
    /// Somebody took back what was given.
    TokensRevoked(TokensRevoked),
    /// Somebody gave a sensor a command.
    CommandIssued(CommandIssued),
    /// A command was handed to a sensor.
    CommandSent(CommandSent),
    /// A sensor answered a command.
    CommandAnswered(CommandAnswered),
    /// A command was given up.
    CommandExpired(CommandExpired),
    /// Somebody said that two registrations are of one person.
    PatientMerged(PatientMerged),
    /// Somebody planned a consultation.
    ConsultationPlanned(ConsultationPlanned),
    /// A consultation began.
    ConsultationOpened(ConsultationOpened),
    /// A consultation ended.
    ConsultationClosed(ConsultationClosed),
    /// Somebody wrote a note to a consultation.
    ConsultationNoted(ConsultationNoted),
    /// A fact that only the holder of a key can read.
    Sealed(Sealed),
    /// A kind this build does not know and whose schema says that it may be ignored.
    Unknown {
        /// Its schema.
        schema_id: u32,
    },
}

impl Fact {
    /// Whether every key of the partition is concerned.
    #[must_use]
    pub const fn is_for_all(&self) -> bool {
        matches!(
            self,
            Self::ClockTicked(_) | Self::PolicyChanged(_) | Self::ProcessorActivated(_)
        )
    }

    /// What kind of fact this is: the name of its schema, for logs and counters.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Reading(_) => "Reading",
            Self::DeviceAlarm(_) => "DeviceAlarm",
            Self::SensorStatus(_) => "SensorStatus",
            Self::ThresholdsSet(_) => "ThresholdsSet",
            Self::AlertAnswered(_) => "AlertAnswered",
            Self::ClockTicked(_) => "ClockTicked",
            Self::PolicyChanged(_) => "PolicyChanged",
            Self::ProcessorActivated(_) => "ProcessorActivated",
            Self::PatientRecorded(_) => "PatientRecorded",
            Self::PractitionerRecorded(_) => "PractitionerRecorded",
            Self::SensorRecorded(_) => "SensorRecorded",
            Self::SensorAssigned(_) => "SensorAssigned",
            Self::SensorAttached(_) => "SensorAttached",
            Self::SensorDetached(_) => "SensorDetached",
            Self::ReadingsReattributed(_) => "ReadingsReattributed",
            Self::TokensRevoked(_) => "TokensRevoked",
            Self::CommandIssued(_) => "CommandIssued",
            Self::CommandSent(_) => "CommandSent",
            Self::CommandAnswered(_) => "CommandAnswered",
            Self::CommandExpired(_) => "CommandExpired",
            Self::PatientMerged(_) => "PatientMerged",
            Self::ConsultationPlanned(_) => "ConsultationPlanned",
            Self::ConsultationOpened(_) => "ConsultationOpened",
            Self::ConsultationClosed(_) => "ConsultationClosed",
            Self::ConsultationNoted(_) => "ConsultationNoted",
            Self::Sealed(_) => "Sealed",
            Self::Unknown { .. } => "Unknown",
        }
    }

    /// The sensor that spoke, where one did.
    #[must_use]
    pub const fn sensor(&self) -> Option<&crate::ids::SensorId> {
        match self {
            Self::Reading(r) => Some(&r.sensor_id),
            Self::DeviceAlarm(a) => Some(&a.sensor_id),
            Self::SensorStatus(s) => Some(&s.sensor_id),
            _ => None,
        }
    }
}

/// A fact with its place in the journal.
#[derive(Debug, Clone, PartialEq)]
pub struct Recorded {
    /// Its offset in its partition.
    pub offset: i64,
    /// When the log took it, by the log's clock.
    pub appended_at: Timestamp,
    /// The fact and its circumstances.
    pub envelope: Envelope,
}
