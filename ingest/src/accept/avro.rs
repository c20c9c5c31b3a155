//! Avro with Confluent framing: our own readings, alarms and status, in this version or an older one.
//!
//! Id, key, time of arrival and door are made here; what the record says of them counts for nothing but the patient.
//! Values stand in canonical units and are judged as if they had come as JSON.

use bytes::Bytes;
use schemas::codec::{self, DecodeError};
use schemas::facts::{DeviceAlarm, Reading, SensorStatus};
use schemas::ids::Key;
use schemas::journal::{ClockQuality, Envelope, Fact};
use schemas::unit;

use super::any::{Any, Samples};
use super::json::Raw;
use super::{Bench, Checked, Kind};
use crate::refusal::Fault;

/// Judges a message: one framed record.
pub(super) fn message(bytes: &Bytes, bench: &mut Bench<'_>) -> Checked<()> {
    let limit = bench.rules.bounds.record_bytes;
    if bytes.len() > limit {
        return Err(Fault::RecordTooLarge.whole(limit));
    }
    let envelope = codec::decode(bytes, bench.rules.catalogue).map_err(|error| match error {
        DecodeError::UnknownKind(kind) => Fault::NotASensorsRecord.whole(kind),
        other => Fault::NotAvro.whole(other),
    })?;
    let index = bench.context.first_index;
    match raw(&envelope) {
        Ok((raw, kind)) if fits(bench.context.kind, kind) => bench.judge(&raw, index, || bytes.clone()),
        Ok(_) => return Err(Fault::NotASensorsRecord.whole("that on this topic")),
        Err(refused) => bench.refuse(
            index,
            bytes.clone(),
            (envelope.key.patient().map(|p| p.as_str()), None),
            *refused,
        ),
    }
    Ok(())
}

fn fits(allowed: Kind, found: Kind) -> bool {
    allowed == Kind::Mixed || allowed == found
}

/// The record in the form that all formats are judged in.
fn raw(envelope: &Envelope) -> Checked<(Raw<'_>, Kind)> {
    let mut raw = match &envelope.fact {
        Fact::Reading(reading) => of_reading(reading)?,
        Fact::DeviceAlarm(alarm) => of_alarm(alarm),
        Fact::SensorStatus(status) => of_status(status),
        _ => return Err(Fault::NotASensorsRecord.whole("this kind of record")),
    };
    raw.patient_id = match &envelope.key {
        Key::Patient(patient) => Any::of(patient.as_str()),
        Key::Sensor(_) | Key::Nobody => Any::Absent,
        Key::Staff(_) => return Err(Fault::BadId.of("key")),
    };
    if envelope.clock != ClockQuality::Arrival {
        raw.at = Any::Moment(envelope.measured_at);
    }
    let kind = if matches!(envelope.fact, Fact::SensorStatus(_)) {
        Kind::Status
    } else {
        Kind::Data
    };
    Ok((raw, kind))
}

fn of_reading(reading: &Reading) -> Checked<Raw<'_>> {
    let metric = reading.metric;
    let agrees = |sent: f64, named: &str| {
        let value = unit::convert(metric, sent, named).map_err(|_| Fault::UnknownUnit.about("sent", named))?;
        let near = (value - reading.value).abs() <= 1e-6 * value.abs().max(1.0);
        if near {
            Ok(())
        } else {
            Err(Fault::SentDiffers.of("sent"))
        }
    };
    // Value and unit as sent are kept only where they say the same as the value.
    let (value, unit) = match &reading.sent {
        Some(sent) if reading.value.is_finite() => {
            agrees(sent.value, &sent.unit)?;
            (sent.value, sent.unit.as_str())
        }
        _ => (reading.value, metric.info().unit),
    };
    Ok(Raw {
        sensor_id: Any::of(reading.sensor_id.as_str()),
        kind: Any::of(metric.as_str()),
        value: Any::Num(value),
        unit: Any::of(unit),
        quality: reading.quality.map_or(Any::Absent, |q| Any::Int(i64::from(q))),
        contact: reading.contact.map_or(Any::Absent, Any::Bool),
        seq: reading.seq.map_or(Any::Absent, Any::Int),
        epoch: reading.epoch.map_or(Any::Absent, Any::Int),
        rate: reading.samples.as_ref().map_or(Any::Absent, |s| Any::Num(s.rate)),
        samples: reading.samples.as_ref().map_or(Samples::Absent, |s| {
            Samples::Numbers(s.values.iter().map(|v| f64::from(*v)).collect())
        }),
        ..Raw::default()
    })
}

fn of_alarm(alarm: &DeviceAlarm) -> Raw<'_> {
    Raw {
        sensor_id: Any::of(alarm.sensor_id.as_str()),
        kind: Any::of("alarm"),
        code: Any::of(alarm.code.as_str()),
        seq: alarm.seq.map_or(Any::Absent, Any::Int),
        epoch: alarm.epoch.map_or(Any::Absent, Any::Int),
        ..Raw::default()
    }
}

fn of_status(status: &SensorStatus) -> Raw<'_> {
    let number = |n: Option<f64>| n.map_or(Any::Absent, Any::Num);
    Raw {
        sensor_id: Any::of(status.sensor_id.as_str()),
        state: Any::of(status.state.as_str()),
        battery: number(status.battery),
        firmware: status.firmware.as_deref().map_or(Any::Absent, Any::of),
        rssi: number(status.rssi),
        lat: number(status.lat),
        lng: number(status.lng),
        command_id: status.command_id.as_deref().map_or(Any::Absent, Any::of),
        result: status.result.as_deref().map_or(Any::Absent, Any::of),
        ..Raw::default()
    }
}
