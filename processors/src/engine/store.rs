//! States of keys: hot in memory, the rest on the shelf.

use std::collections::BTreeMap;
use std::hash::BuildHasher;

use eventlog::{LogError, Offset, Shelf, Stored};
use hashbrown::hash_table::Entry;
use hashbrown::{DefaultHashBuilder, HashTable};
use schemas::time::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;
use smol_str::SmolStr;

use super::keys;
use super::processor::Deadlines;

/// So many buckets it is known of whether the shelf holds anything in them.
const BUCKETS: usize = 4096;

/// One key in memory.
#[derive(Debug)]
pub(crate) struct Slot<S> {
    pub(crate) key: SmolStr,
    /// The journal offset that the state has applied; -1 where none.
    pub(crate) applied: Offset,
    pub(crate) state: S,
    /// What stands for it in the index of deadlines, as far as is known.
    pub(crate) indexed: Deadlines,
    dirty: bool,
    used: u32,
    weight: u32,
}

impl<S> Slot<S> {
    /// Notes that the state has changed at `offset`.
    pub(crate) fn touch(&mut self, offset: Offset, dirty: &mut Vec<SmolStr>) {
        self.applied = offset;
        if !std::mem::replace(&mut self.dirty, true) {
            dirty.push(self.key.clone());
        }
    }
}

/// Keys in memory. The order of the table is never used.
#[derive(Debug)]
pub(crate) struct Store<S> {
    slots: HashTable<Slot<S>>,
    hasher: DefaultHashBuilder,
    /// Buckets of time, and whether the shelf may hold a key of it that is not in memory.
    buckets: BTreeMap<SmolStr, bool>,
    dirty: Vec<SmolStr>,
    /// Clean and equal to the default: nothing to remember once the checkpoint stands.
    forgotten: Vec<SmolStr>,
    round: u32,
    bytes: usize,
}

impl<S> Default for Store<S> {
    fn default() -> Self {
        Self {
            slots: HashTable::new(),
            hasher: DefaultHashBuilder::default(),
            buckets: BTreeMap::new(),
            dirty: Vec::new(),
            forgotten: Vec::new(),
            round: 0,
            bytes: 0,
        }
    }
}

impl<S: Default + PartialEq + Serialize + DeserializeOwned> Store<S> {
    /// The slot of a key, from memory or from the shelf, and the list that [`Slot::touch`] wants.
    pub(crate) fn slot(&mut self, key: &str, shelf: &dyn Shelf) -> Result<(&mut Slot<S>, &mut Vec<SmolStr>), LogError> {
        let hasher = &self.hasher;
        let hash = hasher.hash_one(key);
        let rehash = |slot: &Slot<S>| hasher.hash_one(slot.key.as_str());
        let slot = match self.slots.entry(hash, |slot| slot.key == key, rehash) {
            Entry::Occupied(there) => there.into_mut(),
            Entry::Vacant(vacant) => {
                let stored = if may_hold(&mut self.buckets, key, shelf)? {
                    shelf.get(key)?
                } else {
                    None
                };
                let (applied, state) = match stored {
                    None => (-1, S::default()),
                    Some(stored) => (stored.applied, open(key, &stored)?),
                };
                let weight = weight::<S>(key, 0);
                self.bytes += weight as usize;
                let slot = Slot {
                    key: SmolStr::new(key),
                    applied,
                    state,
                    indexed: Deadlines::default(),
                    dirty: false,
                    used: 0,
                    weight,
                };
                vacant.insert(slot).into_mut()
            }
        };
        slot.used = self.round;
        Ok((slot, &mut self.dirty))
    }

    /// How many keys have changed since the last checkpoint.
    pub(crate) fn dirty(&self) -> usize {
        self.dirty.len()
    }

    /// Bytes in memory, estimated.
    pub(crate) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Replaces the states of a range of keys by nothing, as of `offset`.
    pub(crate) fn sweep(&mut self, from: &str, to: &str, offset: Offset, shelf: &dyn Shelf) -> Result<(), LogError> {
        let mut keys: Vec<SmolStr> = self
            .slots
            .iter()
            .map(|slot| &slot.key)
            .filter(|key| (from..to).contains(&key.as_str()))
            .cloned()
            .collect();
        shelf.visit_range(from, to, &mut |key, stored| {
            if stored.value.is_some() {
                keys.push(SmolStr::new(key));
            }
        })?;
        keys.sort_unstable();
        keys.dedup();
        for key in keys {
            let (slot, dirty) = self.slot(&key, shelf)?;
            if slot.applied < offset && slot.state != S::default() {
                slot.state = S::default();
                slot.touch(offset, dirty);
            }
        }
        Ok(())
    }

    /// Appends every change since the last call, in key order; they count as clean from here on.
    pub(crate) fn drain(
        &mut self,
        deadlines: impl Fn(&S) -> Deadlines,
        heap: impl Fn(&S) -> usize,
        out: &mut Vec<(SmolStr, Stored)>,
    ) {
        let mut dirty = std::mem::take(&mut self.dirty);
        dirty.sort_unstable();
        for key in dirty {
            let hash = self.hasher.hash_one(key.as_str());
            let Some(slot) = self.slots.find_mut(hash, |slot| slot.key == key) else {
                continue;
            };
            slot.dirty = false;
            let weight = weight::<S>(&key, heap(&slot.state));
            self.bytes = self.bytes - slot.weight as usize + weight as usize;
            slot.weight = weight;
            let value = if slot.state == S::default() {
                self.forgotten.push(key.clone());
                None
            } else {
                Some(seal(&slot.state, deadlines(&slot.state)).into())
            };
            out.push((
                key,
                Stored {
                    applied: slot.applied,
                    value,
                },
            ));
        }
    }

    /// Lets clean slots go: those with nothing to remember, those not used since the last call whose bucket is `cold`,
    /// and, above the budget, all not used since the last call, then any. Only what the shelf holds may be let go: after
    /// a commit.
    pub(crate) fn evict(&mut self, budget: usize, cold: impl Fn(&str) -> bool) {
        for key in std::mem::take(&mut self.forgotten) {
            let hash = self.hasher.hash_one(key.as_str());
            let empty = |slot: &Slot<S>| slot.key == key && !slot.dirty && slot.state == S::default();
            if let Ok(there) = self.slots.find_entry(hash, empty) {
                self.bytes -= there.get().weight as usize;
                there.remove();
            }
        }
        let round = self.round;
        self.keep(|slot| slot.used == round || !cold(&slot.key));
        if self.bytes > budget {
            self.keep(|slot| slot.used == round);
        }
        if self.bytes > budget {
            self.keep(|_| false);
        }
        self.round = round.wrapping_add(1);
    }

    fn keep(&mut self, wanted: impl Fn(&Slot<S>) -> bool) {
        let mut bytes = 0;
        let buckets = &mut self.buckets;
        self.slots.retain(|slot| {
            let stays = slot.dirty || wanted(slot);
            if stays {
                bytes += slot.weight as usize;
            } else if let Some(held) = keys::bucket_of(&slot.key).and_then(|bucket| buckets.get_mut(bucket)) {
                *held = true;
            }
            stays
        });
        self.bytes = bytes;
        let hasher = &self.hasher;
        if self.slots.capacity() > 4 * self.slots.len().max(64) {
            let fits = 2 * self.slots.len();
            self.slots.shrink_to(fits, |slot| hasher.hash_one(slot.key.as_str()));
        }
    }
}

/// What a slot takes up: itself in a table that is two thirds full, its key, and what its state holds.
const fn weight<S>(key: &str, heap: usize) -> u32 {
    (size_of::<Slot<S>>() * 3 / 2 + key.len() + 24 + heap) as u32
}

/// Whether the shelf may hold a key that is not in memory. A bucket that had nothing when it was first asked for has
/// nothing until a slot of it is let go: what has just begun need not be looked up key by key.
fn may_hold(buckets: &mut BTreeMap<SmolStr, bool>, key: &str, shelf: &dyn Shelf) -> Result<bool, LogError> {
    let Some(bucket) = keys::bucket_of(key) else {
        return Ok(true);
    };
    if let Some(held) = buckets.get(bucket) {
        return Ok(*held);
    }
    let mut held = false;
    // '0' is the byte after '/'.
    let (from, to) = (format!("{bucket}/"), format!("{bucket}0"));
    shelf.visit_range(&from, &to, &mut |_, _| held = true)?;
    if buckets.len() >= BUCKETS {
        buckets.clear();
    }
    buckets.insert(SmolStr::new(bucket), held);
    Ok(held)
}

/// A state as stored: its deadlines in front, so that they are found without reading the rest.
fn seal<S: Serialize>(state: &S, deadlines: Deadlines) -> Vec<u8> {
    let mut bytes = vec![u8::from(deadlines.recorded.is_some()) | u8::from(deadlines.ingest.is_some()) << 1];
    for at in [deadlines.recorded, deadlines.ingest].into_iter().flatten() {
        bytes.extend_from_slice(&at.0.to_le_bytes());
    }
    // A state is plain data: writing it into memory cannot fail.
    postcard::to_extend(state, bytes).unwrap_or_default()
}

/// The deadlines in front of a stored state, and the rest.
pub(crate) fn deadlines_of(mut bytes: &[u8]) -> Option<(Deadlines, &[u8])> {
    let (flags, rest) = bytes.split_first()?;
    bytes = rest;
    let mut next = |wanted: bool| -> Option<Option<Timestamp>> {
        if !wanted {
            return Some(None);
        }
        let (head, rest) = bytes.split_first_chunk::<8>()?;
        bytes = rest;
        Some(Some(Timestamp(i64::from_le_bytes(*head))))
    };
    let recorded = next(flags & 1 != 0)?;
    let ingest = next(flags & 2 != 0)?;
    Some((Deadlines { recorded, ingest }, bytes))
}

fn open<S: Default + DeserializeOwned>(key: &str, stored: &Stored) -> Result<S, LogError> {
    let Some(bytes) = &stored.value else {
        return Ok(S::default());
    };
    let damaged = |why: &str| LogError::Corrupt(format!("state {key}: {why}"));
    let (_, body) = deadlines_of(bytes).ok_or_else(|| damaged("too short"))?;
    postcard::from_bytes(body).map_err(|error| damaged(&error.to_string()))
}
