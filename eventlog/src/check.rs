//! What every home refuses before it does anything, in the same words.

use schemas::derived::Incarnation;

use crate::{Layout, LogError, Partition, Topic, Work};

impl Layout {
    /// Whether there is such a partition.
    ///
    /// # Errors
    /// [`LogError::Misuse`].
    pub fn check(&self, topic: Topic, partition: Partition) -> Result<(), LogError> {
        if partition < topic.partitions(self.partitions) {
            return Ok(());
        }
        Err(LogError::Misuse(format!(
            "{} has no partition {partition}",
            topic.name()
        )))
    }
}

impl Topic {
    /// Whether doors and people may append to it.
    ///
    /// # Errors
    /// [`LogError::Misuse`].
    pub fn check_append(self) -> Result<(), LogError> {
        if self.is_derived() {
            return Err(LogError::Misuse(format!(
                "{} is written by its processor alone",
                self.name()
            )));
        }
        Ok(())
    }

    /// Whether a processor of this name may write it. Names are part of keys: short, and without NUL.
    ///
    /// # Errors
    /// [`LogError::Misuse`].
    pub fn check_claim(self, processor: &str) -> Result<(), LogError> {
        let named = (1..=200).contains(&processor.len()) && !processor.contains('\0');
        if self.is_derived() && named {
            return Ok(());
        }
        Err(LogError::Misuse(format!("{processor:?} cannot write {}", self.name())))
    }
}

impl Work {
    /// Whether its outputs are of this journal, in origin order, and no larger than `size` allows (key, value).
    ///
    /// # Errors
    /// [`LogError::OtherIncarnation`], [`LogError::Misuse`], and those of `size`.
    pub fn check(
        &self,
        journal: Incarnation,
        size: impl Fn(&bytes::Bytes, &bytes::Bytes) -> Result<(), LogError>,
    ) -> Result<(), LogError> {
        for output in &self.outputs {
            if output.origin.incarnation != journal {
                return Err(LogError::OtherIncarnation {
                    expected: output.origin.incarnation,
                    found: journal,
                });
            }
            size(&output.key, &output.value)?;
        }
        if self.outputs.is_sorted_by(|a, b| a.origin < b.origin) {
            Ok(())
        } else {
            Err(LogError::Misuse("outputs are not in origin order".to_owned()))
        }
    }
}

/// Whether a place may still commit: not after an error, nor where a caller stopped waiting.
///
/// # Errors
/// [`LogError::Misuse`].
pub fn unbroken(broken: bool) -> Result<(), LogError> {
    if broken {
        return Err(LogError::Misuse(
            "nothing may be committed after an error: claim again".to_owned(),
        ));
    }
    Ok(())
}
