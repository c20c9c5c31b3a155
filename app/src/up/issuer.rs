//! Keeps the keys of a configured issuer of tokens up to date.

use std::sync::Arc;
use std::time::Duration;

use api::token::Issuer;
use tokio_util::sync::CancellationToken;

use crate::client;
use crate::config;
use crate::tls;

/// Keys are read no sooner again, whoever shows tokens by keys that nobody knows.
const NO_SOONER: Duration = Duration::from_secs(5);
/// How long the issuer may take to give them.
const PATIENCE: Duration = Duration::from_secs(10);
/// After a failure keys are read again so soon.
const AGAIN: Duration = Duration::from_secs(15);

/// Reads the keys once.
///
/// # Errors
/// Why they could not be read; those that were known stay.
pub(super) async fn read(issuer: &Issuer, options: &config::Issuer) -> Result<usize, String> {
    let place = &options.jwks;
    let fetched = async {
        if place.starts_with("http://") || place.starts_with("https://") {
            let tls = if place.starts_with("https://") {
                Some(tls::client(None).map_err(|e| e.to_string())?)
            } else {
                None
            };
            client::fetch(place, tls).await
        } else {
            tokio::fs::read(place).await.map_err(|e| e.to_string())
        }
    };
    let fetched = tokio::time::timeout(PATIENCE, fetched).await;
    let jwks = fetched.map_err(|_| format!("nothing came within {} s", PATIENCE.as_secs()));
    let read = jwks
        .and_then(|jwks| jwks)
        .and_then(|jwks| issuer.read(&jwks).map_err(|e| e.to_string()));
    read.map_err(|why| format!("{place}: {why}"))
}

/// Reads them again every so often, and when a token names a key that is not known, until `stop`.
pub(super) async fn keep(issuer: Arc<Issuer>, options: config::Issuer, stop: CancellationToken) {
    let mut failed = false;
    loop {
        let pause = if failed {
            AGAIN.min(options.refresh.0)
        } else {
            options.refresh.0
        };
        let wanted = async {
            tokio::time::sleep(NO_SOONER).await;
            issuer.wanted().await;
        };
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
            () = wanted => {}
        }
        match read(&issuer, &options).await {
            Ok(keys) => {
                if failed {
                    tracing::info!(keys, "the issuer's keys are there again");
                }
                failed = false;
            }
            Err(why) => {
                tracing::error!(
                    why,
                    "the issuer's keys could not be read: those that were known stay good"
                );
                failed = true;
            }
        }
    }
}
