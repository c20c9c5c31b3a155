//! What runs behind the doors.

use std::sync::{Arc, Mutex, PoisonError};

use api::token::Issuer;
use eventlog::EventLog;
use eventlog::kafka::Standby;
use ingest::{Clocks, Intake, ticker};
use schemas::facts::TickedBy;
use tokio_util::sync::CancellationToken;

use super::Inside;
use super::known::Known;
use super::operations::Running;
use super::registry::Registry;
use super::share::{self, Work};
use super::supervisor::Supervisor;
use crate::control;
use crate::failure::Failure;
use crate::house::told::Told;
use crate::house::{House, Served};

/// Starts the roles that are among the duties, and what every process has.
pub(super) fn start_roles(
    inside: &Inside<'_>,
    (running, intake, known, issuer): (&Arc<Running>, &Arc<Intake>, &Known, Option<Arc<Issuer>>),
    processing: processors::runner::Options,
    projecting: projections::runner::Options,
) -> Result<(Supervisor, CancellationToken), Failure> {
    let (house, duties) = (inside.house, inside.duties);
    let stop = CancellationToken::new();
    let mut supervisor = Supervisor::new(inside.config.supervisor.clone(), Arc::clone(inside.roles));
    if duties.process {
        process(&mut supervisor, house, processing.clone(), &stop);
    }
    if duties.standby {
        stand_by(&mut supervisor, inside, processing, &stop)?;
    }
    if duties.ingest {
        tick(&mut supervisor, house, intake.clocks(), &stop);
        pace(&mut supervisor, intake, &stop);
    }
    let (keeper, until) = (Arc::clone(&house.policy), stop.clone());
    supervisor.start("policy", stop.clone(), move || {
        let (keeper, until) = (Arc::clone(&keeper), until.clone());
        async move { keeper.follow(until).await.map_err(|e| e.to_string()) }
    });
    keep_knowing(&mut supervisor, known, &stop);
    if let Some(issuer) = issuer {
        let (options, until) = (inside.config.issuer.clone(), stop.clone());
        supervisor.start("issuer", stop.clone(), move || {
            let keeping = super::issuer::keep(Arc::clone(&issuer), options.clone(), until.clone());
            async move {
                keeping.await;
                Ok(())
            }
        });
    }
    let (observed, until) = (Arc::clone(running), stop.clone());
    supervisor.start("observe", stop.clone(), move || {
        let (observed, until) = (Arc::clone(&observed), until.clone());
        async move { observed.observe(until).await }
    });
    if duties.project
        && let Some(served) = house.served.clone()
    {
        project(&mut supervisor, inside, served, projecting, &stop);
    }
    if house.kafka.is_some()
        && let Some(served) = &house.served
    {
        reach_views(&mut supervisor, running, served, &stop);
    }
    listen_for_commands(&mut supervisor, house, &stop)?;
    Ok((supervisor, stop))
}

/// Reads on who is who, and what was revoked.
fn keep_knowing(supervisor: &mut Supervisor, known: &Known, stop: &CancellationToken) {
    let (known, until) = (known.clone(), stop.clone());
    supervisor.start("known", stop.clone(), move || {
        let (following, until) = (known.clone().follow(), until.clone());
        async move {
            tokio::select! {
                () = until.cancelled() => Ok(()),
                ended = following => ended.map_err(|e| e.to_string()),
            }
        }
    });
}

/// What the log and a registry say of schemas.
pub(super) fn learn_schemas(
    supervisor: &mut Supervisor,
    house: &House,
    (told, registry): (Told, Option<Registry>),
    stop: &CancellationToken,
) {
    let (ours, until) = (house.clone(), stop.clone());
    supervisor.start("schemas", stop.clone(), move || {
        let (house, told, until) = (ours.clone(), told.clone(), until.clone());
        async move { house.keep_learning(told, until).await.map_err(|e| e.to_string()) }
    });
    if let Some(registry) = registry.map(Arc::new) {
        let (house, until) = (house.clone(), stop.clone());
        supervisor.start("registry", stop.clone(), move || {
            let (registry, house, until) = (Arc::clone(&registry), house.clone(), until.clone());
            async move {
                registry.keep(&house, until).await;
                Ok(())
            }
        });
    }
}

fn process(supervisor: &mut Supervisor, house: &House, options: processors::runner::Options, stop: &CancellationToken) {
    let (house, until) = (house.clone(), stop.clone());
    supervisor.start("process", stop.clone(), move || {
        let (log, clock, options) = (Arc::clone(&house.log), Arc::clone(&house.clock), options.clone());
        let work: Work = Arc::new(move |partitions, until| {
            let (log, clock) = (Arc::clone(&log), Arc::clone(&clock));
            let options = processors::runner::Options {
                partitions,
                ..options.clone()
            };
            Box::pin(async move {
                processors::runner::run(log, clock, options, until)
                    .await
                    .map_err(|e| e.to_string())
            })
        });
        share::run("process", house.kafka.clone(), work, until.child_token())
    });
}

/// Works on every partition, and says nothing of it as long as others do.
fn stand_by(
    supervisor: &mut Supervisor,
    inside: &Inside<'_>,
    options: processors::runner::Options,
    stop: &CancellationToken,
) -> Result<(), Failure> {
    let kafka = inside.house.kafka.clone();
    let kafka =
        kafka.ok_or_else(|| Failure::WrongUse("--standby is for a log that others share (log.url)".to_owned()))?;
    let log: Arc<dyn EventLog> = Arc::new(Standby::new(
        kafka,
        inside.config.processors.standby_after.0,
        Arc::clone(&inside.house.catalogue),
    ));
    let (clock, until) = (Arc::clone(&inside.house.clock), stop.clone());
    supervisor.start("standby", stop.clone(), move || {
        let (log, clock, options, until) = (Arc::clone(&log), Arc::clone(&clock), options.clone(), until.clone());
        async move {
            let run = processors::runner::run(log, clock, options, until).await;
            run.map_err(|e| e.to_string())
        }
    });
    Ok(())
}

fn tick(supervisor: &mut Supervisor, house: &House, clocks: &Arc<Clocks>, stop: &CancellationToken) {
    let (log, clock, until) = (Arc::clone(&house.log), Arc::clone(&house.clock), stop.clone());
    let clocks = Arc::clone(clocks);
    supervisor.start("tick", stop.clone(), move || {
        let (log, clock, until) = (Arc::clone(&log), Arc::clone(&clock), until.clone());
        let clocks = Arc::clone(&clocks);
        async move {
            ticker::run(log, clock, TickedBy::Ingest, clocks, until).await;
            Ok(())
        }
    });
}

fn pace(supervisor: &mut Supervisor, intake: &Arc<Intake>, stop: &CancellationToken) {
    let (intake, until) = (Arc::clone(intake), stop.clone());
    supervisor.start("pace", stop.clone(), move || {
        let (intake, until) = (Arc::clone(&intake), until.clone());
        async move {
            intake.keep_pace(until).await;
            Ok(())
        }
    });
}

fn project(
    supervisor: &mut Supervisor,
    inside: &Inside<'_>,
    served: Served,
    options: projections::runner::Options,
    stop: &CancellationToken,
) {
    let (house, until, behind) = (inside.house.clone(), stop.clone(), inside.behind.clone());
    supervisor.start("project", stop.clone(), move || {
        let (log, kafka) = (Arc::clone(&house.log), house.kafka.clone());
        let (served, options, until) = (served.clone(), options.clone(), until.clone());
        let behind = behind.clone();
        async move {
            let store = served.views.store();
            let work: Work = Arc::new(move |partitions, until| {
                let options = projections::runner::Options {
                    partitions,
                    ..options.clone()
                };
                let run = projections::runner::run(Arc::clone(&log), Arc::clone(&store), options, until);
                Box::pin(async move { run.await.map_err(|e| e.to_string()) })
            });
            let run = async move {
                let run = |rest| share::run("project", kafka.clone(), Arc::clone(&work), rest);
                served.gate.run(&until, run).await
            };
            behind.spawn(run).await.map_err(|e| e.to_string())?
        }
    });
}

/// Asks the views' database once a second whether it answers: who lives by it says so where it does not.
fn reach_views(supervisor: &mut Supervisor, running: &Arc<Running>, served: &Served, stop: &CancellationToken) {
    let (running, store, until) = (Arc::clone(running), served.views.store(), stop.clone());
    supervisor.start("views", stop.clone(), move || {
        let (running, store, until) = (Arc::clone(&running), Arc::clone(&store), until.clone());
        async move {
            let asking = running.reach_views(&*store);
            until.run_until_cancelled(asking).await;
            Ok(())
        }
    });
}

fn listen_for_commands(supervisor: &mut Supervisor, house: &House, stop: &CancellationToken) -> Result<(), Failure> {
    let path = house.dir.socket();
    let first = control::Door::open(&path).map_err(|e| Failure::because(path.display(), e))?;
    let first = Arc::new(Mutex::new(Some(first)));
    let (house, until) = (house.clone(), stop.clone());
    supervisor.start("commands", stop.clone(), move || {
        let (house, until, path) = (house.clone(), until.clone(), path.clone());
        let first = first.lock().unwrap_or_else(PoisonError::into_inner).take();
        async move {
            let door = match first {
                Some(door) => door,
                None => control::Door::open(&path).map_err(|e| e.to_string())?,
            };
            let answer = move |request| {
                let house = house.clone();
                async move { house.answer(request).await }
            };
            door.serve(answer, until).await.map_err(|e| e.to_string())
        }
    });
    Ok(())
}
