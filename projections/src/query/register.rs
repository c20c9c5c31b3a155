//! Who is registered, and together with who was heard: everybody.

use std::collections::BTreeMap;

use std::ops::Bound;

use schemas::ids::{Key, PatientId, SensorId};
use schemas::registry::{Record, Register};
use schemas::time::Timestamp;
use serde_json::{Map, Value};
use smol_str::{SmolStr, format_smolstr};

use super::aliases::{self, stands};
use super::assignments::{Assignment, assignments, timeline};
use super::fields::Fields;
use super::registry::{self, PatientRow, SensorRow, listed};
use super::walk::{Filling, Walk};
use super::{Page, Paging};
use crate::key;
use crate::store::{Scan, ViewError, ViewStore};
use crate::view::{Cell, Column, Row, Type, column};
use crate::views::registry::{MAC_ADDRESSES, NAMES, entries, folded, view};
use crate::views::{SHARDS, shard};

/// A registration as it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Registered {
    /// Of whom or what.
    pub id: SmolStr,
    /// 1, 2, …
    pub revision: i32,
    /// It has ended.
    pub ended: bool,
    /// What is registered.
    pub record: Record,
    /// Who registered it like this.
    pub by: SmolStr,
    /// Since when.
    pub since: Timestamp,
}

impl Registered {
    /// Whether somebody who looks for what begins like this means them: by id or by a word of the name.
    #[must_use]
    pub fn is_meant(&self, q: &str) -> bool {
        self.id.starts_with(q) || self.first_entry(&folded(q)).is_some()
    }

    /// The first entry of the name that begins like this.
    fn first_entry(&self, folded: &str) -> Option<SmolStr> {
        let entries = self.record.name().map(|name| entries(name)).unwrap_or_default();
        entries.into_iter().filter(|entry| entry.starts_with(folded)).min()
    }
}

fn registered_row(register: Register, row: Row) -> Result<Registered, ViewError> {
    let mut f = Fields::of(view(register), row);
    f.skip(1);
    let (id, revision, ended, record, by, since) = (f.text(), f.int(), f.bool(), f.text(), f.text(), f.time());
    let id = f.need(id)?;
    let damaged = |why: &dyn std::fmt::Display| ViewError::Corrupt(format!("the registration of {id}: {why}"));
    let fields: Map<String, Value> = serde_json::from_str(&f.need(record)?).map_err(|e| damaged(&e))?;
    // What was taken once is taken again: the end of time bounds nothing.
    let record = Record::from_json(register, &fields, Timestamp::MAX).map_err(|e| damaged(&e))?;
    Ok(Registered {
        revision: f.need(revision.and_then(|n| i32::try_from(n).ok()))?,
        ended: f.need(ended)?,
        record,
        by: f.need(by)?,
        since: f.need(since)?,
        id,
    })
}

/// The registration under a key, ended or not; `None` where there never was one.
///
/// # Errors
/// [`ViewError`].
pub async fn registered(store: &dyn ViewStore, key: &Key) -> Result<Option<Registered>, ViewError> {
    let Some((register, id)) = Register::of(key) else {
        return Ok(None);
    };
    let row = store.get(view(register), &[shard(&id), Cell::Text(id)]).await?;
    row.map(|row| registered_row(register, row)).transpose()
}

/// Registrations whose id begins with `prefix`, by id, ended or not.
///
/// # Errors
/// [`ViewError`].
pub async fn register(
    store: &dyn ViewStore,
    register: Register,
    prefix: &str,
    paging: Paging<'_>,
) -> Result<Page<Registered>, ViewError> {
    let view = view(register);
    let mut page = Filling::new(view, paging.rows());
    page.add(store, listed(view, view.clustering, prefix, paging)?, |_| true)
        .await?;
    page.page(|row| registered_row(register, row))
}

/// Sensors that one address is looked for with at most.
const HOLDERS: usize = 1_000;

/// The sensors that are registered with an address now.
///
/// # Errors
/// [`ViewError`].
pub async fn holders(store: &dyn ViewStore, mac: &SmolStr) -> Result<Vec<SmolStr>, ViewError> {
    let rows = store
        .scan(&MAC_ADDRESSES, Scan::of(vec![Cell::Text(mac.clone())], HOLDERS))
        .await?;
    let mut found = Vec::new();
    for row in rows {
        let id = row.key.get(1).and_then(Cell::text).cloned().unwrap_or_default();
        let Ok(sensor) = SensorId::new(&id) else { continue };
        let now = registered(store, &Key::Sensor(sensor)).await?;
        if now.is_some_and(|now| !now.ended && now.record.mac_address() == Some(mac)) {
            found.push(id);
        }
    }
    Ok(found)
}

/// Where a search by name goes on: never a cursor of a list by id, whose cells are fewer.
const BY_NAME: &[Column] = &[column("name", Type::Text), column("id", Type::Text)];

/// Registrations with a word in their name that begins like `q`, by name; those whose id begins like it too are left
/// out, because a search gives them first.
///
/// # Errors
/// [`ViewError`].
pub async fn named(
    store: &dyn ViewStore,
    register: Register,
    q: &str,
    paging: Paging<'_>,
) -> Result<Page<Registered>, ViewError> {
    let folded = folded(q);
    let text = |s: SmolStr| vec![Cell::Text(s)];
    let from = match paging.cursor {
        Some(cursor) => Bound::Excluded(key::read_cursor(cursor, BY_NAME).ok_or(ViewError::Cursor)?),
        None => Bound::Included(text(SmolStr::new(&folded))),
    };
    let walk = Walk {
        view: &NAMES,
        partitions: (0..SHARDS)
            .map(|n| vec![register.as_str().into(), Cell::Int(n)])
            .collect(),
        from,
        to: Bound::Excluded(text(format_smolstr!("{folded}{}", char::MAX))),
        descending: false,
    };
    let mut page = Filling::new(&NAMES, paging.rows());
    page.add(store, walk, |_| true).await?;
    let rows = page.page(Ok)?;
    let mut items = Vec::new();
    for row in rows.items {
        let mut f = Fields::of(&NAMES, row);
        f.skip(2);
        let (name, id) = (f.text(), f.text());
        let (name, id) = (f.need(name)?, f.need(id)?);
        let Ok(key) = register.key(&id) else { continue };
        let Some(now) = registered(store, &key).await? else {
            continue;
        };
        // A name that has changed since finds nobody; who has two fitting words is found by one of them.
        if !now.id.starts_with(q) && now.first_entry(&folded) == Some(name) {
            items.push(now);
        }
    }
    Ok(Page {
        items,
        next_cursor: rows.next_cursor,
    })
}

/// A patient: registered, heard, or both.
#[derive(Debug, Clone, PartialEq)]
pub struct PatientCard {
    /// The patient.
    pub id: PatientId,
    /// What is registered.
    pub registered: Option<Registered>,
    /// What was heard.
    pub heard: Option<PatientRow>,
    /// The registration that stands for the person, where it is another one.
    pub merged_into: Option<PatientId>,
}

/// A sensor: registered, heard, or both.
#[derive(Debug, Clone, PartialEq)]
pub struct SensorCard {
    /// The sensor.
    pub id: SensorId,
    /// What is registered.
    pub registered: Option<Registered>,
    /// What was heard.
    pub heard: Option<SensorRow>,
    /// Who wears it, as somebody has said; where nobody has, with whom it was heard last.
    pub patient_id: Option<PatientId>,
}

/// A patient; `None` where neither anything was heard of them nor anybody registered them.
///
/// # Errors
/// [`ViewError`].
pub async fn patient_card(store: &dyn ViewStore, id: &PatientId) -> Result<Option<PatientCard>, ViewError> {
    let registered = registered(store, &Key::Patient(id.clone())).await?;
    let heard = registry::patient(store, id).await?;
    if registered.is_none() && heard.is_none() {
        return Ok(None);
    }
    Ok(Some(PatientCard {
        merged_into: stands(store, id).await?,
        id: id.clone(),
        registered,
        heard,
    }))
}

/// A sensor; `None` where neither anything was heard of it nor anybody registered it.
///
/// # Errors
/// [`ViewError`].
pub async fn sensor_card(store: &dyn ViewStore, id: &SensorId) -> Result<Option<SensorCard>, ViewError> {
    let registered = registered(store, &Key::Sensor(id.clone())).await?;
    let heard = registry::sensor(store, id).await?;
    let said = assignments(store, id).await?;
    if registered.is_none() && heard.is_none() && said.is_empty() {
        return Ok(None);
    }
    Ok(Some(sensor_with(id.clone(), registered, heard, &said)))
}

fn sensor_with(
    id: SensorId,
    registered: Option<Registered>,
    heard: Option<SensorRow>,
    said: &[Assignment],
) -> SensorCard {
    let timeline = timeline(said);
    let patient_id = match timeline.last() {
        Some((_, patient)) => patient.cloned(),
        None => heard.as_ref().and_then(|row| row.patient_id.clone()),
    };
    SensorCard {
        id,
        registered,
        heard,
        patient_id,
    }
}

/// Patients whose id begins with `prefix`, by id.
///
/// # Errors
/// [`ViewError`].
pub async fn patient_cards(
    store: &dyn ViewStore,
    prefix: &str,
    paging: Paging<'_>,
) -> Result<Page<PatientCard>, ViewError> {
    let known = register(store, Register::Patients, prefix, paging).await?;
    let heard = registry::patients(store, prefix, paging).await?;
    let merged = merged(known, heard, |row| row.id.clone().into(), paging.rows())?;
    let aliases = match (merged.items.first(), merged.items.last()) {
        (Some((first, ..)), Some((last, ..))) => aliases::merged(store, first.clone()..=last.clone()).await?,
        _ => BTreeMap::new(),
    };
    let mut items = Vec::with_capacity(merged.items.len());
    for (id, registered, heard) in merged.items {
        let id = PatientId::new(&id).map_err(|e| ViewError::Corrupt(format!("{id}: {e}")))?;
        // Only of one that was merged is there anything to ask.
        let merged_into = match aliases.get(&id) {
            Some(_) => stands(store, &id).await?,
            None => None,
        };
        items.push(PatientCard {
            merged_into,
            id,
            registered,
            heard,
        });
    }
    Ok(Page {
        items,
        next_cursor: merged.next_cursor,
    })
}

/// Sensors whose id begins with `prefix`, by id.
///
/// # Errors
/// [`ViewError`].
pub async fn sensor_cards(
    store: &dyn ViewStore,
    prefix: &str,
    paging: Paging<'_>,
) -> Result<Page<SensorCard>, ViewError> {
    let known = register(store, Register::Sensors, prefix, paging).await?;
    let heard = registry::sensors(store, prefix, paging).await?;
    let merged = merged(known, heard, |row| row.id.clone().into(), paging.rows())?;
    let mut items = Vec::with_capacity(merged.items.len());
    for (id, registered, heard) in merged.items {
        let id = SensorId::new(&id).map_err(|e| ViewError::Corrupt(format!("{id}: {e}")))?;
        let said = assignments(store, &id).await?;
        items.push(sensor_with(id, registered, heard, &said));
    }
    Ok(Page {
        items,
        next_cursor: merged.next_cursor,
    })
}

type Both<H> = (SmolStr, Option<Registered>, Option<H>);

/// Two pages by id as one: as far as both have been read.
fn merged<H>(
    known: Page<Registered>,
    heard: Page<H>,
    id_of: impl Fn(&H) -> SmolStr,
    limit: usize,
) -> Result<Page<Both<H>>, ViewError> {
    let end = |cursor: &Option<String>| match cursor {
        None => Ok(None),
        Some(cursor) => match key::read_cursor(cursor, BY_NAME.get(1..).unwrap_or_default()).as_deref() {
            Some([Cell::Text(id)]) => Ok(Some(id.clone())),
            _ => Err(ViewError::Cursor),
        },
    };
    let ends = [end(&known.next_cursor)?, end(&heard.next_cursor)?];
    let mut end = ends.into_iter().flatten().min();
    let mut both: BTreeMap<SmolStr, (Option<Registered>, Option<H>)> = BTreeMap::new();
    for row in known.items {
        let id = row.id.clone();
        both.entry(id).or_default().0 = Some(row);
    }
    for row in heard.items {
        let id = id_of(&row);
        both.entry(id).or_default().1 = Some(row);
    }
    let mut items: Vec<Both<H>> = Vec::new();
    for (id, (registered, heard)) in both {
        if end.as_ref().is_some_and(|end| id > *end) {
            break;
        }
        if items.len() == limit {
            end = items.last().map(|(id, ..)| id.clone());
            break;
        }
        items.push((id, registered, heard));
    }
    Ok(Page {
        items,
        next_cursor: end.map(|id| key::cursor(&[Cell::Text(id)])),
    })
}
