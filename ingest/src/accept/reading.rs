//! Readings: one number of one metric, or a stretch of waveform.

use schemas::catalogue::{Form, Info};
use schemas::facts::{Mark, Reading, Sent};
use schemas::journal::{Envelope, Fact};
use schemas::metric::Metric;
use schemas::unit;
use smol_str::SmolStr;

use super::any::Any;
use super::circumstances::{About, Circumstances, flag, number};
use super::json::Raw;
use super::{Bench, Checked, Context, waveform};
use crate::refusal::Fault;

fn parse(name: &str) -> Checked<Metric> {
    Metric::parse(name).ok_or_else(|| Fault::UnknownMetric.about("type", name))
}

/// What a reading of the metric of this name is about.
pub(super) fn about(name: &str) -> Checked<About> {
    Ok(if is_of_a_place(parse(name)?) {
        About::Device
    } else {
        About::Measured
    })
}

/// Judges a reading of the metric of this name.
pub(super) fn judge(raw: &Raw<'_>, name: &str, circumstances: &Circumstances, bench: &Bench<'_>) -> Checked<Envelope> {
    let metric = parse(name)?;
    if metric.info().form == Form::Waveform {
        return waveform::judge(raw, metric, circumstances, bench);
    }
    value(raw, metric, ("value", &raw.value), circumstances, bench.context)
}

/// Whether a reading of this metric makes sense without a patient: a room has a temperature, a sensor a battery.
const fn is_of_a_place(metric: Metric) -> bool {
    matches!(
        metric,
        Metric::AmbientTemperature | Metric::AmbientHumidity | Metric::Battery
    )
}

/// A number as its sensor said it.
pub(super) struct Said<'r> {
    /// As it was sent.
    sent: f64,
    /// The unit that was named, where it is not the canonical one.
    named: Option<&'r str>,
    /// In the canonical unit, not calibrated.
    pub(super) said: f64,
}

/// Reads one number that stands in `field`.
pub(super) fn said<'r>(raw: &'r Raw<'_>, metric: Metric, (field, any): (&str, &Any<'_>)) -> Checked<Said<'r>> {
    let info = metric.info();
    let sent = match any {
        Any::Bool(happened) if info.form == Form::Event => f64::from(u8::from(*happened)),
        other => number(field, other)?,
    };
    let named = unit_of(raw, metric, info)?;
    let said = canonical(metric, info, sent, named)?;
    Ok(Said { sent, named, said })
}

/// Judges one number that stands in `field`.
pub(super) fn value(
    raw: &Raw<'_>,
    metric: Metric,
    (field, any): (&str, &Any<'_>),
    circumstances: &Circumstances,
    context: &Context<'_>,
) -> Checked<Envelope> {
    let info = metric.info();
    let Said { sent, named, said } = said(raw, metric, (field, any))?;
    let contact = flag("contact", &raw.contact)?;
    // What the sensor itself said decides: a calibration is small, and makes no reading disappear.
    let zero = said == 0.0 && info.zero_with_contact && contact == Some(true);
    if !zero && (!info.possible.contains(said) || (info.form == Form::Event && said != 0.0 && said != 1.0)) {
        return Err(Fault::Implausible.about(field, sent));
    }
    // No heart beat stays no heart beat, however much the sensor is off when there is one.
    let offset = circumstances.offset(metric).filter(|_| !zero);
    let value = offset.map_or(said, |offset| {
        (said + offset).clamp(info.possible.low, info.possible.high)
    });
    let mut marks = marks(circumstances);
    if zero {
        marks.push(Mark::ZeroWithContact);
    } else if !info.usual.contains(value) {
        marks.push(Mark::Suspect);
    }
    let reading = Reading {
        sensor_id: circumstances.sensor.clone(),
        metric,
        value,
        sent: as_sent(metric, named, offset).map(|unit| Sent {
            value: sent,
            unit: SmolStr::new(unit),
        }),
        quality: quality(&raw.quality)?,
        contact,
        seq: circumstances.seq,
        epoch: circumstances.epoch,
        samples: None,
        marks,
        door: context.door,
    };
    let id = circumstances.id(
        "fajma.reading",
        metric.as_str().as_bytes(),
        // What the device said: the same before and after it was calibrated.
        &said.to_bits().to_be_bytes(),
    );
    Ok(circumstances.envelope(id, Fact::Reading(reading)))
}

/// The unit of what was sent, where that is kept beside the value: it differs from it.
fn as_sent(metric: Metric, named: Option<&str>, offset: Option<f64>) -> Option<&str> {
    match (named.filter(|unit| !unit::is_canonical(metric, unit)), offset) {
        (None, Some(_)) => Some(metric.info().unit),
        (other, _) => other,
    }
}

/// The unit that was named, where it is not the canonical one as UCUM writes it.
pub(super) fn unit_of<'r>(raw: &'r Raw<'_>, metric: Metric, info: &Info) -> Checked<Option<&'r str>> {
    match &raw.unit {
        Any::Absent | Any::Null if info.unit_required => Err(Fault::UnitRequired.about("unit", metric)),
        Any::Absent | Any::Null => Ok(None),
        Any::Text(unit) if unit == info.unit => Ok(None),
        Any::Text(unit) => Ok(Some(unit)),
        _ => Err(Fault::UnknownUnit.about("unit", "that")),
    }
}

/// A value in the canonical unit.
pub(super) fn canonical(metric: Metric, info: &Info, sent: f64, named: Option<&str>) -> Checked<f64> {
    match named {
        None => Ok(sent),
        Some(name) if name == info.unit => Ok(sent),
        Some(name) => unit::convert(metric, sent, name).map_err(|_| Fault::UnknownUnit.about("unit", name)),
    }
}

/// What is noticed about the circumstances alone.
pub(super) fn marks(circumstances: &Circumstances) -> Vec<Mark> {
    let mut marks = Vec::new();
    if circumstances.device_time.is_none() {
        marks.push(Mark::TimeMissing);
    }
    if circumstances.at_least_once() {
        marks.push(Mark::AtLeastOnce);
    }
    marks
}

/// 0–100, a whole number.
pub(super) fn quality(any: &Any<'_>) -> Checked<Option<u8>> {
    match any {
        Any::Absent | Any::Null => Ok(None),
        Any::Int(n @ 0..=100) => Ok(Some(*n as u8)),
        Any::Num(n) if n.fract() == 0.0 && (0.0..=100.0).contains(n) => Ok(Some(*n as u8)),
        _ => Err(Fault::BadQuality.of("quality")),
    }
}
