//! Who wears which sensor when: decided in the sensor's journal, told in the patients'.

use smol_str::SmolStr;

use super::Zone;
use crate::avro::record;
use crate::ids::{PatientId, SensorId};
use crate::time::{Span, Timestamp};

record! {
    /// Somebody said who wears a sensor from a moment on, until the next moment that something is said of.
    pub struct SensorAssigned {
        /// Who wears it from then on; `None` for nobody.
        pub patient: Option<PatientId>,
        /// From when on.
        pub from: Timestamp,
        /// Who said so.
        pub by: SmolStr,
    }
}

record! {
    /// In a patient's journal: a sensor is theirs for a stretch of measured time.
    pub struct SensorAttached {
        /// The sensor.
        pub sensor_id: SensorId,
        /// From when on.
        pub from: Timestamp,
        /// Until when; `None` until something else is said.
        pub until: Option<Timestamp>,
        /// Where in the sensor's journal this was decided: the greatest holds.
        pub order: i64,
        /// How often it is expected to be heard, as it is registered.
        pub expected_every: Option<Span>,
        /// Where it stands, as it is registered.
        pub zone: Option<Zone>,
    }
}

record! {
    /// In a patient's journal: a sensor is not theirs for a stretch of measured time.
    pub struct SensorDetached {
        /// The sensor.
        pub sensor_id: SensorId,
        /// From when on.
        pub from: Timestamp,
        /// Until when; `None` until something else is said.
        pub until: Option<Timestamp>,
        /// Where in the sensor's journal this was decided: the greatest holds.
        pub order: i64,
    }
}

record! {
    /// Somebody said whose a sensor's readings of a stretch of measured time are.
    pub struct ReadingsReattributed {
        /// Whose they are.
        pub patient: PatientId,
        /// Measured at or after this.
        pub from: Timestamp,
        /// Measured before this.
        pub to: Timestamp,
        /// Who said so.
        pub by: SmolStr,
    }
}

record! {
    /// A sensor is somebody else's, or is expected otherwise, for a stretch of measured time.
    pub struct AssignmentChanged {
        /// The sensor.
        pub sensor_id: SensorId,
        /// From when on.
        pub from: Timestamp,
        /// Until when; `None` until something else is said.
        pub until: Option<Timestamp>,
        /// Whose it was said to be.
        pub before: Option<PatientId>,
        /// Whose it is.
        pub after: Option<PatientId>,
        /// How often it is expected to be heard, as it is registered.
        pub expected_every: Option<Span>,
        /// Where it stands, as it is registered.
        pub zone: Option<Zone>,
    }
}
