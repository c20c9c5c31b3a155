//! The home in one process: all views in one fjall keyspace, so that what survives a crash is a prefix of what was
//! applied. Nothing waits for the disk: what a power cut takes away is projected again from the log.

mod generation;
mod rebuild;
mod recent;
mod value;

pub use rebuild::rebuild;

use std::collections::BTreeMap;
use std::ops::Bound;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use eventlog::{Partition, Topic};
use fjall::{Database, Keyspace, KeyspaceCreateOptions};
use schemas::avro::{self, Avro};
use schemas::ids::EventId;

use crate::key;
use crate::store::{Change, Progress, Scan, ViewError, ViewStore};
use crate::view::{Cell, Row, View};
use crate::views;
use recent::Recent;

/// What the store may use.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Memory for blocks read from disk, in bytes.
    pub cache_bytes: u64,
    /// Memory for rows not yet in a table file, in bytes; up to three times as much while the disk is behind.
    pub memtable_bytes: u64,
    /// Threads that write and merge table files.
    pub workers: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            cache_bytes: 32 << 20,
            memtable_bytes: 32 << 20,
            workers: 1,
        }
    }
}

/// The views of one process, in a directory of their own.
#[derive(Debug)]
pub struct EmbeddedViews(Arc<Store>);

struct Store {
    db: Database,
    rows: Keyspace,
    /// Held while changes are compared with what is there and written.
    writing: Mutex<Recent>,
    swept: Mutex<Removals>,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").finish_non_exhaustive()
    }
}

/// Under this key stands by which declarations the rows were written. Names of views never begin with NUL.
const DECLARED: &[u8] = b"\0declared";
/// Bytes of journals at least, in which rows stand until their table files are written.
const JOURNALS: u64 = 128 << 20;
const PROGRESS: &[u8] = b"\0progress\0";

impl EmbeddedViews {
    /// Opens the views in a directory, or begins them.
    ///
    /// # Errors
    /// [`ViewError::Unavailable`] where the directory cannot be used or another process has it, [`ViewError::Outdated`]
    /// and [`ViewError::Corrupt`] where the views must be made anew ([`rebuild`]).
    pub fn open(dir: &Path, options: Options) -> Result<Arc<Self>, ViewError> {
        Self::open_folder(&generation::current(dir)?, options)
    }

    /// Opens one generation of views.
    fn open_folder(dir: &Path, options: Options) -> Result<Arc<Self>, ViewError> {
        let db = Database::builder(dir)
            .cache_size(options.cache_bytes)
            .max_journaling_size(JOURNALS.max(4 * options.memtable_bytes))
            .worker_threads(options.workers.max(1))
            .open()
            .map_err(failed)?;
        let rows = db
            .keyspace("rows", || {
                KeyspaceCreateOptions::default().max_memtable_size(options.memtable_bytes)
            })
            .map_err(failed)?;
        let declared = declared();
        match rows.get(DECLARED).map_err(failed)? {
            Some(stored) if *stored == declared.0 => {}
            Some(_) => return Err(ViewError::Outdated),
            None => rows.insert(DECLARED, declared.0).map_err(failed)?,
        }
        Ok(Arc::new(Self(Arc::new(Store {
            db,
            rows,
            writing: Mutex::default(),
            swept: Mutex::default(),
        }))))
    }

    /// Waits until what was applied would survive a power cut.
    ///
    /// # Errors
    /// [`ViewError::Unavailable`], [`ViewError::Full`].
    pub async fn persist(&self) -> Result<(), ViewError> {
        let store = Arc::clone(&self.0);
        blocking(move || store.db.persist(fjall::PersistMode::SyncAll).map_err(failed)).await
    }

    /// Bytes on disk.
    ///
    /// # Errors
    /// [`ViewError::Unavailable`].
    pub fn disk_bytes(&self) -> Result<u64, ViewError> {
        self.0.db.disk_space().map_err(failed)
    }
}

impl Store {
    fn lock(&self) -> MutexGuard<'_, Recent> {
        self.writing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, encoded: &Encoded, progress: Option<(Vec<u8>, Vec<u8>)>) -> Result<(), ViewError> {
        let mut recent = self.lock();
        let mut batch = self.db.batch();
        let mut written = Vec::new();
        for (key, value) in encoded.best() {
            let print = recent.print(&key, &value);
            if print.is_some_and(|print| recent.has(print)) {
                continue;
            }
            let wins = match self.rows.get(&key).map_err(failed)? {
                Some(stored) => *value > *stored,
                None => true,
            };
            written.extend(print);
            if wins {
                batch.insert(&self.rows, key, value);
            }
        }
        if let Some((key, value)) = progress {
            batch.insert(&self.rows, key, value);
        }
        batch.commit().map_err(failed)?;
        recent.remember(written);
        Ok(())
    }

    /// Drops removals that an earlier sweep has seen, and notes those that are there now.
    fn sweep(&self) -> Result<(), ViewError> {
        let mut seen = self.swept.lock().unwrap_or_else(PoisonError::into_inner);
        let mut found = Removals::new();
        for view in views::REMOVING {
            let prefix = [view.name.as_bytes(), &[0]].concat();
            for guard in self.rows.prefix(prefix) {
                let (key, value) = guard.into_inner().map_err(failed)?;
                if value::is_removal(&value) {
                    found.insert(key.into(), value.into());
                }
            }
        }
        let mut recent = self.lock();
        *recent = Recent::default();
        let mut batch = self.db.batch();
        for (key, value) in &found {
            let still = self.rows.get(key).map_err(failed)?.is_some_and(|now| *now == **value);
            if still && seen.get(key) == Some(value) {
                batch.remove(&self.rows, key.clone());
            }
        }
        batch.commit().map_err(failed)?;
        *seen = found;
        Ok(())
    }

    fn read(&self, view: &'static View, scan: &Scan) -> Result<Vec<Row>, ViewError> {
        let Some(range) = range(view, scan)? else {
            return Ok(Vec::new());
        };
        let mut found = Vec::with_capacity(scan.limit.min(256));
        let iter = self.rows.range(range);
        let mut collect = |guard: fjall::Guard| {
            let (key, value) = guard.into_inner().map_err(failed)?;
            if !value::is_removal(&value) {
                found.push(row(view, &key, &value)?);
            }
            Ok(found.len() < scan.limit)
        };
        if scan.limit > 0 {
            each(iter, scan.descending, &mut collect)?;
        }
        Ok(found)
    }
}

/// Removals seen by a sweep, by key.
type Removals = BTreeMap<Bytes, Bytes>;

/// Visits items until `visit` has enough.
fn each(
    iter: fjall::Iter,
    descending: bool,
    visit: &mut impl FnMut(fjall::Guard) -> Result<bool, ViewError>,
) -> Result<(), ViewError> {
    if descending {
        for guard in iter.rev() {
            if !visit(guard)? {
                break;
            }
        }
    } else {
        for guard in iter {
            if !visit(guard)? {
                break;
            }
        }
    }
    Ok(())
}

#[async_trait]
impl ViewStore for EmbeddedViews {
    async fn apply(&self, changes: &[Change], progress: Option<&Progress>) -> Result<(), ViewError> {
        let encoded = Encoded::of(changes)?;
        let progress = progress.map(|p| (progress_key(p.topic, p.partition), progress_value(p)));
        let store = Arc::clone(&self.0);
        blocking(move || store.write(&encoded, progress)).await
    }

    async fn progress(&self, topic: Topic, partition: Partition) -> Result<Option<Progress>, ViewError> {
        let stored = self.0.rows.get(progress_key(topic, partition)).map_err(failed)?;
        stored.map(|bytes| read_progress(topic, partition, &bytes)).transpose()
    }

    async fn get(&self, view: &'static View, key: &[Cell]) -> Result<Option<Row>, ViewError> {
        let mut bytes = Vec::with_capacity(96);
        if key.len() != view.key_len() {
            return Err(ViewError::Misfit(view.name));
        }
        write_key(view, key, &mut bytes)?;
        match self.0.rows.get(&bytes).map_err(failed)? {
            Some(value) if !value::is_removal(&value) => row(view, &bytes, &value).map(Some),
            _ => Ok(None),
        }
    }

    async fn scan(&self, view: &'static View, scan: Scan) -> Result<Vec<Row>, ViewError> {
        let store = Arc::clone(&self.0);
        blocking(move || store.read(view, &scan)).await
    }

    async fn sweep(&self) -> Result<(), ViewError> {
        let store = Arc::clone(&self.0);
        blocking(move || store.sweep()).await
    }
}

/// Runs what may wait for a disk where it keeps nobody else waiting.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ViewError> + Send + 'static,
) -> Result<T, ViewError> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|e| Err(ViewError::Unavailable(e.to_string())))
}

fn failed(error: fjall::Error) -> ViewError {
    use fjall::{Error, LsmError};
    let io = match &error {
        Error::Io(e) | Error::Storage(LsmError::Io(e)) => Some(e.kind()),
        _ => None,
    };
    match (&error, io) {
        (_, Some(std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded)) => {
            ViewError::Full(error.to_string())
        }
        (Error::Locked, _) => ViewError::Unavailable("another process has these views open".to_owned()),
        (_, Some(_)) | (Error::Poisoned | Error::KeyspaceDeleted, _) => ViewError::Unavailable(error.to_string()),
        _ => ViewError::Corrupt(error.to_string()),
    }
}

/// Changes as bytes, in one piece of memory that the store's own tables share.
struct Encoded {
    bytes: Bytes,
    /// Start of the key, start of the value, end.
    spans: Vec<(usize, usize, usize)>,
}

impl Encoded {
    fn of(changes: &[Change]) -> Result<Self, ViewError> {
        let mut bytes = Vec::with_capacity(changes.len() * 128);
        let mut spans = Vec::with_capacity(changes.len());
        for change in changes {
            let start = bytes.len();
            if change.key.len() != change.view.key_len() {
                return Err(ViewError::Misfit(change.view.name));
            }
            write_key(change.view, &change.key, &mut bytes)?;
            let middle = bytes.len();
            if !value::write(change.view, change.version, change.cells.as_deref(), &mut bytes) {
                return Err(ViewError::Misfit(change.view.name));
            }
            spans.push((start, middle, bytes.len()));
        }
        spans.sort_unstable_by(|a, b| {
            let order = bytes[a.0..a.1].cmp(&bytes[b.0..b.1]);
            order.then_with(|| bytes[a.1..a.2].cmp(&bytes[b.1..b.2]))
        });
        Ok(Self {
            bytes: bytes.into(),
            spans,
        })
    }

    /// Each key once, in order, with the greatest of its values.
    fn best(&self) -> impl Iterator<Item = (Bytes, Bytes)> {
        let key = |i: usize| self.spans.get(i).map(|s| &self.bytes[s.0..s.1]);
        (0..self.spans.len()).filter(move |i| key(*i) != key(i + 1)).map(|i| {
            let (start, middle, end) = self.spans[i];
            (self.bytes.slice(start..middle), self.bytes.slice(middle..end))
        })
    }
}

fn write_key(view: &View, cells: &[Cell], out: &mut Vec<u8>) -> Result<(), ViewError> {
    out.extend_from_slice(view.name.as_bytes());
    out.push(0);
    if key::write_cells(cells, view.key_columns(), out) {
        Ok(())
    } else {
        Err(ViewError::Misfit(view.name))
    }
}

type KeyRange = (Bound<Vec<u8>>, Bound<Vec<u8>>);

/// The keys of a scan; `None` where there can be none.
fn range(view: &'static View, scan: &Scan) -> Result<Option<KeyRange>, ViewError> {
    if scan.partition.len() != view.partition.len() {
        return Err(ViewError::Misfit(view.name));
    }
    let mut partition = Vec::with_capacity(96);
    write_key(view, &scan.partition, &mut partition)?;
    let bound = |cells: &[Cell]| {
        let mut bytes = partition.clone();
        if key::write_cells(cells, view.clustering, &mut bytes) {
            Ok(bytes)
        } else {
            Err(ViewError::Misfit(view.name))
        }
    };
    let after = |bytes: Vec<u8>| key::after_prefix(bytes).unwrap_or_default();
    let low = match &scan.from {
        Bound::Unbounded => partition.clone(),
        Bound::Included(cells) => bound(cells)?,
        Bound::Excluded(cells) => after(bound(cells)?),
    };
    let high = match &scan.to {
        Bound::Unbounded => after(partition.clone()),
        Bound::Included(cells) => after(bound(cells)?),
        Bound::Excluded(cells) => bound(cells)?,
    };
    Ok((low < high).then_some((Bound::Included(low), Bound::Excluded(high))))
}

fn row(view: &'static View, key: &[u8], value: &[u8]) -> Result<Row, ViewError> {
    let corrupt = || ViewError::Corrupt(format!("a row of {}", view.name));
    let mut from = key.get(view.name.len() + 1..).ok_or_else(corrupt)?;
    let key = key::read_cells(&mut from, view.key_columns()).ok_or_else(corrupt)?;
    let cells = value::read(view, value).ok_or_else(corrupt)?;
    Ok(Row { key, cells })
}

fn progress_key(topic: Topic, partition: Partition) -> Vec<u8> {
    [PROGRESS, topic.name().as_bytes(), &[0], &partition.to_be_bytes()].concat()
}

fn progress_value(progress: &Progress) -> Vec<u8> {
    let mut out = Vec::with_capacity(64);
    progress.incarnation.write(&mut out);
    progress.next.write(&mut out);
    progress.last_origin.write(&mut out);
    out
}

fn read_progress(topic: Topic, partition: Partition, bytes: &[u8]) -> Result<Progress, ViewError> {
    let mut from = bytes;
    let mut read = || -> Result<Progress, avro::Malformed> {
        Ok(Progress {
            topic,
            partition,
            incarnation: Avro::read(&mut from)?,
            next: Avro::read(&mut from)?,
            last_origin: Avro::read(&mut from)?,
        })
    };
    read().map_err(|e| ViewError::Corrupt(format!("progress of {}/{partition}: {e}", topic.name())))
}

/// A hash of every declaration: rows of other declarations are not read.
fn declared() -> EventId {
    let texts: Vec<String> = views::ALL.iter().map(|view| format!("{view:?}")).collect();
    let parts: Vec<&[u8]> = texts.iter().map(String::as_bytes).collect();
    EventId::of("fajma.views", &parts)
}
