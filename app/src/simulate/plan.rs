//! What is sent when: an endless or bounded stream of records in the order in which they are due. Pure.

use schemas::time::{Span, Timestamp};
use smol_str::{SmolStr, format_smolstr};

use super::course::Scenario;
use super::patient::{Patient, SENSORS};
use super::record::Record;

/// A record and when to send it.
#[derive(Debug, Clone, PartialEq)]
pub struct Due {
    /// From the start of the sending, by the wall.
    pub after: Span,
    /// The record.
    pub record: Record,
}

/// A world of simulated patients.
#[derive(Debug, Clone, PartialEq)]
pub struct World {
    /// How many patients.
    pub patients: usize,
    /// What each of them goes through, one after the other and again from the first.
    pub scenarios: Vec<Scenario>,
    /// Readings per second of measured time, of all patients together.
    pub rate: f64,
    /// How many seconds of measured time pass per second.
    pub speed: f64,
    /// How much measured time; for ever where it is `None`.
    pub length: Option<Span>,
    /// Seconds of measured time until a course begins.
    pub onset: f64,
    /// Makes the world the same again.
    pub seed: u64,
    /// What ids of patients begin with.
    pub prefix: SmolStr,
}

/// Every so many measurements blood pressure and temperature are taken too.
const SLOW_EVERY: u64 = 10;
/// Readings per measurement on average: heart rate, breath, saturation, and a tenth of three pressures and a temperature.
const PER_STEP: f64 = 3.4;

/// The records of a [`World`] whose first measurement is at `start`.
#[derive(Debug)]
pub struct Plan {
    world: World,
    start: Timestamp,
    people: Vec<Person>,
    step: u64,
    next: usize,
    ready: std::vec::IntoIter<Due>,
}

#[derive(Debug)]
struct Person {
    id: SmolStr,
    sensors: [SmolStr; 4],
    seq: [i64; 4],
    patient: Patient,
    held: Vec<Record>,
}

impl Plan {
    /// The plan of `world`. At speed 1 measured time is the wall's, from `now` on; at any other speed the measurements
    /// are a backlog whose last one is now.
    #[must_use]
    pub fn new(world: World, now: Timestamp) -> Self {
        let backlog = (world.speed != 1.0).then_some(world.length).flatten();
        let person = |index: usize| {
            let id = format_smolstr!("{}-{:04}", world.prefix, index + 1);
            let scenario = world
                .scenarios
                .get(index % world.scenarios.len().max(1))
                .copied()
                .unwrap_or(Scenario::Stable);
            Person {
                sensors: SENSORS.map(|end| format_smolstr!("{id}-{end}")),
                seq: [0; 4],
                patient: Patient::new(world.seed, index, scenario, world.onset),
                held: Vec::new(),
                id,
            }
        };
        Self {
            people: (0..world.patients.max(1)).map(person).collect(),
            start: now - backlog.unwrap_or(Span::ZERO),
            step: 0,
            next: 0,
            ready: Vec::new().into_iter(),
            world,
        }
    }

    /// Seconds between two measurements of one patient.
    fn interval(&self) -> f64 {
        PER_STEP * self.people.len() as f64 / self.world.rate.max(1e-6)
    }

    /// The next patient's measurement; `false` at the end.
    fn measure(&mut self) -> bool {
        let share = self.next as f64 / self.people.len() as f64;
        let t = (self.step as f64 + share) * self.interval();
        let over = self.world.length.is_some_and(|length| t > length.as_seconds());
        let slow = (self.step + self.next as u64).is_multiple_of(SLOW_EVERY);
        let epoch = self.start.0 / 1_000_000;
        let at = self.start + seconds(t);
        let after = seconds(t / self.world.speed.max(1e-9));
        let Some(person) = self.people.get_mut(self.next) else {
            return false;
        };
        let mut sent = std::mem::take(&mut person.held);
        if !over {
            sent.extend(person.said(t, slow, at, epoch));
            if person.patient.is_away(t) {
                person.held = std::mem::take(&mut sent);
            }
        }
        let due = sent.into_iter().map(|record| Due { after, record });
        self.ready = due.collect::<Vec<_>>().into_iter();
        self.next += 1;
        if self.next == self.people.len() {
            (self.next, self.step) = (0, self.step + 1);
        }
        // One more round after the end, in which everybody sends what was held back.
        !over || self.people.iter().any(|p| !p.held.is_empty()) || self.ready.len() > 0
    }
}

impl Person {
    fn said(&mut self, t: f64, slow: bool, at: Timestamp, epoch: i64) -> Vec<Record> {
        let said = self.patient.measure(t, slow);
        let mut records = Vec::with_capacity(said.len());
        for (sensor, body) in said {
            self.seq[sensor] += 1;
            records.push(Record {
                patient: self.id.clone(),
                sensor: self.sensors[sensor].clone(),
                at,
                seq: Some(self.seq[sensor]),
                epoch: Some(epoch),
                body,
            });
        }
        records
    }
}

impl Iterator for Plan {
    type Item = Due;

    fn next(&mut self) -> Option<Due> {
        loop {
            if let Some(due) = self.ready.next() {
                return Some(due);
            }
            if !self.measure() {
                return None;
            }
        }
    }
}

fn seconds(t: f64) -> Span {
    Span((t * 1e6).round() as i64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulate::record::Body;

    fn world(scenario: Scenario) -> World {
        World {
            patients: 4,
            scenarios: vec![scenario],
            rate: 13.6,
            speed: 1.0,
            length: Some(Span::minutes(10)),
            onset: 60.0,
            seed: 1,
            prefix: "sim".into(),
        }
    }

    const NOW: Timestamp = Timestamp::from_millis(1_767_600_000_000);

    #[test]
    fn the_rate_is_that_of_all_patients_together() {
        let all: Vec<Due> = Plan::new(world(Scenario::Stable), NOW).collect();
        let readings: usize = all.iter().map(|d| d.record.readings()).sum();
        let rate = readings as f64 / 600.0;
        assert!((13.0..14.3).contains(&rate), "{rate}");
        assert!(all.is_sorted_by_key(|d| d.after));
        let ids: std::collections::BTreeSet<_> = all.iter().map(|d| &d.record.patient).collect();
        assert_eq!(ids.len(), 4);
    }

    #[test]
    fn no_two_records_of_a_sensor_share_a_sequence_number() {
        let all: Vec<Due> = Plan::new(world(Scenario::Arrest), NOW).collect();
        let seqs: std::collections::BTreeSet<_> = all.iter().map(|d| (&d.record.sensor, d.record.seq)).collect();
        assert_eq!(seqs.len(), all.len());
    }

    #[test]
    fn at_speed_one_measured_time_is_the_walls_and_else_the_last_is_now() {
        let live: Vec<Due> = Plan::new(world(Scenario::Stable), NOW).collect();
        assert!(live.iter().all(|d| d.record.at - NOW == d.after));
        let backlog: Vec<Due> = Plan::new(
            World {
                speed: 60.0,
                ..world(Scenario::Stable)
            },
            NOW,
        )
        .collect();
        let last = backlog.last().unwrap();
        assert!(
            last.record.at <= NOW && last.record.at > NOW - Span::seconds(2),
            "{last:?}"
        );
        assert!(last.after <= Span::seconds(10) && last.after >= Span::seconds(9));
    }

    #[test]
    fn while_the_network_is_away_nothing_is_due_and_afterwards_everything() {
        let all: Vec<Due> = Plan::new(world(Scenario::NetworkAway), NOW).collect();
        let away = |d: &&Due| (70..230).contains(&(d.after.0 / 1_000_000));
        assert_eq!(all.iter().filter(away).count(), 0);
        let late = all
            .iter()
            .filter(|d| (NOW + d.after) - d.record.at > Span::seconds(30))
            .count();
        assert!(late > 100, "{late}");
        let stable = Plan::new(world(Scenario::Stable), NOW).count();
        assert_eq!(all.len(), stable, "nothing is lost");
    }

    #[test]
    fn a_scenario_may_be_given_to_each_patient() {
        let world = World {
            scenarios: vec![Scenario::Stable, Scenario::Arrest],
            ..world(Scenario::Stable)
        };
        let alarms: Vec<Due> = Plan::new(world, NOW)
            .filter(|d| matches!(d.record.body, Body::Alarm(_)))
            .collect();
        assert!(!alarms.is_empty());
        assert!(
            alarms
                .iter()
                .all(|d| d.record.patient == "sim-0002" || d.record.patient == "sim-0004")
        );
    }
}
