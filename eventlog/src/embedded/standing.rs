//! Where the log stands, and what of it can be carried elsewhere.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use smol_str::SmolStr;

use super::rows;
use super::shared::Shared;
use super::storage::{Change, Direction, Space, Storage};
use super::writer::family;
use super::{Embedded, reading};
use crate::moving::{Carriable, Saved, SavedPlace};
use crate::{LogError, Partition, Reached, Standing, Stored, Topic};

const STANDING: &[u8] = b"standing";

/// What the disk says; a log that says nothing serves.
pub(super) fn read(storage: &dyn Storage) -> Result<Standing, LogError> {
    let Some(row) = storage.get(Space::Meta, STANDING)? else {
        return Ok(Standing::Serving);
    };
    let text = rows::unseal(STANDING, row)?;
    let text = std::str::from_utf8(&text).map_err(|_| LogError::Corrupt("where the log stands".to_owned()))?;
    Standing::parse(text)
}

/// The change that says it.
pub(super) fn change(standing: &Standing) -> Change {
    let text = BytesMut::from(standing.to_string().as_bytes());
    Change::put(Space::Meta, STANDING, rows::seal(STANDING, text))
}

impl Shared {
    pub(super) fn standing(&self) -> Standing {
        self.standing.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether anything may be appended or concluded here.
    pub(super) fn check_serving(&self) -> Result<(), LogError> {
        let standing = self.standing.read().unwrap_or_else(PoisonError::into_inner);
        standing.check_serving()
    }

    fn saved(&self, output: Topic, partition: Partition) -> Result<Saved, LogError> {
        self.log(output, partition)?;
        let mut saved = Saved {
            places: Vec::new(),
            reached: Reached { journal: 0, end: 0 },
            writer: None,
            last: None,
        };
        let Some(end) = self.output_end(output, partition)? else {
            return Ok(saved);
        };
        let ours = family(&end.processor);
        for name in self.places(partition)?.into_iter().filter(|name| family(name) == ours) {
            saved.places.push(self.place(name, partition)?);
        }
        (saved.reached, saved.last) = (end.reached, end.last);
        saved.writer = Some(end.processor);
        Ok(saved)
    }

    /// Names of places that have saved a position on a partition.
    fn places(&self, partition: Partition) -> Result<Vec<SmolStr>, LogError> {
        let mut names = Vec::new();
        let mut visit = |key: &[u8], _: Bytes| {
            // Kind, name, NUL, partition.
            if key.ends_with(&partition.to_be_bytes()) {
                let name = key.get(1..key.len().saturating_sub(3)).unwrap_or_default();
                let name = std::str::from_utf8(name).map_err(|_| LogError::Corrupt("a place's name".to_owned()))?;
                names.push(SmolStr::new(name));
            }
            Ok(true)
        };
        self.storage
            .scan(Space::Places, b"p", b"q", Direction::Up, &mut visit)?;
        Ok(names)
    }

    fn place(&self, name: SmolStr, partition: Partition) -> Result<SavedPlace, LogError> {
        let position = self.position(&name, partition)?;
        let mut states: BTreeMap<SmolStr, Stored> = BTreeMap::new();
        let (from, to, prefix) = rows::state_range(&name, partition);
        let mut visit = |key: &[u8], value: Bytes| {
            let stored = rows::unpack_state(key, value)?;
            let name = key.get(prefix..).and_then(|name| std::str::from_utf8(name).ok());
            let name = name.ok_or_else(|| LogError::Corrupt("a state's key is no text".to_owned()))?;
            states.insert(SmolStr::new(name), stored);
            Ok(true)
        };
        self.storage
            .scan(Space::Places, &from, &to, Direction::Up, &mut visit)?;
        Ok(SavedPlace {
            name,
            position: position.as_ref().map_or(0, |position| position.offset),
            context: position.map(|position| position.context).unwrap_or_default(),
            states: states.into_iter().collect(),
        })
    }
}

#[async_trait]
impl Carriable for Embedded {
    fn standing(&self) -> Standing {
        self.shared.standing()
    }

    async fn stand(&self, standing: Standing) -> Result<(), LogError> {
        let shared = Arc::clone(&self.shared);
        reading::off_the_runtime(move || {
            shared.failure()?;
            shared.storage.commit(vec![change(&standing)])?;
            *shared.standing.write().unwrap_or_else(PoisonError::into_inner) = standing;
            Ok(())
        })
        .await
    }

    async fn saved(&self, output: Topic, partition: Partition) -> Result<Saved, LogError> {
        let shared = Arc::clone(&self.shared);
        reading::off_the_runtime(move || shared.saved(output, partition)).await
    }
}
