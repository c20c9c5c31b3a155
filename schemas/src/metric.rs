//! What can be measured. What is known about each metric (codes, unit, ranges) is in [`crate::catalogue`].

use crate::avro::{self, Avro, Malformed};

pub use crate::catalogue::{Form, Info, Range};

macro_rules! metrics {
    ($($(#[$doc:meta])* $variant:ident = $text:literal),* $(,)?) => {
        /// A metric: what a reading measures. Written as its name.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
        pub enum Metric { $($(#[$doc])* #[serde(rename = $text)] $variant),* }

        impl Metric {
            /// Every metric.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The name, as in payloads and paths.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),* }
            }

            /// The metric of a name.
            #[must_use]
            pub fn parse(text: &str) -> Option<Self> {
                match text { $($text => Some(Self::$variant),)* _ => None }
            }
        }
    };
}

metrics! {
    /// Heart rate.
    HeartRate = "heart_rate",
    /// Peripheral oxygen saturation.
    Spo2 = "spo2",
    /// Respiratory rate.
    RespiratoryRate = "respiratory_rate",
    /// Systolic blood pressure.
    Systolic = "systolic",
    /// Diastolic blood pressure.
    Diastolic = "diastolic",
    /// Mean arterial pressure.
    MeanPressure = "mean_pressure",
    /// Body temperature.
    BodyTemperature = "body_temperature",
    /// Blood glucose.
    BloodGlucose = "blood_glucose",
    /// Body weight.
    Weight = "weight",
    /// Perfusion index of the pulse oximeter.
    PerfusionIndex = "perfusion_index",
    /// Heart rate variability, standard deviation of NN intervals.
    HrvSdnn = "hrv_sdnn",
    /// Steps walked.
    Steps = "steps",
    /// End-tidal carbon dioxide.
    Etco2 = "etco2",
    /// Peak expiratory flow.
    PeakFlow = "peak_flow",
    /// A fall (1) or its absence (0).
    Fall = "fall",
    /// Temperature of the room.
    AmbientTemperature = "ambient_temperature",
    /// Relative humidity of the room.
    AmbientHumidity = "ambient_humidity",
    /// Charge of the sensor's battery.
    Battery = "battery",
    /// Electrocardiogram, a waveform.
    Ecg = "ecg",
    /// Photoplethysmogram, a waveform.
    Ppg = "ppg",
}

impl std::fmt::Display for Metric {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Avro for Metric {
    fn write(&self, out: &mut Vec<u8>) {
        avro::write_text(self.as_str(), out);
    }
    fn read(from: &mut &[u8]) -> Result<Self, Malformed> {
        Self::parse(avro::read_text(from)?).ok_or(Malformed::Invalid("a metric"))
    }
}
