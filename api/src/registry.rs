//! The registry: who is registered, checked and put into the journal by one writer at a time.
//!
//! What is checked (the revision a change goes by, that an id is new, that no other sensor has an address) is read from
//! the views. They are a few milliseconds behind the journal, so whoever writes under a key or address that was written
//! just now waits until the views show it. The lock is this process's own: where several processes write to one log,
//! each waits until the views show all that the journal had when it was asked, so what somebody was answered counts for
//! everybody who asks later. Two changes that are on their way at the same moment may both be taken (the later in the
//! journal stands, the other stays in its history), and two sensors be given one address: `docs/registry.md` says so.

use std::collections::hash_map::Entry as Slot;
use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use eventlog::{Append, Clock, EventLog, Partition, Topic};
use futures::future::try_join_all;
use projections::query::{self, Registered};
use projections::store::ViewStore;
use schemas::ids::Key;
use schemas::journal::Fact;
use schemas::partition;
use schemas::registry::{Record, Register};
use schemas::time::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use smol_str::{SmolStr, format_smolstr};
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout_at};

use crate::command;
use crate::problem::Problem;
use crate::read_after::{Position, projected};

/// The longest wait for the views to show what was written under a key.
const PATIENCE: Duration = Duration::from_secs(5);
/// The longest wait for them after a start: they may have much to take in.
const PATIENCE_AT_START: Duration = Duration::from_secs(30);
/// Places remembered before those that the views show are forgotten.
const REMEMBERED: usize = 16_384;

/// The registry of a log.
#[derive(Debug)]
pub struct Registry {
    log: Arc<dyn EventLog>,
    views: Arc<dyn ViewStore>,
    clock: Arc<dyn Clock>,
    /// Whether other processes may write to the log.
    shared: bool,
    written: Mutex<Option<Written>>,
}

/// Where keys and addresses were written last.
type Written = HashMap<SmolStr, Position>;

/// What a change goes by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Condition {
    /// Nothing.
    Any,
    /// There is no registration.
    New,
    /// There is one.
    There,
    /// It is of this revision.
    Revision(i32),
    /// It is of a revision that never was.
    Never,
}

/// What is to become of a registration.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Wish {
    /// It begins.
    Create(Record),
    /// It is this from now on, whatever it was.
    Replace(Record),
    /// These fields of it change, the others stay.
    Merge(Map<String, Value>),
    /// It ends.
    End,
}

/// A registration that was put into the journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Recorded {
    pub(crate) revision: i32,
    pub(crate) position: Position,
}

/// What came of rows that were imported.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Imported {
    /// Registrations that began.
    pub created: usize,
    /// Registrations that changed.
    pub changed: usize,
    /// Rows that say what is registered already.
    pub unchanged: usize,
    /// Rows that were not taken.
    pub refused: Vec<RefusedRow>,
}

/// A row that was not taken, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedRow {
    /// Which: counted from 0 in what was sent.
    pub row: usize,
    /// The field at fault, where it is one.
    pub field: Option<String>,
    /// Stable, for programs.
    pub code: String,
    /// What is wrong, in English.
    pub detail: String,
    /// The same in French.
    pub detail_fr: String,
}

impl RefusedRow {
    /// A row with what is wrong with it.
    #[must_use]
    pub fn new(row: usize, problem: &Problem) -> Self {
        let body = problem.body();
        Self {
            row,
            field: body.field,
            code: body.code.to_owned(),
            detail: body.detail,
            detail_fr: body.detail_fr,
        }
    }
}

/// A decision: what the registration is from now on.
struct Next {
    record: Record,
    revision: i32,
    ended: bool,
}

impl Registry {
    /// The registry of a log and its views; `shared` where other processes may write to the log.
    #[must_use]
    pub fn new(log: Arc<dyn EventLog>, views: Arc<dyn ViewStore>, clock: Arc<dyn Clock>, shared: bool) -> Arc<Self> {
        Arc::new(Self {
            log,
            views,
            clock,
            shared,
            written: Mutex::default(),
        })
    }

    /// Changes one registration; returns once it is durable.
    pub(crate) async fn record(
        &self,
        key: Key,
        wish: Wish,
        condition: Condition,
        by: SmolStr,
    ) -> Result<Recorded, Problem> {
        let mut guard = self.written.lock().await;
        let written = self.begun(&mut guard).await?;
        self.told(Some(&key)).await?;
        let now = self.clock.now();
        let current = self.current(written, &key).await?;
        let next = decide(&key, current.as_ref(), wish, condition, now)?.ok_or(Problem::Internal)?;
        self.check_address(written, &key, &next).await?;
        let revision = next.revision;
        let positions = self.append(written, vec![(key, next)], &by, now).await?;
        let position = positions.first().copied().ok_or(Problem::Internal)?;
        Ok(Recorded { revision, position })
    }

    /// Registers what rows say: fields of each with its `id`; a field that is not there stays as it is registered. Rows
    /// that cannot be taken are named and the others taken; with `dry_run` nothing is.
    ///
    /// # Errors
    /// [`Problem`] where the log or the views cannot be used: send the same rows again.
    pub async fn import(
        &self,
        register: Register,
        rows: Vec<Map<String, Value>>,
        by: &str,
        dry_run: bool,
    ) -> Result<Imported, Problem> {
        let mut guard = self.written.lock().await;
        let written = self.begun(&mut guard).await?;
        self.told(None).await?;
        let now = self.clock.now();
        let mut imported = Imported::default();
        let mut taken: Vec<(Key, Next)> = Vec::with_capacity(rows.len());
        let mut seen: HashSet<SmolStr> = HashSet::with_capacity(2 * rows.len());
        for (row, fields) in rows.into_iter().enumerate() {
            match self.judge(written, &mut seen, register, fields, now).await {
                Ok(None) => imported.unchanged += 1,
                Ok(Some((key, next))) => {
                    if next.revision == 1 {
                        imported.created += 1;
                    } else {
                        imported.changed += 1;
                    }
                    taken.push((key, next));
                }
                Err(failed @ (Problem::NotYet | Problem::Unavailable | Problem::Full | Problem::Internal)) => {
                    return Err(failed);
                }
                Err(problem) => imported.refused.push(RefusedRow::new(row, &problem)),
            }
        }
        if !dry_run && !taken.is_empty() {
            self.append(written, taken, &SmolStr::new(by), now).await?;
        }
        Ok(imported)
    }

    /// What a row changes; `None` where it says what is registered already.
    async fn judge(
        &self,
        written: &Written,
        seen: &mut HashSet<SmolStr>,
        register: Register,
        mut fields: Map<String, Value>,
        now: Timestamp,
    ) -> Result<Option<(Key, Next)>, Problem> {
        let key = key_in(register, &mut fields)?;
        if !seen.insert(key.text()) {
            return Err(Problem::Repeated { field: "id" });
        }
        let current = self.current(written, &key).await?;
        let says_address = fields.contains_key("mac_address");
        let next = decide(&key, current.as_ref(), Wish::Merge(fields), Condition::Any, now)?;
        let record = next.as_ref().map(|next| &next.record);
        let record = record.or_else(|| current.as_ref().map(|current| &current.record));
        if says_address
            && let Some(mac) = record.and_then(Record::mac_address)
            && !seen.insert(address(mac))
        {
            return Err(Problem::Repeated { field: "mac_address" });
        }
        let Some(next) = next else { return Ok(None) };
        self.check_address(written, &key, &next).await?;
        Ok(Some((key, next)))
    }

    /// Before the first change the views must show all that was recorded before this process started.
    async fn begun<'a>(&self, written: &'a mut Option<Written>) -> Result<&'a mut Written, Problem> {
        if written.is_none() {
            self.shown_whole(0..self.log.layout().partitions, PATIENCE_AT_START)
                .await?;
        }
        Ok(written.get_or_insert_default())
    }

    /// What other processes have written until now counts: about a key, or about everybody.
    async fn told(&self, key: Option<&Key>) -> Result<(), Problem> {
        if !self.shared {
            return Ok(());
        }
        let partitions = self.log.layout().partitions;
        match key {
            // The holder of an address may be in any of them.
            Some(key) if Register::of(key).is_some_and(|(register, _)| register != Register::Sensors) => {
                let own = partition::of(key, partitions);
                self.shown_whole(own..own.saturating_add(1), PATIENCE).await
            }
            _ => self.shown_whole(0..partitions, PATIENCE).await,
        }
    }

    /// Waits until the views show all that these partitions of the journal have now.
    async fn shown_whole(&self, partitions: Range<Partition>, patience: Duration) -> Result<(), Problem> {
        let deadline = Instant::now() + patience;
        let shown = partitions.map(async |partition| {
            let bounds = self.log.bounds(Topic::Journal, partition);
            let end = timeout_at(deadline, bounds).await.map_err(|_| Problem::NotYet)??.end;
            projected(&*self.views, Topic::Journal, partition, end, deadline).await
        });
        try_join_all(shown).await.map(drop)
    }

    /// The registration under a key, as the journal has it now.
    async fn current(&self, written: &Written, key: &Key) -> Result<Option<Registered>, Problem> {
        self.shown(written, &key.text()).await?;
        Ok(query::registered(&*self.views, key).await?)
    }

    /// No other sensor is registered with the address.
    async fn check_address(&self, written: &Written, key: &Key, next: &Next) -> Result<(), Problem> {
        let (Some(mac), false) = (next.record.mac_address(), next.ended) else {
            return Ok(());
        };
        self.shown(written, &address(mac)).await?;
        let own = Register::of(key).map(|(_, id)| id);
        for other in query::holders(&*self.views, mac).await? {
            // It may have been given another address just now.
            if Some(&other) != own.as_ref()
                && let Ok(other) = Register::Sensors.key(&other)
                && let Some(now) = self.current(written, &other).await?
                && !now.ended
                && now.record.mac_address() == Some(mac)
            {
                return Err(Problem::AddressTaken);
            }
        }
        Ok(())
    }

    /// Waits until the views show what was written under a name.
    async fn shown(&self, written: &Written, name: &SmolStr) -> Result<(), Problem> {
        let Some(at) = written.get(name) else { return Ok(()) };
        let deadline = Instant::now() + PATIENCE;
        projected(&*self.views, Topic::Journal, at.partition, at.offset + 1, deadline).await
    }

    async fn append(
        &self,
        written: &mut Written,
        taken: Vec<(Key, Next)>,
        by: &SmolStr,
        now: Timestamp,
    ) -> Result<Vec<Position>, Problem> {
        let partitions = self.log.layout().partitions;
        let mut appends: Vec<Append> = Vec::with_capacity(taken.len());
        let mut names: Vec<(SmolStr, Option<SmolStr>)> = Vec::with_capacity(taken.len());
        for (key, next) in taken {
            names.push((key.text(), next.record.mac_address().map(address)));
            let fact: Fact = next.record.recorded(next.revision, next.ended, by.clone());
            appends.push(command::append(key, fact, now, partitions));
        }
        let places: Vec<u16> = appends.iter().map(|append| append.partition).collect();
        let offsets = self.log.append(Topic::Journal, appends).await?;
        let positions: Vec<Position> = places
            .into_iter()
            .zip(offsets)
            .map(|(partition, offset)| Position { partition, offset })
            .collect();
        for ((name, address), position) in names.into_iter().zip(&positions) {
            written.insert(name, *position);
            if let Some(address) = address {
                written.insert(address, *position);
            }
        }
        self.forget(written).await?;
        Ok(positions)
    }

    /// Forgets what the views show.
    async fn forget(&self, written: &mut Written) -> Result<(), Problem> {
        if written.len() < REMEMBERED {
            return Ok(());
        }
        let mut shown: HashMap<u16, i64> = HashMap::new();
        for partition in written.values().map(|at| at.partition) {
            if let Slot::Vacant(slot) = shown.entry(partition) {
                let progress = self.views.progress(Topic::Journal, partition).await?;
                slot.insert(progress.map_or(0, |p| p.next));
            }
        }
        written.retain(|_, at| shown.get(&at.partition).is_none_or(|next| at.offset >= *next));
        Ok(())
    }
}

/// Under this name stands where an address was written last. No key has a blank in it.
fn address(mac: &SmolStr) -> SmolStr {
    format_smolstr!("mac {mac}")
}

/// Takes the id out of the fields of a registration.
pub(crate) fn key_in(register: Register, fields: &mut Map<String, Value>) -> Result<Key, Problem> {
    let id = fields.remove("id").unwrap_or_default();
    let id = id.as_str().map(str::trim).filter(|id| !id.is_empty());
    let id = id.ok_or_else(|| Problem::invalid("id", "this field is needed", "ce champ est requis"))?;
    register.key(id).map_err(|e| {
        Problem::invalid(
            "id",
            e.to_string(),
            "un id a de 1 à 64 caractères parmi A-Z a-z 0-9 . _ : -",
        )
    })
}

/// What a wish makes of a registration; `None` where it changes nothing.
fn decide(
    key: &Key,
    current: Option<&Registered>,
    wish: Wish,
    condition: Condition,
    now: Timestamp,
) -> Result<Option<Next>, Problem> {
    let met = match condition {
        Condition::Any => true,
        Condition::New => current.is_none(),
        Condition::There => current.is_some(),
        Condition::Revision(revision) => current.is_some_and(|c| c.revision == revision),
        Condition::Never => false,
    };
    if !met {
        return Err(Problem::Changed);
    }
    let revision = current.map_or(0, |c| c.revision).saturating_add(1);
    let next = |record, ended| {
        Ok(Some(Next {
            record,
            revision,
            ended,
        }))
    };
    match (wish, current) {
        (Wish::Create(record), None) | (Wish::Replace(record), _) => next(record, false),
        (Wish::Create(_), Some(current)) if !current.ended => Err(Problem::Exists),
        (Wish::Create(_) | Wish::Merge(_) | Wish::End, Some(current)) if current.ended => Err(Problem::Ended),
        (Wish::Create(_), Some(_)) => Err(Problem::Exists),
        (Wish::Merge(fields), current) => {
            let (register, _) = Register::of(key).ok_or(Problem::Internal)?;
            let mut all = current.map(|c| c.record.to_json()).unwrap_or_default();
            all.extend(fields);
            let record = Record::from_json(register, &all, now)?;
            if current.is_some_and(|c| c.record == record) {
                return Ok(None);
            }
            next(record, false)
        }
        (Wish::End, Some(current)) => next(current.record.clone(), true),
        (Wish::End, None) => Err(Problem::NotFound),
    }
}
