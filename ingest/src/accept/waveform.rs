//! Waveforms: `{"type":"ecg","samples":[…],"rate":250,"unit":"mV"}`.

use schemas::facts::{self, Mark, Reading};
use schemas::journal::{Envelope, Fact};
use schemas::metric::Metric;

use super::any::Samples;
use super::circumstances::{Circumstances, flag, number};
use super::json::Raw;
use super::reading::{canonical, marks, quality, unit_of};
use super::{Bench, Checked};
use crate::refusal::Fault;

/// Judges a stretch of waveform. Its value is the mean of its samples.
pub(super) fn judge(
    raw: &Raw<'_>,
    metric: Metric,
    circumstances: &Circumstances,
    bench: &Bench<'_>,
) -> Checked<Envelope> {
    let sent = match &raw.samples {
        Samples::Absent => return Err(Fault::Missing.of("samples")),
        Samples::Numbers(numbers) if !numbers.is_empty() => numbers,
        Samples::Numbers(_) | Samples::Bad => return Err(Fault::BadSamples.of("samples")),
    };
    let limit = bench.rules.bounds.samples;
    if sent.len() > limit {
        return Err(Fault::TooManySamples.about("samples", limit));
    }
    let rate = number("rate", &raw.rate)?;
    if !(rate > 0.0 && rate <= 100_000.0) {
        return Err(Fault::BadRate.of("rate"));
    }
    let info = metric.info();
    let unit = unit_of(raw, metric, info)?;
    let (mut values, mut sum) = (Vec::with_capacity(sent.len()), 0.0);
    for sample in sent {
        let value = canonical(metric, info, *sample, unit)?;
        if !value.is_finite() {
            return Err(Fault::BadSamples.of("samples"));
        }
        if !info.possible.contains(value) {
            return Err(Fault::Implausible.about("samples", sample));
        }
        values.push(value as f32);
        sum += value;
    }
    let value = sum / sent.len() as f64;
    let mut content = Vec::with_capacity(16 + values.len() * 4);
    content.extend_from_slice(&value.to_bits().to_be_bytes());
    content.extend_from_slice(&rate.to_bits().to_be_bytes());
    values
        .iter()
        .for_each(|v| content.extend_from_slice(&v.to_bits().to_be_bytes()));
    let mut marks = marks(circumstances);
    if !info.usual.contains(value) {
        marks.push(Mark::Suspect);
    }
    let reading = Reading {
        sensor_id: circumstances.sensor.clone(),
        metric,
        value,
        sent: None,
        quality: quality(&raw.quality)?,
        contact: flag("contact", &raw.contact)?,
        seq: circumstances.seq,
        epoch: circumstances.epoch,
        samples: Some(facts::Samples { rate, values }),
        marks,
        door: bench.context.door,
    };
    let id = circumstances.id("fajma.reading", metric.as_str().as_bytes(), &content);
    Ok(circumstances.envelope(id, Fact::Reading(reading)))
}
