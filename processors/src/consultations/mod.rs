//! Consultations: what was measured of the patient from the opening to the closing, revised as late data comes in.
//!
//! A reading wakes the state of its (patient, hour), which knows the consultations that touch the hour: an opening wakes
//! every hour that it may come to touch, a closing the same ones. So a state holds one hour however long a consultation
//! lasts, states are dropped one day after lateness as those of windows are, and a patient without a consultation costs
//! no more than looking that up. A part is written at ticks, at most every 2 s while it changes.
//!
//! What counts: numbers measured from the opening on and before the closing, recorded after the opening (a reading of
//! a clock that is ahead of ours may be recorded before it: it is not counted), at most 12 h after the opening, and
//! younger than lateness when recorded. The charge of a battery is no data about the patient.
//!
//! Dedupe memory is the engine's [`Segment`](crate::engine::seen::Segment), inside the state: the engine's own would have
//! to remember every reading of every patient for the few who are in a consultation.

mod part;

use schemas::consultation::{self, PART};
use schemas::derived::Outcome;
use schemas::facts::Reading;
use schemas::ids::Key;
use schemas::journal::{Envelope, Fact};
use schemas::time::{Span, Timestamp};
use serde::{Deserialize, Serialize};

use crate::engine::{Context, Deadlines, Input, Keys, Processor, Step, keys};
use part::Part;

/// The one kind of key: an hour of a patient.
const HOUR: (char, Span) = ('c', PART);

/// The processor.
#[derive(Debug, Clone, Copy, Default)]
pub struct Consultations;

/// The consultations that touch one hour of a patient.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct State {
    /// In the order in which they were opened.
    parts: Vec<Part>,
}

fn counted(fact: &Envelope) -> Option<&Reading> {
    match (&fact.key, &fact.fact) {
        (Key::Patient(_), Fact::Reading(reading))
            if consultation::counts(reading.metric) && reading.value.is_finite() =>
        {
            Some(reading)
        }
        _ => None,
    }
}

fn key(fact: &Envelope, at: Timestamp, wake: &mut Keys) {
    wake.push(|out| {
        keys::bucket(out, HOUR.0, at, HOUR.1);
        out.push('/');
        keys::subject(out, &fact.key);
    });
}

impl Processor for Consultations {
    const NAME: &'static str = "consultations";
    const VERSION: u16 = 2;
    const RHYTHM: bool = true;
    const PASSES: bool = true;
    const BUCKETS: &'static [(char, Span)] = &[HOUR];
    type State = State;

    fn keys(&self, fact: &Envelope, wake: &mut Keys) {
        let opened_at = match (&fact.key, &fact.fact) {
            (Key::Patient(_), Fact::ConsultationOpened(_)) => fact.measured_at,
            (Key::Patient(_), Fact::ConsultationClosed(closed)) => closed.opened_at,
            _ => {
                if counted(fact).is_some() {
                    key(fact, fact.measured_at, wake);
                }
                return;
            }
        };
        for start in consultation::parts(opened_at) {
            key(fact, start, wake);
        }
    }

    /// Whether a reading repeats is known inside the state; the second opening or closing changes nothing.
    fn series(&self, _: &Envelope, _: &mut String) -> bool {
        false
    }

    fn concerns(&self, state: &State, fact: &Envelope, ctx: &Context) -> bool {
        counted(fact).is_none()
            || (state.parts.iter().any(|part| part.takes(fact.measured_at)) && !ctx.is_old(fact.measured_at))
    }

    fn step(&self, key: &str, mut state: State, input: Input<'_>, ctx: &Context) -> Step<State> {
        let Input::Fact {
            recorded,
            expected_every,
            zone,
            ..
        } = input
        else {
            let written = state.parts.iter_mut().filter_map(|part| part.write(ctx));
            let outcomes = written.map(Outcome::Consultation).collect();
            return Step { state, outcomes };
        };
        let fact = &recorded.envelope;
        match &fact.fact {
            Fact::ConsultationOpened(opened) if state.parts.iter().all(|part| part.id != opened.consultation_id) => {
                let hour = consultation::parts(fact.measured_at).find(|start| is_key_of(key, *start));
                if let Some(start) = hour {
                    state.parts.reserve_exact(1);
                    state
                        .parts
                        .push(Part::new(opened.consultation_id.clone(), start, fact.measured_at));
                }
            }
            Fact::ConsultationClosed(closed) => {
                for part in state.parts.iter_mut().filter(|part| part.id == closed.consultation_id) {
                    part.close(fact.measured_at, ctx);
                }
            }
            _ if ctx.is_old(fact.measured_at) => {}
            _ => {
                if let Some(reading) = counted(fact) {
                    for part in state.parts.iter_mut().filter(|part| part.takes(fact.measured_at)) {
                        part.fold(recorded, reading, (expected_every, zone), ctx);
                    }
                }
            }
        }
        Step::quiet(state)
    }

    fn deadlines(&self, state: &State) -> Deadlines {
        Deadlines {
            recorded: state.parts.iter().filter_map(Part::deadline).min(),
            ingest: None,
        }
    }

    fn heap(&self, state: &State) -> usize {
        state.parts.iter().map(Part::heap).sum()
    }
}

/// Whether a state key is that of the hour that begins then.
fn is_key_of(key: &str, start: Timestamp) -> bool {
    let mut hour = String::with_capacity(11);
    keys::bucket(&mut hour, HOUR.0, start, HOUR.1);
    keys::bucket_of(key) == Some(hour.as_str())
}

#[cfg(test)]
mod tests;
