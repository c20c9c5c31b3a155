//! What the writer, the readers and the processors' places have in common.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use schemas::derived::Incarnation;
use schemas::ids::EventId;
use schemas::time::Timestamp;
use tokio::sync::watch;

use super::block::{self, Block};
use super::queue::{Queue, Request};
use super::rows::{self, OutputEnd, Position};
use super::storage::{Change, Direction, Space, Storage};
use super::{Options, standing};
use crate::chunks::Chunks;
use crate::{Bounds, Clock, Layout, LogError, Offset, Partition, Reached, Standing, Topic};

/// What readers see of a partition.
#[derive(Debug, Clone, Copy)]
pub(super) struct View {
    pub(super) bounds: Bounds,
    pub(super) failed: bool,
}

/// One partition of one topic.
pub(super) struct Log {
    pub(super) topic: Topic,
    pub(super) partition: Partition,
    tail: Mutex<Chunks>,
    reached: Mutex<Reached>,
    pub(super) view: watch::Sender<View>,
}

impl Log {
    pub(super) fn tail(&self) -> MutexGuard<'_, Chunks> {
        self.tail.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The tail, where nobody holds it.
    #[cfg(test)]
    pub(super) fn try_tail(&self) -> Option<MutexGuard<'_, Chunks>> {
        self.tail.try_lock().ok()
    }

    pub(super) fn bounds(&self) -> Bounds {
        self.view.borrow().bounds
    }

    /// Shows records up to `end`.
    pub(super) fn show(&self, end: Offset) {
        self.view.send_modify(|view| view.bounds.end = end);
    }

    /// Hides records before `start`.
    pub(super) fn begin(&self, start: Offset) {
        self.view.send_modify(|view| view.bounds.start = start);
    }

    pub(super) fn reached(&self) -> Reached {
        *self.reached.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn advance(&self, to: Reached) {
        let mut reached = self.reached.lock().unwrap_or_else(PoisonError::into_inner);
        if to.journal >= reached.journal {
            *reached = to;
        }
    }
}

pub(super) struct Shared {
    pub(super) layout: Layout,
    pub(super) options: Options,
    pub(super) storage: Arc<dyn Storage>,
    pub(super) clock: Arc<dyn Clock>,
    /// Every partition of every topic, by [`Shared::slot`].
    pub(super) logs: Vec<Log>,
    pub(super) queue: Queue,
    /// Held while a checkpoint is saved piece by piece.
    pub(super) saving: tokio::sync::Mutex<()>,
    failed: OnceLock<LogError>,
    pub(super) standing: RwLock<Standing>,
}

const LAYOUT: &[u8] = b"layout";

impl Shared {
    /// Finds out what there is, or begins a new log; with it, per partition, the end and the latest append.
    pub(super) fn recover(
        storage: Arc<dyn Storage>,
        options: Options,
        clock: Arc<dyn Clock>,
    ) -> Result<(Self, Vec<(Offset, Timestamp)>), LogError> {
        let layout = match layout(&*storage)? {
            Some(layout) => layout,
            None => create(&*storage, options.partitions, &*clock)?,
        };
        if layout.partitions != options.partitions {
            let (there, asked) = (layout.partitions, options.partitions);
            tracing::warn!(
                there,
                asked,
                "the log keeps the number of partitions it was created with"
            );
        }
        let standing = RwLock::new(standing::read(&*storage)?);
        let mut logs = Vec::new();
        let mut ends = Vec::new();
        for topic in Topic::ALL {
            for partition in 0..layout.partitions {
                let (log, latest) = open(&*storage, topic, partition)?;
                ends.push((log.bounds().end, latest));
                logs.push(log);
            }
        }
        let shared = Self {
            layout,
            queue: Queue::new(options.queue_bytes),
            saving: tokio::sync::Mutex::default(),
            options,
            storage,
            clock,
            logs,
            failed: OnceLock::new(),
            standing,
        };
        for log in shared.logs.iter().filter(|log| log.topic.is_derived()) {
            if let Some(end) = shared.output_end(log.topic, log.partition)? {
                log.advance(end.reached);
            }
        }
        Ok((shared, ends))
    }

    /// Where a partition stands in [`Shared::logs`].
    pub(super) fn slot(&self, topic: Topic, partition: Partition) -> usize {
        topic as usize * usize::from(self.layout.partitions) + usize::from(partition)
    }

    /// The partition, where there is one.
    pub(super) fn log(&self, topic: Topic, partition: Partition) -> Result<&Log, LogError> {
        self.layout.check(topic, partition)?;
        Ok(&self.logs[self.slot(topic, partition)])
    }

    /// Whether a record is small enough.
    pub(super) fn check_size(&self, key: &Bytes, value: &Bytes) -> Result<(), LogError> {
        let (bytes, limit) = (key.len() + value.len(), self.options.max_record_bytes);
        if key.len() > usize::from(u16::MAX) || bytes > limit {
            return Err(LogError::TooLarge { bytes, limit });
        }
        Ok(())
    }

    /// Hands a request to the writer.
    pub(super) fn ask(&self, request: Request) -> Result<(), LogError> {
        self.queue
            .push(request)
            .map_err(|closed| self.failure().err().unwrap_or(closed))
    }

    /// Why nothing is taken any more, where that is so.
    pub(super) fn failure(&self) -> Result<(), LogError> {
        self.failed.get().map_or(Ok(()), |error| Err(error.clone()))
    }

    /// Takes nothing more, for ever: after a failed sync nobody knows what is on the disk.
    pub(super) fn fail(&self, error: LogError) {
        tracing::error!(%error, "the log acknowledges nothing any more; restart once the disk is well");
        super::metrics::failed();
        let _ = self.failed.set(error);
        for log in &self.logs {
            log.view.send_modify(|view| view.failed = true);
        }
    }

    /// How far a processor has come with a partition.
    pub(super) fn position(&self, processor: &str, partition: Partition) -> Result<Option<Position>, LogError> {
        let key = rows::position_key(processor, partition);
        let Some(row) = self.storage.get(Space::Places, &key)? else {
            return Ok(None);
        };
        let position = Position::unpack(&key, row)?;
        if position.incarnation == self.layout.incarnation {
            Ok(Some(position))
        } else {
            Err(LogError::OtherIncarnation {
                expected: position.incarnation,
                found: self.layout.incarnation,
            })
        }
    }

    /// The least saved position of any processor on a partition.
    pub(super) fn least_position(&self, partition: Partition) -> Result<Offset, LogError> {
        let mut least = Offset::MAX;
        self.storage
            .scan(Space::Places, b"p", b"q", Direction::Up, &mut |key, row| {
                if key.ends_with(&partition.to_be_bytes()) {
                    least = least.min(Position::unpack(key, row)?.offset);
                }
                Ok(true)
            })?;
        Ok(least)
    }

    /// Where a derived topic's partition ended at the last commit.
    pub(super) fn output_end(&self, output: Topic, partition: Partition) -> Result<Option<OutputEnd>, LogError> {
        let key = rows::output_key(output, partition);
        let row = self.storage.get(Space::Places, &key)?;
        row.map(|row| OutputEnd::unpack(&key, row)).transpose()
    }

    /// A processor has come further without concluding anything.
    pub(super) fn advance(&self, output: Topic, partition: Partition, journal: Offset) {
        let log = &self.logs[self.slot(output, partition)];
        let end = log.bounds().end;
        log.advance(Reached { journal, end });
    }
}

/// Which life of a journal this is: nobody else's, though made without a source of randomness of its own.
fn incarnation(storage: &dyn Storage, clock: &dyn Clock) -> Incarnation {
    let lot = || storage.lot().to_be_bytes();
    let parts = [lot(), lot(), clock.now().0.to_be_bytes()];
    EventId::of("fajma.incarnation", &[&parts[0], &parts[1], &parts[2]])
}

fn create(storage: &dyn Storage, partitions: u16, clock: &dyn Clock) -> Result<Layout, LogError> {
    let mut found = false;
    storage.scan(Space::Places, &[], &[0xff], Direction::Up, &mut |_, _| {
        found = true;
        Ok(false)
    })?;
    if found {
        return Err(LogError::Corrupt("the log's layout is lost".to_owned()));
    }
    let layout = Layout {
        partitions,
        incarnation: incarnation(storage, clock),
    };
    storage.commit(vec![layout_change(layout)])?;
    Ok(layout)
}

/// What the log on a disk is made of, where there is one.
pub(super) fn layout(storage: &dyn Storage) -> Result<Option<Layout>, LogError> {
    storage.get(Space::Meta, LAYOUT)?.map(unpack_layout).transpose()
}

/// The change that says what a log is made of.
pub(super) fn layout_change(layout: Layout) -> Change {
    let mut row = BytesMut::new();
    row.put_u16(layout.partitions);
    row.put_slice(&layout.incarnation.0);
    Change::put(Space::Meta, LAYOUT, rows::seal(LAYOUT, row))
}

fn unpack_layout(row: Bytes) -> Result<Layout, LogError> {
    let mut row = rows::unseal(LAYOUT, row)?;
    let damaged = |_| LogError::Corrupt("the log's layout".to_owned());
    let partitions = row.try_get_u16().map_err(damaged)?;
    let mut incarnation = [0; 16];
    row.try_copy_to_slice(&mut incarnation).map_err(damaged)?;
    Ok(Layout {
        partitions,
        incarnation: EventId(incarnation),
    })
}

/// Finds where a partition begins and ends, and its latest append.
fn open(storage: &dyn Storage, topic: Topic, partition: Partition) -> Result<(Log, Timestamp), LogError> {
    let (view, _) = watch::channel(View {
        bounds: Bounds { start: 0, end: 0 },
        failed: false,
    });
    let log = Log {
        topic,
        partition,
        tail: Mutex::new(Chunks::new(topic, partition, None)),
        reached: Mutex::new(Reached { journal: 0, end: 0 }),
        view,
    };
    let key = Log::start_key(topic, partition);
    let start = match storage.get(Space::Meta, &key)? {
        None => 0,
        Some(row) => rows::unseal(&key, row)?
            .try_get_i64()
            .map_err(|_| LogError::Corrupt(format!("the start of {}/{partition}", topic.name())))?,
    };
    let mut last = None;
    let space = Space::Log(topic, partition);
    storage.scan(space, &[], &[0xff; 9], Direction::Down, &mut |key, value| {
        last = Some(Block::unpack(topic, partition, block::base_of(key)?, &value)?);
        Ok(false)
    })?;
    let end = last.as_ref().map_or(start, Block::end);
    log.view.send_modify(|view| view.bounds = Bounds { start, end });
    Ok((log, last.map_or(Timestamp::MIN, |block| block.latest)))
}
