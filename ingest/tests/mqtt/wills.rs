//! What is said in a sensor's name when its connection breaks.

use schemas::journal::Fact;

use super::STATUS;
use super::client::{Client, Connect, Packet, publish};
use super::house::House;

const GONE: &str = r#"{"state":"inactive"}"#;

fn with_will<'a>(v: u8, id: &'a str, properties: &'a [u8]) -> Connect<'a> {
    Connect {
        will: Some((STATUS, GONE, false, properties)),
        ..Connect::new(v, id, "device")
    }
}

/// How many last wills stand in the journal.
fn wills(house: &House) -> usize {
    let is_will = |fact: &Fact| matches!(fact, Fact::SensorStatus(s) if s.last_will);
    house.log.journal().iter().filter(|e| is_will(&e.fact)).count()
}

async fn alive(client: &mut Client) {
    client.send(super::client::PING).await;
    assert_eq!(client.next().await, Some(Packet(0xd0, vec![])));
}

#[tokio::test]
async fn a_connection_that_breaks_leaves_its_will_and_one_that_says_goodbye_does_not() {
    for (v, last, expected) in [
        (4, &b""[..], 1),
        (5, b"", 1),
        (4, b"\xe0\0", 0),
        (5, b"\xe0\0", 0),
        (5, b"\xe0\x02\0\0", 0),
        (5, b"\xe0\x02\x04\0", 1),
        (5, b"\x30\xff\xff\xff\xff", 1),
    ] {
        let house = House::new().await;
        let (mut client, _) = house.enter(&with_will(v, "w", b"")).await;
        client.send(last).await;
        drop(client);
        // The session is free for the next one only when the will is durable.
        let (_next, _) = house.enter(&Connect::new(v, "w", "device")).await;
        assert_eq!(wills(&house), expected, "v{v} {last:x?}");
    }
}

#[tokio::test]
async fn a_silent_client_leaves_its_will() {
    let house = House::new().await;
    let (_client, _) = house
        .enter(&Connect {
            keep_alive: 1,
            ..with_will(5, "w", b"")
        })
        .await;
    house.log.until(|_| wills(&house) == 1).await;
}

#[tokio::test]
async fn a_will_that_waits_is_not_sent_when_its_client_is_back_in_time() {
    let house = House::new().await;
    // Will Delay 1 s, Session Expiry 300 s.
    let patient = Connect {
        clean: false,
        props: b"\x11\0\0\x01\x2c",
        ..with_will(5, "w", b"\x18\0\0\0\x01")
    };
    let (client, _) = house.enter(&patient).await;
    drop(client);
    let back = Connect {
        will: None,
        ..patient.clone()
    };
    let (mut client, connack) = house.enter(&back).await;
    assert_eq!(connack.1[0], 1);
    tokio::time::sleep(std::time::Duration::from_millis(1300)).await;
    alive(&mut client).await;
    assert_eq!(wills(&house), 0);
    drop(client);
    let (client, _) = house.enter(&patient).await;
    drop(client);
    house.log.until(|_| wills(&house) == 1).await;
}

#[tokio::test]
async fn a_will_that_waits_is_sent_when_its_session_ends_first() {
    let house = House::new().await;
    let patient = Connect {
        clean: false,
        props: b"\x11\0\0\x01\x2c",
        ..with_will(5, "w", b"\x18\0\0\x01\0")
    };
    let (client, _) = house.enter(&patient).await;
    drop(client);
    let (_anew, _) = house.enter(&Connect::new(5, "w", "device")).await;
    house.log.until(|_| wills(&house) == 1).await;
}

#[tokio::test]
async fn a_will_waits_for_a_log_that_does_not_take_it_yet() {
    let house = House::new().await;
    let (client, _) = house.enter(&with_will(5, "w", b"")).await;
    let failing = super::log::Gate::Failing(eventlog::LogError::Unavailable("test".to_owned()));
    house.log.gate.send_replace(failing);
    drop(client);
    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    house.log.gate.send_replace(super::log::Gate::Open);
    house.log.until(|_| wills(&house) == 1).await;
}

#[tokio::test]
async fn a_will_stands_after_what_its_client_had_sent() {
    let house = House::new().await;
    let (mut client, _) = house.enter(&with_will(5, "w", b"")).await;
    client.send(publish(5, STATUS, 0, 0, r#"{"state":"active"}"#)).await;
    drop(client);
    house.log.until(|_| wills(&house) == 1).await;
    let states: Vec<bool> = house
        .log
        .journal()
        .iter()
        .map(|e| matches!(&e.fact, Fact::SensorStatus(s) if s.last_will))
        .collect();
    assert_eq!(states, [false, true]);
}
