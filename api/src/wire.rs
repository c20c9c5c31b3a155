//! What goes over the wire: shapes of their own, so that what is stored may change without its readers.
//!
//! Times are RFC 3339 UTC with milliseconds; numbers are finite or null; units are UCUM, canonical.

use schemas::derived::Derived;
use schemas::facts::{
    AlertChange, AlertChanged, AlertClass, AlertState, Severity, WindowRevised, WindowSize, WindowStatus,
};
use schemas::ids::{EventId, Key};
use schemas::journal::Envelope;
use schemas::metric::Metric;
use schemas::time::Timestamp;
use serde::Serialize;
use smol_str::SmolStr;
use utoipa::ToSchema;

/// One measured value.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(crate) struct Reading {
    #[schema(value_type = String, format = "uuid")]
    pub(crate) id: EventId,
    /// The patient; null where the sensor has none.
    #[schema(value_type = Option<String>)]
    pub(crate) patient_id: Option<SmolStr>,
    #[schema(value_type = String)]
    pub(crate) sensor_id: SmolStr,
    #[schema(value_type = String, example = "heart_rate")]
    pub(crate) metric: Metric,
    pub(crate) value: Option<f64>,
    #[schema(example = "/min")]
    pub(crate) unit: &'static str,
    /// When it was measured.
    #[schema(value_type = String, format = DateTime)]
    pub(crate) at: Timestamp,
    /// When it reached us.
    #[schema(value_type = String, format = DateTime)]
    pub(crate) received_at: Timestamp,
    /// 0–100 as the device says.
    pub(crate) quality: Option<u8>,
    /// What was noticed about it: `time_missing`, `suspect`, `zero_with_contact`, `at_least_once`, `censored`,
    /// `misfiled` (its sensor was not this patient's when it was measured: it counts nowhere), `reattributed` (somebody has
    /// said that it is this patient's).
    #[schema(value_type = Vec<String>)]
    pub(crate) marks: Vec<SmolStr>,
}

impl Reading {
    /// The reading in a fact of the journal.
    pub(crate) fn of(envelope: &Envelope, reading: &schemas::facts::Reading) -> Self {
        Self {
            id: envelope.id,
            patient_id: patient(&envelope.key),
            sensor_id: reading.sensor_id.clone().into(),
            metric: reading.metric,
            value: finite(reading.value),
            unit: reading.metric.info().unit,
            at: envelope.measured_at,
            received_at: envelope.received_at,
            quality: reading.quality,
            marks: reading.marks.iter().map(|m| SmolStr::new_static(m.as_str())).collect(),
        }
    }
}

/// One window of one series, as of its newest revision.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(crate) struct Window {
    #[schema(value_type = Option<String>)]
    pub(crate) patient_id: Option<SmolStr>,
    #[schema(value_type = String)]
    pub(crate) sensor_id: SmolStr,
    #[schema(value_type = String, example = "heart_rate")]
    pub(crate) metric: Metric,
    #[schema(value_type = String, example = "1m")]
    pub(crate) size: WindowSize,
    #[schema(example = "/min")]
    pub(crate) unit: &'static str,
    #[schema(value_type = String, format = DateTime)]
    pub(crate) start: Timestamp,
    #[schema(value_type = String, format = DateTime)]
    pub(crate) end: Timestamp,
    pub(crate) revision: i32,
    /// `open`, `complete` or `revised`.
    #[schema(value_type = String)]
    pub(crate) status: WindowStatus,
    pub(crate) count: i64,
    pub(crate) min: Option<f64>,
    pub(crate) max: Option<f64>,
    pub(crate) mean: Option<f64>,
    /// Sample standard deviation.
    pub(crate) sd: Option<f64>,
    pub(crate) first: Option<f64>,
    pub(crate) last: Option<f64>,
    /// Mean of the qualities given, 0–100.
    pub(crate) quality: Option<f64>,
    /// Share of the expected readings that are there, 0–1.
    pub(crate) coverage: Option<f64>,
}

impl Window {
    pub(crate) fn of(key: &Key, window: &WindowRevised) -> Self {
        Self {
            patient_id: patient(key),
            sensor_id: window.sensor_id.clone().into(),
            metric: window.metric,
            size: window.size,
            unit: window.metric.info().unit,
            start: window.start,
            end: window.end,
            revision: window.revision,
            status: window.status,
            count: window.count,
            min: finite(window.min),
            max: finite(window.max),
            mean: finite(window.mean),
            sd: finite(window.sd),
            first: finite(window.first),
            last: finite(window.last),
            quality: window.quality.and_then(finite),
            coverage: window.coverage.and_then(finite),
        }
    }
}

/// An alert as it stands.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(crate) struct Alert {
    #[schema(value_type = String, format = "uuid")]
    pub(crate) id: EventId,
    #[schema(value_type = Option<String>)]
    pub(crate) patient_id: Option<SmolStr>,
    #[schema(value_type = Option<String>)]
    pub(crate) sensor_id: Option<SmolStr>,
    #[schema(value_type = Option<String>)]
    pub(crate) metric: Option<Metric>,
    /// What found it, like `heart_rate_high`.
    #[schema(value_type = String)]
    pub(crate) rule: SmolStr,
    /// `clinical` or `technical`.
    #[schema(value_type = String)]
    pub(crate) class: AlertClass,
    /// `CRITICAL`, `WARNING` or `INFO`.
    #[schema(value_type = String)]
    pub(crate) severity: Severity,
    /// `open`, `acknowledged`, `snoozed`, `resolved` or `withdrawn`.
    #[schema(value_type = String)]
    pub(crate) state: AlertState,
    /// Found in old data only: pages no one.
    pub(crate) retrospective: bool,
    #[schema(value_type = String)]
    pub(crate) message: SmolStr,
    #[schema(value_type = String)]
    pub(crate) message_fr: SmolStr,
    /// The value that decided, canonical unit.
    pub(crate) value: Option<f64>,
    /// The limit it reached, canonical unit.
    pub(crate) limit: Option<f64>,
    #[schema(value_type = String, format = DateTime)]
    pub(crate) started_at: Timestamp,
    #[schema(value_type = String, format = DateTime)]
    pub(crate) raised_at: Timestamp,
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) acknowledged_at: Option<Timestamp>,
    #[schema(value_type = Option<String>)]
    pub(crate) acknowledged_by: Option<SmolStr>,
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) resolved_at: Option<Timestamp>,
    /// What happened to it: all of it for one alert, in a live frame the latest, in lists nothing.
    pub(crate) history: Vec<AlertEvent>,
}

/// One thing that happened to an alert.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(crate) struct AlertEvent {
    /// What happened, like `raised`, `escalated`, `acknowledged`.
    #[schema(value_type = String)]
    pub(crate) change: AlertChange,
    /// When it was recorded.
    #[schema(value_type = String, format = DateTime)]
    pub(crate) at: Timestamp,
    #[schema(value_type = String)]
    pub(crate) severity: Severity,
    #[schema(value_type = String)]
    pub(crate) state: AlertState,
    /// Who did it, where a person did.
    #[schema(value_type = Option<String>)]
    pub(crate) by: Option<SmolStr>,
    /// Comment or reason.
    #[schema(value_type = Option<String>)]
    pub(crate) text: Option<SmolStr>,
    /// Until when it is silent.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) until: Option<Timestamp>,
}

impl Alert {
    /// The alert as one change left it.
    pub(crate) fn of(derived: &Derived, alert: &AlertChanged) -> Self {
        let event = AlertEvent {
            change: alert.change,
            at: derived.recorded_at,
            severity: alert.severity,
            state: alert.state,
            by: alert.by.clone(),
            text: alert.text.clone(),
            until: alert.until,
        };
        Self {
            id: alert.alert_id,
            patient_id: patient(&derived.key),
            sensor_id: alert.sensor_id.clone().map(SmolStr::from),
            metric: alert.metric,
            rule: alert.rule.clone(),
            class: alert.class,
            severity: alert.severity,
            state: alert.state,
            retrospective: alert.retrospective,
            message: alert.message.clone(),
            message_fr: alert.message_fr.clone(),
            value: alert.value.and_then(finite),
            limit: alert.limit.and_then(finite),
            started_at: alert.started_at,
            raised_at: alert.raised_at,
            acknowledged_at: alert.acknowledged_at,
            acknowledged_by: alert.acknowledged_by.clone(),
            resolved_at: alert.resolved_at,
            history: vec![event],
        }
    }
}

/// JSON has no NaN and no infinity.
pub(crate) fn finite(value: f64) -> Option<f64> {
    value.is_finite().then_some(value)
}

/// The patient of a key, as text.
pub(crate) fn patient(key: &Key) -> Option<SmolStr> {
    key.patient().cloned().map(SmolStr::from)
}

/// The patient of a key written as text; `None` where it is no patient's.
pub(crate) fn key_patient(key: &str) -> Option<SmolStr> {
    Key::parse(key).ok().as_ref().and_then(patient)
}
