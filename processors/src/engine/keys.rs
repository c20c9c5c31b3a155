//! State keys: texts of parts separated by `/`, which no id can contain.
//!
//! The first part begins with a letter that says what kind of state it is, and a bucket of time where it has one, in
//! ten hexadecimal digits, so that byte order is time order. The second part is the journal key of the subject.
//! `s` (facts seen), `r` (rhythms promised) and `s/` (sensors worn, where patients live) belong to the engine.

use schemas::ids::Key;
use schemas::time::{Span, Timestamp};

/// The keys that one fact wakes; one buffer, used again and again.
#[derive(Debug, Default)]
pub struct Keys {
    text: String,
    spans: Vec<(usize, usize)>,
}

impl Keys {
    /// Forgets all keys, keeps the memory.
    pub fn clear(&mut self) {
        self.text.clear();
        self.spans.clear();
    }

    /// Adds the key that `write` appends.
    pub fn push(&mut self, write: impl FnOnce(&mut String)) {
        let start = self.text.len();
        write(&mut self.text);
        self.spans.push((start, self.text.len()));
    }

    /// Whether nothing is woken.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// Puts the keys in byte order, each once: the order in which they act.
    pub fn sort(&mut self) {
        let text = &self.text;
        let key = |span: &(usize, usize)| &text.as_bytes()[span.0..span.1];
        if !self.spans.is_sorted_by(|a, b| key(a) < key(b)) {
            self.spans.sort_unstable_by(|a, b| key(a).cmp(key(b)));
            self.spans.dedup_by(|a, b| key(a) == key(b));
        }
    }

    /// The keys, in the order added or [sorted](Self::sort).
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.spans.iter().map(|(start, end)| &self.text[*start..*end])
    }
}

/// Appends the journal key, as it stands in the log.
pub fn subject(out: &mut String, key: &Key) {
    match key {
        Key::Patient(id) => out.push_str(id.as_str()),
        other => out.push_str(&other.text()),
    }
}

/// The journal key in a state key; [`Key::Nobody`] where there is none.
#[must_use]
pub fn subject_of(key: &str) -> Key {
    key.split('/')
        .nth(1)
        .and_then(|text| Key::parse(text).ok())
        .unwrap_or(Key::Nobody)
}

/// Appends a kind of state and the bucket of length `size` that holds `at`.
pub fn bucket(out: &mut String, kind: char, at: Timestamp, size: Span) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    const MIDDLE: i64 = 1 << 39;
    let n = at.0.div_euclid(size.0).saturating_add(MIDDLE).clamp(0, 2 * MIDDLE - 1);
    out.push(kind);
    for shift in (0..10).rev() {
        out.push(DIGITS[((n >> (4 * shift)) & 0xf) as usize] as char);
    }
}

/// The kind and bucket that a state key begins with, where it has one.
#[must_use]
pub fn bucket_of(key: &str) -> Option<&str> {
    let bytes = key.as_bytes();
    let has = bytes.get(11) == Some(&b'/') && bytes[1] != b'/';
    has.then(|| &key[..11])
}

/// Whether a key's bucket is before the one of its kind in `bounds`.
#[must_use]
pub fn is_before(key: &str, bounds: &[String]) -> bool {
    bounds
        .iter()
        .any(|bound| key.as_bytes().first() == bound.as_bytes().first() && key < bound.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(at: i64) -> String {
        let mut out = String::new();
        bucket(&mut out, 's', Timestamp(at), Span::minutes(1));
        out
    }

    #[test]
    fn buckets_sort_as_time_does_before_1970_too() {
        let minute = Span::minutes(1).0;
        let moments = [i64::MIN, -minute - 1, -1, 0, minute, 1 << 50, i64::MAX];
        assert!(moments.map(text).is_sorted_by(|a, b| a <= b && a.len() == 11));
        assert_eq!(text(0), text(minute - 1));
        assert!(text(-1) < text(0));
    }

    #[test]
    fn the_bucket_is_read_back_from_a_state_key() {
        let key = text(0) + "/p1/s1/spo2";
        assert_eq!(bucket_of(&key), Some(text(0).as_str()));
        for key in ["a/patient-1/spo2", "v/123456789/s1", "r/p", "", "s8000000000"] {
            assert_eq!(bucket_of(key), None, "{key}");
        }
    }

    #[test]
    fn keys_act_in_byte_order_and_once() {
        let mut keys = Keys::default();
        for key in ["b", "a/2", "b", "a/1"] {
            keys.push(|out| out.push_str(key));
        }
        keys.sort();
        assert_eq!(keys.iter().collect::<Vec<_>>(), ["a/1", "a/2", "b"]);
        keys.clear();
        assert!(keys.is_empty());
    }

    #[test]
    fn the_subject_is_read_back_from_a_state_key() {
        assert_eq!(subject_of("h80000/p1/s1/spo2").text(), "p1");
        assert_eq!(subject_of("v/sensor:s1/s1").text(), "sensor:s1");
        assert_eq!(subject_of("x"), Key::Nobody);
    }
}
