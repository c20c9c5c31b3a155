//! One seed: a world, a log, owners that crash, pause and wake, readers; everything interleaved by chance.

use std::sync::Arc;

use bytes::Bytes;
use eventlog::prng::Prng;
use eventlog::{Append, Limit, LogError, ManualClock, Offset, Partition, Topic};
use processors::alerts::Alerts;
use processors::devices::Devices;
use processors::engine::Decided;
use processors::engine::erased::Kind;
use processors::windows::Windows;
use schemas::codec::{self, Catalogue};
use schemas::facts::ProcessorActivated;
use schemas::ids::Key;
use schemas::journal::{Fact, Recorded};
use smol_str::SmolStr;

use crate::coverage::Coverage;
use crate::doctor::Doctor;
use crate::home::{self, Home, wait};
use crate::next::Next;
use crate::owner::{Did, Manner, Owner};
use crate::reader::Follower;
use crate::rules::{self, Rule};
use crate::trace::Trace;
use crate::verdict;
use crate::world::{Arrivals, START, World};

/// Every processor: the version that begins and the one that takes over.
pub(crate) const KINDS: [(Kind, Kind); 3] = [
    (
        Kind::of::<Windows>(Topic::Windows),
        Kind::of::<Next<Windows>>(Topic::Windows),
    ),
    (
        Kind::of::<Alerts>(Topic::Alerts),
        Kind::of::<Next<Alerts>>(Topic::Alerts),
    ),
    (
        Kind::of::<Devices>(Topic::Devices),
        Kind::of::<Next<Devices>>(Topic::Devices),
    ),
];

/// More steps than any seed needs to come to its end.
const PATIENCE: usize = 200_000;

/// One processor on one partition: who owns it, rightly or not, and who reads what it says.
pub(crate) struct Place {
    pub(crate) kinds: (Kind, Kind),
    pub(crate) partition: Partition,
    /// The youngest last; the others were paused and go on when they wake.
    owners: Vec<Owner>,
    old_is_done: bool,
    new_is_wanted: bool,
    new_has_run: bool,
    /// A cutover, where the old version was gone before the new one ran.
    pub(crate) decided: Decided,
    pub(crate) reader: Follower,
}

/// What came of a seed.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) coverage: Coverage,
    pub(crate) trace: u64,
}

/// One run.
pub(crate) struct Run {
    chance: Prng,
    clock: Arc<ManualClock>,
    pub(crate) home: Home,
    world: World,
    pub(crate) places: Vec<Place>,
    doctor: Doctor,
    looked: Vec<usize>,
    trace: Trace,
    pub(crate) coverage: Coverage,
    pub(crate) catalogue: Catalogue,
    pub(crate) partitions: u16,
    /// What was acknowledged: partition, offset, bytes.
    pub(crate) acknowledged: Vec<(Partition, Offset, Bytes)>,
}

/// Runs a seed to its end and compares; the failure in words.
pub(crate) fn run(seed: u64, aloud: bool) -> Result<Report, String> {
    let mut run = Run::new(seed, aloud);
    run.begin()?;
    while let Some(arrivals) = run.world.advance() {
        run.clock.set(run.world.now);
        run.deliver(arrivals)?;
        let turns = run.places.len() as u64;
        for _ in 0..turns + run.chance.below(2 * turns) {
            run.act()?;
        }
    }
    run.drain()?;
    verdict::judge(&mut run)?;
    run.coverage.merge(&run.world.coverage);
    Ok(Report {
        coverage: run.coverage,
        trace: run.trace.hash(),
    })
}

impl Run {
    fn new(seed: u64, aloud: bool) -> Self {
        let mut chance = Prng::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let partitions = if chance.percent(25) { 2 } else { 1 };
        let kind = if chance.percent(60) {
            home::Kind::Separate
        } else {
            home::Kind::Atomic
        };
        let clock = home::clock(START);
        let home = Home::new(kind, seed, partitions, rules::of_the_log(), &clock);
        let incarnation = home.log().layout().incarnation;
        let mut places = Vec::new();
        for kinds in KINDS {
            for partition in 0..partitions {
                places.push(Place {
                    kinds,
                    partition,
                    owners: Vec::new(),
                    old_is_done: false,
                    new_is_wanted: false,
                    new_has_run: false,
                    decided: Decided::default(),
                    reader: Follower::new(incarnation, kinds.0.output, partition),
                });
            }
        }
        Self {
            chance,
            clock,
            home,
            world: World::new(seed, partitions),
            looked: vec![0; places.len()],
            places,
            doctor: Doctor::default(),
            trace: Trace::new(aloud),
            coverage: Coverage::default(),
            catalogue: Catalogue::builtin(),
            partitions,
            acknowledged: Vec::new(),
        }
    }

    fn begin(&mut self) -> Result<(), String> {
        let speakers = KINDS.map(|(kind, _)| (kind.name, kind.version));
        let first = self.world.beginning(&speakers);
        self.clock.set(self.world.now);
        self.append(first)
    }

    fn note(&mut self, what: &impl std::hash::Hash, text: impl FnOnce() -> String) {
        self.trace.note(what, text);
    }

    /// Doors append what reached them, in a few requests.
    fn deliver(&mut self, mut arrivals: Arrivals) -> Result<(), String> {
        if self.chance.percent(8)
            && let Some((key, answered, what)) = self.doctor.answer(self.world.now, &mut self.chance)
        {
            self.coverage.hit(what);
            let partition = self.world.partition(&key);
            let at = self.world.now;
            arrivals.push((partition, self.world.house(key, at, Fact::AlertAnswered(answered))));
        }
        while !arrivals.is_empty() {
            let some = 1 + self.chance.below(arrivals.len() as u64 * 2) as usize;
            let rest = arrivals.split_off(some.min(arrivals.len()));
            self.append(std::mem::replace(&mut arrivals, rest))?;
        }
        Ok(())
    }

    /// Appends until it is acknowledged.
    fn append(&mut self, arrivals: Arrivals) -> Result<(), String> {
        let records: Vec<_> = arrivals
            .iter()
            .map(|(partition, envelope)| {
                let mut value = Vec::new();
                codec::encode(envelope, &mut value);
                let key = Bytes::copy_from_slice(envelope.key.text().as_bytes());
                Append {
                    partition: *partition,
                    key,
                    value: value.into(),
                }
            })
            .collect();
        for _ in 0..1_000 {
            match wait(self.home.log().append(Topic::Journal, records.clone())) {
                Ok(offsets) => {
                    for ((offset, record), (_, envelope)) in offsets.iter().zip(&records).zip(&arrivals) {
                        self.note(&(record.partition, offset, &record.value), || {
                            let at = envelope.measured_at;
                            format!(
                                "journal/{} {offset}: {} of {at}: {:?}",
                                record.partition,
                                envelope.key.text(),
                                envelope.fact
                            )
                        });
                        self.acknowledged
                            .push((record.partition, *offset, record.value.clone()));
                    }
                    return Ok(());
                }
                Err(error) => {
                    self.coverage.hit("an append failed");
                    self.failed(&error)?;
                }
            }
        }
        Err("an append fails for ever".to_owned())
    }

    /// After an error of the log: the machine may be gone, with all that it ran.
    fn failed(&mut self, error: &LogError) -> Result<(), String> {
        self.note(&1, || format!("the log says: {error}"));
        if matches!(
            error,
            LogError::Corrupt(_) | LogError::Misuse(_) | LogError::OutOfRange { .. }
        ) {
            return Err(format!("the log says: {error}"));
        }
        if self.home.is_fatal(error) {
            self.coverage.hit("the power went");
            self.places.iter_mut().for_each(|place| place.owners.clear());
            self.home.power_cycle();
        }
        Ok(())
    }

    /// One thing happens somewhere.
    fn act(&mut self) -> Result<(), String> {
        let at = self.chance.below(self.places.len() as u64) as usize;
        match self.chance.below(100) {
            0..=3 => self.crash(at),
            4..=7 => return self.start(at),
            8..=19 => return self.read(at),
            20..=23 => self.places[at].reader.disturb(&mut self.chance),
            24 if self.home.is_atomic() && self.chance.percent(30) => return self.cut_over(at),
            24 => self.places[at].new_is_wanted |= self.chance.percent(40),
            _ => {
                let owners = self.places[at].owners.len() as u64;
                if owners == 0 {
                    return self.start(at);
                }
                let youngest = owners - 1;
                let which = if self.chance.percent(75) {
                    youngest
                } else {
                    self.chance.below(owners)
                };
                return self.step(at, which as usize);
            }
        }
        Ok(())
    }

    fn crash(&mut self, at: usize) {
        let owners = &mut self.places[at].owners;
        if !owners.is_empty() {
            let which = self.chance.below(owners.len() as u64) as usize;
            owners.remove(which);
            self.coverage.hit("an owner crashed");
            self.note(&(2, at, which), || format!("place {at}: owner {which} crashes"));
        }
    }

    /// Somebody takes the place, whoever has it.
    fn start(&mut self, at: usize) -> Result<(), String> {
        let place = &self.places[at];
        let kind = match (place.old_is_done, place.new_is_wanted) {
            (true, _) => place.kinds.1,
            (false, true) if self.chance.percent(50) => place.kinds.1,
            _ => place.kinds.0,
        };
        if place.owners.len() >= 4 {
            return Ok(());
        }
        self.start_as(at, kind)
    }

    fn start_as(&mut self, at: usize, kind: Kind) -> Result<(), String> {
        let manner = Manner {
            batch: [1, 3, 10, 40, 200][self.chance.below(5) as usize],
            checkpoint: [2, 10, 30, 100][self.chance.below(4) as usize],
            budget: [0, 4_000, 1 << 20][self.chance.below(3) as usize],
        };
        let decided = if Rule::NothingUnsaid.is_out() {
            Decided::default()
        } else {
            self.places[at].decided.clone()
        };
        match Owner::start(&*self.home.log(), kind, self.places[at].partition, manner, decided) {
            Ok(owner) => {
                self.places[at].new_has_run |= kind.version == self.places[at].kinds.1.version;
                if !self.places[at].owners.is_empty() {
                    self.coverage.hit("an owner paused while another took its place");
                }
                if owner.position() > 0 {
                    self.coverage.hit("an owner restored from a checkpoint");
                }
                self.note(&(3, at, owner.position()), || {
                    format!("place {at}: {} starts at {}", kind.place(), owner.position())
                });
                self.places[at].owners.push(owner);
                Ok(())
            }
            Err(error) => self.failed(&error),
        }
    }

    fn step(&mut self, at: usize, which: usize) -> Result<(), String> {
        let log = self.home.log();
        let place = &mut self.places[at];
        let youngest = which + 1 == place.owners.len();
        let owner = &mut place.owners[which];
        let (before, version) = (owner.position(), owner.kind.version);
        let did = owner.step(&*log, &self.catalogue, &mut self.chance);
        let after = owner.position();
        self.note(&(4, at, which, before, after), || {
            format!("place {at}: owner {which} (version {version}) goes {before}..{after}: {did:?}")
        });
        match did {
            Did::Worked { outputs } => {
                self.coverage.add("conclusions written", outputs as u64);
                if !youngest && outputs > 0 {
                    self.coverage.hit("an owner woke and went on writing");
                }
            }
            Did::Waits => self.coverage.hit("a new version waited for the old one"),
            Did::Idle => {}
            Did::Silent => return self.activate(at),
            Did::Superseded => {
                self.coverage.hit("an old version met its successor");
                let place = &mut self.places[at];
                place.old_is_done = true;
                place.owners.remove(which);
            }
            Did::Died(error) => {
                self.places[at].owners.remove(which);
                if matches!(error, LogError::Fenced) {
                    self.coverage.hit("an owner was fenced");
                } else {
                    self.coverage.hit("an owner crashed between two writes");
                }
                return self.failed(&error);
            }
        }
        Ok(())
    }

    /// The program is ended, whatever it had still to say, and only its successor is started ever after.
    fn cut_over(&mut self, at: usize) -> Result<(), String> {
        let (place, version) = (&self.places[at], self.places[at].kinds.1.version);
        if place.old_is_done || place.new_has_run {
            return Ok(());
        }
        let reached = wait(self.home.log().reached(place.kinds.0.output, place.partition));
        let from = match reached {
            Ok(reached) if reached.journal > 0 => reached.journal,
            Ok(_) => return Ok(()),
            Err(error) => return self.failed(&error),
        };
        self.note(&(5, at, from), || {
            format!("place {at}: version {version} takes over from {from} on")
        });
        self.coverage.hit("a new version spoke for one that was gone");
        let place = &mut self.places[at];
        place.owners.clear();
        place.old_is_done = true;
        place.decided.cutovers.insert(version, from);
        self.start(at)
    }

    /// A version that has caught up in silence takes the word.
    fn activate(&mut self, at: usize) -> Result<(), String> {
        let place = &self.places[at];
        let (name, version) = (SmolStr::new_static(place.kinds.1.name), place.kinds.1.version);
        let partition = place.partition;
        let now = self.world.now;
        let fact = self.world.house(
            Key::Nobody,
            now,
            Fact::ProcessorActivated(ProcessorActivated { name, version }),
        );
        self.coverage.hit("a new version took over");
        self.append(vec![(partition, fact)])
    }

    fn read(&mut self, at: usize) -> Result<(), String> {
        let records = 1 + self.chance.below(50) as usize;
        let reader = &mut self.places[at].reader;
        if let Err(error) = reader.follow(&*self.home.log(), &self.catalogue, records) {
            return self.failed(&error);
        }
        let (seen, looked) = (&reader.accepted, &mut self.looked[at]);
        seen.iter()
            .skip(*looked)
            .for_each(|accepted| self.doctor.look(accepted));
        *looked = seen.len().max(*looked);
        Ok(())
    }

    /// Nothing goes wrong any more: everyone comes to the end of the journal.
    fn drain(&mut self) -> Result<(), String> {
        for place in &mut self.places {
            place.owners.clear();
        }
        self.home.calm();
        for at in 0..self.places.len() {
            self.finish(at)?;
            let mut patience = PATIENCE;
            while !self.places[at]
                .reader
                .is_at_end(&*self.home.log())
                .map_err(|e| e.to_string())?
            {
                self.read(at)?;
                patience = patience.checked_sub(1).ok_or("a reader never comes to the end")?;
            }
        }
        Ok(())
    }

    /// The old version until it is superseded or has done everything, then the new one.
    fn finish(&mut self, at: usize) -> Result<(), String> {
        let (old, new) = self.places[at].kinds;
        for kind in [old, new] {
            let cut_over = !self.places[at].decided.cutovers.is_empty();
            let taken_over = cut_over || wait_for_activation(self, at, new)?;
            if kind.version == new.version && !taken_over {
                continue;
            }
            self.places[at].owners.clear();
            self.start_as(at, kind)?;
            let mut patience = PATIENCE;
            while let Some(owner) = self.places[at].owners.first_mut() {
                match owner.step(&*self.home.log(), &self.catalogue, &mut self.chance) {
                    Did::Worked { .. } => {}
                    Did::Idle | Did::Superseded => break,
                    other => return Err(format!("{} at the end: {other:?}", kind.place())),
                }
                patience = patience.checked_sub(1).ok_or("an owner never comes to the end")?;
            }
        }
        Ok(())
    }

    /// The whole journal of a partition, as recorded.
    pub(crate) fn journal(&self, partition: Partition) -> Result<Vec<Recorded>, String> {
        let log = self.home.log();
        let mut records = Vec::new();
        let mut from = 0;
        loop {
            let batch = wait(log.read(Topic::Journal, partition, from, Limit::default())).map_err(|e| e.to_string())?;
            let Some(next) = batch.next() else { return Ok(records) };
            records.extend_from_slice(batch.facts(&self.catalogue).map_err(|e| e.to_string())?);
            from = next;
        }
    }
}

/// Whether the journal says that the new version has taken over.
fn wait_for_activation(run: &Run, at: usize, new: Kind) -> Result<bool, String> {
    let journal = run.journal(run.places[at].partition)?;
    Ok(journal.iter().any(|record| {
        matches!(&record.envelope.fact, Fact::ProcessorActivated(it)
            if it.name == new.name && it.version == new.version)
    }))
}
