//! The logs under test: one whose writes are separate and whose owners are many, one on a disk that loses power.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;

use eventlog::embedded::{Embedded, Options, SimDisk, Trouble};
use eventlog::model::{Faults, Model, Rules};
use eventlog::prng::Prng;
use eventlog::{Clock, EventLog, Layout, LogError, ManualClock};
use schemas::ids::EventId;
use schemas::time::Timestamp;

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Waits for a future here; nothing else happens meanwhile.
pub(crate) fn wait<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = Context::from_waker(&waker);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(value) => return value,
            Poll::Pending => std::thread::park(),
        }
    }
}

/// Which log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Separate durable writes, owners that are not fenced, compaction (Kafka).
    Separate,
    /// Owners that are fenced, checkpoints in pieces, on a disk that loses power (embedded).
    Atomic,
}

/// A log under test, and what can go wrong with it.
#[derive(Debug)]
pub(crate) enum Home {
    Separate(Model),
    Atomic {
        disk: SimDisk,
        log: Option<Arc<Embedded>>,
        chance: Prng,
        clock: Arc<ManualClock>,
        partitions: u16,
        calm: bool,
    },
}

impl Home {
    /// A new log.
    pub(crate) fn new(kind: Kind, seed: u64, partitions: u16, rules: Rules, clock: &Arc<ManualClock>) -> Self {
        let mut chance = Prng::new(seed ^ 0x5eed);
        match kind {
            Kind::Separate => {
                let layout = Layout {
                    partitions,
                    incarnation: EventId::of("simulation", &[&seed.to_be_bytes()]),
                };
                let clock: Arc<dyn Clock> = Arc::<ManualClock>::clone(clock);
                Self::Separate(Model::new(layout, chance.next(), rules, faults(&mut chance), clock))
            }
            Kind::Atomic => {
                let mut home = Self::Atomic {
                    disk: SimDisk::new(),
                    log: None,
                    chance,
                    clock: Arc::clone(clock),
                    partitions,
                    calm: false,
                };
                home.power_cycle();
                home
            }
        }
    }

    /// A handle to the log.
    pub(crate) fn log(&self) -> Arc<dyn EventLog> {
        match self {
            Self::Separate(model) => Arc::new(model.clone()),
            Self::Atomic { log, .. } => {
                let log: &Arc<Embedded> = log.as_ref().unwrap();
                Arc::<Embedded>::clone(log)
            }
        }
    }

    /// Whether one process has the log to itself.
    pub(crate) const fn is_atomic(&self) -> bool {
        matches!(self, Self::Atomic { .. })
    }

    /// Whether the machine is gone after such an error.
    pub(crate) const fn is_fatal(&self, error: &LogError) -> bool {
        matches!(self, Self::Atomic { .. }) && matches!(error, LogError::Unavailable(_) | LogError::Full(_))
    }

    /// The machine starts anew; who had the log open is dead.
    pub(crate) fn power_cycle(&mut self) {
        match self {
            Self::Separate(model) => model.restart(),
            Self::Atomic {
                disk,
                log,
                chance,
                clock,
                partitions,
                calm,
            } => {
                *disk = disk.power_cycle(chance);
                *log = None;
                let options = Options {
                    partitions: *partitions,
                    states_at_once: 1 + chance.below(4) as usize,
                    cache_bytes: if chance.percent(50) { 1 << 20 } else { 1 << 12 },
                    ..Options::default()
                };
                let clock: Arc<dyn Clock> = Arc::<ManualClock>::clone(clock);
                *log = Some(Embedded::on_disk(disk, options, clock).unwrap());
                if !*calm && chance.percent(80) {
                    let which = Trouble::ALL[chance.below(Trouble::ALL.len() as u64) as usize];
                    disk.trouble_after(chance.below(250), which);
                }
            }
        }
    }

    /// Nothing goes wrong from here on.
    pub(crate) fn calm(&mut self) {
        match self {
            Self::Separate(model) => model.calm(),
            Self::Atomic { calm, .. } => {
                *calm = true;
                self.power_cycle();
            }
        }
    }
}

fn faults(chance: &mut Prng) -> Faults {
    let mut often = |most: u64| chance.below(most + 1) as u8;
    Faults {
        append_fails: often(10),
        append_twice: often(10),
        gap: often(20),
        crash: often(8),
        late: often(40),
        compaction: often(20),
    }
}

/// A clock for the log.
pub(crate) fn clock(at: Timestamp) -> Arc<ManualClock> {
    Arc::new(ManualClock::at(at))
}
