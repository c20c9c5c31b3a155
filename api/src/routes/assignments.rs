//! Who wears which sensor, and whose readings are that nobody could be sure of.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Path, State as Given};
use eventlog::Topic;
use projections::query::{self, Paging, Range, ReadingRow};
use schemas::access::Action;
use schemas::facts::{self, Door, ReadingsReattributed, SensorAssigned};
use schemas::ids::{EventId, Key, PatientId, SensorId};
use schemas::journal::{Envelope, Fact};
use schemas::refused::Code;
use schemas::time::{Span, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use smol_str::SmolStr;
use tokio::time::Instant;
use utoipa::{IntoParams, ToSchema};

use super::input::{Params, Sent, moment, needed, range, rows, text, viewed};
use super::patients::person;
use super::sensors::{changing, seen};
use crate::auth::Caller;
use crate::command::{self, Done};
use crate::doors::{IN_FORCE, SaidOf};
use crate::problem::{Body, Problem};
use crate::read_after::projected;
use crate::state::State;
use crate::wire::Reading;

/// How far ahead of ours the clock of whoever says something may be.
const AHEAD: Span = Span::seconds(5);
/// Readings of which one command says whose they are; the same command again takes the next ones.
const AT_ONCE: usize = 50_000;
/// The longest stretch of time that one command is about.
const LONGEST: Span = Span::days(31);
/// The longest wait for the views to show all that had been recorded.
const PATIENCE: Duration = Duration::from_secs(5);

/// Who wears a sensor.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Assignment {
    /// Who wears it now; null: nobody, as far as anybody has said.
    #[schema(value_type = Option<String>)]
    patient_id: Option<PatientId>,
    /// What was said, the newest first.
    history: Vec<Said>,
}

/// What somebody said.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Said {
    #[schema(value_type = Option<String>)]
    patient_id: Option<PatientId>,
    /// From when on, until the next moment that something was said of.
    #[schema(value_type = String, format = DateTime)]
    from: Timestamp,
    #[schema(value_type = String)]
    by: SmolStr,
    /// When it was said.
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
}

/// Who wears a sensor, and what was ever said about it.
#[utoipa::path(get, path = "/v1/sensors/{sensor_id}/assignment", tag = "sensors",
    params(("sensor_id" = String, Path)), security(("bearer" = [])), responses((status = 200, body = Assignment),
    (status = "default", body = Body, content_type = "application/problem+json")))]
pub(super) async fn read(
    Given(state): Given<Arc<State>>,
    caller: Caller,
    Path(sensor): Path<String>,
) -> Result<Json<Assignment>, Problem> {
    let id = SensorId::new(&sensor).map_err(|_| Problem::NotFound)?;
    seen(&state, &caller, &id).await?;
    let said = query::assignments(&*state.parts.views, &id).await.map_err(viewed)?;
    let now = query::timeline(&said).at(state.now()).cloned();
    // Whoever sees the sensor because of whose it is now learns of no other patient by it.
    let shown = |patient: &Option<PatientId>| {
        let sees = |patient: &PatientId| caller.principal.may(Action::SeePatient(patient));
        patient.as_ref().is_none_or(sees)
    };
    let history = said
        .into_iter()
        .rev()
        .filter(|it| shown(&it.patient_id))
        .map(|it| Said {
            patient_id: it.patient_id,
            from: it.from,
            by: it.by,
            at: it.at,
        });
    Ok(Json(Assignment {
        patient_id: now,
        history: history.collect(),
    }))
}

/// Who wears a sensor from when on.
#[derive(ToSchema)]
#[expect(
    dead_code,
    reason = "for the OpenAPI document; read by `assign`, which names what is wrong"
)]
pub(super) struct Assign {
    /// Null: nobody.
    patient_id: Option<String>,
    /// RFC 3339, not in the future; now where it is left out.
    #[schema(value_type = Option<String>, format = DateTime)]
    from: Option<Timestamp>,
}

/// Says who wears a sensor from a moment on, until the next moment that something was said of. What it measures from then
/// on is that patient's. What was recorded for somebody else already waits in the list of unattributed readings.
#[utoipa::path(put, path = "/v1/sensors/{sensor_id}/assignment", tag = "sensors",
    params(("sensor_id" = String, Path)), request_body(content = Assign), security(("bearer" = [])),
    responses((status = 200, body = Done), (status = "default", body = Body, content_type = "application/problem+json")))]
pub(super) async fn assign(
    Given(state): Given<Arc<State>>,
    caller: Caller,
    Path(sensor): Path<String>,
    sent: Sent,
) -> Result<Json<Done>, Problem> {
    let id = changing(&state, &caller, &sensor).await?;
    let fields = sent.fields(&["patient_id", "from"])?;
    let patient = match needed("patient_id", fields.get("patient_id"))? {
        Value::Null => None,
        Value::String(patient) => Some(known(&state, "patient_id", patient).await?),
        _ => return Err(no_patient("patient_id")),
    };
    let now = state.now();
    let from = at(&fields, "from")?.unwrap_or(now);
    if from > now + AHEAD {
        return Err(Problem::invalid("from", "in the future", "dans le futur"));
    }
    give(&state, &caller, id, patient, from).await.map(Json)
}

/// Records who wears a sensor from a moment on, and waits until this process's doors go by it.
pub(super) async fn give(
    state: &State,
    caller: &Caller,
    id: SensorId,
    patient: Option<PatientId>,
    from: Timestamp,
) -> Result<Done, Problem> {
    let nobodys = patient.is_none();
    let fact = SensorAssigned {
        patient,
        from,
        by: caller.principal.subject.clone(),
    };
    let key = Key::Sensor(id.clone());
    let (done, position) = command::recorded(state, key, Fact::SensorAssigned(fact)).await?;
    // Of a sensor that was nobody's and stays so nobody is told anything.
    let patience = if nobodys { IN_FORCE / 4 } else { IN_FORCE };
    let known = state.parts.doors.know(&id, SaidOf::Assignment(position.offset));
    if tokio::time::timeout(patience, known).await.is_err() && !nobodys {
        tracing::warn!(sensor = %id, "an assignment is recorded, but has not reached the doors yet");
    }
    Ok(done)
}

/// The person that a field names: of whom something is known, registered and not ended or heard.
pub(super) async fn known(state: &State, field: &'static str, patient: &str) -> Result<PatientId, Problem> {
    let id = PatientId::new(patient).map_err(|_| no_patient(field))?;
    let card = query::patient_card(&*state.parts.views, &id).await.map_err(viewed)?;
    let card = card.ok_or_else(|| no_patient(field))?;
    match card.registered {
        Some(registered) if registered.ended => Err(no_patient(field)),
        _ => person(state, &id).await,
    }
}

pub(super) fn no_patient(field: &'static str) -> Problem {
    Problem::invalid(field, "no such patient", "ce patient n’existe pas")
}

fn at(fields: &Map<String, Value>, field: &'static str) -> Result<Option<Timestamp>, Problem> {
    moment(field, text(fields, field)?)
}

/// Which readings.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    /// Measured at or after this; all where it is left out.
    from: Option<String>,
    /// Measured before this.
    to: Option<String>,
    /// Readings, 1 to 10,000; 100 where nobody says.
    limit: Option<String>,
}

/// Readings that wait for somebody to say whose they are.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Waiting {
    /// `patient_id`: with whom they stand now; null: with nobody.
    readings: Vec<Reading>,
    /// Always null: say whose the first ones are, then ask again.
    next_cursor: Option<String>,
}

/// A sensor's readings that wait for somebody to say whose they are: those that came while it was nobody's, and those that
/// stand with a patient who did not wear it when they were measured. What was refused for the same reason is in
/// `/v1/rejected`.
#[utoipa::path(get, path = "/v1/sensors/{sensor_id}/unattributed", tag = "sensors",
    params(("sensor_id" = String, Path), Asked), security(("bearer" = [])), responses((status = 200, body = Waiting),
    (status = "default", body = Body, content_type = "application/problem+json")))]
pub(super) async fn waiting(
    Given(state): Given<Arc<State>>,
    caller: Caller,
    Path(sensor): Path<String>,
    Params(ask): Params<Asked>,
) -> Result<Json<Waiting>, Problem> {
    caller.may(Action::SeeOperations)?;
    let id = SensorId::new(&sensor).map_err(|_| Problem::NotFound)?;
    let range = range(ask.from.as_deref(), ask.to.as_deref())?;
    let limit = rows(ask.limit.as_deref(), query::USUAL)?;
    let found = query::unattributed(&*state.parts.views, &id, range, limit).await;
    Ok(Json(Waiting {
        readings: found.map_err(viewed)?.into_iter().map(Reading::from).collect(),
        next_cursor: None,
    }))
}

/// Whose readings are.
#[derive(ToSchema)]
#[expect(
    dead_code,
    reason = "for the OpenAPI document; read by `reattribute`, which names what is wrong"
)]
pub(super) struct Reattribute {
    /// Measured at or after this.
    #[schema(value_type = String, format = DateTime)]
    from: Timestamp,
    /// Measured before this; at most 31 days later.
    #[schema(value_type = String, format = DateTime)]
    to: Timestamp,
    patient_id: String,
}

/// What came of it.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Reattributed {
    /// Where the last of it stands in the journal.
    position: String,
    /// How many readings are the patient's now.
    readings: usize,
    /// Whether there are more: send the same again.
    more: bool,
}

/// Says whose a sensor's readings of a stretch of time are: all that wait for it, the refused too, are recorded for that
/// patient. Saying it twice changes nothing.
#[utoipa::path(post, path = "/v1/sensors/{sensor_id}/reattribute", tag = "sensors",
    params(("sensor_id" = String, Path)), request_body(content = Reattribute), security(("bearer" = [])),
    responses((status = 200, body = Reattributed),
    (status = "default", body = Body, content_type = "application/problem+json")))]
pub(super) async fn reattribute(
    Given(state): Given<Arc<State>>,
    caller: Caller,
    Path(sensor): Path<String>,
    sent: Sent,
) -> Result<Json<Reattributed>, Problem> {
    let id = changing(&state, &caller, &sensor).await?;
    let fields = sent.fields(&["from", "to", "patient_id"])?;
    let patient = needed("patient_id", fields.get("patient_id").and_then(Value::as_str))?;
    let patient = known(&state, "patient_id", patient).await?;
    let range = Range {
        from: needed("from", at(&fields, "from")?)?,
        to: needed("to", at(&fields, "to")?)?,
    };
    if range.from >= range.to || range.to - range.from > LONGEST {
        return Err(Problem::invalid(
            "to",
            "after `from`, and at most 31 days later",
            "après `from`, de 31 jours au plus",
        ));
    }
    all_shown(&state).await?;
    let said = Fact::ReadingsReattributed(ReadingsReattributed {
        patient: patient.clone(),
        from: range.from,
        to: range.to,
        by: caller.principal.subject.clone(),
    });
    let command = command::envelope(Key::Sensor(id.clone()), said, state.now());
    let cause = command.id;
    let mut position = command::appended(&state, vec![command])
        .await?
        .ok_or(Problem::Internal)?;
    let standing = query::unattributed(&*state.parts.views, &id, range, AT_ONCE)
        .await
        .map_err(viewed)?;
    let mut more = standing.len() == AT_ONCE;
    let mut envelopes: Vec<Envelope> = standing.iter().map(|row| of(row, &patient, cause)).collect();
    let (refused, unread) = refused(&state, &id, &patient, range, cause).await?;
    more |= unread;
    envelopes.extend(refused);
    // What a device sent twice, or a door took and another refused, is one reading.
    let mut seen = HashSet::with_capacity(envelopes.len());
    envelopes.retain(|envelope| seen.insert((envelope.id, envelope.measured_at)));
    let readings = envelopes.len();
    for some in envelopes.chunks(1_000) {
        if let Some(last) = command::appended(&state, some.to_vec()).await? {
            position = last;
        }
    }
    Ok(Json(Reattributed {
        position: position.to_string(),
        readings,
        more,
    }))
}

/// Waits until the views show all that has been recorded.
pub(super) async fn all_shown(state: &State) -> Result<(), Problem> {
    let deadline = Instant::now() + PATIENCE;
    for topic in [Topic::Journal, Topic::Rejected] {
        for partition in 0..state.parts.log.layout().partitions {
            let end = state.parts.log.bounds(topic, partition).await?.end;
            projected(&*state.parts.views, topic, partition, end, deadline).await?;
        }
    }
    Ok(())
}

/// A reading as it was recorded, for the patient whose it was said to be.
fn of(row: &ReadingRow, patient: &PatientId, cause: EventId) -> Envelope {
    let samples = row.rate.map(|rate| facts::Samples {
        rate,
        values: row.samples.clone(),
    });
    let reading = facts::Reading {
        sensor_id: row.sensor_id.clone(),
        metric: row.metric,
        value: row.value,
        sent: row.sent.clone(),
        quality: row.quality.and_then(|q| u8::try_from(q).ok()),
        contact: row.contact,
        seq: row.seq,
        epoch: row.epoch,
        samples,
        marks: row.marks.clone(),
        door: Door::parse(&row.door).unwrap_or(Door::Http),
    };
    Envelope {
        id: row.id,
        key: Key::Patient(patient.clone()),
        measured_at: row.at,
        gateway_at: row.gateway_at,
        received_at: row.received_at,
        clock: row.clock,
        cause: Some(cause),
        fact: Fact::Reading(reading),
    }
}

/// Readings that were refused because nobody could be sure whose they are; and whether there are more.
async fn refused(
    state: &State,
    sensor: &SensorId,
    patient: &PatientId,
    range: Range,
    cause: EventId,
) -> Result<(Vec<Envelope>, bool), Problem> {
    let settled = query::settled(&*state.parts.views, sensor, range)
        .await
        .map_err(viewed)?;
    let mut found = Vec::new();
    let mut cursor: Option<String> = None;
    while found.len() < AT_ONCE {
        let paging = Paging {
            limit: query::MOST,
            cursor: cursor.as_deref(),
        };
        // Nothing reaches a door before it was measured, but for clocks that are ahead.
        let since = range.from - Span::hours(1);
        let page = query::rejected(&*state.parts.views, Some(sensor.as_str()), since, paging).await;
        let page = page.map_err(viewed)?;
        let unsure = |code| matches!(code, Code::NotThisPatientsSensor | Code::UnknownSensor);
        for row in page.items.iter().filter(|row| unsure(row.code)) {
            let again = state.parts.doors.judge_again(row, patient);
            let within = |envelope: &Envelope| {
                matches!(&envelope.fact, Fact::Reading(reading) if reading.sensor_id == *sensor)
                    && (range.from..range.to).contains(&envelope.measured_at)
                    && !settled.contains(&(envelope.measured_at, envelope.id))
            };
            found.extend(again.into_iter().filter(within).map(|envelope| Envelope {
                cause: Some(cause),
                ..envelope
            }));
        }
        cursor = page.next_cursor;
        if cursor.is_none() {
            return Ok((found, false));
        }
    }
    Ok((found, true))
}
