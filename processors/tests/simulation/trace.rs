//! What happened in a run, as a hash that two runs of one seed share, and as text when somebody looks.

use std::hash::{DefaultHasher, Hash, Hasher};

/// The story of one run.
#[derive(Debug, Default)]
pub(crate) struct Trace {
    hasher: DefaultHasher,
    aloud: bool,
}

impl Trace {
    /// A story that is printed as it happens where it is told `aloud`.
    pub(crate) fn new(aloud: bool) -> Self {
        Self {
            hasher: DefaultHasher::new(),
            aloud,
        }
    }

    /// Something happened: `what` tells it in hashes, `text` in words.
    pub(crate) fn note(&mut self, what: &impl Hash, text: impl FnOnce() -> String) {
        what.hash(&mut self.hasher);
        if self.aloud {
            println!("{}", text());
        }
    }

    /// The hash of everything so far.
    pub(crate) fn hash(&self) -> u64 {
        self.hasher.finish()
    }
}
