//! What must be said, folded naively from the whole recorded journal of a partition. Written from the definitions, not
//! from the code: nothing here is shared with the processors.

pub(crate) mod alerts;
mod device_alerts;
pub(crate) mod devices;
mod lane;
mod silence;
pub(crate) mod windows;

use std::collections::{BTreeMap, BTreeSet};

use schemas::derived::Outcome;
use schemas::facts::{ClockTicked, TickedBy, Zone};
use schemas::ids::EventId;
use schemas::journal::{Envelope, Fact, Recorded};
use schemas::policy::{Admission, Policy, ZoneRule};
use schemas::time::{Span, Timestamp};

/// A conclusion, and the offset of the record that led to it.
pub(crate) type Told = (i64, Outcome);

/// That a sensor is on a patient, or not, for a stretch of measured time.
#[derive(Debug)]
struct Worn {
    order: i64,
    from: Timestamp,
    until: Option<Timestamp>,
    attached: bool,
    expected_every: Option<Span>,
    zone: Option<Zone>,
}

/// What a partition goes by, told from its journal.
#[derive(Debug, Default)]
pub(crate) struct House {
    /// Recorded time: the greatest accepted tick.
    pub(crate) recorded: Option<Timestamp>,
    /// The greatest accepted tick of a door.
    pub(crate) ingest: Option<Timestamp>,
    /// Silence counts from here at the earliest: the first tick of a door after a gap of more than 5 s.
    pub(crate) silence_from: Option<Timestamp>,
    /// Nothing measured before this is applied any more, whatever lateness says by now.
    gone: Option<Timestamp>,
    policies: Vec<(Option<Timestamp>, Policy)>,
    /// Facts per second of recorded time, over the last stretch of at least 5 s between two ticks.
    pub(crate) load: i64,
    /// When the stretch under way began, and how many facts it has so far.
    stretch: (Option<Timestamp>, i64),
    /// What was told of sensors on patients, each in order.
    worn: BTreeMap<(String, String), Vec<Worn>>,
    /// Where patients live.
    homes: BTreeMap<String, Option<Zone>>,
    /// The greatest activated version, by processor.
    pub(crate) versions: BTreeMap<String, u16>,
}

impl House {
    /// Takes a record; whether it is a tick that counts.
    pub(crate) fn take(&mut self, record: &Recorded) -> bool {
        match &record.envelope.fact {
            Fact::PolicyChanged(change) => self.policies.push((self.recorded, change.policy.clone())),
            Fact::ProcessorActivated(it) => {
                let version = self.versions.entry(it.name.to_string()).or_default();
                *version = it.version.max(*version);
            }
            Fact::ClockTicked(ClockTicked { by }) => return self.tick(record, *by),
            Fact::Unknown { .. } | Fact::Sealed(_) => {}
            _ => {
                self.stretch.1 += 1;
                self.wear(&record.envelope);
            }
        }
        false
    }

    fn wear(&mut self, fact: &Envelope) {
        if let Fact::PatientRecorded(it) = &fact.fact {
            let zone = it.patient.zone.filter(|_| !it.ended);
            self.homes.insert(fact.key.text().to_string(), zone);
        }
        let (sensor, worn) = match &fact.fact {
            Fact::SensorAttached(it) => {
                let worn = Worn {
                    order: it.order,
                    from: it.from,
                    until: it.until,
                    attached: true,
                    expected_every: it.expected_every,
                    zone: it.zone,
                };
                (&it.sensor_id, worn)
            }
            Fact::SensorDetached(it) => {
                let worn = Worn {
                    order: it.order,
                    from: it.from,
                    until: it.until,
                    attached: false,
                    expected_every: None,
                    zone: None,
                };
                (&it.sensor_id, worn)
            }
            _ => return,
        };
        let told = self
            .worn
            .entry((fact.key.text().to_string(), sensor.to_string()))
            .or_default();
        if told.iter().all(|before| before.order < worn.order) {
            told.push(worn);
        }
    }

    /// What was told last of a sensor on a patient at a moment.
    fn worn(&self, fact: &Envelope) -> Option<&Worn> {
        let name = (fact.key.text().to_string(), fact.fact.sensor()?.to_string());
        let at = fact.measured_at;
        let covers = |worn: &&Worn| worn.from <= at && worn.until.is_none_or(|until| at < until);
        self.worn.get(&name)?.iter().rfind(covers)
    }

    /// Whether a sensor said this while another wore it, unless somebody has said whose it is.
    pub(crate) fn is_foreign(&self, fact: &Envelope) -> bool {
        let registered = self
            .policy()
            .is_some_and(|policy| policy.admission == Admission::Registered);
        let of_a_sensor = fact.key.patient().is_some() && fact.fact.sensor().is_some();
        of_a_sensor && fact.cause.is_none() && !self.worn(fact).map_or(!registered, |worn| worn.attached)
    }

    /// What is expected where its sensor is: where that stands, else where the patient lives.
    pub(crate) fn zone(&self, fact: &Envelope) -> Option<&ZoneRule> {
        let own = match &fact.fact {
            Fact::SensorAttached(it) => it.zone,
            _ => self.worn(fact).and_then(|worn| worn.zone),
        };
        let home = || self.homes.get(fact.key.text().as_str()).copied().flatten();
        let zone = own.or_else(home)?;
        self.policy()?.zones.iter().find(|rule| rule.zone == zone)
    }

    /// How often its sensor is expected, as it is registered.
    pub(crate) fn expected_every(&self, fact: &Envelope) -> Option<Span> {
        self.worn(fact).and_then(|worn| worn.expected_every)
    }

    fn tick(&mut self, record: &Recorded, by: TickedBy) -> bool {
        let at = record.envelope.measured_at;
        if at > record.appended_at + Span::seconds(2) {
            return false;
        }
        self.recorded = self.recorded.max(Some(at));
        if by == TickedBy::Ingest {
            match self.ingest {
                Some(last) if at <= last => {}
                Some(last) if at - last <= Span::seconds(5) => self.ingest = Some(at),
                _ => (self.ingest, self.silence_from) = (Some(at), Some(at)),
            }
        }
        match (self.stretch.0, self.recorded) {
            (None, _) => self.stretch = (self.recorded, 0),
            (Some(began), Some(now)) if now - began >= Span::seconds(5) => {
                self.load = self.stretch.1 * 1_000_000 / (now - began).0;
                self.stretch = (Some(now), 0);
            }
            _ => {}
        }
        let kept = self.recorded.map(|now| now - self.lateness() - Span::days(1));
        self.gone = self.gone.max(kept);
        true
    }

    pub(crate) fn lateness(&self) -> Span {
        self.policies
            .last()
            .map_or(Span::days(7), |(_, policy)| policy.lateness)
    }

    /// The policy now.
    pub(crate) fn policy(&self) -> Option<&Policy> {
        self.policies.last().map(|(_, policy)| policy)
    }

    /// The policy in force at a moment of recorded time; the first one holds for everything before it too.
    pub(crate) fn policy_at(&self, at: Timestamp) -> Option<&Policy> {
        let since = |since: &Option<Timestamp>| since.is_none_or(|since| since <= at);
        let in_force = self.policies.iter().rfind(|(from, _)| since(from));
        in_force.or_else(|| self.policies.first()).map(|(_, policy)| policy)
    }

    /// Whether something measured then is too old now.
    pub(crate) fn is_old(&self, measured_at: Timestamp) -> bool {
        let too_late = self.recorded.map(|now| now - self.lateness());
        too_late.max(self.gone).is_some_and(|bound| measured_at < bound)
    }

    /// Before this nothing is applied any more, for ever.
    pub(crate) const fn horizon(&self) -> Option<Timestamp> {
        self.gone
    }

    /// Recorded time; before the first tick, when a fact reached the door.
    pub(crate) fn now(&self, record: &Recorded) -> Timestamp {
        self.recorded.unwrap_or(record.envelope.received_at)
    }
}

/// Which facts have been taken before: each counts once, at its first record that is not too old.
///
/// What a device without a clock sends twice is another fact each time: the time of its arrival is another.
#[derive(Debug, Default)]
pub(crate) struct Once(BTreeSet<(String, EventId, Timestamp)>);

impl Once {
    /// Whether this record is the one that counts.
    pub(crate) fn counts(&mut self, house: &House, record: &Recorded) -> bool {
        let fact = &record.envelope;
        !house.is_old(fact.measured_at) && self.0.insert((fact.key.text().to_string(), fact.id, fact.measured_at))
    }
}
