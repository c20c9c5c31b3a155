//! The live stream of a consultation for doors that are not WebSockets.

use std::sync::Arc;

use schemas::facts::ConsultationState;
use schemas::ids::{ConsultationId, PatientId};
use tokio::sync::mpsc::{Receiver, channel};

use super::feed::{Broken, Feed, Scope};
use super::held::Held;
use crate::state::State;

/// Frames that wait for a slow taker.
const WAITING: usize = 16;

/// A consultation that is told.
#[derive(Debug)]
pub struct Followed {
    /// Whose it is: frames are for those who may see them.
    pub patient: PatientId,
    /// The frames of `/ws/consultation/{id}`; they end with the consultation.
    pub frames: Receiver<String>,
}

/// Tells what goes on in a consultation from now on; `None` where there is none that may still be held.
pub async fn follow_consultation(state: &Arc<State>, id: &ConsultationId) -> Option<Followed> {
    let found = state.consultations.find(state, id).await.ok()?;
    if found.state() == ConsultationState::Closed {
        return None;
    }
    let (sender, frames) = channel(WAITING);
    let held = Held::of(&found);
    let state = Arc::clone(state);
    tokio::spawn(async move {
        let told = async {
            let mut feed = Feed::begin(&state.hub, Scope::Consultation(held), None).await?;
            if let Some(held) = feed.held() {
                // Where the views do not show it in time, an opening that comes is still seen in the log.
                let _ = held.look_again(&state).await;
            }
            loop {
                let frame = feed.next().await?;
                if sender.send(frame.json(&feed.cursor())).await.is_err() {
                    return Ok::<(), Broken>(());
                }
            }
        };
        tokio::select! {
            () = sender.closed() => {}
            () = state.parts.shutdown.cancelled() => {}
            Err(broken) = told => {
                if !matches!(broken, Broken::Over) {
                    tracing::warn!(error = %broken, "a consultation cannot be told any more");
                }
            }
        }
    });
    Some(Followed {
        patient: found.patient_id,
        frames,
    })
}
