//! What was measured: newest values, readings, series, windows.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State as Given};
use projections::query::{self, MOST_POINTS, Point, Range, ReadingRow, WindowRow};
use schemas::facts::WindowSize;
use schemas::metric::Metric;
use schemas::time::{Span, Timestamp};
use serde::{Deserialize, Serialize};
use smol_str::SmolStr;
use utoipa::{IntoParams, ToSchema};

use super::input::{Params, metric, needed, paging, range, rows, viewed, word};
use super::patients::seen;
use crate::auth::Caller;
use crate::problem::{Body, Problem};
use crate::state::State;
use crate::wire::{Reading, Window, finite, key_patient};

/// Part of a list of readings.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Readings {
    readings: Vec<Reading>,
    next_cursor: Option<String>,
}

/// Part of a list of windows.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Windows {
    windows: Vec<Window>,
    next_cursor: Option<String>,
}

/// A series made shorter: one point per part of the time asked for that has readings, oldest first.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Points {
    #[schema(value_type = String)]
    metric: Metric,
    unit: &'static str,
    points: Vec<PointOut>,
    next_cursor: Option<String>,
}

/// One part of a series.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct PointOut {
    /// The part's first moment.
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
    count: i64,
    min: Option<f64>,
    max: Option<f64>,
    mean: Option<f64>,
}

/// Readings, or a series made shorter where the caller asked for points.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub(super) enum ReadingsOrPoints {
    Readings(Readings),
    Points(Points),
}

impl From<ReadingRow> for Reading {
    fn from(row: ReadingRow) -> Self {
        Self {
            marks: marks(&row),
            id: row.id,
            patient_id: key_patient(&row.patient_id),
            sensor_id: row.sensor_id.into(),
            metric: row.metric,
            value: finite(row.value),
            unit: row.metric.info().unit,
            at: row.at,
            received_at: row.received_at,
            quality: row.quality.and_then(|q| u8::try_from(q).ok()),
        }
    }
}

/// What was noticed at the door, and since.
fn marks(row: &ReadingRow) -> Vec<SmolStr> {
    let since = [(row.misfiled, "misfiled"), (row.reattributed, "reattributed")];
    let since = since.into_iter().filter(|(is, _)| *is).map(|(_, name)| name);
    let at_the_door = row.marks.iter().map(|mark| mark.as_str());
    at_the_door.chain(since).map(SmolStr::new_static).collect()
}

fn window(patient: &str, row: WindowRow) -> Window {
    Window {
        patient_id: key_patient(patient),
        sensor_id: row.sensor_id.into(),
        metric: row.metric,
        size: row.size,
        unit: row.metric.info().unit,
        start: row.start,
        end: row.end,
        revision: i32::try_from(row.revision).unwrap_or(i32::MAX),
        status: row.status,
        count: row.count,
        min: finite(row.min),
        max: finite(row.max),
        mean: finite(row.mean),
        sd: finite(row.sd),
        first: finite(row.first),
        last: finite(row.last),
        quality: row.quality.and_then(finite),
        coverage: row.coverage.and_then(finite),
    }
}

impl From<Point> for PointOut {
    fn from(point: Point) -> Self {
        Self {
            at: point.at,
            count: point.count,
            min: finite(point.min),
            max: finite(point.max),
            mean: finite(point.mean),
        }
    }
}

/// The newest reading per metric and sensor, by measured time.
#[utoipa::path(get, path = "/v1/patients/{patient_id}/latest", tag = "readings", params(("patient_id" = String, Path)),
    security(("bearer" = [])), responses((status = 200, body = Readings),
    (status = "default", body = Body, content_type = "application/problem+json")))]
pub(super) async fn latest(
    Given(state): Given<Arc<State>>,
    caller: Caller,
    Path(patient): Path<String>,
) -> Result<Json<Readings>, Problem> {
    let (patient, _) = seen(&state, &caller, &patient).await?;
    let rows = query::latest(&*state.parts.views, patient.as_str())
        .await
        .map_err(viewed)?;
    Ok(Json(Readings {
        readings: rows.into_iter().map(Reading::from).collect(),
        next_cursor: None,
    }))
}

/// Which readings.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct WhichReadings {
    /// Of this metric alone.
    metric: Option<String>,
    /// Measured at or after, RFC 3339.
    from: Option<String>,
    /// Measured before, RFC 3339.
    to: Option<String>,
    /// Rows in the page, 1 to 10,000; 100 where nobody says.
    limit: Option<String>,
    /// The `next_cursor` of the page before.
    cursor: Option<String>,
    /// At most so many points of a series instead of readings, 1 to 5,000; needs `metric` and `from`.
    points: Option<String>,
}

/// Readings, newest first; with `points`, a series made shorter.
#[utoipa::path(get, path = "/v1/patients/{patient_id}/readings", tag = "readings",
    params(("patient_id" = String, Path), WhichReadings), security(("bearer" = [])),
    responses((status = 200, body = ReadingsOrPoints),
    (status = "default", body = Body, content_type = "application/problem+json")))]
pub(super) async fn readings(
    Given(state): Given<Arc<State>>,
    caller: Caller,
    Path(patient): Path<String>,
    Params(ask): Params<WhichReadings>,
) -> Result<Json<ReadingsOrPoints>, Problem> {
    let (patient, _) = seen(&state, &caller, &patient).await?;
    let metric = metric(ask.metric.as_deref())?;
    let range = range(ask.from.as_deref(), ask.to.as_deref())?;
    if let Some(points) = &ask.points {
        let metric = needed("metric", metric)?;
        needed("from", ask.from.as_ref())?;
        let points = points.parse().ok().filter(|n| (1..=MOST_POINTS).contains(n));
        let points = points.ok_or_else(|| Problem::invalid("points", "1 to 5000", "de 1 à 5000"))?;
        let points = series(&state, patient.as_str(), metric, range, points).await?;
        return Ok(Json(ReadingsOrPoints::Points(points)));
    }
    let limit = rows(ask.limit.as_deref(), query::USUAL)?;
    let paging = paging(limit, ask.cursor.as_deref());
    let page = query::readings(&*state.parts.views, patient.as_str(), metric, range, paging)
        .await
        .map_err(viewed)?;
    Ok(Json(ReadingsOrPoints::Readings(Readings {
        readings: page.items.into_iter().map(Reading::from).collect(),
        next_cursor: page.next_cursor,
    })))
}

async fn series(state: &State, patient: &str, metric: Metric, range: Range, points: usize) -> Result<Points, Problem> {
    // Without an end, the parts would be cut from all the time to come.
    let to = range.to.min((state.now() + Span::millis(1)).max(range.from));
    let range = Range { to, ..range };
    let points = query::series(&*state.parts.views, patient, metric, range, points)
        .await
        .map_err(viewed)?;
    Ok(Points {
        metric,
        unit: metric.info().unit,
        points: points.into_iter().map(PointOut::from).collect(),
        next_cursor: None,
    })
}

/// Which windows.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct WhichWindows {
    /// Of this metric.
    metric: Option<String>,
    /// `1m`, `5m`, `1h` or `1d`; `1m` where nobody says.
    size: Option<String>,
    /// Ending after, RFC 3339.
    from: Option<String>,
    /// Starting before, RFC 3339.
    to: Option<String>,
    /// Rows in the page, 1 to 10,000; 100 where nobody says.
    limit: Option<String>,
    /// The `next_cursor` of the page before.
    cursor: Option<String>,
}

/// The newest revision of each window, newest first.
#[utoipa::path(get, path = "/v1/patients/{patient_id}/windows", tag = "readings",
    params(("patient_id" = String, Path), WhichWindows), security(("bearer" = [])),
    responses((status = 200, body = Windows), (status = "default", body = Body, content_type = "application/problem+json")))]
pub(super) async fn windows(
    Given(state): Given<Arc<State>>,
    caller: Caller,
    Path(patient): Path<String>,
    Params(ask): Params<WhichWindows>,
) -> Result<Json<Windows>, Problem> {
    let (patient, _) = seen(&state, &caller, &patient).await?;
    let metric = needed("metric", metric(ask.metric.as_deref())?)?;
    let size = word("size", ask.size.as_deref(), WindowSize::parse)?.unwrap_or(WindowSize::Minute);
    let range = range(ask.from.as_deref(), ask.to.as_deref())?;
    let limit = rows(ask.limit.as_deref(), query::USUAL)?;
    let paging = paging(limit, ask.cursor.as_deref());
    let page = query::windows(&*state.parts.views, patient.as_str(), metric, size, range, paging)
        .await
        .map_err(viewed)?;
    let windows = page
        .items
        .into_iter()
        .map(|row| window(patient.as_str(), row))
        .collect();
    Ok(Json(Windows {
        windows,
        next_cursor: page.next_cursor,
    }))
}
