//! Alerts: every change of every episode, in order.

use std::collections::BTreeMap;

use schemas::derived::{Incarnation, Outcome};
use schemas::facts::{
    AlertAnswered, AlertChange, AlertChanged, AlertClass, AlertState, Answer, Limits, Reading, Severity,
};
use schemas::ids::{EventId, Key, SensorId};
use schemas::journal::{Envelope, Fact, Recorded};
use schemas::limits::Side;
use schemas::metric::{Form, Metric};
use schemas::policy::MetricRule;
use schemas::time::{Span, Timestamp};
use smol_str::SmolStr;

use super::device_alerts::Device;
use super::devices::moved;
use super::lane::{Lane, Sample};
use super::{House, Once, Told};

/// An episode that is open: the alert as it stands, and whether it lives by samples that came late.
#[derive(Debug)]
pub(super) struct Episode {
    pub(super) late: bool,
    pub(super) row: AlertChanged,
}

impl Episode {
    /// Whoever took or silenced it took something else.
    fn ask(&mut self) {
        (self.row.state, self.row.until) = (AlertState::Open, None);
        (self.row.acknowledged_at, self.row.acknowledged_by) = (None, None);
    }
}

/// One sensor's samples of one metric.
#[derive(Debug, Default)]
struct Watch {
    clock: Option<Timestamp>,
    now: Lane,
    late: Lane,
}

/// What is known of one subject of one patient: a metric, or a device.
#[derive(Debug, Default)]
struct Subject {
    sets: Vec<(Timestamp, Option<Limits>)>,
    sensors: BTreeMap<SensorId, Watch>,
    device: Option<Device>,
    episodes: Vec<Episode>,
}

/// Where and when something happens, and what is said about it.
pub(super) struct Scene<'a> {
    pub(super) house: &'a House,
    pub(super) incarnation: Incarnation,
    pub(super) offset: i64,
    /// Patient and subject, as in a state key.
    pub(super) name: &'a str,
    pub(super) now: Timestamp,
    pub(super) told: Vec<Outcome>,
}

impl Scene<'_> {
    /// An episode begins; its id says whose, what, where it was raised and since when.
    pub(super) fn raise(&mut self, late: bool, row: AlertChanged) -> Episode {
        let key = format!("a/{}", self.name);
        let parts: [&[u8]; 5] = [
            key.as_bytes(),
            row.rule.as_bytes(),
            &self.incarnation.0,
            &self.offset.to_be_bytes(),
            &row.started_at.0.to_be_bytes(),
        ];
        let row = AlertChanged {
            alert_id: EventId::of("fajma.alert", &parts),
            subject: self
                .name
                .split_once('/')
                .map(|(_, subject)| SmolStr::new(subject))
                .unwrap_or_default(),
            raised_at: self.now,
            ..row
        };
        self.told.push(Outcome::Alert(row.clone()));
        Episode { late, row }
    }

    /// Something happens to an episode that no person did.
    pub(super) fn change(&mut self, episode: &mut Episode, change: AlertChange) {
        let row = &mut episode.row;
        (row.change, row.by, row.text) = (change, None, None);
        self.told.push(Outcome::Alert(row.clone()));
    }

    pub(super) fn resolve(&mut self, episode: &mut Episode) {
        episode.row.state = AlertState::Resolved;
        (episode.row.resolved_at, episode.row.until) = (Some(self.now), None);
        self.change(episode, AlertChange::Resolved);
    }

    /// What was found in old data holds now: nobody has taken it as that.
    pub(super) fn become_current(&mut self, episode: &mut Episode) {
        episode.row.retrospective = false;
        episode.ask();
        self.change(episode, AlertChange::BecameCurrent);
    }

    /// Whether something measured then still says how the patient is now.
    pub(super) fn is_fresh(&self, fact: &Envelope) -> bool {
        let at = fact.measured_at;
        let by_zone = self.house.zone(fact).map(|rule| rule.fresh_for);
        let fresh_for = by_zone.or_else(|| self.house.policy().map(|policy| policy.fresh_for));
        self.house
            .recorded
            .zip(fresh_for)
            .is_none_or(|(now, fresh_for)| at >= now - fresh_for)
    }
}

/// An empty row of an alert that is raised.
pub(super) fn row(rule: &str, class: AlertClass, severity: Severity, started_at: Timestamp) -> AlertChanged {
    AlertChanged {
        alert_id: EventId([0; 16]),
        change: AlertChange::Raised,
        sensor_id: None,
        metric: None,
        rule: SmolStr::new(rule),
        subject: SmolStr::default(),
        class,
        severity,
        state: AlertState::Open,
        retrospective: false,
        message: SmolStr::default(),
        message_fr: SmolStr::default(),
        value: None,
        limit: None,
        started_at,
        raised_at: started_at,
        acknowledged_at: None,
        acknowledged_by: None,
        resolved_at: None,
        by: None,
        text: None,
        until: None,
    }
}

fn is_watched(metric: Metric) -> bool {
    metric != Metric::Battery && metric.info().form != Form::Waveform
}

/// The subjects that a fact is about.
fn subjects(fact: &Envelope) -> Vec<String> {
    let mut about = Vec::new();
    match &fact.fact {
        Fact::Reading(reading) if is_watched(reading.metric) => about.push(reading.metric.as_str().to_owned()),
        Fact::ThresholdsSet(_) => {
            about.extend(
                Metric::ALL
                    .iter()
                    .filter(|m| is_watched(**m))
                    .map(|m| m.as_str().to_owned()),
            );
        }
        Fact::AlertAnswered(answer) => about.push(answer.subject.to_string()),
        _ => {}
    }
    about.extend(
        fact.fact
            .sensor()
            // What somebody has said to be the patient's tells nothing about the sensor now.
            .filter(|_| fact.cause.is_none())
            .or_else(|| moved(&fact.fact))
            .map(|sensor| format!("sensor:{sensor}")),
    );
    about.sort();
    about
}

/// Of a sensor that nobody wears: what is about life, and what was answered to that.
fn is_heard_of_nobody(fact: &Fact) -> bool {
    match fact {
        Fact::DeviceAlarm(alarm) => alarm.code.is_clinical(),
        Fact::AlertAnswered(_) => true,
        _ => false,
    }
}

/// Every change that must be told, in order. What is read in an alert (its message) is left empty.
pub(crate) fn told(journal: &[Recorded], incarnation: Incarnation) -> Vec<Told> {
    let (mut house, mut once) = (House::default(), Once::default());
    let mut subjects_: BTreeMap<String, Subject> = BTreeMap::new();
    let mut told = Vec::new();
    for record in journal {
        let fact = &record.envelope;
        let ticks = house.take(record);
        if house.is_foreign(fact) {
            continue;
        }
        let names: Vec<String> = match &fact.key {
            _ if ticks => subjects_.keys().cloned().collect(),
            Key::Patient(patient) => subjects(fact)
                .into_iter()
                .map(|subject| format!("{patient}/{subject}"))
                .collect(),
            Key::Sensor(_) if is_heard_of_nobody(&fact.fact) => subjects(fact)
                .into_iter()
                .map(|subject| format!("{}/{subject}", fact.key.text()))
                .collect(),
            _ => Vec::new(),
        };
        let novel = !ticks && !names.is_empty() && once.counts(&house, record);
        for name in names {
            let mut scene = Scene {
                house: &house,
                incarnation,
                offset: record.offset,
                name: &name,
                now: house.now(record),
                told: Vec::new(),
            };
            let subject = subjects_.entry(name.clone()).or_default();
            if ticks {
                subject.tick(&mut scene);
            } else {
                subject.take(fact, novel, &mut scene);
            }
            told.extend(scene.told.into_iter().map(|outcome| (record.offset, outcome)));
        }
    }
    told
}

impl Subject {
    /// Silences end; a sensor that is silent is told.
    fn tick(&mut self, scene: &mut Scene<'_>) {
        for episode in &mut self.episodes {
            let row = &mut episode.row;
            if row.state == AlertState::Snoozed && row.until.is_some_and(|until| until <= scene.now) {
                row.state = if row.acknowledged_at.is_some() {
                    AlertState::Acknowledged
                } else {
                    AlertState::Open
                };
                row.until = None;
                scene.change(episode, AlertChange::Woke);
            }
        }
        if let Some(device) = &mut self.device {
            device.tick(&mut self.episodes, scene);
        }
    }

    fn take(&mut self, fact: &Envelope, novel: bool, scene: &mut Scene<'_>) {
        let subject = scene.name.split_once('/').map_or("", |(_, subject)| subject).to_owned();
        match &fact.fact {
            Fact::AlertAnswered(answer) if novel => self.answer(answer, scene),
            Fact::ThresholdsSet(set) if novel => {
                let own = set.thresholds.iter().find(|own| own.metric.as_str() == subject);
                self.sets.push((scene.now, own.map(|own| own.limits)));
            }
            Fact::Reading(reading) if subject == reading.metric.as_str() && novel => self.read(fact, reading, scene),
            _ if subject.starts_with("sensor:") => {
                let moved = moved(&fact.fact);
                let Some(sensor) = fact.fact.sensor().or(moved) else {
                    return;
                };
                let device = self
                    .device
                    .get_or_insert_with(|| Device::new(sensor.clone(), scene.now));
                if moved.is_some() {
                    device.tell(fact, &mut self.episodes, scene);
                } else {
                    device.hear(fact, novel, &mut self.episodes, scene);
                }
            }
            _ => {}
        }
    }

    fn answer(&mut self, answer: &AlertAnswered, scene: &mut Scene<'_>) {
        let Some(i) = self.episodes.iter().position(|e| e.row.alert_id == answer.alert_id) else {
            return;
        };
        let row = &mut self.episodes[i].row;
        match answer.answer {
            Answer::Acknowledge if row.state == AlertState::Acknowledged => return,
            Answer::Acknowledge => {
                (row.state, row.change) = (AlertState::Acknowledged, AlertChange::Acknowledged);
                (row.acknowledged_at, row.acknowledged_by) = (Some(scene.now), Some(answer.by.clone()));
                row.until = None;
            }
            Answer::Snooze if answer.until.is_none_or(|until| until <= scene.now) => return,
            Answer::Snooze => {
                (row.state, row.change, row.until) = (AlertState::Snoozed, AlertChange::Snoozed, answer.until);
            }
            Answer::Comment => row.change = AlertChange::Commented,
            Answer::Resolve => {
                (row.state, row.change) = (AlertState::Resolved, AlertChange::Resolved);
                (row.resolved_at, row.until) = (Some(scene.now), None);
            }
        }
        (row.by, row.text) = (Some(answer.by.clone()), answer.text.clone());
        scene.told.push(Outcome::Alert(row.clone()));
        if row.state == AlertState::Resolved {
            self.episodes.remove(i);
            // its condition must hold anew
            for watch in self.sensors.values_mut() {
                watch.now.forget();
                watch.late.forget();
            }
        }
    }

    /// A reading that counts, against the limits in force when it was measured.
    fn read(&mut self, fact: &Envelope, reading: &Reading, scene: &mut Scene<'_>) {
        let at = fact.measured_at;
        let info = reading.metric.info();
        let still = info.zero_with_contact && reading.value == 0.0 && reading.contact == Some(true);
        let loose = reading.contact == Some(false) || reading.quality.is_some_and(|quality| quality < 50);
        let Some(policy) = scene.house.policy_at(at) else {
            return;
        };
        if loose || !(still || info.possible.contains(reading.value)) {
            return;
        }
        let rule = policy
            .rule(reading.metric)
            .cloned()
            .unwrap_or_else(|| by_reading(reading.metric));
        let own = self
            .sets
            .iter()
            .rfind(|(since, _)| *since <= at)
            .and_then(|(_, limits)| *limits);
        let limits = own.unwrap_or(rule.limits);
        if limits.is_empty() && self.episodes.is_empty() {
            return;
        }
        let late = self.put(
            reading.sensor_id.clone(),
            Sample {
                at,
                value: reading.value,
                limits,
                rule,
            },
            scene,
        );
        for side in [Side::High, Side::Low] {
            self.judge((fact, reading), &limits, side, late, scene);
        }
    }

    /// What a sensor measured before what it has already said came late.
    fn put(&mut self, sensor: SensorId, sample: Sample, scene: &Scene<'_>) -> bool {
        if self.sensors.len() > 1 {
            // who was silent for longer than anything late can be is forgotten
            self.sensors.retain(|_, watch| watch.clock >= scene.house.horizon());
        }
        let watch = self.sensors.entry(sensor).or_default();
        let late = watch.clock.is_some_and(|clock| sample.at < clock);
        if late {
            watch.late.push(sample);
        } else {
            // a clock that is ahead makes nothing that follows look late
            let known = scene
                .house
                .recorded
                .map_or(sample.at, |now| sample.at.min(now + Span::seconds(2)));
            watch.clock = watch.clock.max(Some(known));
            watch.now.push(sample);
        }
        late
    }

    fn judge(
        &mut self,
        (fact, reading): (&Envelope, &Reading),
        limits: &Limits,
        side: Side,
        late: bool,
        scene: &mut Scene<'_>,
    ) {
        let rule = format!("{}_{}", reading.metric, if side == Side::Low { "low" } else { "high" });
        let watch = &self.sensors[&reading.sensor_id];
        let lane = if late { &watch.late } else { &watch.now };
        let held = lane.held(side);
        let open = self.episodes.iter().position(|e| e.late == late && e.row.rule == rule);
        let Some(i) = open else {
            if let Some(held) = held {
                let mut row = row(&rule, AlertClass::Clinical, held.severity, held.since);
                (row.sensor_id, row.metric) = (Some(reading.sensor_id.clone()), Some(reading.metric));
                (row.value, row.limit) = (Some(reading.value), held.limit);
                row.retrospective = late || !scene.is_fresh(fact);
                let episode = scene.raise(late, row);
                self.episodes.push(episode);
            }
            return;
        };
        let floor = self.floor(&self.episodes[i], &reading.sensor_id);
        let remains = lane.remains(side, self.episodes[i].row.severity, floor);
        let beyond = lane.is_beyond(side);
        let episode = &mut self.episodes[i];
        if !late && episode.row.retrospective && beyond && scene.is_fresh(fact) {
            scene.become_current(episode);
        }
        let show = |episode: &mut Episode, limit| {
            (episode.row.value, episode.row.limit) = (Some(reading.value), limit);
            episode.row.sensor_id = Some(reading.sensor_id.clone());
        };
        match (held, remains) {
            (Some(held), _) if held.severity > episode.row.severity => {
                show(episode, held.limit);
                episode.row.severity = held.severity;
                episode.ask();
                scene.change(episode, AlertChange::Escalated);
            }
            (_, None) => {
                scene.resolve(episode);
                self.episodes.remove(i);
            }
            (_, Some(severity)) if severity < episode.row.severity => {
                show(episode, limits.begins(severity, side));
                episode.row.severity = severity;
                scene.change(episode, AlertChange::Eased);
            }
            _ => {}
        }
    }

    /// An episode is cleared by its own sensor, and by another one with what is newer than all that its own has said.
    fn floor(&self, episode: &Episode, sensor: &SensorId) -> Option<Timestamp> {
        let own = episode.row.sensor_id.as_ref().filter(|own| *own != sensor)?;
        self.sensors.get(own)?.clock
    }
}

/// Where the policy says nothing about a metric it is counted reading by reading.
const fn by_reading(metric: Metric) -> MetricRule {
    MetricRule {
        metric,
        limits: Limits {
            critical_low: None,
            warning_low: None,
            info_low: None,
            info_high: None,
            warning_high: None,
            critical_high: None,
        },
        raise_after: Span::ZERO,
        clear_after: Span::ZERO,
        deadband: 0.0,
        spot: true,
        extreme_low: None,
        extreme_high: None,
    }
}
