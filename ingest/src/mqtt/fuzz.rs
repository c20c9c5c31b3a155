//! Bytes that nobody should send, straight into the readers: none of them may panic.

use bytes::BytesMut;

use super::packet::{self, Version};
use super::{connect, frame};

const SEEDS: [&[u8]; 9] = [
    b"\x10\x3b\0\x04MQTT\x05\xce\0\x3c\x0e\x11\0\0\x01\x2c\x21\0\x05\x22\0\0\x17\0\0\x01c\x05\x18\0\0\0\x01\0\x03a/b\0\x02{}\0\x01u\0\x03tok",
    b"\x10\x1e\0\x04MQTT\x04\xce\0\x3c\0\x01c\0\x03a/b\0\x02{}\0\x01u\0\x03tok",
    b"\x3a\x1a\0\x03a/b\0\x07\x0d\x23\0\x03\x03\0\x07a/jsonxbody",
    b"\x32\x09\0\x03a/b\0\x07{}",
    b"\x82\x0b\0\x01\x00\0\x05a/+/#\x02",
    b"\xa2\x0a\0\x01\x00\0\x05a/+/#",
    b"\xe0\x07\x04\x05\x11\0\0\0\x09",
    b"\x50\x0f\0\x01\x87\x0b\x1f\0\x01x\x26\0\x01k\0\x01v",
    b"\x62\x02\0\x01",
];

#[test]
fn no_bytes_make_a_reader_panic() {
    // xorshift: the same bytes every time.
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut below = |n: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % n as u64) as usize
    };
    for _ in 0..100_000 {
        let mut bytes = SEEDS[below(SEEDS.len())].to_vec();
        for _ in 0..below(5) {
            let at = below(bytes.len());
            match below(4) {
                0 => bytes[at] = below(256) as u8,
                1 => bytes[at] ^= 1 << below(8),
                2 if bytes.len() > 1 => drop(bytes.remove(at)),
                _ => bytes.insert(at, [0, 1, 0x7f, 0x80, 0xff][below(5)]),
            }
        }
        // Most have a wrong length now: half of them are given the right one, so that what is inside is read.
        if below(2) == 0 && bytes.len() > 2 && bytes.len() < 130 {
            bytes[1] = (bytes.len() - 2) as u8;
        }
        let mut buffer = BytesMut::from(&bytes[..]);
        while let Ok(Some(frame)) = frame::take(&mut buffer, 1 << 16) {
            let _ = connect::read(&frame);
            for version in [Version::V3, Version::V5] {
                let _ = packet::read(&frame, version);
            }
        }
    }
}
