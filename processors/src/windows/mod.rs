//! Windows of 1 minute, 5 minutes, 1 hour and 1 day over each (patient, sensor, metric), revised as data comes in.
//!
//! A window is written at ticks: at the first tick after its first reading, then while it is open at most every
//! 5, 10, 20 or 30 s (by size), at once when its interval ends in recorded time, and, when late data re-opens it, as
//! `revised`, as seldom as while it was open. Every new reading counts, whatever its quality (the mean quality is in the
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
    written_at: Timestamp,
}

/// How long a window is left alone after it was written.
const fn throttle(size: WindowSize) -> Span {
    Span::seconds(match size {
        WindowSize::Minute => 5,
        WindowSize::FiveMinutes => 10,
        WindowSize::Hour => 20,
        WindowSize::Day => 30,
    })
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
                    state.add(key, &recorded.envelope, reading, expected_every);
                }
                Step::quiet(state)
            }
            Input::Deadline => {
                let outcomes = state.write(ctx.recorded);
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
    fn add(&mut self, key: &str, fact: &Envelope, reading: &Reading, expected_every: Option<Span>) {
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
                    window.dirty = true;
                }
                Err(i) => self
                    .windows
                    .insert(i, Window::new(*size, start, one.clone(), expected_every)),
            }
        }
    }

    /// Writes every window whose time has come.
    fn write(&mut self, recorded: Timestamp) -> Vec<Outcome> {
        let Some((sensor_id, metric)) = &self.series else {
            return Vec::new();
        };
        let due = |window: &&mut Window| window.deadline().is_some_and(|at| at <= recorded);
        let written = self
            .windows
            .iter_mut()
            .filter(due)
            .map(|w| w.write(sensor_id, *metric, recorded));
        written.map(Outcome::Window).collect()
    }
}

impl Window {
    const fn new(size: WindowSize, start: Timestamp, readings: Aggregate, expected_every: Option<Span>) -> Self {
        Self {
            size,
            start,
            readings,
            expected_every,
            revision: 0,
            dirty: true,
            complete: false,
            written_at: Timestamp::MIN,
        }
    }

    fn end(&self) -> Timestamp {
        self.start + self.size.span()
    }

    fn deadline(&self) -> Option<Timestamp> {
        let throttled = match (self.dirty, self.revision) {
            (false, _) => None,
            // any tick
            (true, 0) => Some(Timestamp::MIN),
            (true, _) => Some(self.written_at + throttle(self.size)),
        };
        let ended = (!self.complete).then(|| self.end());
        throttled.into_iter().chain(ended).min()
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
        self.written_at = recorded;
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
