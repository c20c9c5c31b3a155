//! A blood pressure: systolic, diastolic and, where it is given, mean, as readings with one sequence.

use schemas::journal::Envelope;
use schemas::metric::Metric;

use super::circumstances::Circumstances;
use super::json::Raw;
use super::{Checked, Context, reading};
use crate::refusal::Fault;

/// Judges a blood pressure as a whole: all of its readings are good, or none is taken.
pub(super) fn judge(
    raw: &Raw<'_>,
    circumstances: &Circumstances,
    context: &Context<'_>,
    mut fact: impl FnMut(Envelope),
) -> Checked<()> {
    let one = |metric, field, any| reading::value(raw, metric, (field, any), circumstances, context);
    let systolic = one(Metric::Systolic, "systolic", &raw.systolic)?;
    let diastolic = one(Metric::Diastolic, "diastolic", &raw.diastolic)?;
    let mean = if raw.mean.is_none() {
        None
    } else {
        Some(one(Metric::MeanPressure, "mean", &raw.mean)?)
    };
    // As the sensor said them: its calibration makes none of them disappear.
    let said = |metric, field, any| reading::said(raw, metric, (field, any)).map(|number| number.said);
    let high = said(Metric::Systolic, "systolic", &raw.systolic)?;
    let low = said(Metric::Diastolic, "diastolic", &raw.diastolic)?;
    if high <= low {
        return Err(Fault::PressureOrder.of("diastolic"));
    }
    if mean.is_some() {
        let between = said(Metric::MeanPressure, "mean", &raw.mean)?;
        if between >= high || between <= low {
            return Err(Fault::PressureOrder.of("mean"));
        }
    }
    fact(systolic);
    fact(diastolic);
    mean.into_iter().for_each(fact);
    Ok(())
}
