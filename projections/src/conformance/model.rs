//! The store against a map in memory: whatever the order, the cuts and the repeats, the same rows are left.

use std::collections::BTreeMap;

use super::{REWRITTEN, Site, VIEW, apply, put, removal, said};
use crate::store::{Change, Scan, ViewStore};
use crate::view::{Cell, View};

/// A small generator of numbers that are the same on every machine (SplitMix64).
struct Chance(u64);

impl Chance {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % n
    }

    fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, usize::try_from(self.below(i as u64 + 1)).unwrap_or(0));
        }
    }
}

const PARTITIONS: [&str; 3] = ["a", "aa", "b"];
const SEEDS: u64 = 8;

/// Changes to few rows, so that they meet often, also in the same version.
fn changes(chance: &mut Chance) -> Vec<Change> {
    let mut made = Vec::new();
    for n in 0..60 {
        let p = PARTITIONS[usize::try_from(chance.below(3)).unwrap_or(0)];
        let at = i64::try_from(chance.below(6)).unwrap_or(0) - 3;
        let version = i64::try_from(chance.below(9)).unwrap_or(0) - 4;
        let key = super::key(p, at, "s");
        made.push(if chance.below(4) == 0 {
            removal(key, version)
        } else {
            put(key, version, n)
        });
    }
    made
}

/// The rows that the newest changes leave, in scan order.
fn left(changes: &[Change]) -> Vec<(Vec<u8>, i64)> {
    let mut newest: BTreeMap<Vec<u8>, &Change> = BTreeMap::new();
    for change in changes {
        let held = newest.entry(order(&change.key)).or_insert(change);
        if rank(change) > rank(held) {
            *held = change;
        }
    }
    newest
        .into_iter()
        .filter_map(|(key, c)| Some((key, said_by(c)?)))
        .collect()
}

fn said_by(change: &Change) -> Option<i64> {
    change.cells.as_ref().and_then(|cells| cells.last()).and_then(Cell::int)
}

/// Of equal versions a removal wins, then the greater bytes: the suite's rows differ in one number, which is
/// small and not negative, so that its order is that of its bytes in any home.
fn rank(change: &Change) -> (i64, i64) {
    (change.version, said_by(change).unwrap_or(i64::MAX))
}

fn order(key: &[Cell]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for cell in key {
        assert!(crate::key::write_cell(cell, &mut bytes), "a key holds no null");
    }
    bytes
}

/// Shuffled, repeated, cut into batches of any size, with the store opened again in between. Each seed goes on with what
/// the seeds before it left, in higher versions; all of theirs come again as well.
pub async fn any_order_gives_the_same_rows(site: &dyn Site) {
    for view in [&VIEW, &REWRITTEN] {
        any_order(site, view).await;
    }
}

async fn any_order(site: &dyn Site, view: &'static View) {
    let mut all: Vec<Change> = Vec::new();
    for seed in 0..SEEDS {
        let mut chance = Chance(seed);
        let band = i64::try_from(seed).unwrap_or(0) * 6;
        all.extend(changes(&mut chance).into_iter().map(|c| Change {
            view,
            version: c.version + band,
            ..c
        }));
        let mut given = [all.clone(), all.clone()].concat();
        chance.shuffle(&mut given);
        let mut rest = given.as_slice();
        while !rest.is_empty() {
            let store = site.open().await;
            for _ in 0..8 {
                let cut = usize::try_from(chance.below(80)).unwrap_or(0).min(rest.len());
                apply(&*store, &rest[..cut]).await;
                rest = &rest[cut..];
            }
        }
        assert_eq!(
            rows(&*site.open().await, view).await,
            left(&all),
            "{}, seed {seed}",
            view.name
        );
    }
}

async fn rows(store: &dyn ViewStore, view: &'static View) -> Vec<(Vec<u8>, i64)> {
    let mut found = Vec::new();
    for p in PARTITIONS {
        let scan = Scan::of(vec![p.into(), Cell::Int(-1)], 1_000);
        let rows = store.scan(view, scan).await.unwrap_or_else(|e| panic!("scan: {e}"));
        found.extend(rows.iter().map(|row| (order(&row.key), said(row))));
    }
    found
}
