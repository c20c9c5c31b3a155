//! Who gets what: every topic, every role, about one's own, another's, and what does not exist.

use std::sync::atomic::Ordering;

use super::client::{Connect, Packet, publish, subscribe};
use super::house::House;

const GRANTED: u8 = 1;
const DENIED: u8 = 0x87;

#[tokio::test]
async fn every_topic_answers_every_role_about_own_others_and_unknown_ones_as_it_should() {
    let house = House::new().await;
    // Own patient, another's, own sensor's commands, another's, all alerts, all commands.
    let filters = [
        "fajma/patient/p1/alerts/critical",
        "fajma/patient/p2/alerts/critical",
        "fajma/sensor/s1/command",
        "fajma/sensor/s2/command",
        "fajma/patient/+/alerts/critical",
        "fajma/sensor/+/command",
        "fajma/consultation/c1/realtime",
    ];
    let topics = [
        "fajma/patient/p1/sensor/s1/data",
        "fajma/patient/p2/sensor/s1/data",
        "fajma/patient/p1/sensor/s2/data",
        "fajma/patient/p1/sensor/s1/status",
    ];
    for (token, listens, writes) in [
        ("admin", "yyyyyyy", "yyyy"),
        ("auditor", "yy..y.y", "...."),
        ("doctor", "y...y.y", "...."),
        ("patient", "y...y.y", "...."),
        ("analyst", ".......", "...."),
        ("device", "..y..y.", "y..y"),
        ("gateway", "..y..y.", "yy.y"),
    ] {
        let (mut client, _) = house.enter(&Connect::new(5, token, token)).await;
        let mut heard = String::new();
        for (n, filter) in filters.iter().enumerate() {
            client.send(&subscribe(5, n as u16 + 1, filter, 1)).await;
            let Packet(0x90, suback) = client.next().await.unwrap() else {
                panic!()
            };
            heard.push(match suback.last() {
                Some(&GRANTED) => 'y',
                Some(&DENIED) => '.',
                other => panic!("{token} {filter}: {other:?}"),
            });
        }
        assert_eq!(heard, listens, "{token} subscribes");
        let mut taken = String::new();
        for (n, topic) in topics.iter().enumerate() {
            let payload = if topic.ends_with("data") {
                r#"{"type":"heart_rate","value":70}"#
            } else {
                r#"{"state":"active"}"#
            };
            client.send(&publish(5, topic, 1, n as u16 + 1, payload)).await;
            let Packet(0x40, puback) = client.next().await.unwrap() else {
                panic!()
            };
            taken.push(match puback.get(2) {
                None | Some(0) => 'y',
                Some(&DENIED) => '.',
                other => panic!("{token} {topic}: {other:?}"),
            });
        }
        assert_eq!(taken, writes, "{token} publishes");
    }
}

#[tokio::test]
async fn who_may_publish_follows_what_is_registered_on_a_connection_that_is_open() {
    let house = House::new().await;
    let (mut client, _) = house.enter(&Connect::new(5, "gate", "bound")).await;
    // Bound to p1: p2 is another's until they are found to be one person, and again once that is taken back.
    for (n, merged) in [false, true, false, true].into_iter().enumerate() {
        house.tokens.1.merged.store(merged, Ordering::SeqCst);
        for (patient, may) in [("p1", true), ("p2", merged)] {
            let topic = format!("fajma/patient/{patient}/sensor/s1/data");
            let payload = r#"{"type":"heart_rate","value":70}"#;
            client.send(publish(5, &topic, 1, n as u16 + 1, payload)).await;
            let answer = client.next().await.unwrap();
            assert_eq!(
                (answer.0, answer.code()),
                (0x40, if may { 0 } else { DENIED }),
                "{patient} {n}"
            );
        }
    }
}
