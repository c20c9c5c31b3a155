//! The phases of a door: what is sustained through it, then latencies at a part of that.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use tokio::time::Instant;

use crate::counters::Counters;
use crate::house::{Cpu, House};
use crate::load::{Door, Load, Numbers, Pace, Sent};
use crate::probe::{self, Probed};
use crate::world::World;
use crate::{Latencies, Result};

/// How long the rooms may take to follow after a load.
const PATIENCE: Duration = Duration::from_secs(600);

/// Who speaks, how, and for how long.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Who speaks.
    pub world: World,
    /// HTTP connections.
    pub http_connections: usize,
    /// MQTT connections.
    pub mqtt_connections: usize,
    /// How long each closed-loop phase lasts.
    pub closed: Duration,
    /// How long each open-loop phase lasts.
    pub open: Duration,
    /// The part of what is sustained that the open loop sends.
    pub part: f64,
    /// Probes per second in open-loop phases.
    pub probes: f64,
}

/// A closed-loop phase. Rates are readings per second.
#[derive(Debug)]
pub struct Sustained {
    /// Acknowledged.
    pub accepted: f64,
    /// Made durable.
    pub durable: f64,
    /// Handled by every processor, drain included.
    pub evaluated: f64,
    /// Seen by queries, with what was concluded from it; drain included.
    pub queryable: f64,
    /// CPU seconds per million readings, drain included.
    pub cpu_per_million: Cpu,
    /// Conclusions written per reading: windows, alerts, states of devices.
    pub conclusions: f64,
    /// From a reading to its alert, while more comes than can be evaluated.
    pub alerts: Probed,
}

/// An open-loop phase.
#[derive(Debug)]
pub struct Steady {
    /// Readings per second that were sent.
    pub rate: f64,
    /// From when a request should have been sent to its acknowledgement.
    pub acknowledged: Latencies,
    /// From a reading to its alert.
    pub alerts: Probed,
    /// CPU seconds per million readings.
    pub cpu_per_million: Cpu,
    /// Conclusions written per reading.
    pub conclusions: f64,
    /// How long the rooms took to follow when the load had ended.
    pub drain: Duration,
}

/// Both phases of one door.
#[derive(Debug)]
pub struct Phases {
    /// The door.
    pub door: Door,
    /// Closed loop.
    pub sustained: Sustained,
    /// Open loop.
    pub steady: Steady,
    /// The most memory that all processes of ours have held so far, in bytes.
    pub peak_memory: u64,
}

/// Measures one house after the other, so that no reading comes twice.
pub struct Bench<'a> {
    plan: &'a Plan,
    numbers: Numbers,
    probes: AtomicU64,
    told: &'a dyn Fn(&str),
}

/// When the rooms had followed.
struct Followed {
    evaluated: Instant,
    queryable: Instant,
}

impl<'a> Bench<'a> {
    /// `told` hears what is going on.
    pub fn new(plan: &'a Plan, told: &'a dyn Fn(&str)) -> Self {
        Self {
            plan,
            numbers: Arc::default(),
            probes: AtomicU64::new(0),
            told,
        }
    }

    /// Says what is going on.
    pub fn tell(&self, what: &str) {
        (self.told)(what);
    }

    fn load(&self, house: &dyn House, door: Door, pace: Pace, lasting: Duration) -> Load {
        Load {
            ways: house.ways().clone(),
            world: self.plan.world,
            door,
            connections: match door {
                Door::Http { .. } => self.plan.http_connections,
                Door::Mqtt { .. } => self.plan.mqtt_connections,
            },
            pace,
            lasting,
        }
    }

    /// Sends as fast as it is taken, for so long; nobody looks what comes of it.
    ///
    /// # Errors
    /// Where a connection breaks or a reading is refused.
    pub fn send(&self, house: &dyn House, door: Door, lasting: Duration) -> Result<Sent> {
        self.load(house, door, Pace::Closed, lasting).run(&self.numbers)
    }

    /// Both phases, after a warm-up.
    ///
    /// # Errors
    /// Where the house fails, or does not do what it promised.
    pub fn phases(&self, house: &mut dyn House, door: Door) -> Result<Phases> {
        self.tell(&format!("{door:?}: warming up"));
        self.send(house, door, self.plan.closed / 5)?;
        followed(house)?;
        self.tell(&format!("{door:?}: closed loop"));
        let sustained = self.closed(house, door)?;
        let rate = sustained.queryable * self.plan.part;
        self.tell(&format!(
            "{door:?}: {:.0} readings/s sustained; open loop at {rate:.0}",
            sustained.queryable
        ));
        let steady = self.open(house, door, rate)?;
        let peak_memory = house.peak_memory()?;
        Ok(Phases {
            door,
            sustained,
            steady,
            peak_memory,
        })
    }

    fn closed(&self, house: &mut dyn House, door: Door) -> Result<Sustained> {
        let (before, cpu) = (house.counters()?, house.cpu()?);
        let began = Instant::now();
        let load = self.load(house, door, Pace::Closed, self.plan.closed);
        let (sent, alerts) = self.probed(&load)?;
        let after = judged(house, &before, sent.acknowledged + 2 * alerts.sent as u64)?;
        let followed = followed(house)?;
        let rate = |records: u64, took: Duration| records as f64 / took.as_secs_f64();
        Ok(Sustained {
            accepted: rate(sent.acknowledged, sent.took),
            durable: rate((after.durable - before.durable).min(sent.acknowledged), sent.took),
            evaluated: rate(sent.acknowledged, followed.evaluated - began),
            queryable: rate(sent.acknowledged, followed.queryable - began),
            cpu_per_million: house.cpu()?.per_million(&cpu, sent.acknowledged),
            conclusions: concluded_since(house, &before)? / sent.acknowledged as f64,
            alerts,
        })
    }

    /// Sends the load, and probes beside it.
    fn probed(&self, load: &Load) -> Result<(Sent, Probed)> {
        let first = self.probes.fetch_add(1 << 20, std::sync::atomic::Ordering::Relaxed);
        std::thread::scope(|scope| {
            let probing = scope.spawn(|| probe::run(load, first, self.plan.probes));
            let sent = load.run(&self.numbers)?;
            Ok((sent, probing.join().map_err(|_| "the probes' thread panicked")??))
        })
    }

    fn open(&self, house: &mut dyn House, door: Door, rate: f64) -> Result<Steady> {
        let (before, cpu) = (house.counters()?, house.cpu()?);
        let load = self.load(house, door, Pace::Open(rate), self.plan.open);
        let (sent, alerts) = self.probed(&load)?;
        let ended = Instant::now();
        judged(house, &before, sent.acknowledged + 2 * alerts.sent as u64)?;
        let followed = followed(house)?;
        Ok(Steady {
            rate: sent.acknowledged as f64 / sent.took.as_secs_f64(),
            cpu_per_million: house.cpu()?.per_million(&cpu, sent.acknowledged),
            conclusions: concluded_since(house, &before)? / sent.acknowledged as f64,
            drain: followed.queryable - ended,
            acknowledged: sent.latencies,
            alerts,
        })
    }

    /// Sends until so many readings are accepted, and until every room has followed.
    ///
    /// # Errors
    /// As [`phases`](Self::phases).
    pub fn fill(&self, house: &mut dyn House, door: Door, readings: u64) -> Result<()> {
        let held = house.counters()?.accepted;
        if held >= readings {
            return Ok(());
        }
        self.tell(&format!("filling the log from {held} to {readings} readings"));
        while house.counters()?.accepted < readings {
            self.send(house, door, Duration::from_secs(2))?;
        }
        followed(house).map(drop)
    }
}

fn concluded_since(house: &mut dyn House, before: &Counters) -> Result<f64> {
    Ok((house.counters()?.concluded - before.concluded) as f64)
}

/// Every reading was accepted as new.
fn judged(house: &mut dyn House, before: &Counters, acknowledged: u64) -> Result<Counters> {
    let after = house.counters()?;
    let accepted = after.accepted - before.accepted;
    if accepted == acknowledged && after.duplicates == before.duplicates && after.rejected == before.rejected {
        Ok(after)
    } else {
        Err(format!("{acknowledged} readings were acknowledged, {accepted} accepted: {after:?}").into())
    }
}

/// Waits until every room has done with what is in the journal now.
fn followed(house: &mut dyn House) -> Result<Followed> {
    let until = Instant::now() + PATIENCE;
    let target = house.counters()?.durable;
    let (mut evaluated, mut concluded) = (None, 0);
    loop {
        let now = house.counters()?;
        let at = Instant::now();
        if evaluated.is_none() && now.evaluated >= target {
            (evaluated, concluded) = (Some(at), now.concluded);
        }
        if let Some(evaluated) = evaluated
            && now.projected >= target
            && now.shown >= concluded
        {
            return Ok(Followed {
                evaluated,
                queryable: at,
            });
        }
        if at > until {
            return Err(format!("the rooms do not follow: {now:?}, wanted {target}").into());
        }
        std::thread::sleep(house.look_every());
    }
}
