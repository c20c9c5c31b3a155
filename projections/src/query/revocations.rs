//! What was given and taken back.

use std::ops::Bound;

use schemas::time::Timestamp;
use smol_str::SmolStr;

use super::MOST;
use super::fields::Fields;
use super::walk::clustering;
use crate::store::{Scan, ViewError, ViewStore};
use crate::view::Cell;
use crate::views::revocations::{REVOCATIONS, SUBJECTS, TOKENS};

/// What was taken back, each with when.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Revocations {
    /// Ids of tokens.
    pub tokens: Vec<(SmolStr, Timestamp)>,
    /// Subjects: all that they were given up to then.
    pub subjects: Vec<(SmolStr, Timestamp)>,
}

/// All that was ever taken back.
///
/// # Errors
/// [`ViewError`].
pub async fn revocations(store: &dyn ViewStore) -> Result<Revocations, ViewError> {
    Ok(Revocations {
        tokens: list(store, TOKENS).await?,
        subjects: list(store, SUBJECTS).await?,
    })
}

async fn list(store: &dyn ViewStore, name: &'static str) -> Result<Vec<(SmolStr, Timestamp)>, ViewError> {
    let mut found = Vec::new();
    let mut from = Bound::Unbounded;
    loop {
        let scan = Scan::of(vec![name.into()], MOST).from(from);
        let rows: Vec<_> = store.scan(&REVOCATIONS, scan).await?;
        let full = rows.len() == MOST;
        from = rows.last().map_or(Bound::Unbounded, |row| {
            Bound::Excluded::<Vec<Cell>>(clustering(&REVOCATIONS, row))
        });
        for row in rows {
            let mut f = Fields::of(&REVOCATIONS, row);
            f.skip(1);
            let (what, at) = (f.text(), f.time());
            found.push((f.need(what)?, f.need(at)?));
        }
        if !full {
            return Ok(found);
        }
    }
}
