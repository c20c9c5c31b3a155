//! Consultations: each as people have left it, what was measured in it, and lists of them.

use std::collections::BTreeMap;
use std::ops::Bound;

use schemas::consultation::{LONGEST, PART, counts, joined};
use schemas::facts::{ConsultationSeries, ConsultationState, Stretch};
use schemas::ids::{ConsultationId, PatientId, SensorId, StaffId};
use schemas::metric::Metric;
use schemas::time::{Span, Timestamp};
use smol_str::SmolStr;

use super::aliases::all_of;
use super::fields::Fields;
use super::walk::{Filling, Walk, by_day};
use super::{Page, Paging, Range, ReadingRow, readings};
use crate::key;
use crate::store::{Scan, ViewError, ViewStore};
use crate::view::{Cell, Row, View};
use crate::views::consultations::{
    CLOSED, CONSULTATION_EVENTS, CONSULTATION_PARTS, CONSULTATIONS, CONSULTATIONS_BY_DAY, NOTED, OPENED, PLANNED,
};
use crate::views::{day, days};

/// A consultation as people have left it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Consultation {
    /// Which.
    pub id: ConsultationId,
    /// Whose.
    pub patient_id: PatientId,
    /// Who is to hold it.
    pub practitioner_id: StaffId,
    /// When it is to begin.
    pub planned_for: Option<Timestamp>,
    /// When and by whom it was planned.
    pub planned: Happened,
    /// When and by whom it was opened.
    pub opened: Option<Happened>,
    /// When and by whom it was closed.
    pub closed: Option<Happened>,
    /// What was written, oldest first.
    pub notes: Vec<Note>,
}

/// Something that somebody did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Happened {
    /// When.
    pub at: Timestamp,
    /// Who.
    pub by: SmolStr,
    /// Its offset in the patient's partition of the journal.
    pub position: i64,
}

/// Something written to a consultation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// What.
    pub text: SmolStr,
    /// The moment in the data that it is about.
    pub at: Option<Timestamp>,
    /// When it was written, and by whom.
    pub noted: Happened,
}

impl Consultation {
    /// Where it stands.
    #[must_use]
    pub const fn state(&self) -> ConsultationState {
        match (&self.opened, &self.closed) {
            (None, _) => ConsultationState::Planned,
            (Some(_), None) => ConsultationState::Open,
            (Some(_), Some(_)) => ConsultationState::Closed,
        }
    }

    /// The time in which it was held, as seen at `now`; none where it has not been opened.
    #[must_use]
    pub fn held(&self, now: Timestamp) -> Option<Range> {
        let from = self.opened.as_ref()?.at;
        let to = self.closed.as_ref().map_or(now, |closed| closed.at.min(now));
        Some(Range {
            from,
            to: to.min(from + LONGEST).max(from),
        })
    }
}

/// Events of one consultation that are read at most.
const EVENTS: usize = 10_000;

/// One consultation; `None` where nobody planned it.
///
/// # Errors
/// [`ViewError`].
pub async fn consultation(store: &dyn ViewStore, id: &ConsultationId) -> Result<Option<Consultation>, ViewError> {
    let scan = Scan::of(vec![Cell::Text(id.clone().into())], EVENTS);
    let mut found: Option<Consultation> = None;
    for row in store.scan(&CONSULTATION_EVENTS, scan).await? {
        take(&mut found, id, row)?;
    }
    Ok(found)
}

/// The next event: what does not fit what came before changes nothing.
fn take(found: &mut Option<Consultation>, id: &ConsultationId, row: Row) -> Result<(), ViewError> {
    let mut f = Fields::of(&CONSULTATION_EVENTS, row);
    f.skip(1);
    let position = f.int();
    let patient_id = f.named(|text| PatientId::new(text).ok())?;
    let (event, at, by) = (f.text(), f.time(), f.text());
    let happened = Happened {
        at: f.need(at)?,
        by: f.need(by)?,
        position: f.need(position)?,
    };
    let (practitioner, planned_for, text, marked) = (f.text(), f.time(), f.text(), f.time());
    let Some(consultation) = found else {
        if event.as_deref() == Some(PLANNED) {
            let practitioner = practitioner.and_then(|text| StaffId::new(&text).ok());
            *found = Some(Consultation {
                id: id.clone(),
                patient_id,
                practitioner_id: f.need(practitioner)?,
                planned_for,
                planned: happened,
                opened: None,
                closed: None,
                notes: Vec::new(),
            });
        }
        return Ok(());
    };
    if consultation.patient_id != patient_id {
        return Ok(());
    }
    match event.as_deref() {
        Some(OPENED) if consultation.opened.is_none() => consultation.opened = Some(happened),
        Some(CLOSED) if consultation.opened.is_some() && consultation.closed.is_none() => {
            consultation.closed = Some(happened);
        }
        Some(NOTED) => consultation.notes.push(Note {
            text: f.need(text)?,
            at: marked,
            noted: happened,
        }),
        _ => {}
    }
    Ok(())
}

/// What was measured in a consultation, as its processor has folded it, oldest part first.
///
/// # Errors
/// [`ViewError`].
pub async fn consultation_parts(
    store: &dyn ViewStore,
    consultation: &Consultation,
) -> Result<Vec<ConsultationSeries>, ViewError> {
    let Some(opened) = &consultation.opened else {
        return Ok(Vec::new());
    };
    let within = |at| vec![Cell::Time(at)];
    let scan = Scan::of(vec![Cell::Text(consultation.id.clone().into())], EVENTS)
        .from(Bound::Included(within(opened.at.floor(PART))))
        .to(Bound::Excluded(within(opened.at + LONGEST)));
    let mut all = Vec::new();
    for row in store.scan(&CONSULTATION_PARTS, scan).await? {
        let mut f = Fields::of(&CONSULTATION_PARTS, row);
        f.skip(2);
        if f.text().as_deref() != Some(consultation.patient_id.as_str()) {
            continue;
        }
        f.skip(2);
        let json = f.text();
        let series: Vec<ConsultationSeries> = serde_json::from_str(&f.need(json)?)
            .map_err(|e| ViewError::Corrupt(format!("series of {}: {e}", CONSULTATION_PARTS.name)))?;
        all.extend(series);
    }
    Ok(all)
}

/// Readings looked at for what had been received by a moment at most: five metrics once a second for twelve hours.
const MOST_RECEIVED: usize = 250_000;
/// Readings read at a time.
const STRIDE: usize = 10_000;

/// What had been received by a moment of what was measured in `range`: the same series as the processor's, and of each
/// the newest reading. How long each sensor may be silent is as in `known`.
///
/// A reading that was received twice shows with the later of the two, which is the one the views have.
///
/// # Errors
/// [`ViewError`].
pub async fn received_by(
    store: &dyn ViewStore,
    patient: &PatientId,
    range: Range,
    moment: Timestamp,
    known: &[ConsultationSeries],
) -> Result<(Vec<ConsultationSeries>, Vec<ReadingRow>), ViewError> {
    let mut series: BTreeMap<(Metric, SensorId), Vec<ReadingRow>> = BTreeMap::new();
    let (mut cursor, mut seen) = (None::<String>, 0);
    loop {
        let paging = Paging {
            limit: STRIDE,
            cursor: cursor.as_deref(),
        };
        let page = readings(store, patient.as_str(), None, range, paging).await?;
        seen += page.items.len();
        for row in page
            .items
            .into_iter()
            .filter(|row| row.received_at <= moment && row.value.is_finite())
        {
            if counts(row.metric) {
                series.entry((row.metric, row.sensor_id.clone())).or_default().push(row);
            }
        }
        cursor = page.next_cursor;
        if cursor.is_none() || seen >= MOST_RECEIVED {
            break;
        }
    }
    let mut newest = Vec::with_capacity(series.len());
    let mut folded = Vec::with_capacity(series.len());
    for ((metric, sensor_id), mut rows) in series {
        rows.sort_by_key(|row| (row.at, row.id));
        let known = known
            .iter()
            .rev()
            .find(|k| k.metric == metric && k.sensor_id == sensor_id);
        folded.extend(fold(&rows, known.and_then(|k| k.silent_after)));
        newest.extend(rows.pop());
    }
    Ok((folded, newest))
}

/// A series of readings, oldest first.
fn fold(rows: &[ReadingRow], silent_after: Option<Span>) -> Option<ConsultationSeries> {
    let (first, last) = (rows.first()?, rows.last()?);
    let values = || rows.iter().map(|row| row.value);
    let qualities: Vec<f64> = rows.iter().filter_map(|row| row.quality).map(|q| q as f64).collect();
    let mean = |values: &mut dyn Iterator<Item = f64>, n: usize| values.sum::<f64>() / n as f64;
    let moments: Vec<Stretch> = rows
        .iter()
        .map(|row| Stretch {
            start: row.at,
            end: row.at,
        })
        .collect();
    Some(ConsultationSeries {
        sensor_id: first.sensor_id.clone(),
        metric: first.metric,
        count: i64::try_from(rows.len()).unwrap_or(i64::MAX),
        min: values().fold(f64::INFINITY, f64::min),
        max: values().fold(f64::NEG_INFINITY, f64::max),
        mean: mean(&mut values(), rows.len()),
        last: last.value,
        last_at: last.at,
        rated: i64::try_from(qualities.len()).unwrap_or(i64::MAX),
        quality: (!qualities.is_empty()).then(|| mean(&mut qualities.iter().copied(), qualities.len())),
        silent_after,
        stretches: joined(&moments, silent_after),
    })
}

/// A patient's consultations, the last planned first.
///
/// # Errors
/// [`ViewError`].
pub async fn consultations(
    store: &dyn ViewStore,
    patient: &PatientId,
    paging: Paging<'_>,
) -> Result<Page<Consultation>, ViewError> {
    let mut page = Filling::new(&CONSULTATIONS, paging.rows());
    let mut all = walk(&CONSULTATIONS, Vec::new(), cursor(paging)?);
    let of = all_of(store, patient.as_str()).await?;
    all.partitions = of.into_iter().map(|of| vec![Cell::Text(of)]).collect();
    page.add(store, all, |_| true).await?;
    whole(store, &CONSULTATIONS, page).await
}

/// Everybody's consultations, the last planned first.
///
/// # Errors
/// [`ViewError`].
pub async fn consultations_all(store: &dyn ViewStore, paging: Paging<'_>) -> Result<Page<Consultation>, ViewError> {
    let after = cursor(paging)?;
    let newest = after
        .as_ref()
        .and_then(|cells| cells.first())
        .and_then(Cell::time)
        .map_or(i64::MAX, day);
    let mut page = Filling::new(&CONSULTATIONS_BY_DAY, paging.rows());
    by_day(
        store,
        vec![days::CONSULTATIONS.into(), "".into()],
        i64::MIN..=newest,
        &mut page,
        |day| walk(&CONSULTATIONS_BY_DAY, vec![day], after.clone()),
        |_| true,
    )
    .await?;
    whole(store, &CONSULTATIONS_BY_DAY, page).await
}

fn cursor(paging: Paging<'_>) -> Result<Option<Vec<Cell>>, ViewError> {
    let read = |cursor| key::read_cursor(cursor, CONSULTATIONS.clustering).ok_or(ViewError::Cursor);
    paging.cursor.map(read).transpose()
}

fn walk(view: &'static View, partition: Vec<Cell>, after: Option<Vec<Cell>>) -> Walk {
    Walk {
        view,
        partitions: vec![partition],
        from: Bound::Unbounded,
        to: after.map_or(Bound::Unbounded, Bound::Excluded),
        descending: true,
    }
}

/// The consultations that a page of a list names.
async fn whole(store: &dyn ViewStore, view: &'static View, page: Filling) -> Result<Page<Consultation>, ViewError> {
    let Page { items, next_cursor } = page.page(|row| {
        let mut f = Fields::of(view, row);
        f.skip(2);
        let id = f.blob();
        let id = f.need(id)?;
        let id = std::str::from_utf8(&id)
            .ok()
            .and_then(|text| ConsultationId::new(text).ok());
        f.need(id)
    })?;
    let mut whole = Vec::with_capacity(items.len());
    for id in items {
        whole.extend(consultation(store, &id).await?);
    }
    Ok(Page {
        items: whole,
        next_cursor,
    })
}
