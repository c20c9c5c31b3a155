//! Alerts: episodes that are raised, change, and end.

use smol_str::SmolStr;

use crate::avro::{record, symbols};
use crate::ids::{AlertId, SensorId};
use crate::metric::Metric;
use crate::time::Timestamp;

symbols! {
    /// How much it matters, least first (IEC 60601-1-8 low, medium, high priority).
    pub enum Severity {
        /// Worth knowing.
        Info = "INFO",
        /// Needs someone soon.
        Warning = "WARNING",
        /// Needs someone now.
        Critical = "CRITICAL",
    }
}

symbols! {
    /// Whether it is about the patient or about a device.
    pub enum AlertClass {
        /// About the patient.
        Clinical = "clinical",
        /// About a device or the link to it.
        Technical = "technical",
    }
}

symbols! {
    /// Where an alert stands.
    pub enum AlertState {
        /// Nobody has answered.
        Open = "open",
        /// Somebody has taken it.
        Acknowledged = "acknowledged",
        /// Silent until a moment.
        Snoozed = "snoozed",
        /// Over.
        Resolved = "resolved",
        /// It should not have been raised.
        Withdrawn = "withdrawn",
    }
}

symbols! {
    /// What happened to an alert.
    pub enum AlertChange {
        /// It began.
        Raised = "raised",
        /// Its severity rose.
        Escalated = "escalated",
        /// Its severity fell.
        Eased = "eased",
        /// It was found in old data and holds now.
        BecameCurrent = "became_current",
        /// Somebody took it.
        Acknowledged = "acknowledged",
        /// It was silenced for a time.
        Snoozed = "snoozed",
        /// The silence ended.
        Woke = "woke",
        /// Somebody said something.
        Commented = "commented",
        /// The condition ended, or somebody ended it.
        Resolved = "resolved",
        /// It should not have been raised.
        Withdrawn = "withdrawn",
    }
}

record! {
    /// An alert as it stands after one change, whole.
    pub struct AlertChanged {
        /// The episode.
        pub alert_id: AlertId,
        /// What happened now.
        pub change: AlertChange,
        /// The sensor whose value raised it, where there is one.
        pub sensor_id: Option<SensorId>,
        /// The metric, where there is one.
        pub metric: Option<Metric>,
        /// What found it, like `heart_rate_high`, `asystole`, `sensor_offline`.
        pub rule: SmolStr,
        /// Where its state is found: an answer names it.
        pub subject: SmolStr,
        /// Clinical or technical.
        pub class: AlertClass,
        /// How much it matters now.
        pub severity: Severity,
        /// Where it stands.
        pub state: AlertState,
        /// Found in old data only: pages no one.
        pub retrospective: bool,
        /// What a doctor reads, in English.
        pub message: SmolStr,
        /// The same in French.
        pub message_fr: SmolStr,
        /// The value that decided, canonical unit.
        pub value: Option<f64>,
        /// The limit it reached, canonical unit.
        pub limit: Option<f64>,
        /// When the condition began, by measured time; frozen when it was raised.
        pub started_at: Timestamp,
        /// When it was raised, by recorded time.
        pub raised_at: Timestamp,
        /// When somebody took it.
        pub acknowledged_at: Option<Timestamp>,
        /// Who took it.
        pub acknowledged_by: Option<SmolStr>,
        /// When it ended.
        pub resolved_at: Option<Timestamp>,
        /// Who did what happened now, where a person did.
        pub by: Option<SmolStr>,
        /// Comment or reason.
        pub text: Option<SmolStr>,
        /// Until when it is silent.
        pub until: Option<Timestamp>,
    }
}
