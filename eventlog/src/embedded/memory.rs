//! What a derived topic's partition ended with, as hashes: a repeat that differs is a processor that is not
//! deterministic, and nothing it says can be trusted.

use std::collections::VecDeque;

use schemas::codec::{self, Catalogue};
use schemas::derived::Origin;
use xxhash_rust::xxh3::Xxh3;

use super::Shared;
use crate::{LogError, Output, Partition, Topic};

/// So many outputs are remembered.
const REMEMBERED: usize = 4096;

/// The last outputs of a partition, in origin order.
pub(super) struct Recent(VecDeque<(Origin, u64)>);

fn hash(key: &[u8], value: &[u8]) -> u64 {
    let mut hasher = Xxh3::new();
    hasher.update(&(key.len() as u64).to_be_bytes());
    hasher.update(key);
    hasher.update(value);
    hasher.digest()
}

impl Recent {
    /// What the log says; from the first record that cannot be decoded backwards nothing is remembered.
    pub(super) fn load(shared: &Shared, output: Topic, partition: Partition) -> Result<Self, LogError> {
        let catalogue = Catalogue::builtin();
        let mut recent = VecDeque::new();
        shared.visit_back(output, partition, &mut |block| {
            for entry in block.entries.iter().rev() {
                let Ok(Some(derived)) = codec::decode_derived(&entry.value, &catalogue) else {
                    return false;
                };
                recent.push_front((derived.origin, hash(&entry.key, &entry.value)));
            }
            recent.len() < REMEMBERED
        })?;
        if !recent.iter().is_sorted_by(|(a, _), (b, _)| a.place() < b.place()) {
            // A log that was carried here from Kafka may hold repeats, behind what they repeat: of what was said first
            // nobody knows then where it begins.
            recent.clear();
        }
        Ok(Self(recent))
    }

    pub(super) fn remember(&mut self, output: &Output) {
        if self.0.len() >= REMEMBERED {
            self.0.pop_front();
        }
        self.0
            .push_back((output.origin.clone(), hash(&output.key, &output.value)));
    }

    /// Compares a repeat with what was written first, where that is remembered.
    pub(super) fn compare(&self, repeat: &Output) -> Result<(), LogError> {
        let Some((oldest, _)) = self.0.front() else {
            return Ok(());
        };
        if repeat.origin < *oldest {
            return Ok(());
        }
        let found = self
            .0
            .binary_search_by(|(origin, _)| origin.place().cmp(&repeat.origin.place()));
        let same = found.is_ok_and(|at| {
            self.0
                .get(at)
                .is_some_and(|(_, known)| *known == hash(&repeat.key, &repeat.value))
        });
        if same {
            Ok(())
        } else {
            Err(LogError::Corrupt(format!(
                "what was computed again for {:?} is not what was written first",
                repeat.origin
            )))
        }
    }
}
