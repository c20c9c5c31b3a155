//! What the embedded home needs of a disk: little enough that a simulated one can stand in for it.

use std::fmt::Debug;

use bytes::Bytes;

use crate::{LogError, Partition, Topic};

/// A name space of keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Space {
    /// What the log is made of, and where its partitions start.
    Meta,
    /// States, positions and last outputs of processors.
    Places,
    /// Blocks of records of one partition, by base offset.
    Log(Topic, Partition),
}

impl Space {
    /// Its name on disk.
    #[cfg(feature = "embedded")]
    pub(crate) fn name(self) -> String {
        match self {
            Self::Meta => "meta".to_owned(),
            Self::Places => "places".to_owned(),
            Self::Log(topic, partition) => format!("log.{}.{partition}", topic.name()),
        }
    }
}

/// One change of one key; `None` removes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) space: Space,
    pub(crate) key: Bytes,
    pub(crate) value: Option<Bytes>,
}

impl Change {
    pub(crate) fn put(space: Space, key: impl Into<Bytes>, value: impl Into<Bytes>) -> Self {
        Self {
            space,
            key: key.into(),
            value: Some(value.into()),
        }
    }

    pub(crate) fn remove(space: Space, key: impl Into<Bytes>) -> Self {
        Self {
            space,
            key: key.into(),
            value: None,
        }
    }
}

/// Which end of a range comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    Up,
    Down,
}

/// Takes a key and its value; `false` ends the scan.
pub(crate) type Visit<'a> = &'a mut dyn FnMut(&[u8], Bytes) -> Result<bool, LogError>;

/// A disk with keys in order.
pub(crate) trait Storage: Debug + Send + Sync + 'static {
    /// Writes all changes or none. They survive power loss once this returns `Ok`; nothing of them is visible before.
    /// After an error nothing may be written any more: some of them may be there or not.
    fn commit(&self, changes: Vec<Change>) -> Result<(), LogError>;

    /// The value of a key.
    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Bytes>, LogError>;

    /// Visits the keys `from..to`.
    fn scan(&self, space: Space, from: &[u8], to: &[u8], direction: Direction, each: Visit<'_>)
    -> Result<(), LogError>;

    /// What tells a new log on this disk from every other.
    fn lot(&self) -> u64 {
        use std::hash::{BuildHasher, Hasher, RandomState};
        RandomState::new().build_hasher().finish()
    }
}
