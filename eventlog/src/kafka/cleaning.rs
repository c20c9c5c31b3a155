//! What a state topic need not keep: copies that nobody will read again, of writers that are long gone.
//!
//! The broker keeps the newest record of every key, and a key bears its writer, so each claim of a place leaves copies of
//! its own. Cleaning writes an empty record, with which the broker lets go of a key; never for the greatest copy of a live
//! state, which is the one that a restore takes. A removed state goes whole, once its removal is old: by then nobody is
//! left who could still write an older copy (a place that was paused for long is refused, see [`super::place`]).

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use smol_str::SmolStr;

use super::produce::Message;
use super::states::{Saved, What};
use super::{Inner, states};
use crate::{LogError, Offset, Partition, Topic};

/// How long after a claim it is looked for the first time: a start has better things to do.
const FIRST: Duration = Duration::from_secs(600);
/// How often from then on.
const EVERY: Duration = Duration::from_secs(24 * 3600);
/// So many are let go of at once.
const AT_ONCE: usize = 1000;

/// The last record of a key.
#[derive(Debug, Clone)]
struct Copy {
    writer: SmolStr,
    /// For a position, its offset.
    applied: Offset,
    removal: bool,
    at: i64,
}

/// A state topic's partition: copies by place and state (`None`: its position), then by their key.
#[derive(Debug, Default)]
pub(super) struct Shelves {
    states: HashMap<(SmolStr, Option<SmolStr>), HashMap<Bytes, Copy>>,
    /// When each writer was last heard of.
    writers: HashMap<SmolStr, i64>,
    newest: i64,
}

impl Shelves {
    fn take(mut self, saved: Saved) -> Self {
        self.newest = self.newest.max(saved.at);
        let (applied, removal, state) = match saved.what {
            What::State(key, stored) => (stored.applied, stored.value.is_none(), Some(key)),
            What::Position(offset, _) => (offset, false, None),
            What::Gone => {
                let mut parts = saved.key.splitn(3, |byte| *byte == 0).skip(2);
                let state = parts
                    .next()
                    .and_then(|key| std::str::from_utf8(key).ok())
                    .map(SmolStr::new);
                if let Some(copies) = self.states.get_mut(&(saved.place, state)) {
                    copies.remove(&saved.key);
                }
                return self;
            }
        };
        let heard = self.writers.entry(saved.writer.clone()).or_insert(saved.at);
        *heard = saved.at.max(*heard);
        let copy = Copy {
            writer: saved.writer,
            applied,
            removal,
            at: saved.at,
        };
        let copies = self.states.entry((saved.place, state)).or_default();
        copies.insert(saved.key, copy);
        self
    }

    /// Which keys can go: all of the first before any of the second, or an older state would come back.
    fn dispensable(&self, age: Duration) -> (Vec<Bytes>, Vec<Bytes>) {
        let age = i64::try_from(age.as_millis()).unwrap_or(i64::MAX);
        let old = |at: i64| self.newest.saturating_sub(at) >= age;
        let silent = |writer: &SmolStr| self.writers.get(writer).is_none_or(|at| old(*at));
        let (mut first, mut then) = (Vec::new(), Vec::new());
        for ((place, state), copies) in &self.states {
            let Some((best, greatest)) = copies.iter().max_by_key(|(_, copy)| copy.applied) else {
                continue;
            };
            let others = || copies.iter().filter(|(key, _)| *key != best);
            first.extend(
                others()
                    .filter(|(_, copy)| silent(&copy.writer))
                    .map(|(key, _)| key.clone()),
            );
            let past = state.is_some() && greatest.applied < self.position(place);
            let alone = others().all(|(_, copy)| silent(&copy.writer));
            if greatest.removal && old(greatest.at) && past && alone {
                then.push(best.clone());
            }
        }
        (first, then)
    }

    fn position(&self, place: &SmolStr) -> Offset {
        let positions = self.states.get(&(place.clone(), None)).into_iter().flatten();
        positions.map(|(_, copy)| copy.applied).max().unwrap_or(0)
    }
}

/// Lets go of what nobody needs; returns how many keys.
pub(super) async fn clean(inner: &Inner, output: Topic, partition: Partition) -> Result<usize, LogError> {
    let shelves = states::fold(inner, output, partition, |shelves: Shelves, saved| {
        Ok(shelves.take(saved))
    })
    .await?;
    let (first, then) = shelves.dispensable(inner.options.silent_after);
    let topic = inner.options.states(output);
    for keys in first.chunks(AT_ONCE).chain(then.chunks(AT_ONCE)) {
        let gone = keys.iter().map(|key| Message {
            topic: &topic,
            partition,
            key,
            value: None,
            origin: None,
            appended_at: None,
            schema: None,
        });
        inner.conclusions.now()?.send(gone).await?;
    }
    Ok(first.len() + then.len())
}

/// Cleans now and then, as long as the place is held.
async fn now_and_then(inner: Weak<Inner>, held: Weak<str>, (output, partition): (Topic, Partition)) {
    let mut pause = FIRST;
    loop {
        tokio::time::sleep(pause).await;
        pause = EVERY;
        let Some(inner) = inner.upgrade().filter(|_| held.strong_count() > 0) else {
            return;
        };
        match clean(&inner, output, partition).await {
            Ok(keys) => tracing::debug!(
                topic = output.name(),
                partition,
                keys,
                "states that nobody needs are let go of"
            ),
            Err(error) => tracing::warn!(topic = output.name(), partition, %error, "old states are kept for now"),
        }
    }
}

/// Begins [`now_and_then`] for a place.
pub(super) fn begin(inner: &Arc<Inner>, held: &Arc<str>, at: (Topic, Partition)) {
    tokio::spawn(now_and_then(Arc::downgrade(inner), Arc::downgrade(held), at));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Stored;

    const DAY: i64 = 24 * 3600 * 1000;
    const WEEK: Duration = Duration::from_secs(7 * 24 * 3600);

    fn saved(writer: &str, state: Option<&str>, applied: Offset, there: bool, day: i64) -> Saved {
        let (key, what) = match state {
            None => (
                states::position_key("p@1", writer),
                What::Position(applied, Bytes::new()),
            ),
            Some(state) => {
                let value = there.then(|| Bytes::from_static(b"x"));
                let what = What::State(state.into(), Stored { applied, value });
                (states::state_key("p@1", writer, state), what)
            }
        };
        Saved {
            key: key.into(),
            place: "p@1".into(),
            writer: writer.into(),
            what,
            at: day * DAY,
        }
    }

    fn names(keys: Vec<Bytes>) -> Vec<String> {
        let name = |key: &Bytes| String::from_utf8_lossy(key).replace('\0', " ");
        let mut names: Vec<_> = keys.iter().map(name).collect();
        names.sort();
        names
    }

    #[test]
    fn the_greatest_copy_stays_and_what_is_removed_goes_whole_once_it_is_old() {
        let records = [
            // Long silent; "kept" has no newer copy.
            saved("old", Some("kept"), 3, true, 0),
            saved("old", Some("newer"), 4, true, 0),
            saved("old", Some("removed"), 5, true, 0),
            saved("old", None, 6, true, 0),
            // Silent for three days: it may only be paused.
            saved("paused", Some("newer"), 7, true, 7),
            saved("paused", Some("held"), 7, true, 7),
            // The owner.
            saved("owner", Some("newer"), 8, true, 8),
            saved("owner", Some("removed"), 9, false, 1),
            saved("owner", Some("held"), 9, false, 1),
            saved("owner", Some("fresh"), 9, false, 9),
            saved("owner", Some("ahead"), 30, false, 1),
            saved("owner", None, 20, true, 10),
        ];
        let shelves = records.into_iter().fold(Shelves::default(), Shelves::take);
        let (first, then) = shelves.dispensable(WEEK);
        assert_eq!(names(first), ["p@1 old", "p@1 old newer", "p@1 old removed"]);
        assert_eq!(names(then), ["p@1 owner removed"]);
    }

    #[test]
    fn what_is_gone_is_not_let_go_of_again() {
        let mut gone = saved("old", Some("a"), 1, true, 0);
        gone.what = What::Gone;
        let records = [
            saved("old", Some("a"), 1, true, 0),
            saved("owner", Some("a"), 2, true, 20),
            gone,
        ];
        let shelves = records.into_iter().fold(Shelves::default(), Shelves::take);
        assert_eq!(shelves.dispensable(WEEK), (Vec::new(), Vec::new()));
    }
}
