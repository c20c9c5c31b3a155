//! `Fajma-Read-After`: a query that is answered at or after what its caller has just written.

use std::fmt;
use std::time::Duration;

use axum::http::{HeaderMap, HeaderName};
use eventlog::{Offset, Partition, Reached, Topic};
use projections::store::ViewStore;
use tokio::time::Instant;

use crate::problem::Problem;
use crate::state::State;

/// The header.
pub(crate) const READ_AFTER: HeaderName = HeaderName::from_static("fajma-read-after");

/// The longest wait; then 503 with `Retry-After`.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often progress is looked at: views are a few milliseconds behind, and waiting callers are few.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// The topics whose views follow from the journal.
const FOLLOWING: [Topic; 4] = [Topic::Windows, Topic::Alerts, Topic::Devices, Topic::Consultations];

/// A place in the journal, written `journal:<partition>:<offset>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// The partition.
    pub partition: Partition,
    /// The record's offset.
    pub offset: Offset,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "journal:{}:{}", self.partition, self.offset)
    }
}

impl Position {
    /// Reads a position back.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (partition, offset) = text.strip_prefix("journal:")?.split_once(':')?;
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        (digits(partition) && digits(offset)).then_some(())?;
        Some(Self {
            partition: partition.parse().ok()?,
            offset: offset.parse().ok()?,
        })
    }
}

/// Waits until the views show what the header names; at once where there is no such header.
pub(crate) async fn wait(state: &State, headers: &HeaderMap) -> Result<(), Problem> {
    let Some(value) = headers.get(READ_AFTER) else {
        return Ok(());
    };
    let position = value
        .to_str()
        .ok()
        .and_then(Position::parse)
        .filter(|position| position.partition < state.parts.log.layout().partitions)
        .ok_or_else(|| {
            Problem::invalid(
                "Fajma-Read-After",
                "a position is written as a command answered it, like journal:3:4711",
                "une position s’écrit comme une commande l’a donnée, par exemple journal:3:4711",
            )
        })?;
    if let Some(board) = &state.parts.board {
        let reached = board.read_after(&*state.parts.log, position.partition, position.offset, PATIENCE);
        return reached.await.map_err(|_| Problem::NotYet);
    }
    elsewhere(state, position).await
}

/// The same where another process projects the views: what it has noted beside them is looked at.
async fn elsewhere(state: &State, position: Position) -> Result<(), Problem> {
    let deadline = Instant::now() + PATIENCE;
    projected(
        &*state.parts.views,
        Topic::Journal,
        position.partition,
        position.offset.saturating_add(1),
        deadline,
    )
    .await?;
    for topic in FOLLOWING {
        let end = concluded(state, topic, position, deadline).await?.end;
        projected(&*state.parts.views, topic, position.partition, end, deadline).await?;
    }
    Ok(())
}

/// The longest wait of somebody who asks for an alert that the views do not have.
const ALERTS_PATIENCE: Duration = Duration::from_secs(1);

/// Waits until the views have every alert that the log has now: a live frame may be ahead of them by milliseconds, and
/// who answers it at once must not hear that there is no such alert. Gives up after a second.
pub(crate) async fn alerts_shown(state: &State) -> Result<(), Problem> {
    let deadline = Instant::now() + ALERTS_PATIENCE;
    for partition in 0..state.parts.log.layout().partitions {
        let end = state.parts.log.bounds(Topic::Alerts, partition).await?.end;
        match projected(&*state.parts.views, Topic::Alerts, partition, end, deadline).await {
            Err(Problem::NotYet) => return Ok(()),
            other => other?,
        }
    }
    Ok(())
}

/// Waits until the processor of `topic` has dealt with the position.
async fn concluded(state: &State, topic: Topic, position: Position, deadline: Instant) -> Result<Reached, Problem> {
    loop {
        let reached = state.parts.log.reached(topic, position.partition).await?;
        if reached.journal > position.offset {
            return Ok(reached);
        }
        pause(deadline).await?;
    }
}

/// Waits until the views have taken in all of a topic's partition before `next`.
pub(crate) async fn projected(
    views: &dyn ViewStore,
    topic: Topic,
    partition: Partition,
    next: Offset,
    deadline: Instant,
) -> Result<(), Problem> {
    loop {
        let progress = views.progress(topic, partition).await?;
        if progress.map_or(0, |p| p.next) >= next {
            return Ok(());
        }
        pause(deadline).await?;
    }
}

async fn pause(deadline: Instant) -> Result<(), Problem> {
    if Instant::now() >= deadline {
        return Err(Problem::NotYet);
    }
    tokio::time::sleep(LOOK_EVERY).await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_reads_back_as_it_was_written() {
        let position = Position {
            partition: 3,
            offset: 4711,
        };
        assert_eq!(Position::parse(&position.to_string()), Some(position));
        for bad in [
            "",
            "journal",
            "journal:3",
            "journal:3:",
            "journal:-1:2",
            "journal:1:-2",
            "windows:1:2",
            "journal:1:+2",
        ] {
            assert_eq!(Position::parse(bad), None, "{bad}");
        }
    }
}
