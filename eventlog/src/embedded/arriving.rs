//! A log in the making: filled block by block with what another home holds, each record at its own offset.
//!
//! The disk says [`Standing::Arriving`] before anything else is written, so nobody takes half a log for a whole one.
//! Whoever begins again where that stands clears away what there is.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::{BufMut, Bytes, BytesMut};
use schemas::time::Timestamp;

use super::block::{self, Block};
use super::rows::{self, OutputEnd, Position};
use super::shared::{self, Log};
use super::storage::{Change, Direction, Space, Storage};
use super::writer::{BLOCK_BYTES, BLOCK_RECORDS};
use super::{Embedded, Options, reading, retention, standing};
use crate::moving::{self, Carriable, Saved};
use crate::{Clock, Entry, Layout, LogError, Offset, Partition, Standing, Topic};

/// So many keys are cleared away by one commit.
const CLEARED_AT_ONCE: usize = 4096;
/// So many states are saved by one commit.
const STATES_AT_ONCE: usize = 1024;

/// Where each partition goes on, and the latest moment of any append so far.
type Ends = HashMap<(Topic, Partition), (Offset, Timestamp)>;

/// A log in the making.
#[derive(Debug)]
pub struct Arriving {
    storage: Arc<dyn Storage>,
    options: Options,
    clock: Arc<dyn Clock>,
    layout: Layout,
    ends: Mutex<Ends>,
}

impl Arriving {
    /// Begins in `dir`, where there is no log yet, or one of the same journal that did not arrive whole: that is cleared
    /// away.
    ///
    /// # Errors
    /// As [`Embedded::open`]; [`LogError::Elsewhere`] where there is a log already.
    #[cfg(feature = "embedded")]
    pub fn begin(
        dir: &std::path::Path,
        (options, clock): (Options, Arc<dyn Clock>),
        layout: Layout,
        from: &str,
    ) -> Result<Arc<Self>, LogError> {
        options.check()?;
        let store = super::store::Store::open(dir, options.disk_cache_bytes, options.memtable_bytes)?;
        Self::on(Arc::new(store), (options, clock), layout, from)
    }

    /// The same on a simulated disk.
    ///
    /// # Errors
    /// As [`begin`](Self::begin).
    #[cfg(feature = "conformance")]
    pub fn on_disk(
        disk: &super::SimDisk,
        (options, clock): (Options, Arc<dyn Clock>),
        layout: Layout,
        from: &str,
    ) -> Result<Arc<Self>, LogError> {
        options.check()?;
        Self::on(Arc::new(disk.clone()), (options, clock), layout, from)
    }

    fn on(
        storage: Arc<dyn Storage>,
        (options, clock): (Options, Arc<dyn Clock>),
        layout: Layout,
        from: &str,
    ) -> Result<Arc<Self>, LogError> {
        let there = shared::layout(&*storage)?;
        let arriving = matches!(standing::read(&*storage)?, Standing::Arriving { .. });
        match there {
            Some(there) if !arriving => {
                return Err(LogError::Elsewhere(format!(
                    "there is a log already, journal {}",
                    there.incarnation
                )));
            }
            Some(there) if there.incarnation != layout.incarnation => {
                return Err(LogError::Elsewhere(format!(
                    "another journal, {}, did not arrive whole there: remove it, or name another place",
                    there.incarnation
                )));
            }
            _ => {}
        }
        let from = from.to_owned();
        storage.commit(vec![
            standing::change(&Standing::Arriving { from }),
            shared::layout_change(layout),
        ])?;
        if there.is_some() {
            clear(&*storage, layout.partitions)?;
        }
        Ok(Arc::new(Self {
            storage,
            options,
            clock,
            layout,
            ends: Mutex::default(),
        }))
    }

    fn ends(&self) -> MutexGuard<'_, Ends> {
        self.ends.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn commit(&self, changes: Vec<Change>) -> Result<(), LogError> {
        if changes.is_empty() {
            return Ok(());
        }
        let storage = Arc::clone(&self.storage);
        reading::off_the_runtime(move || storage.commit(changes)).await
    }

    /// The blocks of some records: each of records that follow each other and were appended at one moment.
    fn blocks(&self, topic: Topic, partition: Partition, entries: &[Entry]) -> Result<Vec<Change>, LogError> {
        let mut ends = self.ends();
        let (end, latest) = ends.entry((topic, partition)).or_insert((0, Timestamp::MIN));
        let mut changes = Vec::new();
        let mut rest = entries;
        while let Some(first) = rest.first() {
            let base = if topic == Topic::Control { *end } else { first.offset };
            if base < *end {
                let (name, end) = (topic.name(), *end);
                return Err(LogError::Misuse(format!(
                    "{name}/{partition} is at {end}, beyond {base}"
                )));
            }
            let (these, others) = rest.split_at(together(topic, rest));
            for entry in these {
                self.check_size(entry)?;
            }
            *latest = first.appended_at.max(*latest);
            let records: Vec<(Bytes, Bytes)> = these.iter().map(|e| (e.key.clone(), e.value.clone())).collect();
            let (packed, packed_block) = Block::pack((topic, partition), base, (first.appended_at, *latest), &records);
            *end = packed_block.end();
            let key = Bytes::copy_from_slice(&block::key(base));
            changes.push(Change::put(Space::Log(topic, partition), key, packed));
            rest = others;
        }
        Ok(changes)
    }

    fn check_size(&self, entry: &Entry) -> Result<(), LogError> {
        let (bytes, limit) = (entry.key.len() + entry.value.len(), self.options.max_record_bytes);
        if entry.key.len() > usize::from(u16::MAX) || bytes > limit {
            return Err(LogError::TooLarge { bytes, limit });
        }
        Ok(())
    }

    fn rows(&self, (output, partition): (Topic, Partition), saved: Saved) -> Result<Vec<Change>, LogError> {
        let mut changes = Vec::new();
        for place in saved.places {
            for (name, stored) in place.states {
                let key = rows::state_key(&place.name, partition, &name);
                let Some(value) = stored.value else {
                    return Err(LogError::Misuse(format!(
                        "{}/{partition} was killed while it saved its states: start it and stop it once, then carry it",
                        place.name
                    )));
                };
                let packed = rows::pack_state(&key, stored.applied, &value);
                changes.push(Change::put(Space::Places, key, packed));
            }
            let key = rows::position_key(&place.name, partition);
            let position = Position {
                incarnation: self.layout.incarnation,
                offset: place.position,
                context: place.context,
            };
            let packed = position.pack(&key);
            changes.push(Change::put(Space::Places, key, packed));
        }
        if let Some(processor) = saved.writer {
            let key = rows::output_key(output, partition);
            let (reached, last) = (saved.reached, saved.last);
            let packed = OutputEnd {
                processor,
                reached,
                last,
            }
            .pack(&key);
            changes.push(Change::put(Space::Places, key, packed));
        }
        Ok(changes)
    }
}

/// How many of the records stand together in one block.
fn together(topic: Topic, entries: &[Entry]) -> usize {
    let Some(first) = entries.first() else { return 0 };
    let mut bytes = 0;
    let fits = entries
        .iter()
        .zip(first.offset..)
        .take(BLOCK_RECORDS)
        .take_while(|(entry, offset)| {
            bytes += entry.key.len() + entry.value.len();
            let follows = topic == Topic::Control || entry.offset == *offset;
            follows && entry.appended_at == first.appended_at && bytes <= BLOCK_BYTES
        });
    fits.count().max(1)
}

/// Clears away what did not arrive whole. What says so stays.
fn clear(storage: &dyn Storage, partitions: u16) -> Result<(), LogError> {
    let logs = Topic::ALL
        .into_iter()
        .flat_map(|topic| (0..topic.partitions(partitions)).map(move |partition| Space::Log(topic, partition)));
    for space in logs.chain([Space::Places]) {
        clear_range(storage, space, (&[], &[0xff; 9]))?;
    }
    clear_range(storage, Space::Meta, (retention::STARTS.as_bytes(), b"start/"))
}

fn clear_range(storage: &dyn Storage, space: Space, (from, to): (&[u8], &[u8])) -> Result<(), LogError> {
    loop {
        let mut changes = Vec::new();
        storage.scan(space, from, to, Direction::Up, &mut |key, _| {
            changes.push(Change::remove(space, Bytes::copy_from_slice(key)));
            Ok(changes.len() < CLEARED_AT_ONCE)
        })?;
        if changes.is_empty() {
            return Ok(());
        }
        storage.commit(changes)?;
    }
}

#[async_trait]
impl moving::Arriving for Arriving {
    async fn begin(&self, topic: Topic, partition: Partition, start: Offset) -> Result<(), LogError> {
        self.layout.check(topic, partition)?;
        self.ends().insert((topic, partition), (start, Timestamp::MIN));
        if start == 0 {
            return Ok(());
        }
        let key = Log::start_key(topic, partition);
        let mut value = BytesMut::new();
        value.put_i64(start);
        let sealed = rows::seal(&key, value);
        self.commit(vec![Change::put(Space::Meta, key, sealed)]).await
    }

    async fn put(&self, topic: Topic, partition: Partition, entries: &[Entry]) -> Result<(), LogError> {
        self.layout.check(topic, partition)?;
        let changes = self.blocks(topic, partition, entries)?;
        self.commit(changes).await
    }

    async fn save(&self, output: Topic, partition: Partition, saved: Saved) -> Result<(), LogError> {
        self.layout.check(output, partition)?;
        let mut changes = self.rows((output, partition), saved)?;
        while !changes.is_empty() {
            let rest = changes.split_off(changes.len().min(STATES_AT_ONCE));
            self.commit(changes).await?;
            changes = rest;
        }
        Ok(())
    }

    async fn open(self: Arc<Self>) -> Result<Arc<dyn Carriable>, LogError> {
        let (storage, options, clock) = (Arc::clone(&self.storage), self.options.clone(), Arc::clone(&self.clock));
        Ok(Embedded::start(storage, options, clock)?)
    }
}
