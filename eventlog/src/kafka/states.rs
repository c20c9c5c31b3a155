//! The state topics: what processors' places have saved, read to its end.
//!
//! One topic per derived topic, one partition per partition. A key is place, writer and state key, separated by NUL: the
//! broker compacts by it, so what different writers saved stays beside each other and the greatest applied offset wins
//! when it is read ([`Restore`]). A place is a processor and its version, so versions do not see each other's states.
//!
//! A writer is one claim, not one process: what an earlier claim of the same process has still on its way must not stand
//! in one key with what is written by the next, or cleaning would keep the older state beside the newer position.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;

use bytes::Bytes;
use rdkafka::consumer::Consumer;
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::topic_partition_list::TopicPartitionList;
use schemas::derived::Incarnation;
use schemas::ids::EventId;
use smol_str::SmolStr;
use tokio::time::Instant;

use super::{Inner, blocking, contact, failed, is_not_reached, timeout, watermarks};
use crate::origin::Restore;
use crate::{LogError, Offset, Partition, Shelving, Stored, Topic, shelf};

/// So many states are in memory at once while a place is restored.
const AT_ONCE: usize = 8192;

/// A name for a new writer, which nobody else has.
pub(super) fn new_writer() -> String {
    // Seeded anew by the standard library, from the system.
    let lot = || RandomState::new().build_hasher().finish();
    format!("{:016x}{:016x}", lot(), lot())
}

/// The key of a state.
pub(super) fn state_key(place: &str, writer: &str, key: &str) -> Vec<u8> {
    [place.as_bytes(), &[0], writer.as_bytes(), &[0], key.as_bytes()].concat()
}

/// The key of a position.
pub(super) fn position_key(place: &str, writer: &str) -> Vec<u8> {
    [place.as_bytes(), &[0], writer.as_bytes()].concat()
}

/// A state: the offset it has applied, of which journal, whether it is there, its bytes. A removal is written too.
pub(super) fn state_value(journal: Incarnation, stored: &Stored) -> Vec<u8> {
    let there = [u8::from(stored.value.is_some())];
    let value = stored.value.as_deref().unwrap_or_default();
    [&stored.applied.to_be_bytes()[..], &journal.0, &there, value].concat()
}

/// A position: the offset, of which journal, the context.
pub(super) fn position_value(journal: Incarnation, offset: Offset, context: &[u8]) -> Vec<u8> {
    [&offset.to_be_bytes()[..], &journal.0, context].concat()
}

/// A record of a state topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Saved {
    /// Its key as it stands there.
    pub(super) key: Bytes,
    pub(super) place: SmolStr,
    pub(super) writer: SmolStr,
    pub(super) what: What,
    /// When the broker took it, in milliseconds.
    pub(super) at: i64,
}

/// What it says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum What {
    State(SmolStr, Stored),
    Position(Offset, Bytes),
    /// Nothing any more: cleaned away.
    Gone,
}

/// Puts what a place has saved on a shelf that is empty; returns its position and that position's context.
pub(super) async fn restore(
    inner: &Inner,
    place: &str,
    (output, partition): (Topic, Partition),
    onto: Arc<dyn Shelving>,
) -> Result<(Offset, Bytes), LogError> {
    let (place, to) = (SmolStr::new(place), Arc::clone(&onto));
    let take = move |mut restore: Restore, saved: Saved| {
        match saved.what {
            What::State(key, stored) if saved.place == place => restore.state(key, stored),
            What::Position(offset, context) if saved.place == place => restore.position(offset, context),
            _ => {}
        }
        if restore.states() >= AT_ONCE {
            restore.unload(&*to)?;
        }
        Ok(restore)
    };
    let mut restore = fold(inner, output, partition, take).await?;
    blocking(move || {
        restore.unload(&*onto)?;
        let (_, position, context) = restore.finish();
        shelf::tidy(&*onto, position)?;
        Ok((position, context))
    })
    .await
}

/// What every place has saved for one partition of a derived topic.
pub(super) async fn read(
    inner: &Inner,
    output: Topic,
    partition: Partition,
) -> Result<BTreeMap<SmolStr, Restore>, LogError> {
    let take = |mut places: BTreeMap<SmolStr, Restore>, saved: Saved| {
        match saved.what {
            What::State(key, stored) => places.entry(saved.place).or_default().state(key, stored),
            What::Position(offset, context) => places.entry(saved.place).or_default().position(offset, context),
            What::Gone => {}
        }
        Ok(places)
    };
    fold(inner, output, partition, take).await
}

/// Folds all records of one partition of a state topic.
pub(super) async fn fold<T: Default + Send + 'static>(
    inner: &Inner,
    output: Topic,
    partition: Partition,
    take: impl Fn(T, Saved) -> Result<T, LogError> + Send + 'static,
) -> Result<T, LogError> {
    let (options, name) = (inner.options.clone(), inner.options.states(output));
    let journal = inner.layout.incarnation;
    blocking(move || {
        let consumer = contact::reader(&options, options.consumer())?;
        let mut folded = T::default();
        let ours = i32::from(partition);
        let (start, end) = watermarks(&consumer, &name, partition, options.failover).map_err(|e| failed(&e))?;
        if start >= end {
            return Ok(folded);
        }
        let mut all = TopicPartitionList::new();
        all.add_partition_offset(&name, ours, rdkafka::Offset::Offset(start))
            .map_err(|e| failed(&e))?;
        consumer.assign(&all).map_err(|e| failed(&e))?;
        let mut heard = Instant::now();
        loop {
            match consumer.poll(timeout(options.failover)) {
                Some(Ok(message)) => {
                    heard = Instant::now();
                    let at = message.timestamp().to_millis().unwrap_or(0);
                    folded = take(folded, unpack(journal, message.key(), message.payload(), at)?)?;
                    if message.offset() + 1 >= end {
                        return Ok(folded);
                    }
                }
                Some(Err(KafkaError::PartitionEOF(_))) => return Ok(folded),
                Some(Err(error)) if is_not_reached(&error) && heard.elapsed() < options.failover => {}
                Some(Err(error)) => return Err(failed(&error)),
                None if heard.elapsed() >= options.failover => {
                    return Err(LogError::Unavailable(format!("{name}/{partition} is not delivered")));
                }
                None => {}
            }
        }
    })
    .await
}

fn unpack(journal: Incarnation, key: Option<&[u8]>, value: Option<&[u8]>, at: i64) -> Result<Saved, LogError> {
    let corrupt = || LogError::Corrupt("a record of a state topic cannot be read".to_owned());
    let key = key.ok_or_else(corrupt)?;
    let mut parts = std::str::from_utf8(key).map_err(|_| corrupt())?.splitn(3, '\0');
    let (place, writer) = (parts.next().ok_or_else(corrupt)?, parts.next().ok_or_else(corrupt)?);
    let what = match value {
        None => What::Gone,
        Some(value) => {
            let (offset, rest) = value.split_first_chunk::<8>().ok_or_else(corrupt)?;
            let offset = Offset::from_be_bytes(*offset);
            let (incarnation, rest) = rest.split_first_chunk::<16>().ok_or_else(corrupt)?;
            if *incarnation != journal.0 {
                return Err(LogError::OtherIncarnation {
                    expected: EventId(*incarnation),
                    found: journal,
                });
            }
            match parts.next() {
                None => What::Position(offset, Bytes::copy_from_slice(rest)),
                Some(state) => {
                    let (there, bytes) = rest.split_first().ok_or_else(corrupt)?;
                    let value = (*there != 0).then(|| Bytes::copy_from_slice(bytes));
                    What::State(state.into(), Stored { applied: offset, value })
                }
            }
        }
    };
    Ok(Saved {
        key: Bytes::copy_from_slice(key),
        place: place.into(),
        writer: writer.into(),
        what,
        at,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const JOURNAL: Incarnation = EventId([1; 16]);

    #[test]
    fn what_is_saved_reads_back() {
        for stored in [
            Stored {
                applied: 7,
                value: Some(Bytes::from_static(b"x")),
            },
            Stored {
                applied: 9,
                value: Some(Bytes::new()),
            },
            Stored {
                applied: 0,
                value: None,
            },
        ] {
            for name in ["", "a/p", "a\0b"] {
                let key = state_key("alerts@1", "w", name);
                let read = unpack(JOURNAL, Some(&key), Some(&state_value(JOURNAL, &stored)), 5);
                let read = read.map(|saved| (saved.place, saved.writer, saved.what, saved.at));
                let what = What::State(name.into(), stored.clone());
                assert_eq!(read.ok(), Some(("alerts@1".into(), "w".into(), what, 5)));
            }
        }
        let key = position_key("alerts@1", "w");
        let position = position_value(JOURNAL, 8, b"ctx");
        let read = unpack(JOURNAL, Some(&key), Some(&position), 5).map(|saved| saved.what);
        assert_eq!(read.ok(), Some(What::Position(8, Bytes::from_static(b"ctx"))));
        let read = unpack(JOURNAL, Some(&key), None, 5).map(|saved| saved.what);
        assert_eq!(read.ok(), Some(What::Gone));
        for (key, value) in [(&b"alerts@1\0w\0k"[..], &b"short"[..]), (b"alerts@1", b"")] {
            assert!(unpack(JOURNAL, Some(key), Some(value), 5).is_err());
        }
    }

    #[test]
    fn what_was_saved_about_another_journal_stops_whoever_reads_it() {
        let other = EventId([2; 16]);
        let stored = Stored {
            applied: 3,
            value: None,
        };
        let saved = [
            (state_key("alerts@1", "w", "k"), state_value(other, &stored)),
            (position_key("alerts@1", "w"), position_value(other, 3, b"")),
        ];
        for (key, value) in saved {
            let refused = unpack(JOURNAL, Some(&key), Some(&value), 0);
            assert!(
                matches!(refused, Err(LogError::OtherIncarnation { expected, found }) if (expected, found) == (other, JOURNAL)),
                "{refused:?}"
            );
        }
    }

    #[test]
    fn no_two_writers_have_one_name() {
        assert_ne!(new_writer(), new_writer());
    }
}
