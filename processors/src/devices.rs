//! Sensors as they were last heard: written when one says something new about itself or is heard differently, and at
//! ticks, at most every 30 s, while it is heard.

use schemas::assignment;
use schemas::derived::Outcome;
use schemas::facts::{DeviceChanged, SensorState, Zone};
use schemas::ids::SensorId;
use schemas::journal::{Envelope, Fact};
use schemas::metric::Metric;
use schemas::time::{Span, Timestamp};
use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

use crate::engine::{Context, Deadlines, Input, Keys, Processor, Step, keys};
use crate::silence::{Silence, is_reattributed};

/// How often a sensor that is heard is written at most.
const EVERY: Span = Span::seconds(30);

/// The processor.
#[derive(Debug, Clone, Copy, Default)]
pub struct Devices;

/// One sensor of one patient, or of none.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Device {
    sensor_id: SensorId,
    silence: Silence,
    said: Said,
    /// When its newest status was measured.
    said_at: Timestamp,
    /// When its newest battery reading was measured.
    charged_at: Timestamp,
    written_at: Timestamp,
    /// Heard since it was written.
    heard: bool,
    /// Whether it was ever written: what is shown of it must be taken back when it is no longer so.
    shown: bool,
}

/// What it last said about itself.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
struct Said {
    state: Option<SensorState>,
    battery: Option<f64>,
    firmware: Option<SmolStr>,
    rssi: Option<f64>,
    lat: Option<f64>,
    lng: Option<f64>,
}

impl Processor for Devices {
    const NAME: &'static str = "devices";
    const VERSION: u16 = 3;
    const REPEATS: bool = true;
    type State = Option<Box<Device>>;

    fn keys(&self, fact: &Envelope, wake: &mut Keys) {
        if let Some(sensor) = concerned(fact) {
            wake.push(|out| {
                out.push_str("v/");
                keys::subject(out, &fact.key);
                out.push('/');
                out.push_str(sensor.as_str());
            });
        }
    }

    /// A repeat is a sign of life like any other, and saying something twice changes nothing.
    fn series(&self, _: &Envelope, _: &mut String) -> bool {
        false
    }

    fn step(&self, _: &str, state: Self::State, input: Input<'_>, ctx: &Context) -> Step<Self::State> {
        let (device, write) = match input {
            Input::Fact { recorded, zone, .. } => {
                let fact = &recorded.envelope;
                let Some(sensor) = concerned(fact) else {
                    return Step::quiet(state);
                };
                let mut device = state.unwrap_or_else(|| Box::new(Device::new(sensor, ctx.recorded_or(fact))));
                // Of one that never said anything there is nothing to write until it is missed.
                let write = match assignment::moved(&fact.fact) {
                    Some(_) => device.silence.tell(fact, zone, ctx) && device.shown,
                    None => device.hear(fact, zone, ctx) || !device.shown,
                };
                (device, write)
            }
            Input::Deadline => {
                let Some(mut device) = state else {
                    return Step::quiet(None);
                };
                let gone = device.silence.look(ctx);
                let due = device.heard && device.written_at + EVERY <= ctx.recorded;
                (device, gone || due)
            }
        };
        Self::written(device, write, input, ctx)
    }

    fn deadlines(&self, state: &Self::State) -> Deadlines {
        state.as_ref().map_or_else(Deadlines::default, |device| Deadlines {
            recorded: device.heard.then(|| device.written_at + EVERY),
            ingest: device.silence.deadline(),
        })
    }

    fn heap(&self, _: &Self::State) -> usize {
        size_of::<Device>() + 32
    }
}

/// The sensor that a fact says something about as it is now: what somebody has said later to be this patient's does not.
fn concerned(fact: &Envelope) -> Option<&SensorId> {
    let said = fact.fact.sensor().filter(|_| !is_reattributed(fact));
    said.or_else(|| assignment::moved(&fact.fact))
}

impl Devices {
    fn written(mut device: Box<Device>, write: bool, input: Input<'_>, ctx: &Context) -> Step<Option<Box<Device>>> {
        if !write {
            return Step::quiet(Some(device));
        }
        (device.heard, device.shown) = (false, true);
        device.written_at = match input {
            Input::Fact { recorded, .. } => ctx.recorded_or(&recorded.envelope),
            Input::Deadline => ctx.recorded,
        };
        Step {
            outcomes: vec![Outcome::Device(device.row())],
            state: Some(device),
        }
    }
}

impl Device {
    fn new(sensor: &SensorId, now: Timestamp) -> Self {
        Self {
            sensor_id: sensor.clone(),
            silence: Silence::new(now),
            said: Said::default(),
            said_at: Timestamp::MIN,
            charged_at: Timestamp::MIN,
            written_at: now,
            heard: false,
            shown: false,
        }
    }

    /// Whether what is known changed, beyond having been heard.
    fn hear(&mut self, fact: &Envelope, zone: Option<Zone>, ctx: &Context) -> bool {
        let changed = self.silence.hear(fact, zone, ctx);
        self.heard = true;
        let before = self.said.clone();
        match &fact.fact {
            Fact::SensorStatus(status) if fact.measured_at >= self.said_at => {
                self.said_at = fact.measured_at;
                self.said.state = Some(status.state);
                keep(&mut self.said.firmware, &status.firmware);
                keep(&mut self.said.rssi, &status.rssi);
                keep(&mut self.said.lat, &status.lat);
                keep(&mut self.said.lng, &status.lng);
                self.charge(status.battery, fact.measured_at);
            }
            Fact::Reading(reading) if reading.metric == Metric::Battery => {
                self.charge(Some(reading.value), fact.measured_at);
            }
            _ => {}
        }
        changed || self.said != before
    }

    fn charge(&mut self, battery: Option<f64>, measured_at: Timestamp) {
        if battery.is_some_and(f64::is_finite) && measured_at >= self.charged_at {
            self.charged_at = measured_at;
            self.said.battery = battery;
        }
    }

    fn row(&self) -> DeviceChanged {
        DeviceChanged {
            sensor_id: self.sensor_id.clone(),
            liveness: self.silence.liveness(),
            since: self.silence.since(),
            state: self.said.state,
            battery: self.said.battery,
            firmware: self.said.firmware.clone(),
            rssi: self.said.rssi,
            lat: self.said.lat,
            lng: self.said.lng,
            last_heard: self.silence.heard(),
            expected_every: self.silence.expected_every(),
        }
    }
}

/// A status that does not name something leaves it as it was.
fn keep<T: Clone>(known: &mut Option<T>, said: &Option<T>) {
    if said.is_some() {
        known.clone_from(said);
    }
}

#[cfg(test)]
mod tests {
    use schemas::facts::{Liveness, TickedBy};

    use super::*;
    use crate::testing::{Journal, START, conclusions, decode};

    fn told(journal: &Journal) -> Vec<(i64, Liveness, Option<f64>)> {
        let row = |output| {
            let derived = decode(output);
            match derived.outcome {
                Outcome::Device(row) => ((derived.recorded_at - START).0 / 1_000_000, row.liveness, row.battery),
                other => panic!("{other:?}"),
            }
        };
        conclusions(&crate::all()[2], &journal.records)
            .iter()
            .map(row)
            .collect()
    }

    use Liveness::{Offline, Online, Unknown};

    #[test]
    fn a_sensor_without_a_promise_is_written_every_thirty_seconds_and_never_offline() {
        let mut journal = Journal::start();
        for second in 0..65 {
            journal
                .reading("p", "s", Metric::Spo2, Span::seconds(second), 97.0)
                .tick(Span::seconds(second));
        }
        journal.ticks(65, 400);
        let n = |at| (at, Unknown, None);
        assert_eq!(told(&journal), [n(0), n(30), n(60), n(90)]);
    }

    #[test]
    fn a_sensor_that_promised_is_offline_after_three_times_its_rhythm_and_back_when_heard() {
        let mut journal = Journal::start();
        journal
            .status("p", "s", Span::seconds(0), SensorState::Active, Some(80.0))
            .ticks(1, 95);
        journal.status("p", "s", Span::seconds(95), SensorState::Active, Some(79.0));
        assert_eq!(
            told(&journal),
            [
                (0, Online, Some(80.0)),
                (90, Offline, Some(80.0)),
                (95, Online, Some(79.0))
            ]
        );
    }

    #[test]
    fn silence_is_not_counted_while_all_doors_are_down() {
        let mut journal = Journal::start();
        journal
            .status("p", "s", Span::seconds(0), SensorState::Active, None)
            .ticks(1, 60);
        for second in 61..600 {
            journal.ticked(Span::seconds(second), TickedBy::Process);
        }
        journal.ticks(600, 689);
        assert_eq!(told(&journal), [(0, Online, None)]);
        journal.ticks(690, 690);
        assert_eq!(told(&journal), [(0, Online, None), (690, Offline, None)]);
    }

    #[test]
    fn what_a_sensor_says_is_told_at_once_and_an_older_status_never_overwrites_a_newer_one() {
        let mut journal = Journal::start();
        journal.status("sensor:s", "s", Span::seconds(10), SensorState::Active, Some(50.0));
        journal.status("sensor:s", "s", Span::seconds(10), SensorState::Active, Some(50.0));
        journal.status("sensor:s", "s", Span::seconds(5), SensorState::Fault, Some(90.0));
        journal.reading("sensor:s", "s", Metric::Battery, Span::seconds(11), 49.0);
        journal.status("sensor:s", "s", Span::seconds(12), SensorState::Inactive, None);
        let n = |battery| (0, Online, Some(battery));
        assert_eq!(told(&journal), [n(50.0), n(49.0), n(49.0)]);
    }

    #[test]
    fn what_was_said_later_to_be_the_patients_is_no_sign_of_life() {
        let mut journal = Journal::start();
        journal
            .status("p", "s", Span::ZERO, SensorState::Active, Some(50.0))
            .ticks(1, 95);
        for (patient, metric) in [("p", Metric::Spo2), ("p", Metric::Battery), ("q", Metric::Spo2)] {
            journal
                .reading(patient, "s", metric, Span::seconds(5), 7.0)
                .reattributed();
        }
        journal.ticks(96, 300);
        assert_eq!(
            told(&journal),
            [(0, Online, Some(50.0)), (90, Offline, Some(50.0))],
            "it is still missed, and nobody saw it with q"
        );
    }

    #[test]
    fn a_sensor_that_was_missed_before_it_ever_spoke_is_missed_no_more_when_it_is_taken_off() {
        let mut journal = Journal::start();
        journal
            .attached("p", "s", Span::ZERO, Some(Span::seconds(10)))
            .ticks(1, 40)
            .detached("p", "s", Span::seconds(40))
            .ticks(41, 100);
        assert_eq!(told(&journal), [(30, Offline, None), (40, Unknown, None)]);
        // One of which nothing was ever shown is not shown for being taken off.
        let mut journal = Journal::start();
        journal
            .attached("p", "s", Span::ZERO, Some(Span::seconds(10)))
            .ticks(1, 9)
            .detached("p", "s", Span::seconds(9))
            .ticks(10, 100);
        assert_eq!(told(&journal), []);
    }

    #[test]
    fn what_a_sensor_says_first_under_a_patient_is_told_at_once() {
        let mut journal = Journal::start();
        journal.attached("p", "s", Span::ZERO, None).ticks(1, 5);
        journal.reading("p", "s", Metric::Spo2, Span::seconds(5), 97.0);
        assert_eq!(told(&journal), [(5, Unknown, None)]);
    }
}
