//! Recomputes what the journal implies and compares it with what was recorded: derived topics, then views.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use eventlog::{EventLog, Limit, Offset, Partition, Topic};
use processors::engine::erased::Kind;
use processors::engine::replay::{Found, Recompute, Verdict, Verify};
use processors::runner::{Decisions, read_decisions};
use projections::embedded::EmbeddedViews;
use projections::runner::{FOLLOWED, catch_up};
use projections::store::{Change, Progress, Scan, ViewError, ViewStore};
use projections::view::{Cell, Row, View};
use serde_json::{Value, json};

use super::bounded::Bounded;
use super::{House, Views};

/// Rows read at once.
const PAGE: usize = 1000;

impl House {
    /// `equal` is true only if everything recorded is what the journal implies.
    pub(super) async fn verify(&self) -> Result<Value, String> {
        let decisions = read_decisions(&*self.log, &self.catalogue)
            .await
            .map_err(|e| e.to_string())?;
        let (mut topics, mut equal) = (Vec::new(), true);
        for kind in processors::all() {
            let mut whole = Verdict::default();
            for partition in 0..self.log.layout().partitions {
                let verdict = self.verify_partition(&kind, partition, &decisions).await?;
                add(&mut whole, verdict);
            }
            equal &= whole.holds();
            topics.push(told(&kind, &whole));
        }
        let (views, same) = self.verify_views().await?;
        Ok(json!({"equal": equal && same, "topics": topics, "views": views}))
    }

    /// Compares one derived partition, as far as its processor has come.
    async fn verify_partition(
        &self,
        kind: &Kind,
        partition: Partition,
        decisions: &Decisions,
    ) -> Result<Verdict, String> {
        let reached = self
            .log
            .reached(kind.output, partition)
            .await
            .map_err(|e| e.to_string())?;
        let decided = decisions.of(kind.name, partition);
        let incarnation = self.log.layout().incarnation;
        let recompute = Recompute::new(kind, incarnation, partition, decided).map_err(|e| e.to_string())?;
        let mut comparing = Comparing {
            house: self,
            kind,
            partition,
            verify: Verify::new(recompute),
            derived: 0,
            derived_end: reached.end,
        };
        let mut from = 0;
        while from < reached.journal {
            let batch = self.read(Topic::Journal, partition, from).await?;
            let Some(next) = batch.next() else { break };
            let facts = batch.facts(&self.catalogue).map_err(|e| e.to_string())?;
            let upto = facts.partition_point(|fact| fact.offset < reached.journal);
            comparing
                .verify
                .journal(&facts[..upto])
                .map_err(|e| format!("{}/{partition}: {e}", kind.name))?;
            comparing.derived_up_to(next).await?;
            from = next;
        }
        comparing.derived_up_to(Offset::MAX).await?;
        Ok(comparing.verify.finish())
    }

    pub(super) async fn read(
        &self,
        topic: Topic,
        partition: Partition,
        from: Offset,
    ) -> Result<Arc<eventlog::Batch>, String> {
        let start = self
            .log
            .bounds(topic, partition)
            .await
            .map_err(|e| e.to_string())?
            .start;
        if from < start {
            return Err(format!(
                "{}/{partition} begins at {start}: what came before was let go of, so it cannot be computed again",
                topic.name()
            ));
        }
        self.log
            .read(topic, partition, from, Limit::default())
            .await
            .map_err(|e| e.to_string())
    }

    /// Makes the views a second time beside the first ones and compares row by row. Where a server runs, its projection
    /// rests for the last step.
    async fn verify_views(&self) -> Result<(Value, bool), String> {
        let views = match &self.served {
            Some(served) => served.views.clone(),
            None => self.open_views().await.map_err(|e| e.to_string())?,
        };
        let recorded = views.store();
        let beside = tempfile::Builder::new()
            .prefix("verify-")
            .tempdir_in(self.dir.path())
            .map_err(|e| format!("no room for a second set of views: {e}"))?;
        let again = EmbeddedViews::open(beside.path(), self.views_options).map_err(|e| e.to_string())?;
        let again = Arc::new(Noting::new(again));
        self.project_like(&*recorded, &again).await?;
        let _held = match &self.served {
            Some(served) => {
                let held = served.gate.hold().await;
                self.project_like(&*recorded, &again).await?;
                Some(held)
            }
            None => None,
        };
        let mut differing = BTreeMap::new();
        let (mut rows, mut first) = (0_u64, None);
        for (view, partition) in again.partitions() {
            let (n, parts) = compare(&*recorded, &*again.inner, view, &partition)
                .await
                .map_err(|e| e.to_string())?;
            rows += n;
            if parts > 0 {
                *differing.entry(view.name).or_insert(0_u64) += parts;
                first.get_or_insert_with(|| format!("{} {partition:?}", view.name));
            }
        }
        // Rows in partitions that the log never names are in neither comparison above: they are only seen by their number.
        // Nobody counts the rows of a database.
        let (there, due) = match &views {
            Views::Embedded(recorded) => (recorded.count().await, again.inner.count().await),
            Views::Database(_) => (Ok(BTreeMap::new()), Ok(BTreeMap::new())),
        };
        let (there, due) = (there.map_err(|e| e.to_string())?, due.map_err(|e| e.to_string())?);
        for (name, count) in there {
            let extra = count.abs_diff(due.get(name).copied().unwrap_or(0));
            if extra > 0 && !differing.contains_key(name) {
                differing.insert(name, extra);
                first.get_or_insert_with(|| format!("{name}: {extra} rows that the log does not imply"));
            }
        }
        let same = differing.is_empty();
        Ok((json!({"rows": rows, "differing": differing, "first": first}), same))
    }

    /// Projects into `again` exactly as far as `recorded` is.
    async fn project_like(&self, recorded: &dyn ViewStore, again: &Arc<Noting>) -> Result<(), String> {
        let mut ends = BTreeMap::new();
        for topic in FOLLOWED {
            for partition in 0..topic.partitions(self.log.layout().partitions) {
                let progress = recorded.progress(topic, partition).await.map_err(|e| e.to_string())?;
                ends.insert((topic, partition), progress.map_or(0, |p| p.next));
            }
        }
        let log: Arc<dyn EventLog> = Arc::new(Bounded::new(Arc::clone(&self.log), ends));
        let store: Arc<dyn ViewStore> = Arc::clone(again) as Arc<dyn ViewStore>;
        let options = projections::runner::Options {
            catalogue: Arc::clone(&self.catalogue),
            ..projections::runner::Options::default()
        };
        catch_up(log, store, options).await.map_err(|e| e.to_string())
    }
}

/// One derived partition under comparison.
struct Comparing<'a> {
    house: &'a House,
    kind: &'a Kind,
    partition: Partition,
    verify: Verify,
    derived: Offset,
    derived_end: Offset,
}

impl Comparing<'_> {
    /// Gives the comparison what was derived from before a journal offset (and at most a batch more).
    async fn derived_up_to(&mut self, journal: Offset) -> Result<(), String> {
        let mut origin = -1;
        while self.derived < self.derived_end && origin < journal {
            let batch = self.house.read(self.kind.output, self.partition, self.derived).await?;
            let Some(next) = batch.next() else { break };
            let records = batch.derived(&self.house.catalogue).map_err(|e| e.to_string())?;
            let mut entries = batch.entries().iter();
            for (offset, derived) in records {
                if offset >= self.derived_end {
                    break;
                }
                origin = derived.origin.offset;
                if let Some(entry) = entries.by_ref().find(|entry| entry.offset == offset) {
                    self.verify
                        .recorded(Found::new(self.kind, &derived, entry.value.clone()));
                }
            }
            self.derived = next;
        }
        Ok(())
    }
}

fn add(whole: &mut Verdict, part: Verdict) {
    whole.equal += part.equal;
    whole.missing += part.missing;
    whole.extra += part.extra;
    whole.different += part.different;
    whole.other_versions += part.other_versions;
    whole.spoken_for += part.spoken_for;
    whole.repeats += part.repeats;
    if whole.first.is_none() {
        whole.first = part.first;
    }
}

fn told(kind: &Kind, verdict: &Verdict) -> Value {
    let first = verdict
        .first
        .as_ref()
        .map(|o| format!("offset {} key {} n {}", o.offset, o.key, o.n));
    json!({
        "topic": kind.output.name(), "processor": kind.name, "version": kind.version,
        "equal": verdict.equal, "missing": verdict.missing, "extra": verdict.extra, "different": verdict.different,
        "other_versions": verdict.other_versions, "spoken_for": verdict.spoken_for, "repeats": verdict.repeats, "first": first,
    })
}

/// Rows compared and rows that differ, of one partition of a view.
async fn compare(
    one: &dyn ViewStore,
    other: &dyn ViewStore,
    view: &'static View,
    partition: &[Cell],
) -> Result<(u64, u64), ViewError> {
    let (ours, theirs) = (rows(one, view, partition).await?, rows(other, view, partition).await?);
    let mut differing = ours.len().abs_diff(theirs.len()) as u64;
    differing += ours.iter().zip(&theirs).filter(|(a, b)| a != b).count() as u64;
    Ok((theirs.len() as u64, differing))
}

async fn rows(store: &dyn ViewStore, view: &'static View, partition: &[Cell]) -> Result<Vec<Row>, ViewError> {
    use std::ops::Bound;
    let mut all: Vec<Row> = Vec::new();
    loop {
        let mut scan = Scan::of(partition.to_vec(), PAGE);
        if let Some(last) = all.last() {
            scan = scan.from(Bound::Excluded(last.key[view.partition.len()..].to_vec()));
        }
        let page = store.scan(view, scan).await?;
        let whole = page.len() < PAGE || view.clustering.is_empty();
        all.extend(page);
        if whole {
            return Ok(all);
        }
    }
}

/// A partition of a view.
type Part = (&'static View, Vec<Cell>);

/// A store that notes which partitions of views were written.
#[derive(Debug)]
struct Noting {
    inner: Arc<EmbeddedViews>,
    written: Mutex<BTreeMap<Vec<u8>, Part>>,
}

impl Noting {
    fn new(inner: Arc<EmbeddedViews>) -> Self {
        Self {
            inner,
            written: Mutex::default(),
        }
    }

    fn partitions(&self) -> Vec<Part> {
        let written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        written.values().cloned().collect()
    }
}

#[async_trait]
impl ViewStore for Noting {
    async fn apply(&self, changes: &[Change], progress: Option<&Progress>) -> Result<(), ViewError> {
        {
            let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
            let mut key = Vec::new();
            for change in changes {
                let cells = &change.key[..change.view.partition.len()];
                key.clear();
                key.extend_from_slice(change.view.name.as_bytes());
                key.push(0);
                // Cells that do not fit their view are refused by the store itself.
                let _ = projections::key::write_cells(cells, change.view.partition, &mut key);
                if !written.contains_key(&key) {
                    written.insert(key.clone(), (change.view, cells.to_vec()));
                }
            }
        }
        self.inner.apply(changes, progress).await
    }

    async fn progress(&self, topic: Topic, partition: Partition) -> Result<Option<Progress>, ViewError> {
        self.inner.progress(topic, partition).await
    }

    async fn get(&self, view: &'static View, key: &[Cell]) -> Result<Option<Row>, ViewError> {
        self.inner.get(view, key).await
    }

    async fn scan(&self, view: &'static View, scan: Scan) -> Result<Vec<Row>, ViewError> {
        self.inner.scan(view, scan).await
    }
}
