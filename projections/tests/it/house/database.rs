//! Keyspaces of a database that runs, each for one test: `FAJMA_TEST_CQL=host:port`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use projections::scylla::{Options, Replication, ScyllaViews, apply};

/// Keyspaces of this process.
static MADE: AtomicU32 = AtomicU32::new(0);

/// A keyspace of its own, not made yet.
pub(crate) fn options() -> Options {
    let node = std::env::var("FAJMA_TEST_CQL").unwrap_or_else(|_| panic!("FAJMA_TEST_CQL=host:port of a database"));
    let n = MADE.fetch_add(1, Ordering::Relaxed);
    Options {
        nodes: vec![node],
        keyspace: format!("test_{}_{n}", std::process::id()),
        ..Options::default()
    }
}

/// The views of the house, empty.
pub(crate) async fn views() -> Arc<ScyllaViews> {
    let options = options();
    apply(&options, &Replication::Simple(1)).await.unwrap();
    ScyllaViews::open(options).await.unwrap()
}
