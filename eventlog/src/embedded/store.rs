//! fjall as the disk: one key space per partition, one journal for all, one `fdatasync` per commit.

use std::collections::HashMap;
use std::fs::{File, TryLockError};
use std::path::Path;
use std::sync::{PoisonError, RwLock};

use bytes::Bytes;
use fjall::{CompressionType, Database, Keyspace, KeyspaceCreateOptions, PersistMode};

use super::journal_check;
use super::storage::{Change, Direction, Space, Storage, Visit};
use crate::LogError;

/// Two threads flush and compact in the background: as many as the smallest machine has cores.
const WORKERS: usize = 2;

/// fjall, and the lock that keeps others out.
pub(crate) struct Store {
    // Before `lock`: closed before the directory is free.
    database: Database,
    spaces: RwLock<HashMap<Space, Keyspace>>,
    memtable_bytes: u64,
    _lock: File,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").finish_non_exhaustive()
    }
}

/// By what the caller can do.
pub(super) fn failure(error: &fjall::Error) -> LogError {
    use fjall::Error;
    let text = error.to_string();
    let io = |io: &std::io::Error| match io.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => LogError::Full(io.to_string()),
        _ => LogError::Unavailable(io.to_string()),
    };
    match error {
        Error::Io(inner) | Error::Storage(fjall::LsmError::Io(inner)) => io(inner),
        Error::Storage(_)
        | Error::JournalRecovery(_)
        | Error::InvalidVersion(_)
        | Error::Decompress(_)
        | Error::InvalidTrailer
        | Error::InvalidTag(_)
        | Error::Unrecoverable => LogError::Corrupt(text),
        _ => LogError::Unavailable(text),
    }
}

pub(super) fn io(what: &'static str) -> impl Fn(std::io::Error) -> LogError {
    move |error| match error.kind() {
        std::io::ErrorKind::StorageFull => LogError::Full(format!("{what}: {error}")),
        _ => LogError::Unavailable(format!("{what}: {error}")),
    }
}

/// Makes the directory and keeps others out of it; `None` where somebody is in there.
pub(super) fn take(dir: &Path) -> Result<Option<File>, LogError> {
    std::fs::create_dir_all(dir).map_err(io("create the directory of a store"))?;
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(dir.join("lock"))
        .map_err(io("open the lock"))?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(io("lock the directory of a store")(error)),
    }
}

fn lock(dir: &Path) -> Result<File, LogError> {
    take(dir)?.ok_or_else(|| {
        LogError::Unavailable(format!(
            "{} is open in another process: stop that one first",
            dir.display()
        ))
    })
}

impl Store {
    /// Opens or creates the store in `dir`. What a crash tore off the end of the journal is cut away; damage in what
    /// had been synced is [`LogError::Corrupt`].
    pub(crate) fn open(dir: &Path, cache_bytes: u64, memtable_bytes: u64) -> Result<Self, LogError> {
        let held = lock(dir)?;
        let path = dir.join("store");
        if path.exists() {
            journal_check::examine(&path)?;
        } else {
            create(dir, &path)?;
        }
        let database = open(&path, cache_bytes, WORKERS)?;
        Ok(Self {
            database,
            spaces: RwLock::default(),
            memtable_bytes,
            _lock: held,
        })
    }

    fn existing(&self, space: Space) -> Result<Option<Keyspace>, LogError> {
        let known = self.spaces.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(keyspace) = known.get(&space) {
            return Ok(Some(keyspace.clone()));
        }
        drop(known);
        if self.database.keyspace_exists(&space.name()) {
            self.keyspace(space).map(Some)
        } else {
            Ok(None)
        }
    }

    fn keyspace(&self, space: Space) -> Result<Keyspace, LogError> {
        let known = self.spaces.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(keyspace) = known.get(&space) {
            return Ok(keyspace.clone());
        }
        drop(known);
        let mut known = self.spaces.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(keyspace) = known.get(&space) {
            return Ok(keyspace.clone());
        }
        let options = || {
            KeyspaceCreateOptions::default()
                .max_memtable_size(self.memtable_bytes)
                .manual_journal_persist(true)
        };
        let keyspace = self
            .database
            .keyspace(&space.name(), options)
            .map_err(|e| failure(&e))?;
        known.insert(space, keyspace.clone());
        Ok(keyspace)
    }
}

pub(super) fn open(path: &Path, cache_bytes: u64, workers: usize) -> Result<Database, LogError> {
    Database::builder(path)
        .cache_size(cache_bytes)
        .worker_threads(workers)
        .manual_journal_persist(true)
        .journal_compression(CompressionType::None)
        .open()
        .map_err(|e| failure(&e))
}

/// Makes an empty store under another name first: what bears the right name was finished, and is never cleared away.
fn create(dir: &Path, path: &Path) -> Result<(), LogError> {
    let unfinished = dir.join("store.new");
    if unfinished.exists() {
        std::fs::remove_dir_all(&unfinished).map_err(io("clear an unfinished store"))?;
    }
    drop(open(&unfinished, 1 << 20, WORKERS)?);
    std::fs::rename(&unfinished, path).map_err(io("name the new store"))?;
    sync_directory(dir)
}

/// Makes new names in `dir` survive power loss.
fn sync_directory(dir: &Path) -> Result<(), LogError> {
    File::open(dir)
        .and_then(|file| file.sync_all())
        .map_err(io("sync the log's directory"))
}

impl Storage for Store {
    fn commit(&self, changes: Vec<Change>) -> Result<(), LogError> {
        let mut batch = self.database.batch().durability(Some(PersistMode::SyncData));
        // Changes of one space mostly stand together: a checkpoint is thousands of them.
        let mut last: Option<(Space, Keyspace)> = None;
        for Change { space, key, value } in changes {
            let keyspace = match last.take().filter(|(of, _)| *of == space) {
                Some((_, keyspace)) => keyspace,
                None => self.keyspace(space)?,
            };
            match value {
                Some(value) => batch.insert(&keyspace, key, value),
                None => batch.remove(&keyspace, key),
            }
            last = Some((space, keyspace));
        }
        batch.commit().map_err(|e| failure(&e))
    }

    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Bytes>, LogError> {
        let Some(keyspace) = self.existing(space)? else {
            return Ok(None);
        };
        let value = keyspace.get(key).map_err(|e| failure(&e))?;
        Ok(value.map(Bytes::from))
    }

    fn scan(
        &self,
        space: Space,
        from: &[u8],
        to: &[u8],
        direction: Direction,
        each: Visit<'_>,
    ) -> Result<(), LogError> {
        let Some(keyspace) = self.existing(space)? else {
            return Ok(());
        };
        if from >= to {
            return Ok(());
        }
        let mut range = keyspace.range(from..to);
        while let Some(guard) = match direction {
            Direction::Up => range.next(),
            Direction::Down => range.next_back(),
        } {
            let (key, value) = guard.into_inner().map_err(|e| failure(&e))?;
            if !each(&key, value.into())? {
                break;
            }
        }
        Ok(())
    }
}
