//! The samples of one sensor in order, and what they say about a limit: looked at anew each time, from the newest back.

use schemas::facts::{Limits, Severity};
use schemas::limits::Side;
use schemas::policy::MetricRule;
use schemas::time::{Span, Timestamp};

/// A sample with what was in force when it was measured.
#[derive(Debug, Clone)]
pub(crate) struct Sample {
    pub(crate) at: Timestamp,
    pub(crate) value: f64,
    pub(crate) limits: Limits,
    pub(crate) rule: MetricRule,
}

const LEVELS: [Severity; 3] = [Severity::Critical, Severity::Warning, Severity::Info];

impl Sample {
    /// Whether it reaches a limit of this severity or a graver one.
    fn reaches(&self, severity: Severity, side: Side) -> bool {
        LEVELS
            .iter()
            .filter(|level| **level >= severity)
            .any(|level| match (self.limits.limit(*level, side), side) {
                (None, _) => false,
                (Some(limit), Side::Low) => self.value <= limit,
                (Some(limit), Side::High) => self.value >= limit,
            })
    }

    fn is_extreme(&self, side: Side) -> bool {
        let beyond = match side {
            Side::Low => self.rule.extreme_low.is_some_and(|limit| self.value <= limit),
            Side::High => self.rule.extreme_high.is_some_and(|limit| self.value >= limit),
        };
        beyond && self.reaches(Severity::Critical, side)
    }

    fn is_inside(&self, severity: Severity, side: Side) -> bool {
        self.limits.back_inside(severity, side, self.value, self.rule.deadband)
    }
}

/// Samples in the order of their measurement.
#[derive(Debug, Clone, Default)]
pub(crate) struct Lane {
    samples: Vec<Sample>,
    /// What came before a person ended an episode raises nothing.
    from: usize,
}

/// A severity that has held long enough.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Held {
    pub(crate) severity: Severity,
    pub(crate) limit: Option<f64>,
    pub(crate) since: Timestamp,
}

impl Lane {
    /// The next sample; one that is older than the last begins anew (the clock was set back).
    pub(crate) fn push(&mut self, sample: Sample) {
        if self.samples.last().is_some_and(|last| sample.at < last.at) {
            *self = Self::default();
        }
        self.samples.push(sample);
    }

    pub(crate) fn forget(&mut self) {
        self.from = self.samples.len();
    }

    /// The newest samples of which each `holds`, back to the first that does not.
    fn run(&self, from: usize, holds: impl Fn(&Sample) -> bool) -> &[Sample] {
        let start = self
            .samples
            .iter()
            .rposition(|sample| !holds(sample))
            .map_or(0, |i| i + 1);
        &self.samples[start.max(from).min(self.samples.len())..]
    }

    pub(crate) fn is_beyond(&self, side: Side) -> bool {
        !self.run(self.from, |s| s.reaches(Severity::Info, side)).is_empty()
    }

    /// The gravest severity that has held long enough at the newest sample.
    pub(crate) fn held(&self, side: Side) -> Option<Held> {
        let newest = self.samples.last()?;
        let (rule, limits) = (&newest.rule, &newest.limits);
        let told = |severity, since| Held {
            severity,
            limit: limits.begins(severity, side),
            since,
        };
        let lasts = |run: &[Sample]| run.first().map_or(Span::ZERO, |first| newest.at - first.at);
        let extreme = self.run(self.from, |s| s.is_extreme(side));
        if let Some(first) = extreme.first()
            && (rule.spot || extreme.len() >= 2 && lasts(extreme) >= Span::seconds(5).min(rule.raise_after))
        {
            return Some(told(Severity::Critical, first.at));
        }
        for severity in LEVELS {
            let run = self.run(self.from, |s| s.reaches(severity, side));
            let Some(first) = run.first() else { continue };
            if rule.spot && run.len() == 1 {
                return Some(told(severity.min(Severity::Warning), first.at));
            }
            let enough = if rule.raise_after == Span::ZERO { 1 } else { 2 };
            if rule.spot || run.len() >= enough && lasts(run) >= rule.raise_after {
                return Some(told(severity, first.at));
            }
        }
        None
    }

    /// The severity that an episode still has at the newest sample, where only what was measured after `floor` clears
    /// it: none where all has been back inside long enough.
    pub(crate) fn remains(&self, side: Side, severity: Severity, floor: Option<Timestamp>) -> Option<Severity> {
        let newest = self.samples.last()?;
        LEVELS.into_iter().filter(|level| *level <= severity).find(|level| {
            let inside = self.run(0, |s| s.is_inside(*level, side));
            let cleared = inside.first().is_some_and(|first| {
                let since = floor.map_or(first.at, |floor| floor.max(first.at));
                newest.rule.spot || newest.at - since >= newest.rule.clear_after
            });
            !cleared || Some(newest.at) <= floor
        })
    }
}
