//! A simulated disk: what was written but not synced may vanish with the power, and writes and syncs may fail.
//!
//! Killing a process does not test `fdatasync`, because the system still writes what it was given; this does.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use super::storage::{Change, Direction, Space, Storage, Visit};
use crate::LogError;
use crate::prng::Prng;

/// What goes wrong with a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// No room: part of it is written, never synced.
    FullOnWrite,
    /// The device fails while it is written.
    ErrorOnWrite,
    /// The device fails while it is synced: nobody knows what is there.
    ErrorOnSync,
    /// The power goes before anything is written.
    PowerBeforeWrite,
    /// The power goes before it is synced.
    PowerBeforeSync,
    /// The power goes after it is synced, before anyone is told.
    PowerAfterSync,
}

impl Trouble {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::FullOnWrite,
        Self::ErrorOnWrite,
        Self::ErrorOnSync,
        Self::PowerBeforeWrite,
        Self::PowerBeforeSync,
        Self::PowerAfterSync,
    ];

    const fn takes_power(self) -> bool {
        matches!(
            self,
            Self::PowerBeforeWrite | Self::PowerBeforeSync | Self::PowerAfterSync
        )
    }

    fn error(self) -> LogError {
        match self {
            Self::FullOnWrite => LogError::Full("no space left (simulated)".to_owned()),
            Self::ErrorOnWrite | Self::ErrorOnSync => {
                LogError::Unavailable("input/output error (simulated)".to_owned())
            }
            _ => power_is_off(),
        }
    }
}

fn power_is_off() -> LogError {
    LogError::Unavailable("the power is off (simulated)".to_owned())
}

#[derive(Debug, Default)]
struct Disk {
    /// What tells it from other disks: nothing random, so that a run repeats itself.
    lot: u64,
    /// What survives.
    synced: BTreeMap<(Space, Bytes), Bytes>,
    /// Written whole, not synced: it may survive.
    written: Option<Vec<Change>>,
    coming: Option<(u64, Trouble)>,
    off: bool,
    commits: u64,
}

impl Disk {
    fn apply(&mut self, changes: Vec<Change>) {
        for Change { space, key, value } in changes {
            match value {
                Some(value) => drop(self.synced.insert((space, key), value)),
                None => drop(self.synced.remove(&(space, key))),
            }
        }
    }
}

/// A disk in memory. Clones are handles to the same disk.
#[derive(Debug, Clone, Default)]
pub struct SimDisk(Arc<Mutex<Disk>>);

impl SimDisk {
    /// An empty disk.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty disk that is another than those of other lots: a log made on it is another journal.
    #[must_use]
    pub fn of_lot(lot: u64) -> Self {
        let disk = Disk { lot, ..Disk::default() };
        Self(Arc::new(Mutex::new(disk)))
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets `trouble` happen to the commit after `commits` more of them.
    pub fn trouble_after(&self, commits: u64, trouble: Trouble) {
        self.disk().coming = Some((commits, trouble));
    }

    /// How many commits have been asked for.
    #[must_use]
    pub fn commits(&self) -> u64 {
        self.disk().commits
    }

    /// The power goes and comes back: the disk as a new process finds it. The old handle is dead. What was written and
    /// not synced is there whole or, torn, not at all, as `chance` has it.
    #[must_use]
    pub fn power_cycle(&self, chance: &mut Prng) -> Self {
        let mut disk = self.disk();
        disk.off = true;
        let mut next = Disk {
            lot: disk.lot,
            synced: disk.synced.clone(),
            ..Disk::default()
        };
        if let Some(changes) = disk.written.take().filter(|_| chance.percent(50)) {
            next.apply(changes);
        }
        drop(disk);
        Self(Arc::new(Mutex::new(next)))
    }
}

impl Storage for SimDisk {
    fn lot(&self) -> u64 {
        self.disk().lot
    }

    fn commit(&self, changes: Vec<Change>) -> Result<(), LogError> {
        let mut disk = self.disk();
        if disk.off {
            return Err(power_is_off());
        }
        disk.commits += 1;
        let trouble = match &mut disk.coming {
            Some((0, trouble)) => Some(*trouble),
            Some((left, _)) => {
                *left -= 1;
                None
            }
            None => None,
        };
        let Some(trouble) = trouble else {
            disk.apply(changes);
            return Ok(());
        };
        disk.coming = None;
        disk.off = trouble.takes_power();
        match trouble {
            Trouble::ErrorOnSync | Trouble::PowerBeforeSync => disk.written = Some(changes),
            Trouble::PowerAfterSync => disk.apply(changes),
            Trouble::FullOnWrite | Trouble::ErrorOnWrite | Trouble::PowerBeforeWrite => {}
        }
        Err(trouble.error())
    }

    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Bytes>, LogError> {
        let disk = self.disk();
        if disk.off {
            return Err(power_is_off());
        }
        Ok(disk.synced.get(&(space, Bytes::copy_from_slice(key))).cloned())
    }

    fn scan(
        &self,
        space: Space,
        from: &[u8],
        to: &[u8],
        direction: Direction,
        each: Visit<'_>,
    ) -> Result<(), LogError> {
        if from >= to {
            return Ok(());
        }
        let disk = self.disk();
        if disk.off {
            return Err(power_is_off());
        }
        let bounds = [from, to].map(|key| (space, Bytes::copy_from_slice(key)));
        let [from, to] = bounds;
        // A copy: `each` may come back to this disk.
        let mut found: Vec<_> = disk
            .synced
            .range(from..to)
            .map(|((_, k), v)| (k.clone(), v.clone()))
            .collect();
        drop(disk);
        if direction == Direction::Down {
            found.reverse();
        }
        for (key, value) in found {
            if !each(&key, value)? {
                break;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(key: &'static str) -> Vec<Change> {
        vec![Change::put(Space::Meta, key, Bytes::new())]
    }

    fn has(disk: &SimDisk, key: &str) -> bool {
        disk.get(Space::Meta, key.as_bytes()).unwrap().is_some()
    }

    #[test]
    fn what_was_synced_survives_and_what_was_not_may() {
        let mut seen = [0, 0];
        for seed in 0..32 {
            let disk = SimDisk::new();
            disk.commit(put("first")).unwrap();
            disk.trouble_after(0, Trouble::PowerBeforeSync);
            assert!(disk.commit(put("second")).is_err());
            let disk = disk.power_cycle(&mut Prng::new(seed));
            assert!(has(&disk, "first"));
            seen[usize::from(has(&disk, "second"))] += 1;
        }
        assert!(seen.iter().all(|n| *n > 0), "{seen:?}");
    }

    #[test]
    fn each_trouble_comes_when_it_should_and_once() {
        for trouble in Trouble::ALL {
            let disk = SimDisk::new();
            disk.trouble_after(1, trouble);
            disk.commit(put("first")).unwrap();
            let failed = disk.commit(put("second"));
            assert_eq!(
                matches!(failed, Err(LogError::Full(_))),
                trouble == Trouble::FullOnWrite
            );
            assert_eq!(disk.commit(put("third")).is_err(), trouble.takes_power());
            let disk = disk.power_cycle(&mut Prng::new(1));
            assert_eq!(
                has(&disk, "second") && trouble != Trouble::ErrorOnSync && trouble != Trouble::PowerBeforeSync,
                trouble == Trouble::PowerAfterSync
            );
        }
    }

    #[test]
    fn a_handle_from_before_the_power_went_is_dead() {
        let old = SimDisk::new();
        let new = old.power_cycle(&mut Prng::new(1));
        assert!(old.commit(put("late")).is_err());
        assert!(!has(&new, "late"));
    }
}
