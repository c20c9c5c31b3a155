//! The embedded home keeps what every home promises, on fjall and on a simulated disk.
#![cfg(all(feature = "embedded", feature = "conformance"))]

use std::sync::Arc;

use async_trait::async_trait;
use eventlog::conformance::Harness;
use eventlog::embedded::{Embedded, Options, SimDisk};
use eventlog::prng::Prng;
use eventlog::{Clock, EventLog, ManualClock};

fn options() -> Options {
    Options {
        partitions: 2,
        max_record_bytes: 1_000_000,
        ..Options::default()
    }
}

struct OnFjall {
    dir: tempfile::TempDir,
    clock: Arc<ManualClock>,
    log: Option<Arc<Embedded>>,
}

#[async_trait]
impl Harness for OnFjall {
    async fn fresh() -> Self {
        let mut fresh = Self {
            dir: tempfile::tempdir().unwrap(),
            clock: Arc::default(),
            log: None,
        };
        fresh.restart().await;
        fresh
    }

    fn log(&self) -> Arc<dyn EventLog> {
        let log: &Arc<Embedded> = self.log.as_ref().unwrap();
        Arc::<Embedded>::clone(log)
    }

    async fn restart(&mut self) {
        self.log = None;
        let clock: Arc<dyn Clock> = Arc::<ManualClock>::clone(&self.clock);
        self.log = Some(Embedded::open(self.dir.path(), options(), clock).unwrap());
    }

    fn clock(&self) -> &ManualClock {
        &self.clock
    }
}

struct OnSimDisk {
    disk: SimDisk,
    chance: Prng,
    clock: Arc<ManualClock>,
    log: Option<Arc<Embedded>>,
}

#[async_trait]
impl Harness for OnSimDisk {
    async fn fresh() -> Self {
        let mut fresh = Self {
            disk: SimDisk::new(),
            chance: Prng::new(7),
            clock: Arc::default(),
            log: None,
        };
        fresh.restart().await;
        fresh
    }

    fn log(&self) -> Arc<dyn EventLog> {
        let log: &Arc<Embedded> = self.log.as_ref().unwrap();
        Arc::<Embedded>::clone(log)
    }

    async fn restart(&mut self) {
        self.disk = self.disk.power_cycle(&mut self.chance);
        self.log = None;
        let clock: Arc<dyn Clock> = Arc::<ManualClock>::clone(&self.clock);
        self.log = Some(Embedded::on_disk(&self.disk, options(), clock).unwrap());
    }

    fn clock(&self) -> &ManualClock {
        &self.clock
    }
}

eventlog::conformance_suite!(on_fjall, OnFjall);
eventlog::conformance_suite!(on_a_simulated_disk, OnSimDisk);
