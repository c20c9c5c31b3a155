//! What processors go by: a fact in the journal, never a line in a configuration file.

use crate::avro::record;
use crate::facts::Limits;
use crate::metric::Metric;
use crate::time::Span;

record! {
    /// How one metric is watched.
    pub struct MetricRule {
        /// The metric.
        pub metric: Metric,
        /// Default limits for an adult.
        pub limits: Limits,
        /// The condition must hold this long between samples before an alert is raised.
        pub raise_after: Span,
        /// The condition must be gone this long between samples before the alert ends.
        pub clear_after: Span,
        /// How far inside the limit a value must be to count as gone, canonical unit.
        pub deadband: f64,
        /// Taken now and then: a first reading raises at most a WARNING, the next confirms.
        pub spot: bool,
        /// At or below this, one reading is enough for CRITICAL.
        pub extreme_low: Option<f64>,
        /// At or above this, one reading is enough for CRITICAL.
        pub extreme_high: Option<f64>,
    }
}

record! {
    /// The whole of what processors go by.
    pub struct Policy {
        /// Version of the metric catalogue.
        pub catalogue: i32,
        /// How far a device's clock may be ahead of ours.
        pub allowed_skew: Span,
        /// How long late data re-opens its windows.
        pub lateness: Span,
        /// Data older than this when it is recorded raises retrospective alerts only.
        pub fresh_for: Span,
        /// How each metric is watched.
        pub rules: Vec<MetricRule>,
    }
}
