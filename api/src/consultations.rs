//! Consultations as people change them: each change is checked against what the journal holds of the consultation, by one
//! writer at a time.
//!
//! What is checked is read from the views, which are a few milliseconds behind the journal: whoever changes
//! a consultation waits until they show what was written to it last. The lock is this process's own: where several
//! processes serve one log, two openings in the same few milliseconds may both be taken; every reader goes by the first.

use std::collections::HashMap;
use std::time::Duration;

use eventlog::Topic;
use projections::query::{self, Consultation};
use schemas::ids::{ConsultationId, Key};
use schemas::journal::Fact;
use schemas::partition;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::command::{self, Done};
use crate::problem::Problem;
use crate::read_after::{Position, projected};
use crate::state::State;

/// The longest wait for the views to show what was written to a consultation.
const PATIENCE: Duration = Duration::from_secs(5);
/// Places a writer remembers before all are forgotten, and the views waited for instead.
const REMEMBERED: usize = 1_024;

/// Writers of this process: one consultation always has the same one, and one that waits for the views keeps few waiting.
const WRITERS: usize = 64;

/// Where consultations were written to last.
type Written = HashMap<ConsultationId, Position>;

/// The writers of this process.
#[derive(Debug)]
pub(crate) struct Desk {
    written: [Mutex<Written>; WRITERS],
}

impl Default for Desk {
    fn default() -> Self {
        Self {
            written: std::array::from_fn(|_| Mutex::default()),
        }
    }
}

impl Desk {
    fn writer(&self, id: &ConsultationId) -> &Mutex<Written> {
        &self.written[partition::murmur2(id.as_str().as_bytes()) as usize % WRITERS]
    }

    /// Begins a consultation that nobody has planned yet.
    ///
    /// # Errors
    /// [`Problem::Conflict`] where the id is taken.
    pub(crate) async fn plan(&self, state: &State, id: &ConsultationId, key: Key, fact: Fact) -> Result<Done, Problem> {
        let mut written = self.writer(id).lock().await;
        shown(state, &written, id, Some(&key)).await?;
        if query::consultation(&*state.parts.views, id).await?.is_some() {
            return Err(Problem::Conflict {
                detail: "There is a consultation with this id already.",
                detail_fr: "Une consultation porte déjà cet id.",
            });
        }
        append(state, &mut written, id, key, fact).await
    }

    /// Records what `decide` makes of the consultation as it is now.
    ///
    /// # Errors
    /// [`Problem::NotFound`] where there is none; what `decide` says.
    pub(crate) async fn change(
        &self,
        state: &State,
        id: &ConsultationId,
        decide: impl FnOnce(&Consultation) -> Result<Fact, Problem> + Send,
    ) -> Result<Done, Problem> {
        let mut written = self.writer(id).lock().await;
        let consultation = current(state, &written, id).await?;
        let fact = decide(&consultation)?;
        append(state, &mut written, id, Key::Patient(consultation.patient_id), fact).await
    }

    /// A consultation, shown with everything that this process has written to it.
    ///
    /// # Errors
    /// [`Problem::NotFound`] where there is none.
    pub(crate) async fn find(&self, state: &State, id: &ConsultationId) -> Result<Consultation, Problem> {
        if let Some(found) = query::consultation(&*state.parts.views, id).await? {
            return Ok(found);
        }
        let place = self.writer(id).lock().await.get(id).copied();
        let Some(place) = place else {
            return Err(Problem::NotFound);
        };
        wait(state, place.partition, place.offset + 1).await?;
        query::consultation(&*state.parts.views, id)
            .await?
            .ok_or(Problem::NotFound)
    }
}

async fn current(state: &State, written: &Written, id: &ConsultationId) -> Result<Consultation, Problem> {
    shown(state, written, id, None).await?;
    let views = &*state.parts.views;
    let found = query::consultation(views, id).await?.ok_or(Problem::NotFound)?;
    if written.contains_key(id) {
        return Ok(found);
    }
    // Another process, or this one before it was started, may have written to it just now.
    shown(state, written, id, Some(&Key::Patient(found.patient_id))).await?;
    query::consultation(views, id).await?.ok_or(Problem::NotFound)
}

/// Waits until the views show what was written to a consultation; where that is not known, all about `key`.
async fn shown(state: &State, written: &Written, id: &ConsultationId, key: Option<&Key>) -> Result<(), Problem> {
    if let Some(place) = written.get(id) {
        return wait(state, place.partition, place.offset + 1).await;
    }
    let Some(key) = key else { return Ok(()) };
    let log = &state.parts.log;
    let partition = partition::of_bytes(key.text().as_bytes(), log.layout().partitions);
    let end = log.bounds(Topic::Journal, partition).await?.end;
    wait(state, partition, end).await
}

async fn wait(state: &State, partition: u16, next: i64) -> Result<(), Problem> {
    let deadline = Instant::now() + PATIENCE;
    projected(&*state.parts.views, Topic::Journal, partition, next, deadline).await
}

async fn append(
    state: &State,
    written: &mut Written,
    id: &ConsultationId,
    key: Key,
    fact: Fact,
) -> Result<Done, Problem> {
    let (done, position) = command::recorded(state, key, fact).await?;
    if written.len() >= REMEMBERED {
        written.clear();
    }
    written.insert(id.clone(), position);
    Ok(done)
}
