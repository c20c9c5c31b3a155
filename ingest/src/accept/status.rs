//! What a sensor says about itself, and its answers to commands.

use schemas::avro::Avro;
use schemas::facts::{CommandAnswered, SensorState, SensorStatus};
use schemas::ids::EventId;
use schemas::journal::{Envelope, Fact};

use super::any::Any;
use super::circumstances::{Circumstances, text, within};
use super::json::Raw;
use super::{Checked, Context};
use crate::refusal::Fault;

/// Words by which a sensor says that it did what it was told; so does an answer without a result.
const DONE: [&str; 4] = ["ok", "done", "confirmed", "success"];

/// The answer to a command that a status gives, where it gives one: a fact of its own, in the sensor's journal.
pub(super) fn answer(status: &Envelope, circumstances: &Circumstances) -> Option<Envelope> {
    let Fact::SensorStatus(said) = &status.fact else {
        return None;
    };
    let command_id = said.command_id.clone()?;
    let confirmed = said
        .result
        .as_ref()
        .is_none_or(|result| DONE.iter().any(|done| result.eq_ignore_ascii_case(done)));
    let id = EventId::of("fajma.answer", &[&status.id.0]);
    let answered = CommandAnswered {
        command_id,
        confirmed,
        result: said.result.clone(),
    };
    let mut envelope = circumstances.of_the_sensor(id, Fact::CommandAnswered(answered));
    // A clock that is ahead says so of what it measures too; what was done was done when we hear of it.
    envelope.measured_at = envelope.measured_at.min(envelope.received_at);
    Some(envelope)
}

/// Judges a status. An answer to a command needs no state: a device that answers is active.
pub(super) fn judge(raw: &Raw<'_>, circumstances: &Circumstances, context: &Context<'_>) -> Checked<Envelope> {
    let command_id = text("command_id", &raw.command_id, 64)?;
    let status = SensorStatus {
        sensor_id: circumstances.sensor.clone(),
        state: match &raw.state {
            Any::Absent | Any::Null if command_id.is_some() => SensorState::Active,
            Any::Absent | Any::Null => return Err(Fault::Missing.of("state")),
            other => state(other)?,
        },
        battery: within("battery", &raw.battery, 0.0, 100.0)?,
        firmware: text("firmware", &raw.firmware, 64)?,
        rssi: within("rssi", &raw.rssi, -200.0, 50.0)?,
        lat: within("lat", &raw.lat, -90.0, 90.0)?,
        lng: within("lng", &raw.lng, -180.0, 180.0)?,
        last_will: context.last_will,
        command_id,
        result: text("result", &raw.result, 256)?,
        door: context.door,
    };
    let mut content = Vec::with_capacity(128);
    status.write(&mut content);
    // The door, which is written last, in one byte, is no part of what the device said.
    content.pop();
    let id = circumstances.id("fajma.status", &[], &content);
    Ok(circumstances.envelope(id, Fact::SensorStatus(status)))
}

fn state(any: &Any<'_>) -> Checked<SensorState> {
    let text = any.text().unwrap_or("of this kind");
    SensorState::parse(text).ok_or_else(|| Fault::UnknownState.about("state", text))
}
