//! Windows: the newest revision of each, newest first.

use std::ops::Bound;

use schemas::facts::{WindowSize, WindowStatus};
use schemas::ids::SensorId;
use schemas::metric::Metric;
use schemas::time::{Span, Timestamp};
use serde::Serialize;
use smol_str::SmolStr;

use super::aliases::all_of;
use super::fields::Fields;
use super::misfiled::Worn;
use super::readings::Calendar;
use super::walk::{Filling, Walk};
use super::{Page, Paging, Range};
use crate::key;
use crate::store::{ViewError, ViewStore};
use crate::view::{Cell, Row};
use crate::views::windows::{WINDOWS, bucket};
use crate::views::{day, start_of};

/// A window as of its newest revision. Values in the metric's canonical unit.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct WindowRow {
    /// The sensor.
    pub sensor_id: SensorId,
    /// The metric.
    pub metric: Metric,
    /// The window's length.
    pub size: WindowSize,
    /// First moment inside.
    pub start: Timestamp,
    /// First moment after.
    pub end: Timestamp,
    /// The highest is the newest.
    pub revision: i64,
    /// How final.
    pub status: WindowStatus,
    /// How many readings.
    pub count: i64,
    /// Smallest value.
    pub min: f64,
    /// Greatest value.
    pub max: f64,
    /// Arithmetic mean.
    pub mean: f64,
    /// Sample standard deviation.
    pub sd: f64,
    /// Value of the earliest reading.
    pub first: f64,
    /// Value of the latest reading.
    pub last: f64,
    /// Mean quality, 0–100.
    pub quality: Option<f64>,
    /// Share of the expected readings, 0–1.
    pub coverage: Option<f64>,
}

fn from_row(row: Row) -> Result<WindowRow, ViewError> {
    let mut f = Fields::of(&WINDOWS, row);
    f.skip(1);
    let metric = f.named(Metric::parse)?;
    let size = f.named(WindowSize::parse)?;
    f.skip(1);
    let start = f.time();
    let sensor_id = f.named(|t| SensorId::new(t).ok())?;
    let (end, revision) = (f.time(), f.int());
    let status = f.named(WindowStatus::parse)?;
    let count = f.int();
    let mut numbers = [0.0; 6];
    for number in &mut numbers {
        let value = f.double();
        *number = f.need(value)?;
    }
    let [min, max, mean, sd, first, last] = numbers;
    Ok(WindowRow {
        sensor_id,
        metric,
        size,
        start: f.need(start)?,
        end: f.need(end)?,
        revision: f.need(revision)?,
        status,
        count: f.need(count)?,
        min,
        max,
        mean,
        sd,
        first,
        last,
        quality: f.double(),
        coverage: f.double(),
    })
}

/// The windows of a subject's metric that touch a range of measured time, newest first, without what is misfiled: a page
/// may be shorter than asked for where it goes on.
///
/// # Errors
/// [`ViewError`].
pub async fn windows(
    store: &dyn ViewStore,
    subject: &str,
    metric: Metric,
    size: WindowSize,
    range: Range,
    paging: Paging<'_>,
) -> Result<Page<WindowRow>, ViewError> {
    let from = range.from.floor(size.span());
    let mut to = Bound::Excluded(vec![Cell::Time(range.to)]);
    let mut last_day = day(range.to - Span(1));
    if let Some(cursor) = paging.cursor {
        let cells = key::read_cursor(cursor, WINDOWS.clustering).ok_or(ViewError::Cursor)?;
        let start = cells.first().and_then(Cell::time).ok_or(ViewError::Cursor)?;
        if start < range.to {
            // A window of this bucket or an older one, whichever day of the bucket has readings.
            last_day = last_day.min(day(start + size.span() - Span(1)));
            to = Bound::Excluded(cells);
        }
    }
    let (mut page, mut last) = (Filling::new(&WINDOWS, paging.rows()), None);
    let subjects = all_of(store, subject).await?;
    let mut days = Calendar::of(&subjects, day(from), last_day);
    while let Some((day, _)) = days.next(store, Some(metric)).await? {
        let bucket = bucket(size, start_of(day));
        if last.replace(bucket) == Some(bucket) {
            continue;
        }
        let partition = |of: &SmolStr| {
            vec![
                Cell::Text(of.clone()),
                metric.as_str().into(),
                size.as_str().into(),
                Cell::Int(bucket),
            ]
        };
        let walk = Walk {
            view: &WINDOWS,
            partitions: subjects.iter().map(partition).collect(),
            from: Bound::Included(vec![Cell::Time(from)]),
            to: to.clone(),
            descending: true,
        };
        if page.add(store, walk, |_| true).await? {
            break;
        }
    }
    let page = page.page(from_row)?;
    // The next page begins behind the last window: what another registration has of that one is not read there.
    let last_may_go_on = page.next_cursor.is_some() && subjects.len() > 1;
    let items = Worn::of(store, subject)
        .await?
        .corrected(store, subject, page.items, last_may_go_on)
        .await?;
    Ok(Page { items, ..page })
}
