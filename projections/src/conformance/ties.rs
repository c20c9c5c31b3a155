//! Several rows of one key and one version: one of them stays, whole, and the same one in every home.

use smol_str::SmolStr;

use super::{Site, TYING, TYING_GROWS, apply, key};
use crate::store::{Change, ViewStore};
use crate::view::{Cell, View};

/// What rows of one key and one version say, from the least to the greatest: cell by cell, a null is greatest, a longer text
/// is greater than a shorter one, numbers are compared as unsigned bytes.
fn ascending() -> Vec<[Cell; 3]> {
    let long = SmolStr::from("a".repeat(300));
    vec![
        ["".into(), Cell::Bool(true), Cell::Null],
        ["b".into(), Cell::Bool(false), Cell::Int(300)],
        ["b".into(), Cell::Bool(true), Cell::Int(0)],
        ["b".into(), Cell::Bool(true), Cell::Int(64)],
        ["b".into(), Cell::Bool(true), Cell::Int(8_192)],
        ["b".into(), Cell::Bool(true), Cell::Int(-1)],
        ["b".into(), Cell::Bool(true), Cell::Null],
        ["b".into(), Cell::Null, Cell::Int(1)],
        ["é".into(), Cell::Bool(false), Cell::Int(2)],
        ["aaa".into(), Cell::Bool(false), Cell::Int(3)],
        [long.into(), Cell::Bool(false), Cell::Int(4)],
        [Cell::Null, Cell::Bool(false), Cell::Int(5)],
        [Cell::Null, Cell::Null, Cell::Null],
    ]
}

fn cells(said: &[Cell; 3]) -> Vec<Cell> {
    [&[Cell::Double(-0.5)][..], said].concat()
}

/// In one call or in two, in either order, again, and among others of lower versions.
pub async fn of_equal_versions_one_whole_row_stays_whatever_the_order(site: &dyn Site) {
    for view in [&TYING, &TYING_GROWS] {
        ties(&*site.open().await, view).await;
    }
}

async fn ties(store: &dyn ViewStore, view: &'static View) {
    let rows = ascending();
    let put = |at: i64, s: &'static str, version, said: &[Cell; 3]| Change {
        view,
        key: key("tie", at, s),
        version,
        cells: Some(cells(said)),
    };
    let (mut at, mut wanted) = (0, Vec::new());
    for (n, less) in rows.iter().enumerate() {
        for greater in rows.get(n + 1..).unwrap_or_default() {
            at += 1;
            let both = |s| [put(at, s, 7, less), put(at, s, 7, greater)];
            let [first, second] = both("up");
            apply(store, &[put(at, "up", 6, greater), first.clone()]).await;
            apply(store, &[second]).await;
            apply(store, &[first]).await;
            let [first, second] = both("down");
            apply(store, &[second]).await;
            apply(store, &[first, put(at, "down", 6, greater)]).await;
            apply(store, &both("at once")).await;
            wanted.extend(["up", "down", "at once"].map(|s| (at, s, cells(greater))));
        }
    }
    for (at, s, cells) in wanted {
        let row = store.get(view, &key("tie", at, s)).await;
        let row = row.unwrap_or_else(|e| panic!("get: {e}"));
        assert_eq!(row.map(|row| row.cells), Some(cells), "{} {at} {s}", view.name);
    }
}
