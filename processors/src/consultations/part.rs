//! One hour of one consultation.

use schemas::consultation::{LONGEST, PART, joined};
use schemas::facts::{ConsultationRevised, ConsultationSeries, Reading, Stretch, Zone};
use schemas::ids::{ConsultationId, EventId, SensorId};
use schemas::journal::Recorded;
use schemas::metric::Metric;
use schemas::time::{Span, Timestamp};
use serde::{Deserialize, Serialize};

use crate::engine::Context;
use crate::engine::seen::{SEGMENT, Segment};
use crate::silence;
use crate::windows::aggregate::{Aggregate, Sample};

/// How long a part is left alone after it was written.
const PAUSE: Span = Span::seconds(2);
/// Pauses up to this are no gap, whatever rhythm a sensor has promised.
const GRAIN: Span = Span::seconds(5);

/// What was measured in one hour of one consultation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Part {
    pub(super) id: ConsultationId,
    /// The hour.
    start: Timestamp,
    opened_at: Timestamp,
    closed_at: Option<Timestamp>,
    /// By metric, then sensor.
    series: Vec<Series>,
    revision: i32,
    /// Changed since it was written.
    dirty: bool,
    /// Recorded time when it was last written.
    written_at: Timestamp,
    /// While it has changed: to be written then.
    due: Timestamp,
}

/// What one sensor measured of one metric.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Series {
    metric: Metric,
    sensor_id: SensorId,
    readings: Aggregate,
    silent_after: Option<Span>,
    stretches: Vec<Stretch>,
    /// What it is made of, by minute.
    seen: Vec<(Timestamp, Segment)>,
}

impl Part {
    pub(super) const fn new(id: ConsultationId, start: Timestamp, opened_at: Timestamp) -> Self {
        Self {
            id,
            start,
            opened_at,
            closed_at: None,
            series: Vec::new(),
            revision: 0,
            dirty: false,
            written_at: Timestamp::MIN,
            due: Timestamp::MIN,
        }
    }

    /// Whether what was measured then is part of it.
    pub(super) fn takes(&self, measured_at: Timestamp) -> bool {
        (self.start..self.start + PART).contains(&measured_at)
            && (self.opened_at..self.opened_at + LONGEST).contains(&measured_at)
            && self.closed_at.is_none_or(|closed_at| measured_at < closed_at)
    }

    /// The consultation is over.
    pub(super) fn close(&mut self, at: Timestamp, ctx: &Context) {
        if self.closed_at.is_none() {
            self.closed_at = Some(at);
            if self.dirty {
                // Whoever looks at it now sees all of it.
                self.due = self.due.min(ctx.recorded);
            }
        }
    }

    pub(super) fn fold(
        &mut self,
        recorded: &Recorded,
        reading: &Reading,
        (rhythm, zone): (Option<Span>, Option<Zone>),
        ctx: &Context,
    ) {
        let fact = &recorded.envelope;
        let one = Aggregate::of(Sample {
            at: fact.measured_at,
            id: fact.id,
            value: reading.value,
            quality: reading.quality,
        });
        let of = (reading.metric, &reading.sensor_id);
        let place = self.series.binary_search_by(|s| (s.metric, &s.sensor_id).cmp(&of));
        let series = match place {
            Ok(i) => &mut self.series[i],
            Err(i) => {
                self.series.reserve_exact(1);
                self.series.insert(i, Series::new(reading, one.clone()));
                &mut self.series[i]
            }
        };
        if !series.is_new(fact.measured_at, &fact.id, recorded.offset) {
            return;
        }
        if place.is_ok() {
            series.readings.merge(&one);
        }
        cover(&mut series.stretches, fact.measured_at);
        series.silent_after = silent_after(reading.metric, rhythm, zone, ctx);
        if !std::mem::replace(&mut self.dirty, true) {
            self.due = if self.revision == 0 {
                ctx.recorded
            } else {
                ctx.recorded.max(self.written_at + PAUSE)
            };
        }
    }

    pub(super) fn deadline(&self) -> Option<Timestamp> {
        self.dirty.then_some(self.due)
    }

    /// The part as it is, where it has changed and its time has come.
    pub(super) fn write(&mut self, ctx: &Context) -> Option<ConsultationRevised> {
        if !self.dirty || self.due > ctx.recorded {
            return None;
        }
        self.dirty = false;
        self.written_at = ctx.recorded;
        self.revision = self.revision.saturating_add(1);
        Some(ConsultationRevised {
            consultation_id: self.id.clone(),
            start: self.start,
            end: self.start + PART,
            revision: self.revision,
            series: self.series.iter().map(Series::row).collect(),
        })
    }

    /// Bytes held on the heap.
    pub(super) fn heap(&self) -> usize {
        size_of::<Self>() + self.series.iter().map(Series::heap).sum::<usize>()
    }
}

impl Series {
    fn new(reading: &Reading, readings: Aggregate) -> Self {
        Self {
            metric: reading.metric,
            sensor_id: reading.sensor_id.clone(),
            readings,
            silent_after: None,
            stretches: Vec::new(),
            seen: Vec::new(),
        }
    }

    /// Whether this reading had not been folded before.
    fn is_new(&mut self, at: Timestamp, id: &EventId, offset: i64) -> bool {
        let minute = at.floor(SEGMENT);
        let place = self.seen.binary_search_by_key(&minute, |(minute, _)| *minute);
        let i = place.unwrap_or_else(|i| {
            self.seen.insert(i, (minute, Segment::default()));
            i
        });
        self.seen[i].1.first(at, id, offset).1
    }

    fn row(&self) -> ConsultationSeries {
        let (min, max) = self.readings.range();
        ConsultationSeries {
            sensor_id: self.sensor_id.clone(),
            metric: self.metric,
            count: i64::from(self.readings.count()),
            min,
            max,
            mean: self.readings.mean(),
            last: self.readings.ends().1,
            last_at: self.readings.last_at(),
            rated: i64::from(self.readings.rated()),
            quality: self.readings.quality(),
            silent_after: self.silent_after,
            stretches: joined(&self.stretches, self.silent_after),
        }
    }

    fn heap(&self) -> usize {
        let seen = self.seen.iter().map(|(_, segment)| segment.heap() + 32).sum::<usize>();
        size_of::<Self>() + self.stretches.capacity() * size_of::<Stretch>() + seen
    }
}

/// How long a sensor may pause in a metric: three times its rhythm, or as often as its zone says; without one, as long as
/// data counts as fresh there. What is taken now and then may always pause.
fn silent_after(metric: Metric, rhythm: Option<Span>, zone: Option<Zone>, ctx: &Context) -> Option<Span> {
    let policy = ctx.policy();
    if policy
        .and_then(|policy| policy.rule(metric))
        .is_some_and(|rule| rule.spot)
    {
        return None;
    }
    let times = ctx
        .zone(zone)
        .map_or(silence::PATIENCE, |rule| i64::from(rule.patience));
    rhythm
        .map(|rhythm| Span(rhythm.0.saturating_mul(times)))
        .or_else(|| ctx.fresh_for(zone))
}

/// Takes a moment into stretches that are sorted and further apart than [`GRAIN`].
fn cover(stretches: &mut Vec<Stretch>, at: Timestamp) {
    let next = stretches.partition_point(|stretch| stretch.start <= at);
    let joins_last = next > 0 && at - stretches[next - 1].end <= GRAIN;
    let joins_next = stretches.get(next).is_some_and(|stretch| stretch.start - at <= GRAIN);
    match (joins_last, joins_next) {
        (true, true) => {
            stretches[next - 1].end = stretches[next].end;
            stretches.remove(next);
        }
        (true, false) => stretches[next - 1].end = stretches[next - 1].end.max(at),
        (false, true) => stretches[next].start = at,
        (false, false) => stretches.insert(next, Stretch { start: at, end: at }),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn stretches_are_the_same_in_whatever_order_moments_come(
            mut moments in proptest::collection::vec(0..300_i64, 1..40),
            turn in 0..40_usize,
        ) {
            let all = |moments: &[i64]| {
                let mut stretches = Vec::new();
                moments.iter().for_each(|s| cover(&mut stretches, Timestamp(0) + Span::seconds(*s)));
                stretches
            };
            let forth = all(&moments);
            let n = moments.len();
            moments.rotate_left(turn % n);
            moments.reverse();
            prop_assert_eq!(&forth, &all(&moments));
            let apart = forth.windows(2).all(|pair| pair[1].start - pair[0].end > GRAIN);
            prop_assert!(apart && forth.iter().all(|s| s.start <= s.end));
            let covered = |at| forth.iter().any(|s| (s.start..=s.end).contains(&at));
            prop_assert!(moments.iter().all(|s| covered(Timestamp(0) + Span::seconds(*s))));
        }
    }
}
