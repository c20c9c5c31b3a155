//! Sensors as they were last heard.

use smol_str::SmolStr;

use super::SensorState;
use crate::avro::{record, symbols};
use crate::ids::SensorId;
use crate::time::{Span, Timestamp};

symbols! {
    /// Whether a sensor is heard.
    pub enum Liveness {
        /// Heard within what it promised.
        Online = "online",
        /// Silent for three times what it promised.
        Offline = "offline",
        /// It never promised a rhythm: only its age can be told.
        Unknown = "unknown",
    }
}

record! {
    /// A sensor as last heard, whole.
    pub struct DeviceChanged {
        /// The sensor.
        pub sensor_id: SensorId,
        /// Whether it is heard.
        pub liveness: Liveness,
        /// Since when.
        pub since: Timestamp,
        /// What it last said about itself.
        pub state: Option<SensorState>,
        /// Last known charge, %.
        pub battery: Option<f64>,
        /// Last known firmware version.
        pub firmware: Option<SmolStr>,
        /// Last known signal strength, dBm.
        pub rssi: Option<f64>,
        /// Last known latitude, degrees.
        pub lat: Option<f64>,
        /// Last known longitude, degrees.
        pub lng: Option<f64>,
        /// Recorded time of the last message of any kind.
        pub last_heard: Timestamp,
        /// The rhythm it goes by, where it promised one.
        pub expected_every: Option<Span>,
    }
}
