//! What stands behind every door: verdicts go into the log, and nothing is answered before all of it is durable.

mod memory;
mod pace;
mod past;
mod recall;
mod receipt;
mod traffic;
mod writing;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use eventlog::{Append, Clock, EventLog, LogError, Offset, Partition, Topic};
use schemas::codec::Catalogue;
use schemas::facts::Door;
use schemas::ids::Key;
use schemas::journal::{Envelope, Fact};
use schemas::policy::Policy;
use schemas::refused::Rejection;
use tokio::sync::{Semaphore, SemaphorePermit, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use crate::accept::{self, Bounds, Context, Outcome, Rules, Verdict};
use crate::clocks::Clocks;
use crate::metrics;
use crate::roster::Roster;
use memory::{Known, Memory, Seen};
use pace::Pace;
pub use receipt::{Position, Receipt, Status, Tally};
pub use traffic::DoorTraffic;
use traffic::Traffic;

/// Where doors read what they go by: the newest policy in force. Whoever composes the process sends changes into it.
pub type PolicyInForce = watch::Receiver<Arc<Policy>>;

/// Bounds of the intake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of encoded records on their way into the log, over all doors; beyond it senders wait.
    pub bytes_in_flight: usize,
    /// Ids remembered to recognise what was just sent twice (about 60 bytes each).
    pub recent_ids: usize,
    /// So many of the journal's newest records are looked through at start for what counting devices have said.
    pub recalled_records: usize,
    /// Bytes of one refused message that are kept where the log takes no more.
    pub rejected_bytes: usize,
    /// Records of one partition that may wait to be evaluated before senders wait for processors; 0 for any number.
    pub behind_records: usize,
    /// Records of the past that are taken while something live comes, a second and core; 0 for any number.
    pub past_rate: usize,
    /// How long a message waits for processors at most.
    pub held_at_most: Duration,
    /// How large records may be.
    pub bounds: Bounds,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            bytes_in_flight: 64 << 20,
            recent_ids: 1 << 18,
            recalled_records: 1 << 20,
            rejected_bytes: 512 << 10,
            behind_records: 4096,
            past_rate: 500,
            held_at_most: Duration::from_secs(30),
            bounds: Bounds::default(),
        }
    }
}

/// Permits of the semaphore stand for so many bytes each.
const PERMIT: usize = 1 << 10;

/// The intake of one process: shared by all its doors.
#[derive(Debug)]
pub struct Intake {
    log: Arc<dyn EventLog>,
    clock: Arc<dyn Clock>,
    clocks: Arc<Clocks>,
    policy: PolicyInForce,
    roster: Arc<Roster>,
    catalogue: Arc<Catalogue>,
    limits: Limits,
    memory: Memory,
    room: Semaphore,
    pace: Pace,
    traffic: Traffic,
}

impl Intake {
    /// An intake that appends to `log` and reads what this build knows.
    #[must_use]
    pub fn new(
        log: Arc<dyn EventLog>,
        clock: Arc<dyn Clock>,
        policy: PolicyInForce,
        roster: Arc<Roster>,
        limits: Limits,
    ) -> Arc<Self> {
        Self::learning(log, (clock, Arc::default()), policy, roster, limits, Arc::default())
    }

    /// The same, reading what `catalogue` knows or learns, as long as `clocks` says that the clock can be gone by.
    #[must_use]
    pub fn learning(
        log: Arc<dyn EventLog>,
        (clock, clocks): (Arc<dyn Clock>, Arc<Clocks>),
        policy: PolicyInForce,
        roster: Arc<Roster>,
        limits: Limits,
        catalogue: Arc<Catalogue>,
    ) -> Arc<Self> {
        metrics::describe();
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Arc::new(Self {
            clock,
            clocks,
            policy,
            roster,
            catalogue,
            memory: Memory::new(limits.recent_ids),
            room: Semaphore::new((limits.bytes_in_flight / PERMIT).clamp(1, Semaphore::MAX_PERMITS)),
            pace: Pace::new(
                log.layout().partitions,
                limits.behind_records,
                limits.past_rate.saturating_mul(cores),
                limits.held_at_most,
            ),
            log,
            limits,
            traffic: Traffic::default(),
        })
    }

    /// The schemas that are known here.
    #[must_use]
    pub const fn catalogue(&self) -> &Arc<Catalogue> {
        &self.catalogue
    }

    /// The clock that stamps arrivals.
    #[must_use]
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    /// How that clock compares with the log's.
    #[must_use]
    pub const fn clocks(&self) -> &Arc<Clocks> {
        &self.clocks
    }

    /// Why nothing can be judged now, where it cannot: our clock is too far from the log's, and what is measured now would
    /// look as if it were not. Whoever sends is to go elsewhere, or to come again.
    #[must_use]
    pub fn hindrance(&self) -> Option<String> {
        self.clocks.hindrance(self.clock.now(), &self.policy.borrow())
    }

    /// The bounds it goes by.
    #[must_use]
    pub const fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Partitions of the journal.
    #[must_use]
    pub fn partitions(&self) -> u16 {
        self.log.layout().partitions
    }

    /// The policy in force.
    #[must_use]
    pub fn policy(&self) -> Arc<Policy> {
        Arc::clone(&self.policy.borrow())
    }

    /// Judges a message by the policy in force; appends nothing.
    #[must_use]
    pub fn judge(&self, bytes: &Bytes, context: &Context<'_>) -> Vec<Verdict> {
        self.traffic.arrived(context.door, bytes.len());
        self.judge_again(bytes, context)
    }

    /// The same of what has arrived before.
    #[must_use]
    pub fn judge_again(&self, bytes: &Bytes, context: &Context<'_>) -> Vec<Verdict> {
        let policy = self.policy();
        let rules = Rules {
            policy: &policy,
            catalogue: &self.catalogue,
            roster: &self.roster,
            bounds: self.limits.bounds,
        };
        accept::accept(bytes, context, &rules)
    }

    /// Judges a message and makes it durable, the refused as well.
    ///
    /// # Errors
    /// As [`submit`](Self::submit).
    pub async fn take(&self, bytes: &Bytes, context: &Context<'_>) -> Result<Vec<Receipt>, LogError> {
        self.submit(self.judge(bytes, context)).await
    }

    /// Makes verdicts durable: facts in the journal, refusals in `fajma.rejected`, each with one append. Returns one
    /// receipt per record (verdicts with one index are one record), in order, once everything is durable. What this
    /// process has just taken is answered `duplicate` and not appended again. Waits while too much is on its way.
    ///
    /// # Errors
    /// Nothing may be acknowledged. [`LogError::Unavailable`]: send again later (also where there is a
    /// [`hindrance`](Self::hindrance): then nothing is appended). [`LogError::Full`]: the house has no room. Some of it may be durable all the same; a repeat finds the same ids.
    pub async fn submit(&self, verdicts: Vec<Verdict>) -> Result<Vec<Receipt>, LogError> {
        let span = tracing::debug_span!(
            "message",
            first = verdicts.iter().find_map(first_id).map(tracing::field::display)
        );
        self.make_durable(verdicts).instrument(span).await
    }

    /// Looks how far processors are, so that doors go no faster, until `stop`. Where nobody looks, nobody is held.
    pub async fn keep_pace(&self, stop: CancellationToken) {
        self.pace.follow(&*self.log, stop).await;
    }

    /// What came through each door since the process started.
    #[must_use]
    pub fn traffic(&self) -> Vec<DoorTraffic> {
        self.traffic.read()
    }

    async fn make_durable(&self, verdicts: Vec<Verdict>) -> Result<Vec<Receipt>, LogError> {
        if let Some(why) = self.hindrance() {
            metrics::hindered();
            return Err(LogError::Unavailable(why));
        }
        let began = Instant::now();
        let Some(door) = verdicts.first().map(door_of) else {
            return Ok(Vec::new());
        };
        let (mut facts, refused, mut receipts) = sort(verdicts, self.log.layout().partitions);
        let (mut rejected, mut refused_bytes) = writing::rejections(&refused, self.log.layout().partitions, usize::MAX);
        let pages = pace::pages(&self.policy.borrow());
        for (urgency, piece) in self.pace.pieces(&mut facts, pages) {
            let _pace = self.pace.admit(per_partition(piece), urgency, began).await;
            let encoded = writing::facts(piece);
            let _room = self.room_for(encoded + std::mem::take(&mut refused_bytes)).await?;
            let rejected = std::mem::take(&mut rejected);
            tokio::try_join!(self.append_facts(piece), self.append_refused(rejected, &refused))?;
            for fact in &*piece {
                if let Known::Appended(position) = fact.known {
                    self.pace.landed(position.partition, position.offset);
                    nobodys_alarm(&fact.envelope);
                }
            }
        }
        for fact in facts {
            receipt::fold(&mut receipts, fact);
        }
        self.traffic.answered(door, &receipts);
        metrics::answered(door, &receipts, began.elapsed());
        Ok(receipts)
    }

    /// Waits for room for so many bytes; a message larger than the whole room has it to itself.
    async fn room_for(&self, bytes: usize) -> Result<SemaphorePermit<'_>, LogError> {
        let all = (self.limits.bytes_in_flight / PERMIT).max(1);
        let permits = u32::try_from(bytes.div_ceil(PERMIT).clamp(1, all)).unwrap_or(u32::MAX);
        if let Ok(permit) = self.room.try_acquire_many(permits) {
            return Ok(permit);
        }
        metrics::waited();
        let closed = |_| LogError::Unavailable("the intake is closed".to_owned());
        self.room.acquire_many(permits).await.map_err(closed)
    }

    /// Appends what is not known yet, and waits for what others are just appending.
    async fn append_facts(&self, facts: &mut [Pending]) -> Result<(), LogError> {
        loop {
            let Seen { mine, mut others } = self.memory.look(facts);
            if let Some(flight) = mine {
                let appends: Vec<Append> = facts.iter().filter_map(Pending::to_append).collect();
                let offsets = self.log.append(Topic::Journal, appends).await?;
                landed(facts, &offsets)?;
                flight.land(facts);
            } else if others.is_empty() {
                settle_repeats(facts);
                return Ok(());
            }
            for other in &mut others {
                // Either way it is over: look again whether it is durable or mine to append.
                let _ = other.wait_for(|over| *over).await;
            }
        }
    }

    async fn append_refused(&self, appends: Vec<Append>, refused: &[Rejection]) -> Result<(), LogError> {
        if appends.is_empty() {
            return Ok(());
        }
        match self.log.append(Topic::Rejected, appends).await {
            Err(LogError::TooLarge { .. }) => {
                // Better the beginning of a monster than a device that sends it for ever.
                tracing::warn!(
                    limit = self.limits.rejected_bytes,
                    "a refused message was larger than the log takes: cut"
                );
                let partitions = self.log.layout().partitions;
                let (cut, _) = writing::rejections(refused, partitions, self.limits.rejected_bytes);
                self.log.append(Topic::Rejected, cut).await.map(drop)
            }
            other => other.map(drop),
        }
    }
}

/// A fact on its way.
#[derive(Debug)]
struct Pending {
    /// Place of its record among the receipts.
    receipt: usize,
    envelope: Envelope,
    partition: u16,
    /// Key and value of the record, slices of one buffer.
    key: Bytes,
    value: Bytes,
    known: Known,
}

impl Pending {
    fn to_append(&self) -> Option<Append> {
        matches!(self.known, Known::Mine).then(|| Append {
            partition: self.partition,
            key: self.key.clone(),
            value: self.value.clone(),
        })
    }
}

/// A clinical alarm of a sensor that nobody is said to wear is no care team's: whoever runs the house has to hear of it.
fn nobodys_alarm(envelope: &Envelope) {
    if let (Key::Sensor(sensor), Fact::DeviceAlarm(alarm)) = (&envelope.key, &envelope.fact)
        && alarm.code.is_clinical()
    {
        metrics::nobodys_alarm(alarm.code);
        tracing::warn!(%sensor, code = %alarm.code, "a clinical alarm of a sensor that nobody is said to wear");
    }
}

fn first_id(verdict: &Verdict) -> Option<schemas::ids::EventId> {
    match &verdict.outcome {
        Outcome::Fact(envelope) => Some(envelope.id),
        Outcome::Refused(rejection) => Some(rejection.id),
    }
}

fn door_of(verdict: &Verdict) -> Door {
    match &verdict.outcome {
        Outcome::Refused(rejection) => rejection.door,
        Outcome::Fact(envelope) => match &envelope.fact {
            Fact::DeviceAlarm(alarm) => alarm.door,
            Fact::SensorStatus(status) => status.door,
            Fact::Reading(reading) => reading.door,
            _ => Door::Http,
        },
    }
}

/// Facts, refusals, and one receipt per record, in order.
fn sort(verdicts: Vec<Verdict>, partitions: u16) -> (Vec<Pending>, Vec<Rejection>, Vec<Receipt>) {
    let mut facts = Vec::with_capacity(verdicts.len());
    let mut refused = Vec::new();
    let mut receipts: Vec<Receipt> = Vec::with_capacity(verdicts.len());
    let mut last: Option<(schemas::ids::Key, u16)> = None;
    for Verdict { index, outcome } in verdicts {
        if receipts.last().is_none_or(|r| r.index != index) {
            receipts.push(Receipt::new(index));
        }
        let receipt = receipts.len() - 1;
        match outcome {
            Outcome::Fact(envelope) => {
                let partition = match &last {
                    Some((key, partition)) if *key == envelope.key => *partition,
                    _ => {
                        let partition = schemas::partition::of(&envelope.key, partitions);
                        last = Some((envelope.key.clone(), partition));
                        partition
                    }
                };
                facts.push(Pending {
                    receipt,
                    envelope,
                    partition,
                    key: Bytes::new(),
                    value: Bytes::new(),
                    known: Known::NotYet,
                });
            }
            Outcome::Refused(rejection) => {
                receipts[receipt].refuse(&rejection);
                refused.push(*rejection);
            }
        }
    }
    (facts, refused, receipts)
}

/// How many records each partition gets, in order of partitions.
fn per_partition(facts: &[Pending]) -> Vec<(Partition, usize)> {
    let mut records: Vec<(Partition, usize)> = Vec::new();
    for fact in facts {
        match records.binary_search_by_key(&fact.partition, |r| r.0) {
            Ok(at) => records[at].1 += 1,
            Err(at) => records.insert(at, (fact.partition, 1)),
        }
    }
    records
}

/// Gives facts that repeat another of the same message that one's place.
fn settle_repeats(facts: &mut [Pending]) {
    for at in 0..facts.len() {
        if let Known::SameAs(place) = facts[at].known
            && let Some(Known::Appended(position)) = facts.get(place).map(|f| f.known)
        {
            facts[at].known = Known::Durable(position);
        }
    }
}

/// Gives each appended fact its place.
fn landed(facts: &mut [Pending], offsets: &[Offset]) -> Result<(), LogError> {
    let mut offsets = offsets.iter();
    for fact in facts.iter_mut().filter(|f| matches!(f.known, Known::Mine)) {
        let Some(offset) = offsets.next() else {
            return Err(LogError::Corrupt(
                "the log answered with fewer offsets than records".to_owned(),
            ));
        };
        let position = Position {
            partition: fact.partition,
            offset: *offset,
        };
        fact.known = Known::Appended(position);
        tracing::debug!(id = %fact.envelope.id, %position, "durable");
    }
    Ok(())
}
