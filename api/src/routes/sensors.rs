//! Sensors as last heard.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State as Given};
use projections::query::{self, SensorRow};
use schemas::access::{Action, Sight};
use schemas::facts::{Liveness, SensorState};
use schemas::ids::{PatientId, SensorId};
use schemas::time::Timestamp;
use serde::Serialize;
use smol_str::SmolStr;
use utoipa::ToSchema;

use super::input::{Params, cut, paging, rows, viewed};
use super::patients::ByName;
use crate::auth::Caller;
use crate::problem::{Body, Problem};
use crate::state::State;

/// A sensor as it was last heard.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Sensor {
    #[schema(value_type = String)]
    id: SensorId,
    /// The patient it was last heard with.
    #[schema(value_type = Option<String>)]
    patient_id: Option<PatientId>,
    /// `active`, `inactive` or `fault`, as it last said.
    #[schema(value_type = Option<String>)]
    state: Option<SensorState>,
    /// `online`, `offline`, or `unknown` where it never promised a rhythm.
    #[schema(value_type = String)]
    liveness: Liveness,
    /// Since when it is online or offline.
    #[schema(value_type = String, format = DateTime)]
    liveness_since: Timestamp,
    /// %.
    battery_level: Option<f64>,
    #[schema(value_type = Option<String>)]
    firmware_version: Option<SmolStr>,
    /// dBm.
    rssi: Option<f64>,
    /// Degrees.
    location_lat: Option<f64>,
    /// Degrees.
    location_lng: Option<f64>,
    /// When a message of any kind came last.
    #[schema(value_type = String, format = DateTime)]
    last_heartbeat: Timestamp,
    /// The rhythm it promised, in seconds.
    expected_every: Option<f64>,
}

impl From<SensorRow> for Sensor {
    fn from(row: SensorRow) -> Self {
        Self {
            id: row.id,
            patient_id: row.patient_id,
            state: row.state,
            liveness: row.liveness,
            liveness_since: row.since,
            battery_level: row.battery,
            firmware_version: row.firmware,
            rssi: row.rssi,
            location_lat: row.lat,
            location_lng: row.lng,
            last_heartbeat: row.last_heard,
            expected_every: row.expected_every.map(schemas::time::Span::as_seconds),
        }
    }
}

/// Part of the list of sensors.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Sensors {
    sensors: Vec<Sensor>,
    next_cursor: Option<String>,
}

/// Sensors, by id, cut to those of patients whom the caller may see. A page may be short although the list goes on.
#[utoipa::path(get, path = "/v1/sensors", tag = "sensors", params(ByName), security(("bearer" = [])),
    responses((status = 200, body = Sensors), (status = "default", body = Body, content_type = "application/problem+json")))]
pub(super) async fn list(
    Given(state): Given<Arc<State>>,
    caller: Caller,
    Params(ask): Params<ByName>,
) -> Result<Json<Sensors>, Problem> {
    let sight = caller.sight()?;
    let prefix = ask.prefix.as_deref().unwrap_or_default();
    let views = &*state.parts.views;
    let sees = |row: &SensorRow| match sight {
        Sight::All => true,
        Sight::Only(own) => row.patient_id.as_ref().is_some_and(|p| own.contains(p)),
        Sight::None => false,
    };
    let page = cut(
        rows(ask.limit.as_deref(), query::USUAL)?,
        ask.cursor,
        sees,
        async |limit, cursor| query::sensors(views, prefix, paging(limit, cursor.as_deref())).await,
    )
    .await?;
    Ok(Json(Sensors {
        sensors: page.items.into_iter().map(Sensor::from).collect(),
        next_cursor: page.next_cursor,
    }))
}

/// One sensor.
#[utoipa::path(get, path = "/v1/sensors/{sensor_id}", tag = "sensors", params(("sensor_id" = String, Path)),
    security(("bearer" = [])), responses((status = 200, body = Sensor),
    (status = "default", body = Body, content_type = "application/problem+json")))]
pub(super) async fn one(
    Given(state): Given<Arc<State>>,
    caller: Caller,
    Path(sensor): Path<String>,
) -> Result<Json<Sensor>, Problem> {
    let id = SensorId::new(&sensor).map_err(|_| Problem::NotFound)?;
    let row = query::sensor(&*state.parts.views, &id).await.map_err(viewed)?;
    let row = row.ok_or(Problem::NotFound)?;
    let may = match &row.patient_id {
        Some(patient) => caller.principal.may(Action::SeePatient(patient)),
        None => caller.principal.may(Action::SeeAll),
    };
    if may {
        Ok(Json(row.into()))
    } else {
        Err(Problem::NotFound)
    }
}
