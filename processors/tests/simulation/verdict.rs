//! What was accepted against what follows from the recorded journal: byte for byte against one undisturbed run, and
//! conclusion by conclusion against the plain oracle.

use std::collections::BTreeMap;

use eventlog::{Output, Partition};
use processors::engine::Decided;
use processors::engine::erased::Kind;
use processors::engine::replay::Recompute;
use schemas::derived::{Derived, Incarnation, Outcome};
use schemas::facts::{AlertChange, AlertChanged, Liveness, WindowStatus};
use schemas::journal::{Fact, Recorded};

use crate::coverage::Coverage;
use crate::next::mark;
use crate::oracle::{self, Told};
use crate::reader::Accepted;
use crate::rules;
use crate::run::Run;

/// Compares everything at the end of a run.
pub(crate) fn judge(run: &mut Run) -> Result<(), String> {
    // The truth is told by the whole of the rules.
    rules::take_out(None);
    let incarnation = run.home.log().layout().incarnation;
    for partition in 0..run.partitions {
        let journal = run.journal(partition)?;
        acknowledged(run, partition, &journal)?;
        run.coverage.add("journal records", journal.len() as u64);
        let mut house = oracle::House::default();
        for record in &journal {
            if house.take(record) && house.load > 25 {
                run.coverage.hit("a tick under load");
            }
        }
        for place in run.places.iter().filter(|place| place.partition == partition) {
            let (old, new) = place.kinds;
            let decided = &place.decided;
            let mut undisturbed = recompute(&old, incarnation, partition, decided, &journal)?;
            undisturbed.extend(recompute(&new, incarnation, partition, decided, &journal)?);
            let what = format!("{}/{partition}", old.name);
            equal(&what, &undisturbed, &place.reader.accepted)?;
            run.coverage
                .add("repeats that readers passed over", place.reader.repeats);
            let told = match old.name {
                "windows" => oracle::windows::told(&journal),
                "alerts" => oracle::alerts::told(&journal, incarnation),
                _ => oracle::devices::told(&journal),
            };
            let told = spoken(told, &journal, &new, decided);
            agree(&what, told, &place.reader.accepted)?;
            place
                .reader
                .accepted
                .iter()
                .for_each(|accepted| cover(&accepted.derived, &mut run.coverage));
            cover_taken_off(&place.reader.accepted, &journal, &mut run.coverage);
        }
    }
    Ok(())
}

/// Whatever was acknowledged stands where the answer said.
fn acknowledged(run: &Run, partition: Partition, journal: &[Recorded]) -> Result<(), String> {
    for (p, offset, value) in &run.acknowledged {
        if *p != partition {
            continue;
        }
        let there = journal
            .binary_search_by_key(offset, |record| record.offset)
            .ok()
            .map(|i| {
                let mut bytes = Vec::new();
                schemas::codec::encode(&journal[i].envelope, &mut bytes);
                bytes == value[..]
            });
        if there != Some(true) {
            return Err(format!(
                "journal/{partition} {offset} was acknowledged and is not there"
            ));
        }
    }
    Ok(())
}

fn recompute(
    kind: &Kind,
    incarnation: Incarnation,
    partition: Partition,
    decided: &Decided,
    journal: &[Recorded],
) -> Result<Vec<Output>, String> {
    let mut recompute =
        Recompute::new(kind, incarnation, partition, decided.clone()).map_err(|error| error.to_string())?;
    recompute.feed(journal).map_err(|error| error.to_string())
}

/// The same records in the same order, byte for byte.
fn equal(what: &str, expected: &[Output], accepted: &[Accepted]) -> Result<(), String> {
    for (n, (expected, found)) in expected.iter().zip(accepted).enumerate() {
        if expected.origin != found.derived.origin {
            let (e, f) = (&expected.origin, &found.derived.origin);
            return Err(format!(
                "{what}: record {n} comes from {:?}, not from {:?}",
                f.place(),
                e.place()
            ));
        }
        if expected.key != found.key || expected.value != found.value {
            return Err(format!(
                "{what}: record {n} ({:?}) has other bytes: {:?}",
                expected.origin.place(),
                found.derived
            ));
        }
    }
    if expected.len() == accepted.len() {
        return Ok(());
    }
    let first = expected.get(accepted.len()).map(|e| format!("{:?}", e.origin.place()));
    let extra = accepted.get(expected.len()).map(|a| format!("{:?}", a.derived));
    Err(format!(
        "{what}: {} records accepted, {} expected; first missing {first:?}, first too many {extra:?}",
        accepted.len(),
        expected.len()
    ))
}

/// What the version that speaks then says of it.
fn spoken(told: Vec<Told>, journal: &[Recorded], new: &Kind, decided: &Decided) -> Vec<Told> {
    let activated = journal.iter().find_map(|record| match &record.envelope.fact {
        Fact::ProcessorActivated(it) if it.name == new.name && it.version == new.version => Some(record.offset),
        _ => None,
    });
    let cut_over = decided.cutovers.get(&new.version).copied();
    let from = activated.into_iter().chain(cut_over).min();
    let speak = |(offset, mut outcome): Told| {
        if from.is_some_and(|from| offset >= from) {
            mark(&mut outcome);
        }
        (offset, outcome)
    };
    told.into_iter().map(speak).collect()
}

/// The same conclusions from the same records, as the plain oracle has them.
fn agree(what: &str, told: Vec<Told>, accepted: &[Accepted]) -> Result<(), String> {
    let mut found: Vec<Told> = accepted
        .iter()
        .map(|a| (a.derived.origin.offset, plain(a.derived.outcome.clone())))
        .collect();
    let mut told: Vec<Told> = told
        .into_iter()
        .map(|(offset, outcome)| (offset, plain(outcome)))
        .collect();
    if what.starts_with("windows") || what.starts_with("devices") {
        // in which order keys act is the task's affair
        told.sort_by_key(order);
        found.sort_by_key(order);
    }
    for n in 0..told.len().max(found.len()) {
        match (told.get(n), found.get(n)) {
            (Some(told), Some(found)) if same(told, found) => {}
            (told, found) => {
                return Err(format!(
                    "{what}: conclusion {n} of the oracle is\n  {told:?}\nwhile readers accepted\n  {found:?}"
                ));
            }
        }
    }
    Ok(())
}

fn order(told: &Told) -> (i64, String) {
    let name = match &told.1 {
        Outcome::Window(w) => format!("{} {} {:?} {:?} {}", w.sensor_id, w.metric, w.size, w.start, w.count),
        Outcome::Device(d) => format!("{} {:?}", d.sensor_id, d),
        Outcome::Alert(_) => String::new(),
        Outcome::Assignment(a) => format!("{} {:?}", a.sensor_id, a.from),
        Outcome::Consultation(c) => format!("{} {:?} {}", c.consultation_id, c.start, c.revision),
    };
    (told.0, name)
}

/// Without what is written for people to read.
fn plain(outcome: Outcome) -> Outcome {
    match outcome {
        Outcome::Alert(alert) => Outcome::Alert(AlertChanged {
            message: Default::default(),
            message_fr: Default::default(),
            ..alert
        }),
        other => other,
    }
}

fn same(a: &Told, b: &Told) -> bool {
    a.0 == b.0
        && match (&a.1, &b.1) {
            (Outcome::Window(a), Outcome::Window(b)) => oracle::windows::same(a, b),
            (a, b) => a == b,
        }
}

/// What followed from a sensor that was taken off.
fn cover_taken_off(accepted: &[Accepted], journal: &[Recorded], coverage: &mut Coverage) {
    let mut shown = BTreeMap::new();
    for derived in accepted.iter().map(|accepted| &accepted.derived) {
        let at = journal.binary_search_by_key(&derived.origin.offset, |record| record.offset);
        let off = at.is_ok_and(|i| matches!(journal[i].envelope.fact, Fact::SensorDetached(_)));
        match &derived.outcome {
            Outcome::Device(device) => {
                let sensor = (derived.key.text(), device.sensor_id.clone());
                if shown.insert(sensor, device.liveness) == Some(Liveness::Offline) && off {
                    coverage.hit("a sensor offline was taken off");
                }
            }
            Outcome::Alert(alert) if off && ["low_battery", "sensor_fault"].contains(&alert.rule.as_str()) => {
                coverage.hit("a technical alert ended with its sensor taken off");
            }
            _ => {}
        }
    }
}

fn cover(derived: &Derived, coverage: &mut Coverage) {
    match &derived.outcome {
        Outcome::Window(window) => coverage.hit(match window.status {
            WindowStatus::Open => "a window written while open",
            WindowStatus::Complete => "a window completed",
            WindowStatus::Revised => "a window revised",
        }),
        Outcome::Device(device) => coverage.hit(match device.liveness {
            Liveness::Online => "a sensor online",
            Liveness::Offline => "a sensor offline",
            Liveness::Unknown => "a sensor that promised nothing",
        }),
        Outcome::Consultation(_) => coverage.hit("a consultation folded"),
        Outcome::Assignment(_) => coverage.hit("a sensor assigned"),
        Outcome::Alert(alert) => {
            if alert.retrospective {
                coverage.hit("a retrospective alert");
            }
            if alert.rule == "sensor_offline" && alert.change == AlertChange::Raised {
                coverage.hit("a silent sensor told");
            }
            coverage.hit(match alert.change {
                AlertChange::Raised => "alert raised",
                AlertChange::Escalated => "alert escalated",
                AlertChange::Eased => "alert eased",
                AlertChange::BecameCurrent => "alert became current",
                AlertChange::Acknowledged => "alert acknowledged",
                AlertChange::Snoozed => "alert snoozed",
                AlertChange::Woke => "alert woke",
                AlertChange::Commented => "alert commented",
                AlertChange::Resolved => "alert resolved",
                AlertChange::Withdrawn => "alert withdrawn",
            });
        }
    }
}
