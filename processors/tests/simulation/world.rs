//! The world of one seed: patients with a course, sensors with a network, doors that tick, people who decide.
//!
//! [`World::advance`] moves the clock and says which facts reach the journal then, in which order.

use eventlog::prng::Prng;
use schemas::assignment::Timeline;
use schemas::facts::{
    AlarmCode, ClockTicked, DeviceAlarm, Door, Limits, MetricLimits, PatientRecorded, PolicyChanged,
    ProcessorActivated, SensorAttached, SensorDetached, SensorState, SensorStatus, ThresholdsSet, TickedBy, Zone,
};
use schemas::ids::{EventId, Key, SensorId};
use schemas::journal::{ClockQuality, Envelope, Fact};
use schemas::metric::Metric;
use schemas::policy::{Admission, Policy};
use schemas::time::{Span, Timestamp};
use smol_str::SmolStr;

use crate::coverage::Coverage;
use crate::sensor::{Network, Patient, Sensor};

/// 2026-01-05T08:00:00Z.
pub(crate) const START: Timestamp = Timestamp(1_767_600_000_000_000);

/// A stretch of time in which the clock moves at one pace.
#[derive(Debug, Clone, Copy)]
struct Phase {
    steps: u64,
    pace: Span,
}

/// Facts on their way: partition and envelope.
pub(crate) type Arrivals = Vec<(u16, Envelope)>;

/// The world.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) chance: Prng,
    pub(crate) now: Timestamp,
    pub(crate) coverage: Coverage,
    partitions: u16,
    phases: Vec<Phase>,
    patients: Vec<Patient>,
    sensors: Vec<Sensor>,
    policy: Policy,
    /// By how much each ticker's clock is ahead of the log's.
    clocks: [Span; 3],
    sent: Vec<Envelope>,
    made: u64,
    /// Who is said to wear each sensor, and how often that was said.
    worn: Vec<(Timeline, i64)>,
    /// Whether sensors change hands: in every third world.
    moving: bool,
}

fn envelope(id: EventId, key: Key, at: Timestamp, received_at: Timestamp, clock: ClockQuality, fact: Fact) -> Envelope {
    Envelope {
        id,
        key,
        measured_at: at,
        gateway_at: None,
        received_at,
        clock,
        cause: None,
        fact,
    }
}

/// A message as a door takes it: where the device has no clock, its time is that of its arrival, each time anew.
fn arriving(message: Envelope, now: Timestamp) -> Envelope {
    let measured_at = if message.clock == ClockQuality::Arrival {
        now
    } else {
        message.measured_at
    };
    Envelope {
        measured_at,
        received_at: now,
        ..message
    }
}

impl World {
    /// The world of a seed, spread over so many partitions.
    pub(crate) fn new(seed: u64, partitions: u16) -> Self {
        let mut chance = Prng::new(seed);
        let phases = phases(&mut chance);
        let patients: Vec<_> = (0..=chance.below(3)).map(|n| Patient::new(n, &mut chance)).collect();
        let sensors: Vec<_> = (0..=patients.len() as u64 + chance.below(2))
            .map(|n| Sensor::new(n, n as usize % patients.len(), &mut chance))
            .collect();
        let moving = seed % 3 == 1;
        let policy = policy(&mut chance, moving);
        let clocks = [0; 3].map(|_: i64| Span::millis(chance.below(3_800) as i64 - 1_900));
        Self {
            chance,
            now: START + Span::millis(1),
            coverage: Coverage::default(),
            partitions,
            phases,
            patients,
            moving,
            worn: vec![Default::default(); sensors.len()],
            sensors,
            policy,
            clocks,
            sent: Vec::new(),
            made: 0,
        }
    }

    /// The first facts of every partition: a policy, and who speaks.
    pub(crate) fn beginning(&mut self, speakers: &[(&'static str, u16)]) -> Arrivals {
        let mut first = self.everywhere(Fact::PolicyChanged(PolicyChanged {
            policy: self.policy.clone(),
            by: SmolStr::new_static("fajma"),
        }));
        for (name, version) in speakers {
            first.extend(self.everywhere(Fact::ProcessorActivated(ProcessorActivated {
                name: SmolStr::new_static(name),
                version: *version,
            })));
        }
        first
    }

    /// A fact of the house, now.
    pub(crate) fn house(&mut self, key: Key, at: Timestamp, fact: Fact) -> Envelope {
        self.made += 1;
        let id = EventId::of("simulation.house", &[&self.made.to_be_bytes()]);
        envelope(id, key, at, self.now, ClockQuality::Server, fact)
    }

    fn everywhere(&mut self, fact: Fact) -> Arrivals {
        let at = self.now;
        (0..self.partitions)
            .map(|p| (p, self.house(Key::Nobody, at, fact.clone())))
            .collect()
    }

    /// Where facts about this subject stand.
    pub(crate) fn partition(&self, key: &Key) -> u16 {
        schemas::partition::of(key, self.partitions)
    }

    /// Moves the clock on; what reaches the journal now. `None` at the end of time.
    pub(crate) fn advance(&mut self) -> Option<Arrivals> {
        let phase = self.phases.last_mut()?;
        let pace = phase.pace;
        phase.steps -= 1;
        if phase.steps == 0 {
            self.phases.pop();
        }
        let before = self.now;
        self.now = before + pace;
        let mut arrivals = Vec::new();
        for i in 0..self.sensors.len() {
            for message in self.speak(i, before) {
                arrivals.push((self.partition(&message.key), message));
            }
        }
        self.moves(&mut arrivals);
        self.repeats(&mut arrivals);
        self.reattributes(&mut arrivals);
        self.registers(&mut arrivals);
        self.people(&mut arrivals);
        self.ticks(&mut arrivals);
        Some(arrivals)
    }

    /// What a sensor's network lets through of what it has to say since `before`.
    fn speak(&mut self, i: usize, before: Timestamp) -> Vec<Envelope> {
        let sensor = &mut self.sensors[i];
        let mut said = Vec::new();
        for at in sensor.moments(before, self.now, &mut self.chance) {
            let patient = &mut self.patients[sensor.patient];
            for (id, what, fact) in sensor.measure(patient, at, &mut self.chance) {
                self.coverage.hit(what);
                let at = at + sensor.ahead;
                let (measured_at, clock) = if sensor.has_clock {
                    (at, ClockQuality::Device)
                } else {
                    (self.now, ClockQuality::Arrival)
                };
                said.push(envelope(id, patient.key.clone(), measured_at, self.now, clock, fact));
            }
        }
        if sensor.status_due(before, self.now) {
            said.push(self.status(i));
        }
        let sensor = &mut self.sensors[i];
        let through = match sensor.network.next(&mut self.chance, self.now - before) {
            Network::Up => {
                let mut waiting = std::mem::take(&mut sensor.waiting);
                if !waiting.is_empty() {
                    self.coverage.hit("a backlog arrives");
                    if self.chance.percent(50) {
                        shuffle(&mut waiting, &mut self.chance);
                        self.coverage.hit("a backlog out of order");
                    }
                }
                waiting.append(&mut said);
                waiting
            }
            Network::Down { .. } => {
                sensor.waiting.append(&mut said);
                Vec::new()
            }
        };
        through.into_iter().map(|message| self.receive(message)).collect()
    }

    /// Stamps a message on arrival, and remembers it for repeats.
    fn receive(&mut self, mut message: Envelope) -> Envelope {
        message = arriving(message, self.now);
        let age = self.now - message.measured_at;
        if age > Span::minutes(10) {
            self.coverage.hit("a reading late by more than ten minutes");
        }
        if age > Span::days(1) {
            self.coverage.hit("a reading late by days");
        }
        if age > self.policy.lateness {
            self.coverage.hit("a reading older than lateness");
        }
        if age < Span::ZERO {
            self.coverage.hit("a reading ahead of our clock");
        }
        if self.sent.len() < 400 {
            self.sent.push(message.clone());
        } else {
            let at = self.chance.below(400) as usize;
            self.sent[at] = message.clone();
        }
        message
    }

    fn status(&mut self, i: usize) -> Envelope {
        let sensor = &mut self.sensors[i];
        let last_will = self.chance.percent(5);
        let battery = sensor.battery(&mut self.chance);
        let state = match self.chance.below(10) {
            0 => SensorState::Inactive,
            1 => SensorState::Fault,
            _ => SensorState::Active,
        };
        let status = SensorStatus {
            sensor_id: sensor.id.clone(),
            state,
            battery,
            firmware: self.chance.percent(20).then(|| SmolStr::new_static("1.2.0")),
            rssi: self.chance.percent(20).then(|| -40.0 - self.chance.below(50) as f64),
            lat: None,
            lng: None,
            last_will,
            command_id: None,
            result: None,
            door: Door::Mqtt,
        };
        let key = self.patients[sensor.patient].key.clone();
        let (sensor, at) = (sensor.id.clone(), self.now + sensor.ahead);
        self.coverage.hit("a status message");
        self.device(key, &sensor, at, Fact::SensorStatus(status))
    }

    fn device(&mut self, key: Key, sensor: &SensorId, at: Timestamp, fact: Fact) -> Envelope {
        self.made += 1;
        let id = EventId::of(
            "simulation.device",
            &[sensor.as_str().as_bytes(), &self.made.to_be_bytes()],
        );
        envelope(id, key, at, self.now, ClockQuality::Device, fact)
    }

    /// Senders that send again what was acknowledged already.
    fn repeats(&mut self, arrivals: &mut Arrivals) {
        // Now and then all of them at once, as after an outage of a whole house.
        let mut storm = if self.chance.below(100) == 0 {
            150 + self.chance.below(300)
        } else {
            0
        };
        while !self.sent.is_empty() && (storm > 0 || self.chance.percent(15)) {
            storm = storm.saturating_sub(1);
            let again = self.sent[self.chance.below(self.sent.len() as u64) as usize].clone();
            self.coverage.hit("a message sent twice");
            arrivals.push((self.partition(&again.key), arriving(again, self.now)));
        }
        shuffle_near(arrivals, &mut self.chance);
    }

    /// Somebody says who wears a sensor, mostly when they have put it on; patients' journals are told, now and then twice.
    fn moves(&mut self, arrivals: &mut Arrivals) {
        if !self.moving || !self.chance.percent(8) {
            return;
        }
        let i = self.chance.below(self.sensors.len() as u64) as usize;
        let wears = self
            .chance
            .percent(75)
            .then(|| self.chance.below(self.patients.len() as u64) as usize);
        let ago = [0, 0, 20, 600, 90_000][self.chance.below(5) as usize];
        let from = self.now - Span::seconds(self.chance.below(ago + 1) as i64);
        let expected_every = self
            .chance
            .percent(30)
            .then(|| Span::seconds(5 + self.chance.below(60) as i64));
        let zone = self.chance.percent(20).then(|| self.zone());
        let patient = wears.and_then(|n| self.patients[n].key.patient().cloned());
        let (timeline, order) = &mut self.worn[i];
        let stretch = timeline.put(from, patient);
        *order += 1;
        let (order, sensor_id) = (*order, self.sensors[i].id.clone());
        let (from, until) = (stretch.from, stretch.until);
        let before = stretch.before.filter(|before| stretch.after.as_ref() != Some(before));
        let detached = before.map(|patient| {
            let sensor_id = sensor_id.clone();
            (
                patient,
                Fact::SensorDetached(SensorDetached {
                    sensor_id,
                    from,
                    until,
                    order,
                }),
            )
        });
        let attached = stretch.after.map(|patient| {
            let sensor_id = sensor_id.clone();
            let told = SensorAttached {
                sensor_id,
                from,
                until,
                order,
                expected_every,
                zone,
            };
            (patient, Fact::SensorAttached(told))
        });
        for (patient, fact) in detached.into_iter().chain(attached) {
            let told = self.house(Key::Patient(patient), self.now, fact);
            let times = if self.chance.percent(20) { 2 } else { 1 };
            arrivals.extend(vec![(self.partition(&told.key), told); times]);
        }
        self.coverage.hit("a sensor moved");
        // A door may be behind, and who said it may be wrong.
        if let Some(patient) = wears.filter(|_| self.chance.percent(70)) {
            self.sensors[i].patient = patient;
        } else {
            self.coverage.hit("a sensor said to be elsewhere than it is");
        }
    }

    fn zone(&mut self) -> Zone {
        Zone::ALL[self.chance.below(Zone::ALL.len() as u64) as usize]
    }

    /// Somebody registers where a patient lives.
    fn registers(&mut self, arrivals: &mut Arrivals) {
        if !self.moving || !self.chance.percent(2) {
            return;
        }
        let key = self.patients[self.chance.below(self.patients.len() as u64) as usize]
            .key
            .clone();
        let zone = self.chance.percent(80).then(|| self.zone());
        let recorded = PatientRecorded {
            revision: 1,
            ended: self.chance.percent(10),
            patient: schemas::facts::Patient {
                zone,
                ..Default::default()
            },
            by: SmolStr::new_static("admin"),
        };
        let told = self.house(key, self.now, Fact::PatientRecorded(recorded));
        self.coverage.hit("a patient moved house");
        arrivals.push((self.partition(&told.key), told));
    }

    /// Somebody says whose a reading is.
    fn reattributes(&mut self, arrivals: &mut Arrivals) {
        if !self.moving || self.sent.is_empty() || !self.chance.percent(3) {
            return;
        }
        let mut reading = self.sent[self.chance.below(self.sent.len() as u64) as usize].clone();
        if matches!(reading.fact, Fact::Reading(_)) {
            reading.key = self.patients[self.chance.below(self.patients.len() as u64) as usize]
                .key
                .clone();
            reading.cause = Some(EventId::of("simulation.command", &[&self.made.to_be_bytes()]));
            self.coverage.hit("a reading re-attributed");
            arrivals.push((self.partition(&reading.key), reading));
        }
    }

    /// Alarms, thresholds, policy.
    fn people(&mut self, arrivals: &mut Arrivals) {
        if self.chance.percent(2) {
            let sensor = &self.sensors[self.chance.below(self.sensors.len() as u64) as usize];
            const CODES: [AlarmCode; 6] = [
                AlarmCode::Asystole,
                AlarmCode::Apnoea,
                AlarmCode::Fall,
                AlarmCode::PanicButton,
                AlarmCode::SensorOff,
                AlarmCode::LowBattery,
            ];
            let alarm = DeviceAlarm {
                sensor_id: sensor.id.clone(),
                code: CODES[self.chance.below(6) as usize],
                seq: None,
                epoch: None,
                door: Door::Mqtt,
            };
            let (id, mut key) = (sensor.id.clone(), self.patients[sensor.patient].key.clone());
            if self.chance.percent(10) {
                key = Key::Sensor(id.clone());
                self.coverage.hit("an alarm of a sensor that nobody wears");
            }
            let late = if self.chance.percent(20) {
                Span::minutes(self.chance.below(60) as i64)
            } else {
                Span::ZERO
            };
            let alarm = self.device(key, &id, self.now - late, Fact::DeviceAlarm(alarm));
            self.sent.push(alarm.clone());
            self.coverage.hit("a device alarm");
            arrivals.push((self.partition(&alarm.key), alarm));
        }
        if self.chance.percent(2) {
            let thresholds = self.thresholds();
            let key = self.patients[self.chance.below(self.patients.len() as u64) as usize]
                .key
                .clone();
            let set = self.house(key, self.now, Fact::ThresholdsSet(thresholds));
            self.coverage.hit("thresholds changed");
            arrivals.push((self.partition(&set.key), set));
        }
        if self.chance.percent(1) {
            self.policy = policy(&mut self.chance, self.moving);
            let (policy, by) = (self.policy.clone(), SmolStr::new_static("admin"));
            self.coverage.hit("policy changed");
            arrivals.extend(self.everywhere(Fact::PolicyChanged(PolicyChanged { policy, by })));
        }
    }

    fn thresholds(&mut self) -> ThresholdsSet {
        let shift = self.chance.below(5) as f64 * 10.0 - 20.0;
        let own = MetricLimits {
            metric: Metric::HeartRate,
            limits: Limits {
                critical_low: Some(40.0 + shift),
                warning_low: None,
                info_low: Some(45.0 + shift),
                info_high: self.chance.percent(50).then_some(95.0 + shift),
                warning_high: Some(115.0 + shift),
                critical_high: Some(130.0 + shift),
            },
        };
        ThresholdsSet {
            thresholds: if self.chance.percent(20) { Vec::new() } else { vec![own] },
            by: SmolStr::new_static("dr-b"),
        }
    }

    /// Two doors and a processor tick every partition, each by its own clock, now and then not.
    fn ticks(&mut self, arrivals: &mut Arrivals) {
        for (n, by) in [TickedBy::Ingest, TickedBy::Ingest, TickedBy::Process]
            .into_iter()
            .enumerate()
        {
            if self.chance.percent(5) {
                self.clocks[n] = Span::millis(self.chance.below(4_400) as i64 - 2_000);
            }
            for partition in 0..self.partitions {
                if self.chance.percent(if by == TickedBy::Ingest { 25 } else { 60 }) {
                    self.coverage.hit("a tick missing");
                    continue;
                }
                let at = self.now + self.clocks[n];
                if self.clocks[n] > Span::seconds(2) {
                    self.coverage.hit("a tick too far ahead");
                }
                let tick = self.house(Key::Nobody, at, Fact::ClockTicked(ClockTicked { by }));
                let place = self.chance.below(arrivals.len() as u64 + 1) as usize;
                arrivals.insert(place, (partition, tick));
            }
        }
    }
}

fn phases(chance: &mut Prng) -> Vec<Phase> {
    let phase = |chance: &mut Prng| match chance.below(10) {
        0..=2 => Phase {
            steps: 10 + chance.below(25),
            pace: Span::seconds(1),
        },
        3..=6 => Phase {
            steps: 15 + chance.below(30),
            pace: Span::millis(3_000 + chance.below(1_500) as i64),
        },
        7 => Phase {
            steps: 4 + chance.below(8),
            pace: Span::seconds(10 + chance.below(60) as i64),
        },
        8 => Phase {
            steps: 1 + chance.below(2),
            pace: Span::minutes(2 + chance.below(90) as i64),
        },
        _ => Phase {
            steps: 1 + chance.below(2),
            pace: Span::hours(6 + chance.below(200) as i64),
        },
    };
    (0..4 + chance.below(4)).map(|_| phase(chance)).collect()
}

/// The standard policy with what the seed makes of it.
fn policy(chance: &mut Prng, moving: bool) -> Policy {
    let mut policy = Policy::standard();
    policy.lateness = Span::hours([24, 72, 168, 168, 168][chance.below(5) as usize]);
    policy.fresh_for = Span::minutes([2, 10, 10][chance.below(3) as usize]);
    if moving && chance.percent(10) {
        policy.admission = Admission::Registered;
    }
    for rule in &mut policy.zones {
        if moving {
            rule.expected_every = Span::seconds(5 + chance.below(40) as i64);
            rule.patience = 1 + chance.below(5) as i32;
            rule.fresh_for = Span::minutes(1 + chance.below(60) as i64);
        }
    }
    if chance.percent(40) {
        for rule in &mut policy.rules {
            rule.raise_after = Span(rule.raise_after.0 / 2);
            rule.clear_after = Span(rule.clear_after.0 / 2);
        }
    }
    policy
}

/// Any order.
pub(crate) fn shuffle<T>(items: &mut [T], chance: &mut Prng) {
    for i in (1..items.len()).rev() {
        items.swap(i, chance.below(i as u64 + 1) as usize);
    }
}

/// Neighbours change places now and then.
fn shuffle_near<T>(items: &mut [T], chance: &mut Prng) {
    for i in 1..items.len() {
        if chance.percent(10) {
            items.swap(i - 1, i);
        }
    }
}
