//! What stands with a patient who did not wear the sensor: it was recorded before the patient's journal was told. It is
//! shown with the readings, marked, and counted nowhere else.

use std::collections::BTreeMap;

use schemas::assignment::{Owners, Whose};
use schemas::facts::WindowStatus;
use schemas::ids::SensorId;
use schemas::time::Timestamp;

use super::aliases::all_of;
use super::assignments::worn_by;
use super::readings::{ReadingRow, readings};
use super::windows::WindowRow;
use super::{MOST, Paging, Range};
use crate::store::{ViewError, ViewStore};

/// A patient's sensors, as far as the patient's journal was told of them: by registration, where the person has several.
#[derive(Debug, Default)]
pub(super) struct Worn(Vec<BTreeMap<SensorId, Owners>>);

impl Worn {
    /// Of a subject; of one that is no patient nothing is told.
    pub(super) async fn of(store: &dyn ViewStore, subject: &str) -> Result<Self, ViewError> {
        let mut worn = Vec::new();
        for of in all_of(store, subject).await? {
            worn.push(worn_by(store, &of).await?);
        }
        Ok(Self(worn))
    }

    /// Whether a reading is not the patient's, as far as has been said.
    pub(super) fn is_misfiled(&self, sensor: &SensorId, at: Timestamp, reattributed: bool) -> bool {
        if reattributed {
            return false;
        }
        // What was worn under one registration was worn.
        let mut nobodys = false;
        for owners in self.0.iter().filter_map(|worn| worn.get(sensor)) {
            match owners.at(at) {
                Whose::Of(_) => return false,
                Whose::Nobodys => nobodys = true,
                Whose::Unsaid => {}
            }
        }
        nobodys
    }

    /// Whether something of a stretch may not be the patient's.
    fn may_hold_misfiled(&self, sensor: &SensorId, from: Timestamp, until: Timestamp) -> bool {
        let told = || self.0.iter().filter_map(|worn| worn.get(sensor));
        told().any(|owners| owners.is_ever_nobodys(from, until))
            && !told().any(|owners| owners.is_always_somebodys(from, until))
    }

    /// The windows, newest first, without what is not the patient's: those that may hold such are computed from their
    /// readings, and so is one that several registrations of the person have part of; the last too, where it may be such.
    pub(super) async fn corrected(
        &self,
        store: &dyn ViewStore,
        subject: &str,
        windows: Vec<WindowRow>,
        last_may_go_on: bool,
    ) -> Result<Vec<WindowRow>, ViewError> {
        let mut corrected = Vec::with_capacity(windows.len());
        let mut windows = windows.into_iter().peekable();
        while let Some(mut window) = windows.next() {
            let mut in_parts = false;
            while let Some(part) = windows.next_if(|next| is_of(next, &window)) {
                window = joined(window, &part);
                in_parts = true;
            }
            in_parts |= last_may_go_on && windows.peek().is_none();
            if in_parts || self.may_hold_misfiled(&window.sensor_id, window.start, window.end) {
                corrected.extend(again(store, subject, window).await?);
            } else {
                corrected.push(window);
            }
        }
        Ok(corrected)
    }
}

/// Whether both are of one stretch of one series.
fn is_of(part: &WindowRow, window: &WindowRow) -> bool {
    (part.start, part.size, part.metric, &part.sensor_id)
        == (window.start, window.size, window.metric, &window.sensor_id)
}

/// What is known of a window in two parts before it is computed anew: how many readings of how many, and how final.
fn joined(window: WindowRow, part: &WindowRow) -> WindowRow {
    let coverage = window.coverage.zip(part.coverage).map(|(a, b)| a + b);
    let status = match (window.status, part.status) {
        (WindowStatus::Open, _) | (_, WindowStatus::Open) => WindowStatus::Open,
        (WindowStatus::Revised, _) | (_, WindowStatus::Revised) => WindowStatus::Revised,
        (WindowStatus::Complete, WindowStatus::Complete) => WindowStatus::Complete,
    };
    WindowRow {
        count: window.count + part.count,
        revision: window.revision + part.revision,
        coverage,
        status,
        ..window
    }
}

/// A window of the readings that are the patient's; `None` where none is.
async fn again(store: &dyn ViewStore, subject: &str, window: WindowRow) -> Result<Option<WindowRow>, ViewError> {
    let range = Range {
        from: window.start,
        to: window.end,
    };
    let mut cursor: Option<String> = None;
    let mut own: Vec<ReadingRow> = Vec::new();
    loop {
        let paging = Paging {
            limit: MOST,
            cursor: cursor.as_deref(),
        };
        let page = Box::pin(readings(store, subject, Some(window.metric), range, paging)).await?;
        let counts = |row: &ReadingRow| row.sensor_id == window.sensor_id && !row.misfiled && row.value.is_finite();
        own.extend(page.items.into_iter().filter(counts));
        cursor = page.next_cursor;
        if cursor.is_none() {
            return Ok(of(&window, &own));
        }
    }
}

/// The window of these readings, newest first.
fn of(window: &WindowRow, own: &[ReadingRow]) -> Option<WindowRow> {
    let (newest, oldest) = (own.first()?, own.last()?);
    let n = own.len() as f64;
    let values = || own.iter().map(|row| row.value);
    let mean = values().sum::<f64>() / n;
    let squares: f64 = values().map(|value| (value - mean) * (value - mean)).sum();
    let rated: Vec<f64> = own.iter().filter_map(|row| row.quality).map(|q| q as f64).collect();
    let quality = (!rated.is_empty()).then(|| rated.iter().sum::<f64>() / rated.len() as f64);
    // As many were expected as before.
    let coverage = window
        .coverage
        .map(|all| (all * n / window.count.max(1) as f64).min(1.0));
    Some(WindowRow {
        count: own.len() as i64,
        min: values().fold(f64::INFINITY, f64::min),
        max: values().fold(f64::NEG_INFINITY, f64::max),
        mean,
        sd: if own.len() < 2 {
            0.0
        } else {
            (squares / (n - 1.0)).sqrt()
        },
        first: oldest.value,
        last: newest.value,
        quality,
        coverage,
        ..window.clone()
    })
}
