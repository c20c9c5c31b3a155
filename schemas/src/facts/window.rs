//! Aggregates over intervals of measured time.

use crate::avro::{record, symbols};
use crate::ids::SensorId;
use crate::metric::Metric;
use crate::time::{Span, Timestamp};

symbols! {
    /// How long a window is; aligned to 1970.
    pub enum WindowSize {
        /// One minute.
        Minute = "1m",
        /// Five minutes.
        FiveMinutes = "5m",
        /// One hour.
        Hour = "1h",
        /// One day (UTC).
        Day = "1d",
    }
}

impl WindowSize {
    /// Its length.
    #[must_use]
    pub const fn span(self) -> Span {
        match self {
            Self::Minute => Span::minutes(1),
            Self::FiveMinutes => Span::minutes(5),
            Self::Hour => Span::hours(1),
            Self::Day => Span::days(1),
        }
    }
}

symbols! {
    /// How final a window is.
    pub enum WindowStatus {
        /// Its interval has not ended in recorded time.
        Open = "open",
        /// Its interval has ended.
        Complete = "complete",
        /// It changed after it was complete.
        Revised = "revised",
    }
}

record! {
    /// One window of one (patient, sensor, metric), whole, as of this revision. Values in the canonical unit.
    pub struct WindowRevised {
        /// The sensor.
        pub sensor_id: SensorId,
        /// The metric.
        pub metric: Metric,
        /// The window's length.
        pub size: WindowSize,
        /// First moment inside.
        pub start: Timestamp,
        /// First moment after.
        pub end: Timestamp,
        /// 1, 2, …: the highest is the newest.
        pub revision: i32,
        /// How final.
        pub status: WindowStatus,
        /// How many readings.
        pub count: i64,
        /// Smallest value.
        pub min: f64,
        /// Greatest value.
        pub max: f64,
        /// Arithmetic mean.
        pub mean: f64,
        /// Sample standard deviation (n − 1); 0 for a single reading.
        pub sd: f64,
        /// Value of the earliest reading by measured time.
        pub first: f64,
        /// Value of the latest reading by measured time.
        pub last: f64,
        /// Mean of the qualities given, 0–100; absent where none was.
        pub quality: Option<f64>,
        /// Share of the expected readings that are there, 0–1; absent where no rhythm was promised.
        pub coverage: Option<f64>,
    }
}
