//! Readings: the newest of each sensor, and all of them, newest first.

use std::collections::BTreeMap;
use std::ops::Bound;

use schemas::facts::{Mark, Sent};
use schemas::ids::{EventId, SensorId};
use schemas::journal::ClockQuality;
use schemas::metric::Metric;
use schemas::time::{Span, Timestamp};
use serde::Serialize;
use smol_str::SmolStr;

use super::aliases::all_of;
use super::fields::Fields;
use super::misfiled::Worn;
use super::walk::{Filling, Walk, clustering};
use super::{Page, Paging, Range};
use crate::key;
use crate::store::{Scan, ViewError, ViewStore};
use crate::view::{Cell, Row};
use crate::views::day;
use crate::views::days::{self, DAYS};
use crate::views::latest::LATEST;
use crate::views::readings::READINGS;

/// A reading as the views have it. The value is in the metric's canonical unit.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ReadingRow {
    /// Which reading.
    pub id: EventId,
    /// Whose: a patient, or `sensor:<id>` for a sensor without one.
    pub patient_id: SmolStr,
    /// The sensor.
    pub sensor_id: SensorId,
    /// What was measured.
    pub metric: Metric,
    /// In `unit`.
    pub value: f64,
    /// The metric's canonical unit, UCUM.
    pub unit: &'static str,
    /// When it was measured.
    pub at: Timestamp,
    /// When it reached our door.
    pub received_at: Timestamp,
    /// When a gateway took it.
    pub gateway_at: Option<Timestamp>,
    /// 0–100, where the device says so.
    pub quality: Option<i64>,
    /// Whether the electrode or probe sits on the patient.
    pub contact: Option<bool>,
    /// What was noticed about it.
    pub marks: Vec<Mark>,
    /// As the device sent it, where it differs.
    pub sent: Option<Sent>,
    /// The device's own count.
    pub seq: Option<i64>,
    /// Which life of the device.
    pub epoch: Option<i64>,
    /// Whose clock `at` is.
    pub clock: ClockQuality,
    /// Where it came in.
    pub door: SmolStr,
    /// Its offset in its partition of the journal.
    pub position: i64,
    /// Whether somebody has said whose it is.
    pub reattributed: bool,
    /// Whether it stands with a patient who did not wear its sensor when it was measured.
    pub misfiled: bool,
    /// The waveform's samples per second.
    pub rate: Option<f64>,
    /// The waveform.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub samples: Vec<f32>,
}

/// What stands in the key of a reading, whichever view it comes from.
struct Named {
    id: EventId,
    patient_id: SmolStr,
    sensor_id: SensorId,
    metric: Metric,
    at: Timestamp,
}

fn sensor_id(text: &str) -> Option<SensorId> {
    SensorId::new(text).ok()
}

fn from_readings(row: Row) -> Result<ReadingRow, ViewError> {
    let mut f = Fields::of(&READINGS, row);
    let patient_id = f.text();
    let patient_id = f.need(patient_id)?;
    let metric = f.named(Metric::parse)?;
    f.skip(1);
    let at = f.time();
    let at = f.need(at)?;
    let sensor_id = f.named(sensor_id)?;
    let id = f.id();
    let id = f.need(id)?;
    rest(
        Named {
            id,
            patient_id,
            sensor_id,
            metric,
            at,
        },
        f,
    )
}

fn from_latest(row: Row) -> Result<ReadingRow, ViewError> {
    let mut f = Fields::of(&LATEST, row);
    let patient_id = f.text();
    let patient_id = f.need(patient_id)?;
    let metric = f.named(Metric::parse)?;
    let sensor_id = f.named(sensor_id)?;
    let at = f.time();
    let at = f.need(at)?;
    let id = f.id();
    let id = f.need(id)?;
    rest(
        Named {
            id,
            patient_id,
            sensor_id,
            metric,
            at,
        },
        f,
    )
}

/// The columns that both views have in the same order.
fn rest(named: Named, mut f: Fields) -> Result<ReadingRow, ViewError> {
    let (value, seq, epoch) = (f.double(), f.int(), f.int());
    let (rate, samples) = (f.double(), f.blob());
    let (received_at, position) = (f.time(), f.int());
    let clock = f.named(ClockQuality::parse)?;
    let door = f.text();
    Ok(ReadingRow {
        id: named.id,
        patient_id: named.patient_id,
        sensor_id: named.sensor_id,
        metric: named.metric,
        at: named.at,
        value: f.need(value)?,
        unit: named.metric.info().unit,
        received_at: f.need(received_at)?,
        position: f.need(position)?,
        clock,
        door: f.need(door)?,
        quality: f.int(),
        contact: f.bool(),
        seq,
        epoch,
        marks: f
            .text()
            .map(|t| t.split(',').filter_map(Mark::parse).collect())
            .unwrap_or_default(),
        sent: f.double().zip(f.text()).map(|(value, unit)| Sent { value, unit }),
        gateway_at: f.time(),
        rate,
        samples: samples.map(|bytes| floats(&bytes)).unwrap_or_default(),
        reattributed: f.blob().is_some(),
        misfiled: false,
    })
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes
        .chunks_exact(4)
        .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
        .collect()
}

/// Most rows of `latest` that one patient is shown.
const SENSORS: usize = 2_000;

/// The newest reading per metric and sensor of a subject (a patient's id, or `sensor:<id>`), by measured time. One that is
/// misfiled is not shown.
///
/// # Errors
/// [`ViewError`].
pub async fn latest(store: &dyn ViewStore, subject: &str) -> Result<Vec<ReadingRow>, ViewError> {
    let worn = Worn::of(store, subject).await?;
    let mut newest: BTreeMap<(Metric, SensorId), ReadingRow> = BTreeMap::new();
    for of in all_of(store, subject).await? {
        let rows = store.scan(&LATEST, Scan::of(vec![Cell::Text(of)], SENSORS)).await?;
        for row in rows {
            let mut row = from_latest(row)?;
            let key = (row.metric, row.sensor_id.clone());
            let newer = newest
                .get(&key)
                .is_none_or(|known| (known.at, known.id) < (row.at, row.id));
            if newer && !worn.is_misfiled(&row.sensor_id, row.at, row.reattributed) {
                row.patient_id = SmolStr::new(subject);
                newest.insert(key, row);
            }
        }
    }
    let mut rows: Vec<ReadingRow> = newest.into_values().collect();
    rows.sort_by(|a, b| (a.metric.as_str(), &a.sensor_id).cmp(&(b.metric.as_str(), &b.sensor_id)));
    Ok(rows)
}

/// The readings of a subject in a range of measured time, newest first; of one metric or of all.
///
/// # Errors
/// [`ViewError`].
pub async fn readings(
    store: &dyn ViewStore,
    subject: &str,
    metric: Option<Metric>,
    range: Range,
    paging: Paging<'_>,
) -> Result<Page<ReadingRow>, ViewError> {
    let subjects = all_of(store, subject).await?;
    let worn = Worn::of(store, subject).await?;
    let mut page = recorded(store, &subjects, metric, range, paging).await?;
    for row in &mut page.items {
        // Whatever it was recorded under: a person is one.
        row.patient_id = SmolStr::new(subject);
        row.misfiled = worn.is_misfiled(&row.sensor_id, row.at, row.reattributed);
    }
    Ok(page)
}

/// The same as they were recorded, each under its own registration; whether they are misfiled is not said.
pub(super) async fn recorded(
    store: &dyn ViewStore,
    subjects: &[SmolStr],
    metric: Option<Metric>,
    range: Range,
    paging: Paging<'_>,
) -> Result<Page<ReadingRow>, ViewError> {
    let mut to = Bound::Excluded(vec![Cell::Time(range.to)]);
    let mut last_day = day(range.to - Span(1));
    if let Some(cursor) = paging.cursor {
        let cells = key::read_cursor(cursor, READINGS.clustering).ok_or(ViewError::Cursor)?;
        let at = cells.first().and_then(Cell::time).ok_or(ViewError::Cursor)?;
        if at < range.to {
            last_day = day(at);
            to = Bound::Excluded(cells);
        }
    }
    let mut page = Filling::new(&READINGS, paging.rows());
    let mut days = Calendar::of(subjects, day(range.from), last_day);
    while let Some((day, lists)) = days.next(store, metric).await? {
        let walk = Walk {
            view: &READINGS,
            partitions: lists.iter().map(|(of, m)| partition(of, m.clone(), day)).collect(),
            from: Bound::Included(vec![Cell::Time(range.from)]),
            to: to.clone(),
            descending: true,
        };
        if page.add(store, walk, |_| true).await? {
            break;
        }
    }
    page.page(from_readings)
}

fn partition(subject: &str, metric: SmolStr, day: i64) -> Vec<Cell> {
    vec![Cell::Text(SmolStr::new(subject)), Cell::Text(metric), Cell::Int(day)]
}

/// The days on which somebody has readings, under any of these registrations, newest first.
pub(super) struct Calendar {
    of: Vec<(Days, Option<Day>)>,
}

/// A day, with the metrics of which there are readings.
type Day = (i64, Vec<SmolStr>);

impl Calendar {
    pub(super) fn of(subjects: &[SmolStr], from: i64, to: i64) -> Self {
        let days = |subject: &SmolStr| (Days::new(subject, from, to), None);
        Self {
            of: subjects.iter().map(days).collect(),
        }
    }

    /// The next older day with readings of this metric, or of any: each list of that day, by subject and metric.
    pub(super) async fn next(
        &mut self,
        store: &dyn ViewStore,
        metric: Option<Metric>,
    ) -> Result<Option<(i64, Vec<(SmolStr, SmolStr)>)>, ViewError> {
        for (days, next) in &mut self.of {
            if next.is_none() {
                *next = days.next(store, metric).await?;
            }
        }
        let newest = self
            .of
            .iter()
            .filter_map(|(_, next)| next.as_ref().map(|(day, _)| *day))
            .max();
        let Some(newest) = newest else { return Ok(None) };
        let mut lists = Vec::new();
        for (days, next) in &mut self.of {
            if let Some((_, metrics)) = next.take_if(|(day, _)| *day == newest) {
                lists.extend(metrics.into_iter().map(|metric| (days.subject.clone(), metric)));
            }
        }
        Ok(Some((newest, lists)))
    }
}

/// The days on which one registration has readings, newest first, with the metrics of each.
struct Days {
    subject: SmolStr,
    from: i64,
    to: Bound<Vec<Cell>>,
    read: BTreeMap<i64, Vec<SmolStr>>,
    done: bool,
}

impl Days {
    /// Rows of `days` read at a time.
    const STRIDE: usize = 256;

    fn new(subject: &str, from: i64, to: i64) -> Self {
        let to = Bound::Included(vec![Cell::Int(to)]);
        Self {
            subject: SmolStr::new(subject),
            from,
            to,
            read: BTreeMap::new(),
            done: false,
        }
    }

    /// The next older day with readings of this metric, or of any.
    async fn next(&mut self, store: &dyn ViewStore, metric: Option<Metric>) -> Result<Option<Day>, ViewError> {
        // The oldest day read may go on in the next stretch: it is whole once an older one or the end was read.
        while self.read.len() < 2 && !self.done {
            self.fill(store, metric).await?;
        }
        Ok(self.read.pop_last())
    }

    async fn fill(&mut self, store: &dyn ViewStore, metric: Option<Metric>) -> Result<(), ViewError> {
        let list = vec![days::READINGS.into(), Cell::Text(self.subject.clone())];
        let scan = Scan::of(list, Self::STRIDE)
            .descending()
            .from(Bound::Included(vec![Cell::Int(self.from)]))
            .to(self.to.clone());
        let rows = store.scan(&DAYS, scan).await?;
        self.done = rows.len() < Self::STRIDE;
        if let Some(last) = rows.last() {
            self.to = Bound::Excluded(clustering(&DAYS, last));
        }
        for row in rows {
            let mut f = Fields::of(&DAYS, row);
            f.skip(2);
            let (day, part) = (f.int(), f.text());
            let (day, part) = (f.need(day)?, f.need(part)?);
            if metric.is_none_or(|m| m.as_str() == part) {
                self.read.entry(day).or_default().push(part);
            }
        }
        Ok(())
    }
}
