//! What is killed: the one process that does everything, or a process for each role, some of them paused as well.

use std::path::PathBuf;
use std::time::Duration;

use fastrand::Rng;
use tokio::time::{Instant, sleep};

use super::server::{Running, Start};
use super::{Plan, Shared};

/// How long a process stands still: often longer than its group waits for it.
const STILL: std::ops::Range<u64> = 300..12_000;
/// Of a hundred times that something happens, so often a process is paused instead of killed, where there are several.
const PAUSES: u32 = 30;

/// The roles of a fleet, each with how many processes.
const ROLES: [(&str, usize); 4] = [("ingest", 1), ("serve", 1), ("process", 3), ("project", 2)];

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
        let roles: &[(&'static str, usize)] = match &plan.shared {
            None => &[("up", 1)],
            Some(shared) => {
                prepare(plan, shared).await?;
                &ROLES
            }
        };
        let mut fleet = Self {
            members: Vec::new(),
            http: String::new(),
            mqtt: String::new(),
            desk: String::new(),
        };
        for (role, count) in roles {
            for n in 0..*count {
                fleet.add(plan, role, n)?;
            }
        }
        Ok(fleet)
    }

    /// Starts one more, which comes back where it was.
    fn add(&mut self, plan: &Plan, role: &'static str, n: usize) -> Result<(), String> {
        let data = match plan.shared {
            None => plan.data.clone(),
            Some(_) => plan.data.join(format!("{role}-{n}")),
        };
        let (takes, serves) = (matches!(role, "up" | "ingest"), matches!(role, "up" | "serve"));
        let mut start = Start::new(plan, role, data);
        start.listen = Some("127.0.0.1:0".to_owned());
        start.mqtt = takes.then(|| "127.0.0.1:0".to_owned());
        let running = start.run()?;
        start.listen = Some(running.http.clone());
        if takes {
            (self.http, self.mqtt) = (running.http.clone(), running.mqtt.clone());
            start.mqtt = Some(running.mqtt.clone());
        }
        if serves {
            self.desk.clone_from(&running.http);
        }
        self.members.push(Member {
            start,
            running,
            wakes: None,
        });
        Ok(())
    }

    /// After a while something happens to one of them; what, in words.
    pub(super) async fn disturb(&mut self, chance: &mut Rng) -> Result<String, String> {
        sleep(Duration::from_millis(chance.u64(50..1500))).await;
        self.wake(Instant::now())?;
        let several = self.members.len() > 1;
        let which = chance.usize(..self.members.len());
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
        member.running = member.start.run()?;
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
    pub(super) fn calm(&mut self) -> Result<(), String> {
        for member in &mut self.members {
            if member.wakes.take().is_some() {
                member.running.resume()?;
            }
        }
        Ok(())
    }

    /// Stops all, doors first, so that nothing is left that a processor has not seen.
    pub(super) async fn stop(self) -> Result<(), String> {
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

/// Topics, tables, and the key that all share.
async fn prepare(plan: &Plan, shared: &Shared) -> Result<(), String> {
    let kafka = eventlog::kafka::Options {
        partitions: 4,
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
