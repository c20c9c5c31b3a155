//! What was out of order in a consultation: gaps, refused values, and the patient's alerts of that time.

use schemas::consultation::Gap;
use schemas::facts::AlertState;
use schemas::ids::PatientId;
use schemas::time::Timestamp;

use super::{Alert, AlertFilter, Paging, Range, RejectedRow, alerts, rejected};
use crate::store::{ViewError, ViewStore};
use crate::views::rejected::of_patient;

/// One thing out of order.
#[derive(Debug, Clone, PartialEq)]
pub enum Anomaly {
    /// A sensor that should have measured did not.
    Gap(Gap),
    /// Something was sent about the patient and refused.
    Refused(Box<RejectedRow>),
    /// An alert that was raised in that time, or was not over when it began.
    Alert(Box<Alert>),
}

impl Anomaly {
    /// When it began.
    #[must_use]
    pub fn at(&self) -> Timestamp {
        match self {
            Self::Gap(gap) => gap.from,
            Self::Refused(row) => row.received_at,
            Self::Alert(alert) => alert.raised_at,
        }
    }
}

/// Refused records of one consultation that are told at most.
const MOST_REFUSED: usize = 1_000;
/// Alerts of a patient that are looked at in search of those of a time at most.
const ALERTS: usize = 2_000;
/// Alerts read at a time.
const STRIDE: usize = 200;

/// What was out of order for a patient in a range of time, as had been recorded by its end, by when it began.
///
/// # Errors
/// [`ViewError`].
pub async fn anomalies(
    store: &dyn ViewStore,
    patient: &PatientId,
    range: Range,
    gaps: Vec<Gap>,
) -> Result<Vec<Anomaly>, ViewError> {
    let mut all: Vec<Anomaly> = gaps.into_iter().map(Anomaly::Gap).collect();
    let paging = Paging {
        limit: MOST_REFUSED,
        cursor: None,
    };
    let refused = rejected(store, Some(&of_patient(patient)), range.from, paging).await?;
    let within = refused.items.into_iter().filter(|row| row.received_at <= range.to);
    all.extend(within.map(|row| Anomaly::Refused(Box::new(row))));
    let (mut cursor, mut looked) = (None::<String>, 0);
    loop {
        let paging = Paging {
            limit: STRIDE,
            cursor: cursor.as_deref(),
        };
        let page = alerts(store, patient.as_str(), AlertFilter::default(), paging).await?;
        looked += page.items.len();
        let there = page.items.into_iter().filter(|alert| touches(alert, range));
        all.extend(there.map(|alert| Anomaly::Alert(Box::new(alert))));
        cursor = page.next_cursor;
        if cursor.is_none() || looked >= ALERTS {
            break;
        }
    }
    all.sort_by_key(Anomaly::at);
    Ok(all)
}

/// Whether an alert was raised in that time, or before it and not over when it began.
fn touches(alert: &Alert, range: Range) -> bool {
    let over_at = match alert.state {
        AlertState::Open | AlertState::Acknowledged | AlertState::Snoozed => None,
        AlertState::Resolved | AlertState::Withdrawn => Some(alert.resolved_at.unwrap_or(alert.changed_at)),
    };
    alert.raised_at <= range.to && over_at.is_none_or(|at| at >= range.from)
}
