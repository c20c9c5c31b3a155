//! Simulated worlds against a plain oracle: duplicates, reordering, delays of days, skewed and missing ticks, crashes
//! between any two durable writes with unsynced bytes lost or torn, owners that were paused and go on writing, new
//! versions taking over. Everything follows from a seed.
//!
//! `FAJMA_RULE=name` takes out only the rules whose name contains it. `FAJMA_SEEDS=n` runs n seeds (100 unless said), `FAJMA_FIRST=n` begins elsewhere than at 0, `FAJMA_SEED=n` replays
//! one and prints what happens in it.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

mod coverage;
mod doctor;
#[cfg(feature = "engine-tests")]
mod engines;
mod home;
mod next;
mod oracle;
mod owner;
mod reader;
mod rules;
mod run;
mod sensor;
mod trace;
mod verdict;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};

use coverage::Coverage;
use rules::Rule;
use run::Report;

/// Seeds of a test run, where nothing else is said.
const SEEDS: u64 = 100;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn replay(seed: u64) -> String {
    format!(
        "replay it with: FAJMA_SEED={seed} cargo test -p processors --features conformance --test simulation -- --nocapture agree"
    )
}

/// Runs a seed; a panic is a failure like any other.
fn attempt(seed: u64, aloud: bool) -> Result<Report, String> {
    catch_unwind(AssertUnwindSafe(|| run::run(seed, aloud))).unwrap_or_else(|panic| {
        let said = panic.downcast_ref::<String>().cloned();
        let said = said.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Err(format!("panic: {}", said.unwrap_or_default()))
    })
}

/// What must have occurred somewhere, or nothing was shown about it.
const FEATURES: &[&str] = &[
    "a backlog arrives",
    "a backlog out of order",
    "a device alarm",
    "an alarm of a sensor that nobody wears",
    "a message sent twice",
    "a new version spoke for one that was gone",
    "a new version took over",
    "a new version waited for the old one",
    "a patient moved house",
    "a reading ahead of our clock",
    "a reading late by days",
    "a reading late by more than ten minutes",
    "a reading older than lateness",
    "a reading with neither time nor sequence",
    "a reading with sequence only",
    "a reading with time and sequence",
    "a reading with time only",
    "a reading re-attributed",
    "a retrospective alert",
    "a sensor moved",
    "a sensor offline",
    "a sensor offline was taken off",
    "a sensor online",
    "a sensor said to be elsewhere than it is",
    "a sensor that promised nothing",
    "a silent sensor told",
    "a technical alert ended with its sensor taken off",
    "a status message",
    "a tick missing",
    "a tick too far ahead",
    "a tick under load",
    "a window completed",
    "a window revised",
    "a window written while open",
    "alert acknowledged",
    "alert became current",
    "alert commented",
    "alert eased",
    "alert escalated",
    "alert raised",
    "alert resolved",
    "alert snoozed",
    "alert woke",
    "an alert resolved by a person",
    "an append failed",
    "an old version met its successor",
    "an owner crashed",
    "an owner crashed between two writes",
    "an owner paused while another took its place",
    "an owner restored from a checkpoint",
    "an owner was fenced",
    "an owner woke and went on writing",
    "policy changed",
    "repeats that readers passed over",
    "the power went",
    "thresholds changed",
];

#[test]
fn every_seed_agrees_with_the_oracle() {
    if let Some(seed) = number("FAJMA_SEED") {
        let report = attempt(seed, true).unwrap_or_else(|failure| panic!("seed {seed}: {failure}"));
        println!("{}", report.coverage);
        return;
    }
    let first = number("FAJMA_FIRST").unwrap_or(0);
    let seeds = number("FAJMA_SEEDS").unwrap_or(SEEDS);
    let mut coverage = Coverage::default();
    let mut failed = Vec::new();
    for seed in first..first + seeds {
        match attempt(seed, false) {
            Ok(report) => coverage.merge(&report.coverage),
            Err(failure) => {
                println!("seed {seed}: {failure}\n{}", replay(seed));
                failed.push(seed);
            }
        }
    }
    println!("{seeds} seeds, {} of them differ\n{coverage}", failed.len());
    assert!(failed.is_empty(), "seeds {failed:?} differ; {}", replay(failed[0]));
    if seeds >= SEEDS {
        let missing = coverage.missing(FEATURES);
        assert!(missing.is_empty(), "never occurred: {missing:?}");
    }
}

#[test]
fn a_seed_is_the_same_world_every_time() {
    for seed in 0..10 {
        let [once, again] = [(); 2].map(|()| attempt(seed, false).unwrap_or_else(|failure| panic!("{failure}")));
        assert_eq!(
            (once.trace, once.coverage),
            (again.trace, again.coverage),
            "seed {seed}"
        );
    }
}

/// The first seed that fails without a rule, and how.
fn needs(rule: Rule, seeds: u64) -> Option<(u64, String)> {
    let found = (0..seeds).find_map(|seed| {
        rules::take_out(Some(rule));
        attempt(seed, false).err().map(|failure| (seed, failure))
    });
    rules::take_out(None);
    found
}

#[test]
fn each_rule_is_needed() {
    let seeds = number("FAJMA_SEEDS").unwrap_or(SEEDS).max(SEEDS);
    let mut held = Vec::new();
    std::panic::set_hook(Box::new(|_| {}));
    let only = std::env::var("FAJMA_RULE").unwrap_or_default();
    for rule in Rule::all()
        .into_iter()
        .filter(|rule| format!("{rule:?}").contains(&only))
    {
        match needs(rule, seeds) {
            Some((seed, failure)) => {
                let failure: String = failure.lines().next().unwrap_or_default().chars().take(100).collect();
                println!("without {:<28} seed {seed:>4} fails: {failure}", format!("{rule:?}"));
            }
            None => held.push(rule),
        }
    }
    let _ = std::panic::take_hook();
    assert!(held.is_empty(), "{seeds} seeds hold without {held:?}");
}
