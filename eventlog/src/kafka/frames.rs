//! How stored records are framed where others read them too: by the ids that a registry of schemas gave.
//!
//! Ids of ours and ids of a registry are both small numbers, and the same number means two things. So a record that is
//! framed by a registry's id bears our own beside it, in a header, and whoever opens the log through us is given bytes
//! with our own id, as if there were no registry: conclusions are the same bytes whether a registry was there or not, and
//! nothing that was stored before, after or while it was away needs it to be read. Only what reads Kafka by itself asks it.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use schemas::codec;

/// Which header of a record says our own id of its schema.
pub(super) const SCHEMA: &str = "schema";
/// Where the id stands in framed bytes.
const ID: std::ops::Range<usize> = 1..5;

/// The ids that a registry gave, by ours.
#[derive(Debug, Default)]
pub(super) struct Frames(RwLock<Arc<BTreeMap<u32, u32>>>);

/// A record as it is stored under a registry's id.
pub(super) struct Framed {
    pub(super) value: Vec<u8>,
    /// Our own id.
    pub(super) schema: [u8; 4],
}

impl Frames {
    /// From now on records are framed by these.
    pub(super) fn use_ids(&self, ids: BTreeMap<u32, u32>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(ids);
    }

    /// The ids as they are now.
    pub(super) fn ids(&self) -> Arc<BTreeMap<u32, u32>> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The record as it is stored where the registry knows its schema; `None` where it is stored as it is.
pub(super) fn outward(ids: &BTreeMap<u32, u32>, value: &[u8]) -> Option<Framed> {
    let (ours, _) = codec::unframe(value).ok()?;
    let theirs = ids.get(&ours)?;
    let mut value = value.to_vec();
    value[ID].copy_from_slice(&theirs.to_be_bytes());
    Some(Framed {
        value,
        schema: ours.to_be_bytes(),
    })
}

/// A stored record as we know it; `schema` is its header.
pub(super) fn inward(mut value: Vec<u8>, schema: Option<&[u8]>) -> Vec<u8> {
    if let (Some(id), Some(schema)) = (value.get_mut(ID), schema)
        && id.len() == schema.len()
    {
        id.copy_from_slice(schema);
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stored_under_anothers_id_comes_back_under_ours() {
        let frames = Frames::default();
        assert!(outward(&frames.ids(), &[0, 0, 0, 0, 5, 9]).is_none());
        // Each other's numbers.
        frames.use_ids([(5, 6), (6, 5)].into());
        let ids = frames.ids();
        for value in [vec![0, 0, 0, 0, 5, 9], vec![0, 0, 0, 0, 6]] {
            let stored = outward(&ids, &value).unwrap();
            assert_ne!(stored.value, value);
            assert_eq!(stored.value[ID.end..], value[ID.end..]);
            assert_eq!(inward(stored.value, Some(&stored.schema)), value);
        }
        for value in [vec![0, 0, 0, 0, 7, 9], vec![1, 0, 0, 0, 5, 9], vec![0, 0], vec![]] {
            assert!(
                outward(&ids, &value).is_none(),
                "not framed, or not known to the registry"
            );
            assert_eq!(inward(value.clone(), None), value);
        }
        assert_eq!(
            inward(vec![0, 0, 0, 0, 5], Some(b"odd")),
            [0, 0, 0, 0, 5],
            "another's header"
        );
    }
}
