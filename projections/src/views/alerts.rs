//! Alerts five times: by patient, by id with history, by day, and those that still want somebody.

use bytes::Bytes;
use schemas::derived::Derived;
use schemas::facts::{AlertChanged, AlertState};
use smol_str::SmolStr;

use super::{day, days, derived_version, shard};
use crate::store::Change;
use crate::view::Type::{Blob, Bool, Double, Int, Text, Time};
use crate::view::{APART, Cell, Column, View, column};

/// An alert as it stands; the same in every view that shows whole alerts.
const ALERT: &[Column] = &[
    column("patient_id", Text),
    column("started_at", Time),
    column("rule", Text),
    column("subject", Text),
    column("class", Text),
    column("severity", Text),
    column("state", Text),
    column("retrospective", Bool),
    column("message", Text),
    column("message_fr", Text),
    column("changed_at", Time),
    column("sensor_id", Text),
    column("metric", Text),
    column("value", Double),
    column("limit_value", Double),
    column("acknowledged_at", Time),
    column("acknowledged_by", Text),
    column("resolved_at", Time),
    column("until", Time),
];

/// The order of alerts in a list.
const LISTED: &[Column] = &[column("raised_at", Time), column("alert_id", Blob)];

/// A patient's alerts.
pub static ALERTS: View = View {
    name: "alerts",
    partition: &[column("of", Text)],
    clustering: LISTED,
    columns: ALERT,
    apart: APART,
    grows: false,
};

/// One alert.
pub static ALERT_BY_ID: View = View {
    name: "alert_by_id",
    partition: &[column("alert_id", Blob)],
    clustering: &[column("raised_at", Time)],
    columns: ALERT,
    apart: APART,
    grows: false,
};

/// Everybody's alerts by the day they were raised.
pub static ALERTS_BY_DAY: View = View {
    name: "alerts_by_day",
    partition: &[column("day", Int)],
    clustering: LISTED,
    columns: ALERT,
    apart: APART,
    grows: false,
};

/// Everybody's alerts that are not over.
pub static OPEN_ALERTS: View = View {
    name: "open_alerts",
    partition: &[column("shard", Int)],
    clustering: LISTED,
    columns: ALERT,
    apart: APART,
    grows: false,
};

/// What happened to an alert, one row per change.
pub static ALERT_HISTORY: View = View {
    name: "alert_history",
    partition: &[column("alert_id", Blob)],
    clustering: &[column("position", Int), column("n", Int)],
    columns: &[
        column("change", Text),
        column("at", Time),
        column("severity", Text),
        column("state", Text),
        column("by", Text),
        column("text", Text),
        column("until", Time),
        column("value", Double),
    ],
    apart: APART,
    grows: false,
};

/// Whether an alert still wants somebody.
#[must_use]
pub const fn is_active(state: AlertState) -> bool {
    matches!(state, AlertState::Open | AlertState::Acknowledged | AlertState::Snoozed)
}

/// One change of an alert.
pub(super) fn project(derived: &Derived, alert: &AlertChanged, out: &mut Vec<Change>) {
    let patient = derived.key.text();
    let id = Cell::Blob(Bytes::copy_from_slice(&alert.alert_id.0));
    let raised = Cell::Time(alert.raised_at);
    let version = derived_version(&derived.origin);
    let cells = cells(&patient, derived, alert);
    let mut row = |view, key, cells| {
        out.push(Change {
            view,
            key,
            version,
            cells,
        })
    };

    row(
        &ALERTS,
        vec![Cell::Text(patient.clone()), raised.clone(), id.clone()],
        Some(cells.clone()),
    );
    row(&ALERT_BY_ID, vec![id.clone(), raised.clone()], Some(cells.clone()));
    row(
        &ALERTS_BY_DAY,
        vec![Cell::Int(day(alert.raised_at)), raised.clone(), id.clone()],
        Some(cells.clone()),
    );
    row(
        &OPEN_ALERTS,
        vec![shard(&patient), raised, id.clone()],
        is_active(alert.state).then_some(cells),
    );
    let (position, n) = (Cell::Int(derived.origin.offset), Cell::Int(derived.origin.n.into()));
    row(&ALERT_HISTORY, vec![id, position, n], Some(history(derived, alert)));
    out.push(days::mark(days::ALERTS, SmolStr::default(), day(alert.raised_at), ""));
}

fn cells(patient: &SmolStr, derived: &Derived, alert: &AlertChanged) -> Vec<Cell> {
    vec![
        Cell::Text(patient.clone()),
        Cell::Time(alert.started_at),
        Cell::Text(alert.rule.clone()),
        Cell::Text(alert.subject.clone()),
        alert.class.as_str().into(),
        alert.severity.as_str().into(),
        alert.state.as_str().into(),
        Cell::Bool(alert.retrospective),
        Cell::Text(alert.message.clone()),
        Cell::Text(alert.message_fr.clone()),
        Cell::Time(derived.recorded_at),
        alert.sensor_id.clone().map(SmolStr::from).into(),
        alert.metric.map(|m| m.as_str()).into(),
        alert.value.into(),
        alert.limit.into(),
        alert.acknowledged_at.into(),
        alert.acknowledged_by.clone().into(),
        alert.resolved_at.into(),
        alert.until.into(),
    ]
}

fn history(derived: &Derived, alert: &AlertChanged) -> Vec<Cell> {
    vec![
        alert.change.as_str().into(),
        Cell::Time(derived.recorded_at),
        alert.severity.as_str().into(),
        alert.state.as_str().into(),
        alert.by.clone().into(),
        alert.text.clone().into(),
        alert.until.into(),
        alert.value.into(),
    ]
}
