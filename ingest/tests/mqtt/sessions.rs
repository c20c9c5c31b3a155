//! What outlives a connection.

use super::client::{Connect, PING, Packet, answer, publish, publish_as, subscribe, unsubscribe};
use super::house::{House, limits};
use super::{ALERTS, DATA, reading};

#[tokio::test]
async fn a_session_is_present_when_it_was_kept_and_only_then() {
    let house = House::new().await;
    for v in [4, 5] {
        let id = format!("s{v}");
        for (connect, present) in [
            (Connect::lasting(v, &id, "device"), 0),
            (Connect::lasting(v, &id, "device"), 1),
            (Connect::new(v, &id, "device"), 0),
            (
                Connect {
                    clean: false,
                    ..Connect::new(v, &id, "device")
                },
                0,
            ),
        ] {
            let (mut client, connack) = house.enter(&connect).await;
            assert_eq!(connack.1[0], present, "v{v} {:?}", connect.clean);
            client.send(super::client::DISCONNECT).await;
            assert_eq!(client.rest().await, []);
        }
    }
    // Another's session is another session, under the same id too.
    let (_keep, _) = house.enter(&Connect::lasting(5, "same", "device")).await;
    let (mut other, connack) = house.enter(&Connect::lasting(5, "same", "doctor")).await;
    assert_eq!(connack.1[0], 0);
    other.send(PING).await;
    assert_eq!(other.next().await, Some(Packet(0xd0, vec![])));
}

#[tokio::test]
async fn an_expiry_beyond_ours_is_cut_and_said() {
    let house = House::new().await;
    let forever = Connect {
        props: b"\x11\xff\xff\xff\xff",
        ..Connect::new(5, "e", "device")
    };
    let (_client, connack) = house.enter(&forever).await;
    assert!(connack.1.windows(5).any(|w| w == b"\x11\0\x01\x51\x80"), "{connack:?}");
}

#[tokio::test]
async fn a_qos_2_message_sent_again_over_a_new_connection_is_taken_once() {
    for v in [4, 5] {
        let house = House::new().await;
        let lasting = Connect::lasting(v, "q2", "device");
        let (mut client, _) = house.enter(&lasting).await;
        // Neither time nor sequence: only the protocol can tell that it is the same.
        let payload = r#"{"type":"heart_rate","value":72}"#;
        client.send(publish(v, DATA, 2, 9, payload)).await;
        assert_eq!(client.next().await, Some(Packet(0x50, vec![0, 9])));
        drop(client);
        let (mut client, connack) = house.enter(&lasting).await;
        assert_eq!(connack.1[0], 1);
        client.send(publish_as(v, 0x3c, DATA, 9, b"", payload)).await;
        assert_eq!(client.next().await, Some(Packet(0x50, vec![0, 9])));
        client.send(answer(0x62, 9)).await;
        assert_eq!(client.next().await, Some(Packet(0x70, vec![0, 9])));
        assert_eq!(house.log.journal().len(), 1);
    }
}

#[tokio::test]
async fn a_qos_2_message_that_became_durable_after_the_break_is_taken_once_too() {
    let house = House::new().await;
    let lasting = Connect::lasting(5, "q2", "device");
    let (mut client, _) = house.enter(&lasting).await;
    house.log.gate.send_replace(super::log::Gate::Closed);
    let payload = r#"{"type":"heart_rate","value":72}"#;
    client
        .send([publish(5, DATA, 2, 9, payload), PING.to_vec()].concat())
        .await;
    assert_eq!(client.next().await, Some(Packet(0xd0, vec![])));
    drop(client);
    let mut again = house.dial().await;
    again.send(lasting.bytes()).await;
    house.log.gate.send_replace(super::log::Gate::Open);
    assert_eq!(again.next().await.map(|p| p.1[..2].to_vec()), Some(vec![1, 0]));
    again.send(publish_as(5, 0x3c, DATA, 9, b"", payload)).await;
    assert_eq!(again.next().await, Some(Packet(0x50, vec![0, 9])));
    assert_eq!(house.log.journal().len(), 1);
}

#[tokio::test]
async fn the_newer_connection_takes_the_session_over() {
    let house = House::new().await;
    for (v, expected) in [(5, vec![Packet(0xe0, vec![0x8e])]), (4, vec![])] {
        let mut old = house.device(v, "tk").await;
        let mut new = house.device(v, "tk").await;
        assert_eq!(old.rest().await, expected);
        new.send(PING).await;
        assert_eq!(new.next().await, Some(Packet(0xd0, vec![])));
    }
}

#[tokio::test]
async fn subscriptions_are_answered_one_by_one() {
    let house = House::new().await;
    for (filter, v5, v3) in [
        (ALERTS, 2, 2),
        ("fajma/patient/+/alerts/critical", 2, 2),
        ("fajma/patient/p2/alerts/critical", 0x87, 0x80),
        ("fajma/sensor/s1/command", 0x87, 0x80),
        ("fajma/patient/p1/sensor/s1/data", 0x8f, 0x80),
        ("$share/g/fajma/patient/p1/alerts/critical", 0x9e, 0x80),
    ] {
        for (v, code) in [(5, v5), (4, v3)] {
            let (mut client, _) = house.enter(&Connect::new(v, "sub", "doctor")).await;
            client.send(subscribe(v, 5, filter, 2)).await;
            let expected = if v == 5 { vec![0, 5, 0, code] } else { vec![0, 5, code] };
            assert_eq!(client.next().await, Some(Packet(0x90, expected)), "{filter}");
        }
    }
    let mut device = house.device(5, "own").await;
    device.send(subscribe(5, 6, "fajma/sensor/s1/command", 1)).await;
    assert_eq!(device.next().await, Some(Packet(0x90, vec![0, 6, 0, 1])));
    device.send(unsubscribe(5, 7, "fajma/sensor/s1/command")).await;
    assert_eq!(device.next().await, Some(Packet(0xb0, vec![0, 7, 0, 0])));
    device.send(unsubscribe(5, 8, "fajma/sensor/s1/command")).await;
    assert_eq!(device.next().await, Some(Packet(0xb0, vec![0, 8, 0, 0x11])));
    let mut old = house.device(4, "old").await;
    old.send(unsubscribe(4, 8, "fajma/sensor/s1/command")).await;
    assert_eq!(old.next().await, Some(Packet(0xb0, vec![0, 8])));
}

#[tokio::test]
async fn a_token_that_is_withdrawn_ends_its_connection() {
    let bounds = ingest::mqtt::MqttLimits {
        reauthenticate: std::time::Duration::from_millis(50),
        ..limits()
    };
    let house = House::with(bounds, None).await;
    let (mut client, _) = house.enter(&Connect::new(5, "b", "brief")).await;
    client.send(publish(5, DATA, 1, 1, reading(1))).await;
    assert_eq!(client.next().await.map(|p| p.code()), Some(0));
    house.tokens.0.send_replace(false);
    assert_eq!(client.rest().await, [Packet(0xe0, vec![0x87])]);
}
