//! Why a command ended without success, as one sentence and an exit status.

use std::fmt;
use std::process::ExitCode;

/// Why a command ended without success.
#[derive(Debug)]
pub enum Failure {
    /// It was asked rightly and did not work, or a check found something: status 1.
    Failed(String),
    /// It was asked wrongly: status 2.
    WrongUse(String),
}

impl Failure {
    /// A failure of something that was tried: "`what`: `why`".
    pub fn because(what: impl fmt::Display, why: impl fmt::Display) -> Self {
        Self::Failed(format!("{what}: {why}"))
    }

    /// The exit status.
    #[must_use]
    pub fn status(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Failed(_) => 1,
            Self::WrongUse(_) => 2,
        })
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(text) | Self::WrongUse(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for Failure {}

impl From<crate::config::ConfigError> for Failure {
    fn from(error: crate::config::ConfigError) -> Self {
        Self::WrongUse(error.to_string())
    }
}
