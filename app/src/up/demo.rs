//! Simulated patients inside `fajma up`, through the real door.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use eventlog::{Clock, SystemClock};
use tokio_rustls::rustls::ClientConfig;
use tokio_util::sync::CancellationToken;

use super::supervisor::Supervisor;
use crate::simulate::course::Scenario;
use crate::simulate::delivery::{Delivery, Target};
use crate::simulate::plan::{Plan, World};
use crate::simulate::send;

/// Seconds until the first patient turns ill: long enough to have seen the healthy picture.
const ONSET: f64 = 20.0;

pub(super) fn start(
    supervisor: &mut Supervisor,
    stop: &CancellationToken,
    (door, tls): (SocketAddr, Option<Arc<ClientConfig>>),
    token: String,
    patients: usize,
) {
    let until = stop.clone();
    supervisor.start("demo", stop.clone(), move || {
        let (until, token, tls) = (until.clone(), token.clone(), tls.clone());
        async move {
            let mut scenarios = vec![Scenario::Stable; patients];
            scenarios[0] = Scenario::Hypoxia;
            let world = World {
                patients,
                scenarios,
                // Every sensor of a patient about once a second.
                rate: 3.4 * patients as f64,
                speed: 1.0,
                length: None,
                onset: ONSET,
                seed: 1,
                prefix: "demo".into(),
            };
            let delivery = Delivery {
                target: Target {
                    mqtt: false,
                    tls: tls.is_some(),
                    address: door.to_string(),
                },
                tls,
                token: Some(token),
                connections: 1,
                window: 1,
                batch: 8,
                patience: Duration::from_secs(30),
            };
            let plan = Plan::new(world, SystemClock.now());
            let hidden = indicatif::ProgressBar::hidden();
            let sent = send(plan, delivery, &hidden, until.cancelled_owned()).await;
            sent.map(drop).map_err(|e| e.to_string())
        }
    });
}
