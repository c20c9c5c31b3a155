//! Registrations that are of one person.

use std::collections::BTreeMap;
use std::ops::{Bound, RangeBounds};

use schemas::alias::Way;
use schemas::ids::PatientId;
use smol_str::SmolStr;

use super::MOST;
use super::fields::Fields;
use super::walk::clustering;
use crate::store::{Scan, ViewError, ViewStore};
use crate::view::Cell;
use crate::views::aliases::{ALSO_KNOWN_AS, MERGED_INTO};
use crate::views::{SHARDS, shard};

/// Registrations of one person at most.
const REGISTRATIONS: usize = 100;

/// The registration that stands for the person: itself, where it was never merged.
///
/// # Errors
/// [`ViewError`].
pub async fn person(store: &dyn ViewStore, id: &PatientId) -> Result<PatientId, ViewError> {
    let mut way = Way::from(id.clone());
    loop {
        let into = merged_into(store, way.at()).await?;
        if let Some(person) = way.step(into) {
            return Ok(person);
        }
    }
}

/// The registration that stands for a person in place of this one; `None` where it is this one.
///
/// # Errors
/// [`ViewError`].
pub async fn stands(store: &dyn ViewStore, id: &PatientId) -> Result<Option<PatientId>, ViewError> {
    Ok(Some(person(store, id).await?).filter(|person| person != id))
}

/// The registration that this one was merged into, where it was.
///
/// # Errors
/// [`ViewError`].
pub async fn merged_into(store: &dyn ViewStore, id: &PatientId) -> Result<Option<PatientId>, ViewError> {
    let key = [shard(id.as_str()), Cell::Text(id.clone().into())];
    let row = store.get(&MERGED_INTO, &key).await?;
    let into = row.and_then(|row| {
        let mut f = Fields::of(&MERGED_INTO, row);
        f.skip(4);
        f.text()
    });
    Ok(into.and_then(|text| PatientId::new(&text).ok()))
}

/// The other registrations of the person that this one stands for: those that are merged into it, and those into them.
///
/// # Errors
/// [`ViewError`].
pub async fn also_known_as(store: &dyn ViewStore, subject: &str) -> Result<Vec<SmolStr>, ViewError> {
    let mut found: Vec<SmolStr> = Vec::new();
    let mut next = vec![SmolStr::new(subject)];
    while let Some(into) = next.pop() {
        let rows = store
            .scan(&ALSO_KNOWN_AS, Scan::of(vec![Cell::Text(into.clone())], REGISTRATIONS))
            .await?;
        for row in rows {
            let mut f = Fields::of(&ALSO_KNOWN_AS, row);
            f.skip(1);
            let (id, is_merged) = (f.text(), f.bool());
            let id = f.need(id)?;
            let new = id != subject && !found.contains(&id) && found.len() < REGISTRATIONS;
            if new && is_merged == Some(true) && is_still_merged(store, &id, &into).await? {
                found.push(id.clone());
                next.push(id);
            }
        }
    }
    Ok(found)
}

/// What two said at once, each of a merging of their own, the one into the other knows nothing of: what was merged is asked.
async fn is_still_merged(store: &dyn ViewStore, id: &SmolStr, into: &SmolStr) -> Result<bool, ViewError> {
    let Ok(id) = PatientId::new(id) else { return Ok(false) };
    let stands = merged_into(store, &id).await?;
    Ok(stands.is_some_and(|stands| stands.as_str() == into.as_str()))
}

/// Everything under which a subject is recorded, itself first.
pub(super) async fn all_of(store: &dyn ViewStore, subject: &str) -> Result<Vec<SmolStr>, ViewError> {
    let mut all = vec![SmolStr::new(subject)];
    all.extend(also_known_as(store, subject).await?);
    Ok(all)
}

/// All that are merged, of these ids, each with what it was merged into.
///
/// # Errors
/// [`ViewError`].
pub async fn merged(
    store: &dyn ViewStore,
    ids: impl RangeBounds<SmolStr>,
) -> Result<BTreeMap<PatientId, PatientId>, ViewError> {
    let bound = |bound: Bound<&SmolStr>| bound.map(|id| vec![Cell::Text(id.clone())]);
    let mut found = BTreeMap::new();
    for n in 0..SHARDS {
        let mut from = bound(ids.start_bound());
        loop {
            let rows = store
                .scan(
                    &MERGED_INTO,
                    Scan::of(vec![Cell::Int(n)], MOST).from(from).to(bound(ids.end_bound())),
                )
                .await?;
            let full = rows.len() == MOST;
            from = rows
                .last()
                .map_or(Bound::Unbounded, |row| Bound::Excluded(clustering(&MERGED_INTO, row)));
            for row in rows {
                let mut f = Fields::of(&MERGED_INTO, row);
                f.skip(1);
                let id = f.named(|text| PatientId::new(text).ok())?;
                f.skip(2);
                if let Some(into) = f.text().and_then(|text| PatientId::new(&text).ok()) {
                    found.insert(id, into);
                }
            }
            if !full {
                break;
            }
        }
    }
    Ok(found)
}
