//! What the seeds really did: a feature that never occurred was never tested.

use std::collections::BTreeMap;
use std::fmt;

/// How often each feature occurred.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Coverage(BTreeMap<&'static str, u64>);

impl Coverage {
    /// One more of a feature.
    pub(crate) fn hit(&mut self, feature: &'static str) {
        self.add(feature, 1);
    }

    /// Some more of a feature.
    pub(crate) fn add(&mut self, feature: &'static str, n: u64) {
        *self.0.entry(feature).or_default() += n;
    }

    /// Both together.
    pub(crate) fn merge(&mut self, other: &Self) {
        for (feature, n) in &other.0 {
            self.add(feature, *n);
        }
    }

    /// How often a feature occurred.
    pub(crate) fn of(&self, feature: &str) -> u64 {
        self.0.get(feature).copied().unwrap_or(0)
    }

    /// Those of `features` that never occurred.
    pub(crate) fn missing<'a>(&self, features: &[&'a str]) -> Vec<&'a str> {
        features
            .iter()
            .filter(|feature| self.of(feature) == 0)
            .copied()
            .collect()
    }
}

impl fmt::Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (feature, n) in &self.0 {
            writeln!(f, "  {n:>9}  {feature}")?;
        }
        Ok(())
    }
}
