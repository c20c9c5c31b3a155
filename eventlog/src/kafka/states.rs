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

use bytes::Bytes;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::topic_partition_list::TopicPartitionList;
use schemas::derived::Incarnation;
use schemas::ids::EventId;
use smol_str::SmolStr;
use tokio::time::Instant;

use super::{Inner, blocking, failed, timeout};
use crate::origin::Restore;
use crate::{LogError, Offset, Partition, Stored, Topic};

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

/// What every place has saved for one partition of a derived topic.
pub(super) async fn read(
    inner: &Inner,
    output: Topic,
    partition: Partition,
) -> Result<BTreeMap<SmolStr, Restore>, LogError> {
    let (options, name) = (inner.options.clone(), inner.options.states(output));
    let journal = inner.layout.incarnation;
    blocking(move || {
        let consumer: BaseConsumer = options.consumer().create().map_err(|e| failed(&e))?;
        let mut places: BTreeMap<SmolStr, Restore> = BTreeMap::new();
        let ours = i32::from(partition);
        let (start, end) = consumer
            .fetch_watermarks(&name, ours, options.timeout)
            .map_err(|e| failed(&e))?;
        if start >= end {
            return Ok(places);
        }
        let mut all = TopicPartitionList::new();
        all.add_partition_offset(&name, ours, rdkafka::Offset::Offset(start))
            .map_err(|e| failed(&e))?;
        consumer.assign(&all).map_err(|e| failed(&e))?;
        let mut heard = Instant::now();
        loop {
            match consumer.poll(timeout(options.timeout)) {
                Some(Ok(message)) => {
                    heard = Instant::now();
                    take(journal, (message.key(), message.payload()), &mut places)?;
                    if message.offset() + 1 >= end {
                        return Ok(places);
                    }
                }
                Some(Err(KafkaError::PartitionEOF(_))) => return Ok(places),
                Some(Err(error)) => return Err(failed(&error)),
                None if heard.elapsed() >= options.timeout => {
                    return Err(LogError::Unavailable(format!("{name}/{partition} is not delivered")));
                }
                None => {}
            }
        }
    })
    .await
}

fn take(
    journal: Incarnation,
    (key, value): (Option<&[u8]>, Option<&[u8]>),
    places: &mut BTreeMap<SmolStr, Restore>,
) -> Result<(), LogError> {
    let corrupt = || LogError::Corrupt("a record of a state topic cannot be read".to_owned());
    // Without a value: what cleaning left.
    let Some(value) = value else { return Ok(()) };
    let key = std::str::from_utf8(key.ok_or_else(corrupt)?).map_err(|_| corrupt())?;
    let mut parts = key.splitn(3, '\0');
    let (place, _writer) = (parts.next().ok_or_else(corrupt)?, parts.next().ok_or_else(corrupt)?);
    let (offset, rest) = value.split_first_chunk::<8>().ok_or_else(corrupt)?;
    let offset = Offset::from_be_bytes(*offset);
    let (incarnation, rest) = rest.split_first_chunk::<16>().ok_or_else(corrupt)?;
    if *incarnation != journal.0 {
        return Err(LogError::OtherIncarnation {
            expected: EventId(*incarnation),
            found: journal,
        });
    }
    let restore = places.entry(SmolStr::new(place)).or_default();
    match parts.next() {
        None => restore.position(offset, Bytes::copy_from_slice(rest)),
        Some(state) => {
            let (there, bytes) = rest.split_first().ok_or_else(corrupt)?;
            let stored = Stored {
                applied: offset,
                value: (*there != 0).then(|| Bytes::copy_from_slice(bytes)),
            };
            restore.state(SmolStr::new(state), stored);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const JOURNAL: Incarnation = EventId([1; 16]);

    fn state(applied: Offset, value: Option<&'static str>) -> Stored {
        Stored {
            applied,
            value: value.map(|text| Bytes::from_static(text.as_bytes())),
        }
    }

    #[test]
    fn what_is_saved_reads_back_and_the_greatest_wins_whoever_wrote_it() {
        let mut places = BTreeMap::new();
        for (writer, stored) in [("w2", state(7, Some("new"))), ("w1", state(3, Some("old")))] {
            let (key, value) = (state_key("alerts@1", writer, "a/p"), state_value(JOURNAL, &stored));
            assert!(take(JOURNAL, (Some(&key), Some(&value)), &mut places).is_ok());
        }
        let gone = (state_key("alerts@1", "w1", ""), state_value(JOURNAL, &state(9, None)));
        assert!(take(JOURNAL, (Some(&gone.0), Some(&gone.1)), &mut places).is_ok());
        for offset in [8, 4] {
            let key = position_key("alerts@1", "w1");
            let value = position_value(JOURNAL, offset, b"ctx");
            assert!(take(JOURNAL, (Some(&key), Some(&value)), &mut places).is_ok());
        }
        let short: (Option<&[u8]>, Option<&[u8]>) = (Some(b"alerts@2\0w\0k"), Some(b"short"));
        assert!(take(JOURNAL, short, &mut places).is_err());
        let restored = places.remove("alerts@1").map(Restore::finish).unwrap_or_default();
        let states = [
            (SmolStr::default(), state(9, None)),
            ("a/p".into(), state(7, Some("new"))),
        ];
        assert_eq!(restored, (states.into(), 8, Bytes::from_static(b"ctx")));
    }

    #[test]
    fn what_was_saved_about_another_journal_stops_whoever_reads_it() {
        let other = EventId([2; 16]);
        let saved = [
            (
                state_key("alerts@1", "w", "k"),
                state_value(other, &state(3, Some("x"))),
            ),
            (position_key("alerts@1", "w"), position_value(other, 3, b"")),
        ];
        for (key, value) in saved {
            let refused = take(JOURNAL, (Some(&key), Some(&value)), &mut BTreeMap::new());
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
