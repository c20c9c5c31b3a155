//! What was out of order in a consultation: gaps, refused values, and the patient's alerts of that time.

use std::ops::Bound;

use schemas::consultation::Gap;
use schemas::facts::{AlertClass, AlertState};
use schemas::ids::PatientId;
use schemas::time::{Span, Timestamp};

use super::alerts::{alert_with_history, alerts_raised};
use super::rejected::rejected_within;
use super::{Alert, Range, RejectedRow};
use crate::store::{ViewError, ViewStore};
use crate::views::rejected::of_patient;

/// One thing out of order.
#[derive(Debug, Clone, PartialEq)]
pub enum Anomaly {
    /// A sensor that should have measured did not.
    Gap(Gap),
    /// Something was sent about the patient and refused.
    Refused(Box<RejectedRow>),
    /// An alert that was raised in that time, or was not over when it began, or was found later in data of that time.
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

/// What was out of order.
#[derive(Debug, Clone, PartialEq)]
pub struct Anomalies {
    /// By when each began.
    pub all: Vec<Anomaly>,
    /// Whether these are all: there are limits to what is looked at.
    pub complete: bool,
}

/// Refused records of one consultation that are told at most: those that came last in it.
const MOST_REFUSED: usize = 1_000;
/// Alerts of a patient that are looked at at most, from the end of the time back in search of what was not over when it
/// began, and again from the end on in search of what was found later.
const MOST_ALERTS: usize = 5_000;
/// How long after it old data may still raise an alert that is looked for.
const FOUND_LATE: Span = Span::days(60);

/// What was out of order for a patient in a range of time, as had been recorded by `known_by`.
///
/// What comes later changes nothing of an answer but what was found later in data of that time.
///
/// # Errors
/// [`ViewError`].
pub async fn anomalies(
    store: &dyn ViewStore,
    patient: &PatientId,
    range: Range,
    gaps: Vec<Gap>,
    known_by: Timestamp,
) -> Result<Anomalies, ViewError> {
    let mut all: Vec<Anomaly> = gaps.into_iter().map(Anomaly::Gap).collect();
    let (refused, mut complete) = rejected_within(store, &of_patient(patient), range, MOST_REFUSED).await?;
    all.extend(refused.into_iter().map(|row| Anomaly::Refused(Box::new(row))));

    let end = Bound::Included(range.to);
    let (before, whole) = alerts_raised(store, patient, (Bound::Unbounded, end), true, MOST_ALERTS).await?;
    complete &= whole;
    let until = Bound::Included(known_by.min(range.to + FOUND_LATE));
    let (later, whole) = alerts_raised(store, patient, (Bound::Excluded(range.to), until), false, MOST_ALERTS).await?;
    complete &= whole;
    for alert in before.into_iter().chain(later).filter(|alert| touches(alert, range)) {
        let alert = as_known_by(store, alert, known_by).await?;
        all.extend(
            alert
                .filter(|alert| touches(alert, range))
                .map(|it| Anomaly::Alert(Box::new(it))),
        );
    }
    all.sort_by_key(Anomaly::at);
    Ok(Anomalies { all, complete })
}

/// Whether an alert was raised in that time, or before it and not over when it began, or later in data of that time.
fn touches(alert: &Alert, range: Range) -> bool {
    if alert.raised_at > range.to {
        // That a sensor fell silent, or was taken off, after the last that it said is no matter of that time.
        let of_the_data = alert.retrospective || alert.class == AlertClass::Clinical;
        return of_the_data && range.from <= alert.started_at && alert.started_at < range.to;
    }
    let over_at = match alert.state {
        AlertState::Open | AlertState::Acknowledged | AlertState::Snoozed => None,
        AlertState::Resolved | AlertState::Withdrawn => Some(alert.resolved_at.unwrap_or(alert.changed_at)),
    };
    over_at.is_none_or(|at| at >= range.from)
}

/// An alert as it stood at a moment; `None` where it had not been raised.
async fn as_known_by(store: &dyn ViewStore, alert: Alert, moment: Timestamp) -> Result<Option<Alert>, ViewError> {
    if alert.changed_at <= moment {
        return Ok(Some(alert));
    }
    let whole = alert_with_history(store, alert.id).await?;
    Ok(whole.and_then(|alert| alert.as_it_stood(moment)))
}
