//! Registrations that are of one person.

use std::collections::BTreeMap;
use std::ops::{Bound, RangeBounds};

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
/// One that was merged into one that was merged, and so on: so often at most.
const STEPS: usize = 8;

/// The registration that stands for the person: itself, where it was never merged.
///
/// # Errors
/// [`ViewError`].
pub async fn person(store: &dyn ViewStore, id: &PatientId) -> Result<PatientId, ViewError> {
    let mut id = id.clone();
    for _ in 0..STEPS {
        match merged_into(store, &id).await? {
            Some(into) => id = into,
            None => break,
        }
    }
    Ok(id)
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

/// The other registrations of a person that are merged into this one, and those into them.
///
/// # Errors
/// [`ViewError`].
pub async fn also_known_as(store: &dyn ViewStore, subject: &str) -> Result<Vec<SmolStr>, ViewError> {
    let mut found: Vec<SmolStr> = Vec::new();
    let mut next = vec![SmolStr::new(subject)];
    while let Some(subject) = next.pop() {
        let rows = store
            .scan(&ALSO_KNOWN_AS, Scan::of(vec![Cell::Text(subject)], REGISTRATIONS))
            .await?;
        for row in rows {
            let mut f = Fields::of(&ALSO_KNOWN_AS, row);
            f.skip(1);
            let (id, is_merged) = (f.text(), f.bool());
            let id = f.need(id)?;
            if is_merged == Some(true) && !found.contains(&id) && found.len() < REGISTRATIONS {
                found.push(id.clone());
                next.push(id);
            }
        }
    }
    Ok(found)
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
