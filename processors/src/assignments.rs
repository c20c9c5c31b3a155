//! Who wears which sensor when: what is said in a sensor's journal, as changes that the patients' journals are told of.
//!
//! A change holds for a stretch of measured time, until the next moment that something was said of. Patients' journals
//! are told before the change is written here (`Kind::told`): a change that is there has been told.

use schemas::assignment::{Stretch, Timeline};
use schemas::derived::Outcome;
use schemas::facts::{AssignmentChanged, Zone};
use schemas::ids::{Key, SensorId};
use schemas::journal::{Envelope, Fact};
use schemas::time::Span;
use serde::{Deserialize, Serialize};

use crate::engine::{Context, Deadlines, Input, Keys, Processor, Step, keys};

/// The processor.
#[derive(Debug, Clone, Copy, Default)]
pub struct Assignments;

/// What is said of one sensor.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Said {
    worn: Timeline,
    /// How often it is expected, as it is registered.
    expected_every: Option<Span>,
    /// Where it stands.
    zone: Option<Zone>,
}

impl Processor for Assignments {
    const NAME: &'static str = "assignments";
    const VERSION: u16 = 1;
    const URGENT: bool = true;
    type State = Said;

    fn keys(&self, fact: &Envelope, wake: &mut Keys) {
        if let (Key::Sensor(_), Fact::SensorAssigned(_) | Fact::SensorRecorded(_)) = (&fact.key, &fact.fact) {
            wake.push(|out| {
                out.push_str("w/");
                keys::subject(out, &fact.key);
            });
        }
    }

    /// Saying something twice changes nothing.
    fn series(&self, _: &Envelope, _: &mut String) -> bool {
        false
    }

    fn step(&self, _: &str, mut state: Said, input: Input<'_>, ctx: &Context) -> Step<Said> {
        let Input::Fact { recorded, .. } = input else {
            return Step::quiet(state);
        };
        let Key::Sensor(sensor) = &recorded.envelope.key else {
            return Step::quiet(state);
        };
        let stretch = match &recorded.envelope.fact {
            Fact::SensorAssigned(it) => Some(state.worn.put(it.from, it.patient.clone())),
            Fact::SensorRecorded(it) => {
                let expected_every = it.sensor.expected_every.filter(|_| !it.ended);
                let zone = it.sensor.zone.filter(|_| !it.ended);
                let changed = (state.expected_every, state.zone) != (expected_every, zone);
                (state.expected_every, state.zone) = (expected_every, zone);
                let worn = state.worn.last().filter(|_| changed);
                worn.and_then(|(from, patient)| {
                    patient.map(|patient| Stretch {
                        from: from.max(ctx.recorded_or(&recorded.envelope)),
                        until: None,
                        before: Some(patient.clone()),
                        after: Some(patient.clone()),
                    })
                })
            }
            _ => None,
        };
        let outcomes = stretch
            .map(|stretch| state.change(sensor, stretch))
            .into_iter()
            .collect();
        Step { state, outcomes }
    }

    fn deadlines(&self, _: &Said) -> Deadlines {
        Deadlines::default()
    }

    fn heap(&self, state: &Said) -> usize {
        state.worn.heap()
    }
}

impl Said {
    fn change(&self, sensor: &SensorId, stretch: Stretch) -> Outcome {
        Outcome::Assignment(AssignmentChanged {
            sensor_id: sensor.clone(),
            from: stretch.from,
            until: stretch.until,
            before: stretch.before,
            after: stretch.after,
            expected_every: self.expected_every,
            zone: self.zone,
        })
    }
}

#[cfg(test)]
mod tests {
    use schemas::assignment;
    use schemas::facts::{Sensor, SensorAssigned, SensorRecorded};
    use schemas::ids::PatientId;

    use super::*;
    use crate::testing::{Journal, START, conclusions, decode, sensor_id};

    fn assign(journal: &mut Journal, from: i64, patient: &str) {
        let said = SensorAssigned {
            patient: PatientId::new(patient).ok(),
            from: START + Span::seconds(from),
            by: "clerk".into(),
        };
        journal.server(Key::Sensor(sensor_id("s")), Fact::SensorAssigned(said));
    }

    fn register(journal: &mut Journal, revision: i32, expected_every: Option<i64>) {
        let said = SensorRecorded {
            revision,
            ended: false,
            sensor: Sensor {
                expected_every: expected_every.map(Span::seconds),
                ..Default::default()
            },
            by: "clerk".into(),
        };
        journal.server(Key::Sensor(sensor_id("s")), Fact::SensorRecorded(said));
    }

    /// What patients' journals are told: `patient +from-until every` or `patient -from-until`, in seconds.
    fn told(journal: &Journal) -> Vec<String> {
        let seconds = |at: schemas::time::Timestamp| (at - START).0 / 1_000_000;
        let kind = crate::all()[4];
        assert_eq!(kind.name, Assignments::NAME);
        let told = conclusions(&kind, &journal.records);
        let envelopes = told.iter().flat_map(|output| assignment::told(&decode(output)));
        envelopes
            .map(|envelope| match envelope.fact {
                Fact::SensorAttached(it) => format!(
                    "{} +{}-{} {}",
                    envelope.key.text(),
                    seconds(it.from),
                    it.until.map_or(String::new(), |until| seconds(until).to_string()),
                    it.expected_every.map_or(0, |every| every.0 / 1_000_000),
                ),
                Fact::SensorDetached(it) => format!(
                    "{} -{}-{}",
                    envelope.key.text(),
                    seconds(it.from),
                    it.until.map_or(String::new(), |until| seconds(until).to_string()),
                ),
                other => panic!("{other:?}"),
            })
            .collect()
    }

    #[test]
    fn each_patient_is_told_the_stretch_that_changes() {
        let mut journal = Journal::start();
        register(&mut journal, 1, Some(60));
        assign(&mut journal, -100, "a");
        assign(&mut journal, -10, "b");
        assign(&mut journal, -50, "c");
        assign(&mut journal, -10, "");
        assign(&mut journal, -10, "");
        assert_eq!(
            told(&journal),
            [
                "a +-100- 60",
                "a --10-",
                "b +-10- 60",
                "a --50--10",
                "c +-50--10 60",
                "b --10-",
            ]
        );
    }

    #[test]
    fn who_wears_a_sensor_is_told_when_it_is_registered_with_another_rhythm() {
        let mut journal = Journal::start();
        assign(&mut journal, -10, "a");
        journal.tick(Span::seconds(5));
        register(&mut journal, 1, Some(60));
        register(&mut journal, 2, Some(60));
        register(&mut journal, 3, None);
        assert_eq!(told(&journal), ["a +-10- 0", "a +5- 60", "a +5- 0"]);
    }
}
