//! The suite, on every home.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use eventlog::conformance::Harness;
use eventlog::embedded::{Embedded, Options, SimDisk};
use eventlog::faulty::{self, Faulty};
use eventlog::model::{self, Model, Rules};
use eventlog::prng::Prng;
use eventlog::{Clock, EventLog, Layout, ManualClock};
use schemas::ids::EventId;

/// Two partitions.
pub(crate) fn options() -> Options {
    Options {
        partitions: 2,
        max_record_bytes: 1_000_000,
        ..Options::default()
    }
}

struct OnFjall {
    dir: tempfile::TempDir,
    options: Options,
    clock: Arc<ManualClock>,
    log: Option<Arc<dyn EventLog>>,
    faults: faulty::Faults,
}

impl OnFjall {
    async fn with(options: Options, faults: faulty::Faults) -> Self {
        let mut fresh = Self {
            dir: tempfile::tempdir().expect("a folder"),
            options,
            clock: Arc::default(),
            log: None,
            faults,
        };
        fresh.restart().await;
        fresh
    }
}

#[async_trait]
impl Harness for OnFjall {
    async fn fresh() -> Self {
        Self::with(options(), faulty::Faults::default()).await
    }

    fn log(&self) -> Arc<dyn EventLog> {
        Arc::clone(self.log.as_ref().expect("open"))
    }

    async fn restart(&mut self) {
        self.log = None;
        let clock: Arc<dyn Clock> = Arc::<ManualClock>::clone(&self.clock);
        let log = Embedded::open(self.dir.path(), self.options.clone(), clock).expect("the log opens");
        self.log = Some(Arc::new(Faulty::new(log, 5, self.faults)));
    }

    fn clock(&self) -> &ManualClock {
        &self.clock
    }

    fn appends_once(&self) -> bool {
        self.faults == faulty::Faults::default()
    }
}

/// Nothing stays in memory: everything is read from the disk.
struct WithoutMemory(OnFjall);

#[async_trait]
impl Harness for WithoutMemory {
    async fn fresh() -> Self {
        let options = Options {
            cache_bytes: 0,
            ..options()
        };
        Self(OnFjall::with(options, faulty::Faults::default()).await)
    }

    fn log(&self) -> Arc<dyn EventLog> {
        self.0.log()
    }

    async fn restart(&mut self) {
        self.0.restart().await;
    }

    fn clock(&self) -> &ManualClock {
        &self.0.clock
    }
}

struct FaultyOnFjall(OnFjall);

#[async_trait]
impl Harness for FaultyOnFjall {
    async fn fresh() -> Self {
        let faults = faulty::Faults {
            unavailable: 20,
            answer_lost: 15,
            append_twice: 15,
            delay: Duration::from_micros(200),
        };
        Self(OnFjall::with(options(), faults).await)
    }

    fn log(&self) -> Arc<dyn EventLog> {
        self.0.log()
    }

    async fn restart(&mut self) {
        self.0.restart().await;
    }

    fn clock(&self) -> &ManualClock {
        &self.0.clock
    }

    fn appends_once(&self) -> bool {
        false
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
        static LOTS: AtomicU64 = AtomicU64::new(0);
        let mut fresh = Self {
            disk: SimDisk::of_lot(LOTS.fetch_add(1, Ordering::Relaxed)),
            chance: Prng::new(7),
            clock: Arc::default(),
            log: None,
        };
        fresh.restart().await;
        fresh
    }

    fn log(&self) -> Arc<dyn EventLog> {
        let log: &Arc<Embedded> = self.log.as_ref().expect("open");
        Arc::<Embedded>::clone(log)
    }

    async fn restart(&mut self) {
        self.disk = self.disk.power_cycle(&mut self.chance);
        self.log = None;
        let clock: Arc<dyn Clock> = Arc::<ManualClock>::clone(&self.clock);
        self.log = Some(Embedded::on_disk(&self.disk, options(), clock).expect("the log opens"));
    }

    fn clock(&self) -> &ManualClock {
        &self.clock
    }
}

/// The model, well or harsh.
struct OnModel<const HARSH: bool> {
    log: Model,
    clock: Arc<ManualClock>,
}

#[async_trait]
impl<const HARSH: bool> Harness for OnModel<HARSH> {
    async fn fresh() -> Self {
        use std::sync::atomic::{AtomicU8, Ordering};
        static LIVES: AtomicU8 = AtomicU8::new(0);
        let clock = Arc::<ManualClock>::default();
        let layout = Layout {
            partitions: 2,
            incarnation: EventId([LIVES.fetch_add(1, Ordering::Relaxed); 16]),
        };
        let faults = if HARSH {
            model::Faults::harsh()
        } else {
            model::Faults::default()
        };
        let shown: Arc<dyn Clock> = Arc::<ManualClock>::clone(&clock);
        let log = Model::new(layout, 11, Rules::default(), faults, shown);
        Self { log, clock }
    }

    fn log(&self) -> Arc<dyn EventLog> {
        Arc::new(self.log.clone())
    }

    async fn restart(&mut self) {
        self.log.restart();
    }

    fn clock(&self) -> &ManualClock {
        &self.clock
    }

    fn appends_once(&self) -> bool {
        !HARSH
    }
}

eventlog::conformance_suite!(on_fjall, OnFjall);
eventlog::conformance_suite!(on_fjall_without_memory, WithoutMemory);
eventlog::conformance_suite!(on_fjall_with_faults, FaultyOnFjall);
eventlog::conformance_suite!(on_a_simulated_disk, OnSimDisk);
eventlog::conformance_suite!(on_the_model, OnModel<false>);
eventlog::conformance_suite!(on_the_harsh_model, OnModel<true>);
