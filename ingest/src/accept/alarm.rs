//! Alarms that the device itself raises.

use schemas::facts::{AlarmCode, DeviceAlarm};
use schemas::journal::{Envelope, Fact};

use super::circumstances::{About, Circumstances};
use super::json::Raw;
use super::{Checked, Context};
use crate::refusal::Fault;

/// What an alarm is about; one that is not known is refused before that matters.
pub(super) fn about(raw: &Raw<'_>) -> About {
    let clinical = raw
        .code
        .text()
        .and_then(AlarmCode::parse)
        .is_some_and(AlarmCode::is_clinical);
    if clinical { About::Alarm } else { About::Device }
}

/// Judges an alarm.
pub(super) fn judge(raw: &Raw<'_>, circumstances: &Circumstances, context: &Context<'_>) -> Checked<Envelope> {
    if raw.code.is_none() {
        return Err(Fault::Missing.of("code"));
    }
    let text = raw.code.text().unwrap_or("of this kind");
    let code = AlarmCode::parse(text).ok_or_else(|| Fault::UnknownAlarm.about("code", text))?;
    let id = circumstances.id("fajma.alarm", code.as_str().as_bytes(), &[]);
    Ok(circumstances.envelope(
        id,
        Fact::DeviceAlarm(DeviceAlarm {
            sensor_id: circumstances.sensor.clone(),
            code,
            seq: circumstances.seq,
            epoch: circumstances.epoch,
            door: context.door,
        }),
    ))
}
