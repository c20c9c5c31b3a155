//! What processors go by: a fact in the journal, never a line in a configuration file.

use crate::avro::{record, symbols};
use crate::catalogue;
use crate::facts::{Limits, MetricLimits, Zone};
use crate::metric::{Form, Metric};
use crate::time::Span;

record! {
    /// How one metric is watched.
    pub struct MetricRule {
        /// The metric.
        pub metric: Metric,
        /// Default limits for an adult.
        pub limits: Limits,
        /// The condition must hold this long between samples before an alert is raised.
        pub raise_after: Span,
        /// The condition must be gone this long between samples before the alert ends.
        pub clear_after: Span,
        /// How far inside the limit a value must be to count as gone, canonical unit.
        pub deadband: f64,
        /// Taken now and then: a first reading raises at most a WARNING, the next confirms.
        pub spot: bool,
        /// At or below this, one reading is enough for CRITICAL.
        pub extreme_low: Option<f64>,
        /// At or above this, one reading is enough for CRITICAL.
        pub extreme_high: Option<f64>,
    }
}

symbols! {
    /// Whose readings are taken.
    pub enum Admission {
        /// An unknown patient or sensor is taken in with its first reading.
        Open = "open",
        /// Sensors that are registered, for the patient to whom they are assigned.
        Registered = "registered",
    }
}

record! {
    /// What is expected of sensors in a zone.
    #[derive(Copy)]
    pub struct ZoneRule {
        /// The zone.
        pub zone: Zone,
        /// How often a sensor is expected that is registered with no rhythm of its own, from its first status on.
        pub expected_every: Span,
        /// After how many times its rhythm a sensor that says nothing is silent.
        pub patience: i32,
        /// Data older than this when it is recorded raises retrospective alerts only.
        pub fresh_for: Span,
    }
}

record! {
    /// The whole of what processors go by.
    pub struct Policy {
        /// Version of the metric catalogue.
        pub catalogue: i32,
        /// How far a device's clock may be ahead of ours.
        pub allowed_skew: Span,
        /// How long late data re-opens its windows.
        pub lateness: Span,
        /// Data older than this when it is recorded raises retrospective alerts only.
        pub fresh_for: Span,
        /// How each metric is watched.
        pub rules: Vec<MetricRule>,
        /// Whose readings are taken.
        pub admission: Admission,
        /// What is expected by zone, where one is registered.
        pub zones: Vec<ZoneRule>,
    }
}

impl Policy {
    /// What is expected in a zone, where one is registered and the policy says something of it.
    #[must_use]
    pub fn zone(&self, zone: Option<Zone>) -> Option<&ZoneRule> {
        self.zones.iter().find(|rule| Some(rule.zone) == zone)
    }

    /// The rule of a metric, where the policy has one.
    #[must_use]
    pub fn rule(&self, metric: Metric) -> Option<&MetricRule> {
        // In a whole policy the rules stand in the catalogue's order, so the first look is the last.
        self.rules
            .get(metric as usize)
            .filter(|rule| rule.metric == metric)
            .or_else(|| self.rules.iter().find(|rule| rule.metric == metric))
    }

    /// The limits of a metric for a patient: the patient's `own` where they are set, which replace the defaults whole;
    /// no limits where neither is.
    #[must_use]
    pub fn limits(&self, metric: Metric, own: &[MetricLimits]) -> Limits {
        own.iter()
            .find(|set| set.metric == metric)
            .map(|set| set.limits)
            .or_else(|| self.rule(metric).map(|rule| rule.limits))
            .unwrap_or_default()
    }

    /// What a new installation goes by: adults of 16 years and more, not pregnant. A clinician must review it.
    ///
    /// Bands are those of NEWS2 (Royal College of Physicians 2017; 3, 2 and 1 points are CRITICAL, WARNING and INFO),
    /// SpO2 on scale 1; glucose after the international consensus on time in range (Battelino 2019; below 54 mg/dL is
    /// level 2 hypoglycaemia); the rest is this project's proposal. Persistence and deadbands follow what cut alarms in
    /// published ICU studies (Welch 2011, Görges 2009, Lansdowne 2016).
    ///
    /// `allowed_skew` is 5 minutes: bedside and phone clocks set by hand or by the mobile network stay within it, and a
    /// clock that is further ahead would otherwise drag a window, and "latest", into the future. `fresh_for` is 10
    /// minutes: longer than any store-and-forward of a working link, shorter than anything a doctor calls "now".
    #[must_use]
    pub fn standard() -> Self {
        Self {
            catalogue: catalogue::VERSION,
            allowed_skew: Span::minutes(5),
            lateness: Span::days(7),
            fresh_for: Span::minutes(10),
            rules: Metric::ALL
                .iter()
                .filter(|metric| metric.info().form != Form::Waveform)
                .map(|metric| standard_rule(*metric))
                .collect(),
            admission: Admission::Open,
            zones: standard_zones().to_vec(),
        }
    }
}

/// Where networks are thin devices save their batteries and gateways hand on what they have every few minutes: what is a
/// silence in town is a pause there, and what comes an hour late may still be acted on. The figures are this project's
/// proposal, to be reviewed where it is used.
const fn standard_zones() -> [ZoneRule; 3] {
    const fn rule(zone: Zone, every: Span, fresh_for: Span) -> ZoneRule {
        ZoneRule {
            zone,
            expected_every: every,
            patience: 3,
            fresh_for,
        }
    }
    [
        rule(Zone::Urban, Span::seconds(30), Span::minutes(10)),
        rule(Zone::SemiUrban, Span::minutes(1), Span::minutes(20)),
        rule(Zone::Rural, Span::minutes(5), Span::hours(1)),
    ]
}

/// Low limits, from critical to info.
type Low = [Option<f64>; 3];
/// High limits, from info to critical.
type High = [Option<f64>; 3];

const NONE: [Option<f64>; 3] = [None, None, None];

const fn limits(low: Low, high: High) -> Limits {
    Limits {
        critical_low: low[0],
        warning_low: low[1],
        info_low: low[2],
        info_high: high[0],
        warning_high: high[1],
        critical_high: high[2],
    }
}

/// Default limits. A limit is reached at or beyond it; what the tables say with "less than" or "more than" is written
/// one tenth further out, finer than any device reports.
const fn standard_limits(metric: Metric) -> Limits {
    match metric {
        // NEWS2: ≤40 | 41–50 | 91–110 | 111–130 | ≥131
        Metric::HeartRate => limits([Some(40.0), None, Some(50.0)], [Some(91.0), Some(111.0), Some(131.0)]),
        // NEWS2 scale 1: ≤91 | 92–93 | 94–95
        Metric::Spo2 => limits([Some(91.0), Some(93.0), Some(95.0)], NONE),
        // NEWS2: ≤8 | 9–11 | 21–24 | ≥25
        Metric::RespiratoryRate => limits([Some(8.0), None, Some(11.0)], [None, Some(21.0), Some(25.0)]),
        // NEWS2: ≤90 | 91–100 | 101–110 | ≥220; above 180 is a hypertensive crisis, which NEWS2 does not score
        Metric::Systolic => limits([Some(90.0), Some(100.0), Some(110.0)], [None, Some(180.1), Some(220.0)]),
        // above 120 is a hypertensive crisis
        Metric::Diastolic => limits(NONE, [None, Some(120.1), None]),
        // NEWS2: ≤35.0 | 35.1–36.0 | 38.1–39.0 | ≥39.1
        Metric::BodyTemperature => limits([Some(35.0), None, Some(36.0)], [Some(38.1), Some(39.1), None]),
        // <54 | 54–69 | 181–250 | 251–400 | >400
        Metric::BloodGlucose => limits([Some(53.9), Some(69.9), None], [Some(181.0), Some(251.0), Some(400.1)]),
        // <25 | <30 | 30–34 | 46–50 | >50 | >60
        Metric::Etco2 => limits(
            [Some(24.9), Some(29.9), Some(34.0)],
            [Some(46.0), Some(50.1), Some(60.1)],
        ),
        // A fall as a reading; the device's own alarm of a fall is CRITICAL at once.
        Metric::Fall => limits(NONE, [None, Some(1.0), None]),
        // >38 | >45, held for half an hour
        Metric::AmbientTemperature => limits(NONE, [None, Some(38.1), Some(45.1)]),
        // <5 | <10 | <20, technical
        Metric::Battery => limits([Some(4.9), Some(9.9), Some(19.9)], NONE),
        Metric::MeanPressure
        | Metric::Weight
        | Metric::PerfusionIndex
        | Metric::HrvSdnn
        | Metric::Steps
        | Metric::PeakFlow
        | Metric::AmbientHumidity
        | Metric::Ecg
        | Metric::Ppg => limits(NONE, NONE),
    }
}

/// How one metric is watched by default: seconds to raise, seconds to clear, deadband, extremes.
fn standard_rule(metric: Metric) -> MetricRule {
    // A stream is a sensor that stays on the patient; everything else is taken now and then and counts reading by
    // reading.
    let (stream, deadband, extremes) = match metric {
        Metric::HeartRate => (Some((10, 30)), 5.0, [Some(29.9), Some(180.1)]),
        Metric::Spo2 => (Some((15, 30)), 2.0, [Some(84.9), None]),
        Metric::RespiratoryRate => (Some((30, 60)), 2.0, [None, None]),
        Metric::Etco2 => (Some((15, 30)), 2.0, [None, None]),
        Metric::PerfusionIndex => (Some((30, 60)), 0.2, [None, None]),
        Metric::AmbientTemperature => (Some((1_800, 1_800)), 1.0, [None, None]),
        Metric::AmbientHumidity => (Some((1_800, 1_800)), 5.0, [None, None]),
        Metric::Battery => (Some((0, 0)), 2.0, [None, None]),
        Metric::Fall | Metric::Steps | Metric::Ecg | Metric::Ppg => (Some((0, 0)), 0.0, [None, None]),
        Metric::Systolic => (None, 5.0, [Some(69.9), Some(220.1)]),
        Metric::Diastolic | Metric::MeanPressure => (None, 3.0, [None, None]),
        Metric::BodyTemperature => (None, 0.2, [None, Some(41.0)]),
        Metric::BloodGlucose => (None, 5.0, [Some(53.9), None]),
        Metric::Weight => (None, 0.2, [None, None]),
        Metric::HrvSdnn => (None, 5.0, [None, None]),
        Metric::PeakFlow => (None, 10.0, [None, None]),
    };
    let (raise_after, clear_after) = stream.unwrap_or((0, 0));
    MetricRule {
        metric,
        limits: standard_limits(metric),
        raise_after: Span::seconds(raise_after),
        clear_after: Span::seconds(clear_after),
        deadband,
        spot: stream.is_none(),
        extreme_low: extremes[0],
        extreme_high: extremes[1],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::Severity;

    /// NEWS2's table, point by point (Royal College of Physicians 2017), and the bands of the other metrics.
    #[test]
    fn a_value_gets_the_severity_of_its_points() {
        use Metric::*;
        use Severity::*;
        let policy = Policy::standard();
        for (metric, values) in [
            (
                HeartRate,
                &[
                    (40.0, Some(Critical)),
                    (41.0, Some(Info)),
                    (50.0, Some(Info)),
                    (51.0, None),
                    (90.0, None),
                    (91.0, Some(Info)),
                    (110.0, Some(Info)),
                    (111.0, Some(Warning)),
                    (131.0, Some(Critical)),
                ][..],
            ),
            (
                Spo2,
                &[
                    (91.0, Some(Critical)),
                    (92.0, Some(Warning)),
                    (94.0, Some(Info)),
                    (96.0, None),
                    (100.0, None),
                ],
            ),
            (
                RespiratoryRate,
                &[
                    (8.0, Some(Critical)),
                    (9.0, Some(Info)),
                    (12.0, None),
                    (20.0, None),
                    (21.0, Some(Warning)),
                    (25.0, Some(Critical)),
                ],
            ),
            (
                Systolic,
                &[
                    (90.0, Some(Critical)),
                    (100.0, Some(Warning)),
                    (110.0, Some(Info)),
                    (111.0, None),
                    (180.0, None),
                    (181.0, Some(Warning)),
                    (220.0, Some(Critical)),
                ],
            ),
            (
                BodyTemperature,
                &[
                    (35.0, Some(Critical)),
                    (35.1, Some(Info)),
                    (36.1, None),
                    (38.0, None),
                    (38.1, Some(Info)),
                    (39.1, Some(Warning)),
                ],
            ),
            (
                BloodGlucose,
                &[
                    (53.0, Some(Critical)),
                    (54.0, Some(Warning)),
                    (69.0, Some(Warning)),
                    (70.0, None),
                    (180.0, None),
                    (181.0, Some(Info)),
                    (251.0, Some(Warning)),
                    (400.0, Some(Warning)),
                    (401.0, Some(Critical)),
                ],
            ),
            (
                Battery,
                &[
                    (4.0, Some(Critical)),
                    (5.0, Some(Warning)),
                    (10.0, Some(Info)),
                    (20.0, None),
                ],
            ),
        ] {
            let rule = policy.rule(metric).expect("a rule");
            for (value, severity) in values {
                assert_eq!(
                    rule.limits.band(*value).map(|b| b.severity),
                    *severity,
                    "{metric} {value}"
                );
            }
        }
    }

    #[test]
    fn every_number_and_event_has_a_rule_whose_limits_make_sense() {
        let policy = Policy::standard();
        for metric in Metric::ALL {
            let rule = policy.rule(*metric);
            assert_eq!(rule.is_some(), metric.info().form != Form::Waveform, "{metric}");
            if let Some(rule) = rule {
                assert_eq!((rule.metric, rule.limits.check(*metric)), (*metric, Ok(())));
                assert!(!rule.spot || rule.raise_after == Span::ZERO);
            }
        }
    }

    #[test]
    fn a_rule_is_found_in_any_order() {
        let mut policy = Policy::standard();
        policy.rules.reverse();
        for rule in &policy.rules {
            assert_eq!(policy.rule(rule.metric), Some(rule));
        }
        policy.rules.clear();
        assert_eq!(policy.rule(Metric::Spo2), None);
    }

    #[test]
    fn a_patients_own_limits_replace_the_defaults_of_that_metric_whole() {
        let policy = Policy::standard();
        let own = [MetricLimits {
            metric: Metric::Spo2,
            limits: Limits {
                critical_low: Some(83.0),
                ..Limits::default()
            },
        }];
        assert_eq!(policy.limits(Metric::Spo2, &own), own[0].limits);
        assert_eq!(policy.limits(Metric::Spo2, &[]).critical_low, Some(91.0));
        assert_eq!(policy.limits(Metric::HeartRate, &own).critical_high, Some(131.0));
        assert!(policy.limits(Metric::Ecg, &own).is_empty());
    }
}
