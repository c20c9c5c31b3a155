//! What people decide: thresholds, answers to alerts.

use smol_str::SmolStr;

use crate::avro::{record, symbols};
use crate::ids::AlertId;
use crate::metric::Metric;
use crate::time::Timestamp;

record! {
    /// Limits of one metric in its canonical unit; an absent one does not apply.
    ///
    /// A low limit is reached by a value at or below it, a high limit by a value at or above it.
    #[derive(Default, Copy)]
    pub struct Limits {
        /// CRITICAL at or below.
        pub critical_low: Option<f64>,
        /// WARNING at or below.
        pub warning_low: Option<f64>,
        /// INFO at or below.
        pub info_low: Option<f64>,
        /// INFO at or above.
        pub info_high: Option<f64>,
        /// WARNING at or above.
        pub warning_high: Option<f64>,
        /// CRITICAL at or above.
        pub critical_high: Option<f64>,
    }
}

record! {
    /// The limits of one metric for one patient.
    pub struct MetricLimits {
        /// The metric.
        pub metric: Metric,
        /// Its limits; they replace the defaults of this metric whole.
        pub limits: Limits,
    }
}

record! {
    /// What is set for a patient over the defaults, whole: a metric that is not in the list goes by the defaults again.
    pub struct ThresholdsSet {
        /// Limits per metric.
        pub thresholds: Vec<MetricLimits>,
        /// Who set them.
        pub by: SmolStr,
    }
}

symbols! {
    /// What a person does about an alert.
    pub enum Answer {
        /// Takes note and responsibility.
        Acknowledge = "acknowledge",
        /// Asks for silence until a moment, with a reason.
        Snooze = "snooze",
        /// Says something.
        Comment = "comment",
        /// Ends it.
        Resolve = "resolve",
    }
}

record! {
    /// A person's answer to an alert.
    pub struct AlertAnswered {
        /// The alert.
        pub alert_id: AlertId,
        /// The alert's `subject`, by which its state is found.
        pub subject: SmolStr,
        /// What the person does.
        pub answer: Answer,
        /// Who.
        pub by: SmolStr,
        /// Comment or reason.
        pub text: Option<SmolStr>,
        /// Until when, for a snooze.
        pub until: Option<Timestamp>,
    }
}
