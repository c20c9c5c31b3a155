//! Windows of 1 minute, 5 minutes, 1 hour and 1 day over each (patient, sensor, metric), revised as data comes in.
//!
//! A window is written at ticks: at the first tick after its first reading, then while it is open at most every
//! 2, 4, 8 or 15 s (by size), at once when its interval ends in recorded time, and, when late data re-opens it, as
//! `revised`, as seldom as while it was open.
//!
//! Under load ([`Context::load`]) these pauses grow with the load, from 25 facts per second and partition on, up to 60 s
//! (1 and 5 min) or 120 s (1 h and 1 day), and a first reading waits as long: a minute is then written when it is
//! complete. A window that waits is looked at again at least every 30 s, so all is written soon after the load has ended.
//!
//! Every new reading counts, whatever its quality (the mean quality is in the
//! window). Coverage compares with the rhythm that the sensor had promised by its newest reading in the window: one
//! reading every 30 s from its first status message on; without a promise there is none.
//!
//! States are kept per (series, 5 min: five minutes and their sum), per (series, hour) and per (series, day).

pub mod aggregate;

use schemas::derived::Outcome;
use schemas::facts::{Reading, WindowRevised, WindowSize, WindowStatus};
use schemas::ids::{Key, SensorId};
use schemas::journal::{Envelope, Fact};
use schemas::metric::{Form, Metric};
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
}

/// Up to so many facts per second a partition is at rest.
const REST: u32 = 25;
/// Pauses do not grow beyond so many times their length at rest.
const MOST: u32 = 30;
/// A window that waits is looked at again after so long.
const LOOK: Span = Span::seconds(30);

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
    const VERSION: u16 = 1;
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
        }
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
                        window.wait(ctx);
                    }
                }
                Err(i) => {
                    self.windows.reserve_exact(1);
                    let mut window = Window::new(*size, start, one.clone(), expected_every, ctx.recorded);
                    window.wait(ctx);
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
        let written = self
            .windows
            .iter_mut()
            .filter_map(|w| w.is_due(ctx).then(|| w.write(sensor_id, *metric, ctx.recorded)));
        written.map(Outcome::Window).collect()
    }
}

impl Window {
    const fn new(
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
        }
    }

    fn end(&self) -> Timestamp {
        self.start + self.size.span()
    }

    /// When it is to be written for what has changed, as things are now.
    fn due(&self, ctx: &Context) -> Timestamp {
        if self.revision == 0 && ctx.load() <= REST {
            return self.since;
        }
        self.since + pause(self.size, ctx.load())
    }

    fn wait(&mut self, ctx: &Context) {
        self.look = self.due(ctx).min(ctx.recorded + LOOK);
    }

    /// When its interval ends, where it had not ended at its first reading and has not been written as complete.
    fn ending(&self) -> Option<Timestamp> {
        (!self.complete && self.end() > self.since).then(|| self.end())
    }

    fn deadline(&self) -> Option<Timestamp> {
        self.dirty.then_some(self.look).into_iter().chain(self.ending()).min()
    }

    /// Whether its time has come; one that is looked at too early waits on.
    fn is_due(&mut self, ctx: &Context) -> bool {
        if self.ending().is_some_and(|end| end <= ctx.recorded) {
            return true;
        }
        if !self.dirty || self.look > ctx.recorded {
            return false;
        }
        self.wait(ctx);
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
