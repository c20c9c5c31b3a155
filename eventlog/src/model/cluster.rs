//! What the model's brokers hold, and what is still on the way to them.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use schemas::derived::Origin;
use schemas::time::Timestamp;
use smol_str::SmolStr;

use super::{Faults, Rules};
use crate::origin::{Restore, Step};
use crate::prng::Prng;
use crate::{Append, Bounds, Entry, Limit, LogError, Offset, Partition, Reached, Stored, Topic};

/// Which owner wrote a record of a state topic.
type Writer = u64;

#[derive(Debug)]
struct Record {
    entry: Entry,
    origin: Option<Origin>,
}

/// A record of a state topic: a state, or, without a key, a position.
#[derive(Debug, Clone)]
struct Saved {
    writer: Writer,
    step: Step,
}

/// What a crashed owner had still to write.
#[derive(Debug)]
struct Late {
    place: PlaceName,
    writer: Writer,
    steps: VecDeque<Step>,
}

/// A processor on a partition, and where its outputs go.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct PlaceName {
    pub(super) processor: SmolStr,
    pub(super) output: Topic,
    pub(super) partition: Partition,
}

/// What an owner finds.
pub(super) struct Claimed {
    pub(super) writer: Writer,
    pub(super) states: BTreeMap<SmolStr, Stored>,
    pub(super) position: Offset,
    pub(super) context: Bytes,
    pub(super) last: Option<Origin>,
}

#[derive(Debug)]
pub(super) struct Cluster {
    chance: Prng,
    pub(super) rules: Rules,
    faults: Faults,
    topics: BTreeMap<(Topic, Partition), Vec<Record>>,
    states: BTreeMap<PlaceName, Vec<Saved>>,
    late: Vec<Late>,
    reached: BTreeMap<(Topic, Partition), Reached>,
    writers: Writer,
}

impl Cluster {
    pub(super) const fn new(seed: u64, rules: Rules, faults: Faults) -> Self {
        Self {
            chance: Prng::new(seed),
            rules,
            faults,
            topics: BTreeMap::new(),
            states: BTreeMap::new(),
            late: Vec::new(),
            reached: BTreeMap::new(),
            writers: 0,
        }
    }

    pub(super) fn calm(&mut self) {
        self.faults = Faults::default();
        self.late.clear();
    }

    pub(super) fn forget(&mut self) {
        self.reached.clear();
    }

    fn records(&self, topic: Topic, partition: Partition) -> &[Record] {
        self.topics.get(&(topic, partition)).map_or(&[], Vec::as_slice)
    }

    pub(super) fn bounds(&self, topic: Topic, partition: Partition) -> Bounds {
        let last = self.records(topic, partition).last();
        Bounds {
            start: 0,
            end: last.map_or(0, |record| record.entry.offset + 1),
        }
    }

    pub(super) fn read(&self, topic: Topic, partition: Partition, from: Offset, limit: Limit) -> Vec<Entry> {
        let records = self.records(topic, partition);
        let first = records.partition_point(|record| record.entry.offset < from);
        let mut bytes = 0;
        let mut entries = Vec::new();
        for Record { entry, .. } in records.iter().skip(first) {
            bytes += entry.key.len() + entry.value.len();
            if !entries.is_empty() && (entries.len() >= limit.records || bytes > limit.bytes) {
                break;
            }
            entries.push(entry.clone());
        }
        entries
    }

    pub(super) fn first_since(&self, topic: Topic, partition: Partition, at: Timestamp) -> Offset {
        let found = self
            .records(topic, partition)
            .iter()
            .find(|record| record.entry.appended_at >= at);
        found.map_or_else(|| self.bounds(topic, partition).end, |record| record.entry.offset)
    }

    fn put(
        &mut self,
        (topic, partition): (Topic, Partition),
        key: Bytes,
        value: Bytes,
        origin: Option<Origin>,
        appended_at: Timestamp,
    ) -> Offset {
        let gap = Offset::from(self.chance.percent(self.faults.gap));
        let offset = self.bounds(topic, partition).end + gap;
        let entry = Entry {
            offset,
            appended_at,
            key,
            value,
        };
        let records = self.topics.entry((topic, partition)).or_default();
        records.push(Record { entry, origin });
        offset
    }

    pub(super) fn append(&mut self, topic: Topic, records: &[Append], now: Timestamp) -> Result<Vec<Offset>, LogError> {
        let fails = self.chance.percent(self.faults.append_fails);
        if fails && self.chance.percent(50) {
            return Err(LogError::Unavailable(
                "no answer; nothing was appended (model)".to_owned(),
            ));
        }
        let times = if self.chance.percent(self.faults.append_twice) {
            2
        } else {
            1
        };
        let mut offsets = Vec::new();
        for _ in 0..times {
            offsets = records
                .iter()
                .map(|r| self.put((topic, r.partition), r.key.clone(), r.value.clone(), None, now))
                .collect();
        }
        if fails {
            return Err(LogError::Unavailable(
                "no answer, though all was appended (model)".to_owned(),
            ));
        }
        Ok(offsets)
    }

    /// One late write, one compaction, as chance has it.
    pub(super) fn tick(&mut self, now: Timestamp) {
        if self.chance.percent(self.faults.late) && !self.late.is_empty() {
            let which = self.chance.below(self.late.len() as u64) as usize;
            let late = &mut self.late[which];
            let (place, writer) = (late.place.clone(), late.writer);
            match late.steps.pop_front() {
                Some(step) => self.write(&place, writer, step, now),
                None => drop(self.late.swap_remove(which)),
            }
        }
        if self.chance.percent(self.faults.compaction) && !self.states.is_empty() {
            let which = self.chance.below(self.states.len() as u64) as usize;
            let by_writer = self.rules.writer_in_key;
            if let Some(topic) = self.states.values_mut().nth(which) {
                compact(topic, by_writer);
            }
        }
    }

    /// Writes the steps one by one; a crash leaves the rest, which may come late.
    pub(super) fn run(
        &mut self,
        place: &PlaceName,
        writer: Writer,
        steps: Vec<Step>,
        now: Timestamp,
    ) -> Result<(), LogError> {
        let mut steps: VecDeque<_> = steps.into();
        while let Some(step) = steps.pop_front() {
            self.tick(now);
            if self.chance.percent(self.faults.crash) {
                steps.push_front(step);
                if self.chance.percent(50) {
                    let place = place.clone();
                    self.late.push(Late { place, writer, steps });
                }
                return Err(LogError::Unavailable("the owner crashed (model)".to_owned()));
            }
            self.write(place, writer, step, now);
        }
        Ok(())
    }

    fn write(&mut self, place: &PlaceName, writer: Writer, step: Step, now: Timestamp) {
        match step {
            Step::Output(output) => {
                let at = (place.output, place.partition);
                self.put(at, output.key, output.value, Some(output.origin), now);
            }
            step => self
                .states
                .entry(place.clone())
                .or_default()
                .push(Saved { writer, step }),
        }
    }

    pub(super) fn claim(&mut self, processor: &str, output: Topic, partition: Partition) -> Claimed {
        self.writers += 1;
        let place = PlaceName {
            processor: processor.into(),
            output,
            partition,
        };
        let (states, position, context) = self.restore(&place);
        let origins = self
            .records(output, partition)
            .iter()
            .filter_map(|record| record.origin.as_ref());
        Claimed {
            writer: self.writers,
            states,
            position,
            context,
            last: origins.max_by(|a, b| a.place().cmp(&b.place())).cloned(),
        }
    }

    fn restore(&self, place: &PlaceName) -> (BTreeMap<SmolStr, Stored>, Offset, Bytes) {
        let saved = self.states.get(place).map_or(&[][..], Vec::as_slice);
        let mut restore = Restore::default();
        let mut last = BTreeMap::new();
        for Saved { step, .. } in saved {
            match step.clone() {
                Step::State { key, stored } if self.rules.greatest_applied => restore.state(key, stored),
                Step::State { key, stored } => drop(last.insert(key, stored)),
                Step::Position { offset, context } => restore.position(offset, context),
                Step::Output(_) => {}
            }
        }
        let (mut states, position, context) = restore.finish();
        states.extend(last);
        (states, position, context)
    }

    pub(super) fn advance(&mut self, place: &PlaceName, journal: Offset) {
        let end = self.bounds(place.output, place.partition).end;
        let known = self.reached.entry((place.output, place.partition));
        let known = known.or_insert(Reached { journal: 0, end: 0 });
        if journal >= known.journal {
            *known = Reached { journal, end };
        }
    }

    pub(super) fn reached(&self, output: Topic, partition: Partition) -> Reached {
        if let Some(reached) = self.reached.get(&(output, partition)) {
            return *reached;
        }
        let places = self
            .states
            .keys()
            .filter(|p| p.output == output && p.partition == partition);
        Reached {
            journal: places.map(|place| self.restore(place).1).max().unwrap_or(0),
            end: self.bounds(output, partition).end,
        }
    }
}

/// Keeps the last record of each key, in log order.
fn compact(topic: &mut Vec<Saved>, by_writer: bool) {
    let mut seen = std::collections::BTreeSet::new();
    let mut kept: Vec<Saved> = Vec::with_capacity(topic.len());
    for saved in topic.drain(..).rev() {
        let key = match &saved.step {
            Step::State { key, .. } => Some(key.clone()),
            _ => None,
        };
        let writer = if by_writer { saved.writer } else { 0 };
        if seen.insert((key, writer)) {
            kept.push(saved);
        }
    }
    kept.reverse();
    *topic = kept;
}
