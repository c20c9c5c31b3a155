//! Nothing is acknowledged before it is durable, and nothing at all where the log does not take it.

use std::sync::Arc;
use std::time::Duration;

use eventlog::LogError;
use ingest::Clocks;

use super::client::{Connect, Packet, publish, publish_as};
use super::house::{House, limits};
use super::log::Gate;
use super::{DATA, reading};

#[tokio::test]
async fn there_is_no_answer_while_the_log_holds_back() {
    for (v, qos, first) in [(4, 1, 0x40), (4, 2, 0x50), (5, 1, 0x40), (5, 2, 0x50)] {
        let house = House::new().await;
        let mut client = house.device(v, "d").await;
        house.log.gate.send_replace(Gate::Closed);
        client.send(publish(v, DATA, qos, 3, reading(1))).await;
        // The same QoS 2 message again is no reason to answer sooner, or twice.
        if qos == 2 {
            client.send(publish_as(v, 0x3c, DATA, 3, b"", reading(1))).await;
        }
        client.send(super::client::PING).await;
        assert_eq!(
            client.next().await,
            Some(Packet(0xd0, vec![])),
            "the door lives, and answers only the ping"
        );
        house.log.gate.send_replace(Gate::Open);
        assert_eq!(client.next().await, Some(Packet(first, vec![0, 3])));
        client.send(super::client::PING).await;
        assert_eq!(client.next().await, Some(Packet(0xd0, vec![])));
        assert_eq!(house.log.journal().len(), 1);
    }
}

#[tokio::test]
async fn what_the_log_does_not_take_is_not_acknowledged_and_the_client_has_to_come_again() {
    for (error, reason) in [
        (LogError::Full("test".to_owned()), 0x97),
        (LogError::Unavailable("test".to_owned()), 0x89),
    ] {
        for (v, expected) in [(5, vec![Packet(0xe0, vec![reason])]), (4, vec![])] {
            let house = House::new().await;
            let mut client = house.device(v, "f").await;
            house.log.gate.send_replace(Gate::Failing(error.clone()));
            client.send(publish(v, DATA, 1, 3, reading(1))).await;
            assert_eq!(client.rest().await, expected, "{error} v{v}");
        }
    }
}

#[tokio::test]
async fn nobody_is_let_in_by_a_door_whose_clock_cannot_be_gone_by() {
    for (v, code) in [(5, 0x88), (4, 0x03)] {
        let house = House::by(Arc::new(Clocks::others()), limits(), None).await;
        let mut client = house.dial().await;
        // By a wrong clock tokens are not good either.
        let connack = client.login(&Connect::new(v, "c", "expired")).await;
        assert_eq!((connack.0, connack.1[1]), (0x20, code), "v{v}");
        assert_eq!(house.log.journal().len(), 0);
    }
}

#[tokio::test]
async fn a_client_is_not_read_from_while_too_much_is_on_its_way() {
    let bounds = ingest::mqtt::MqttLimits {
        messages_in_flight: 50,
        ..limits()
    };
    let house = House::with(bounds, None).await;
    let mut client = house.device(4, "p").await;
    house.log.gate.send_replace(Gate::Closed);
    let all: Vec<u8> = (1..=60_000)
        .flat_map(|i| publish(4, DATA, 1, i, reading(i.into())))
        .collect();
    let sending = async { tokio::time::timeout(Duration::from_millis(300), client.send(&all)).await };
    assert!(sending.await.is_err(), "the door went on reading");
}

#[tokio::test]
async fn the_whole_door_takes_no_more_than_its_memory_allows_and_goes_on_when_there_is_room() {
    let bounds = ingest::mqtt::MqttLimits {
        total_bytes_in_flight: 4 << 10,
        ..limits()
    };
    let house = House::with(bounds, None).await;
    house.log.gate.send_replace(Gate::Closed);
    let mut clients = Vec::new();
    for n in 0..4_usize {
        let mut client = house.device(4, &format!("c{n}")).await;
        let some: Vec<u8> = (1..=20)
            .flat_map(|i| publish(4, DATA, 1, i, reading(n * 100 + usize::from(i))))
            .collect();
        client.send(some).await;
        clients.push(client);
    }
    house.log.gate.send_replace(Gate::Open);
    for client in &mut clients {
        for id in 1..=20 {
            assert_eq!(client.next().await.map(|p| p.id()), Some(id));
        }
    }
    assert_eq!(house.log.journal().len(), 80);
}

#[tokio::test]
async fn a_door_that_stops_says_what_became_of_the_last_messages_first() {
    let mut house = House::new().await;
    let mut client = house.device(5, "s").await;
    house.log.gate.send_replace(Gate::Closed);
    client.send(publish(5, DATA, 1, 3, reading(1))).await;
    client.send(super::client::PING).await;
    assert_eq!(client.next().await, Some(Packet(0xd0, vec![])));
    house.stop.cancel();
    house.log.gate.send_replace(Gate::Open);
    assert_eq!(
        client.rest().await,
        [Packet(0x40, vec![0, 3]), Packet(0xe0, vec![0x8b])]
    );
    house.served.take().unwrap().await.unwrap();
}
