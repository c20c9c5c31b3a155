//! The home in one process: all views in one fjall keyspace, so that what survives a crash is a prefix of what was
//! applied. Nothing waits for the disk: what a power cut takes away is projected again from the log.

mod encoded;
mod generation;
mod known;
mod rebuild;
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

use crate::key;
use crate::store::{Change, Progress, Scan, ViewError, ViewStore};
use crate::view::{Cell, Row, View};
use crate::views;
use encoded::{Encoded, Encoding, Span, write_key};
use known::{Answer, Known};

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
            memtable_bytes: 16 << 20,
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
    writing: Mutex<Known>,
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
        let declared = views::declared(&views::ALL);
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

    /// How many rows each view has, by its name: reads all of them.
    ///
    /// # Errors
    /// [`ViewError::Unavailable`].
    pub async fn count(&self) -> Result<BTreeMap<&'static str, u64>, ViewError> {
        let store = Arc::clone(&self.0);
        blocking(move || {
            let mut counts = BTreeMap::new();
            for view in views::ALL {
                let mut rows = 0;
                for guard in store.rows.prefix([view.name.as_bytes(), &[0]].concat()) {
                    rows += u64::from(!value::is_removal(&guard.value().map_err(failed)?));
                }
                counts.insert(view.name, rows);
            }
            Ok(counts)
        })
        .await
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
    fn lock(&self) -> MutexGuard<'_, Known> {
        self.writing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, encoded: &Encoded, progress: Option<(Vec<u8>, Vec<u8>)>) -> Result<(), ViewError> {
        let mut known = self.lock();
        let written = self.write_known(encoded, progress, &mut known);
        if written.is_err() {
            *known = Known::default();
        }
        written
    }

    fn write_known(
        &self,
        encoded: &Encoded,
        progress: Option<(Vec<u8>, Vec<u8>)>,
        known: &mut Known,
    ) -> Result<(), ViewError> {
        let mut batch = fjall::OwnedWriteBatch::with_capacity(self.db.clone(), encoded.spans.len() + 1);
        for change in encoded.best() {
            let print = known.print(change.key, change.value);
            if print.is_some_and(|print| known.has(print)) || !self.wins(&change, known)? {
                continue;
            }
            let Span { start, middle, end, .. } = *change.span;
            batch.insert(
                &self.rows,
                encoded.bytes.slice(start..middle),
                encoded.bytes.slice(middle..end),
            );
            // Forgotten again where the batch is not committed.
            if let Some(print) = print {
                known.remember_print(print);
            }
            if !change.span.grows {
                known.remember_version(change.key, change.span.version);
            }
        }
        if let Some((key, value)) = progress {
            batch.insert(&self.rows, key, value);
        }
        batch.commit().map_err(failed)
    }

    /// Whether a change is newer than what is there.
    fn wins(&self, change: &Encoding<'_>, known: &mut Known) -> Result<bool, ViewError> {
        let answer = if change.span.grows {
            known.beyond(change.partition, change.key)
        } else {
            known.version(change.key, change.span.version)
        };
        match answer {
            Answer::Wins => Ok(true),
            Answer::Loses => Ok(false),
            Answer::Look => self.look(change, known),
            Answer::Seek => {
                let partition = change.partition.to_vec();
                let after = key::after_prefix(partition.clone()).unwrap_or_default();
                let last = self.rows.range(partition..after).next_back();
                let last = last.map(|guard| guard.key().map_err(failed)).transpose()?;
                let new = last.as_ref().is_none_or(|last| change.key > &**last);
                known.remember_end(
                    change.partition,
                    last.filter(|_| !new)
                        .map_or_else(|| change.key.to_vec(), |l| l.to_vec()),
                );
                if new { Ok(true) } else { self.look(change, known) }
            }
        }
    }

    fn look(&self, change: &Encoding<'_>, known: &mut Known) -> Result<bool, ViewError> {
        let Some(stored) = self.rows.get(change.key).map_err(failed)? else {
            return Ok(true);
        };
        let wins = change.value > &*stored;
        if !wins && !change.span.grows {
            known.remember_version(change.key, value::version(&stored));
        }
        Ok(wins)
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
        let mut known = self.lock();
        *known = Known::default();
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
