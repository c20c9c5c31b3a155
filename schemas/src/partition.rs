//! Which partition a key belongs to: Kafka's own default partitioner, so that every home and every client agrees.

use crate::ids::Key;

/// The partition of `key` among `count`, as Kafka's Java client computes it: murmur2 of the bytes, sign bit cleared.
#[must_use]
pub fn of(key: &Key, count: u16) -> u16 {
    of_bytes(key.text().as_bytes(), count)
}

/// The partition of a key's bytes among `count` (at least 1).
#[must_use]
pub fn of_bytes(key: &[u8], count: u16) -> u16 {
    ((murmur2(key) & 0x7fff_ffff) % u32::from(count.max(1))) as u16
}

/// 32-bit murmur2 with Kafka's seed.
#[must_use]
pub fn murmur2(data: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    let mut h = 0x9747_b28c_u32 ^ data.len() as u32;
    let mut chunks = data.chunks_exact(4);
    for chunk in &mut chunks {
        let mut k = u32::from_le_bytes([chunk[0], chunk[1], chunk[2], chunk[3]]).wrapping_mul(M);
        k ^= k >> 24;
        h = h.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    let rest = chunks.remainder();
    if !rest.is_empty() {
        for (i, byte) in rest.iter().enumerate().rev() {
            h ^= u32::from(*byte) << (8 * i);
        }
        h = h.wrapping_mul(M);
    }
    h ^= h >> 13;
    h = h.wrapping_mul(M);
    h ^ (h >> 15)
}

#[cfg(test)]
mod tests {
    use super::murmur2;

    /// Vectors of `org.apache.kafka.common.utils.UtilsTest.testMurmur2`.
    #[test]
    fn hashes_as_kafka_does() {
        for (text, hash) in [
            ("21", -973_932_308_i32),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            ("abc", 479_470_107),
        ] {
            assert_eq!(murmur2(text.as_bytes()) as i32, hash, "{text}");
        }
    }
}
