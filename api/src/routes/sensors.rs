//! Sensors: as registered, and as last heard.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State as Given};
use axum::http::HeaderMap;
use axum::response::Response;
use projections::query::{self, SensorCard};
use schemas::access::{Action, Sight};
use schemas::facts::{self, Liveness, Protocol, SensorState, Zone};
use schemas::ids::{Key, PatientId, SensorId};
use schemas::registry::{Record, Register};
use schemas::time::{Span, Timestamp};
use serde::Serialize;
use serde_json::Value;
use smol_str::SmolStr;
use utoipa::ToSchema;

use super::input::{Params, Sent, cut, paging, rows, viewed};
use super::register::{self, Asked, Changed, Standing};
use crate::auth::Caller;
use crate::problem::{Body, Problem};
use crate::state::State;

/// A sensor: as registered, and as it was last heard.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Sensor {
    #[schema(value_type = String)]
    id: SensorId,
    /// What it is, like `ecg`.
    #[schema(value_type = Option<String>)]
    kind: Option<SmolStr>,
    /// No two registered sensors have the same.
    #[schema(value_type = Option<String>, example = "0A:1B:2C:3D:4E:5F")]
    mac_address: Option<SmolStr>,
    /// `HTTPS`, `MQTT`, `LoRaWAN`, `BLE` or `NB-IoT`.
    #[schema(value_type = Option<String>)]
    protocol_type: Option<Protocol>,
    /// How often it is expected, in seconds: as registered, else as it promised.
    expected_every: Option<f64>,
    /// Where it is kept.
    #[schema(value_type = Option<String>)]
    place: Option<SmolStr>,
    /// `urban`, `semi_urban` or `rural`.
    #[schema(value_type = Option<String>)]
    zone: Option<Zone>,
    #[serde(flatten)]
    standing: Standing,
    /// The patient who wears it, as somebody has said; where nobody has, with whom it was last heard.
    #[schema(value_type = Option<String>)]
    patient_id: Option<PatientId>,
    /// `active`, `inactive` or `fault`, as it last said.
    #[schema(value_type = Option<String>)]
    state: Option<SensorState>,
    /// `online`, `offline`, or `unknown` where it never promised a rhythm.
    #[schema(value_type = String)]
    liveness: Liveness,
    /// Since when it is online or offline.
    #[schema(value_type = Option<String>, format = DateTime)]
    liveness_since: Option<Timestamp>,
    /// %.
    battery_level: Option<f64>,
    /// As it last said, else as registered.
    #[schema(value_type = Option<String>)]
    firmware_version: Option<SmolStr>,
    /// dBm.
    rssi: Option<f64>,
    /// Degrees; as it last said, else as registered.
    location_lat: Option<f64>,
    /// Degrees; as it last said, else as registered.
    location_lng: Option<f64>,
    /// When a message of any kind came last.
    #[schema(value_type = Option<String>, format = DateTime)]
    last_heartbeat: Option<Timestamp>,
}

/// Fields that are heard, not registered.
const HEARD: [&str; 7] = [
    "patient_id",
    "state",
    "liveness",
    "liveness_since",
    "battery_level",
    "rssi",
    "last_heartbeat",
];

impl From<SensorCard> for Sensor {
    fn from(card: SensorCard) -> Self {
        let standing = Standing::from(card.registered.as_ref());
        let it = match card.registered.map(|r| r.record) {
            Some(Record::Sensor(it)) => it,
            _ => facts::Sensor::default(),
        };
        let heard = card.heard.as_ref();
        Self {
            id: card.id,
            kind: it.kind,
            mac_address: it.mac_address,
            protocol_type: it.protocol_type,
            expected_every: it
                .expected_every
                .or_else(|| heard.and_then(|row| row.expected_every))
                .map(Span::as_seconds),
            place: it.place,
            zone: it.zone,
            standing,
            patient_id: card.patient_id,
            state: heard.and_then(|row| row.state),
            liveness: heard.map_or(Liveness::Unknown, |row| row.liveness),
            liveness_since: heard.map(|row| row.since),
            battery_level: heard.and_then(|row| row.battery),
            firmware_version: heard.and_then(|row| row.firmware.clone()).or(it.firmware_version),
            rssi: heard.and_then(|row| row.rssi),
            location_lat: heard.and_then(|row| row.lat).or(it.location_lat),
            location_lng: heard.and_then(|row| row.lng).or(it.location_lng),
            last_heartbeat: heard.map(|row| row.last_heard),
        }
    }
}

/// Part of the list of sensors.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Sensors {
    sensors: Vec<Sensor>,
    next_cursor: Option<String>,
}

fn patient_of(card: &SensorCard) -> Option<&PatientId> {
    card.patient_id.as_ref()
}

/// Sensors, by id, cut to those of patients whom the caller may see. A page may be short although the list goes on.
#[utoipa::path(get, path = "/v1/sensors", tag = "sensors", params(Asked), security(("bearer" = [])),
    responses((status = 200, body = Sensors), (status = "default", body = Body, content_type = "application/problem+json")))]
pub(super) async fn list(
    Given(state): Given<Arc<State>>,
    caller: Caller,
    Params(ask): Params<Asked>,
) -> Result<Json<Sensors>, Problem> {
    let sight = caller.sight()?;
    let views = &*state.parts.views;
    let sees = |card: &SensorCard| {
        let own = match &sight {
            Sight::All => true,
            Sight::Only(own) => patient_of(card).is_some_and(|p| own.contains(p)),
            Sight::None => false,
        };
        own && ask.wants(card.registered.as_ref())
    };
    let page = cut(
        (&state.parts.keys, "sensors"),
        rows(ask.limit.as_deref(), query::USUAL)?,
        ask.cursor.as_deref(),
        sees,
        async |limit, cursor| query::sensor_cards(views, ask.prefix(), paging(limit, cursor.as_deref())).await,
    )
    .await?;
    Ok(Json(Sensors {
        sensors: page.items.into_iter().map(Sensor::from).collect(),
        next_cursor: page.next_cursor,
    }))
}

/// A sensor that the caller may see; for anybody else there is none.
pub(super) async fn seen(state: &State, caller: &Caller, id: &SensorId) -> Result<SensorCard, Problem> {
    let card = query::sensor_card(&*state.parts.views, id).await.map_err(viewed)?;
    let card = card.ok_or(Problem::NotFound)?;
    let may = match patient_of(&card) {
        Some(patient) => caller.principal.may(Action::SeePatient(patient)),
        None => caller.principal.may(Action::SeeAll),
    };
    if may { Ok(card) } else { Err(Problem::NotFound) }
}

/// One sensor, also one whose registration has ended. The `ETag` is the registration's revision.
#[utoipa::path(get, path = "/v1/sensors/{sensor_id}", tag = "sensors", params(("sensor_id" = String, Path)),
    security(("bearer" = [])), responses((status = 200, body = Sensor),
    (status = "default", body = Body, content_type = "application/problem+json")))]
pub(super) async fn one(
    Given(state): Given<Arc<State>>,
    caller: Caller,
    Path(sensor): Path<String>,
) -> Result<Response, Problem> {
    let id = SensorId::new(&sensor).map_err(|_| Problem::NotFound)?;
    let card = seen(&state, &caller, &id).await?;
    let registered = card.registered.clone();
    Ok(register::tagged(Sensor::from(card), registered.as_ref()))
}

/// Passes who may change the registry; to others a sensor that they do not see does not exist.
pub(super) async fn changing(state: &State, caller: &Caller, sensor: &str) -> Result<SensorId, Problem> {
    let id = SensorId::new(sensor).map_err(|_| Problem::NotFound)?;
    if caller.principal.may(Action::Register) {
        return Ok(id);
    }
    if !caller.principal.may(Action::SeeAll) {
        seen(state, caller, &id).await?;
    }
    Err(Problem::Forbidden)
}

/// A registration does not say who wears a sensor (`…/assignment` does): what was read may be sent back, another patient is
/// refused rather than passed over.
fn whose(sent: &Sent, heard: Option<&PatientId>) -> Result<(), Problem> {
    match sent.0.get("patient_id") {
        None | Some(Value::Null) => Ok(()),
        Some(Value::String(sent)) if heard.is_some_and(|heard| heard.as_str() == sent) => Ok(()),
        Some(_) => Err(Problem::invalid(
            "patient_id",
            "a registration does not say who wears a sensor",
            "un enregistrement ne dit pas qui porte un capteur",
        )),
    }
}

/// Registers a sensor. The body has an `id` and any of `kind`, `mac_address`, `protocol_type`, `expected_every`
/// (seconds), `firmware_version`, `place`, `location_lat`, `location_lng`, `zone`.
#[utoipa::path(post, path = "/v1/sensors", tag = "sensors", request_body(content = Sensor),
    security(("bearer" = [])), responses((status = 201, body = Changed),
    (status = "default", body = Body, content_type = "application/problem+json")))]
pub(super) async fn create(Given(state): Given<Arc<State>>, caller: Caller, sent: Sent) -> Result<Response, Problem> {
    caller.may(Action::Register)?;
    whose(&sent, None)?;
    register::create(&state, &caller, Register::Sensors, sent, &HEARD).await
}

/// Registers the whole anew: a field that is left out is registered no more. With `If-Match` only over that revision,
/// with `If-None-Match: *` only for the first time.
#[utoipa::path(put, path = "/v1/sensors/{sensor_id}", tag = "sensors", params(("sensor_id" = String, Path)),
    request_body(content = Sensor), security(("bearer" = [])), responses((status = 200, body = Changed),
    (status = "default", body = Body, content_type = "application/problem+json")))]
pub(super) async fn replace(
    Given(state): Given<Arc<State>>,
    caller: Caller,
    Path(sensor): Path<String>,
    headers: HeaderMap,
    sent: Sent,
) -> Result<Response, Problem> {
    let id = changing(&state, &caller, &sensor).await?;
    let card = query::sensor_card(&*state.parts.views, &id).await.map_err(viewed)?;
    whose(&sent, card.as_ref().and_then(patient_of))?;
    register::replace(&state, &caller, Key::Sensor(id), (&headers, sent), &HEARD).await
}

/// Ends the registration; what was recorded stays, and the address is free.
#[utoipa::path(delete, path = "/v1/sensors/{sensor_id}", tag = "sensors", params(("sensor_id" = String, Path)),
    security(("bearer" = [])), responses((status = 200, body = Changed),
    (status = "default", body = Body, content_type = "application/problem+json")))]
pub(super) async fn end(
    Given(state): Given<Arc<State>>,
    caller: Caller,
    Path(sensor): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let id = changing(&state, &caller, &sensor).await?;
    register::end(&state, &caller, Key::Sensor(id), &headers).await
}
