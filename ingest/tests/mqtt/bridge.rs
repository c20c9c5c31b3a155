//! The bridge as another broker meets it: what is acknowledged, when, and what is known when it comes again.

use std::sync::Arc;
use std::time::Duration;

use eventlog::{EventLog, LogError, SystemClock};
use ingest::mqtt::bridge::{Bridge, Broker};
use ingest::{Intake, Limits};
use schemas::facts::Door;
use schemas::policy::Policy;
use tokio::io::DuplexStream;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::client::{Client, Packet, publish, publish_as};
use super::log::{Gate, TestLog};
use super::{BAD, DATA, reading};

struct Bridged {
    log: Arc<TestLog>,
    bridge: Arc<Bridge>,
    stop: CancellationToken,
}

/// A reading of a device that has neither clock nor counter.
const BARE: &str = r#"{"type":"heart_rate","value":72}"#;
/// Says which of its two answers to CONNECT a broker of MQTT 5 gives: a new session, or the one there was.
const NEW: &[u8] = &[0x20, 3, 0, 0, 0];
const KEPT: &[u8] = &[0x20, 3, 1, 0, 0];
const GRANTED: &[u8] = &[0x90, 5, 0, 1, 0, 1, 1];

impl Bridged {
    fn new() -> Self {
        let log = TestLog::new();
        let (_, policy) = watch::channel(Arc::new(Policy::standard()));
        let as_log: Arc<dyn EventLog> = Arc::clone(&log) as _;
        let intake = Intake::new(as_log, Arc::new(SystemClock), policy, Arc::default(), Limits::default());
        let broker = Broker {
            client_id: "bridge".to_owned(),
            login: None,
            filters: Vec::new(),
            prefix: String::new(),
            keep_alive: Duration::from_secs(30),
            session: Duration::from_secs(60),
            messages_in_flight: 100,
            bytes_in_flight: 1 << 20,
            packet_bytes: 0,
        };
        Self {
            log,
            bridge: Bridge::new(intake, broker),
            stop: CancellationToken::new(),
        }
    }

    /// A connection, seen from the broker's side; and how it ended.
    fn connect(&self) -> (Client<DuplexStream>, JoinHandle<Result<(), String>>) {
        let (ours, theirs) = tokio::io::duplex(1 << 20);
        let (bridge, stop) = (Arc::clone(&self.bridge), self.stop.clone());
        let ended = tokio::spawn(async move { bridge.connection(ours, Box::new(|| {}), stop).await });
        (Client::over(theirs), ended)
    }

    /// The same, once the broker has let us in and granted everything.
    async fn connected(&self, welcome: &[u8]) -> (Client<DuplexStream>, JoinHandle<Result<(), String>>) {
        let (mut broker, ended) = self.connect();
        assert_eq!(broker.next().await.map(|p| p.0), Some(0x10));
        broker.send(welcome).await;
        assert_eq!(broker.next().await.map(|p| p.0), Some(0x82));
        broker.send(GRANTED).await;
        (broker, ended)
    }
}

/// The next packet that is no ping.
async fn answer(broker: &mut Client<DuplexStream>) -> Option<Packet> {
    loop {
        match broker.next().await {
            Some(Packet(0xc0, _)) => {}
            other => return other,
        }
    }
}

fn acknowledged(id: u8) -> Option<Packet> {
    Some(Packet(0x40, vec![0, id]))
}

#[tokio::test]
async fn a_message_is_acknowledged_once_it_is_durable_the_refused_as_well() {
    let house = Bridged::new();
    let (mut broker, _) = house.connected(NEW).await;
    house.log.gate.send_replace(Gate::Closed);
    broker.send(publish(5, DATA, 1, 1, reading(1))).await;
    broker.send(publish(5, DATA, 1, 2, BAD)).await;
    broker.send(publish(5, "kitchen/lamp", 1, 3, "on")).await;
    let early = tokio::time::timeout(Duration::from_millis(300), answer(&mut broker)).await;
    assert!(early.is_err(), "{early:?}");
    house.log.gate.send_replace(Gate::Open);
    for id in 1..=3 {
        assert_eq!(answer(&mut broker).await, acknowledged(id));
    }
    let doors: Vec<_> = house.log.rejected().iter().map(|r| (r.door, r.field.clone())).collect();
    assert_eq!(
        doors,
        [
            (Door::Bridge, Some("value".into())),
            (Door::Bridge, Some("topic".into()))
        ]
    );
    assert_eq!(house.log.journal().len(), 1);
    house.stop.cancel();
    assert_eq!(
        answer(&mut broker).await,
        Some(Packet(0xe0, vec![])),
        "it takes its leave"
    );
}

#[tokio::test]
async fn what_the_log_does_not_take_is_not_acknowledged_and_the_connection_ends() {
    let house = Bridged::new();
    let (mut broker, ended) = house.connected(NEW).await;
    house
        .log
        .gate
        .send_replace(Gate::Failing(LogError::Unavailable("test".to_owned())));
    broker.send(publish(5, DATA, 1, 1, reading(1))).await;
    assert_eq!(answer(&mut broker).await, None);
    let why = ended.await.unwrap().unwrap_err();
    assert!(why.contains("nothing is acknowledged"), "{why}");
}

#[tokio::test]
async fn what_is_durable_and_comes_again_is_known_even_where_its_content_does_not_tell() {
    let house = Bridged::new();
    let (mut broker, ended) = house.connected(NEW).await;
    house.log.gate.send_replace(Gate::Closed);
    broker.send(publish(5, DATA, 1, 7, BARE)).await;
    // Taken, but its acknowledgement finds nobody any more.
    tokio::time::timeout(Duration::from_millis(200), answer(&mut broker))
        .await
        .unwrap_err();
    drop(broker);
    house.log.gate.send_replace(Gate::Open);
    assert!(ended.await.unwrap().is_err());
    assert_eq!(house.log.journal().len(), 1);

    let (mut broker, _) = house.connected(KEPT).await;
    broker.send(publish_as(5, 0x3a, DATA, 7, b"", BARE)).await;
    assert_eq!(answer(&mut broker).await, acknowledged(7));
    assert_eq!(house.log.journal().len(), 1, "known by its packet id and content");
    // The same words under the same id, but not again: another reading.
    broker.send(publish(5, DATA, 1, 7, BARE)).await;
    assert_eq!(answer(&mut broker).await, acknowledged(7));
    assert_eq!(house.log.journal().len(), 2);
    drop(broker);

    // In another session ids mean other messages.
    let (mut broker, _) = house.connected(NEW).await;
    broker.send(publish_as(5, 0x3a, DATA, 7, b"", BARE)).await;
    assert_eq!(answer(&mut broker).await, acknowledged(7));
    assert_eq!(house.log.journal().len(), 3);
}

#[tokio::test]
async fn what_a_broker_retains_is_passed_over_and_a_monster_does_not_hold_up_what_follows() {
    let house = Bridged::new();
    let (mut broker, _) = house.connected(NEW).await;
    broker.send(publish_as(5, 0x33, DATA, 1, b"", BARE)).await;
    assert_eq!(answer(&mut broker).await, acknowledged(1));
    let monster = format!("[{}]", vec![BARE; 20_000].join(","));
    let sent = tokio::spawn(async move {
        broker.send(publish(5, DATA, 1, 2, monster)).await;
        broker.send(publish(5, DATA, 1, 3, reading(3))).await;
        broker
    });
    let mut broker = sent.await.unwrap();
    assert_eq!(answer(&mut broker).await, acknowledged(2));
    assert_eq!(answer(&mut broker).await, acknowledged(3));
    assert_eq!(house.log.journal().len(), 1);
    assert_eq!(house.log.rejected()[0].code.as_str(), "too_large");
}

#[tokio::test]
async fn a_broker_that_speaks_no_mqtt_5_is_spoken_to_in_3_1_1() {
    let house = Bridged::new();
    let (mut broker, ended) = house.connect();
    broker.next().await.unwrap();
    broker.send([0x20, 2, 0, 1]).await;
    assert!(ended.await.unwrap().unwrap_err().contains("3.1.1"));
    let (mut broker, _) = house.connect();
    let hello = broker.next().await.unwrap();
    assert_eq!(&hello.1[..7], b"\0\x04MQTT\x04");
    broker.send([0x20, 2, 1, 0]).await;
    assert_eq!(broker.next().await.map(|p| p.0), Some(0x82));
    broker.send([0x90, 4, 0, 1, 1, 1]).await;
    broker.send(publish(4, DATA, 1, 9, reading(1))).await;
    assert_eq!(answer(&mut broker).await, acknowledged(9));
    assert_eq!(house.log.journal().len(), 1);
}

#[tokio::test]
async fn a_broker_that_grants_less_than_qos_1_or_lets_nobody_in_is_said_plainly() {
    for (welcome, granted, said) in [
        (NEW, &[0x90, 5, 0, 1, 0, 1, 0][..], "status with QoS 1"),
        (NEW, &[0x90, 5, 0, 1, 0, 0x87, 1], "data with QoS 1"),
        (&[0x20, 3, 0, 0x86, 0], GRANTED, "user name and password"),
        (&[0x90, 3, 0, 0x86, 0], GRANTED, "no MQTT broker"),
    ] {
        let house = Bridged::new();
        let (mut broker, ended) = house.connect();
        broker.next().await.unwrap();
        broker.send(welcome).await;
        broker.send(granted).await;
        let why = ended.await.unwrap().unwrap_err();
        assert!(why.contains(said), "{why}");
    }
}
