//! The one who writes. It takes everything that is waiting, makes it durable by one commit, shows it to readers, and
//! answers. While it waits for the disk the next group gathers; a lone record never waits for company.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use schemas::derived::Origin;
use schemas::time::{Span, Timestamp};
use smol_str::SmolStr;
use tokio::time::Instant;

use super::block::{self, Block};
use super::queue::{Answer, Next, Piece, Request};
use super::rows::{self, OutputEnd, Position};
use super::storage::{Change, Space};
use super::workspace::{Claimed, Place};
use super::{Shared, memory, metrics, retention};
use crate::{Append, LogError, Offset, Partition, Reached, Topic};

/// A block holds at most so many records, …
pub(super) const BLOCK_RECORDS: usize = 4096;
/// … and begins a new one at so many bytes.
pub(super) const BLOCK_BYTES: usize = 1 << 20;

/// A commit that takes longer than this is worth a word.
const SLOW: Duration = Duration::from_secs(1);

/// What gathers for one partition.
struct Gathered {
    next: Offset,
    records: Vec<(Bytes, Bytes)>,
}

/// What is made durable at once.
#[derive(Default)]
struct Group {
    changes: Vec<Change>,
    gathered: BTreeMap<usize, Gathered>,
    appended: Vec<(Answer<Vec<Offset>>, Vec<Offset>)>,
    committed: Vec<(Answer<()>, usize, Reached)>,
}

/// Where a derived topic's partition ends, as of everything that was asked for.
struct Output {
    end: OutputEnd,
    recent: memory::Recent,
}

pub(super) struct Writer {
    shared: Arc<Shared>,
    ends: Vec<(Offset, Timestamp)>,
    places: HashMap<(SmolStr, Partition), Arc<Place>>,
    outputs: HashMap<usize, Output>,
    /// What is in memory, oldest first: partition and cost.
    kept: VecDeque<(usize, usize)>,
    kept_bytes: usize,
    retained_at: Timestamp,
}

/// The processor that a place belongs to: versions of one (`name@version`) have places of their own and one output.
pub(super) fn family(place: &str) -> &str {
    place.split_once('@').map_or(place, |(name, _)| name)
}

/// Whatever ends the writer, nobody waits for it any more.
struct Ending(Arc<Shared>);

impl Drop for Ending {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0
                .fail(LogError::Unavailable("the log's writer panicked".to_owned()));
        }
        self.0.queue.abandon();
    }
}

impl Writer {
    /// A writer that goes on after `ends`: per partition the end and the latest moment of any append.
    pub(super) fn new(shared: Arc<Shared>, ends: Vec<(Offset, Timestamp)>) -> Self {
        let retained_at = shared.clock.now();
        Self {
            shared,
            ends,
            places: HashMap::new(),
            outputs: HashMap::new(),
            kept: VecDeque::new(),
            kept_bytes: 0,
            retained_at,
        }
    }

    /// Works until the queue is closed and empty, or nothing can be made durable any more.
    pub(super) fn run(mut self) {
        let _ending = Ending(Arc::clone(&self.shared));
        let patience = self.shared.options.retention_check();
        loop {
            let requests = match self.shared.queue.next(patience) {
                Next::Group(requests) => requests,
                Next::Idle => Vec::new(),
                Next::Closed => return,
            };
            if let Err(error) = self.serve(requests) {
                self.shared.fail(error);
                return;
            }
        }
    }

    fn serve(&mut self, requests: Vec<Request>) -> Result<(), LogError> {
        let mut group = Group::default();
        // Permits are given back when everything has been answered.
        let mut rooms = Vec::with_capacity(requests.len());
        for request in requests {
            match request {
                Request::Append {
                    topic,
                    records,
                    answer,
                    room,
                } => {
                    rooms.push(room);
                    let offsets = self.gather(&mut group, topic, records);
                    group.appended.push((answer, offsets));
                }
                Request::Commit {
                    place,
                    epoch,
                    piece,
                    answer,
                    room,
                } => {
                    rooms.push(room);
                    match self.take(&mut group, &place, epoch, piece) {
                        Ok((slot, reached)) => group.committed.push((answer, slot, reached)),
                        Err(error) => drop(answer.send(Err(error))),
                    }
                }
                Request::Claim {
                    processor,
                    output,
                    partition,
                    answer,
                } => {
                    self.write(std::mem::take(&mut group))?;
                    let _ = answer.send(self.claim(processor, output, partition));
                }
                Request::Retain { answer } => {
                    self.write(std::mem::take(&mut group))?;
                    self.retain()?;
                    let _ = answer.send(Ok(()));
                }
            }
        }
        self.write(group)?;
        let every = self.shared.options.retention_check();
        let every = every.map(|e| Span(i64::try_from(e.as_micros()).unwrap_or(i64::MAX)));
        if every.is_some_and(|every| self.shared.clock.now() - self.retained_at >= every) {
            self.retain()?;
        }
        Ok(())
    }

    /// Gives places to records.
    fn gather(&self, group: &mut Group, topic: Topic, records: Vec<Append>) -> Vec<Offset> {
        let mut offsets = Vec::with_capacity(records.len());
        for record in records {
            let slot = self.shared.slot(topic, record.partition);
            offsets.push(self.add(group, slot, record.key, record.value));
        }
        offsets
    }

    fn add(&self, group: &mut Group, slot: usize, key: Bytes, value: Bytes) -> Offset {
        let gathered = group.gathered.entry(slot).or_insert_with(|| Gathered {
            next: self.ends[slot].0,
            records: Vec::new(),
        });
        let offset = gathered.next;
        gathered.next += 1;
        gathered.records.push((key, value));
        offset
    }

    /// Takes a processor's work into the group: where its outputs go and how far they follow the journal then.
    fn take(
        &mut self,
        group: &mut Group,
        place: &Place,
        epoch: u64,
        piece: Piece,
    ) -> Result<(usize, Reached), LogError> {
        if place.claims.load(Ordering::SeqCst) != epoch {
            metrics::fenced();
            return Err(LogError::Fenced);
        }
        let slot = self.shared.slot(place.output, place.partition);
        let Some(mut output) = self.outputs.remove(&slot) else {
            return Err(LogError::Fenced);
        };
        let reached = self.take_outputs(group, slot, &mut output, piece.outputs);
        if reached.is_ok() {
            let next = group.gathered.get(&slot).map_or(self.ends[slot].0, |g| g.next);
            let reached = &mut output.end.reached;
            (reached.journal, reached.end) = (reached.journal.max(piece.reached), next);
            let key = rows::output_key(place.output, place.partition);
            let packed = output.end.pack(&key);
            group.changes.push(Change::put(Space::Places, key, packed));
        }
        let end = output.end.reached;
        self.outputs.insert(slot, output);
        reached?;
        for (name, stored) in piece.states {
            let key = rows::state_key(&place.processor, place.partition, &name);
            group.changes.push(match stored.value {
                Some(value) => {
                    let packed = rows::pack_state(&key, stored.applied, &value);
                    Change::put(Space::Places, key, packed)
                }
                None => Change::remove(Space::Places, key),
            });
        }
        if let Some((offset, context)) = piece.position {
            let key = rows::position_key(&place.processor, place.partition);
            let incarnation = self.shared.layout.incarnation;
            let position = Position {
                incarnation,
                offset,
                context,
            };
            let packed = position.pack(&key);
            group.changes.push(Change::put(Space::Places, key, packed));
        }
        Ok((slot, end))
    }

    fn take_outputs(
        &self,
        group: &mut Group,
        slot: usize,
        output: &mut Output,
        outputs: Vec<crate::Output>,
    ) -> Result<(), LogError> {
        let written = |origin: &Origin| output.end.last.as_ref().is_some_and(|last| *origin <= *last);
        let fresh = outputs.partition_point(|o| written(&o.origin));
        for repeat in &outputs[..fresh] {
            output.recent.compare(repeat)?;
        }
        metrics::repeats(fresh);
        for new in outputs.into_iter().skip(fresh) {
            output.recent.remember(&new);
            output.end.last = Some(new.origin);
            self.add(group, slot, new.key, new.value);
        }
        Ok(())
    }

    /// Makes a group durable, shows it, answers.
    fn write(&mut self, group: Group) -> Result<(), LogError> {
        if group.appended.is_empty() && group.committed.is_empty() {
            return Ok(());
        }
        let mut changes = group.changes;
        let mut blocks: Vec<(usize, Block)> = Vec::new();
        let now = self.shared.clock.now();
        for (slot, gathered) in group.gathered {
            self.pack(slot, now, &gathered.records, &mut changes, &mut blocks);
        }
        let began = Instant::now();
        if !changes.is_empty()
            && let Err(error) = self.shared.storage.commit(changes)
        {
            for (answer, _) in group.appended {
                let _ = answer.send(Err(error.clone()));
            }
            for (answer, ..) in group.committed {
                let _ = answer.send(Err(error.clone()));
            }
            return Err(error);
        }
        if began.elapsed() > SLOW {
            tracing::warn!(took = ?began.elapsed(), "the disk is slow");
        }
        metrics::committed(group.appended.len() + group.committed.len(), began.elapsed());
        self.publish(blocks);
        for (_, slot, reached) in &group.committed {
            self.shared.logs[*slot].advance(*reached);
        }
        for (answer, offsets) in group.appended {
            let _ = answer.send(Ok(offsets));
        }
        for (answer, ..) in group.committed {
            let _ = answer.send(Ok(()));
        }
        Ok(())
    }

    /// Cuts a partition's records into blocks.
    fn pack(
        &mut self,
        slot: usize,
        now: Timestamp,
        records: &[(Bytes, Bytes)],
        changes: &mut Vec<Change>,
        blocks: &mut Vec<(usize, Block)>,
    ) {
        let log = &self.shared.logs[slot];
        let (end, latest) = &mut self.ends[slot];
        *latest = now.max(*latest);
        let mut rest = records;
        while !rest.is_empty() {
            let mut bytes = 0;
            let fits = rest.iter().take(BLOCK_RECORDS).take_while(|(key, value)| {
                bytes += key.len() + value.len();
                bytes <= BLOCK_BYTES
            });
            let (these, others) = rest.split_at(fits.count().max(1));
            let place = (log.topic, log.partition);
            let (packed, block) = Block::pack(place, *end, (now, *latest), these);
            let key = Bytes::copy_from_slice(&block::key(*end));
            metrics::written(log.topic, these.len(), packed.len());
            changes.push(Change::put(Space::Log(log.topic, log.partition), key, packed));
            *end = block.end();
            blocks.push((slot, block));
            rest = others;
        }
    }

    /// Shows blocks to readers, and lets go of the oldest in memory.
    fn publish(&mut self, blocks: Vec<(usize, Block)>) {
        for (slot, block) in blocks {
            let log = &self.shared.logs[slot];
            let end = block.end();
            let cost = crate::chunks::cost(&block.entries);
            // Under one lock: whoever is given these records may go on from their end, however soon.
            let mut tail = log.tail();
            tail.push(block.entries);
            log.show(end);
            drop(tail);
            self.kept.push_back((slot, cost));
            self.kept_bytes += cost;
        }
        while self.kept_bytes > self.shared.options.cache_bytes {
            let Some((slot, cost)) = self.kept.pop_front() else {
                break;
            };
            self.kept_bytes -= cost;
            self.shared.logs[slot].tail().evict(cost);
        }
        metrics::memory(self.kept_bytes);
    }

    /// Gives a place to a new owner.
    fn claim(&mut self, processor: SmolStr, output: Topic, partition: Partition) -> Result<Claimed, LogError> {
        let saved = self.shared.position(&processor, partition)?;
        let slot = self.shared.slot(output, partition);
        if !self.outputs.contains_key(&slot) {
            let end = self.shared.output_end(output, partition)?.unwrap_or_else(|| OutputEnd {
                processor: processor.clone(),
                reached: Reached { journal: 0, end: 0 },
                last: None,
            });
            let recent = memory::Recent::load(&self.shared, output, partition)?;
            self.outputs.insert(slot, Output { end, recent });
        }
        let end = self.outputs.get(&slot).map(|known| known.end.clone());
        if let Some(other) = end.as_ref().filter(|end| family(&end.processor) != family(&processor)) {
            return Err(LogError::Misuse(format!(
                "{} is written by {}, not by {processor}",
                output.name(),
                other.processor
            )));
        }
        let place = self.places.entry((processor.clone(), partition)).or_insert_with(|| {
            Arc::new(Place {
                processor,
                output,
                partition,
                claims: AtomicU64::new(0),
            })
        });
        let epoch = place.claims.fetch_add(1, Ordering::SeqCst) + 1;
        Ok(Claimed {
            place: Arc::clone(place),
            epoch,
            position: saved.as_ref().map_or(0, |saved| saved.offset),
            context: saved.map(|saved| saved.context).unwrap_or_default(),
            last: end.and_then(|end| end.last),
        })
    }

    fn retain(&mut self) -> Result<(), LogError> {
        self.retained_at = self.shared.clock.now();
        retention::apply(&self.shared, self.retained_at)
    }
}
