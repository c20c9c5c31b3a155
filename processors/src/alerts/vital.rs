//! One metric of one patient against its limits.

use schemas::derived::Outcome;
use schemas::facts::{AlertChange, AlertClass, Limits, Reading, Severity, Zone};
use schemas::ids::SensorId;
use schemas::journal::Envelope;
use schemas::limits::Side;
use schemas::metric::{Form, Metric};
use schemas::policy::MetricRule;
use schemas::time::{Span, Timestamp};
use serde::{Deserialize, Serialize};
use smol_str::{SmolStr, format_smolstr};

use super::episode::{Episode, Lane, Raise};
use super::message;
use super::run::{Bounds, Course, Sided};
use crate::engine::Context;
use crate::engine::rules::Rule;

/// Below this quality a reading says nothing, either way (`facts/clinical.md` §2.5).
const QUALITY: u8 = 50;
/// A sensor's clock that is ahead of recorded time moves its own clock no further than this, so that it can be set
/// right without making what follows look late.
const AHEAD: Span = Span::seconds(2);
/// Where limits are set for a patient but the policy has no rule for the metric: counted reading by reading.
const NO_RULE: MetricRule = MetricRule {
    metric: Metric::Weight,
    limits: NO_LIMITS,
    raise_after: Span::ZERO,
    clear_after: Span::ZERO,
    deadband: 0.0,
    spot: true,
    extreme_low: None,
    extreme_high: None,
};
const NO_LIMITS: Limits = Limits {
    critical_low: None,
    warning_low: None,
    info_low: None,
    info_high: None,
    warning_high: None,
    critical_high: None,
};

/// What is remembered of one metric.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(super) struct Vital {
    /// Limits set for this patient, each with since when; `None` where the defaults hold again.
    limits: Vec<(Timestamp, Option<Limits>)>,
    /// By sensor.
    sensors: Vec<(SensorId, Watch)>,
}

/// One sensor's samples.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Watch {
    /// What is measured before this came late.
    clock: Timestamp,
    now: Samples,
    late: Option<Box<Samples>>,
}

/// The newest samples of one lane.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Samples {
    last: Timestamp,
    low: Sided,
    high: Sided,
}

impl Samples {
    fn new() -> Self {
        Self {
            last: Timestamp::MIN,
            low: Sided::default(),
            high: Sided::default(),
        }
    }

    const fn side(&self, side: Side) -> &Sided {
        match side {
            Side::Low => &self.low,
            Side::High => &self.high,
        }
    }
}

/// A sample on its way through.
struct Sample<'a> {
    key: &'a str,
    sensor: &'a SensorId,
    metric: Metric,
    at: Timestamp,
    value: f64,
    now: Timestamp,
    fresh: bool,
    ctx: &'a Context,
}

/// Whether readings of a metric are held against limits here. A sensor's battery is the sensor's affair, never clinical.
pub(super) fn is_watched(metric: Metric) -> bool {
    metric != Metric::Battery && metric.info().form != Form::Waveform
}

/// Whether a reading says anything about the patient.
fn counts(reading: &Reading) -> bool {
    let info = reading.metric.info();
    let loose = reading.contact == Some(false) || reading.quality.is_some_and(|q| q < QUALITY);
    let still = info.zero_with_contact && reading.value == 0.0 && reading.contact == Some(true);
    !loose && (info.possible.contains(reading.value) || still)
}

impl Vital {
    /// Limits were set for the patient.
    pub(super) fn set(&mut self, limits: Option<Limits>, since: Timestamp, ctx: &Context) {
        if limits.is_none() && self.limits.is_empty() {
            return;
        }
        self.limits.push((since, limits));
        let needed = self.limits.partition_point(|(since, _)| *since <= ctx.horizon);
        self.limits.drain(..needed.saturating_sub(1));
        if let [(_, None)] = self.limits[..] {
            self.limits.clear();
        }
    }

    /// Takes a new reading.
    pub(super) fn read(
        &mut self,
        key: &str,
        (fact, reading, zone): (&Envelope, &Reading, Option<Zone>),
        ctx: &Context,
        episodes: &mut Vec<Episode>,
    ) -> Vec<Outcome> {
        let at = fact.measured_at;
        let Some(policy) = ctx.policy_at(at).filter(|_| counts(reading)) else {
            return Vec::new();
        };
        let in_force = |since: Timestamp| since <= at || Rule::InForceWhenMeasured.is_out();
        let set = self.limits[..self.limits.partition_point(|(since, _)| in_force(*since))].last();
        let rule = policy.rule(reading.metric).unwrap_or(&NO_RULE);
        let limits = set.and_then(|(_, limits)| *limits).unwrap_or(rule.limits);
        if limits.is_empty() && episodes.is_empty() {
            return Vec::new();
        }
        let bounds = Bounds { limits: &limits, rule };
        let fresh_for = ctx.fresh_for(zone).unwrap_or(policy.fresh_for);
        let sample = Sample {
            key,
            sensor: &reading.sensor_id,
            metric: reading.metric,
            at,
            value: reading.value,
            now: ctx.recorded_or(fact),
            fresh: ctx.recorded == Timestamp::MIN || at >= ctx.recorded - fresh_for,
            ctx,
        };
        let (watch, lane) = self.observe(&sample, bounds);
        let mut outcomes = Vec::new();
        for side in [Side::High, Side::Low] {
            self.judge(&sample, bounds, side, (watch, lane), episodes, &mut outcomes);
        }
        outcomes
    }

    /// Puts the sample into its sensor's lane.
    fn observe(&mut self, sample: &Sample<'_>, bounds: Bounds<'_>) -> (usize, Lane) {
        if self.sensors.len() > 1 {
            let horizon = sample.ctx.horizon;
            self.sensors.retain(|(_, watch)| watch.clock >= horizon);
        }
        let watch = match self.sensors.binary_search_by(|(id, _)| id.cmp(sample.sensor)) {
            Ok(i) => i,
            Err(i) => {
                let watch = Watch {
                    clock: Timestamp::MIN,
                    now: Samples::new(),
                    late: None,
                };
                // Nearly every metric has one sensor for ever.
                self.sensors.reserve_exact(1);
                self.sensors.insert(i, (sample.sensor.clone(), watch));
                i
            }
        };
        let clock = if Rule::OwnClocks.is_out() {
            self.sensors.iter().map(|(_, watch)| watch.clock).max()
        } else {
            Some(self.sensors[watch].1.clock)
        };
        let there = &mut self.sensors[watch].1;
        let (samples, lane) = if Some(sample.at) >= clock {
            there.clock = if sample.ctx.recorded == Timestamp::MIN {
                sample.at
            } else {
                there.clock.max(sample.at.min(sample.ctx.recorded + AHEAD))
            };
            (&mut there.now, Lane::Now)
        } else {
            (
                &mut **there.late.get_or_insert_with(|| Box::new(Samples::new())),
                Lane::Late,
            )
        };
        if sample.at < samples.last {
            *samples = Samples::new();
        }
        samples.last = sample.at;
        samples.low.observe(bounds, Side::Low, sample.at, sample.value);
        samples.high.observe(bounds, Side::High, sample.at, sample.value);
        (watch, lane)
    }

    /// What the sample means for the rule of one side.
    fn judge(
        &self,
        sample: &Sample<'_>,
        bounds: Bounds<'_>,
        side: Side,
        (watch, lane): (usize, Lane),
        episodes: &mut Vec<Episode>,
        outcomes: &mut Vec<Outcome>,
    ) {
        let there = &self.sensors[watch].1;
        let sided = match (lane, &there.late) {
            (Lane::Late, Some(late)) => late.side(side),
            _ => there.now.side(side),
        };
        let open = episodes.iter().position(|e| e.lane == lane && is_of(&e.row.rule, side));
        let held = sided.held(bounds, side, sample.at);
        let Some(i) = open else {
            if let Some(held) = held {
                let raise = sample.raise(side, held.severity, held.limit, held.since, lane);
                let episode = Episode::raise(sample.key, lane, raise, sample.ctx);
                outcomes.push(episode.told());
                episodes.push(episode);
            }
            return;
        };
        let episode = &mut episodes[i];
        if lane == Lane::Now && episode.row.retrospective && sample.fresh && sided.is_beyond() {
            outcomes.push(episode.become_current());
        }
        if let Some(held) = held.filter(|held| held.severity > episode.row.severity) {
            sample.show(episode, side, held.limit);
            outcomes.push(episode.escalate(held.severity));
        } else {
            let floor = self.floor(episode, sample.sensor);
            match sided.course(bounds.rule, episode.row.severity, sample.at, floor) {
                Course::Same => {}
                Course::Eased(severity) => {
                    sample.show(episode, side, bounds.limits.begins(severity, side));
                    episode.row.severity = severity;
                    outcomes.push(episode.change(AlertChange::Eased));
                }
                Course::Resolved => {
                    outcomes.push(episode.resolve(sample.now));
                    episodes.remove(i);
                }
            }
        }
    }

    /// After when a sensor's samples can clear an episode: its own sensor's any, another one's those that are newer
    /// than all that its own has said.
    fn floor(&self, episode: &Episode, sensor: &SensorId) -> Timestamp {
        let own = episode.row.sensor_id.as_ref().filter(|own| *own != sensor);
        let watch = own.and_then(|own| self.sensors.iter().find(|(id, _)| id == own));
        watch.map_or(Timestamp::MIN, |(_, watch)| watch.clock)
    }

    /// A person has ended an episode: its condition must hold anew before it is raised again.
    pub(super) fn forget(&mut self) {
        for (_, watch) in &mut self.sensors {
            let lanes = [Some(&mut watch.now), watch.late.as_deref_mut()];
            for samples in lanes.into_iter().flatten() {
                samples.low.forget();
                samples.high.forget();
            }
        }
    }

    pub(super) fn heap(&self) -> usize {
        self.sensors.len() * (size_of::<(SensorId, Watch)>() + 64) + self.limits.len() * 120
    }
}

impl Sample<'_> {
    fn raise(&self, side: Side, severity: Severity, limit: Option<f64>, since: Timestamp, lane: Lane) -> Raise {
        Raise {
            rule: rule(self.metric, side),
            sensor_id: Some(self.sensor.clone()),
            metric: Some(self.metric),
            class: AlertClass::Clinical,
            severity,
            retrospective: lane == Lane::Late || !self.fresh,
            message: message::limit(self.metric, side, self.value, limit),
            value: Some(self.value),
            limit,
            started_at: since,
            now: self.now,
        }
    }

    /// Puts the value that decided into an episode.
    fn show(&self, episode: &mut Episode, side: Side, limit: Option<f64>) {
        let message = message::limit(self.metric, side, self.value, limit);
        (episode.row.message, episode.row.message_fr) = (message.en, message.fr);
        (episode.row.value, episode.row.limit) = (Some(self.value), limit);
        episode.row.sensor_id = Some(self.sensor.clone());
    }
}

fn rule(metric: Metric, side: Side) -> SmolStr {
    match side {
        Side::Low => format_smolstr!("{metric}_low"),
        Side::High => format_smolstr!("{metric}_high"),
    }
}

fn is_of(rule: &str, side: Side) -> bool {
    rule.ends_with(match side {
        Side::Low => "_low",
        Side::High => "_high",
    })
}
