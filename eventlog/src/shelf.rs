//! Where homes that restore states from a topic keep them meanwhile: in memory, or on this machine's disk
//! (`embedded::LocalShelves`).

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, PoisonError, RwLock};

use smol_str::SmolStr;

use crate::{LogError, Offset, Shelf, Stored};

/// What is put on a shelf: a key, and its state or that it is gone.
pub type Put = (SmolStr, Option<Stored>);

/// A shelf as its owner has it.
pub trait Shelving: Shelf + std::fmt::Debug {
    /// Puts states on it, replaces them or takes them away. Whoever reads meanwhile may see some of these changes and not
    /// yet the others: a task asks for none of these keys, since it holds what is being saved in memory.
    ///
    /// # Errors
    /// [`LogError::Full`], [`LogError::Unavailable`]: what it holds is no longer known.
    fn put(&self, changes: Vec<Put>) -> Result<(), LogError>;
}

/// A place for shelves. What is on them is a copy: nothing is lost with it but time.
pub trait Shelves: std::fmt::Debug + Send + Sync {
    /// A new one, with nothing on it. It goes with its last handle.
    ///
    /// # Errors
    /// [`LogError::Full`], [`LogError::Unavailable`].
    fn shelf(&self) -> Result<Arc<dyn Shelving>, LogError>;
}

/// Shelves in memory.
#[derive(Debug, Clone, Copy, Default)]
pub struct InMemory;

impl Shelves for InMemory {
    fn shelf(&self) -> Result<Arc<dyn Shelving>, LogError> {
        Ok(Arc::new(MemoryShelf::default()))
    }
}

/// So many changes are made at once where all of a shelf is gone through.
const AT_ONCE: usize = 8192;

/// Takes what says nothing more to whoever goes on from `position` off a shelf.
///
/// # Errors
/// As the shelf's.
pub fn tidy(shelf: &dyn Shelving, position: Offset) -> Result<(), LogError> {
    let (mut past, mut done) = (Vec::new(), Ok(()));
    shelf.visit(&mut |key, stored| {
        if stored.is_past(position) && done.is_ok() {
            past.push((SmolStr::new(key), None));
            if past.len() >= AT_ONCE {
                done = shelf.put(std::mem::take(&mut past));
            }
        }
    })?;
    done.and_then(|()| shelf.put(past))
}

/// States by key, as of their owner's last checkpoint. Clones are handles to the same ones.
#[derive(Debug, Clone, Default)]
pub struct MemoryShelf(Arc<RwLock<BTreeMap<SmolStr, Stored>>>);

impl MemoryShelf {
    /// A shelf that holds these.
    #[must_use]
    pub fn new(states: BTreeMap<SmolStr, Stored>) -> Self {
        Self(Arc::new(RwLock::new(states)))
    }

    /// Copies: whoever is shown them may come back to this shelf.
    fn copies(&self, from: Bound<&str>, to: Bound<&str>) -> Vec<(SmolStr, Stored)> {
        let states = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let range = states.range::<str, _>((from, to));
        range.map(|(key, stored)| (key.clone(), stored.clone())).collect()
    }
}

impl Shelf for MemoryShelf {
    fn get(&self, key: &str) -> Result<Option<Stored>, LogError> {
        let states = self.0.read().unwrap_or_else(PoisonError::into_inner);
        Ok(states.get(key).cloned())
    }

    fn visit(&self, each: &mut dyn FnMut(&str, Stored)) -> Result<(), LogError> {
        let all = self.copies(Bound::Unbounded, Bound::Unbounded);
        all.into_iter().for_each(|(key, stored)| each(&key, stored));
        Ok(())
    }

    fn visit_range(&self, from: &str, to: &str, each: &mut dyn FnMut(&str, Stored)) -> Result<(), LogError> {
        if from < to {
            let some = self.copies(Bound::Included(from), Bound::Excluded(to));
            some.into_iter().for_each(|(key, stored)| each(&key, stored));
        }
        Ok(())
    }
}

impl Shelving for MemoryShelf {
    fn put(&self, changes: Vec<Put>) -> Result<(), LogError> {
        let mut states = self.0.write().unwrap_or_else(PoisonError::into_inner);
        for (key, stored) in changes {
            match stored {
                Some(stored) => drop(states.insert(key, stored)),
                None => drop(states.remove(&key)),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn a_range_is_visited_in_order_and_its_states_may_be_asked_for_meanwhile() {
        let stored = |n: i64| Stored {
            applied: n,
            value: Some(Bytes::new()),
        };
        let states = ["a", "b", "c", "d"]
            .into_iter()
            .zip(0..)
            .map(|(key, n)| (key.into(), stored(n)));
        let shelf = MemoryShelf::new(states.collect());
        let visited = |from, to| {
            let mut keys = Vec::new();
            let done = shelf.visit_range(from, to, &mut |key, stored| {
                assert!(shelf.get(key).is_ok_and(|again| again == Some(stored)));
                keys.push(key.to_owned());
            });
            assert!(done.is_ok());
            keys
        };
        assert_eq!(visited("b", "d"), ["b", "c"]);
        assert_eq!(visited("d", "b"), [""; 0]);
        assert_eq!(visited("", "~"), ["a", "b", "c", "d"]);
    }

    #[test]
    fn only_removals_that_are_behind_the_position_are_taken_off() {
        let shelf = MemoryShelf::default();
        let many = AT_ONCE as i64 + 9;
        let put = |key: String, applied, there: bool| {
            let value = there.then(Bytes::new);
            (key.into(), Some(Stored { applied, value }))
        };
        let removed = (0..many).map(|n| put(format!("removed/{n:05}"), n, false));
        let there = (0..3).map(|n| put(format!("there/{n}"), n, true));
        shelf.put(removed.chain(there).collect()).expect("put");
        tidy(&shelf, many - 2).expect("tidied");
        let mut left = Vec::new();
        shelf.visit(&mut |key, _| left.push(key.to_owned())).expect("visited");
        let removed = [many - 2, many - 1].map(|n| format!("removed/{n:05}"));
        let there = ["there/0", "there/1", "there/2"].map(str::to_owned);
        assert_eq!(left, [&removed[..], &there[..]].concat());
    }
}
