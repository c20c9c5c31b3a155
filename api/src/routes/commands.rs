//! What sensors are told to do, and what became of it.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State as Given};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use projections::query::{self, Command};
use schemas::access::Action;
use schemas::catalogue::Form;
use schemas::facts::{CommandIssued, CommandName};
use schemas::ids::{EventId, Key, SensorId};
use schemas::journal::Fact;
use schemas::metric::Metric;
use schemas::time::{Span, Timestamp};
use serde::Serialize;
use serde_json::{Map, Value};
use smol_str::{SmolStr, format_smolstr};
use utoipa::ToSchema;

use super::input::{Sent, metric, needed, text, viewed, word};
use super::sensors::seen;
use crate::auth::Caller;
use crate::command;
use crate::problem::{Body, Problem};
use crate::state::State;
use crate::wire::finite;

/// How long a command waits for its answer where nobody says, in seconds.
const USUAL: f64 = 3_600.0;
/// How long it waits at most.
const LONGEST: f64 = 30.0 * 86_400.0;

/// A command, as it stands.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Standing {
    #[schema(value_type = String)]
    id: SmolStr,
    /// `calibrate`, `set_interval` or `identify`.
    #[schema(value_type = String)]
    name: CommandName,
    /// `calibrate`: which metric.
    #[schema(value_type = Option<String>)]
    metric: Option<Metric>,
    /// `calibrate`: what is added to each of its values from the answer on, in the canonical unit.
    offset: Option<f64>,
    /// `set_interval`: how often it is to measure, in seconds.
    every: Option<f64>,
    /// `queued`, `sent`, `confirmed`, `failed` or `expired`.
    state: &'static str,
    #[schema(value_type = String)]
    issued_by: SmolStr,
    #[schema(value_type = String, format = DateTime)]
    issued_at: Timestamp,
    #[schema(value_type = String, format = DateTime)]
    expires_at: Timestamp,
    /// How often it was handed to the sensor.
    attempts: i64,
    /// When last.
    #[schema(value_type = Option<String>, format = DateTime)]
    sent_at: Option<Timestamp>,
    /// When the sensor answered first.
    #[schema(value_type = Option<String>, format = DateTime)]
    answered_at: Option<Timestamp>,
    /// What it said.
    #[schema(value_type = Option<String>)]
    result: Option<SmolStr>,
}

impl From<Command> for Standing {
    fn from(it: Command) -> Self {
        let state = match (&it.answered, it.expired_at, it.sent) {
            (Some((true, ..)), ..) => "confirmed",
            (Some((false, ..)), ..) => "failed",
            (None, Some(_), _) => "expired",
            (None, None, Some(_)) => "sent",
            (None, None, None) => "queued",
        };
        let (answered_at, result) = match it.answered {
            Some((_, result, at)) => (Some(at), result),
            None => (None, None),
        };
        Self {
            id: it.id,
            name: it.name,
            metric: it.metric,
            offset: it.offset.and_then(finite),
            every: it.every.map(Span::as_seconds),
            state,
            issued_by: it.by,
            issued_at: it.issued_at,
            expires_at: it.expires_at,
            attempts: it.sent.map_or(0, |(attempts, _)| attempts),
            sent_at: it.sent.map(|(_, at)| at),
            answered_at,
            result,
        }
    }
}

/// The commands of a sensor.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Commands {
    /// Newest first.
    commands: Vec<Standing>,
    /// Always null: the newest ones are all there.
    next_cursor: Option<String>,
}

/// What a sensor was told to do, newest first, and what became of it. A device may look for its own.
#[utoipa::path(get, path = "/v1/sensors/{sensor_id}/commands", tag = "sensors",
    params(("sensor_id" = String, Path)), security(("bearer" = [])), responses((status = 200, body = Commands),
    (status = "default", body = Body, content_type = "application/problem+json")))]
pub(super) async fn list(
    Given(state): Given<Arc<State>>,
    caller: Caller,
    Path(sensor): Path<String>,
) -> Result<Json<Commands>, Problem> {
    let id = SensorId::new(&sensor).map_err(|_| Problem::NotFound)?;
    let found = query::commands_of(&*state.parts.views, &id).await.map_err(viewed)?;
    // One that nothing was heard of may have been told something all the same.
    let told = !found.is_empty() && caller.principal.may(Action::SeeAll);
    let own = caller.principal.sensors.contains(&id) && caller.principal.may(Action::ReceiveCommands(&id));
    if !told && !own {
        seen(&state, &caller, &id).await?;
    }
    Ok(Json(Commands {
        commands: found.into_iter().map(Standing::from).collect(),
        next_cursor: None,
    }))
}

/// A command to be given.
#[derive(ToSchema)]
#[expect(
    dead_code,
    reason = "for the OpenAPI document; read by `issue`, which names what is wrong"
)]
pub(super) struct Issue {
    /// `calibrate`, `set_interval` or `identify`.
    name: String,
    /// `calibrate`, with `offset`: which metric.
    metric: Option<String>,
    /// `calibrate`: what is added to each of its values from the sensor's answer on, in the canonical unit.
    offset: Option<f64>,
    /// `set_interval`: how often it is to measure, in seconds.
    every: Option<f64>,
    /// Seconds until it is given up; an hour where it is left out.
    expires_in: Option<f64>,
}

/// What a command that was given is answered with.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Issued {
    #[schema(value_type = String)]
    id: SmolStr,
    /// Where it stands in the journal: send it as `Fajma-Read-After` to see it.
    position: String,
}

/// Gives a sensor a command. It is handed to it wherever it connects, again and again, until it answers on its status topic
/// with `command_id` and `result`, or the time is over.
#[utoipa::path(post, path = "/v1/sensors/{sensor_id}/commands", tag = "sensors",
    params(("sensor_id" = String, Path)), request_body(content = Issue), security(("bearer" = [])),
    responses((status = 201, body = Issued), (status = "default", body = Body, content_type = "application/problem+json")))]
pub(super) async fn issue(
    Given(state): Given<Arc<State>>,
    caller: Caller,
    Path(sensor): Path<String>,
    sent: Sent,
) -> Result<Response, Problem> {
    let sensor = SensorId::new(&sensor).map_err(|_| Problem::NotFound)?;
    if !caller.principal.may(Action::Command) {
        if !caller.principal.may(Action::SeeAll) {
            seen(&state, &caller, &sensor).await?;
        }
        return Err(Problem::Forbidden);
    }
    let fields = sent.fields(&["name", "metric", "offset", "every", "expires_in"])?;
    let fact = read(&fields, &caller, state.now())?;
    let id = fact.command_id.clone();
    let done = command::record(&state, Key::Sensor(sensor), Fact::CommandIssued(fact)).await?;
    let issued = Issued {
        id,
        position: done.position,
    };
    Ok((StatusCode::CREATED, Json(issued)).into_response())
}

fn read(fields: &Map<String, Value>, caller: &Caller, now: Timestamp) -> Result<CommandIssued, Problem> {
    let seconds = |seconds: f64| Span((seconds * 1e6).round() as i64);
    let name = needed("name", word("name", text(fields, "name")?, CommandName::parse)?)?;
    let (metric, offset) = calibration(fields, name)?;
    let every = match (name, number(fields, "every", 1.0, 86_400.0)?) {
        (CommandName::SetInterval, every) => Some(needed("every", every)?),
        (_, Some(_)) => return Err(belongs("every", CommandName::SetInterval)),
        (_, None) => None,
    };
    let wait = number(fields, "expires_in", 1.0, LONGEST)?.unwrap_or(USUAL);
    Ok(CommandIssued {
        command_id: new_id(now)?,
        name,
        metric,
        offset,
        every: every.map(seconds),
        expires_at: now + seconds(wait),
        by: caller.principal.subject.clone(),
    })
}

/// Metric and offset, both or neither.
fn calibration(fields: &Map<String, Value>, name: CommandName) -> Result<(Option<Metric>, Option<f64>), Problem> {
    let metric = metric(text(fields, "metric")?)?;
    let offset = number(fields, "offset", -1_000.0, 1_000.0)?;
    if name != CommandName::Calibrate && (metric.is_some() || offset.is_some()) {
        return Err(belongs("metric", CommandName::Calibrate));
    }
    if metric.is_some_and(|metric| metric.info().form != Form::Number) {
        return Err(Problem::invalid(
            "metric",
            "only numbers are calibrated",
            "seuls des nombres se calibrent",
        ));
    }
    if let Some((metric, offset)) = metric.zip(offset) {
        // What is further off than all that is usual is broken, or was typed wrong.
        let usual = metric.info().usual;
        let most = usual.high - usual.low;
        if offset.abs() > most {
            return Err(Problem::invalid(
                "offset",
                format!("from {} to {most}, for {metric}", -most),
                format!("de {} à {most}, pour {metric}", -most),
            ));
        }
    }
    match (metric, offset) {
        (Some(_), None) => needed("offset", None),
        (None, Some(_)) => needed("metric", None),
        both => Ok(both),
    }
}

fn belongs(field: &'static str, name: CommandName) -> Problem {
    Problem::invalid(field, format!("only with {name}"), format!("seulement avec {name}"))
}

fn number(fields: &Map<String, Value>, field: &'static str, least: f64, most: f64) -> Result<Option<f64>, Problem> {
    let Some(value) = fields.get(field).filter(|value| !value.is_null()) else {
        return Ok(None);
    };
    let number = value.as_f64().filter(|n| (least..=most).contains(n));
    number.map(Some).ok_or_else(|| {
        Problem::invalid(
            field,
            format!("a number from {least} to {most}"),
            format!("un nombre de {least} à {most}"),
        )
    })
}

/// An id that sorts by time and that nobody can guess.
fn new_id(now: Timestamp) -> Result<SmolStr, Problem> {
    let mut bytes = [0; 16];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| Problem::Unavailable)?;
    let chance = EventId::of("fajma.command_id", &[&bytes]).to_string();
    let chance = chance.get(..8).unwrap_or_default();
    Ok(format_smolstr!("{:012x}-{chance}", now.millis()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_calibration_by_more_than_all_that_is_usual_is_refused() {
        let asked = |metric: &str, offset: f64| {
            let fields = json!({"metric": metric, "offset": offset});
            let read = calibration(fields.as_object().unwrap(), CommandName::Calibrate);
            read.map_err(|problem| match problem {
                Problem::Invalid { field, .. } => field.unwrap_or_default(),
                other => panic!("{other:?}"),
            })
        };
        for (metric, most) in [
            (Metric::Spo2, 30.0),
            (Metric::HeartRate, 190.0),
            (Metric::BodyTemperature, 13.0),
        ] {
            for sign in [-1.0, 1.0] {
                let within = sign * most;
                assert_eq!(asked(metric.as_str(), within), Ok((Some(metric), Some(within))));
                assert_eq!(asked(metric.as_str(), sign * (most + 0.1)), Err("offset".to_owned()));
            }
        }
    }
}
