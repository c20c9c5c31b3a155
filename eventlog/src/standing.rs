//! Whether a log is the one to go on with, or another is.
//!
//! A journal that is carried elsewhere stays the same journal: its incarnation, its offsets and its bytes go with it. So
//! of all places that hold it one serves, and the others say that they do not.

use std::fmt;

use crate::LogError;

/// Where a log stands among those that hold the same journal.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Standing {
    /// This is the one to go on with.
    #[default]
    Serving,
    /// It is being carried here, and is not whole yet.
    Arriving {
        /// From where.
        from: String,
    },
    /// It went on elsewhere: here it can be read and verified.
    Left {
        /// To where.
        to: String,
    },
    /// It goes on elsewhere: this is a copy to be read and verified.
    Copy {
        /// Of what.
        of: String,
    },
}

impl Standing {
    /// Whether anything may be appended or concluded here.
    ///
    /// # Errors
    /// [`LogError::Elsewhere`] with what to do.
    pub fn check_serving(&self) -> Result<(), LogError> {
        match self {
            Self::Serving => Ok(()),
            Self::Arriving { .. } => self.check_whole(),
            Self::Left { to } => Err(LogError::Elsewhere(format!(
                "it was moved to {to}: go on there (to serve here again, without what was recorded there: fajma migrate \
                 --take-back)"
            ))),
            Self::Copy { of } => Err(LogError::Elsewhere(format!(
                "it is a copy of {of}, to be read and verified: go on there (where that is lost, to serve here: fajma \
                 migrate --take-back)"
            ))),
        }
    }

    /// Whether all of it is here.
    ///
    /// # Errors
    /// [`LogError::Elsewhere`] with what to do.
    pub fn check_whole(&self) -> Result<(), LogError> {
        match self {
            Self::Arriving { from } => Err(LogError::Elsewhere(format!(
                "a move from {from} has not brought all of it here: run the same fajma migrate again, or go on there"
            ))),
            _ => Ok(()),
        }
    }

    /// Reads what [`Display`](fmt::Display) wrote.
    ///
    /// # Errors
    /// [`LogError::Corrupt`]: nobody may go on from what is not understood.
    pub fn parse(text: &str) -> Result<Self, LogError> {
        let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
        let place = rest.to_owned();
        match word {
            "serving" if rest.is_empty() => Ok(Self::Serving),
            "arriving" => Ok(Self::Arriving { from: place }),
            "left" => Ok(Self::Left { to: place }),
            "copy" => Ok(Self::Copy { of: place }),
            _ => Err(LogError::Corrupt(format!("{text:?} does not say where the log stands"))),
        }
    }
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Serving => f.write_str("serving"),
            Self::Arriving { from } => write!(f, "arriving {from}"),
            Self::Left { to } => write!(f, "left {to}"),
            Self::Copy { of } => write!(f, "copy {of}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_reads_back_and_only_one_kind_serves() {
        let place = || "kafka://a:1,b:2/ward one".to_owned();
        for (standing, serves, whole) in [
            (Standing::Serving, true, true),
            (Standing::Arriving { from: place() }, false, false),
            (Standing::Left { to: place() }, false, true),
            (Standing::Copy { of: place() }, false, true),
        ] {
            assert_eq!(Standing::parse(&standing.to_string()).ok(), Some(standing.clone()));
            assert_eq!(standing.check_serving().is_ok(), serves, "{standing}");
            assert_eq!(standing.check_whole().is_ok(), whole, "{standing}");
        }
        for odd in ["", "Serving", "serving here", "gone"] {
            assert!(Standing::parse(odd).is_err(), "{odd}");
        }
    }
}
