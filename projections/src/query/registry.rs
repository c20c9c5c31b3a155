//! Patients and sensors as last heard, and what is set for a patient.

use std::ops::Bound;

use schemas::facts::{Liveness, MetricLimits, SensorState};
use schemas::ids::{PatientId, SensorId};
use schemas::time::{Span, Timestamp};
use serde::Serialize;
use smol_str::{SmolStr, format_smolstr};

use super::fields::Fields;
use super::walk::{Filling, Walk};
use super::{Page, Paging};
use crate::key;
use crate::store::{Scan, ViewError, ViewStore};
use crate::view::{Cell, Column, Row, View};
use crate::views::patients::PATIENTS;
use crate::views::sensors::SENSORS;
use crate::views::thresholds::THRESHOLDS;
use crate::views::{SHARDS, shard};

/// A patient something was heard of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PatientRow {
    /// The patient.
    pub id: PatientId,
    /// When last, to the minute.
    pub last_heard: Timestamp,
}

/// A sensor as it was last heard.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SensorRow {
    /// The sensor.
    pub id: SensorId,
    /// The patient it was last heard with.
    pub patient_id: Option<PatientId>,
    /// Whether it is heard.
    pub liveness: Liveness,
    /// Since when.
    pub since: Timestamp,
    /// When a message of any kind came last, by recorded time.
    pub last_heard: Timestamp,
    /// What it last said about itself.
    pub state: Option<SensorState>,
    /// Charge, %.
    pub battery: Option<f64>,
    /// Firmware version.
    pub firmware: Option<SmolStr>,
    /// Signal strength, dBm.
    pub rssi: Option<f64>,
    /// Latitude, degrees.
    pub lat: Option<f64>,
    /// Longitude, degrees.
    pub lng: Option<f64>,
    /// The rhythm it promised.
    pub expected_every: Option<Span>,
}

/// What is set for a patient over the defaults.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Thresholds {
    /// Limits per metric.
    pub thresholds: Vec<MetricLimits>,
    /// Who set them.
    pub set_by: SmolStr,
    /// Since when.
    pub since: Timestamp,
}

fn patient_row(row: Row) -> Result<PatientRow, ViewError> {
    let mut f = Fields::of(&PATIENTS, row);
    f.skip(1);
    let id = f.named(|t| PatientId::new(t).ok())?;
    let last_heard = f.time();
    Ok(PatientRow {
        id,
        last_heard: f.need(last_heard)?,
    })
}

fn sensor_row(row: Row) -> Result<SensorRow, ViewError> {
    let mut f = Fields::of(&SENSORS, row);
    f.skip(1);
    let id = f.named(|t| SensorId::new(t).ok())?;
    let patient_id = f.text().and_then(|t| PatientId::new(&t).ok());
    let last_heard = f.time();
    let liveness = f.named(Liveness::parse)?;
    let since = f.time();
    Ok(SensorRow {
        id,
        patient_id,
        liveness,
        since: f.need(since)?,
        last_heard: f.need(last_heard)?,
        state: f.text().and_then(|t| SensorState::parse(&t)),
        battery: f.double(),
        firmware: f.text(),
        rssi: f.double(),
        lat: f.double(),
        lng: f.double(),
        expected_every: f.int().map(Span),
    })
}

/// A walk through all shards of a list by id, from the ids that begin with `prefix`, after a cursor.
pub(super) fn listed(
    view: &'static View,
    cursor_of: &'static [Column],
    prefix: &str,
    paging: Paging<'_>,
) -> Result<Walk, ViewError> {
    let text = |s: SmolStr| vec![Cell::Text(s)];
    let from = match paging.cursor {
        Some(cursor) => Bound::Excluded(key::read_cursor(cursor, cursor_of).ok_or(ViewError::Cursor)?),
        None => Bound::Included(text(SmolStr::new(prefix))),
    };
    Ok(Walk {
        view,
        partitions: (0..SHARDS).map(|n| vec![Cell::Int(n)]).collect(),
        from,
        to: Bound::Excluded(text(format_smolstr!("{prefix}{}", char::MAX))),
        descending: false,
    })
}

/// Patients whose id begins with `prefix`, by id.
///
/// # Errors
/// [`ViewError`].
pub async fn patients(store: &dyn ViewStore, prefix: &str, paging: Paging<'_>) -> Result<Page<PatientRow>, ViewError> {
    let mut page = Filling::new(&PATIENTS, paging.rows());
    page.add(store, listed(&PATIENTS, PATIENTS.clustering, prefix, paging)?, |_| true)
        .await?;
    page.page(patient_row)
}

/// One patient, where something was heard of them.
///
/// # Errors
/// [`ViewError`].
pub async fn patient(store: &dyn ViewStore, id: &PatientId) -> Result<Option<PatientRow>, ViewError> {
    let key = [shard(id.as_str()), Cell::Text(id.clone().into())];
    store.get(&PATIENTS, &key).await?.map(patient_row).transpose()
}

/// Sensors whose id begins with `prefix`, by id, each where it was heard last.
///
/// # Errors
/// [`ViewError`].
pub async fn sensors(store: &dyn ViewStore, prefix: &str, paging: Paging<'_>) -> Result<Page<SensorRow>, ViewError> {
    let limit = paging.rows();
    // A sensor that moved has a row per patient: a few more rows than sensors are read.
    let mut page = Filling::new(&SENSORS, 2 * limit + 16);
    page.add(
        store,
        listed(&SENSORS, &SENSORS.clustering[..1], prefix, paging)?,
        |_| true,
    )
    .await?;
    let Page { items, next_cursor } = page.page(sensor_row)?;
    let mut found: Vec<SensorRow> = Vec::with_capacity(items.len());
    for row in items {
        match found.last_mut() {
            Some(last) if last.id == row.id => {
                if row.last_heard >= last.last_heard {
                    *last = row;
                }
            }
            _ => found.push(row),
        }
    }
    // The last sensor may have further rows on the next page.
    let more = next_cursor.is_some();
    if more && found.len() > 1 {
        found.pop();
    }
    let cut = found.len() > limit;
    found.truncate(limit);
    let last = found.last().filter(|_| more || cut);
    Ok(Page {
        next_cursor: last.map(|row| key::cursor(&[Cell::Text(row.id.clone().into())])),
        items: found,
    })
}

/// Patients that one sensor is looked for with at most.
const PATIENTS_OF_A_SENSOR: usize = 1_000;

/// One sensor, where it was heard last.
///
/// # Errors
/// [`ViewError`].
pub async fn sensor(store: &dyn ViewStore, id: &SensorId) -> Result<Option<SensorRow>, ViewError> {
    let this = || Bound::Included(vec![Cell::Text(id.clone().into())]);
    let scan = Scan::of(vec![shard(id.as_str())], PATIENTS_OF_A_SENSOR)
        .from(this())
        .to(this());
    let rows = store.scan(&SENSORS, scan).await?;
    let mut found: Option<SensorRow> = None;
    for row in rows {
        let row = sensor_row(row)?;
        if found.as_ref().is_none_or(|best| row.last_heard >= best.last_heard) {
            found = Some(row);
        }
    }
    Ok(found)
}

/// What is set for a patient over the defaults; `None` where nobody ever set anything.
///
/// # Errors
/// [`ViewError`].
pub async fn thresholds(store: &dyn ViewStore, patient: &PatientId) -> Result<Option<Thresholds>, ViewError> {
    let Some(row) = store.get(&THRESHOLDS, &[Cell::Text(patient.clone().into())]).await? else {
        return Ok(None);
    };
    let mut f = Fields::of(&THRESHOLDS, row);
    f.skip(1);
    let (json, set_by, since) = (f.text(), f.text(), f.time());
    let json = f.need(json)?;
    let thresholds = serde_json::from_str(&json)
        .map_err(|e| ViewError::Corrupt(format!("thresholds of {}: {e}", THRESHOLDS.name)))?;
    Ok(Some(Thresholds {
        thresholds,
        set_by: f.need(set_by)?,
        since: f.need(since)?,
    }))
}
