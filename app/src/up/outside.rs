//! The doors through which we fetch what lies with others. They stand beside the doors that others come to, but what ends
//! them is mostly somebody else's absence: it shows, and they try again; the program itself is none the worse for it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use eventlog::kafka::RawGroup;
use ingest::Intake;
use ingest::mqtt::bridge::Bridge;
use ingest::raw::RawDoor;
use tokio::time::timeout;
use tokio_rustls::rustls::ClientConfig;
use tokio_util::sync::CancellationToken;

use super::supervisor::Supervisor;
use crate::config::Config;
use crate::failure::Failure;
use crate::tls;

/// How long another broker may take to answer at all.
const OPENING: Duration = Duration::from_secs(10);

/// Looks at the options before anything starts.
///
/// # Errors
/// [`Failure::WrongUse`] naming the option at fault.
pub(super) fn check(config: &Config) -> Result<(), Failure> {
    let log = config.log.kafka().map_err(Failure::WrongUse)?;
    config.raw.sources(log.as_ref())?;
    if config.bridge.broker()?.is_some_and(|reached| reached.secured) {
        secured(config)?;
    }
    Ok(())
}

fn secured(config: &Config) -> Result<Arc<ClientConfig>, Failure> {
    let ca = Some(config.bridge.ca.as_path()).filter(|ca| *ca != Path::new(""));
    tls::client(ca).map_err(|failure| match failure {
        Failure::WrongUse(why) => Failure::WrongUse(why.replacen("--ca", "bridge.ca", 1)),
        other => other,
    })
}

/// Starts reading raw topics, where there are any.
///
/// # Errors
/// [`Failure::WrongUse`] naming the option at fault.
pub(super) fn start_raw(
    supervisor: &mut Supervisor,
    config: &Config,
    intake: &Arc<Intake>,
    stop: &CancellationToken,
) -> Result<(), Failure> {
    let log = config.log.kafka().map_err(Failure::WrongUse)?;
    let Some((outside, sources)) = config.raw.sources(log.as_ref())? else {
        return Ok(());
    };
    let (intake, until) = (Arc::clone(intake), stop.clone());
    supervisor.start_outside("raw", stop.clone(), move |well| {
        let (outside, sources, until) = (outside.clone(), sources.clone(), until.child_token());
        let mut door = RawDoor::new(Arc::clone(&intake), sources, until.clone());
        async move {
            let joined = until.run_until_cancelled(RawGroup::join(outside)).await;
            let Some(joined) = joined else { return Ok(()) };
            let mut group = joined.map_err(|e| e.to_string())?;
            let mut trouble = group.trouble.clone();
            well.say();
            let ended = loop {
                tokio::select! {
                    () = until.cancelled() => break Ok(()),
                    error = door.failed() => break Err(error.to_string()),
                    Ok(()) = trouble.changed() => match &*trouble.borrow_and_update() {
                        Some(why) => well.lacks(why),
                        None => well.say(),
                    },
                    lane = group.lane() => match lane {
                        Ok(lane) => door.follow(lane),
                        Err(error) => break Err(error.to_string()),
                    },
                }
            };
            until.cancel();
            door.ended().await;
            group.leave().await;
            ended
        }
    });
    Ok(())
}

/// Starts the bridge to another broker, where there is one.
///
/// # Errors
/// [`Failure::WrongUse`] naming the option at fault.
pub(super) fn start_bridge(
    supervisor: &mut Supervisor,
    config: &Config,
    intake: &Arc<Intake>,
    stop: &CancellationToken,
) -> Result<(), Failure> {
    let Some(reached) = config.bridge.broker()? else {
        return Ok(());
    };
    let secured = if reached.secured { Some(secured(config)?) } else { None };
    let bridge = Bridge::new(Arc::clone(intake), reached.broker);
    let (address, until) = (reached.address, stop.clone());
    supervisor.start_outside("bridge", stop.clone(), move |well| {
        let (bridge, secured) = (Arc::clone(&bridge), secured.clone());
        let (address, until) = (address.clone(), until.clone());
        async move {
            let connecting = timeout(OPENING, tls::connect(&address, secured.as_ref()));
            let Some(opened) = until.run_until_cancelled(connecting).await else {
                return Ok(());
            };
            let stream = opened.map_err(|_| format!("{address}: nobody answers"))??;
            let ended = bridge.connection(stream, Box::new(move || well.say()), until).await;
            ended.map_err(|why| format!("{address}: {why}"))
        }
    });
    Ok(())
}
