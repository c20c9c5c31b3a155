//! How long a condition has held, measured between samples and never by silence.

use schemas::facts::{Limits, Severity};
use schemas::limits::Side;
use schemas::policy::MetricRule;
use schemas::time::{Span, Timestamp};
use serde::{Deserialize, Serialize};

/// A value beyond the extreme needs to hold no longer than this, in at least two samples.
const EXTREME_AFTER: Span = Span::seconds(5);
const SEVERITIES: [Severity; 3] = [Severity::Info, Severity::Warning, Severity::Critical];
/// Place of the extreme among the levels: beyond CRITICAL.
const EXTREME: usize = 3;

/// Consecutive samples at or beyond a level.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Run {
    since: Timestamp,
    samples: u32,
}

/// What the newest samples say about one side of one metric.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Sided {
    /// INFO, WARNING, CRITICAL, extreme: the run at or beyond it.
    beyond: [Option<Run>; 4],
    /// INFO, WARNING, CRITICAL: since when samples have been back inside of it.
    inside: [Option<Timestamp>; 3],
}

/// What samples are held against.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds<'a> {
    pub(super) limits: &'a Limits,
    pub(super) rule: &'a MetricRule,
}

/// A level that has held long enough.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Held {
    pub(super) severity: Severity,
    /// The limit that was reached.
    pub(super) limit: Option<f64>,
    pub(super) since: Timestamp,
}

/// Where an open episode goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Course {
    /// As it is.
    Same,
    /// Down to a lower severity.
    Eased(Severity),
    /// Over.
    Resolved,
}

impl Sided {
    /// Takes the next sample.
    pub(super) fn observe(&mut self, bounds: Bounds<'_>, side: Side, at: Timestamp, value: f64) {
        let reached = reached(bounds.limits, side, value);
        let extreme = match side {
            Side::Low => bounds.rule.extreme_low.is_some_and(|limit| value <= limit),
            Side::High => bounds.rule.extreme_high.is_some_and(|limit| value >= limit),
        };
        for (level, run) in self.beyond.iter_mut().enumerate() {
            let holds = match SEVERITIES.get(level) {
                Some(severity) => reached >= Some(*severity),
                None => extreme && reached == Some(Severity::Critical),
            };
            *run = holds.then(|| Run {
                since: run.map_or(at, |run| run.since),
                samples: run.map_or(1, |run| run.samples.saturating_add(1)),
            });
        }
        for (severity, since) in SEVERITIES.iter().zip(&mut self.inside) {
            let inside = bounds.limits.back_inside(*severity, side, value, bounds.rule.deadband);
            *since = inside.then(|| since.unwrap_or(at));
        }
    }

    /// Whether the newest sample is at or beyond any limit.
    pub(super) fn is_beyond(&self) -> bool {
        self.beyond[0].is_some()
    }

    /// Forgets runs: a person has ended the episode, so the condition must hold anew.
    pub(super) fn forget(&mut self) {
        self.beyond = [None; 4];
    }

    /// The gravest level that has held long enough at the sample `at`.
    pub(super) fn held(&self, bounds: Bounds<'_>, side: Side, at: Timestamp) -> Option<Held> {
        let held = |severity: Severity, since| Held {
            severity,
            limit: bounds.limits.begins(severity, side),
            since,
        };
        let rule = bounds.rule;
        if let Some(run) = self.beyond[EXTREME] {
            let enough = rule.spot || run.samples >= 2 && at - run.since >= EXTREME_AFTER.min(rule.raise_after);
            if enough {
                return Some(held(Severity::Critical, run.since));
            }
        }
        for (level, severity) in SEVERITIES.iter().enumerate().rev() {
            let Some(run) = self.beyond[level] else { continue };
            if rule.spot {
                // a first reading asks for a second; only that one confirms what is CRITICAL
                let severity = if run.samples < 2 {
                    Severity::Warning.min(*severity)
                } else {
                    *severity
                };
                return Some(held(severity, run.since));
            }
            let samples = if rule.raise_after > Span::ZERO { 2 } else { 1 };
            if run.samples >= samples && at - run.since >= rule.raise_after {
                return Some(held(*severity, run.since));
            }
        }
        None
    }

    /// Where an episode of this severity goes at the sample `at`, counting only what was measured after `floor`.
    pub(super) fn course(&self, rule: &MetricRule, severity: Severity, at: Timestamp, floor: Timestamp) -> Course {
        let cleared = |level: &Severity| {
            let long = |since: Timestamp| at - since.max(floor) >= rule.clear_after;
            self.inside[*level as usize].is_some_and(|since| at > floor && (rule.spot || long(since)))
        };
        match SEVERITIES
            .iter()
            .rev()
            .filter(|level| **level <= severity)
            .find(|level| !cleared(level))
        {
            None => Course::Resolved,
            Some(level) if *level < severity => Course::Eased(*level),
            Some(_) => Course::Same,
        }
    }
}

/// The gravest severity whose limit on this side the value reaches.
fn reached(limits: &Limits, side: Side, value: f64) -> Option<Severity> {
    SEVERITIES
        .iter()
        .rev()
        .copied()
        .find(|severity| match (limits.limit(*severity, side), side) {
            (None, _) => false,
            (Some(limit), Side::Low) => value <= limit,
            (Some(limit), Side::High) => value >= limit,
        })
}

#[cfg(test)]
mod tests {
    use schemas::metric::Metric;
    use schemas::policy::Policy;

    use super::*;

    /// What is held, and where a CRITICAL episode would go, after samples of (second, value).
    fn after(metric: Metric, side: Side, samples: &[(i64, f64)]) -> (Option<Severity>, Course) {
        let policy = Policy::standard();
        let rule = policy.rule(metric).unwrap();
        let bounds = Bounds {
            limits: &rule.limits,
            rule,
        };
        let mut sided = Sided::default();
        let mut at = Timestamp(0);
        for (second, value) in samples {
            at = Timestamp(second * 1_000_000);
            sided.observe(bounds, side, at, *value);
        }
        (
            sided.held(bounds, side, at).map(|held| held.severity),
            sided.course(rule, Severity::Critical, at, Timestamp::MIN),
        )
    }

    #[test]
    fn a_condition_holds_between_samples() {
        use Metric::{BodyTemperature, Fall, HeartRate, Spo2};
        use Severity::{Critical, Info, Warning};
        use Side::{High, Low};
        type Row<'a> = (Metric, Side, &'a [(i64, f64)], Option<Severity>);
        let rows: &[Row<'_>] = &[
            (HeartRate, High, &[(0, 135.0)], None),
            (HeartRate, High, &[(0, 135.0), (9, 135.0)], None),
            (HeartRate, High, &[(0, 135.0), (10, 135.0)], Some(Critical)),
            (HeartRate, High, &[(0, 190.0), (10, 190.0)], Some(Critical)),
            // beyond the extreme five seconds are enough, one sample never
            (HeartRate, High, &[(0, 190.0)], None),
            (HeartRate, High, &[(0, 190.0), (5, 190.0)], Some(Critical)),
            (HeartRate, High, &[(0, 135.0), (5, 190.0)], None),
            // the level that all of them reached
            (HeartRate, High, &[(0, 115.0), (10, 135.0)], Some(Warning)),
            (HeartRate, High, &[(0, 95.0), (5, 135.0), (10, 135.0)], Some(Info)),
            // one sample inside starts anew
            (HeartRate, High, &[(0, 135.0), (5, 80.0), (10, 135.0)], None),
            (Spo2, Low, &[(0, 88.0), (14, 88.0)], None),
            (Spo2, Low, &[(0, 88.0), (15, 88.0)], Some(Critical)),
            (Spo2, High, &[(0, 100.0), (15, 100.0)], None),
            // taken now and then
            (BodyTemperature, Low, &[(0, 34.5)], Some(Warning)),
            (BodyTemperature, Low, &[(0, 34.5), (9_000, 34.6)], Some(Critical)),
            (BodyTemperature, High, &[(0, 38.5)], Some(Info)),
            (Fall, High, &[(0, 1.0)], Some(Warning)),
        ];
        for (metric, side, samples, held) in rows {
            assert_eq!(after(*metric, *side, samples).0, *held, "{metric} {side:?} {samples:?}");
        }
    }

    #[test]
    fn a_condition_ends_when_it_is_gone_long_enough_and_far_enough() {
        use Course::{Eased, Resolved, Same};
        use Severity::{Info, Warning};
        for (samples, course) in [
            (&[(0, 80.0)][..], Same),
            (&[(0, 80.0), (29, 80.0)], Same),
            (&[(0, 80.0), (30, 80.0)], Resolved),
            (&[(0, 88.0), (30, 88.0)], Eased(Info)),
            (&[(0, 80.0), (20, 92.0), (30, 80.0)], Eased(Info)),
            (&[(0, 120.0), (30, 120.0)], Eased(Warning)),
            (&[(0, 128.0), (30, 128.0)], Same),
            (&[(0, 126.0), (30, 126.0)], Eased(Warning)),
        ] {
            assert_eq!(after(Metric::HeartRate, Side::High, samples).1, course, "{samples:?}");
        }
        assert_eq!(after(Metric::BodyTemperature, Side::Low, &[(0, 36.5)]).1, Resolved);
    }
}
