//! What is killed: the one process that does everything, or a process for each role, some of them paused as well, and
//! brokers where there are several.

use std::path::PathBuf;
use std::time::Duration;

use fastrand::Rng;
use tokio::time::{Instant, sleep};

use super::engines::Brokers;
use super::server::{Running, Skew, Start};
use super::{Plan, Shared};

/// How long a process stands still: often longer than its group waits for it.
const STILL: std::ops::Range<u64> = 300..12_000;
/// Of a hundred times that something happens, so often a process is paused instead of killed, where there are several.
const PAUSES: u32 = 30;

/// How long it may take to start, one of several brokers being away.
const STARTING: Duration = Duration::from_secs(120);
/// As often as two processes a broker is killed, where one may be.
const WEIGHT: usize = 2;
/// How many project.
const PROJECTORS: usize = 2;

/// One process and how it is started.
struct Member {
    start: Start,
    running: Running,
    /// Paused until then.
    wakes: Option<Instant>,
}

/// All processes.
pub(super) struct Fleet {
    members: Vec<Member>,
    brokers: Option<Brokers>,
    /// Where readings are taken.
    pub(super) http: String,
    /// The same by MQTT.
    pub(super) mqtt: String,
    /// Where people ask.
    pub(super) desk: String,
}

impl Fleet {
    /// Starts it.
    pub(super) async fn start(plan: &Plan) -> Result<Self, String> {
        let mut brokers = None;
        let roles = match &plan.shared {
            None => vec![("up", 1)],
            Some(shared) => {
                brokers = Brokers::of(plan.engines.as_ref()).await?;
                let copies = if brokers.is_some() { 3 } else { 1 };
                prepare(plan, shared, copies).await?;
                let processors = plan.processors;
                vec![
                    ("ingest", 1),
                    ("serve", 1),
                    ("process", processors),
                    ("project", PROJECTORS),
                ]
            }
        };
        let mut fleet = Self {
            members: Vec::new(),
            brokers,
            http: String::new(),
            mqtt: String::new(),
            desk: String::new(),
        };
        for (role, count) in roles {
            for _ in 0..count {
                fleet.add(plan, role, None)?;
            }
        }
        Ok(fleet)
    }

    /// Starts one more, which comes back where it was; where it speaks HTTP.
    pub(super) fn add(&mut self, plan: &Plan, role: &'static str, skew: Option<Skew>) -> Result<String, String> {
        let n = self.of(role).count();
        let data = match plan.shared {
            None => plan.data.clone(),
            Some(_) => plan.data.join(format!("{role}-{n}")),
        };
        let (takes, serves) = (matches!(role, "up" | "ingest"), matches!(role, "up" | "serve"));
        let mut start = Start::new(plan, role, data);
        start.listen = Some("127.0.0.1:0".to_owned());
        start.mqtt = takes.then(|| "127.0.0.1:0".to_owned());
        start.skew = skew;
        start.instance = plan.named.then(|| format!("{role}-{n}"));
        let running = start.run()?;
        start.listen = Some(running.http.clone());
        if takes {
            (self.http, self.mqtt) = (running.http.clone(), running.mqtt.clone());
            start.mqtt = Some(running.mqtt.clone());
        }
        if serves {
            self.desk.clone_from(&running.http);
        }
        let http = running.http.clone();
        self.members.push(Member {
            start,
            running,
            wakes: None,
        });
        Ok(http)
    }

    fn of(&self, role: &str) -> impl Iterator<Item = &Member> {
        self.members.iter().filter(move |member| member.start.role == role)
    }

    /// Where those of a role speak HTTP.
    pub(super) fn addresses(&self, role: &str) -> Vec<String> {
        self.of(role).map(|member| member.running.http.clone()).collect()
    }

    /// Kills the one that was started first of a role; it is started again with [`again`](Self::again).
    pub(super) fn kill(&mut self, role: &str) -> Result<(), String> {
        let first = self.members.iter_mut().find(|member| member.start.role == role);
        first.ok_or_else(|| format!("there is no {role}"))?.running.kill();
        Ok(())
    }

    /// Starts the one again that was started first of a role.
    pub(super) async fn again(&mut self, role: &str) -> Result<(), String> {
        let first = self.members.iter_mut().find(|member| member.start.role == role);
        let first = first.ok_or_else(|| format!("there is no {role}"))?;
        first.running = started(&first.start).await?;
        Ok(())
    }

    /// Stops so many of a role, the newest first.
    pub(super) async fn remove(&mut self, role: &str, count: usize) -> Result<(), String> {
        for _ in 0..count {
            let last = self.members.iter().rposition(|member| member.start.role == role);
            let last = last.ok_or_else(|| format!("no {role} is left"))?;
            self.members.remove(last).running.stop().await?;
        }
        Ok(())
    }

    /// After a while something happens to one of them; what, in words.
    pub(super) async fn disturb(&mut self, chance: &mut Rng) -> Result<String, String> {
        sleep(Duration::from_millis(chance.u64(50..1500))).await;
        self.wake(Instant::now())?;
        let several = self.members.len() > 1;
        let mut broker = None;
        if let Some(brokers) = &mut self.brokers
            && brokers.look().await?
        {
            broker = Some(brokers);
        }
        let among = self.members.len() + broker.as_ref().map_or(0, |_| WEIGHT);
        let which = chance.usize(..among);
        if let Some(brokers) = broker.filter(|_| which >= self.members.len()) {
            return brokers.kill(chance).await;
        }
        let member = &mut self.members[which];
        let role = member.start.role;
        if several && member.wakes.is_none() && chance.u32(..100) < PAUSES {
            let still = Duration::from_millis(chance.u64(STILL));
            member.running.pause()?;
            member.wakes = Some(Instant::now() + still);
            return Ok(format!("{role} paused for {} ms", still.as_millis()));
        }
        member.running.kill();
        member.wakes = None;
        member.running = started(&member.start).await?;
        Ok(format!("{role} killed"))
    }

    /// Lets those go on whose pause is over.
    fn wake(&mut self, now: Instant) -> Result<(), String> {
        for member in &mut self.members {
            if member.wakes.is_some_and(|wakes| wakes <= now) {
                member.running.resume()?;
                member.wakes = None;
            }
        }
        Ok(())
    }

    /// Everybody goes on.
    pub(super) async fn calm(&mut self) -> Result<(), String> {
        if let Some(brokers) = &mut self.brokers {
            brokers.calm().await?;
        }
        for member in &mut self.members {
            if member.wakes.take().is_some() {
                member.running.resume()?;
            }
        }
        Ok(())
    }

    /// Stops all, doors first, so that nothing is left that a processor has not seen.
    pub(super) async fn stop(mut self) -> Result<(), String> {
        self.members.sort_by_key(|member| match member.start.role {
            "ingest" => 0,
            "serve" => 1,
            _ => 2,
        });
        for member in self.members {
            let more = member.start.role == "serve";
            member.running.stop().await?;
            if more {
                // Doors and desk are closed: what they wrote last is handled within a moment.
                sleep(Duration::from_secs(2)).await;
            }
        }
        Ok(())
    }
}

/// Starts it, as a service manager does: one that finds the log away ends, and is started again.
async fn started(start: &Start) -> Result<Running, String> {
    let until = Instant::now() + STARTING;
    loop {
        match start.run() {
            Ok(running) => return Ok(running),
            Err(why) if Instant::now() >= until => return Err(why),
            Err(_) => sleep(Duration::from_secs(1)).await,
        }
    }
}

/// Topics, tables, and the key that all share.
async fn prepare(plan: &Plan, shared: &Shared, copies: u8) -> Result<(), String> {
    let kafka = eventlog::kafka::Options {
        partitions: 4,
        replication: copies,
        ..eventlog::kafka::Options::parse(&shared.log)?
    };
    let drift = eventlog::kafka::apply(&kafka).await.map_err(|e| e.to_string())?;
    if let Some(drift) = drift.first() {
        return Err(drift.to_string());
    }
    let database = projections::scylla::Options::parse(&shared.views)?;
    let once = projections::scylla::Replication::Simple(1);
    projections::scylla::apply(&database, &once)
        .await
        .map_err(|e| e.to_string())?;
    std::fs::create_dir_all(&plan.data).map_err(|e| e.to_string())?;
    let key: PathBuf = plan.data.join("token.key");
    api::token::Keys::load_or_create(&key)
        .map(drop)
        .map_err(|e| e.to_string())
}
