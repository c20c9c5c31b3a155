//! A metric against its limits: the samples are kept and looked at anew each time, from the newest back.

use schemas::facts::{AlertChange, AlertClass, Limits, Reading, Severity, ThresholdsSet};
use schemas::ids::SensorId;
use schemas::policy::MetricRule;
use schemas::time::{Span, Timestamp};

use super::{Episode, Raise, Scene};

const GRAVEST_FIRST: [Severity; 3] = [Severity::Critical, Severity::Warning, Severity::Info];

/// Which limits.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Side {
    Low,
    High,
}

/// One reading that counts, with the limits that held when it was measured.
#[derive(Debug, Clone, Copy)]
struct Sample {
    at: Timestamp,
    value: f64,
    limits: Limits,
}

/// Samples in the order in which they count.
#[derive(Debug, Default)]
struct Row {
    samples: Vec<Sample>,
    /// A person ended an episode: what came before this place raises nothing any more.
    from: usize,
}

/// One metric of one patient.
#[derive(Debug, Default)]
pub(super) struct Vital {
    sensor: Option<SensorId>,
    own_limits: Vec<(Timestamp, Option<Limits>)>,
    clock: Option<Timestamp>,
    in_order: Row,
    late: Row,
}

fn limit(limits: &Limits, side: Side, severity: Severity) -> Option<f64> {
    match (side, severity) {
        (Side::Low, Severity::Critical) => limits.critical_low,
        (Side::Low, Severity::Warning) => limits.warning_low,
        (Side::Low, Severity::Info) => limits.info_low,
        (Side::High, Severity::Critical) => limits.critical_high,
        (Side::High, Severity::Warning) => limits.warning_high,
        (Side::High, Severity::Info) => limits.info_high,
    }
}

/// Where a severity or a graver one begins: the mildest limit there is of these.
fn begins(limits: &Limits, side: Side, severity: Severity) -> Option<f64> {
    let mildest_first = GRAVEST_FIRST.iter().rev().filter(|s| **s >= severity);
    mildest_first.filter_map(|s| limit(limits, side, *s)).next()
}

impl Sample {
    fn reaches(&self, side: Side, severity: Severity) -> bool {
        let graver = GRAVEST_FIRST.iter().filter(|s| **s >= severity);
        graver
            .filter_map(|s| limit(&self.limits, side, *s))
            .any(|limit| match side {
                Side::Low => self.value <= limit,
                Side::High => self.value >= limit,
            })
    }

    fn is_extreme(&self, side: Side, rule: &MetricRule) -> bool {
        let extreme = match side {
            Side::Low => rule.extreme_low.is_some_and(|extreme| self.value <= extreme),
            Side::High => rule.extreme_high.is_some_and(|extreme| self.value >= extreme),
        };
        extreme && self.reaches(side, Severity::Critical)
    }

    /// Back inside of where a severity begins, by the deadband.
    fn is_back(&self, side: Side, severity: Severity, deadband: f64) -> bool {
        match (begins(&self.limits, side, severity), side) {
            (None, _) => true,
            (Some(limit), Side::Low) => self.value > limit && self.value >= limit + deadband,
            (Some(limit), Side::High) => self.value < limit && self.value <= limit - deadband,
        }
    }
}

impl Row {
    fn add(&mut self, sample: Sample) {
        if self.samples.last().is_some_and(|last| sample.at < last.at) {
            *self = Self::default();
        }
        self.samples.push(sample);
    }

    /// The newest samples for which `holds` is true of each, not before `from`: since when, for how long, how many.
    fn lasting(&self, from: usize, holds: impl Fn(&Sample) -> bool) -> Option<(Timestamp, Span, usize)> {
        let newest = self.samples.last()?;
        let back = self.samples[from.min(self.samples.len())..].iter().rev();
        let run: Vec<&Sample> = back.take_while(|sample| holds(sample)).collect();
        let first = run.last()?;
        Some((first.at, newest.at - first.at, run.len()))
    }

    /// The gravest severity that has lasted long enough, and since when.
    fn held(&self, side: Side, rule: &MetricRule) -> Option<(Severity, Timestamp)> {
        let quick = Span::seconds(5).min(rule.raise_after);
        if let Some((since, long, n)) = self.lasting(self.from, |s| s.is_extreme(side, rule))
            && n >= 2
            && long >= quick
        {
            return Some((Severity::Critical, since));
        }
        GRAVEST_FIRST.into_iter().find_map(|severity| {
            let (since, long, n) = self.lasting(self.from, |s| s.reaches(side, severity))?;
            (n >= 2 && long >= rule.raise_after).then_some((severity, since))
        })
    }

    /// What is left of a severity: the gravest that has not been gone long enough.
    fn left(&self, side: Side, severity: Severity, rule: &MetricRule) -> Option<Severity> {
        let milder = GRAVEST_FIRST.into_iter().filter(|s| *s <= severity);
        milder.into_iter().find(|s| {
            let back = self.lasting(0, |sample| sample.is_back(side, *s, rule.deadband));
            back.is_none_or(|(_, long, _)| long < rule.clear_after)
        })
    }
}

impl Vital {
    /// Limits hold from the recorded time at which they were set; what is not named goes by the policy again.
    pub(super) fn set(&mut self, set: &ThresholdsSet, scene: &Scene<'_>) {
        let own = set.thresholds.iter().find(|of| of.metric.as_str() == scene.subject);
        self.own_limits.push((scene.now, own.map(|of| of.limits)));
    }

    /// A person ended an episode: its condition must hold anew.
    pub(super) fn begin_anew(&mut self) {
        for row in [&mut self.in_order, &mut self.late] {
            row.from = row.samples.len();
        }
    }

    pub(super) fn read(
        &mut self,
        reading: &Reading,
        at: Timestamp,
        episodes: &mut Vec<Episode>,
        scene: &mut Scene<'_>,
    ) -> Result<(), String> {
        if self.sensor.get_or_insert_with(|| reading.sensor_id.clone()) != &reading.sensor_id {
            return Err(format!("two sensors for {} of {}", scene.subject, scene.patient));
        }
        let rule = scene.policy.rules.iter().find(|rule| rule.metric == reading.metric);
        let rule = rule.filter(|rule| !rule.spot && rule.raise_after > Span::ZERO);
        let rule = rule.ok_or_else(|| format!("{} is not watched as a stream", scene.subject))?;
        // Loose or poor: it counts neither way.
        if reading.contact == Some(false) || reading.quality.is_some_and(|quality| quality < 50) {
            return Ok(());
        }
        let own = self.own_limits.iter().rev().find(|(since, _)| *since <= at);
        let limits = own.and_then(|(_, limits)| *limits).unwrap_or(rule.limits);
        let late = self.clock.is_some_and(|clock| at < clock);
        let sample = Sample {
            at,
            value: reading.value,
            limits,
        };
        if late {
            self.late.add(sample);
        } else {
            // Ahead of recorded time it moves its clock by 2 s at most.
            let cap = scene.house.time.map_or(at, |now| now + Span::seconds(2));
            self.clock = self.clock.max(Some(at.min(cap)));
            self.in_order.add(sample);
        }
        for side in [Side::High, Side::Low] {
            self.judge((reading, at, late), side, rule, episodes, scene);
        }
        Ok(())
    }

    fn judge(
        &self,
        (reading, at, late): (&Reading, Timestamp, bool),
        side: Side,
        rule: &MetricRule,
        episodes: &mut Vec<Episode>,
        scene: &mut Scene<'_>,
    ) {
        let row = if late { &self.late } else { &self.in_order };
        let Some(newest) = row.samples.last() else { return };
        let name = format!("{}_{}", scene.subject, if side == Side::Low { "low" } else { "high" });
        let held = row.held(side, rule);
        let fresh = scene.house.is_fresh(at, scene.policy);
        let show = |episode: &mut Episode, severity| {
            episode.alert.severity = severity;
            episode.alert.value = Some(reading.value);
            episode.alert.limit = begins(&newest.limits, side, severity);
            episode.alert.sensor_id = Some(reading.sensor_id.clone());
        };
        let Some(i) = episodes.iter().position(|e| e.late == late && e.alert.rule == name) else {
            if let Some((severity, since)) = held {
                let mut episode = scene.begin(Raise {
                    late,
                    rule: name,
                    class: AlertClass::Clinical,
                    severity,
                    retrospective: late || !fresh,
                    since,
                });
                episode.alert.metric = Some(reading.metric);
                show(&mut episode, severity);
                scene.tell(&episode);
                episodes.push(episode);
            }
            return;
        };
        let episode = &mut episodes[i];
        let was = episode.alert.severity;
        let beyond = row.lasting(row.from, |s| s.reaches(side, Severity::Info)).is_some();
        if !late && episode.alert.retrospective && fresh && beyond {
            episode.alert.retrospective = false;
            scene.ask_again(episode, AlertChange::BecameCurrent);
        }
        if let Some((severity, _)) = held.filter(|(severity, _)| *severity > was) {
            show(episode, severity);
            scene.ask_again(episode, AlertChange::Escalated);
            return;
        }
        match row.left(side, was, rule) {
            None => {
                scene.end(episode);
                episodes.remove(i);
            }
            Some(left) if left < was => {
                show(episode, left);
                scene.change(episode, AlertChange::Eased);
            }
            Some(_) => {}
        }
    }
}
