//! Consultations on their way out: what goes on in one is told for as long as somebody listens.

use std::collections::HashSet;
use std::fmt::Debug;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use schemas::ids::{ConsultationId, PatientId};
use tokio::sync::mpsc::Receiver;

use super::session::{About, Notice};
use super::sessions::Sessions;
use super::topic;

/// How often a consultation is looked for that is not there yet, and whether anybody still listens.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Whoever can tell what goes on in consultations.
#[async_trait]
pub trait Consultations: Debug + Send + Sync {
    /// Tells it from now on; `None` where there is none that may still be held.
    async fn follow(&self, id: &ConsultationId) -> Option<Followed>;
}

/// A consultation that is told.
#[derive(Debug)]
pub struct Followed {
    /// Whose it is.
    pub patient: PatientId,
    /// The frames; they end with the consultation.
    pub frames: Receiver<String>,
}

/// Who tells of which consultation.
#[derive(Debug)]
pub(super) struct Realtime {
    source: Option<Arc<dyn Consultations>>,
    sessions: Arc<Sessions>,
    /// Alerts that wait for a client.
    limit: usize,
    told: Mutex<HashSet<ConsultationId>>,
}

impl Realtime {
    pub(super) fn new(source: Option<Arc<dyn Consultations>>, sessions: Arc<Sessions>, limit: usize) -> Arc<Self> {
        Arc::new(Self {
            source,
            sessions,
            limit,
            told: Mutex::default(),
        })
    }

    /// Whether consultations are told here at all.
    pub(super) const fn is_there(&self) -> bool {
        self.source.is_some()
    }

    fn told(&self) -> MutexGuard<'_, HashSet<ConsultationId>> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Somebody has begun to listen: what tells them, where nothing does yet. To be run until the door is stopped.
    pub(super) fn listened(self: &Arc<Self>, id: ConsultationId) -> Option<impl Future<Output = ()> + Send + use<>> {
        let source = self.source.clone()?;
        if !self.told().insert(id.clone()) {
            return None;
        }
        let this = Arc::clone(self);
        Some(async move { this.tell(&*source, id).await })
    }

    async fn tell(&self, source: &dyn Consultations, id: ConsultationId) {
        let topic = topic::realtime(&id);
        loop {
            if let Some(mut followed) = source.follow(&id).await {
                self.hand_out(&mut followed, &topic).await;
            }
            {
                // Whoever subscribes finds it told, or not, and then tells it anew.
                let mut told = self.told();
                if !self.sessions.is_asked_for(&topic) {
                    told.remove(&id);
                    return;
                }
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Until the consultation ends, or nobody listens any more.
    async fn hand_out(&self, followed: &mut Followed, topic: &str) {
        loop {
            match tokio::time::timeout(LOOK_EVERY, followed.frames.recv()).await {
                Ok(Some(frame)) => {
                    let notice = Notice {
                        about: About::Patient(followed.patient.clone()),
                        topic: topic.to_owned(),
                        payload: Bytes::from(frame),
                        live: true,
                    };
                    if self.sessions.deliver(&Arc::new(notice), self.limit) > 0 {
                        continue;
                    }
                }
                Ok(None) => return,
                Err(_) => {}
            }
            if !self.sessions.is_asked_for(topic) {
                return;
            }
        }
    }
}
