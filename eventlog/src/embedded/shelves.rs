//! Processors' states on this machine's disk, for homes that keep them for good elsewhere.
//!
//! They need no memory but what was used last, and are copies: nothing is synced, what a process left behind is cleared
//! away by the next, and who finds them damaged claims its place again and so restores them. Processes that share a
//! directory take a numbered room of it each.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use fjall::{Database, Iter, Keyspace, KeyspaceCreateOptions};

use super::store;
use crate::shelf::{Put, Shelves, Shelving};
use crate::{LogError, Offset, Shelf, Stored};

/// So many processes may share a directory.
const ROOMS: usize = 64;

/// One thread flushes and compacts. Of two, the first does nothing but hand compactions to the second, again and again, as long
/// as that is busy with one (fjall 3.1).
const WORKERS: usize = 1;
/// Before every key: fjall has no empty ones.
const FRONT: &str = "/";

/// Shelves in a directory. It is made, and opened, when the first of them is asked for.
#[derive(Debug)]
pub struct LocalShelves {
    dir: PathBuf,
    cache_bytes: u64,
    memtable_bytes: u64,
    room: Mutex<Option<Arc<Room>>>,
}

impl LocalShelves {
    /// Shelves in `dir`, with so much memory for what is read, and for what was put on each of them last.
    #[must_use]
    pub fn new(dir: impl Into<PathBuf>, cache_bytes: u64, memtable_bytes: u64) -> Self {
        Self {
            dir: dir.into(),
            cache_bytes,
            memtable_bytes,
            room: Mutex::default(),
        }
    }

    /// The first room that nobody is in, emptied.
    fn enter(&self) -> Result<Room, LogError> {
        for n in 0..ROOMS {
            let dir = self.dir.join(n.to_string());
            if let Some(held) = store::take(&dir)? {
                return Room::new(&dir, held, (self.cache_bytes, self.memtable_bytes));
            }
        }
        let why = format!("{} is used by {ROOMS} processes already", self.dir.display());
        Err(LogError::Unavailable(why))
    }
}

impl Shelves for LocalShelves {
    fn shelf(&self) -> Result<Arc<dyn Shelving>, LogError> {
        let mut room = self.room.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(open) = &*room {
            match Room::shelf(open) {
                Ok(shelf) => return Ok(Arc::new(shelf)),
                // What is there is only a copy.
                Err(error) => tracing::warn!(%error, "the disk under states does not work: begins another copy"),
            }
        }
        let fresh = Arc::new(self.enter()?);
        let shelf = Room::shelf(&fresh)?;
        *room = Some(fresh);
        Ok(Arc::new(shelf))
    }
}

/// One process's part of the directory.
struct Room {
    // Before `held`: closed before the next may come in.
    database: Database,
    memtable_bytes: u64,
    next: AtomicU64,
    _held: File,
}

impl std::fmt::Debug for Room {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Room").field("next", &self.next).finish_non_exhaustive()
    }
}

impl Room {
    fn new(dir: &Path, held: File, (cache_bytes, memtable_bytes): (u64, u64)) -> Result<Self, LogError> {
        let path = dir.join("store");
        if path.exists() {
            std::fs::remove_dir_all(&path).map_err(store::io("clear away old copies of states"))?;
        }
        Ok(Self {
            database: store::open(&path, cache_bytes, WORKERS)?,
            memtable_bytes,
            next: AtomicU64::new(0),
            _held: held,
        })
    }

    fn shelf(room: &Arc<Self>) -> Result<LocalShelf, LogError> {
        let options = || {
            KeyspaceCreateOptions::default()
                .max_memtable_size(room.memtable_bytes)
                .manual_journal_persist(true)
        };
        let name = room.next.fetch_add(1, Ordering::Relaxed).to_string();
        Ok(LocalShelf {
            keyspace: room.database.keyspace(&name, options).map_err(failed)?,
            room: Arc::clone(room),
        })
    }
}

/// Of a copy there is nothing to repair.
fn failed(error: fjall::Error) -> LogError {
    match store::failure(&error) {
        LogError::Corrupt(why) => LogError::Unavailable(why),
        other => other,
    }
}

struct LocalShelf {
    keyspace: Keyspace,
    room: Arc<Room>,
}

impl std::fmt::Debug for LocalShelf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LocalShelf")
            .field("name", self.keyspace.name())
            .finish_non_exhaustive()
    }
}

impl Drop for LocalShelf {
    fn drop(&mut self) {
        if let Err(error) = self.room.database.delete_keyspace(self.keyspace.clone()) {
            tracing::warn!(%error, "a copy of states that nobody needs is left until the next start");
        }
    }
}

impl LocalShelf {
    fn each(range: Iter, each: &mut dyn FnMut(&str, Stored)) -> Result<(), LogError> {
        for entry in range {
            let (key, value) = entry.into_inner().map_err(failed)?;
            let key = key
                .strip_prefix(FRONT.as_bytes())
                .and_then(|key| std::str::from_utf8(key).ok());
            each(key.ok_or_else(damaged)?, unpack(value.into())?);
        }
        Ok(())
    }
}

impl Shelf for LocalShelf {
    fn get(&self, key: &str) -> Result<Option<Stored>, LogError> {
        let value = self.keyspace.get(place(key)).map_err(failed)?;
        value.map(|value| unpack(value.into())).transpose()
    }

    fn visit(&self, each: &mut dyn FnMut(&str, Stored)) -> Result<(), LogError> {
        Self::each(self.keyspace.iter(), each)
    }

    fn visit_range(&self, from: &str, to: &str, each: &mut dyn FnMut(&str, Stored)) -> Result<(), LogError> {
        if from < to {
            Self::each(self.keyspace.range(place(from)..place(to)), each)?;
        }
        Ok(())
    }
}

impl Shelving for LocalShelf {
    fn put(&self, changes: Vec<Put>) -> Result<(), LogError> {
        let mut batch = self.room.database.batch();
        for (key, stored) in changes {
            match stored {
                Some(stored) => batch.insert(&self.keyspace, place(&key), pack(&stored)),
                None => batch.remove(&self.keyspace, place(&key)),
            }
        }
        batch.commit().map_err(failed)
    }
}

/// Where a key's state is.
fn place(key: &str) -> String {
    [FRONT, key].concat()
}

/// The offset it has applied, whether it is there, its bytes.
fn pack(stored: &Stored) -> Vec<u8> {
    let there = [u8::from(stored.value.is_some())];
    let value = stored.value.as_deref().unwrap_or_default();
    [&stored.applied.to_be_bytes()[..], &there, value].concat()
}

fn unpack(bytes: Bytes) -> Result<Stored, LogError> {
    let (applied, rest) = bytes.split_first_chunk::<8>().ok_or_else(damaged)?;
    let (there, _) = rest.split_first().ok_or_else(damaged)?;
    Ok(Stored {
        applied: Offset::from_be_bytes(*applied),
        value: (*there != 0).then(|| bytes.slice(9..)),
    })
}

fn damaged() -> LogError {
    LogError::Unavailable("a copy of a state cannot be read".to_owned())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::MemoryShelf;
    use crate::prng::Prng;

    fn shelves(dir: &Path) -> LocalShelves {
        LocalShelves::new(dir, 1 << 20, 64 << 10)
    }

    fn all(shelf: &dyn Shelving, range: Option<(&str, &str)>) -> Vec<(String, Stored)> {
        let mut seen = Vec::new();
        let mut each = |key: &str, stored| seen.push((key.to_owned(), stored));
        let done = match range {
            None => shelf.visit(&mut each),
            Some((from, to)) => shelf.visit_range(from, to, &mut each),
        };
        done.unwrap();
        seen
    }

    #[test]
    fn a_shelf_on_disk_holds_what_one_in_memory_holds() {
        let dir = tempfile::tempdir().unwrap();
        let (disk, memory) = (shelves(dir.path()).shelf().unwrap(), MemoryShelf::default());
        let mut prng = Prng::new(7);
        for n in 0..200 {
            let changes: BTreeMap<String, Option<Stored>> = (0..prng.below(200))
                .map(|_| {
                    let value = vec![n as u8; prng.below(300) as usize];
                    let stored = Stored {
                        applied: n,
                        value: (prng.below(5) > 0).then(|| value.into()),
                    };
                    let key = match prng.below(500) {
                        0 => String::new(),
                        n => format!("k/{n:03}"),
                    };
                    (key, (prng.below(4) > 0).then_some(stored))
                })
                .collect();
            for shelf in [&*disk, &memory as &dyn Shelving] {
                let changes = changes.iter().map(|(key, stored)| (key.into(), stored.clone()));
                shelf.put(changes.collect()).unwrap();
            }
        }
        assert!(all(&memory, None).len() > 100);
        for range in [None, Some(("k/100", "k/3")), Some(("k/3", "k/100")), Some(("", "~"))] {
            assert_eq!(all(&*disk, range), all(&memory, range), "{range:?}");
        }
        for key in ["", "k/123", "k/499", "none"] {
            assert_eq!(disk.get(key).unwrap(), memory.get(key).unwrap());
        }
    }

    #[test]
    fn a_shelf_is_empty_at_first_and_others_go_on_when_it_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let shelves = shelves(dir.path());
        let stored = Stored {
            applied: 3,
            value: Some(Bytes::from_static(b"x")),
        };
        let (first, second) = (shelves.shelf().unwrap(), shelves.shelf().unwrap());
        first.put(vec![("a".into(), Some(stored.clone()))]).unwrap();
        assert_eq!(second.get("a").unwrap(), None);
        drop(second);
        let third = shelves.shelf().unwrap();
        assert_eq!(first.get("a").unwrap(), Some(stored));
        assert_eq!(third.get("a").unwrap(), None);
    }

    #[test]
    fn processes_share_a_directory_and_what_one_left_behind_is_cleared_away() {
        let dir = tempfile::tempdir().unwrap();
        let rooms = || std::fs::read_dir(dir.path()).unwrap().count();
        let (one, other) = (shelves(dir.path()), shelves(dir.path()));
        let stored = Stored {
            applied: 1,
            value: None,
        };
        for process in [&one, &other] {
            let shelf = process.shelf().unwrap();
            shelf.put(vec![("a".into(), Some(stored.clone()))]).unwrap();
        }
        assert_eq!(rooms(), 2);
        drop(one);
        let later = shelves(dir.path());
        assert_eq!(later.shelf().unwrap().get("a").unwrap(), None);
        assert_eq!(rooms(), 2, "the room that is free again is used again");
    }
}
