//! Consultations: planned, opened, closed, noted by people; what was measured meanwhile, folded by a processor.

use smol_str::SmolStr;

use crate::avro::{record, symbols};
use crate::ids::{ConsultationId, SensorId, StaffId};
use crate::metric::Metric;
use crate::time::{Span, Timestamp};

symbols! {
    /// Where a consultation stands.
    pub enum ConsultationState {
        /// Not opened yet.
        Planned = "planned",
        /// Being held.
        Open = "open",
        /// Over.
        Closed = "closed",
    }
}

record! {
    /// Somebody planned a consultation of the patient.
    pub struct ConsultationPlanned {
        /// The consultation.
        pub consultation_id: ConsultationId,
        /// Who is to hold it.
        pub practitioner_id: StaffId,
        /// When it is to begin.
        pub planned_for: Option<Timestamp>,
        /// Who planned it.
        pub by: SmolStr,
    }
}

record! {
    /// A consultation began, at the envelope's `measured_at`. A second opening changes nothing.
    pub struct ConsultationOpened {
        /// The consultation.
        pub consultation_id: ConsultationId,
        /// Who opened it.
        pub by: SmolStr,
    }
}

record! {
    /// A consultation ended, at the envelope's `measured_at`. A second closing changes nothing.
    pub struct ConsultationClosed {
        /// The consultation.
        pub consultation_id: ConsultationId,
        /// When it had begun: with it, the fact alone says which hours it is about.
        pub opened_at: Timestamp,
        /// Who closed it.
        pub by: SmolStr,
    }
}

record! {
    /// Somebody wrote a note to a consultation.
    pub struct ConsultationNoted {
        /// The consultation.
        pub consultation_id: ConsultationId,
        /// What was written.
        pub text: SmolStr,
        /// The moment in the patient's data that the note is about, where it is about one.
        pub at: Option<Timestamp>,
        /// Who wrote it.
        pub by: SmolStr,
    }
}

record! {
    /// Measured time without a pause that matters.
    #[derive(Copy, Eq)]
    pub struct Stretch {
        /// Its first reading.
        pub start: Timestamp,
        /// Its last reading.
        pub end: Timestamp,
    }
}

record! {
    /// What one sensor measured of one metric in a part of a consultation. Values in the canonical unit.
    pub struct ConsultationSeries {
        /// The sensor.
        pub sensor_id: SensorId,
        /// The metric.
        pub metric: Metric,
        /// How many readings.
        pub count: i64,
        /// Smallest value.
        pub min: f64,
        /// Greatest value.
        pub max: f64,
        /// Arithmetic mean.
        pub mean: f64,
        /// Value of the latest reading by measured time.
        pub last: f64,
        /// When that was measured.
        pub last_at: Timestamp,
        /// How many readings came with a quality.
        pub rated: i64,
        /// Mean of the qualities given, 0–100; absent where none was.
        pub quality: Option<f64>,
        /// A longer pause between two readings is a gap; absent where the metric is measured now and then only.
        pub silent_after: Option<Span>,
        /// When it was measured: between two stretches lies a gap.
        pub stretches: Vec<Stretch>,
    }
}

record! {
    /// What was measured of the patient in one part of a consultation, whole, as of this revision. Parts are the hours of
    /// UTC that the consultation touches.
    pub struct ConsultationRevised {
        /// The consultation.
        pub consultation_id: ConsultationId,
        /// The part's first moment.
        pub start: Timestamp,
        /// The first moment after it.
        pub end: Timestamp,
        /// 1, 2, …: the highest is the newest.
        pub revision: i32,
        /// By metric, then sensor.
        pub series: Vec<ConsultationSeries>,
    }
}
