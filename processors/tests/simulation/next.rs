//! A next version of each processor: the same logic, conclusions that can be told apart.

use processors::engine::{Context, Deadlines, Input, Keys, Processor, Step};
use schemas::derived::Outcome;
use schemas::journal::Envelope;
use schemas::time::Span;

/// The next version of `P`.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Next<P>(P);

impl<P: Processor> Processor for Next<P> {
    const NAME: &'static str = P::NAME;
    const VERSION: u16 = P::VERSION + 1;
    const URGENT: bool = P::URGENT;
    const REPEATS: bool = P::REPEATS;
    const RHYTHM: bool = P::RHYTHM;
    const BUCKETS: &'static [(char, Span)] = P::BUCKETS;
    type State = P::State;

    fn keys(&self, fact: &Envelope, wake: &mut Keys) {
        self.0.keys(fact, wake);
    }

    fn series(&self, fact: &Envelope, out: &mut String) -> bool {
        self.0.series(fact, out)
    }

    fn step(&self, key: &str, state: Self::State, input: Input<'_>, ctx: &Context) -> Step<Self::State> {
        let mut step = self.0.step(key, state, input, ctx);
        step.outcomes.iter_mut().for_each(mark);
        step
    }

    fn deadlines(&self, state: &Self::State) -> Deadlines {
        self.0.deadlines(state)
    }

    fn heap(&self, state: &Self::State) -> usize {
        self.0.heap(state)
    }
}

/// What the next version says differently.
pub(crate) fn mark(outcome: &mut Outcome) {
    match outcome {
        Outcome::Window(window) => window.sd += 1_000.0,
        Outcome::Alert(alert) => alert.message = format!("{} (2)", alert.message).into(),
        Outcome::Consultation(part) => part.revision += 1_000,
        Outcome::Assignment(change) => change.until = None,
        Outcome::Device(device) => device.rssi = Some(device.rssi.unwrap_or(0.0) - 1_000.0),
    }
}
