//! A place in the live stream that a client can come back to.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use eventlog::{Offset, Partition, Topic};
use schemas::derived::{Incarnation, Origin};
use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

/// How far one partition of one topic has been told.
///
/// `last` is the last origin accepted **among what the reader may see**: a repeat of such a record is never greater, and
/// the origins of others (their state keys hold ids of patients) must not reach this reader.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Place {
    pub(crate) next: Offset,
    pub(crate) last: Option<Origin>,
}

impl Place {
    /// Whether a record with this origin is new, by the origin rule; if so, it is the last from here on.
    pub(crate) fn accepts(&mut self, origin: Option<&Origin>) -> bool {
        let Some(origin) = origin else { return true };
        let new = match &self.last {
            Some(last) => origin.partial_cmp(last) == Some(std::cmp::Ordering::Greater),
            None => true,
        };
        if new {
            self.last = Some(origin.clone());
        }
        new
    }
}

/// Every place that a stream is made of.
pub(crate) type Places = BTreeMap<(Topic, Partition), Place>;

/// A longer cursor is none of ours.
const LONGEST: usize = 64 * 1024;

/// Topic (by its place in [`Topic::ALL`]), partition, next offset, last origin.
#[derive(Serialize, Deserialize)]
struct PlaceForm(usize, Partition, Offset, Option<LastForm>);

/// Journal offset, state key, n.
type LastForm = (i64, SmolStr, i32);

#[derive(Serialize, Deserialize)]
struct Form {
    /// The journal's incarnation.
    i: Incarnation,
    p: Vec<PlaceForm>,
}

/// Writes places as a cursor: opaque text that is good in a URL.
pub(crate) fn write(incarnation: Incarnation, places: &Places) -> String {
    let form = Form {
        i: incarnation,
        p: places
            .iter()
            .map(|((topic, partition), place)| {
                let topic = Topic::ALL.iter().position(|t| t == topic).unwrap_or(usize::MAX);
                let last = place.last.as_ref().map(|o| (o.offset, o.key.clone(), o.n));
                PlaceForm(topic, *partition, place.next, last)
            })
            .collect(),
    };
    // Numbers and texts always have a JSON form.
    URL_SAFE_NO_PAD.encode(serde_json::to_vec(&form).unwrap_or_default())
}

/// Reads a cursor of the same journal that names exactly the `wanted` partitions.
pub(crate) fn read(text: &str, incarnation: Incarnation, wanted: &[(Topic, Partition)]) -> Option<Places> {
    if text.len() > LONGEST {
        return None;
    }
    let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
    let form: Form = serde_json::from_slice(&bytes)
        .ok()
        .filter(|f: &Form| f.i == incarnation)?;
    let mut places = Places::new();
    for PlaceForm(topic, partition, next, last) in form.p {
        let last = last.map(|(offset, key, n)| Origin {
            incarnation,
            offset,
            key,
            n,
        });
        places.insert((*Topic::ALL.get(topic)?, partition), Place { next, last });
    }
    (places.len() == wanted.len() && wanted.iter().all(|w| places.contains_key(w))).then_some(places)
}

#[cfg(test)]
mod tests {
    use super::*;
    use schemas::ids::EventId;

    fn origin(offset: i64, key: &str, n: i32) -> Origin {
        Origin {
            incarnation: EventId([7; 16]),
            offset,
            key: key.into(),
            n,
        }
    }

    #[test]
    fn a_cursor_reads_back_for_the_same_stream_of_the_same_journal_alone() {
        let wanted = [(Topic::Journal, 3), (Topic::Alerts, 3)];
        let last = Some(origin(9, "k:\"1", 2));
        let places = Places::from([
            (wanted[0], Place { next: 5, last: None }),
            (wanted[1], Place { next: 8, last }),
        ]);
        let text = write(EventId([7; 16]), &places);
        assert!(
            text.bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        );
        assert_eq!(read(&text, EventId([7; 16]), &wanted), Some(places));
        assert_eq!(read(&text, EventId([8; 16]), &wanted), None, "another journal");
        assert_eq!(read(&text, EventId([7; 16]), &wanted[..1]), None, "another stream");
        for bad in ["", "x", "e30", "bm8"] {
            assert_eq!(read(bad, EventId([7; 16]), &wanted), None);
        }
    }

    #[test]
    fn only_a_greater_origin_is_new() {
        let mut place = Place::default();
        for (next, new) in [
            (origin(5, "a", 0), true),
            (origin(5, "a", 0), false),
            (origin(5, "a", 1), true),
            (origin(5, "b", 0), true),
            (origin(4, "z", 9), false),
            (origin(6, "", 0), true),
        ] {
            assert_eq!(place.accepts(Some(&next)), new, "{next:?}");
        }
        assert!(place.accepts(None), "the journal has no origins");
        let mut other = origin(9, "a", 0);
        other.incarnation = EventId([8; 16]);
        assert!(
            !place.accepts(Some(&other)),
            "another journal's origins are no successors"
        );
    }
}
