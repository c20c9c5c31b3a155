//! Who wears which sensor, and which readings wait for somebody to say whose they are.

use std::collections::{BTreeMap, HashSet};
use std::ops::Bound;

use schemas::assignment::{Owners, Timeline, Whose};
use schemas::facts::{SensorAttached, SensorDetached};
use schemas::ids::{EventId, PatientId, SensorId};
use schemas::journal::Fact;
use schemas::time::{Span, Timestamp};
use smol_str::SmolStr;

use super::aliases::person;
use super::fields::Fields;
use super::readings::{ReadingRow, recorded};
use super::walk::{Filling, Walk};
use super::{MOST, Page, Paging, Range};
use crate::key;
use crate::store::{Scan, ViewError, ViewStore};
use crate::view::{Cell, Row, View};
use crate::views::assignments::{ASSIGNMENTS, ATTACHMENTS, PATIENT_SENSORS, REATTRIBUTED};
use crate::views::{SHARDS, shard};

/// Rows that are read of one sensor, or of one patient.
const ROWS: usize = 10_000;

/// What somebody said about a sensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assignment {
    /// Where it stands in the sensor's journal.
    pub position: i64,
    /// Who wears it.
    pub patient_id: Option<PatientId>,
    /// From when on, until the next moment that something was said of.
    pub from: Timestamp,
    /// Who said so.
    pub by: SmolStr,
    /// When.
    pub at: Timestamp,
}

fn patient(text: &str) -> Option<PatientId> {
    PatientId::new(text).ok()
}

/// What was said about a sensor, in the order in which it was said.
///
/// # Errors
/// [`ViewError`].
pub async fn assignments(store: &dyn ViewStore, sensor: &SensorId) -> Result<Vec<Assignment>, ViewError> {
    let scan = Scan::of(vec![Cell::Text(sensor.clone().into())], ROWS);
    let rows = store.scan(&ASSIGNMENTS, scan).await?;
    let read = |row| {
        let mut f = Fields::of(&ASSIGNMENTS, row);
        f.skip(1);
        let (position, from, by, at) = (f.int(), f.time(), f.text(), f.time());
        Ok(Assignment {
            position: f.need(position)?,
            from: f.need(from)?,
            by: f.need(by)?,
            at: f.need(at)?,
            patient_id: f.text().and_then(|text| patient(&text)),
        })
    };
    rows.into_iter().map(read).collect()
}

/// A sensor's timeline, as has been said so far.
#[must_use]
pub fn timeline(said: &[Assignment]) -> Timeline {
    let mut timeline = Timeline::default();
    for it in said {
        timeline.put(it.from, it.patient_id.clone());
    }
    timeline
}

/// What a patient's journal was told of a sensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attachment {
    /// The sensor.
    pub sensor_id: SensorId,
    /// Whose journal.
    pub patient_id: PatientId,
    /// Where in the sensor's journal it was decided: the greatest holds.
    pub order: i64,
    /// From when on.
    pub from: Timestamp,
    /// Until when; `None` until something else is said.
    pub until: Option<Timestamp>,
    /// Whether it is theirs then.
    pub attached: bool,
    /// When the journal was told.
    pub told_at: Timestamp,
    /// How often it is expected.
    pub expected_every: Option<Span>,
}

impl Attachment {
    /// The fact in the patient's journal.
    #[must_use]
    pub fn fact(&self) -> Fact {
        let (sensor_id, from, until, order) = (self.sensor_id.clone(), self.from, self.until, self.order);
        if self.attached {
            Fact::SensorAttached(SensorAttached {
                sensor_id,
                from,
                until,
                order,
                expected_every: self.expected_every,
                // Doors do not go by it.
                zone: None,
            })
        } else {
            Fact::SensorDetached(SensorDetached {
                sensor_id,
                from,
                until,
                order,
            })
        }
    }
}

fn attachment(view: &'static View, row: Row) -> Result<Attachment, ViewError> {
    let mut f = Fields::of(view, row);
    let (sensor_id, order, patient_id);
    if view == &ATTACHMENTS {
        f.skip(1);
        sensor_id = f.named(|text| SensorId::new(text).ok())?;
        order = f.int();
        patient_id = f.named(patient)?;
    } else {
        patient_id = f.named(patient)?;
        sensor_id = f.named(|text| SensorId::new(text).ok())?;
        order = f.int();
    }
    let (from, attached, told_at) = (f.time(), f.bool(), f.time());
    Ok(Attachment {
        sensor_id,
        patient_id,
        order: f.need(order)?,
        from: f.need(from)?,
        attached: f.need(attached)?,
        told_at: f.need(told_at)?,
        until: f.time(),
        expected_every: f.int().map(Span),
    })
}

/// What patients' journals were told, by sensor.
///
/// # Errors
/// [`ViewError`].
pub async fn attachments(store: &dyn ViewStore, paging: Paging<'_>) -> Result<Page<Attachment>, ViewError> {
    let from = match paging.cursor {
        Some(cursor) => Bound::Excluded(key::read_cursor(cursor, ATTACHMENTS.clustering).ok_or(ViewError::Cursor)?),
        None => Bound::Unbounded,
    };
    let walk = Walk {
        view: &ATTACHMENTS,
        partitions: (0..SHARDS).map(|n| vec![Cell::Int(n)]).collect(),
        from,
        to: Bound::Unbounded,
        descending: false,
    };
    let mut page = Filling::new(&ATTACHMENTS, paging.rows());
    page.add(store, walk, |_| true).await?;
    page.page(|row| attachment(&ATTACHMENTS, row))
}

/// What patients' journals were told of one sensor.
///
/// # Errors
/// [`ViewError`].
pub async fn attachments_of(store: &dyn ViewStore, sensor: &SensorId) -> Result<Vec<Attachment>, ViewError> {
    let this = || Bound::Included(vec![Cell::Text(sensor.clone().into())]);
    let scan = Scan::of(vec![shard(sensor.as_str())], ROWS).from(this()).to(this());
    let rows = store.scan(&ATTACHMENTS, scan).await?;
    rows.into_iter().map(|row| attachment(&ATTACHMENTS, row)).collect()
}

/// The sensors that a patient wears at a moment, as far as the patient's journal was told.
///
/// # Errors
/// [`ViewError`].
pub async fn worn_now(store: &dyn ViewStore, patient: &PatientId, now: Timestamp) -> Result<Vec<SensorId>, ViewError> {
    let told = worn_by(store, patient.as_str()).await?;
    let worn = told
        .into_iter()
        .filter(|(_, owners)| matches!(owners.at(now), Whose::Of(_)));
    Ok(worn.map(|(sensor, _)| sensor).collect())
}

/// Whose a patient's sensors are, each as far as the patient's journal was told.
///
/// # Errors
/// [`ViewError`].
pub(super) async fn worn_by(store: &dyn ViewStore, patient: &str) -> Result<BTreeMap<SensorId, Owners>, ViewError> {
    let scan = Scan::of(vec![Cell::Text(SmolStr::new(patient))], ROWS);
    let rows = store.scan(&PATIENT_SENSORS, scan).await?;
    let mut worn: BTreeMap<SensorId, Owners> = BTreeMap::new();
    for row in rows {
        let it = attachment(&PATIENT_SENSORS, row)?;
        let owner = it.attached.then_some(it.patient_id);
        worn.entry(it.sensor_id)
            .or_default()
            .take(it.from, it.until, it.order, owner);
    }
    Ok(worn)
}

/// A sensor's readings that wait for somebody to say whose they are: those that stand with nobody, and those that stand
/// with a patient who did not wear it when they were measured. Newest first, by patient; those that were said to be
/// somebody's are left out.
///
/// # Errors
/// [`ViewError`].
pub async fn unattributed(
    store: &dyn ViewStore,
    sensor: &SensorId,
    range: Range,
    limit: usize,
) -> Result<Vec<ReadingRow>, ViewError> {
    let settled = settled(store, sensor, range).await?;
    let (mut owners, mut persons) = (Owners::default(), BTreeMap::new());
    let mut subjects = vec![SmolStr::from(format!("sensor:{sensor}"))];
    for it in attachments_of(store, sensor).await? {
        if !it.attached && !subjects.contains(&SmolStr::from(it.patient_id.clone())) {
            subjects.push(it.patient_id.clone().into());
        }
        if !persons.contains_key(&it.patient_id) {
            persons.insert(it.patient_id.clone(), person(store, &it.patient_id).await?);
        }
        let owner = it.attached.then_some(it.patient_id);
        owners.take(it.from, it.until, it.order, owner);
    }
    // Under whichever registration.
    let is_one = |a: &PatientId, b: &PatientId| persons.get(a).unwrap_or(a) == persons.get(b).unwrap_or(b);
    let waits = |row: &ReadingRow| {
        let stands = patient(&row.patient_id);
        let misfiled = match (owners.at(row.at), &stands) {
            (Whose::Of(owner), Some(stands)) => !is_one(owner, stands),
            (Whose::Nobodys, Some(_)) => true,
            (Whose::Unsaid, Some(_)) => false,
            (_, None) => true,
        };
        row.sensor_id == *sensor && misfiled && !row.reattributed && !settled.contains(&(row.at, row.id))
    };
    let mut waiting = Vec::new();
    for subject in subjects {
        let mut cursor: Option<String> = None;
        loop {
            let paging = Paging {
                limit: MOST,
                cursor: cursor.as_deref(),
            };
            let page = recorded(store, std::slice::from_ref(&subject), None, range, paging).await?;
            waiting.extend(page.items.into_iter().filter(&waits));
            cursor = page.next_cursor;
            if cursor.is_none() || waiting.len() >= limit {
                break;
            }
        }
    }
    waiting.truncate(limit);
    Ok(waiting)
}

/// The readings of which somebody has said whose they are, by when they were measured.
///
/// # Errors
/// [`ViewError`].
pub async fn settled(
    store: &dyn ViewStore,
    sensor: &SensorId,
    range: Range,
) -> Result<HashSet<(Timestamp, EventId)>, ViewError> {
    let mut settled = HashSet::new();
    let mut from = Bound::Included(vec![Cell::Time(range.from)]);
    loop {
        let scan = Scan::of(vec![Cell::Text(sensor.clone().into())], MOST)
            .from(from)
            .to(Bound::Excluded(vec![Cell::Time(range.to)]));
        let rows = store.scan(&REATTRIBUTED, scan).await?;
        let full = rows.len() == MOST;
        from = match rows.last() {
            Some(last) if full => Bound::Excluded(super::walk::clustering(&REATTRIBUTED, last)),
            _ => Bound::Unbounded,
        };
        for row in rows {
            let mut f = Fields::of(&REATTRIBUTED, row);
            f.skip(1);
            let (at, id) = (f.time(), f.id());
            settled.insert((f.need(at)?, f.need(id)?));
        }
        if !full {
            return Ok(settled);
        }
    }
}
