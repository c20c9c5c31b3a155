//! What sensors say: readings, alarms of the device itself, status.

use smol_str::SmolStr;

use crate::avro::{record, symbols};
use crate::ids::SensorId;
use crate::metric::Metric;

symbols! {
    /// A way in.
    pub enum Door {
        /// MQTT, JSON or Avro payloads.
        Mqtt = "mqtt",
        /// Requests written for Confluent's REST Proxy.
        RestProxy = "rest_proxy",
        /// `POST /v1/readings`.
        Http = "http",
        /// Topics of Kafka that others fill.
        Raw = "raw",
        /// Another MQTT broker, which we read from.
        Bridge = "bridge",
    }
}

symbols! {
    /// What was noticed about a reading when it was judged.
    pub enum Mark {
        /// The device gave no time: `measured_at` is the time of arrival.
        TimeMissing = "time_missing",
        /// Possible, but outside what is usual: confirm it.
        Suspect = "suspect",
        /// A zero whose sensor knows that it has contact.
        ZeroWithContact = "zero_with_contact",
        /// Neither device time nor sequence: a retransmission cannot be told from a new reading.
        AtLeastOnce = "at_least_once",
        /// A saturated sensor: the true value lies at or beyond this one.
        Censored = "censored",
    }
}

record! {
    /// The value and unit as the device sent them, where they differ from the canonical ones.
    pub struct Sent {
        /// The number sent.
        pub value: f64,
        /// The unit sent.
        pub unit: SmolStr,
    }
}

record! {
    /// A stretch of waveform.
    pub struct Samples {
        /// Samples per second, in Hz.
        pub rate: f64,
        /// The samples in the metric's canonical unit, the first at the reading's `measured_at`.
        pub values: Vec<f32>,
    }
}

record! {
    /// One measured value of one metric by one sensor.
    pub struct Reading {
        /// The sensor.
        pub sensor_id: SensorId,
        /// What was measured.
        pub metric: Metric,
        /// In the metric's canonical unit. For a waveform, the mean of its samples.
        pub value: f64,
        /// As sent, where it differs.
        pub sent: Option<Sent>,
        /// 0–100 as the device says; absent where it says nothing.
        pub quality: Option<u8>,
        /// Whether the electrode or probe sits on the patient, where the device knows.
        pub contact: Option<bool>,
        /// The device's own count of its readings.
        pub seq: Option<i64>,
        /// Which life of the device `seq` belongs to.
        pub epoch: Option<i64>,
        /// The waveform, for metrics that are one.
        pub samples: Option<Samples>,
        /// What was noticed at the door.
        pub marks: Vec<Mark>,
        /// Where it came in.
        pub door: Door,
    }
}

symbols! {
    /// What a device raises by itself.
    pub enum AlarmCode {
        /// No heart beat.
        Asystole = "asystole",
        /// No breath.
        Apnoea = "apnoea",
        /// Ventricular fibrillation.
        VentricularFibrillation = "ventricular_fibrillation",
        /// Ventricular tachycardia.
        VentricularTachycardia = "ventricular_tachycardia",
        /// The patient fell.
        Fall = "fall",
        /// The patient asks for help.
        PanicButton = "panic_button",
        /// The sensor came off (technical).
        SensorOff = "sensor_off",
        /// The battery is nearly empty (technical).
        LowBattery = "low_battery",
    }
}

impl AlarmCode {
    /// Whether the alarm is about the patient; the others are about the device.
    #[must_use]
    pub const fn is_clinical(self) -> bool {
        !matches!(self, Self::SensorOff | Self::LowBattery)
    }
}

record! {
    /// An alarm raised by the device itself.
    pub struct DeviceAlarm {
        /// The sensor.
        pub sensor_id: SensorId,
        /// What it raises.
        pub code: AlarmCode,
        /// The device's own count.
        pub seq: Option<i64>,
        /// Which life of the device `seq` belongs to.
        pub epoch: Option<i64>,
        /// Where it came in.
        pub door: Door,
    }
}

symbols! {
    /// What a sensor says about itself.
    pub enum SensorState {
        /// Measuring.
        Active = "active",
        /// Not measuring.
        Inactive = "inactive",
        /// Something is wrong with it.
        Fault = "fault",
    }
}

record! {
    /// A status message, also as last will.
    pub struct SensorStatus {
        /// The sensor.
        pub sensor_id: SensorId,
        /// Its state.
        pub state: SensorState,
        /// Charge in %.
        pub battery: Option<f64>,
        /// Firmware version.
        pub firmware: Option<SmolStr>,
        /// Signal strength in dBm.
        pub rssi: Option<f64>,
        /// Latitude in degrees.
        pub lat: Option<f64>,
        /// Longitude in degrees.
        pub lng: Option<f64>,
        /// Sent by the broker in the device's name because its connection broke.
        pub last_will: bool,
        /// The command that this answers.
        pub command_id: Option<SmolStr>,
        /// What came of the command.
        pub result: Option<SmolStr>,
        /// Where it came in.
        pub door: Door,
    }
}
