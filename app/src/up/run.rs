//! From the start to the signal that ends it.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::{Duties, Server, notify, start};
use crate::config::Config;
use crate::failure::Failure;

/// Starts everything, says where it is, and stops when asked to.
///
/// # Errors
/// Where it does not start, or not everything could be saved.
pub async fn run(config: Config, duties: Duties, demo: usize, json: bool) -> Result<(), Failure> {
    // Before anything starts: whoever asks at once is heard too.
    let mut asked = Asked::listen()?;
    let mut server = start(&config, duties).await?;
    if demo > 0 {
        server.add_demo(demo)?;
    }
    greet(&server, duties, demo, json)?;
    let stop = CancellationToken::new();
    let (running, options) = (Arc::clone(&server.running), config.supervisor.clone());
    let watchdog = tokio::spawn(notify::watchdog(stop.clone(), move || running.stuck(&options)));
    let serving = async {
        if server.ready(Duration::from_secs(60)).await.is_ok() {
            tracing::info!(http = %server.http, "ready");
        }
        notify::ready();
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = serving => {}
        () = asked.once() => {}
    }
    notify::stopping();
    tracing::info!("stopping");
    let whole = server.stop().await;
    stop.cancel();
    let _ = watchdog.await;
    if whole {
        tracing::info!("stopped");
        Ok(())
    } else {
        Err(Failure::Failed(
            "not everything ended in time; what was acknowledged is safe".to_owned(),
        ))
    }
}

fn greet(server: &Server, duties: Duties, demo: usize, json: bool) -> Result<(), Failure> {
    use std::io::Write;
    let login = if duties.serve { Some(server.login_link()?) } else { None };
    let mut out = std::io::stdout().lock();
    let written = if json {
        let mqtt = server.mqtt.map(|a| a.to_string());
        let line = serde_json::json!({"http": server.http.to_string(), "mqtt": mqtt, "tls": server.tls.is_some(), "login": login});
        writeln!(out, "{line}")
    } else {
        let scheme = if server.tls.is_some() { "mqtts" } else { "mqtt" };
        let mut text = match demo {
            0 => "FAJMA is up.\n\n".to_owned(),
            demo => format!("FAJMA is up, {demo} simulated patients.\n\n"),
        };
        if let Some(login) = login {
            text += &format!("  sign in  {login}\n           (good once, within the hour)\n");
        }
        text += &format!("  http     {}\n", server.url());
        if duties.ingest {
            let mqtt = server
                .mqtt
                .map_or_else(|| "none".to_owned(), |a| format!("{scheme}://{a}"));
            text += &format!("  mqtt     {mqtt}\n");
        }
        writeln!(out, "{text}  data     {}\n", server.house.dir.path().display())
    };
    let _ = written.and_then(|()| out.flush());
    Ok(())
}

/// SIGTERM and SIGINT, heard from the moment this is made.
struct Asked {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl Asked {
    fn listen() -> Result<Self, Failure> {
        use tokio::signal::unix::{SignalKind, signal};
        let heard = |kind| signal(kind).map_err(|e| Failure::because("signals", e));
        Ok(Self {
            terminate: heard(SignalKind::terminate())?,
            interrupt: heard(SignalKind::interrupt())?,
        })
    }

    async fn once(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
