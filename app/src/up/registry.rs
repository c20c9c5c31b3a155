//! A registry of schemas, where one is configured: what is written to Kafka is registered there and framed by its ids.
//!
//! Nothing waits for it. What it gave once is told in the log and used while it is away; what it was never asked is
//! framed by our own ids until it answers, which only tools that ask it do not understand. What is read by this program is
//! the same either way (`eventlog::kafka`).

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::body::Bytes;
use hyper::{Request, header};
use schemas::codec::{KINDS, Kind};
use serde_json::{Value, json};
use tokio_rustls::rustls::ClientConfig;
use tokio_util::sync::CancellationToken;

use crate::config;
use crate::failure::Failure;
use crate::house::House;
use crate::house::told::Told;
use crate::{client, tls};

/// The registry's media type.
const TYPE: &str = "application/vnd.schemaregistry.v1+json";

/// A registry, and how it is asked.
pub(super) struct Registry {
    url: String,
    options: config::Registry,
    tls: Option<Arc<ClientConfig>>,
}

/// Ids by ours, and why some are missing.
type Given = (BTreeMap<u32, u32>, Result<(), String>);

impl Registry {
    /// The one that is configured.
    ///
    /// # Errors
    /// What is wrong with its options.
    pub(super) fn of(options: &config::Registry, on_kafka: bool) -> Result<Option<Self>, Failure> {
        let Some(url) = options.address(on_kafka)? else {
            return Ok(None);
        };
        let ca = Some(options.ca.as_path()).filter(|ca| !ca.as_os_str().is_empty());
        let tls = url.starts_with("https://").then(|| tls::client(ca)).transpose();
        Ok(Some(Self {
            url: url.to_owned(),
            tls: tls.map_err(|e| Failure::because("registry.ca", e))?,
            options: options.clone(),
        }))
    }

    /// Registers every version of every kind, oldest first, as its rules of compatibility want it; what is there already
    /// keeps its id. Ends at the first failure to reach it; what it refuses is left out.
    async fn register(&self) -> Given {
        let (mut ids, mut refused) = (BTreeMap::new(), Vec::new());
        for kind in KINDS {
            match tokio::time::timeout(self.options.patience.0, self.register_one(kind)).await {
                Ok(Ok(Ok(id))) => drop(ids.insert(kind.id, id)),
                Ok(Ok(Err(why))) => refused.push(format!("fajma.{}: {why}", kind.name)),
                Ok(Err(why)) => return (ids, Err(why)),
                Err(_) => return (ids, Err(format!("no answer within {:?}", self.options.patience.0))),
            }
        }
        let all = if refused.is_empty() {
            Ok(())
        } else {
            Err(refused.join("; "))
        };
        (ids, all)
    }

    /// The id it gives a schema, or why it takes none; an error where it was not reached.
    async fn register_one(&self, kind: &Kind) -> Result<Result<u32, String>, String> {
        let mut request = Request::post(format!("/subjects/fajma.{}/versions", kind.name))
            .header(header::CONTENT_TYPE, TYPE)
            .header(header::ACCEPT, TYPE);
        if !self.options.user.is_empty() {
            let file = &self.options.password_file;
            let password = tokio::fs::read_to_string(file).await;
            let password = password.map_err(|e| format!("registry.password_file {}: {e}", file.display()))?;
            let login = format!("{}:{}", self.options.user, password.trim_end_matches(['\r', '\n']));
            request = request.header(header::AUTHORIZATION, format!("Basic {}", STANDARD.encode(login)));
        }
        let body = Bytes::from(json!({ "schema": kind.text }).to_string());
        let (status, body) = client::ask(&self.url, self.tls.clone(), request, body).await?;
        let answer: Value = serde_json::from_slice(&body).unwrap_or_default();
        let id = answer["id"].as_u64().and_then(|id| u32::try_from(id).ok());
        let said = answer["message"].as_str().unwrap_or("no reason");
        match (status, id) {
            (200, Some(id)) => Ok(Ok(id)),
            (409 | 422, _) => Ok(Err(said.to_owned())),
            (401 | 403, _) => Err(format!("{status}: it does not take registry.user: {said}")),
            _ => Err(format!("{status}: {said}")),
        }
    }

    /// [`agree`](Self::agree), and a word where it did not answer for everything. Whether it did.
    async fn agreed(&self, house: &House) -> bool {
        let agreed = self.agree(house).await;
        if let Err(why) = &agreed {
            let registry = self.url.as_str();
            tracing::warn!(
                registry,
                why,
                "the registry of schemas is asked again: nothing waits for it"
            );
        }
        agreed.is_ok()
    }

    /// Asks it, tells the log, and frames by its ids from now on.
    async fn agree(&self, house: &House) -> Result<(), String> {
        let (ids, all) = self.register().await;
        let mut told = Told::default();
        let read = house.learn(&mut told).await;
        read.map_err(|e| e.to_string())?;
        let news = house.tell(&told, Some((&self.url, &ids))).await;
        let news = news.map_err(|e| e.to_string())?;
        let mut known = told.ids(&self.url);
        known.extend(ids);
        let count = known.len();
        if let Some(kafka) = &house.kafka {
            kafka.frame_by(known);
        }
        if news > 0 {
            tracing::info!(registry = self.url, schemas = count, news, "schemas are registered");
        }
        let without = KINDS.len().saturating_sub(count);
        all.map_err(|why| {
            format!(
                "{why}; {without} of {} schemas have no id of it and are framed by ours",
                KINDS.len()
            )
        })
    }

    /// Asks it until it has answered for everything, until `stop`.
    pub(super) async fn keep(&self, house: &House, stop: CancellationToken) {
        while !self.agreed(house).await {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(self.options.retry.0) => {}
            }
        }
        stop.cancelled().await;
    }
}

/// Learns what the log tells of schemas and tells it what this build writes by, before anything is written. Where a
/// registry is configured and there is something that it was never asked, it is asked first, but not waited for.
///
/// # Errors
/// Where the log fails.
pub(super) async fn begin(house: &House, registry: Option<&Registry>) -> Result<Told, Failure> {
    let failed = |e| Failure::because("fajma.control", e);
    let mut told = Told::default();
    house.learn(&mut told).await.map_err(failed)?;
    house.tell(&told, None).await.map_err(failed)?;
    if let (Some(registry), Some(kafka)) = (registry, &house.kafka) {
        let ids = told.ids(&registry.url);
        let whole = KINDS.iter().all(|kind| ids.contains_key(&kind.id));
        kafka.frame_by(ids);
        if !whole {
            registry.agreed(house).await;
        }
    }
    Ok(told)
}
