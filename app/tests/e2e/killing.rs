//! A small form of `make kill-loop`.

use std::time::Duration;

use app::killloop::{Plan, run};

#[tokio::test(flavor = "multi_thread")]
async fn five_kills_lose_no_acknowledged_reading_and_double_none() {
    let dir = tempfile::tempdir().unwrap();
    let plan = Plan {
        binary: env!("CARGO_BIN_EXE_fajma").into(),
        data: dir.path().join("data"),
        kills: 5,
        seed: 20_261_123,
        patients: 8,
        every: Duration::from_millis(50),
    };
    let outcome = run(&plan).await.unwrap();
    assert!(outcome.acknowledged > 100, "{outcome:?}");
    assert_eq!(outcome.alerts, 2, "{outcome:?}");
}
