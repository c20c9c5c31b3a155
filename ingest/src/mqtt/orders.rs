//! Commands on their way to sensors: handed to whoever listens for them, again and again until they answer.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use eventlog::{Append, EventLog, LogError, Topic};
use schemas::facts::{CommandExpired, CommandIssued, CommandName, CommandSent};
use schemas::ids::{EventId, Key, SensorId};
use schemas::journal::{ClockQuality, Envelope, Fact};
use schemas::metric::Metric;
use schemas::time::Timestamp;
use serde::Serialize;

use super::session::{About, Notice};
use super::sessions::Sessions;
use super::topic;
use crate::commands::{Commands, Due};
use crate::intake::Intake;

/// How often it is looked whether something is due.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A command as a device reads it.
#[derive(Debug, Serialize)]
struct Order<'a> {
    command_id: &'a str,
    name: CommandName,
    #[serde(skip_serializing_if = "Option::is_none")]
    metric: Option<Metric>,
    #[serde(skip_serializing_if = "Option::is_none")]
    offset: Option<f64>,
    /// Seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    every: Option<f64>,
    issued_at: Timestamp,
    expires_at: Timestamp,
}

/// Hands out what is due for as long as it is polled.
pub(super) async fn run(
    commands: Arc<Commands>,
    log: Arc<dyn EventLog>,
    intake: Arc<Intake>,
    sessions: Arc<Sessions>,
    limit: usize,
) {
    loop {
        // By a wrong clock none is due, and none is over.
        if intake.hindrance().is_none()
            && let Err(error) = look(&commands, &*log, intake.clock().now(), &sessions, limit).await
        {
            tracing::warn!(%error, "what became of a command could not be written down: trying again");
        }
        let _ = tokio::time::timeout(LOOK_EVERY, commands.changed()).await;
    }
}

async fn look(
    commands: &Commands,
    log: &dyn EventLog,
    now: Timestamp,
    sessions: &Sessions,
    limit: usize,
) -> Result<(), LogError> {
    let mut facts = Vec::new();
    for due in commands.due(now) {
        let Some(notice) = notice(&due) else { continue };
        if sessions.deliver_now(&Arc::new(notice), &due.sensor, limit) {
            commands.sent(&due, now);
            let command_id = due.command.command_id.clone();
            let attempt = due.attempt;
            facts.push((due.sensor, Fact::CommandSent(CommandSent { command_id, attempt })));
        } else {
            commands.missed(&due, now);
        }
    }
    let expired = commands.expired(now);
    facts.extend(expired.iter().map(|(sensor, id)| {
        let command_id = id.clone();
        (sensor.clone(), Fact::CommandExpired(CommandExpired { command_id }))
    }));
    if facts.is_empty() {
        return Ok(());
    }
    let partitions = log.layout().partitions;
    let appends = facts
        .into_iter()
        .map(|(sensor, fact)| append(sensor, fact, now, partitions));
    log.append(Topic::Journal, appends.collect()).await?;
    // Known to be over before the journal is read: it is not given up twice.
    expired.iter().for_each(|(sensor, id)| commands.over(sensor, id));
    Ok(())
}

fn notice(due: &Due) -> Option<Notice> {
    let CommandIssued {
        command_id,
        name,
        metric,
        offset,
        every,
        expires_at,
        ..
    } = &due.command;
    let order = Order {
        command_id,
        name: *name,
        metric: *metric,
        offset: *offset,
        every: every.map(schemas::time::Span::as_seconds),
        issued_at: due.issued_at,
        expires_at: *expires_at,
    };
    Some(Notice {
        about: About::Sensor(due.sensor.clone()),
        topic: topic::command(&due.sensor),
        payload: Bytes::from(serde_json::to_vec(&order).ok()?),
        live: false,
    })
}

fn append(sensor: SensorId, fact: Fact, now: Timestamp, partitions: u16) -> Append {
    let key = Key::Sensor(sensor);
    let what = match &fact {
        Fact::CommandSent(it) => format!("{}/{}", it.command_id, it.attempt),
        Fact::CommandExpired(it) => format!("{}/expired", it.command_id),
        _ => String::new(),
    };
    let envelope = Envelope {
        id: EventId::of("fajma.order", &[key.text().as_bytes(), what.as_bytes()]),
        key,
        measured_at: now,
        gateway_at: None,
        received_at: now,
        clock: ClockQuality::Server,
        cause: None,
        fact,
    };
    Append::of(&envelope, partitions)
}
