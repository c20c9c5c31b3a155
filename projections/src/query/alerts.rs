//! Alerts: of a patient, of everybody, one with its history.

use std::ops::Bound;

use bytes::Bytes;
use schemas::facts::{AlertChange, AlertClass, AlertState, Severity};
use schemas::ids::{AlertId, PatientId, SensorId};
use schemas::metric::Metric;
use schemas::time::Timestamp;
use serde::Serialize;
use smol_str::SmolStr;

use super::aliases::all_of;
use super::fields::Fields;
use super::walk::{Filling, Walk, by_day};
use super::{Page, Paging};
use crate::key;
use crate::store::{Scan, ViewError, ViewStore};
use crate::view::{Cell, Row, View};
use crate::views::alerts::{ALERT_BY_ID, ALERT_HISTORY, ALERTS, ALERTS_BY_DAY, OPEN_ALERTS, is_active};
use crate::views::days;
use crate::views::{SHARDS, day};

/// An alert as it stands.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Alert {
    /// The episode.
    pub id: AlertId,
    /// Whose: a patient, or `sensor:<id>` for a sensor without one.
    pub patient_id: SmolStr,
    /// The sensor whose value raised it.
    pub sensor_id: Option<SensorId>,
    /// The metric.
    pub metric: Option<Metric>,
    /// What found it.
    pub rule: SmolStr,
    /// Where its state is found: an answer names it.
    pub subject: SmolStr,
    /// Clinical or technical.
    pub class: AlertClass,
    /// How much it matters.
    pub severity: Severity,
    /// Where it stands.
    pub state: AlertState,
    /// Found in old data only.
    pub retrospective: bool,
    /// In English.
    pub message: SmolStr,
    /// In French.
    pub message_fr: SmolStr,
    /// The value that decided, canonical unit.
    pub value: Option<f64>,
    /// The limit it reached, canonical unit.
    pub limit: Option<f64>,
    /// When the condition began, by measured time.
    pub started_at: Timestamp,
    /// When it was raised, by recorded time.
    pub raised_at: Timestamp,
    /// When it changed last, by recorded time.
    pub changed_at: Timestamp,
    /// When somebody took it.
    pub acknowledged_at: Option<Timestamp>,
    /// Who took it.
    pub acknowledged_by: Option<SmolStr>,
    /// When it ended.
    pub resolved_at: Option<Timestamp>,
    /// Until when it is silent.
    pub until: Option<Timestamp>,
    /// What happened to it, oldest first; empty in lists.
    pub history: Vec<AlertEvent>,
}

/// One change of an alert.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AlertEvent {
    /// What happened.
    pub change: AlertChange,
    /// When, by recorded time.
    pub at: Timestamp,
    /// How much it mattered then.
    pub severity: Severity,
    /// Where it stood then.
    pub state: AlertState,
    /// Who did it, where a person did.
    pub by: Option<SmolStr>,
    /// Comment or reason.
    pub text: Option<SmolStr>,
    /// Until when it was silenced.
    pub until: Option<Timestamp>,
    /// The value that decided, canonical unit.
    pub value: Option<f64>,
}

/// Which alerts; the default is all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AlertFilter {
    /// In this state only.
    pub state: Option<AlertState>,
    /// Of this severity only.
    pub severity: Option<Severity>,
}

impl AlertFilter {
    /// Whether a row of a view of whole alerts is one of them.
    fn keeps(self, view: &View, row: &Row) -> bool {
        let is = |name: &str, wanted: Option<&str>| {
            let at = view.columns.iter().position(|c| c.name == name);
            wanted.is_none()
                || at
                    .and_then(|i| row.cells.get(i))
                    .and_then(Cell::text)
                    .map(SmolStr::as_str)
                    == wanted
        };
        is("state", self.state.map(AlertState::as_str)) && is("severity", self.severity.map(Severity::as_str))
    }
}

/// A row of any view of whole alerts: the last two cells of a key are the moment and the id, in the view's order.
fn from_row(view: &'static View, id_first: bool, row: Row) -> Result<Alert, ViewError> {
    let mut f = Fields::of(view, row);
    let (id, raised_at);
    if id_first {
        (id, raised_at) = (f.id(), f.time());
    } else {
        f.skip(1);
        (raised_at, id) = (f.time(), f.id());
    }
    let (patient_id, started_at, rule, subject) = (f.text(), f.time(), f.text(), f.text());
    let class = f.named(AlertClass::parse)?;
    let severity = f.named(Severity::parse)?;
    let state = f.named(AlertState::parse)?;
    let (retrospective, message, message_fr, changed_at) = (f.bool(), f.text(), f.text(), f.time());
    Ok(Alert {
        id: f.need(id)?,
        patient_id: f.need(patient_id)?,
        rule: f.need(rule)?,
        subject: f.need(subject)?,
        class,
        severity,
        state,
        retrospective: f.need(retrospective)?,
        message: f.need(message)?,
        message_fr: f.need(message_fr)?,
        started_at: f.need(started_at)?,
        raised_at: f.need(raised_at)?,
        changed_at: f.need(changed_at)?,
        sensor_id: f.text().and_then(|t| SensorId::new(&t).ok()),
        metric: f.text().and_then(|t| Metric::parse(&t)),
        value: f.double(),
        limit: f.double(),
        acknowledged_at: f.time(),
        acknowledged_by: f.text(),
        resolved_at: f.time(),
        until: f.time(),
        history: Vec::new(),
    })
}

fn event(row: Row) -> Result<AlertEvent, ViewError> {
    let mut f = Fields::of(&ALERT_HISTORY, row);
    f.skip(ALERT_HISTORY.key_len());
    let change = f.named(AlertChange::parse)?;
    let at = f.time();
    Ok(AlertEvent {
        change,
        at: f.need(at)?,
        severity: f.named(Severity::parse)?,
        state: f.named(AlertState::parse)?,
        by: f.text(),
        text: f.text(),
        until: f.time(),
        value: f.double(),
    })
}

/// One alert without its history.
///
/// # Errors
/// [`ViewError`].
pub async fn alert(store: &dyn ViewStore, id: AlertId) -> Result<Option<Alert>, ViewError> {
    let scan = Scan::of(vec![Cell::Blob(Bytes::copy_from_slice(&id.0))], 1).descending();
    let row = store.scan(&ALERT_BY_ID, scan).await?.pop();
    row.map(|row| from_row(&ALERT_BY_ID, true, row)).transpose()
}

/// Most changes of one alert that are shown.
const HISTORY: usize = 2_000;

/// One alert with what happened to it, oldest first.
///
/// # Errors
/// [`ViewError`].
pub async fn alert_with_history(store: &dyn ViewStore, id: AlertId) -> Result<Option<Alert>, ViewError> {
    let Some(mut alert) = alert(store, id).await? else {
        return Ok(None);
    };
    let scan = Scan::of(vec![Cell::Blob(Bytes::copy_from_slice(&id.0))], HISTORY);
    let rows = store.scan(&ALERT_HISTORY, scan).await?;
    alert.history = rows.into_iter().map(event).collect::<Result<_, _>>()?;
    Ok(Some(alert))
}

/// A patient's alerts (or those of `sensor:<id>`), the last raised first.
///
/// # Errors
/// [`ViewError`].
pub async fn alerts(
    store: &dyn ViewStore,
    subject: &str,
    filter: AlertFilter,
    paging: Paging<'_>,
) -> Result<Page<Alert>, ViewError> {
    let of = all_of(store, subject).await?;
    let partitions = of.into_iter().map(|of| vec![Cell::Text(of)]).collect();
    list(store, &ALERTS, partitions, filter, paging).await
}

/// A patient's alerts that were raised between two moments, `most` of them at most, and whether these are all.
pub(super) async fn alerts_raised(
    store: &dyn ViewStore,
    patient: &PatientId,
    (from, to): (Bound<Timestamp>, Bound<Timestamp>),
    descending: bool,
    most: usize,
) -> Result<(Vec<Alert>, bool), ViewError> {
    let of = all_of(store, patient.as_str()).await?;
    let moment = |at| vec![Cell::Time(at)];
    let walk = Walk {
        view: &ALERTS,
        partitions: of.into_iter().map(|of| vec![Cell::Text(of)]).collect(),
        from: from.map(moment),
        to: to.map(moment),
        descending,
    };
    let mut page = Filling::new(&ALERTS, most);
    page.add(store, walk, |_| true).await?;
    let page = page.page(|row| from_row(&ALERTS, false, row))?;
    Ok((page.items, page.next_cursor.is_none()))
}

/// Everybody's alerts, the last raised first.
///
/// # Errors
/// [`ViewError`].
pub async fn alerts_all(
    store: &dyn ViewStore,
    filter: AlertFilter,
    paging: Paging<'_>,
) -> Result<Page<Alert>, ViewError> {
    if filter.state.is_some_and(is_active) {
        let shards = (0..SHARDS).map(|n| vec![Cell::Int(n)]).collect();
        return list(store, &OPEN_ALERTS, shards, filter, paging).await;
    }
    let after = cursor(paging)?;
    let newest = after
        .as_ref()
        .and_then(|cells| cells.first())
        .and_then(Cell::time)
        .map_or(i64::MAX, day);
    let list = vec![days::ALERTS.into(), "".into()];
    let mut page = Filling::new(&ALERTS_BY_DAY, paging.rows());
    by_day(
        store,
        list,
        i64::MIN..=newest,
        &mut page,
        |day| walk(&ALERTS_BY_DAY, vec![vec![day]], after.clone()),
        |row| filter.keeps(&ALERTS_BY_DAY, row),
    )
    .await?;
    page.page(|row| from_row(&ALERTS_BY_DAY, false, row))
}

fn cursor(paging: Paging<'_>) -> Result<Option<Vec<Cell>>, ViewError> {
    let read = |cursor| key::read_cursor(cursor, ALERTS.clustering).ok_or(ViewError::Cursor);
    paging.cursor.map(read).transpose()
}

fn walk(view: &'static View, partitions: Vec<Vec<Cell>>, after: Option<Vec<Cell>>) -> Walk {
    let to = after.map_or(Bound::Unbounded, Bound::Excluded);
    Walk {
        view,
        partitions,
        from: Bound::Unbounded,
        to,
        descending: true,
    }
}

async fn list(
    store: &dyn ViewStore,
    view: &'static View,
    partitions: Vec<Vec<Cell>>,
    filter: AlertFilter,
    paging: Paging<'_>,
) -> Result<Page<Alert>, ViewError> {
    let mut page = Filling::new(view, paging.rows());
    page.add(store, walk(view, partitions, cursor(paging)?), |row| {
        filter.keeps(view, row)
    })
    .await?;
    page.page(|row| from_row(view, false, row))
}
