//! What people decide, put into the journal.

use eventlog::{Append, Topic};
use schemas::codec;
use schemas::ids::{EventId, Key};
use schemas::journal::{ClockQuality, Envelope, Fact};
use schemas::time::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

use crate::problem::Problem;
use crate::read_after::Position;
use crate::state::State;

/// What a command answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct Done {
    /// Where it stands in the journal: send it as `Fajma-Read-After` to see what came of it.
    #[schema(example = "journal:3:4711")]
    pub(crate) position: String,
}

/// Appends a fact about `key`; returns once it is durable.
pub(crate) async fn record(state: &State, key: Key, fact: Fact) -> Result<Done, Problem> {
    recorded(state, key, fact).await.map(|(done, _)| done)
}

/// The same, with the place in the journal.
pub(crate) async fn recorded(state: &State, key: Key, fact: Fact) -> Result<(Done, Position), Problem> {
    let append = append(key, fact, state.now(), state.parts.log.layout().partitions);
    let partition = append.partition;
    let offsets = state.parts.log.append(Topic::Journal, vec![append]).await?;
    let offset = offsets.first().copied().ok_or(Problem::Internal)?;
    let position = Position { partition, offset };
    let done = Done {
        position: position.to_string(),
    };
    Ok((done, position))
}

/// Appends envelopes as they are; where the last of them stands, once all are durable.
pub(crate) async fn appended(state: &State, envelopes: Vec<Envelope>) -> Result<Option<Position>, Problem> {
    let partitions = state.parts.log.layout().partitions;
    let appends: Vec<Append> = envelopes
        .iter()
        .map(|envelope| Append::of(envelope, partitions))
        .collect();
    let last = appends.last().map(|append| append.partition);
    let offsets = state.parts.log.append(Topic::Journal, appends).await?;
    Ok(last
        .zip(offsets.last().copied())
        .map(|(partition, offset)| Position { partition, offset }))
}

/// A fact about `key`, decided now, as it goes into the journal.
pub(crate) fn append(key: Key, fact: Fact, now: Timestamp, partitions: u16) -> Append {
    Append::of(&envelope(key, fact, now), partitions)
}

/// A fact about `key`, decided now: a command's.
#[must_use]
pub fn envelope(key: Key, fact: Fact, now: Timestamp) -> Envelope {
    let mut envelope = Envelope {
        id: EventId([0; 16]),
        key,
        measured_at: now,
        gateway_at: None,
        received_at: now,
        clock: ClockQuality::Server,
        cause: None,
        fact,
    };
    // The content with its moment is what was decided: twice the same is the same decision.
    let mut value = Vec::with_capacity(256);
    codec::encode(&envelope, &mut value);
    envelope.id = EventId::of("fajma.command", &[&value]);
    envelope
}
