//! Refused input, newest first.

use std::ops::Bound;

use bytes::Bytes;
use schemas::facts::Door;
use schemas::ids::EventId;
use schemas::refused::Code;
use schemas::time::Timestamp;
use serde::Serialize;
use smol_str::SmolStr;

use super::fields::Fields;
use super::walk::{Filling, Walk, by_day};
use super::{Page, Paging, Range};
use crate::key;
use crate::store::{ViewError, ViewStore};
use crate::view::{Cell, Row};
use crate::views::rejected::REJECTED;
use crate::views::{day, days};

/// A refused record.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RejectedRow {
    /// Which.
    pub id: EventId,
    /// When it reached our door.
    pub received_at: Timestamp,
    /// Which door.
    pub door: Door,
    /// The patient named: it may be no valid id.
    pub patient_id: Option<SmolStr>,
    /// The sensor named: it may be no valid id.
    pub sensor_id: Option<SmolStr>,
    /// Why.
    pub code: Code,
    /// The field at fault.
    pub field: Option<SmolStr>,
    /// What a person reads, in English.
    pub detail: SmolStr,
    /// The same in French.
    pub detail_fr: SmolStr,
    /// Place in its message, from 0.
    pub index: i64,
    /// Its length in bytes.
    pub size: i64,
    /// Its first 1,024 bytes; the log has them all.
    #[serde(skip)]
    pub start: Bytes,
    /// How the message was labelled.
    pub content_type: Option<SmolStr>,
}

fn from_row(row: Row) -> Result<RejectedRow, ViewError> {
    let mut f = Fields::of(&REJECTED, row);
    f.skip(2);
    let (received_at, id) = (f.time(), f.id());
    let door = f.named(Door::parse)?;
    let code = f.named(Code::parse)?;
    let (detail, detail_fr, index, size, start) = (f.text(), f.text(), f.int(), f.int(), f.blob());
    let (field, sensor_id, patient_id, content_type) = (f.text(), f.text(), f.text(), f.text());
    Ok(RejectedRow {
        id: f.need(id)?,
        received_at: f.need(received_at)?,
        door,
        patient_id,
        sensor_id,
        code,
        field,
        detail: f.need(detail)?,
        detail_fr: f.need(detail_fr)?,
        index: f.need(index)?,
        size: f.need(size)?,
        start: f.need(start)?,
        content_type,
    })
}

/// Input refused since a moment, newest first; of one sensor, as it named itself, or of all.
///
/// # Errors
/// [`ViewError`].
pub async fn rejected(
    store: &dyn ViewStore,
    sensor: Option<&str>,
    since: Timestamp,
    paging: Paging<'_>,
) -> Result<Page<RejectedRow>, ViewError> {
    let read = |cursor| key::read_cursor(cursor, REJECTED.clustering).ok_or(ViewError::Cursor);
    let after = paging.cursor.map(read).transpose()?;
    let to = after.map_or(Bound::Unbounded, Bound::Excluded);
    list(store, sensor.unwrap_or_default(), (since, to), paging.rows()).await
}

/// Input of one list that was refused in a stretch of time, its end included: the last `most` of it, and whether these are
/// all.
pub(super) async fn rejected_within(
    store: &dyn ViewStore,
    of: &str,
    range: Range,
    most: usize,
) -> Result<(Vec<RejectedRow>, bool), ViewError> {
    let to = Bound::Included(vec![Cell::Time(range.to)]);
    let page = list(store, of, (range.from, to), most).await?;
    Ok((page.items, page.next_cursor.is_none()))
}

async fn list(
    store: &dyn ViewStore,
    of: &str,
    (since, to): (Timestamp, Bound<Vec<Cell>>),
    most: usize,
) -> Result<Page<RejectedRow>, ViewError> {
    let newest = match &to {
        Bound::Included(cells) | Bound::Excluded(cells) => cells.first().and_then(Cell::time),
        Bound::Unbounded => None,
    };
    let of = Cell::Text(of.into());
    let mut page = Filling::new(&REJECTED, most);
    let walk = |day| Walk {
        view: &REJECTED,
        partitions: vec![vec![of.clone(), day]],
        from: Bound::Included(vec![Cell::Time(since)]),
        to: to.clone(),
        descending: true,
    };
    let list = vec![days::REJECTED.into(), of.clone()];
    let days = day(since)..=newest.map_or(i64::MAX, day);
    by_day(store, list, days, &mut page, walk, |_| true).await?;
    page.page(from_row)
}
