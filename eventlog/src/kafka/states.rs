//! The state topics: what processors' places have saved, read to its end.
//!
//! One topic per derived topic, one partition per partition. A key is place, writer and state key, separated by NUL: the
//! broker compacts by it, so what different writers saved stays beside each other and the greatest applied offset wins
//! when it is read ([`Restore`]). A place is a processor and its version, so versions do not see each other's states.

use std::collections::BTreeMap;

use bytes::Bytes;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::topic_partition_list::TopicPartitionList;
use smol_str::SmolStr;
use tokio::time::Instant;

use super::{Inner, blocking, failed, timeout};
use crate::origin::Restore;
use crate::{LogError, Offset, Partition, Stored, Topic};

/// The key of a state.
pub(super) fn state_key(place: &str, writer: &str, key: &str) -> Vec<u8> {
    [place.as_bytes(), &[0], writer.as_bytes(), &[0], key.as_bytes()].concat()
}

/// The key of a position.
pub(super) fn position_key(place: &str, writer: &str) -> Vec<u8> {
    [place.as_bytes(), &[0], writer.as_bytes()].concat()
}

/// A state: the offset it has applied, whether it is there, its bytes. A removal is written too.
pub(super) fn state_value(stored: &Stored) -> Vec<u8> {
    let mut out = stored.applied.to_be_bytes().to_vec();
    out.push(u8::from(stored.value.is_some()));
    out.extend_from_slice(stored.value.as_deref().unwrap_or_default());
    out
}

/// A position: the offset, the context.
pub(super) fn position_value(offset: Offset, context: &[u8]) -> Vec<u8> {
    [&offset.to_be_bytes()[..], context].concat()
}

/// What every place has saved for one partition of a derived topic.
pub(super) async fn read(
    inner: &Inner,
    output: Topic,
    partition: Partition,
) -> Result<BTreeMap<SmolStr, Restore>, LogError> {
    let (options, name) = (inner.options.clone(), inner.options.states(output));
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
                    take(message.key(), message.payload(), &mut places)?;
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

fn take(key: Option<&[u8]>, value: Option<&[u8]>, places: &mut BTreeMap<SmolStr, Restore>) -> Result<(), LogError> {
    let corrupt = || LogError::Corrupt("a record of a state topic cannot be read".to_owned());
    // Without a value: what cleaning left.
    let Some(value) = value else { return Ok(()) };
    let key = std::str::from_utf8(key.ok_or_else(corrupt)?).map_err(|_| corrupt())?;
    let mut parts = key.splitn(3, '\0');
    let (place, _writer) = (parts.next().ok_or_else(corrupt)?, parts.next().ok_or_else(corrupt)?);
    let (offset, rest) = value.split_first_chunk::<8>().ok_or_else(corrupt)?;
    let offset = Offset::from_be_bytes(*offset);
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

    #[test]
    fn what_is_saved_reads_back_and_the_greatest_wins_whoever_wrote_it() {
        let mut places = BTreeMap::new();
        let state = |applied, value: Option<&'static str>| Stored {
            applied,
            value: value.map(|text| Bytes::from_static(text.as_bytes())),
        };
        for (writer, stored) in [("w2", state(7, Some("new"))), ("w1", state(3, Some("old")))] {
            let (key, value) = (state_key("alerts@1", writer, "a/p"), state_value(&stored));
            assert!(take(Some(&key), Some(&value), &mut places).is_ok());
        }
        let gone = state_value(&state(9, None));
        assert!(take(Some(&state_key("alerts@1", "w1", "")), Some(&gone), &mut places).is_ok());
        for offset in [8, 4] {
            let (key, value) = (position_key("alerts@1", "w1"), position_value(offset, b"ctx"));
            assert!(take(Some(&key), Some(&value), &mut places).is_ok());
        }
        assert!(take(Some(b"alerts@2\0w\0k"), Some(b"short"), &mut places).is_err());
        let restored = places.remove("alerts@1").map(Restore::finish).unwrap_or_default();
        let states = [
            (SmolStr::default(), state(9, None)),
            ("a/p".into(), state(7, Some("new"))),
        ];
        assert_eq!(restored, (states.into(), 8, Bytes::from_static(b"ctx")));
    }
}
