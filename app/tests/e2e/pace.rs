//! Doors go no faster than processors.

use std::time::Duration;

use app::client;
use app::config::{Config, Sources};
use app::up::{Duties, start};
use eventlog::Topic;
use schemas::access::Role;
use serde_json::json;
use tokio::time::Instant;

use super::house::{PATIENCE, prepare, principal};

const BEHIND: i64 = 64;
const BATCH: usize = 50;
const SENDERS: usize = 16;
const LASTING: Duration = Duration::from_secs(4);

/// Sixteen senders without a pause: what is recorded and not yet evaluated stays within the limit and one message.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_to_be_evaluated_stays_within_its_limit_however_much_is_sent() {
    let dir = tempfile::tempdir().unwrap();
    let flags = vec![
        ("data.dir", dir.path().display().to_string(), "--data"),
        ("http.listen", "127.0.0.1:0".to_owned(), "--listen"),
        ("mqtt.listen", String::new(), "--mqtt"),
        ("log.partitions", "1".to_owned(), "test"),
        ("intake.behind", BEHIND.to_string(), "test"),
    ];
    let config = Config::load(Sources {
        flags,
        ..Sources::default()
    })
    .unwrap();
    prepare(&config).await;
    let server = Box::pin(start(&config, Duties::ALL)).await.unwrap();
    server.ready(PATIENCE).await.unwrap();
    let token = server.token(&principal(Role::Admin), PATIENCE * 2).unwrap();
    let until = Instant::now() + LASTING;
    let senders: Vec<_> = (0..SENDERS)
        .map(|sender| tokio::spawn(send(server.http.to_string(), token.clone(), sender, until)))
        .collect();
    let (mut looks, mut within) = (0_u32, 0_u32);
    while Instant::now() < until {
        // What is behind: asked in this order it can only look more than it is.
        let reached = server.house.log.reached(Topic::Alerts, 0).await.unwrap().journal;
        let end = server.house.log.bounds(Topic::Journal, 0).await.unwrap().end;
        looks += 1;
        within += u32::from(end - reached <= BEHIND + 2 * BATCH as i64);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let mut sent = 0;
    for sender in senders {
        sent += sender.await.unwrap();
    }
    assert!(sent > BATCH * SENDERS, "{sent}");
    // A machine that does a hundred other things may let a processor stand still.
    assert!(within * 10 >= looks * 9, "{within} of {looks}");
    assert!(server.stop().await);
}

async fn send(http: String, token: String, sender: usize, until: Instant) -> usize {
    let mut sent = 0;
    while Instant::now() < until {
        let readings: Vec<_> = (sent..sent + BATCH)
            .map(|n| {
                json!({ "patient_id": format!("p{sender}"), "sensor_id": format!("s{sender}"), "type": "heart_rate",
                        "value": 60 + n % 20, "seq": n })
            })
            .collect();
        let (status, answer) = client::post(&http, "/v1/readings", &token, &json!({ "readings": readings }))
            .await
            .unwrap();
        assert_eq!(status, 200, "{answer}");
        assert_eq!(answer["accepted"], BATCH, "{answer}");
        sent += BATCH;
    }
    sent
}
