//! A process for each role on one site, of processors as many as wanted.

use std::path::PathBuf;
use std::time::Duration;

use super::site::{Site, stop};
use super::watch::Watch;
use crate::counters::Counters;
use crate::house::{Cpu, House, Ways};
use crate::http::Connection;
use crate::running::Running;
use crate::{Result, process};

/// Engines by the names that their script gives them.
const ENGINES: [&str; 5] = ["kafka", "kafka-1", "kafka-2", "kafka-3", "cassandra"];

/// The running processes.
#[derive(Debug)]
pub struct Roles {
    site: Site,
    ingest: Running,
    process: Vec<Running>,
    project: Running,
    serve: Running,
    ways: Ways,
    doors: Connection,
    projecting: Connection,
    log: Watch,
}

impl Roles {
    /// Starts one of each, on topics and tables that are made for it.
    ///
    /// # Errors
    /// Where something does not start.
    pub fn start(site: &Site, processors: usize) -> Result<Self> {
        site.make_topics()?;
        site.make_tables()?;
        let token = site.token()?;
        let process = site.start_processors(processors)?;
        let (ingest, project, serve) = (
            site.start("ingest", 0)?,
            site.start("project", 0)?,
            site.start("serve", 0)?,
        );
        let ways = Ways {
            http: ingest.http,
            mqtt: ingest.mqtt.ok_or("ingest did not say where mqtt is")?,
            desk: serve.http,
            token,
        };
        Ok(Self {
            site: site.clone(),
            doors: Connection::open(ingest.http, &ways.token)?,
            projecting: Connection::open(project.http, &ways.token)?,
            log: Watch::open(site.options()?)?,
            ingest,
            process,
            project,
            serve,
            ways,
        })
    }

    /// Other processors in place of those that run.
    ///
    /// # Errors
    /// Where one does not stop or start.
    pub fn processors(&mut self, count: usize) -> Result<()> {
        if count != self.process.len() {
            stop(std::mem::take(&mut self.process))?;
            self.process = self.site.start_processors(count)?;
        }
        Ok(())
    }

    fn all(&self) -> impl Iterator<Item = (&'static str, &Running)> {
        let processors = self.process.iter().map(|one| ("process", one));
        processors.chain([
            ("ingest", &self.ingest),
            ("project", &self.project),
            ("serve", &self.serve),
        ])
    }

    /// Stops all, doors first.
    ///
    /// # Errors
    /// Where one does not stop well.
    pub fn stop(self) -> Result<()> {
        self.ingest.stop()?;
        self.serve.stop()?;
        stop(self.process)?;
        self.project.stop()
    }
}

impl House for Roles {
    fn ways(&self) -> &Ways {
        &self.ways
    }

    fn counters(&mut self) -> Result<Counters> {
        let (doors, projected) = (Counters::read(&mut self.doors)?, Counters::read(&mut self.projecting)?);
        Ok(Counters {
            accepted: doors.accepted,
            duplicates: doors.duplicates,
            rejected: doors.rejected,
            durable: self.log.durable()?,
            evaluated: self.log.evaluated()?,
            projected: projected.projected,
            concluded: self.log.concluded()?,
            shown: projected.shown,
        })
    }

    fn cpu(&self) -> Result<Cpu> {
        let mut cpu = engines();
        for (role, running) in self.all() {
            *cpu.ours.entry(role).or_default() += process::cpu_seconds(running.pid())?;
        }
        Ok(cpu)
    }

    fn peak_memory(&self) -> Result<u64> {
        self.all().map(|(_, running)| process::peak_memory(running.pid())).sum()
    }

    fn look_every(&self) -> Duration {
        Duration::from_millis(100)
    }
}

/// CPU seconds of the engines that `docker/engines/engines run` has started; none where others did.
pub(super) fn engines() -> Cpu {
    let run = std::env::var_os("ENGINES_RUN").map(PathBuf::from);
    let used = |engine: &'static str| {
        let pid = std::fs::read_to_string(run.as_ref()?.join(engine).join("pid")).ok()?;
        let seconds = process::cpu_seconds(pid.trim().parse().ok()?).ok()?;
        Some((engine, seconds))
    };
    Cpu {
        engines: ENGINES.into_iter().filter_map(used).collect(),
        ..Cpu::default()
    }
}
