//! What doors know of sensors: which are registered, whose each is at a moment, and how it is calibrated.
//!
//! Whose a sensor is stands in the patients' journals. A door that knows it from there puts what a sensor sends behind it,
//! so the patient's processors know it too; a door that is a moment late is found out by them.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{PoisonError, RwLock};

use eventlog::follow::Follows;
use schemas::alias::Aliases;
use schemas::assignment::{self, Owners};
use schemas::facts::{CommandIssued, CommandName};
use schemas::ids::{Key, PatientId, SensorId};
use schemas::journal::{Envelope, Fact};
use schemas::metric::Metric;
use schemas::time::Timestamp;
use smol_str::SmolStr;
use tokio::sync::watch;

/// Sensors, as this process knows them.
#[derive(Debug, Default)]
pub struct Roster {
    sensors: RwLock<HashMap<SensorId, File>>,
    /// Registrations that stand for the same person as another one.
    merged: RwLock<Aliases>,
    /// Whether anything is known of any sensor.
    begun: AtomicBool,
    changed: watch::Sender<()>,
}

/// What is known of one sensor.
#[derive(Debug, Default)]
struct File {
    revision: i32,
    registered: bool,
    owners: Owners,
    /// Commands to calibrate that are not answered yet, by id, each with when it was given.
    calibrating: Vec<(SmolStr, Metric, f64, Timestamp)>,
    /// What is added to values of a metric from a moment of measured time on.
    calibrated: Vec<(Timestamp, Metric, f64)>,
}

/// Whose something is that a sensor sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Whose {
    /// Nothing has been said of that moment.
    Unsaid,
    /// Somebody's no more, and nobody else's.
    Nobodys,
    /// This patient's.
    Of(PatientId),
}

/// A sensor at a moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Standing {
    /// Whether it is registered now.
    pub registered: bool,
    /// Whose it was then.
    pub whose: Whose,
    /// What its values of each calibrated metric were judged with then.
    pub offsets: Vec<(Metric, f64)>,
}

impl Standing {
    /// Of a sensor of which nothing is known.
    pub const UNKNOWN: Self = Self {
        registered: false,
        whose: Whose::Unsaid,
        offsets: Vec::new(),
    };
}

impl File {
    /// The newest calibration of each metric at a moment.
    fn offsets(&self, at: Timestamp) -> Vec<(Metric, f64)> {
        let mut offsets: Vec<(Metric, f64)> = Vec::new();
        // Sorted by moment: a later one takes the place of an earlier.
        for (_, metric, offset) in self.calibrated.iter().filter(|(from, ..)| *from <= at) {
            match offsets.iter_mut().find(|(known, _)| known == metric) {
                Some(known) => known.1 = *offset,
                None => offsets.push((*metric, *offset)),
            }
        }
        offsets
    }

    /// A calibration was asked for; where its answer is known already it holds at once.
    fn calibrate(&mut self, id: &SmolStr, metric: Metric, offset: f64, given: Timestamp) {
        if self.calibrating.iter().all(|(known, ..)| known != id) {
            self.calibrating.push((id.clone(), metric, offset, given));
        }
    }

    /// A command was answered: the first answer to a calibration counts. Whatever the sensor's clock says, it did nothing
    /// before it was told.
    fn answered(&mut self, id: &SmolStr, confirmed: bool, at: Timestamp) {
        if let Some(place) = self.calibrating.iter().position(|(known, ..)| known == id) {
            let (_, metric, offset, given) = self.calibrating.remove(place);
            if confirmed {
                let at = at.max(given);
                let place = self.calibrated.partition_point(|(from, ..)| *from <= at);
                self.calibrated.insert(place, (at, metric, offset));
            }
        }
    }
}

impl Roster {
    /// What is known of a sensor at a moment of measured time.
    #[must_use]
    pub fn look(&self, sensor: &SensorId, at: Timestamp) -> Standing {
        if !self.begun.load(Ordering::Relaxed) {
            return Standing::UNKNOWN;
        }
        let sensors = self.sensors.read().unwrap_or_else(PoisonError::into_inner);
        sensors.get(sensor).map_or(Standing::UNKNOWN, |file| Standing {
            registered: file.registered,
            whose: match file.owners.at(at) {
                assignment::Whose::Unsaid => Whose::Unsaid,
                assignment::Whose::Nobodys => Whose::Nobodys,
                assignment::Whose::Of(patient) => Whose::Of(patient.clone()),
            },
            offsets: file.offsets(at),
        })
    }

    /// The registration that stands for a person.
    #[must_use]
    pub fn person(&self, patient: PatientId) -> PatientId {
        if !self.begun.load(Ordering::Relaxed) {
            return patient;
        }
        self.merged
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .person(&patient)
    }

    /// A registration is of the same person as another one, or (`None`) is not any more.
    pub fn merged(&self, patient: &PatientId, into: Option<PatientId>) {
        let mut merged = self.merged.write().unwrap_or_else(PoisonError::into_inner);
        merged.merge(patient, into);
        drop(merged);
        self.begun.store(true, Ordering::Relaxed);
        self.changed.send_replace(());
    }

    /// A sensor's registration as of a revision; an earlier one than is known is no news.
    pub fn registered(&self, sensor: &SensorId, revision: i32, ended: bool) {
        self.change(sensor, |file| {
            if revision >= file.revision {
                (file.revision, file.registered) = (revision, !ended);
            }
        });
    }

    /// What stands about a sensor in a patient's journal.
    pub fn told(&self, key: &Key, fact: &Fact) {
        if let Some(sensor) = assignment::moved(fact) {
            self.change(sensor, |file| {
                file.owners.fact(key, fact);
            });
        }
    }

    /// A sensor was given a command, at a moment by our clock.
    pub fn calibrating(&self, sensor: &SensorId, it: &CommandIssued, given: Timestamp) {
        if let (CommandName::Calibrate, Some(metric), Some(offset)) = (it.name, it.metric, it.offset) {
            self.change(sensor, |file| file.calibrate(&it.command_id, metric, offset, given));
        }
    }

    /// A sensor answered a command, at a moment of measured time.
    pub fn answered(&self, sensor: &SensorId, command: &SmolStr, confirmed: bool, at: Timestamp) {
        let sensors = self.sensors.read().unwrap_or_else(PoisonError::into_inner);
        let calibrating = sensors.get(sensor).is_some_and(|file| !file.calibrating.is_empty());
        drop(sensors);
        if calibrating {
            self.change(sensor, |file| file.answered(command, confirmed, at));
        }
    }

    /// Waits until what was decided about a sensor at a place in its journal is known here.
    pub async fn knows_assignment(&self, sensor: &SensorId, order: i64) {
        self.knows(|roster| roster.is(sensor, |file| file.owners.order() >= order))
            .await;
    }

    /// Waits until a sensor's registration is known here as of a revision.
    pub async fn knows_registration(&self, sensor: &SensorId, revision: i32) {
        self.knows(|roster| roster.is(sensor, |file| file.revision >= revision))
            .await;
    }

    /// Waits until it is known here what a registration was merged into.
    pub async fn knows_merged(&self, patient: &PatientId, into: Option<&PatientId>) {
        self.knows(|roster| {
            let merged = roster.merged.read().unwrap_or_else(PoisonError::into_inner);
            merged.merged_into(patient) == into
        })
        .await;
    }

    /// Whether something holds of a sensor.
    fn is(&self, sensor: &SensorId, known: impl Fn(&File) -> bool) -> bool {
        let sensors = self.sensors.read().unwrap_or_else(PoisonError::into_inner);
        sensors.get(sensor).is_some_and(known)
    }

    async fn knows(&self, known: impl Fn(&Self) -> bool) {
        let mut changed = self.changed.subscribe();
        loop {
            changed.mark_unchanged();
            // The sender is this roster's own.
            if known(self) || changed.changed().await.is_err() {
                return;
            }
        }
    }

    fn change(&self, sensor: &SensorId, change: impl FnOnce(&mut File)) {
        let mut sensors = self.sensors.write().unwrap_or_else(PoisonError::into_inner);
        match sensors.get_mut(sensor) {
            Some(file) => change(file),
            None => change(sensors.entry(sensor.clone()).or_default()),
        }
        drop(sensors);
        self.begun.store(true, Ordering::Relaxed);
        self.changed.send_replace(());
    }
}

impl Follows for Roster {
    fn kinds(&self) -> &'static [&'static str] {
        &[
            "SensorRecorded",
            "SensorAttached",
            "SensorDetached",
            "CommandIssued",
            "CommandAnswered",
            "PatientMerged",
        ]
    }

    fn fact(&self, envelope: &Envelope) {
        match (&envelope.key, &envelope.fact) {
            (Key::Sensor(sensor), Fact::SensorRecorded(it)) => self.registered(sensor, it.revision, it.ended),
            (Key::Sensor(sensor), Fact::CommandIssued(it)) => {
                self.calibrating(sensor, it, envelope.measured_at);
            }
            (Key::Sensor(sensor), Fact::CommandAnswered(it)) => {
                self.answered(sensor, &it.command_id, it.confirmed, envelope.measured_at);
            }
            (Key::Patient(patient), Fact::PatientMerged(it)) => self.merged(patient, it.into.clone()),
            (key, fact) => self.told(key, fact),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use schemas::facts::{SensorAttached, SensorDetached};

    use super::*;

    fn attached(patient: &str, from: i64, order: i64) -> (Key, Fact) {
        let fact = SensorAttached {
            sensor_id: SensorId::new("s").unwrap(),
            from: Timestamp(from),
            until: None,
            order,
            expected_every: None,
            zone: None,
        };
        (
            Key::Patient(PatientId::new(patient).unwrap()),
            Fact::SensorAttached(fact),
        )
    }

    fn told(roster: &Roster, (key, fact): (Key, Fact)) {
        roster.told(&key, &fact);
    }

    #[tokio::test]
    async fn a_sensor_is_looked_up_at_the_moment_it_measured() {
        let roster = Arc::new(Roster::default());
        let sensor = SensorId::new("s").unwrap();
        let whose = |at| roster.look(&sensor, Timestamp(at)).whose;
        assert_eq!(whose(0), Whose::Unsaid);
        told(&roster, attached("b", 20, 2));
        told(&roster, attached("a", 10, 1));
        let of = |id| Whose::Of(PatientId::new(id).unwrap());
        assert_eq!([9, 10, 19, 20].map(whose), [Whose::Unsaid, of("a"), of("a"), of("b")]);
        let gone = SensorDetached {
            sensor_id: sensor.clone(),
            from: Timestamp(30),
            until: None,
            order: 3,
        };
        let waiting = tokio::spawn({
            let (roster, sensor) = (Arc::clone(&roster), sensor.clone());
            async move { roster.knows_assignment(&sensor, 3).await }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        told(
            &roster,
            (Key::Patient(PatientId::new("b").unwrap()), Fact::SensorDetached(gone)),
        );
        waiting.await.unwrap();
        assert_eq!(whose(30), Whose::Nobodys);
    }

    #[test]
    fn a_registration_that_has_ended_is_none() {
        let roster = Roster::default();
        let sensor = SensorId::new("s").unwrap();
        let registered = || roster.look(&sensor, Timestamp(0)).registered;
        for (revision, ended, then) in [(1, false, true), (3, true, false), (2, false, false), (4, false, true)] {
            roster.registered(&sensor, revision, ended);
            assert_eq!(registered(), then, "revision {revision}");
        }
    }

    #[test]
    fn a_calibration_holds_from_its_first_answer_on_and_never_before() {
        let roster = Roster::default();
        let sensor = SensorId::new("s").unwrap();
        let issued = |id: &str, offset| CommandIssued {
            command_id: id.into(),
            name: CommandName::Calibrate,
            metric: Some(Metric::Spo2),
            offset: Some(offset),
            every: None,
            expires_at: Timestamp(1_000),
            by: "x".into(),
        };
        let offsets = |at| roster.look(&sensor, Timestamp(at)).offsets;
        roster.calibrating(&sensor, &issued("one", 1.5), Timestamp(90));
        assert_eq!(offsets(500), []);
        roster.answered(&sensor, &"one".into(), true, Timestamp(100));
        roster.answered(&sensor, &"one".into(), true, Timestamp(50));
        roster.calibrating(&sensor, &issued("two", -2.0), Timestamp(190));
        roster.answered(&sensor, &"two".into(), false, Timestamp(200));
        assert_eq!(
            (offsets(99), offsets(100), offsets(300)),
            (vec![], vec![(Metric::Spo2, 1.5)], vec![(Metric::Spo2, 1.5)])
        );
        // By a clock that is wrong, or said of a moment before it was told.
        roster.calibrating(&sensor, &issued("three", 0.5), Timestamp(300));
        roster.answered(&sensor, &"three".into(), true, Timestamp(20));
        assert_eq!(
            (offsets(299), offsets(300)),
            (vec![(Metric::Spo2, 1.5)], vec![(Metric::Spo2, 0.5)])
        );
    }
}
