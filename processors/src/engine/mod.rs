//! What turns journal records into conclusions: pure, sans-io, the same for the runner, the simulation and the audit.
//!
//! Reading order: [`processor`] (what a processor is), [`context`] (what a whole partition goes by), [`seen`] (which
//! facts are repeats), [`task`] (one processor on one partition), [`replay`] (the same again, to rebuild or to verify).

pub mod context;
mod deadlines;
pub mod erased;
pub mod keys;
pub mod processor;
pub mod replay;
pub mod rules;
pub mod seen;
mod store;
pub mod task;

pub use context::Context;
pub use keys::Keys;
pub use processor::{Deadlines, Input, Novelty, Processor, Step};
pub use task::{Decided, Place, Stop, Task};

#[cfg(test)]
mod tests;
