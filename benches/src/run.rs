//! A run of the embedded program: every door's phases, a restart, a replay.

use std::time::Duration;

use crate::house::House;
use crate::load::Door;
use crate::phases::{self, Bench, Phases};
use crate::server::Start;
use crate::{Result, process};

/// What to do.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Who speaks, how, and for how long.
    pub phases: phases::Plan,
    /// Which doors.
    pub doors: Vec<Door>,
    /// Readings to have in the log at least before the restart.
    pub fill: u64,
    /// The door to fill it through.
    pub fill_by: Door,
    /// Whether to recompute everything at the end.
    pub replay: bool,
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
    let mut server = start.start()?;
    let first_start = server.ready_after;
    let bench = Bench::new(&plan.phases, told);
    let mut doors = Vec::new();
    for door in &plan.doors {
        doors.push(bench.phases(&mut server, *door)?);
    }
    bench.fill(&mut server, plan.fill_by, plan.fill)?;
    let readings = server.counters()?.accepted;
    let peak_memory = server.peak_memory()?;
    told("stopping and starting again");
    server.stop()?;
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
