//! What patients' journals are told of sensors that change hands, and what is known by it as of a place in a journal.

use serde::{Deserialize, Serialize};

use crate::derived::{Derived, Outcome};
use crate::facts::{AssignmentChanged, SensorAttached, SensorDetached, Zone};
use crate::ids::{EventId, Key, PatientId, SensorId};
use crate::journal::{ClockQuality, Envelope, Fact};
use crate::time::{Span, Timestamp};

/// What patients' journals are told of a change: to whom the sensor no longer belongs first, so that nobody's journal
/// takes for theirs what is another's.
#[must_use]
pub fn told(derived: &Derived) -> Vec<Envelope> {
    let Outcome::Assignment(change) = &derived.outcome else {
        return Vec::new();
    };
    let order = derived.origin.offset;
    let of = |patient: &PatientId, what: &str, fact: Fact| Envelope {
        id: EventId::of("fajma.relay", &[&derived.id.0, what.as_bytes()]),
        key: Key::Patient(patient.clone()),
        measured_at: derived.recorded_at,
        gateway_at: None,
        received_at: derived.recorded_at,
        clock: ClockQuality::Server,
        cause: Some(derived.id),
        fact,
    };
    let before = change
        .before
        .as_ref()
        .filter(|before| change.after.as_ref() != Some(before));
    let detached = before.map(|patient| of(patient, "detached", Fact::SensorDetached(detached(change, order))));
    let attached = change.after.as_ref();
    let attached = attached.map(|patient| of(patient, "attached", Fact::SensorAttached(attached_as(change, order))));
    detached.into_iter().chain(attached).collect()
}

fn detached(change: &AssignmentChanged, order: i64) -> SensorDetached {
    SensorDetached {
        sensor_id: change.sensor_id.clone(),
        from: change.from,
        until: change.until,
        order,
    }
}

fn attached_as(change: &AssignmentChanged, order: i64) -> SensorAttached {
    SensorAttached {
        sensor_id: change.sensor_id.clone(),
        from: change.from,
        until: change.until,
        order,
        expected_every: change.expected_every,
        zone: change.zone,
    }
}

/// The sensor that a fact of a patient's journal attaches or detaches.
#[must_use]
pub const fn moved(fact: &Fact) -> Option<&SensorId> {
    match fact {
        Fact::SensorAttached(it) => Some(&it.sensor_id),
        Fact::SensorDetached(it) => Some(&it.sensor_id),
        _ => None,
    }
}

/// One sensor on one patient, as the patient's journal has it: what was told, and where.
///
/// Looked at as of a place in the journal, so that the answer is the same whenever it is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Worn(Vec<Told>);

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Told {
    /// Where it stands in the patient's journal.
    offset: i64,
    order: i64,
    from: Timestamp,
    until: Option<Timestamp>,
    attached: bool,
    expected_every: Option<Span>,
    zone: Option<Zone>,
}

impl Worn {
    /// Takes in a fact about the sensor; `false` where it is about something else, or was told before.
    pub fn fact(&mut self, offset: i64, fact: &Fact) -> bool {
        let told = match fact {
            Fact::SensorAttached(it) => Told {
                offset,
                order: it.order,
                from: it.from,
                until: it.until,
                attached: true,
                expected_every: it.expected_every,
                zone: it.zone,
            },
            Fact::SensorDetached(it) => Told {
                offset,
                order: it.order,
                from: it.from,
                until: it.until,
                attached: false,
                expected_every: None,
                zone: None,
            },
            _ => return false,
        };
        // A relay that was interrupted tells the same again.
        let new = self.0.last().is_none_or(|last| told.order > last.order);
        if new {
            self.0.push(told);
        }
        new
    }

    /// What holds of a moment, as of a place in the journal.
    fn holds(&self, offset: i64, at: Timestamp) -> Option<&Told> {
        let covers = |told: &&Told| told.from <= at && told.until.is_none_or(|until| at < until);
        let before = self.0.partition_point(|told| told.offset < offset);
        self.0[..before].iter().rev().find(covers)
    }

    /// Whether the sensor is the patient's at a moment, as of a place in the journal; `None` where nothing has been said.
    #[must_use]
    pub fn is_worn(&self, offset: i64, at: Timestamp) -> Option<bool> {
        self.holds(offset, at).map(|told| told.attached)
    }

    /// Where it stood at a moment, as it is registered.
    #[must_use]
    pub fn zone(&self, offset: i64, at: Timestamp) -> Option<Zone> {
        self.holds(offset, at).and_then(|told| told.zone)
    }

    /// How often it is expected at a moment, as it is registered.
    #[must_use]
    pub fn expected_every(&self, offset: i64, at: Timestamp) -> Option<Span> {
        self.holds(offset, at).and_then(|told| told.expected_every)
    }

    /// Bytes held on the heap.
    #[must_use]
    pub const fn heap(&self) -> usize {
        self.0.capacity() * size_of::<Told>()
    }
}

/// Where a patient lives, as their journal has it: since which place in it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Home(Vec<(i64, Option<Zone>)>);

impl Home {
    /// Takes in where they live from a place on; whether that is new.
    pub fn settle(&mut self, offset: i64, zone: Option<Zone>) -> bool {
        let known = self.0.last();
        let new = known.is_none_or(|(at, known)| *at < offset && *known != zone);
        if new {
            self.0.push((offset, zone));
        }
        new
    }

    /// Where they live, as of a place in the journal.
    #[must_use]
    pub fn zone(&self, offset: i64) -> Option<Zone> {
        let before = self.0.partition_point(|(at, _)| *at < offset);
        self.0[..before].last().and_then(|(_, zone)| *zone)
    }

    /// Bytes held on the heap.
    #[must_use]
    pub const fn heap(&self) -> usize {
        self.0.capacity() * size_of::<(i64, Option<Zone>)>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::assignment::tests::{p, t};

    #[test]
    fn a_patients_journal_is_looked_at_as_of_a_place_in_it() {
        let mut worn = Worn::default();
        let sensor_id = SensorId::new("s").unwrap();
        let attached = |from, order| {
            Fact::SensorAttached(SensorAttached {
                sensor_id: sensor_id.clone(),
                from: t(from),
                until: None,
                order,
                expected_every: Some(Span::seconds(order)),
                zone: Some(Zone::Rural),
            })
        };
        let detached = Fact::SensorDetached(SensorDetached {
            sensor_id: sensor_id.clone(),
            from: t(50),
            until: None,
            order: 7,
        });
        assert!(worn.fact(100, &attached(10, 5)) && worn.fact(200, &detached));
        assert!(!worn.fact(210, &attached(10, 5)), "told before");
        for (offset, at, worn_then) in [
            (100, 20, None),
            (101, 20, Some(true)),
            (101, 60, Some(true)),
            (201, 60, Some(false)),
            (201, 20, Some(true)),
            (201, 9, None),
        ] {
            assert_eq!(worn.is_worn(offset, t(at)), worn_then, "at {at} as of {offset}");
        }
        assert_eq!(worn.expected_every(201, t(20)), Some(Span::seconds(5)));
        assert_eq!(worn.expected_every(201, t(60)), None);
        assert_eq!(
            (worn.zone(201, t(20)), worn.zone(201, t(60))),
            (Some(Zone::Rural), None)
        );
    }

    #[test]
    fn where_somebody_lives_is_known_as_of_a_place() {
        let mut home = Home::default();
        assert!(home.settle(10, Some(Zone::Urban)) && !home.settle(12, Some(Zone::Urban)));
        assert!(
            home.settle(20, None) && !home.settle(10, Some(Zone::Urban)),
            "told before"
        );
        assert_eq!(
            [10, 11, 20, 21].map(|o| home.zone(o)),
            [None, Some(Zone::Urban), Some(Zone::Urban), None]
        );
    }

    #[test]
    fn the_one_who_loses_a_sensor_is_told_first() {
        let change = |before, after| Derived {
            id: EventId([1; 16]),
            key: Key::Sensor(SensorId::new("s").unwrap()),
            origin: crate::derived::Origin {
                incarnation: EventId([2; 16]),
                offset: 9,
                key: "x".into(),
                n: 0,
            },
            recorded_at: t(1),
            outcome: Outcome::Assignment(AssignmentChanged {
                sensor_id: SensorId::new("s").unwrap(),
                from: t(5),
                until: None,
                before: p(before),
                after: p(after),
                expected_every: None,
                zone: None,
            }),
        };
        let whom = |before, after| {
            let told = told(&change(before, after));
            let whom = told.iter().map(|e| format!("{}:{}", e.key.text(), e.fact.name()));
            whom.collect::<Vec<_>>().join(" ")
        };
        assert_eq!(whom("a", "b"), "a:SensorDetached b:SensorAttached");
        assert_eq!(whom("a", "a"), "a:SensorAttached");
        assert_eq!(whom("a", ""), "a:SensorDetached");
        assert_eq!(whom("", ""), "");
    }
}
