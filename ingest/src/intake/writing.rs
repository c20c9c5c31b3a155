//! Verdicts as bytes for the log: one buffer per message, every key and value a slice of it.

use bytes::Bytes;
use eventlog::Append;
use schemas::codec;
use schemas::ids::Key;
use schemas::partition;
use schemas::refused::Rejection;

use super::Pending;

/// Encodes facts; returns how many bytes.
pub(super) fn facts(facts: &mut [Pending]) -> usize {
    let mut buffer = Vec::with_capacity(facts.len() * 160);
    let mut ends = Vec::with_capacity(facts.len());
    for fact in &*facts {
        match &fact.envelope.key {
            Key::Patient(id) => buffer.extend_from_slice(id.as_str().as_bytes()),
            other => buffer.extend_from_slice(other.text().as_bytes()),
        }
        let key = buffer.len();
        codec::encode(&fact.envelope, &mut buffer);
        ends.push((key, buffer.len()));
    }
    let buffer = Bytes::from(buffer);
    let mut start = 0;
    for (fact, (key, end)) in facts.iter_mut().zip(ends) {
        fact.key = buffer.slice(start..key);
        fact.value = buffer.slice(key..end);
        start = end;
    }
    buffer.len()
}

/// Encodes refusals, each with at most `keep` of its bytes; returns how many bytes in all.
pub(super) fn rejections(refused: &[Rejection], partitions: u16, keep: usize) -> (Vec<Append>, usize) {
    let mut total = 0;
    let append = |rejection: &Rejection| {
        let mut value = Vec::with_capacity(rejection.bytes.len().min(keep) + 256);
        if rejection.bytes.len() > keep {
            let cut = Rejection {
                bytes: rejection.bytes.slice(..keep),
                ..rejection.clone()
            };
            codec::encode_plain(&cut, &mut value);
        } else {
            codec::encode_plain(rejection, &mut value);
        }
        total += value.len();
        let key = rejection
            .sensor_id
            .as_deref()
            .unwrap_or_else(|| rejection.door.as_str());
        Append {
            partition: partition::of_bytes(key.as_bytes(), partitions),
            key: Bytes::copy_from_slice(key.as_bytes()),
            value: Bytes::from(value),
        }
    };
    let appends = refused.iter().map(append).collect();
    (appends, total)
}
