//! What every store of views keeps, as tests. A home gives a [`Site`]; [`suite!`](crate::conformance_suite) makes a
//! test of each promise.

mod model;
mod promises;
mod ties;

pub use model::any_order_gives_the_same_rows;
pub use promises::*;
pub use ties::of_equal_versions_one_whole_row_stays_whatever_the_order;

use std::sync::Arc;

use async_trait::async_trait;

use crate::store::{Change, ViewStore};
use crate::view::{APART, Cell, Row, Type, View, column};

/// A fresh place for one test, in which views can be opened again and again.
#[async_trait]
pub trait Site: Send + Sync {
    /// Opens what is there, as a process would that starts after another ended.
    async fn open(&self) -> Arc<dyn ViewStore>;
}

/// The views that the suite writes to: a home that needs tables makes them.
pub const VIEWS: [&View; 4] = [&VIEW, &REWRITTEN, &TYING, &TYING_GROWS];

/// What most of the suite writes to.
pub static VIEW: View = VIEW_LIKE;

const VIEW_LIKE: View = View {
    name: "conformance",
    partition: &[column("p", Type::Text), column("q", Type::Int)],
    clustering: &[
        column("at", Type::Time),
        column("s", Type::Text),
        column("b", Type::Blob),
    ],
    columns: &[
        column("x", Type::Double),
        column("t", Type::Text),
        column("f", Type::Bool),
        column("n", Type::Int),
    ],
    apart: APART,
    grows: true,
};

/// The same, for rows that are written again and again.
pub static REWRITTEN: View = View {
    name: "conformance_rewritten",
    grows: false,
    ..VIEW_LIKE
};

/// For rows of which several have one version: the first column follows from the key.
pub static TYING: View = View {
    name: "conformance_tying",
    apart: 1,
    grows: false,
    ..VIEW_LIKE
};

/// The same, for rows that are seldom written again.
pub static TYING_GROWS: View = View {
    name: "conformance_tying_grows",
    apart: 1,
    ..VIEW_LIKE
};

/// The key of a row of [`VIEW`].
fn key(p: &'static str, at: i64, s: &'static str) -> Vec<Cell> {
    let at = Cell::Time(schemas::time::Timestamp(at));
    vec![
        p.into(),
        Cell::Int(-1),
        at,
        s.into(),
        Cell::Blob(bytes::Bytes::from_static(b"\0\x01")),
    ]
}

/// A row's cells that say `n`.
fn cells(n: i64) -> Vec<Cell> {
    vec![Cell::Double(-0.5), Cell::Null, Cell::Bool(true), Cell::Int(n)]
}

fn put(key: Vec<Cell>, version: i64, n: i64) -> Change {
    Change {
        view: &VIEW,
        key,
        version,
        cells: Some(cells(n)),
    }
}

fn removal(key: Vec<Cell>, version: i64) -> Change {
    Change {
        view: &VIEW,
        key,
        version,
        cells: None,
    }
}

/// What the row says, where it is there.
async fn says(store: &dyn ViewStore, key: &[Cell]) -> Option<i64> {
    let row = store.get(&VIEW, key).await.unwrap_or_else(|e| panic!("get: {e}"));
    row.map(|row| said(&row))
}

fn said(row: &Row) -> i64 {
    row.cells
        .last()
        .and_then(Cell::int)
        .unwrap_or_else(|| panic!("{row:?} says nothing"))
}

async fn apply(store: &dyn ViewStore, changes: &[Change]) {
    store
        .apply(changes, None)
        .await
        .unwrap_or_else(|e| panic!("apply: {e}"));
}

/// Makes a test of each promise; `$site` is an expression that gives a fresh [`Site`].
#[macro_export]
macro_rules! conformance_suite {
    ($site:expr) => {
        $crate::conformance_suite!(
            $site;
            applying_twice_is_applying_once,
            an_older_version_loses_whenever_it_comes,
            of_equal_versions_the_greater_stays_and_a_removal_is_greatest,
            of_equal_versions_one_whole_row_stays_whatever_the_order,
            a_removed_row_stays_removed_until_a_newer_version,
            rows_are_scanned_in_order_within_bounds,
            prefix_bounds_compare_as_tuples,
            pages_are_stable_while_rows_are_written,
            every_type_of_cell_reads_back,
            rows_and_progress_are_there_after_opening_again,
            cells_that_do_not_fit_are_refused_and_change_nothing,
            any_order_gives_the_same_rows,
        );
    };
    ($site:expr; $($promise:ident),* $(,)?) => {$(
        #[tokio::test]
        async fn $promise() {
            let site = $site;
            $crate::conformance::$promise(&site).await;
        }
    )*};
}
