//! The policy in force, as the journal says, and how another one becomes a fact.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use eventlog::follow;
use eventlog::{Append, EventLog, Limit, LogError, Offset, Topic};
use schemas::codec::{self, Catalogue};
use schemas::facts::PolicyChanged;
use schemas::ids::{EventId, Key};
use schemas::journal::{ClockQuality, Envelope, Fact};
use schemas::policy::Policy;
use schemas::time::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use smol_str::SmolStr;
use tokio::sync::{Mutex, watch};
use tokio_util::sync::CancellationToken;

use super::House;

/// The partition whose order of policies counts for the doors; every partition holds the same ones.
const WATCHED: u16 = 0;
/// After so many records the place is written down, so that a start does not read the whole journal again.
const NOTE_EVERY: Offset = 100_000;

/// Knows the policy in force, as far as the journal has been read.
#[derive(Debug)]
pub struct Keeper {
    log: Arc<dyn EventLog>,
    catalogue: Arc<Catalogue>,
    note: PathBuf,
    read: Mutex<Read>,
    shown: watch::Sender<Arc<Policy>>,
}

#[derive(Debug, Default)]
struct Read {
    next: Offset,
    noted: Offset,
    policy: Option<Policy>,
}

/// What is written down: derived from the journal, thrown away where it is another journal's.
#[derive(Debug, Serialize, Deserialize)]
struct Note {
    incarnation: EventId,
    next: Offset,
    policy: Option<Value>,
}

impl Keeper {
    /// Reads nothing yet.
    #[must_use]
    pub fn new(log: Arc<dyn EventLog>, catalogue: Arc<Catalogue>, dir: &Path) -> Self {
        Self {
            log,
            catalogue,
            note: dir.join("policy.note"),
            read: Mutex::default(),
            shown: watch::Sender::new(Arc::new(Policy::standard())),
        }
    }

    /// Where the doors read what they go by.
    #[must_use]
    pub fn in_force(&self) -> watch::Receiver<Arc<Policy>> {
        self.shown.subscribe()
    }

    /// Reads the journal to its end; the policy in force, `None` where there never was one.
    ///
    /// # Errors
    /// [`LogError`].
    pub async fn catch_up(&self) -> Result<Option<Policy>, LogError> {
        let mut read = self.read.lock().await;
        let end = self.log.bounds(Topic::Journal, WATCHED).await?.end;
        if read.next == 0
            && let Some(note) = self.noted(end)
        {
            *read = note;
            self.show(&read);
        }
        while read.next < end {
            let start = self.log.bounds(Topic::Journal, WATCHED).await?.start;
            let from = read.next.max(start);
            let batch = self.log.read(Topic::Journal, WATCHED, from, Limit::default()).await?;
            let Some(next) = batch.next() else { break };
            for entry in batch.entries() {
                if self.is_policy(&entry.value).await
                    && let Ok(envelope) = codec::decode(&entry.value, &self.catalogue)
                    && let Fact::PolicyChanged(changed) = envelope.fact
                {
                    read.policy = Some(changed.policy);
                    self.show(&read);
                }
            }
            read.next = next;
        }
        self.write_down(&mut read, false);
        Ok(read.policy.clone())
    }

    async fn is_policy(&self, value: &[u8]) -> bool {
        if let Err(error) = follow::told(&self.catalogue, value).await {
            tracing::error!(%error, "a record is passed over: the policy shown may be older than it");
        }
        codec::unframe(value).is_ok_and(|(id, _)| self.catalogue.kind(id) == Some("PolicyChanged"))
    }

    /// Follows the journal until `stop`.
    ///
    /// # Errors
    /// [`LogError`].
    pub async fn follow(&self, stop: CancellationToken) -> Result<(), LogError> {
        loop {
            self.catch_up().await?;
            let next = self.read.lock().await.next;
            tokio::select! {
                () = stop.cancelled() => break,
                there = self.log.wait(Topic::Journal, WATCHED, next) => there?,
            }
            // Ticks come every second; a policy may take as long to reach the doors.
            tokio::select! {
                () = stop.cancelled() => break,
                () = tokio::time::sleep(std::time::Duration::from_millis(200)) => {}
            }
        }
        self.write_down(&mut *self.read.lock().await, true);
        Ok(())
    }

    fn show(&self, read: &Read) {
        if let Some(policy) = &read.policy {
            self.shown.send_replace(Arc::new(policy.clone()));
        }
    }

    fn noted(&self, end: Offset) -> Option<Read> {
        let note: Note = serde_json::from_slice(&std::fs::read(&self.note).ok()?).ok()?;
        if note.incarnation != self.log.layout().incarnation || note.next > end {
            return None;
        }
        let policy = note.policy.map(|json| Policy::from_json(&json)).transpose().ok()?;
        Some(Read {
            next: note.next,
            noted: note.next,
            policy,
        })
    }

    /// A note that is lost or stale only costs reading again, so a failure to write one is no failure.
    fn write_down(&self, read: &mut Read, now: bool) {
        if read.next == read.noted || (!now && read.next < read.noted + NOTE_EVERY) {
            return;
        }
        let note = Note {
            incarnation: self.log.layout().incarnation,
            next: read.next,
            policy: read.policy.as_ref().map(Policy::to_json),
        };
        let written = || -> std::io::Result<()> {
            let beside = self.note.with_extension("new");
            let mut file = std::fs::File::create(&beside)?;
            file.write_all(&serde_json::to_vec(&note)?)?;
            file.sync_data()?;
            std::fs::rename(beside, &self.note)
        };
        match written() {
            Ok(()) => read.noted = read.next,
            Err(error) => tracing::debug!(%error, "the note on the policy was not written"),
        }
    }
}

/// Whether a schema is one of the policy's: only those records are decoded.
/// Records a policy in every partition.
///
/// # Errors
/// [`LogError`]; then it may hold in some partitions and not in others: apply it again.
pub async fn record(log: &dyn EventLog, policy: Policy, by: &str, now: Timestamp) -> Result<Offset, LogError> {
    let fact = Fact::PolicyChanged(PolicyChanged {
        policy,
        by: SmolStr::new(by),
    });
    let mut text = Vec::new();
    let mut envelope = Envelope {
        id: EventId([0; 16]),
        key: Key::Nobody,
        measured_at: now,
        gateway_at: None,
        received_at: now,
        clock: ClockQuality::Server,
        cause: None,
        fact,
    };
    codec::encode(&envelope, &mut text);
    let records = (0..log.layout().partitions).map(|partition| {
        envelope.id = EventId::of("fajma.policy", &[&partition.to_be_bytes(), &text]);
        let mut value = Vec::new();
        codec::encode(&envelope, &mut value);
        Append {
            partition,
            key: Bytes::new(),
            value: Bytes::from(value),
        }
    });
    let records = records.collect();
    let offsets = log.append(Topic::Journal, records).await?;
    Ok(offsets.first().copied().unwrap_or_default())
}

impl House {
    pub(super) async fn show_policy(&self) -> Result<Value, String> {
        match self.policy.catch_up().await {
            Ok(Some(policy)) => Ok(policy.to_json()),
            Ok(None) => Err("no policy has been applied yet: the first `fajma up` applies the default one".to_owned()),
            Err(e) => Err(e.to_string()),
        }
    }

    pub(super) async fn apply_policy(&self, policy: &Value, by: &str) -> Result<Value, String> {
        let policy = Policy::from_json(policy).map_err(|e| e.to_string())?;
        let unchanged = self.policy.catch_up().await.map_err(|e| e.to_string())?.as_ref() == Some(&policy);
        if unchanged {
            return Ok(serde_json::json!({"applied": false}));
        }
        let offset = record(&*self.log, policy, by, self.now())
            .await
            .map_err(|e| e.to_string())?;
        self.policy.catch_up().await.map_err(|e| e.to_string())?;
        Ok(serde_json::json!({"applied": true, "position": format!("journal:{WATCHED}:{offset}")}))
    }
}
