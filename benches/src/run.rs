//! The phases of a run: what is sustained through each door, latencies at a part of it, a restart, a replay.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use tokio::time::Instant;

use crate::counters::Counters;
use crate::http::Connection;
use crate::load::{Door, Load, Numbers, Pace, Sent};
use crate::probe::{self, Probed};
use crate::server::{Server, Start};
use crate::world::World;
use crate::{Latencies, Result, process};

/// How long the rooms may take to follow after a load.
const PATIENCE: Duration = Duration::from_secs(600);

/// What to do.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Who speaks.
    pub world: World,
    /// Readings per HTTP request.
    pub batch: u64,
    /// HTTP connections.
    pub http_connections: usize,
    /// MQTT connections.
    pub mqtt_connections: usize,
    /// Messages of one MQTT connection that may wait for their acknowledgement.
    pub window: usize,
    /// How long each closed-loop phase lasts.
    pub closed: Duration,
    /// How long each open-loop phase lasts.
    pub open: Duration,
    /// The part of what is sustained that the open loop sends.
    pub part: f64,
    /// Probes per second in open-loop phases.
    pub probes: f64,
    /// Which doors.
    pub doors: Vec<Door>,
    /// Readings to have in the log at least before the restart.
    pub fill: u64,
    /// Whether to recompute everything at the end.
    pub replay: bool,
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
    /// The server's CPU seconds per million readings, drain included.
    pub cpu_per_million: f64,
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
    /// The server's CPU seconds per million readings.
    pub cpu_per_million: f64,
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
    /// The most memory that the server has held so far, in bytes.
    pub peak_memory: u64,
}

/// Everything measured.
#[derive(Debug)]
pub struct Figures {
    /// By door.
    pub doors: Vec<Phases>,
    /// Readings in the log.
    pub readings: u64,
    /// Bytes of log, views and states on disk.
    pub disk_bytes: u64,
    /// From start to ready, with nothing there.
    pub first_start: Duration,
    /// From start to ready, with all of it there.
    pub cold_start: Duration,
    /// The most memory that the server held.
    pub peak_memory: u64,
    /// How long recomputing and comparing all of it took.
    pub replay: Option<Duration>,
}

/// Runs the plan; `told` hears what is going on.
///
/// # Errors
/// Where the server fails, or does not do what it promised.
pub fn run(plan: &Plan, start: &Start, told: &dyn Fn(&str)) -> Result<Figures> {
    let server = start.start()?;
    let first_start = server.ready_after;
    let mut bench = Bench {
        plan,
        control: server.connect()?,
        server,
        numbers: Arc::default(),
        probes: AtomicU64::new(0),
        told,
    };
    let mut doors = Vec::new();
    for door in &plan.doors {
        doors.push(bench.phases(*door)?);
    }
    bench.fill()?;
    let readings = Counters::read(&mut bench.control)?.accepted;
    let peak_memory = process::peak_memory(bench.server.pid())?;
    told("stopping and starting again");
    bench.server.stop()?;
    let disk_bytes = process::disk_bytes(&start.data);
    let again = start.start()?;
    let cold_start = again.ready_after;
    again.stop()?;
    let replay = if plan.replay {
        told("recomputing and comparing everything");
        Some(start.verify()?)
    } else {
        None
    };
    Ok(Figures {
        doors,
        readings,
        disk_bytes,
        first_start,
        cold_start,
        peak_memory,
        replay,
    })
}

struct Bench<'a> {
    plan: &'a Plan,
    server: Server,
    control: Connection,
    numbers: Numbers,
    probes: AtomicU64,
    told: &'a dyn Fn(&str),
}

/// When the rooms had followed.
struct Followed {
    evaluated: Instant,
    queryable: Instant,
}

impl Bench<'_> {
    fn load(&self, door: Door, pace: Pace, lasting: Duration) -> Load {
        Load {
            http: self.server.http,
            mqtt: self.server.mqtt,
            token: self.server.token.clone(),
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

    fn phases(&mut self, door: Door) -> Result<Phases> {
        (self.told)(&format!("{door:?}: warming up"));
        self.load(door, Pace::Closed, self.plan.closed / 5).run(&self.numbers)?;
        self.followed()?;
        (self.told)(&format!("{door:?}: closed loop"));
        let sustained = self.closed(door)?;
        let rate = sustained.queryable * self.plan.part;
        (self.told)(&format!(
            "{door:?}: {:.0} readings/s sustained; open loop at {rate:.0}",
            sustained.queryable
        ));
        let steady = self.open(door, rate)?;
        let peak_memory = process::peak_memory(self.server.pid())?;
        Ok(Phases {
            door,
            sustained,
            steady,
            peak_memory,
        })
    }

    fn closed(&mut self, door: Door) -> Result<Sustained> {
        let (before, cpu) = (
            Counters::read(&mut self.control)?,
            process::cpu_seconds(self.server.pid())?,
        );
        let began = Instant::now();
        let load = self.load(door, Pace::Closed, self.plan.closed);
        let (sent, alerts) = self.probed(&load)?;
        let after = self.judged(&before, sent.acknowledged + 2 * alerts.sent as u64)?;
        let followed = self.followed()?;
        let used = process::cpu_seconds(self.server.pid())? - cpu;
        let rate = |records: u64, took: Duration| records as f64 / took.as_secs_f64();
        Ok(Sustained {
            accepted: rate(sent.acknowledged, sent.took),
            durable: rate((after.durable - before.durable).min(sent.acknowledged), sent.took),
            evaluated: rate(sent.acknowledged, followed.evaluated - began),
            queryable: rate(sent.acknowledged, followed.queryable - began),
            cpu_per_million: used * 1e6 / sent.acknowledged as f64,
            conclusions: self.concluded_since(&before)? / sent.acknowledged as f64,
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

    fn concluded_since(&mut self, before: &Counters) -> Result<f64> {
        Ok((Counters::read(&mut self.control)?.concluded - before.concluded) as f64)
    }

    fn open(&mut self, door: Door, rate: f64) -> Result<Steady> {
        let (before, cpu) = (
            Counters::read(&mut self.control)?,
            process::cpu_seconds(self.server.pid())?,
        );
        let load = self.load(door, Pace::Open(rate), self.plan.open);
        let (sent, alerts) = self.probed(&load)?;
        let ended = Instant::now();
        self.judged(&before, sent.acknowledged + 2 * alerts.sent as u64)?;
        let followed = self.followed()?;
        let used = process::cpu_seconds(self.server.pid())? - cpu;
        Ok(Steady {
            rate: sent.acknowledged as f64 / sent.took.as_secs_f64(),
            cpu_per_million: used * 1e6 / sent.acknowledged as f64,
            conclusions: self.concluded_since(&before)? / sent.acknowledged as f64,
            drain: followed.queryable - ended,
            acknowledged: sent.latencies,
            alerts,
        })
    }

    /// Every reading was accepted as new.
    fn judged(&mut self, before: &Counters, acknowledged: u64) -> Result<Counters> {
        let after = Counters::read(&mut self.control)?;
        let accepted = after.accepted - before.accepted;
        if accepted == acknowledged && after.duplicates == before.duplicates && after.rejected == before.rejected {
            Ok(after)
        } else {
            Err(format!("{acknowledged} readings were acknowledged, {accepted} accepted: {after:?}").into())
        }
    }

    /// Waits until every room has done with what is in the journal now.
    fn followed(&mut self) -> Result<Followed> {
        let until = Instant::now() + PATIENCE;
        let target = Counters::read(&mut self.control)?.durable;
        let (mut evaluated, mut concluded) = (None, 0);
        loop {
            let now = Counters::read(&mut self.control)?;
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
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Sends until the log holds enough.
    fn fill(&mut self) -> Result<()> {
        let held = Counters::read(&mut self.control)?.accepted;
        if held >= self.plan.fill {
            return Ok(());
        }
        (self.told)(&format!("filling the log from {held} to {} readings", self.plan.fill));
        let door = Door::Http { batch: self.plan.batch };
        while Counters::read(&mut self.control)?.accepted < self.plan.fill {
            self.load(door, Pace::Closed, Duration::from_secs(2))
                .run(&self.numbers)?;
        }
        self.followed().map(|_| ())
    }
}
