//! Arithmetic of consultations: what was measured, how much of it is missing, and how far it can be trusted.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::catalogue::Form;
use crate::facts::{ConsultationSeries, Stretch};
use crate::ids::SensorId;
use crate::metric::Metric;
use crate::time::{Span, Timestamp};

/// What is measured later than this after the opening is not folded any more: nobody consults for half a day, and a
/// consultation that was never closed must not grow for ever.
pub const LONGEST: Span = Span::hours(12);
/// A consultation is folded in parts of this length, aligned to 1970.
pub const PART: Span = Span::hours(1);

/// Whether a metric is data about the patient that is folded: numbers, but not the charge of a battery.
#[must_use]
pub const fn counts(metric: Metric) -> bool {
    matches!(metric.info().form, Form::Number) && !matches!(metric, Metric::Battery)
}

/// Where the parts begin that a consultation opened then may touch, oldest first.
pub fn parts(opened_at: Timestamp) -> impl Iterator<Item = Timestamp> {
    let first = opened_at.floor(PART);
    let end = opened_at + LONGEST;
    std::iter::successors(Some(first), |start| Some(*start + PART)).take_while(move |start| *start < end)
}

/// Figures of one metric, canonical unit.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Figures {
    /// How many readings.
    pub count: i64,
    /// Smallest value.
    pub min: f64,
    /// Greatest value.
    pub max: f64,
    /// Arithmetic mean.
    pub mean: f64,
    /// Value of the latest reading by measured time.
    pub last: f64,
}

/// Time in which a sensor that should have measured did not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Gap {
    /// What was not measured.
    pub metric: Metric,
    /// By whom.
    pub sensor_id: SensorId,
    /// The last reading before it, or the beginning.
    pub from: Timestamp,
    /// The next reading after it, or the end.
    pub to: Timestamp,
}

/// What a consultation's data comes to.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    /// Figures by metric, of all sensors together.
    pub real_time_data: BTreeMap<Metric, Figures>,
    /// 0–100: mean quality × coverage. The mean is over readings that came with a quality (100 where none did); coverage
    /// is the share of time outside gaps, mean over series that should measure all the time (1 where none should).
    /// 0 where nothing was measured.
    pub data_quality_score: f64,
    /// Gaps, by when they began.
    pub gaps: Vec<Gap>,
}

/// Stretches with shorter pauses between them made one; all of them where no pause matters.
#[must_use]
pub fn joined(stretches: &[Stretch], silent_after: Option<Span>) -> Vec<Stretch> {
    let mut joined: Vec<Stretch> = Vec::with_capacity(stretches.len().min(4));
    for next in stretches {
        match joined.last_mut() {
            Some(last) if silent_after.is_none_or(|pause| next.start - last.end <= pause) => {
                last.end = last.end.max(next.end);
            }
            _ => joined.push(*next),
        }
    }
    joined
}

/// What parts of a consultation come to that was held from `from` until `until`: their series, oldest part first.
#[must_use]
pub fn summary<'a>(
    parts: impl IntoIterator<Item = &'a ConsultationSeries>,
    from: Timestamp,
    until: Timestamp,
) -> Summary {
    let mut by_series: BTreeMap<(Metric, &SensorId), Vec<&ConsultationSeries>> = BTreeMap::new();
    for series in parts {
        by_series
            .entry((series.metric, &series.sensor_id))
            .or_default()
            .push(series);
    }
    let mut figures: BTreeMap<Metric, (Figures, Timestamp)> = BTreeMap::new();
    let (mut gaps, mut coverage) = (Vec::new(), Vec::new());
    let (mut rated, mut quality) = (0, 0.0);
    for ((metric, sensor_id), parts) in by_series {
        for part in &parts {
            add(&mut figures, part);
            rated += part.rated;
            quality += part.quality.unwrap_or(0.0) * part.rated as f64;
        }
        // What the sensor was expected to do last is what its silence is judged by.
        let Some(silent_after) = parts.last().and_then(|part| part.silent_after) else {
            continue;
        };
        let mut stretches: Vec<Stretch> = parts.iter().flat_map(|part| part.stretches.iter().copied()).collect();
        stretches.sort_unstable_by_key(|stretch| stretch.start);
        let missing = missing(&stretches, silent_after, from, until);
        let lost: i64 = missing.iter().map(|(start, end)| (*end - *start).0).sum();
        let whole = (until - from).0;
        coverage.push(if whole > 0 {
            1.0 - lost as f64 / whole as f64
        } else {
            1.0
        });
        gaps.extend(missing.into_iter().map(|(from, to)| Gap {
            metric,
            sensor_id: sensor_id.clone(),
            from,
            to,
        }));
    }
    gaps.sort_by_key(|gap| (gap.from, gap.metric));
    let quality = if rated > 0 { quality / rated as f64 } else { 100.0 };
    let covered = if coverage.is_empty() {
        1.0
    } else {
        coverage.iter().sum::<f64>() / coverage.len() as f64
    };
    let score = if figures.is_empty() { 0.0 } else { quality * covered };
    Summary {
        real_time_data: figures
            .into_iter()
            .map(|(metric, (figures, _))| (metric, figures))
            .collect(),
        data_quality_score: (score.clamp(0.0, 100.0) * 10.0).round() / 10.0,
        gaps,
    }
}

fn add(figures: &mut BTreeMap<Metric, (Figures, Timestamp)>, part: &ConsultationSeries) {
    let own = Figures {
        count: part.count,
        min: part.min,
        max: part.max,
        mean: part.mean,
        last: part.last,
    };
    let Some((sum, last_at)) = figures.get_mut(&part.metric) else {
        figures.insert(part.metric, (own, part.last_at));
        return;
    };
    let count = sum.count + own.count;
    if count > 0 {
        sum.mean += (own.mean - sum.mean) * own.count as f64 / count as f64;
    }
    sum.count = count;
    sum.min = sum.min.min(own.min);
    sum.max = sum.max.max(own.max);
    if part.last_at >= *last_at {
        (sum.last, *last_at) = (own.last, part.last_at);
    }
}

/// Pauses longer than `silent_after` between the stretches, and before the first and after the last.
fn missing(
    stretches: &[Stretch],
    silent_after: Span,
    from: Timestamp,
    until: Timestamp,
) -> Vec<(Timestamp, Timestamp)> {
    let end = Stretch {
        start: until,
        end: until,
    };
    let mut heard = from;
    let mut missing = Vec::new();
    for next in stretches.iter().chain(std::iter::once(&end)) {
        let start = next.start.min(until);
        if start - heard > silent_after {
            missing.push((heard, start));
        }
        heard = heard.max(next.end);
    }
    missing
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(1_767_600_000_000) + Span::seconds(seconds)
    }

    fn series(sensor: &str, values: &[f64], stretches: &[(i64, i64)], silent_after: Option<i64>) -> ConsultationSeries {
        let stretches: Vec<Stretch> = stretches
            .iter()
            .map(|(start, end)| Stretch {
                start: at(*start),
                end: at(*end),
            })
            .collect();
        ConsultationSeries {
            sensor_id: SensorId::new(sensor).unwrap(),
            metric: Metric::HeartRate,
            count: values.len() as i64,
            min: values.iter().copied().fold(f64::INFINITY, f64::min),
            max: values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
            mean: values.iter().sum::<f64>() / values.len() as f64,
            last: *values.last().unwrap(),
            last_at: stretches.last().unwrap().end,
            rated: values.len() as i64,
            quality: Some(90.0),
            silent_after: silent_after.map(Span::seconds),
            stretches,
        }
    }

    #[test]
    fn parts_of_one_series_and_two_sensors_of_one_metric_give_the_figures_of_all_readings() {
        let all = [
            series("a", &[60.0, 70.0], &[(0, 50)], Some(90)),
            series("a", &[80.0], &[(100, 100)], Some(90)),
            series("b", &[50.0], &[(10, 10)], None),
        ];
        let got = summary(&all, at(0), at(100));
        let figures = got.real_time_data[&Metric::HeartRate];
        assert_eq!(
            (figures.count, figures.min, figures.max, figures.mean, figures.last),
            (4, 50.0, 80.0, 65.0, 80.0)
        );
        assert_eq!(
            (got.data_quality_score, got.gaps.len()),
            (90.0, 0),
            "what is measured now and then has no gaps"
        );
    }

    #[test]
    fn a_gap_is_told_whole_and_lowers_the_score_by_its_share_of_the_time() {
        for (stretches, gaps) in [
            (&[(0, 1_000)][..], &[][..]),
            (&[(0, 300), (400, 1_000)], &[(300, 400)]),
            (&[(200, 600)], &[(0, 200), (600, 1_000)]),
            (&[(0, 300), (380, 1_000)], &[]),
            (&[(0, 1_300)], &[]),
        ] {
            let got = summary(&[series("a", &[1.0], stretches, Some(90))], at(0), at(1_000));
            let told: Vec<_> = got.gaps.iter().map(|gap| (gap.from, gap.to)).collect();
            let gaps: Vec<_> = gaps.iter().map(|(from, to)| (at(*from), at(*to))).collect();
            assert_eq!(told, gaps, "{stretches:?}");
            let lost: f64 = gaps.iter().map(|(from, to)| (*to - *from).as_seconds()).sum();
            assert!(
                (got.data_quality_score - 90.0 * (1.0 - lost / 1_000.0)).abs() < 0.06,
                "{stretches:?}"
            );
        }
    }

    #[test]
    fn a_consultation_in_which_nothing_was_measured_scores_nothing() {
        let got = summary(&[], at(0), at(10));
        assert_eq!((got.data_quality_score, got.real_time_data.len()), (0.0, 0));
    }

    #[test]
    fn pauses_that_do_not_matter_are_joined() {
        let stretch = |start, end| Stretch {
            start: at(start),
            end: at(end),
        };
        let all = [stretch(0, 10), stretch(20, 30), stretch(200, 210)];
        assert_eq!(
            joined(&all, Some(Span::seconds(90))),
            [stretch(0, 30), stretch(200, 210)]
        );
        assert_eq!(joined(&all, None), [stretch(0, 210)]);
    }

    #[test]
    fn a_consultation_touches_the_hours_up_to_its_longest() {
        let touched: Vec<_> = parts(at(1_800)).collect();
        assert_eq!((touched.len(), touched[0]), (13, at(1_800).floor(PART)));
        assert!(touched.iter().all(|start| *start < at(1_800) + LONGEST));
    }
}
