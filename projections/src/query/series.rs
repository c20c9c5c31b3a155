//! A series for a chart: a range cut into equal parts, with what each part holds.

use schemas::facts::WindowSize;
use schemas::metric::Metric;
use schemas::time::{Span, Timestamp};
use serde::Serialize;

use super::{MOST, Paging, Range, readings, windows};
use crate::store::{ViewError, ViewStore};

/// One part of a series that has readings.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Point {
    /// The part's first moment.
    pub at: Timestamp,
    /// How many readings.
    pub count: i64,
    /// Smallest value, canonical unit.
    pub min: f64,
    /// Greatest value, canonical unit.
    pub max: f64,
    /// Mean value, canonical unit.
    pub mean: f64,
}

/// Most parts of a series.
pub const MOST_POINTS: usize = 5_000;

/// A series of at most `points` parts, oldest first; parts without readings are left out. Parts at least as long as a
/// window are made of the longest windows that fit into them, shorter ones of the readings themselves.
///
/// # Errors
/// [`ViewError`].
pub async fn series(
    store: &dyn ViewStore,
    subject: &str,
    metric: Metric,
    range: Range,
    points: usize,
) -> Result<Vec<Point>, ViewError> {
    let parts = i64::try_from(points.clamp(1, MOST_POINTS)).unwrap_or(1);
    let whole = (range.to - range.from).0.max(0);
    let length = whole.saturating_add(parts - 1).div_euclid(parts).max(1);
    let mut series = Series {
        from: range.from,
        length,
        points: Vec::new(),
    };
    let size = WindowSize::ALL.iter().rev().copied().find(|s| s.span().0 <= length);
    let mut cursor: Option<String> = None;
    loop {
        let paging = Paging {
            limit: MOST,
            cursor: cursor.as_deref(),
        };
        if let Some(size) = size {
            let page = windows(store, subject, metric, size, range, paging).await?;
            for w in &page.items {
                series.add(Point {
                    at: w.start,
                    count: w.count,
                    min: w.min,
                    max: w.max,
                    mean: w.mean,
                });
            }
            cursor = page.next_cursor;
        } else {
            let page = readings(store, subject, Some(metric), range, paging).await?;
            for r in page.items.iter().filter(|r| !r.misfiled) {
                series.add(Point {
                    at: r.at,
                    count: 1,
                    min: r.value,
                    max: r.value,
                    mean: r.value,
                });
            }
            cursor = page.next_cursor;
        }
        if cursor.is_none() {
            series.points.reverse();
            return Ok(series.points);
        }
    }
}

/// Parts, newest first, filled newest first.
struct Series {
    from: Timestamp,
    length: i64,
    points: Vec<Point>,
}

impl Series {
    fn add(&mut self, piece: Point) {
        // A window that began before the range counts for its first part.
        let part = (piece.at - self.from).0.max(0).div_euclid(self.length);
        let at = self.from + Span(part.saturating_mul(self.length));
        match self.points.last_mut() {
            Some(last) if last.at == at => last.take_in(&piece),
            _ => self.points.push(Point { at, ..piece }),
        }
    }
}

impl Point {
    fn take_in(&mut self, other: &Self) {
        let count = self.count + other.count;
        if count > 0 {
            self.mean += (other.mean - self.mean) * (other.count as f64 / count as f64);
        }
        self.count = count;
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
    }
}
