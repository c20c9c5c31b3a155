//! Patients with a course, and the sensors on them.

use eventlog::prng::Prng;
use schemas::facts::Mark;
use schemas::facts::{Door, Reading};
use schemas::ids::{EventId, Key, PatientId, SensorId};
use schemas::journal::Fact;
use schemas::metric::Metric;
use schemas::time::{Span, Timestamp};

/// Metrics of the simulation, each with the levels that a course wanders through.
const LEVELS: [(Metric, &[f64]); 5] = [
    (
        Metric::HeartRate,
        &[72.0, 72.0, 84.5, 88.0, 96.0, 115.0, 135.0, 190.0, 38.0, 25.0, 0.0],
    ),
    (Metric::Spo2, &[98.0, 98.0, 97.0, 94.5, 92.5, 90.0, 82.0]),
    (Metric::RespiratoryRate, &[14.0, 14.0, 10.0, 22.0, 26.0, 0.0]),
    (Metric::BodyTemperature, &[36.8, 36.8, 38.4, 39.5, 41.2, 34.9]),
    (Metric::Battery, &[80.0, 15.0, 8.0, 3.0]),
];

/// A patient: where each metric's course is now.
#[derive(Debug)]
pub(crate) struct Patient {
    pub(crate) key: Key,
    level: [usize; LEVELS.len()],
}

impl Patient {
    /// Number `n`.
    pub(crate) fn new(n: u64, chance: &mut Prng) -> Self {
        let name = format!("p{n}-{}", chance.below(1_000));
        let id = PatientId::new(&name).unwrap_or_else(|e| panic!("{name}: {e}"));
        Self {
            key: Key::Patient(id),
            level: [0; LEVELS.len()],
        }
    }

    /// The true value now; the course moves on now and then.
    fn value(&mut self, metric: usize, chance: &mut Prng) -> f64 {
        let levels = LEVELS[metric].1;
        if chance.percent(7) {
            self.level[metric] = chance.below(levels.len() as u64) as usize;
        }
        let level = levels[self.level[metric]];
        let jitter = chance.below(5) as f64 * 0.25 - 0.5;
        if level == 0.0 { 0.0 } else { level + jitter }
    }
}

/// Whether a sensor gets through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Network {
    Up,
    Down { left: Span },
}

impl Network {
    /// Time passes; outages last from seconds to days.
    pub(crate) fn next(&mut self, chance: &mut Prng, passed: Span) -> Self {
        *self = match *self {
            Self::Up if chance.percent(3) => Self::Down {
                left: match chance.below(4) {
                    0 => Span::seconds(5 + chance.below(60) as i64),
                    1 => Span::minutes(2 + chance.below(30) as i64),
                    2 => Span::hours(1 + chance.below(60) as i64),
                    _ => Span::days(1 + chance.below(9) as i64),
                },
            },
            Self::Down { left } if left > passed => Self::Down {
                left: Span(left.0 - passed.0),
            },
            _ => Self::Up,
        };
        *self
    }
}

/// A sensor.
#[derive(Debug)]
pub(crate) struct Sensor {
    pub(crate) id: SensorId,
    pub(crate) patient: usize,
    /// By how much its clock is ahead.
    pub(crate) ahead: Span,
    pub(crate) has_clock: bool,
    pub(crate) network: Network,
    /// What it could not send yet.
    pub(crate) waiting: Vec<schemas::journal::Envelope>,
    metrics: Vec<usize>,
    every: Span,
    status_every: Option<Span>,
    has_seq: bool,
    seq: i64,
    epoch: i64,
    silent_until: Timestamp,
}

impl Sensor {
    /// Number `n`, on this patient.
    pub(crate) fn new(n: u64, patient: usize, chance: &mut Prng) -> Self {
        let name = format!("s{n}");
        let mut metrics = vec![chance.below(2) as usize];
        for metric in 0..LEVELS.len() {
            if chance.percent(25) && !metrics.contains(&metric) {
                metrics.push(metric);
            }
        }
        Self {
            id: SensorId::new(&name).unwrap_or_else(|e| panic!("{name}: {e}")),
            patient,
            ahead: Span::millis(match chance.below(4) {
                0 => 0,
                1 => -(chance.below(20_000) as i64),
                2 => chance.below(4_000) as i64,
                _ => chance.below(240_000) as i64,
            }),
            has_clock: chance.percent(85),
            network: Network::Up,
            waiting: Vec::new(),
            metrics,
            every: Span::seconds([1, 2, 5, 5, 10][chance.below(5) as usize]),
            status_every: chance.percent(60).then(|| Span::seconds(30)),
            has_seq: chance.percent(50),
            seq: 0,
            epoch: 1,
            silent_until: Timestamp::MIN,
        }
    }

    /// When it measures within this stretch: by its rhythm, and a few times only in a long one.
    pub(crate) fn moments(&mut self, before: Timestamp, now: Timestamp, chance: &mut Prng) -> Vec<Timestamp> {
        if now < self.silent_until {
            return Vec::new();
        }
        if chance.below(200) == 0 {
            self.silent_until = now + Span::seconds(30 + chance.below(300) as i64);
        }
        let first = before.floor(self.every) + self.every;
        let due = (now - first).0.div_euclid(self.every.0) + 1;
        if due <= 4 {
            return (0..due).map(|n| first + Span(self.every.0 * n)).collect();
        }
        let mut some: Vec<_> = (0..chance.below(7))
            .map(|_| Timestamp(before.0 + chance.below((now - before).0 as u64) as i64).floor(Span::millis(1)))
            .collect();
        some.sort_unstable();
        some
    }

    /// Its readings of one moment, with their ids and what is notable about them.
    pub(crate) fn measure(
        &mut self,
        patient: &mut Patient,
        at: Timestamp,
        chance: &mut Prng,
    ) -> Vec<(EventId, &'static str, Fact)> {
        if chance.below(150) == 0 {
            (self.seq, self.epoch) = (0, self.epoch + 1);
        }
        self.seq += 1;
        let mut said = Vec::new();
        for metric in self.metrics.clone() {
            let spot = matches!(LEVELS[metric].0, Metric::BodyTemperature | Metric::Battery);
            if spot && !chance.percent(20) {
                continue;
            }
            let value = patient.value(metric, chance);
            said.push(self.reading(LEVELS[metric].0, value, at, chance));
        }
        said
    }

    fn reading(&self, metric: Metric, value: f64, at: Timestamp, chance: &mut Prng) -> (EventId, &'static str, Fact) {
        let quality = match chance.below(12) {
            0 => None,
            1 => Some(chance.below(50) as u8),
            2 => Some(50 + chance.below(30) as u8),
            _ => Some(97),
        };
        let contact = match chance.below(6) {
            0 => Some(false),
            1 | 2 => Some(true),
            _ => None,
        };
        // A door refuses a zero whose sensor does not know that it has contact.
        let contact = if value == 0.0 { Some(true) } else { contact };
        let reading = Reading {
            sensor_id: self.id.clone(),
            metric,
            value,
            sent: None,
            quality,
            contact,
            seq: self.has_seq.then_some(self.seq),
            epoch: self.has_seq.then_some(self.epoch),
            samples: None,
            marks: if value == 0.0 {
                vec![Mark::ZeroWithContact]
            } else {
                Vec::new()
            },
            door: Door::Mqtt,
        };
        let time = if self.has_clock { (at + self.ahead).0 } else { 0 };
        // Without time and sequence the door tells two equal readings apart by arrival: here, by chance.
        let place = if self.has_clock || self.has_seq {
            0
        } else {
            chance.next()
        };
        let (seq, epoch) = if self.has_seq { (self.seq, self.epoch) } else { (0, 0) };
        let id = EventId::of(
            "simulation.reading",
            &[
                self.id.as_str().as_bytes(),
                metric.as_str().as_bytes(),
                &time.to_be_bytes(),
                &epoch.to_be_bytes(),
                &seq.to_be_bytes(),
                &value.to_be_bytes(),
                &place.to_be_bytes(),
            ],
        );
        let what = match (self.has_seq, self.has_clock) {
            (true, true) => "a reading with time and sequence",
            (true, false) => "a reading with sequence only",
            (false, true) => "a reading with time only",
            (false, false) => "a reading with neither time nor sequence",
        };
        (id, what, Fact::Reading(reading))
    }

    /// Whether a status message is due.
    pub(crate) fn status_due(&self, before: Timestamp, now: Timestamp) -> bool {
        now >= self.silent_until
            && self
                .status_every
                .is_some_and(|every| before.floor(every) != now.floor(every))
    }

    /// What it says about its battery.
    pub(crate) fn battery(&self, chance: &mut Prng) -> Option<f64> {
        chance
            .percent(60)
            .then(|| [90.0, 18.0, 8.0, 4.0][chance.below(4) as usize])
    }
}
