//! Windows of 1 minute, 5 minutes, 1 hour and 1 day over each (patient, sensor, metric), revised as data comes in.
//!
//! A window is written at ticks: at the first tick after its first reading, then while it is open at most every
//! 2, 4, 8 or 15 s (by size), at once when its interval ends in recorded time, and, when late data re-opens it, as
//! `revised`, as seldom as while it was open.
//!
//! Under load ([`Context::load`]) these pauses grow with the load, from 25 facts per second and partition on, up to 60 s
//! (1 and 5 min) or 120 s (1 h and 1 day), and a first reading waits as long: a minute is then written when it is
//! complete. A window that waits is looked at again at least every 30 s, so all is written soon after the load has ended.
//! Windows of many series end at the same moment; under load each series writes at a moment of its own in the pause, up
//! to 20 s after the end, so that they do not all hold up the alerts of one tick.
//!
//! Every new reading counts, whatever its quality (the mean quality is in the
//! window). Coverage compares with the rhythm that the sensor is registered with, else with the one that it had promised by
//! its newest reading in the window: one reading every 30 s from its first status message on; without either there is none.
//!
//! States are kept per (series, 5 min: five minutes and their sum), per (series, hour) and per (series, day).

pub mod aggregate;

use schemas::derived::Outcome;
use schemas::facts::{Reading, WindowRevised, WindowSize, WindowStatus};
use schemas::ids::{Key, SensorId};
use schemas::journal::{Envelope, Fact};
use schemas::metric::{Form, Metric};
use schemas::partition;
use schemas::time::{Span, Timestamp};
use serde::{Deserialize, Serialize};

use crate::engine::{Context, Deadlines, Input, Keys, Processor, Step, keys};
use aggregate::{Aggregate, Sample};

/// Kinds of keys: five minutes, hour, day.
const KINDS: [(char, Span); 3] = [('5', Span::minutes(5)), ('h', Span::hours(1)), ('d', Span::days(1))];

/// The processor.
#[derive(Debug, Clone, Copy, Default)]
pub struct Windows;

/// The windows of one key.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct State {
    series: Option<(SensorId, Metric)>,
    /// The series' own moment in a pause, in parts of 65,536.
    moment: u16,
    /// By size, then start.
    windows: Vec<Window>,
}

/// One window.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Window {
    size: WindowSize,
    start: Timestamp,
    readings: Aggregate,
    expected_every: Option<Span>,
    revision: i32,
    /// Changed since it was written.
    dirty: bool,
    /// Written after its interval had ended.
    complete: bool,
    /// Recorded time when it was last written; before that, of its first reading.
    since: Timestamp,
    /// While it has changed: to be looked at then.
    look: Timestamp,
    /// When it is written as complete.
    complete_at: Timestamp,
}

/// Up to so many facts per second a partition is at rest.
const REST: u32 = 25;
/// Pauses do not grow beyond so many times their length at rest.
const MOST: u32 = 30;
/// A window that waits is looked at again after so long.
const LOOK: Span = Span::seconds(30);

/// A window is written as complete at most so long after its interval has ended.
const SPREAD: Span = Span::seconds(20);

/// A series' own part of a span.
fn part(span: Span, moment: u16) -> Span {
    Span((span.0 * i64::from(moment)) >> 16)
}

/// A series' own moment, by what follows the bucket in its state keys.
fn moment(key: &str) -> u16 {
    let series = keys::bucket_of(key).map_or(key, |bucket| &key[bucket.len()..]);
    (partition::murmur2(series.as_bytes()) >> 16) as u16
}

/// How long a window is left alone after it was written, at so many facts per second.
fn pause(size: WindowSize, load: u32) -> Span {
    let (at_rest, longest) = match size {
        WindowSize::Minute => (2, 60),
        WindowSize::FiveMinutes => (4, 60),
        WindowSize::Hour => (8, 120),
        WindowSize::Day => (15, 120),
    };
    let grown = Span::seconds(at_rest).0 * i64::from(load.clamp(REST, MOST * REST)) / i64::from(REST);
    Span(grown).min(Span::seconds(longest))
}

/// Whether readings of a metric are aggregated: waveforms and events are not.
#[must_use]
pub const fn has_windows(metric: Metric) -> bool {
    matches!(metric.info().form, Form::Number)
}

fn counted(fact: &Envelope) -> Option<&Reading> {
    match (&fact.key, &fact.fact) {
        (Key::Patient(_), Fact::Reading(reading)) if has_windows(reading.metric) && reading.value.is_finite() => {
            Some(reading)
        }
        _ => None,
    }
}

fn series(fact: &Envelope, reading: &Reading, out: &mut String) {
    keys::subject(out, &fact.key);
    for part in [reading.sensor_id.as_str(), reading.metric.as_str()] {
        out.push('/');
        out.push_str(part);
    }
}

impl Processor for Windows {
    const NAME: &'static str = "windows";
    const VERSION: u16 = 3;
    const RHYTHM: bool = true;
    const SHARE: usize = 6;
    const BUCKETS: &'static [(char, Span)] = &KINDS;
    type State = State;

    fn keys(&self, fact: &Envelope, wake: &mut Keys) {
        let Some(reading) = counted(fact) else { return };
        for (kind, size) in KINDS {
            wake.push(|out| {
                keys::bucket(out, kind, fact.measured_at, size);
                out.push('/');
                series(fact, reading, out);
            });
        }
    }

    fn series(&self, fact: &Envelope, out: &mut String) -> bool {
        counted(fact).map(|reading| series(fact, reading, out)).is_some()
    }

    fn step(&self, key: &str, mut state: State, input: Input<'_>, ctx: &Context) -> Step<State> {
        match input {
            Input::Fact {
                recorded,
                expected_every,
                ..
            } => {
                if let Some(reading) = counted(&recorded.envelope) {
                    state.add(key, &recorded.envelope, reading, expected_every, ctx);
                }
                Step::quiet(state)
            }
            Input::Deadline => {
                let outcomes = state.write(ctx);
                Step { state, outcomes }
            }
        }
    }

    fn deadlines(&self, state: &State) -> Deadlines {
        Deadlines {
            recorded: state.windows.iter().filter_map(Window::deadline).min(),
            ingest: None,
        }
    }

    fn heap(&self, state: &State) -> usize {
        state.windows.capacity() * size_of::<Window>() + 64
    }
}

impl State {
    fn add(&mut self, key: &str, fact: &Envelope, reading: &Reading, expected_every: Option<Span>, ctx: &Context) {
        let sizes: &[WindowSize] = match key.as_bytes().first() {
            Some(b'5') => &[WindowSize::Minute, WindowSize::FiveMinutes],
            Some(b'h') => &[WindowSize::Hour],
            _ => &[WindowSize::Day],
        };
        if self.series.is_none() {
            self.series = Some((reading.sensor_id.clone(), reading.metric));
            self.moment = moment(key);
        }
        let moment = self.moment;
        let one = Aggregate::of(Sample {
            at: fact.measured_at,
            id: fact.id,
            value: reading.value,
            quality: reading.quality,
        });
        for size in sizes {
            let start = fact.measured_at.floor(size.span());
            match self
                .windows
                .binary_search_by_key(&(*size, start), |w| (w.size, w.start))
            {
                Ok(i) => {
                    let window = &mut self.windows[i];
                    window.readings.merge(&one);
                    window.expected_every = expected_every;
                    if !std::mem::replace(&mut window.dirty, true) {
                        window.wait(moment, ctx);
                    }
                }
                Err(i) => {
                    self.windows.reserve_exact(1);
                    let mut window = Window::new(*size, start, one.clone(), expected_every, ctx.recorded);
                    window.wait(moment, ctx);
                    self.windows.insert(i, window);
                }
            }
        }
    }

    /// Writes every window whose time has come.
    fn write(&mut self, ctx: &Context) -> Vec<Outcome> {
        let Some((sensor_id, metric)) = &self.series else {
            return Vec::new();
        };
        let moment = self.moment;
        let written = self
            .windows
            .iter_mut()
            .filter_map(|w| w.is_due(moment, ctx).then(|| w.write(sensor_id, *metric, ctx.recorded)));
        written.map(Outcome::Window).collect()
    }
}

impl Window {
    fn new(
        size: WindowSize,
        start: Timestamp,
        readings: Aggregate,
        expected_every: Option<Span>,
        now: Timestamp,
    ) -> Self {
        Self {
            size,
            start,
            readings,
            expected_every,
            revision: 0,
            dirty: true,
            complete: false,
            since: now,
            look: now,
            complete_at: start + size.span(),
        }
    }

    fn end(&self) -> Timestamp {
        self.start + self.size.span()
    }

    /// When it is to be written for what has changed, as things are now.
    fn due(&self, moment: u16, ctx: &Context) -> Timestamp {
        let pause = pause(self.size, ctx.load());
        match self.revision {
            0 if ctx.load() <= REST => self.since,
            // A minute under load has ended by then.
            0 if self.size != WindowSize::Minute => self.since + part(pause, moment),
            _ => self.since + pause,
        }
    }

    fn wait(&mut self, moment: u16, ctx: &Context) {
        self.look = self.due(moment, ctx).min(ctx.recorded + LOOK);
        let grown = Span(pause(self.size, ctx.load()).0 - pause(self.size, REST).0);
        self.complete_at = self.end() + part(grown.min(SPREAD), moment);
    }

    /// When it is written as complete, where its interval had not ended at its first reading and it has not been yet.
    fn ending(&self) -> Option<Timestamp> {
        (!self.complete && self.end() > self.since).then_some(self.complete_at)
    }

    fn deadline(&self) -> Option<Timestamp> {
        self.dirty.then_some(self.look).into_iter().chain(self.ending()).min()
    }

    /// Whether its time has come; one that is looked at too early waits on.
    fn is_due(&mut self, moment: u16, ctx: &Context) -> bool {
        if self.ending().is_some_and(|end| end <= ctx.recorded) {
            return true;
        }
        if !self.dirty || self.look > ctx.recorded {
            return false;
        }
        self.wait(moment, ctx);
        self.look <= ctx.recorded
    }

    fn write(&mut self, sensor_id: &SensorId, metric: Metric, recorded: Timestamp) -> WindowRevised {
        let status = match (recorded >= self.end(), self.complete) {
            (false, _) => WindowStatus::Open,
            (true, false) => WindowStatus::Complete,
            (true, true) => WindowStatus::Revised,
        };
        self.complete |= status == WindowStatus::Complete;
        self.revision = self.revision.saturating_add(1);
        self.dirty = false;
        self.since = recorded;
        let ((min, max), (first, last)) = (self.readings.range(), self.readings.ends());
        WindowRevised {
            sensor_id: sensor_id.clone(),
            metric,
            size: self.size,
            start: self.start,
            end: self.end(),
            revision: self.revision,
            status,
            count: i64::from(self.readings.count()),
            min,
            max,
            mean: self.readings.mean(),
            sd: self.readings.sd(),
            first,
            last,
            quality: self.readings.quality(),
            coverage: self.coverage(recorded),
        }
    }

    /// Readings there over readings expected in what has passed of the interval, at most 1.
    fn coverage(&self, recorded: Timestamp) -> Option<f64> {
        let passed = (self.end().min(recorded) - self.start).as_seconds();
        let expected = (passed / self.expected_every?.as_seconds()).floor().max(1.0);
        Some((f64::from(self.readings.count()) / expected).min(1.0))
    }
}

#[cfg(test)]
mod tests;
