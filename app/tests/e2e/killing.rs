//! A small form of `make kill-loop`.

use std::time::Duration;

use app::killloop::{Plan, run};

#[tokio::test(flavor = "multi_thread")]
async fn after_five_kills_all_that_was_acknowledged_is_there_once_and_every_alert_is_due() {
    let dir = tempfile::tempdir().unwrap();
    let plan = Plan {
        binary: env!("CARGO_BIN_EXE_fajma").into(),
        data: dir.path().join("data"),
        shared: None,
        engines: None,
        processors: 1,
        kills: 5,
        seed: 20_261_123,
        patients: 10,
        every: Duration::from_millis(40),
        alarms: 0.0,
        named: false,
    };
    let outcome = run(&plan).await.unwrap();
    assert!(outcome.acknowledged > 100 && outcome.shown > 100, "{outcome:?}");
    assert!(
        outcome.repeats > 0 && outcome.answers > 0 && outcome.windows > 0,
        "{outcome:?}"
    );
    for change in ["raised", "acknowledged"] {
        assert!(outcome.changes.contains_key(change), "{outcome:?}");
    }
}
