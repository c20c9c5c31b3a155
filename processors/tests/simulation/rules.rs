//! The rules that keep everything true, each of which can be taken out to show that some seed needs it.

use std::cell::Cell;

use eventlog::model;
use processors::engine::rules as engine;

thread_local! {
    static OUT: Cell<Option<Rule>> = const { Cell::new(None) };
}

/// A rule of DESIGN §3 and §4.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rule {
    /// Checkpoints of different writers do not overwrite each other.
    WriterInKey,
    /// Restore takes the greatest applied offset, not what was written last.
    GreatestApplied,
    /// Outputs are durable before states.
    OutputsFirst,
    /// States are durable before the position.
    StatesFirst,
    /// One owner's outputs reach the log in origin order.
    InOrder,
    /// A reader accepts only a greater origin.
    StrictReader,
    /// A new version speaks only when the one before it has said everything up to its activation.
    SuccessorWaits,
    /// What a version that is gone had still to say is said by the next one.
    NothingUnsaid,
    /// A rule that a task keeps.
    Task(engine::Rule),
}

impl Rule {
    /// All of them.
    pub(crate) fn all() -> Vec<Self> {
        let mut all = vec![
            Self::WriterInKey,
            Self::GreatestApplied,
            Self::OutputsFirst,
            Self::StatesFirst,
            Self::InOrder,
            Self::StrictReader,
            Self::SuccessorWaits,
            Self::NothingUnsaid,
        ];
        all.extend(engine::Rule::ALL.into_iter().map(Self::Task));
        all
    }

    /// Whether it is taken out now, in this thread.
    pub(crate) fn is_out(self) -> bool {
        OUT.get() == Some(self)
    }
}

/// Takes a rule out of everything that runs in this thread from here on; `None` puts all in place.
pub(crate) fn take_out(rule: Option<Rule>) {
    OUT.set(rule);
    engine::take_out(match rule {
        Some(Rule::Task(rule)) => Some(rule),
        _ => None,
    });
}

/// What is left of the rules that the model of the log keeps.
pub(crate) fn of_the_log() -> model::Rules {
    model::Rules {
        writer_in_key: !Rule::WriterInKey.is_out(),
        greatest_applied: !Rule::GreatestApplied.is_out(),
        outputs_first: !Rule::OutputsFirst.is_out(),
        states_first: !Rule::StatesFirst.is_out(),
        in_order: !Rule::InOrder.is_out(),
        ..model::Rules::default()
    }
}
