//! States of keys: hot in memory, the rest on the shelf.

use eventlog::{LogError, Offset, Shelf, Stored};
use hashbrown::HashMap;
use hashbrown::hash_map::EntryRef;
use schemas::time::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;
use smol_str::SmolStr;

use super::processor::Deadlines;

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

/// Keys in memory. The order of the map is never used.
#[derive(Debug)]
pub(crate) struct Store<S> {
    slots: HashMap<SmolStr, Slot<S>>,
    dirty: Vec<SmolStr>,
    /// Clean and equal to the default: nothing to remember once the checkpoint stands.
    forgotten: Vec<SmolStr>,
    round: u32,
    bytes: usize,
}

impl<S> Default for Store<S> {
    fn default() -> Self {
        Self {
            slots: HashMap::new(),
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
        let slot = match self.slots.entry_ref(key) {
            EntryRef::Occupied(there) => there.into_mut(),
            EntryRef::Vacant(vacant) => {
                let (applied, state) = match shelf.get(key)? {
                    None => (-1, S::default()),
                    Some(stored) => (stored.applied, open(key, &stored)?),
                };
                let weight = (size_of::<Slot<S>>() + 2 * key.len() + 32) as u32;
                self.bytes += weight as usize;
                let key = SmolStr::new(key);
                vacant.insert(Slot {
                    key,
                    applied,
                    state,
                    indexed: Deadlines::default(),
                    dirty: false,
                    used: 0,
                    weight,
                })
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
            .keys()
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
            let Some(slot) = self.slots.get_mut(&key) else { continue };
            slot.dirty = false;
            let weight = (size_of::<Slot<S>>() + 2 * key.len() + 32 + heap(&slot.state)) as u32;
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

    /// Lets clean slots go: those with nothing to remember, and, above the budget, those not used since the last call,
    /// then any. Only what the shelf holds may be let go: after a commit.
    pub(crate) fn evict(&mut self, budget: usize) {
        for key in std::mem::take(&mut self.forgotten) {
            if let EntryRef::Occupied(there) = self.slots.entry_ref(key.as_str())
                && !there.get().dirty
                && there.get().state == S::default()
            {
                self.bytes -= there.remove().weight as usize;
            }
        }
        let round = self.round;
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
        self.slots.retain(|_, slot| {
            let stays = slot.dirty || wanted(slot);
            bytes += if stays { slot.weight as usize } else { 0 };
            stays
        });
        self.bytes = bytes;
    }
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
