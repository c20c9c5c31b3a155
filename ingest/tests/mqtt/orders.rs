//! Commands: given where their sensor listens, and to nobody else in its place.

use eventlog::{Clock, SystemClock};
use schemas::facts::{CommandIssued, CommandName};
use schemas::ids::SensorId;
use schemas::journal::Fact;
use schemas::time::Span;

use super::client::{Client, Connect, Packet, subscribe};
use super::house::House;

fn issue(house: &House, sensor: &str, command: &str) {
    let now = SystemClock.now();
    let issued = CommandIssued {
        command_id: command.into(),
        name: CommandName::Identify,
        metric: None,
        offset: None,
        every: None,
        expires_at: now + Span::hours(1),
        by: "x".into(),
    };
    house.commands.issued(&SensorId::new(sensor).unwrap(), &issued, now);
}

/// The next command that a client is told; what its subscriptions are answered with is passed over.
async fn told(client: &mut Client) -> String {
    loop {
        let Packet(first, body) = client.next().await.unwrap();
        if first >> 4 == 3 {
            let text = String::from_utf8_lossy(&body).into_owned();
            let id = text.split(r#""command_id":""#).nth(1).unwrap();
            return id.split('"').next().unwrap().to_owned();
        }
        assert_eq!(first, 0x90, "{body:?}");
    }
}

async fn listening(house: &House, token: &str, filter: &str, code: u8) -> Client {
    let (mut client, _) = house.enter(&Connect::new(5, token, token)).await;
    client.send(&subscribe(5, 1, filter, 1)).await;
    let suback = client.next().await.unwrap();
    assert_eq!((suback.0, suback.1.last()), (0x90, Some(&code)), "{token} {filter}");
    client
}

/// What is written down as handed over: command and attempt, in byte order.
fn written(house: &House) -> Vec<(String, i32)> {
    let sent = |fact| match fact {
        Fact::CommandSent(it) => Some((it.command_id.to_string(), it.attempt)),
        _ => None,
    };
    let journal = house.log.journal();
    let mut written: Vec<_> = journal.into_iter().filter_map(|envelope| sent(envelope.fact)).collect();
    written.sort();
    written
}

async fn until_written(house: &House, command: &str) {
    let there = async {
        while written(house).iter().all(|(id, _)| id != command) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(super::SOON, there).await.unwrap();
}

#[tokio::test]
async fn a_command_is_given_where_its_sensor_listens_and_who_may_see_it_gets_no_more_than_a_copy() {
    let house = House::new().await;
    let mut watching = listening(&house, "admin", "fajma/sensor/+/command", 1).await;
    let mut other = listening(&house, "other", "fajma/sensor/+/command", 1).await;
    issue(&house, "s1", "first");
    issue(&house, "s2", "second");
    // s1 was looked for before s2 was told.
    assert_eq!(told(&mut other).await, "second");
    assert_eq!(told(&mut watching).await, "second");
    until_written(&house, "second").await;
    assert_eq!(written(&house), [("second".to_owned(), 1)], "nobody was told for s1");
    let mut device = house.device(5, "s1").await;
    device.send(&subscribe(5, 1, "fajma/sensor/s1/command", 1)).await;
    assert_eq!(told(&mut device).await, "first");
    assert_eq!(told(&mut watching).await, "first");
    until_written(&house, "first").await;
    assert_eq!(written(&house), [("first".to_owned(), 1), ("second".to_owned(), 1)]);
}

#[tokio::test]
async fn nobody_makes_us_think_that_anothers_sensor_has_begun_to_listen() {
    let house = House::new().await;
    let mut device = listening(&house, "device", "fajma/sensor/s1/command", 1).await;
    issue(&house, "s1", "first");
    assert_eq!(told(&mut device).await, "first");
    until_written(&house, "first").await;
    // Neither who may not listen there, nor who may.
    let _stranger = listening(&house, "other", "fajma/sensor/s1/command", 0x87).await;
    let _watching = listening(&house, "admin", "#", 1).await;
    issue(&house, "s1", "second");
    assert_eq!(told(&mut device).await, "second", "the first is not due yet");
    // A gateway of the sensor's own is told at once.
    let mut gateway = listening(&house, "gateway", "fajma/sensor/+/command", 1).await;
    assert_eq!(told(&mut gateway).await, "first");
    assert_eq!(told(&mut device).await, "first");
}
