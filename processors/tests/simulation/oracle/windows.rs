//! Windows, each recomputed from the set of its readings whenever it is due.

use std::collections::BTreeMap;

use schemas::derived::Outcome;
use schemas::facts::{Reading, WindowRevised, WindowSize, WindowStatus};
use schemas::ids::{EventId, Key};
use schemas::journal::{Fact, Recorded};
use schemas::metric::Form;
use schemas::time::{Span, Timestamp};

use super::{House, Once, Told};

/// Length, pause at rest, longest pause, in seconds.
const SIZES: [(WindowSize, Span, i64, i64); 4] = [
    (WindowSize::Minute, Span::minutes(1), 2, 60),
    (WindowSize::FiveMinutes, Span::minutes(5), 4, 60),
    (WindowSize::Hour, Span::hours(1), 8, 120),
    (WindowSize::Day, Span::days(1), 15, 120),
];

/// Patient, sensor, metric, size, start.
type Name = (String, String, &'static str, usize, Timestamp);

#[derive(Debug, Default)]
struct Window {
    /// (measured, id, value, quality)
    readings: Vec<(Timestamp, EventId, f64, Option<u8>)>,
    example: Option<Reading>,
    /// How often the sensor was expected when the last reading came.
    every: Option<Span>,
    changed: bool,
    revision: i32,
    complete: bool,
    /// When it was last written, or first heard of.
    since: Timestamp,
    /// When it is to be looked at, while it waits.
    look: Timestamp,
    /// When it is written as complete.
    complete_at: Timestamp,
}

/// Every window that must be written, at the tick that does it.
pub(crate) fn told(journal: &[Recorded]) -> Vec<Told> {
    let (mut house, mut once) = (House::default(), Once::default());
    let mut windows: BTreeMap<Name, Window> = BTreeMap::new();
    let mut promised: Vec<(Key, String)> = Vec::new();
    let mut told = Vec::new();
    for record in journal {
        let fact = &record.envelope;
        if house.take(record) {
            let now = house.recorded.unwrap_or(Timestamp::MIN);
            for (name, window) in &mut windows {
                if window.is_due(name, now, house.load) {
                    told.push((record.offset, Outcome::Window(window.write(name, now))));
                }
            }
        }
        match &fact.fact {
            Fact::SensorStatus(status) => promised.push((fact.key.clone(), status.sensor_id.to_string())),
            Fact::Reading(reading) => {
                let a_number = reading.metric.info().form == Form::Number && reading.value.is_finite();
                if fact.key.patient().is_none() || !a_number || house.is_foreign(fact) || !once.counts(&house, record) {
                    continue;
                }
                let promise = promised.contains(&(fact.key.clone(), reading.sensor_id.to_string()));
                let usual = house.zone(fact).map_or(Span::seconds(30), |rule| rule.expected_every);
                let every = house.expected_every(fact).or_else(|| promise.then_some(usual));
                let now = house.recorded.unwrap_or(Timestamp::MIN);
                for (n, (_, length, ..)) in SIZES.iter().enumerate() {
                    let start = Timestamp(fact.measured_at.0.div_euclid(length.0) * length.0);
                    let name = (
                        fact.key.text().to_string(),
                        reading.sensor_id.to_string(),
                        reading.metric.as_str(),
                        n,
                        start,
                    );
                    let window = windows.entry(name.clone()).or_default();
                    window
                        .readings
                        .push((fact.measured_at, fact.id, reading.value, reading.quality));
                    window.example = Some(reading.clone());
                    window.every = every;
                    if window.readings.len() == 1 {
                        window.since = now;
                    }
                    if !std::mem::replace(&mut window.changed, true) {
                        window.wait(&name, now, house.load);
                    }
                }
            }
            _ => {}
        }
    }
    told
}

impl Window {
    fn pause(n: usize, load: i64) -> Span {
        let (_, _, at_rest, longest) = SIZES[n];
        let grown = at_rest * 1_000_000 * load.clamp(25, 750) / 25;
        Span(grown.min(longest * 1_000_000))
    }

    /// When a change is to be written at this load: at rest a first reading at once, else a first one at the series' own
    /// moment in the pause, another after the pause.
    fn due(&self, name: &Name, load: i64) -> Timestamp {
        let pause = Self::pause(name.3, load);
        match (self.revision, load) {
            (0, ..=25) => self.since,
            (0, _) if name.3 > 0 => self.since + part(name, pause),
            _ => self.since + pause,
        }
    }

    fn wait(&mut self, name: &Name, now: Timestamp, load: i64) {
        self.look = self.due(name, load).min(now + Span::seconds(30));
        let grown = Self::pause(name.3, load).0 - Self::pause(name.3, 0).0;
        self.complete_at = name.4 + SIZES[name.3].1 + part(name, Span(grown.min(20_000_000)));
    }

    /// At ticks: when its interval has ended, and when it has changed and was left alone long enough, for which it is
    /// looked at every 30 s at least.
    fn is_due(&mut self, name: &Name, now: Timestamp, load: i64) -> bool {
        let end = name.4 + SIZES[name.3].1;
        if !self.complete && self.since < end && self.complete_at <= now {
            return true;
        }
        if !self.changed || now < self.look {
            return false;
        }
        let due = self.due(name, load);
        self.wait(name, now, load);
        due <= now
    }

    fn write(&mut self, name: &Name, now: Timestamp) -> WindowRevised {
        let (size, length, ..) = SIZES[name.3];
        let (start, end) = (name.4, name.4 + length);
        let status = match (now < end, self.complete) {
            (true, _) => WindowStatus::Open,
            (false, false) => WindowStatus::Complete,
            (false, true) => WindowStatus::Revised,
        };
        self.complete |= status == WindowStatus::Complete;
        self.changed = false;
        self.revision += 1;
        self.since = now;
        let n = self.readings.len() as f64;
        let values = || self.readings.iter().map(|r| r.2);
        let mean = values().sum::<f64>() / n;
        let squares = values().map(|v| (v - mean) * (v - mean)).sum::<f64>();
        let rated: Vec<_> = self.readings.iter().filter_map(|r| r.3).map(f64::from).collect();
        let first = self.readings.iter().min_by_key(|r| (r.0, r.1)).map_or(0.0, |r| r.2);
        let last = self.readings.iter().max_by_key(|r| (r.0, r.1)).map_or(0.0, |r| r.2);
        let expected = |every: Span| {
            ((end.min(now) - start).as_seconds() / every.as_seconds())
                .floor()
                .max(1.0)
        };
        let example = self.example.as_ref().unwrap();
        WindowRevised {
            sensor_id: example.sensor_id.clone(),
            metric: example.metric,
            size,
            start,
            end,
            revision: self.revision,
            status,
            count: self.readings.len() as i64,
            min: values().fold(f64::INFINITY, f64::min),
            max: values().fold(f64::NEG_INFINITY, f64::max),
            mean,
            sd: if self.readings.len() < 2 {
                0.0
            } else {
                (squares / (n - 1.0)).sqrt()
            },
            first,
            last,
            quality: (!rated.is_empty()).then(|| rated.iter().sum::<f64>() / rated.len() as f64),
            coverage: self.every.map(|every| (n / expected(every)).min(1.0)),
        }
    }
}

/// A series' own part of a span.
fn part(name: &Name, span: Span) -> Span {
    let series = format!("/{}/{}/{}", name.0, name.1, name.2);
    let moment = i64::from(schemas::partition::murmur2(series.as_bytes()) >> 16);
    Span(span.0 * moment / 65_536)
}

/// Whether two revisions say the same; sums of fractions may differ in the last digits.
pub(crate) fn same(a: &WindowRevised, b: &WindowRevised) -> bool {
    let near = |x: f64, y: f64| (x - y).abs() <= 1e-6 * (1.0 + x.abs());
    let near_options = |x: Option<f64>, y: Option<f64>| match (x, y) {
        (Some(x), Some(y)) => near(x, y),
        (x, y) => x == y,
    };
    let plain = |w: &WindowRevised| WindowRevised {
        mean: 0.0,
        sd: 0.0,
        quality: None,
        coverage: None,
        ..w.clone()
    };
    plain(a) == plain(b)
        && near(a.mean, b.mean)
        && near(a.sd, b.sd)
        && near_options(a.quality, b.quality)
        && near_options(a.coverage, b.coverage)
}
