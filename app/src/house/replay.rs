//! Rebuilds windows, alerts and views from the journal, in a place of its own: an auditor's second opinion.
//!
//! In `into` afterwards: `views` (a store like the server's) and one file of JSON lines per derived topic.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::Arc;

use eventlog::{Offset, Output, Partition, Topic};
use processors::engine::erased::Kind;
use processors::engine::replay::Recompute;
use processors::runner::{Decisions, read_decisions};
use projections::embedded::EmbeddedViews;
use projections::store::{Change, ViewStore};
use projections::views;
use schemas::codec;
use schemas::derived::{Derived, Outcome};
use schemas::ids::Key;
use schemas::journal::Recorded;
use serde_json::{Value, json};

use super::House;
use crate::control::Replay;

/// What a replay writes to.
struct Place {
    views: Arc<EmbeddedViews>,
    files: BTreeMap<Topic, BufWriter<File>>,
    records: BTreeMap<&'static str, u64>,
    facts: u64,
}

impl House {
    pub(super) async fn replay(&self, what: Replay) -> Result<Value, String> {
        empty(&what.into)?;
        let mut place = Place::new(&what.into, self)?;
        let decisions = read_decisions(&*self.log, &self.catalogue)
            .await
            .map_err(|e| e.to_string())?;
        for partition in 0..self.log.layout().partitions {
            if let Some(patient) = &what.patient
                && schemas::partition::of(&Key::Patient(patient.clone()), self.log.layout().partitions) != partition
            {
                continue;
            }
            self.replay_partition(&what, partition, &decisions, &mut place).await?;
        }
        place.finish()?;
        Ok(json!({"into": what.into, "facts": place.facts, "derived": place.records}))
    }

    async fn replay_partition(
        &self,
        what: &Replay,
        partition: Partition,
        decisions: &Decisions,
        place: &mut Place,
    ) -> Result<(), String> {
        let offset_at = async |at| match at {
            Some(at) => self
                .log
                .offset_at(Topic::Journal, partition, at)
                .await
                .map(Some)
                .map_err(|e| e.to_string()),
            None => Ok(None),
        };
        let first = offset_at(what.from).await?.unwrap_or(0);
        let bounds = self
            .log
            .bounds(Topic::Journal, partition)
            .await
            .map_err(|e| e.to_string())?;
        let end = offset_at(what.until).await?.unwrap_or(bounds.end);
        let mut computing = Vec::new();
        for kind in processors::all() {
            let decided = decisions.of(kind.name, partition);
            let incarnation = self.log.layout().incarnation;
            computing.push((
                kind,
                Recompute::new(&kind, incarnation, partition, decided).map_err(|e| e.to_string())?,
            ));
        }
        // States come from everything before `first` too: only what follows from there on is written.
        let mut from = 0;
        while from < end {
            let batch = self.read(Topic::Journal, partition, from).await?;
            let Some(next) = batch.next() else { break };
            let facts = batch.facts(&self.catalogue).map_err(|e| e.to_string())?;
            let facts = chosen(facts, what, end);
            for (kind, recompute) in &mut computing {
                let outputs = recompute
                    .feed(&facts)
                    .map_err(|e| format!("{}/{partition}: {e}", kind.name))?;
                place.take_outputs(self, kind, &outputs, first).await?;
            }
            place.take_facts(&facts, first).await?;
            from = next;
        }
        Ok(())
    }
}

/// The facts that count: of the patient, or for everybody; before the end.
fn chosen(facts: &[Recorded], what: &Replay, end: Offset) -> Vec<Recorded> {
    let ours = |fact: &&Recorded| {
        let of_patient = |patient| fact.envelope.key.patient() == Some(patient);
        fact.offset < end && (fact.envelope.fact.is_for_all() || what.patient.as_ref().is_none_or(of_patient))
    };
    facts.iter().filter(ours).cloned().collect()
}

fn empty(into: &Path) -> Result<(), String> {
    if !into.is_absolute() {
        return Err(format!("{} is no absolute path", into.display()));
    }
    fs::create_dir_all(into).map_err(|e| format!("{}: {e}", into.display()))?;
    let mut entries = fs::read_dir(into).map_err(|e| format!("{}: {e}", into.display()))?;
    if entries.next().is_some() {
        return Err(format!(
            "{} is not empty: a replay goes to a place of its own",
            into.display()
        ));
    }
    Ok(())
}

impl Place {
    fn new(into: &Path, house: &House) -> Result<Self, String> {
        let views = EmbeddedViews::open(&into.join("views"), house.views_options).map_err(|e| e.to_string())?;
        let mut files = BTreeMap::new();
        for kind in processors::all() {
            let path = into.join(format!("{}.jsonl", kind.output.name()));
            let file = File::create(&path).map_err(|e| format!("{}: {e}", path.display()))?;
            files.insert(kind.output, BufWriter::new(file));
        }
        Ok(Self {
            views,
            files,
            records: BTreeMap::new(),
            facts: 0,
        })
    }

    async fn take_facts(&mut self, facts: &[Recorded], first: Offset) -> Result<(), String> {
        let mut changes: Vec<Change> = Vec::new();
        for fact in facts.iter().filter(|fact| fact.offset >= first) {
            self.facts += 1;
            views::project_fact(fact, &mut changes);
        }
        self.apply(&changes).await
    }

    async fn take_outputs(
        &mut self,
        house: &House,
        kind: &Kind,
        outputs: &[Output],
        first: Offset,
    ) -> Result<(), String> {
        let mut changes: Vec<Change> = Vec::new();
        for output in outputs.iter().filter(|output| output.origin.offset >= first) {
            let derived = codec::decode_derived(&output.value, &house.catalogue).map_err(|e| e.to_string())?;
            let Some(derived) = derived else { continue };
            *self.records.entry(kind.output.name()).or_default() += 1;
            if let Some(file) = self.files.get_mut(&kind.output) {
                writeln!(file, "{}", line(&derived)).map_err(|e| format!("the replay's files: {e}"))?;
            }
            views::project_derived(&derived, &mut changes);
        }
        self.apply(&changes).await
    }

    async fn apply(&self, changes: &[Change]) -> Result<(), String> {
        if changes.is_empty() {
            return Ok(());
        }
        self.views.apply(changes, None).await.map_err(|e| e.to_string())
    }

    fn finish(&mut self) -> Result<(), String> {
        for file in self.files.values_mut() {
            file.flush().map_err(|e| format!("the replay's files: {e}"))?;
        }
        Ok(())
    }
}

fn line(derived: &Derived) -> Value {
    let body = match &derived.outcome {
        Outcome::Window(body) => serde_json::to_value(body),
        Outcome::Alert(body) => serde_json::to_value(body),
        Outcome::Device(body) => serde_json::to_value(body),
        Outcome::Consultation(body) => serde_json::to_value(body),
        Outcome::Assignment(body) => serde_json::to_value(body),
    };
    let origin = &derived.origin;
    json!({
        "id": derived.id,
        "key": derived.key.text(),
        "origin": {"incarnation": origin.incarnation, "offset": origin.offset, "key": origin.key, "n": origin.n},
        "recorded_at": derived.recorded_at,
        "record": body.unwrap_or_default(),
    })
}
