//! Which registration stands for a person who has several.
//!
//! Each registration was merged into one other at most. Whoever follows that comes to one that was merged into none, which
//! stands for them all; or, where two were merged into each other at once, round a ring, of which the least id stands.

use std::collections::{BTreeSet, HashMap};

use crate::ids::PatientId;

/// A way along merges, one step at a time: for whoever has to ask for each.
#[derive(Debug)]
pub struct Way(Vec<PatientId>);

impl Way {
    /// From a registration.
    #[must_use]
    pub fn from(id: PatientId) -> Self {
        Self(vec![id])
    }

    /// Where it has come to: ask what this one was merged into.
    #[must_use]
    pub fn at(&self) -> &PatientId {
        &self.0[self.0.len() - 1]
    }

    /// A step on. The registration that stands for the person, once that is known.
    #[must_use]
    pub fn step(&mut self, into: Option<PatientId>) -> Option<PatientId> {
        let Some(into) = into else {
            return Some(self.at().clone());
        };
        match self.0.iter().position(|seen| *seen == into) {
            Some(ring) => self.0[ring..].iter().min().cloned(),
            None => {
                self.0.push(into);
                None
            }
        }
    }
}

/// Everything that was merged.
#[derive(Debug, Default)]
pub struct Aliases {
    into: HashMap<PatientId, PatientId>,
    merged: HashMap<PatientId, BTreeSet<PatientId>>,
}

impl Aliases {
    /// A registration is of the same person as another one, or (`None`) is not any more.
    pub fn merge(&mut self, id: &PatientId, into: Option<PatientId>) {
        if let Some(before) = self.into.remove(id)
            && let Some(merged) = self.merged.get_mut(&before)
        {
            merged.remove(id);
            if merged.is_empty() {
                self.merged.remove(&before);
            }
        }
        if let Some(into) = into {
            self.merged.entry(into.clone()).or_default().insert(id.clone());
            self.into.insert(id.clone(), into);
        }
    }

    /// What a registration was merged into.
    #[must_use]
    pub fn merged_into(&self, id: &PatientId) -> Option<&PatientId> {
        self.into.get(id)
    }

    /// The registration that stands for the person: itself, where it was never merged.
    #[must_use]
    pub fn person(&self, id: &PatientId) -> PatientId {
        // Of nearly everybody nothing was ever merged, and every record asks.
        if !self.into.contains_key(id) {
            return id.clone();
        }
        let mut way = Way::from(id.clone());
        loop {
            let into = self.into.get(way.at()).cloned();
            if let Some(person) = way.step(into) {
                return person;
            }
        }
    }

    /// All other registrations of the person.
    #[must_use]
    pub fn also_known_as(&self, id: &PatientId) -> Vec<PatientId> {
        if !self.into.contains_key(id) && !self.merged.contains_key(id) {
            return Vec::new();
        }
        let mut all = vec![self.person(id)];
        let mut seen: BTreeSet<PatientId> = all.iter().cloned().collect();
        let mut next = 0;
        while let Some(at) = all.get(next) {
            let others = self.merged.get(at).into_iter().flatten();
            let new: Vec<_> = others.filter(|other| seen.insert((*other).clone())).cloned().collect();
            all.extend(new);
            next += 1;
        }
        all.retain(|other| other != id);
        all
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn id(n: u8) -> PatientId {
        PatientId::new(&format!("p{n}")).unwrap()
    }

    fn of(merges: &[(u8, Option<u8>)]) -> Aliases {
        let mut aliases = Aliases::default();
        for (from, into) in merges {
            aliases.merge(&id(*from), into.map(id));
        }
        aliases
    }

    #[test]
    fn the_last_of_a_chain_stands_for_all_and_of_a_ring_the_least() {
        let chain: Vec<_> = (0..40).map(|n| (n, Some(n + 1))).collect();
        let aliases = of(&chain);
        assert_eq!(aliases.person(&id(0)), id(40), "however long");
        assert_eq!(aliases.also_known_as(&id(7)).len(), 40);
        let ring = of(&[(1, Some(2)), (2, Some(3)), (3, Some(1)), (9, Some(3))]);
        assert_eq!([1, 2, 3, 9].map(|n| ring.person(&id(n))), [1, 1, 1, 1].map(id));
        assert_eq!(ring.also_known_as(&id(9)).len(), 3);
        assert_eq!(of(&[(1, Some(2)), (1, None)]).person(&id(1)), id(1), "taken back");
    }

    proptest! {
        #[test]
        fn whoever_is_one_person_is_the_same_one_to_everybody(
            merges in prop::collection::vec((0_u8..8, prop::option::of(0_u8..8)), 0..24)
        ) {
            let merges: Vec<_> = merges.into_iter().filter(|(from, into)| Some(*from) != *into).collect();
            let aliases = of(&merges);
            for n in 0..8 {
                let known_as = aliases.also_known_as(&id(n));
                for m in 0..8 {
                    let same = aliases.person(&id(n)) == aliases.person(&id(m));
                    prop_assert_eq!(same, n == m || known_as.contains(&id(m)));
                }
                if let Some(into) = aliases.merged_into(&id(n)) {
                    prop_assert_eq!(aliases.person(into), aliases.person(&id(n)));
                }
            }
        }
    }
}
