//! The same on Kafka and a database, a process for each role: what reaches the views end to end by number of processors,
//! and how much of what the bare client copies the processors reach.
//!
//! [`site`] is a log and views of their own, [`roles`] the processes on them, [`watch`] asks Kafka how far they are;
//! [`bare`] is the client alone, [`catching_up`] the comparison, [`report`] the tables.

pub mod bare;
pub mod catching_up;
pub mod report;
pub mod roles;
pub mod site;
pub mod watch;

use std::time::Duration;

use tokio::time::Instant;

use crate::counters::Counters;
use crate::house::Ways;
use crate::http::Connection;
use crate::load::{Door, Load, Pace};
use crate::phases::{self, Bench, Phases};
use crate::{Result, process};
use catching_up::CaughtUp;
use roles::Roles;
use site::{Engines, Site};
use watch::Watch;

/// How long the filling of the journal goes on at once.
const FILLING: Duration = Duration::from_secs(1);

/// What to do.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Who speaks, how, and for how long.
    pub phases: phases::Plan,
    /// The door.
    pub door: Door,
    /// Readings per request where the journal is filled.
    pub batch: u64,
    /// Numbers of processors.
    pub processors: Vec<usize>,
    /// Readings of the journal that processors catch up with.
    pub records: u64,
    /// Whether the views are left out: the comparison alone.
    pub compare_only: bool,
}

/// Everything measured.
#[derive(Debug, Default)]
pub struct Figures {
    /// End to end, by number of processors.
    pub ends: Vec<(usize, Phases)>,
    /// Readings per second that one `ingest` makes durable alone.
    pub door_alone: f64,
    /// Catching up, by number of processors.
    pub caught_up: Vec<CaughtUp>,
    /// The machine's load before each of the parts.
    pub loads: Vec<String>,
}

/// Runs the plan on topics and a keyspace whose names begin with `name`; `told` hears what is going on.
///
/// # Errors
/// Where a process fails, or does not do what it promised.
pub fn run(plan: &Plan, engines: &Engines, name: &str, told: &dyn Fn(&str)) -> Result<Figures> {
    let site = |part: &str| Site {
        engines: engines.clone(),
        name: format!("{name}_{part}"),
    };
    let mut figures = Figures::default();
    if !plan.compare_only {
        end_to_end(plan, &site("ends"), &mut figures, told)?;
    }
    let source = site("journal");
    told("one ingest alone, until the journal holds what processors are to catch up with");
    figures.door_alone = fill(plan, &source)?;
    for processors in &plan.processors {
        told(&format!(
            "catching up: {processors} of process, and the bare client before and after"
        ));
        figures.loads.push(process::load());
        let caught_up = catching_up::run(&source.journal()?, &site(&format!("catch{processors}")), *processors)?;
        told(&format!(
            "{:.0} records/s of {:.0}: {:.1} %",
            caught_up.processed.rate,
            caught_up.bare(),
            caught_up.share() * 100.0
        ));
        figures.caught_up.push(caught_up);
    }
    bare::delete(&source.options()?, &format!("{name}_"))?;
    Ok(figures)
}

fn end_to_end(plan: &Plan, site: &Site, figures: &mut Figures, told: &dyn Fn(&str)) -> Result<()> {
    let Some(first) = plan.processors.first() else {
        return Ok(());
    };
    let mut roles = Roles::start(site, *first)?;
    let bench = Bench::new(&plan.phases, told);
    for processors in &plan.processors {
        told(&format!("end to end: {processors} of process"));
        figures.loads.push(process::load());
        roles.processors(*processors)?;
        figures.ends.push((*processors, bench.phases(&mut roles, plan.door)?));
    }
    roles.stop()
}

/// Begins a journal and fills it through a door while nobody works on it; readings per second.
fn fill(plan: &Plan, site: &Site) -> Result<f64> {
    site.make_topics()?;
    let token = site.token()?;
    let watch = Watch::open(site.options()?)?;
    // Whoever processes begins the journal: with who speaks from there on.
    let process = site.start("process", 0)?;
    while watch.durable()? == 0 {
        std::thread::sleep(Duration::from_millis(50));
    }
    process.stop()?;
    // It is to wait for nobody.
    let ingest = site.start_with("ingest", 0, &[("FAJMA_INTAKE_BEHIND", "0")])?;
    let load = Load {
        ways: Ways {
            http: ingest.http,
            mqtt: ingest.mqtt.ok_or("ingest did not say where mqtt is")?,
            desk: ingest.http,
            token,
        },
        world: plan.phases.world,
        door: Door::Http { batch: plan.batch },
        connections: plan.phases.http_connections,
        pace: Pace::Closed,
        lasting: FILLING,
    };
    let mut doors = Connection::open(ingest.http, &load.ways.token)?;
    let (numbers, began) = (std::sync::Arc::default(), Instant::now());
    while Counters::read(&mut doors)?.accepted < plan.records {
        load.run(&numbers)?;
    }
    let rate = Counters::read(&mut doors)?.accepted as f64 / began.elapsed().as_secs_f64();
    ingest.stop()?;
    Ok(rate)
}
