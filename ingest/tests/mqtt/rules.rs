//! What the protocol forbids, and what it says about each.

use super::client::{Connect, DISCONNECT, PING, Packet, answer, packet, props, publish, publish_as, subscribe, text};
use super::house::{House, limits};
use super::{DATA, reading};

#[tokio::test]
async fn whoever_breaks_the_rules_is_told_why_and_leaves() {
    let house = House::new().await;
    for v in [5, 4] {
        let p = |properties: &[u8]| props(v, properties);
        let raw = |first, parts: &[&[u8]]| packet(first, &parts.concat());
        let mut wrong_flags = subscribe(v, 1, "a", 0);
        wrong_flags[0] = 0x80;
        let mut cases = vec![
            ("a length of five bytes", b"\x30\xff\xff\xff\xff\x7f".to_vec(), 0x81),
            (
                "a topic that is no UTF-8",
                raw(0x30, &[&text(b"t\xff\xfe"), &p(b""), b"x"]),
                0x81,
            ),
            ("NUL in a topic", raw(0x30, &[&text("t\0x"), &p(b""), b"x"]), 0x81),
            ("packet id 0", publish(v, DATA, 1, 0, "x"), 0x82),
            ("QoS 2 with packet id 0", publish(v, DATA, 2, 0, "x"), 0x82),
            ("flags of SUBSCRIBE", wrong_flags, 0x81),
            ("flags of PUBREL", answer(0x60, 1), 0x81),
            ("flags of PINGREQ", b"\xc1\0".to_vec(), 0x81),
            ("QoS 3", raw(0x36, &[&text("t"), b"\0\x01", &p(b""), b"x"]), 0x81),
            ("DUP with QoS 0", publish_as(v, 0x38, DATA, 0, b"", "x"), 0x81),
            ("a wildcard in a topic's name", publish(v, "fajma/#", 1, 1, "x"), 0x90),
            ("no filter", raw(0x82, &[b"\0\x01", &p(b"")]), 0x82),
            ("reserved options", subscribe(v, 1, "a", 0xff), 0x81),
            ("SUBSCRIBE with packet id 0", subscribe(v, 0, "a", 0), 0x82),
            ("a filter that is none", subscribe(v, 1, "a/#/b", 0), 0x81),
            ("an empty filter", subscribe(v, 1, "", 0), 0x81),
            ("a PUBLISH that ends too early", packet(0x32, b"\0"), 0x81),
            ("a second CONNECT", Connect::new(v, "x", "device").bytes(), 0x82),
            ("CONNACK from a client", b"\x20\x02\0\0".to_vec(), 0x82),
            ("type 0", b"\0\0".to_vec(), 0x81),
            ("PINGREQ with a body", b"\xc0\x01x".to_vec(), 0x81),
            (
                "a packet beyond the limit",
                publish(v, DATA, 1, 1, vec![b'x'; 20_000]),
                0x95,
            ),
            ("AUTH", b"\xf0\0".to_vec(), 0x82),
        ];
        if v == 5 {
            cases.extend([
                ("no property length", raw(0x32, &[&text(DATA), b"\0\x01"]), 0x81),
                (
                    "a property twice",
                    publish_as(v, 0x32, DATA, 1, b"\x01\0\x01\0", "x"),
                    0x82,
                ),
                (
                    "a property of another packet",
                    publish_as(v, 0x32, DATA, 1, b"\x21\0\x01", "x"),
                    0x82,
                ),
                (
                    "a subscription identifier",
                    raw(0x82, &[b"\0\x01\x02\x0b\x01", &text("a"), b"\0"]),
                    0xa1,
                ),
                ("retain with QoS 0", publish_as(v, 0x31, DATA, 0, b"", "x"), 0x9a),
                ("retain with QoS 1", publish_as(v, 0x33, DATA, 1, b"", "x"), 0x9a),
                (
                    "an alias that was not set",
                    publish_as(v, 0x32, "", 1, b"\x23\0\x07", "x"),
                    0x94,
                ),
                (
                    "an alias beyond the limit",
                    publish_as(v, 0x32, DATA, 1, b"\x23\0\x63", "x"),
                    0x94,
                ),
                ("alias 0", publish_as(v, 0x32, DATA, 1, b"\x23\0\0", "x"), 0x82),
                ("no topic and no alias", publish(v, "", 1, 1, "x"), 0x94),
                (
                    "a session kept after all",
                    b"\xe0\x07\0\x05\x11\0\0\0\x09".to_vec(),
                    0x82,
                ),
            ]);
        }
        for (name, bytes, reason) in cases {
            let mut client = house.device(v, "m").await;
            client.send(&bytes).await;
            let expected = if v == 5 {
                vec![Packet(0xe0, vec![reason])]
            } else {
                vec![]
            };
            assert_eq!(client.rest().await, expected, "v{v}: {name}");
        }
    }
    assert!(house.log.journal().is_empty());
    house.device(5, "alive").await;
}

#[tokio::test]
async fn a_connect_is_let_in_or_refused_in_its_own_words() {
    let house = House::new().await;
    let raw =
        |level: u8, flags: u8, rest: &[u8]| packet(0x10, &[&text("MQTT")[..], &[level, flags, 0, 60], rest].concat());
    let status = super::STATUS;
    let with_will = |v, topic, retain| {
        Connect {
            will: Some((topic, "{}", retain, b"")),
            ..Connect::new(v, "c", "device")
        }
        .bytes()
    };
    for (name, bytes, expected) in [
        ("a wrong token", Connect::new(5, "c", "wrong").bytes(), Some((0, 0x86))),
        ("a wrong token", Connect::new(4, "c", "wrong").bytes(), Some((0, 4))),
        ("no token", raw(5, 2, b"\0\0\x01c"), Some((0, 0x86))),
        ("no token", raw(4, 2, b"\0\x01c"), Some((0, 4))),
        (
            "a token without a user name",
            raw(5, 0x42, b"\0\0\x01c\0\x06device"),
            Some((0, 0)),
        ),
        (
            "Topic Alias Maximum 0",
            raw(5, 0x42, b"\x03\x22\0\0\0\x01c\0\x06device"),
            Some((0, 0)),
        ),
        (
            "a method",
            raw(5, 0x42, b"\x04\x15\0\x01m\0\x01c\0\x06device"),
            Some((0, 0x8c)),
        ),
        ("level 6", raw(6, 2, b"\0\0\x01c"), Some((0, 0x84))),
        (
            "MQTT 3.1",
            packet(0x10, b"\0\x06MQIsdp\x03\x02\0\x3c\0\x01c"),
            Some((0, 1)),
        ),
        ("the reserved flag", raw(5, 3, b"\0\0\x01c"), Some((0, 0x81))),
        ("the reserved flag", raw(4, 3, b"\0\x01c"), None),
        ("Receive Maximum 0", raw(5, 2, b"\x03\x21\0\0\0\x01c"), Some((0, 0x82))),
        (
            "a lasting session without an id",
            Connect::lasting(4, "", "device").bytes(),
            Some((0, 2)),
        ),
        ("a will with retain", with_will(5, status, true), Some((0, 0x9a))),
        ("a will with retain", with_will(4, status, true), Some((0, 0))),
        (
            "a will of another's sensor",
            with_will(5, "fajma/patient/p1/sensor/s2/status", false),
            Some((0, 0x87)),
        ),
        (
            "a will of another's sensor",
            with_will(4, "fajma/patient/p1/sensor/s2/status", false),
            Some((0, 5)),
        ),
        ("a will that is no status", with_will(5, DATA, false), Some((0, 0x90))),
        ("something else", b"\x30\x05hello".to_vec(), None),
        ("another protocol", packet(0x10, b"\0\x04HTTP\x04\x02\0\0\0\x01x"), None),
        (
            "a packet that is announced too large",
            b"\x10\xff\xff\xff\x7f".to_vec(),
            None,
        ),
    ] {
        let mut client = house.dial().await;
        client.send(&bytes).await;
        let got = client.next().await.map(|p| (p.1[0], p.1[1]));
        assert_eq!(got, expected, "{name}");
    }
}

#[tokio::test]
async fn a_client_without_an_id_is_given_one_and_learns_the_bounds() {
    let house = House::new().await;
    let (_client, connack) = house.enter(&Connect::new(5, "", "device")).await;
    let text = String::from_utf8_lossy(&connack.1).into_owned();
    assert!(text.contains("fajma-"), "{connack:?}");
    for (what, bytes) in [
        ("receive maximum 2000", &b"\x21\x07\xd0"[..]),
        ("packet size 16384", &b"\x27\0\0\x40\0"[..]),
        ("no retain", &b"\x25\0"[..]),
        ("no shared subscriptions", &b"\x2a\0"[..]),
    ] {
        assert!(
            connack.1.windows(bytes.len()).any(|w| w == bytes),
            "{what}: {connack:?}"
        );
    }
    house.enter(&Connect::new(4, "", "device")).await;
}

#[tokio::test]
async fn a_client_that_says_nothing_is_not_waited_for() {
    let house = House::new().await;
    assert_eq!(house.dial().await.rest().await, []);
    let mut half = house.dial().await;
    half.send(&Connect::new(5, "c", "device").bytes()[..9]).await;
    assert_eq!(half.rest().await, []);
}

#[tokio::test]
async fn a_client_that_falls_silent_is_told_and_one_that_pings_stays() {
    let house = House::new().await;
    let silent = Connect {
        keep_alive: 1,
        ..Connect::new(5, "ka", "device")
    };
    let (mut client, _) = house.enter(&silent).await;
    assert_eq!(client.rest().await, [Packet(0xe0, vec![0x8d])]);
    let (mut client, _) = house.enter(&silent).await;
    for _ in 0..3 {
        tokio::time::sleep(std::time::Duration::from_millis(700)).await;
        client.send(PING).await;
        assert_eq!(client.next().await, Some(Packet(0xd0, vec![])));
    }
}

#[tokio::test]
async fn more_in_flight_than_was_promised_ends_an_mqtt_5_connection() {
    let house = House::with(
        ingest::mqtt::MqttLimits {
            messages_in_flight: 10,
            ..limits()
        },
        None,
    )
    .await;
    house.log.gate.send_replace(super::log::Gate::Closed);
    let mut client = house.device(5, "rm").await;
    let many: Vec<u8> = (1..=11)
        .flat_map(|i| publish(5, DATA, 2, i, reading(i.into())))
        .collect();
    client.send(many).await;
    assert_eq!(client.rest().await, [Packet(0xe0, vec![0x93])]);
}

#[tokio::test]
async fn a_farewell_is_answered_by_silence() {
    let house = House::new().await;
    for v in [5, 4] {
        let mut client = house.device(v, "bye").await;
        client.send(DISCONNECT).await;
        assert_eq!(client.rest().await, []);
    }
}
