//! Bytes that nobody should send: whatever comes, the door neither panics nor stops serving others.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on stops")]

use std::sync::atomic::{AtomicUsize, Ordering};

#[path = "mqtt/client.rs"]
#[allow(dead_code, reason = "shared with the other tests of the door")]
mod client;
#[path = "mqtt/house.rs"]
#[allow(dead_code, reason = "shared with the other tests of the door")]
mod house;
#[path = "mqtt/log.rs"]
#[allow(dead_code, reason = "shared with the other tests of the door")]
mod log;

use client::{Connect, PING, Packet, answer, packet, publish, publish_as, subscribe, unsubscribe};

const SOON: std::time::Duration = std::time::Duration::from_secs(20);
const CONNECTIONS: usize = 1500;

/// A small generator whose sequence never changes (xorshift).
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % n as u64) as usize
    }
}

fn seeds(v: u8) -> Vec<Vec<u8>> {
    let topic = "fajma/patient/p1/sensor/s1/data";
    let good = r#"{"type":"heart_rate","value":72,"seq":1}"#;
    let alias: &[u8] = if v == 5 { b"\x23\0\x01" } else { b"" };
    let will = Connect {
        will: Some((
            "fajma/patient/p1/sensor/s1/status",
            "{}",
            false,
            if v == 5 { b"\x18\0\0\0\x01" } else { b"" },
        )),
        ..Connect::new(v, "w", "device")
    };
    vec![
        Connect::lasting(v, "f", "device").bytes(),
        will.bytes(),
        publish(v, topic, 0, 0, good),
        publish(v, topic, 1, 3, good),
        publish(v, topic, 2, 4, good),
        publish_as(v, 0x3c, topic, 4, alias, good),
        publish_as(v, 0x32, "", 5, alias, good),
        answer(0x62, 4),
        subscribe(v, 1, "fajma/patient/+/alerts/critical", 2),
        unsubscribe(v, 5, "fajma/patient/+/alerts/critical"),
        PING.to_vec(),
        answer(0x40, 1),
        answer(0x50, 1),
        answer(0x70, 1),
        packet(0xe0, b""),
        packet(0xf0, b"\0\0"),
    ]
}

fn spoilt(random: &mut Random, mut bytes: Vec<u8>) -> Vec<u8> {
    for _ in 0..[0, 0, 1, 1, 2, 4][random.below(6)] {
        if bytes.is_empty() {
            break;
        }
        let at = random.below(bytes.len());
        match random.below(4) {
            0 => bytes[at] = random.below(256) as u8,
            1 => bytes[at] ^= 1 << random.below(8),
            2 => drop(bytes.remove(at)),
            _ => bytes.insert(at, [0, 255, 0x80, 1][random.below(4)]),
        }
    }
    bytes
}

#[tokio::test]
async fn whatever_comes_the_door_neither_panics_nor_stops_serving_others() {
    static PANICS: AtomicUsize = AtomicUsize::new(0);
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        PANICS.fetch_add(1, Ordering::SeqCst);
        report(info);
    }));
    let house = house::House::new().await;
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for n in 0..CONNECTIONS {
        let v = [4, 5][random.below(2)];
        let seeds = seeds(v);
        let mut bytes = Vec::new();
        if random.below(10) > 0 {
            let id = format!("f{}", random.below(3));
            let connect = Connect::lasting(v, &id, ["device", "doctor", "admin"][random.below(3)]);
            bytes = Connect {
                clean: random.below(2) == 0,
                ..connect
            }
            .bytes();
        }
        for _ in 0..1 + random.below(7) {
            let seed = seeds[random.below(seeds.len())].clone();
            bytes.extend(spoilt(&mut random, seed));
        }
        let mut client = house.dial().await;
        client.send(bytes).await;
        if n % 3 == 0 {
            client.send(packet(0xe0, b"")).await;
            // Whatever is said: it ends.
            while tokio::time::timeout(std::time::Duration::from_millis(20), client.next())
                .await
                .is_ok_and(|p| p.is_some())
            {}
        }
    }
    assert_eq!(PANICS.load(Ordering::SeqCst), 0);
    let (mut client, _) = house.enter(&Connect::new(5, "alive", "device")).await;
    client.send(PING).await;
    assert_eq!(client.next().await, Some(Packet(0xd0, vec![])));
}
