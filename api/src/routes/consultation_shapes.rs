//! Consultations as they go over the wire.

use std::collections::BTreeMap;

use projections::query::{self, Anomaly};
use schemas::consultation::Figures;
use schemas::facts::ConsultationState;
use schemas::ids::{ConsultationId, PatientId, StaffId};
use schemas::metric::Metric;
use schemas::time::Timestamp;
use serde::Serialize;
use smol_str::SmolStr;
use utoipa::ToSchema;

use crate::wire::{self, Reading, finite};

/// A consultation as people have left it.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Head {
    #[schema(value_type = String)]
    pub(super) id: ConsultationId,
    #[schema(value_type = String)]
    pub(super) patient_id: PatientId,
    /// Who is to hold it.
    #[schema(value_type = String)]
    pub(super) practitioner_id: StaffId,
    /// When it is to begin.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(super) planned_for: Option<Timestamp>,
    #[schema(value_type = String, format = DateTime)]
    pub(super) planned_at: Timestamp,
    #[schema(value_type = String)]
    pub(super) planned_by: SmolStr,
    /// `planned`, `open` or `closed`.
    #[schema(value_type = String)]
    pub(super) state: ConsultationState,
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(super) opened_at: Option<Timestamp>,
    #[schema(value_type = Option<String>)]
    pub(super) opened_by: Option<SmolStr>,
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(super) closed_at: Option<Timestamp>,
    #[schema(value_type = Option<String>)]
    pub(super) closed_by: Option<SmolStr>,
    /// Oldest first.
    pub(super) notes: Vec<Note>,
}

/// A note to a consultation.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Note {
    #[schema(value_type = String)]
    pub(super) text: SmolStr,
    /// The moment in the patient's data that it is about.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(super) at: Option<Timestamp>,
    #[schema(value_type = String, format = DateTime)]
    pub(super) noted_at: Timestamp,
    #[schema(value_type = String)]
    pub(super) noted_by: SmolStr,
}

/// A consultation with what was measured in it.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Consultation {
    #[serde(flatten)]
    pub(super) head: Head,
    /// Figures by metric of what was measured from the opening to the closing, canonical units.
    #[schema(value_type = BTreeMap<String, FiguresOut>)]
    pub(super) real_time_data: BTreeMap<Metric, FiguresOut>,
    /// 0–100: mean quality × share of the time outside gaps; null before the opening.
    pub(super) data_quality_score: Option<f64>,
    /// Gaps, refused values and alerts of that time, by when they began.
    pub(super) anomalies_detected: Vec<AnomalyOut>,
    /// False where there were too many to look at all of them.
    pub(super) anomalies_complete: bool,
    /// With `seen_at`: that moment.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(super) seen_at: Option<Timestamp>,
    /// With `seen_at`: the newest reading of each sensor and metric that had been received by then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) sensor_data: Option<Vec<Reading>>,
}

/// Figures of one metric.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct FiguresOut {
    pub(super) count: i64,
    pub(super) min: Option<f64>,
    pub(super) max: Option<f64>,
    pub(super) mean: Option<f64>,
    /// The latest by measured time.
    pub(super) last: Option<f64>,
}

impl From<Figures> for FiguresOut {
    fn from(figures: Figures) -> Self {
        Self {
            count: figures.count,
            min: finite(figures.min),
            max: finite(figures.max),
            mean: finite(figures.mean),
            last: finite(figures.last),
        }
    }
}

/// Something out of order.
#[derive(Debug, Serialize, ToSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(super) enum AnomalyOut {
    /// A sensor that should have measured did not.
    Gap {
        #[schema(value_type = String, format = DateTime)]
        at: Timestamp,
        #[schema(value_type = String, format = DateTime)]
        to: Timestamp,
        #[schema(value_type = String)]
        metric: Metric,
        #[schema(value_type = String)]
        sensor_id: SmolStr,
    },
    /// Something was sent and refused.
    Refused {
        #[schema(value_type = String, format = DateTime)]
        at: Timestamp,
        #[schema(value_type = Option<String>)]
        sensor_id: Option<SmolStr>,
        /// As in `GET /v1/rejected`.
        code: &'static str,
        #[schema(value_type = Option<String>)]
        field: Option<SmolStr>,
        #[schema(value_type = String)]
        detail: SmolStr,
        #[schema(value_type = String)]
        detail_fr: SmolStr,
    },
    /// An alert that was raised in that time, or was not over when it began, or was found later in data of that time; with
    /// `seen_at` as it stood then.
    Alert {
        #[schema(value_type = String, format = DateTime)]
        at: Timestamp,
        alert: Box<wire::Alert>,
    },
}

impl From<Anomaly> for AnomalyOut {
    fn from(anomaly: Anomaly) -> Self {
        let at = anomaly.at();
        match anomaly {
            Anomaly::Gap(gap) => Self::Gap {
                at,
                to: gap.to,
                metric: gap.metric,
                sensor_id: gap.sensor_id.into(),
            },
            Anomaly::Refused(row) => Self::Refused {
                at,
                sensor_id: row.sensor_id,
                code: row.code.as_str(),
                field: row.field,
                detail: row.detail,
                detail_fr: row.detail_fr,
            },
            Anomaly::Alert(alert) => Self::Alert {
                at,
                alert: Box::new((*alert).into()),
            },
        }
    }
}

impl From<query::Consultation> for Head {
    fn from(it: query::Consultation) -> Self {
        let state = it.state();
        let (opened_at, opened_by) = it.opened.map(|h| (h.at, h.by)).unzip();
        let (closed_at, closed_by) = it.closed.map(|h| (h.at, h.by)).unzip();
        Self {
            id: it.id,
            patient_id: it.patient_id,
            practitioner_id: it.practitioner_id,
            planned_for: it.planned_for,
            planned_at: it.planned.at,
            planned_by: it.planned.by,
            state,
            opened_at,
            opened_by,
            closed_at,
            closed_by,
            notes: it.notes.into_iter().map(Note::from).collect(),
        }
    }
}

impl From<query::Note> for Note {
    fn from(note: query::Note) -> Self {
        Self {
            text: note.text,
            at: note.at,
            noted_at: note.noted.at,
            noted_by: note.noted.by,
        }
    }
}
