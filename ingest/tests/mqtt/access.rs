//! Who gets what: every topic, every role, about one's own, another's, and what does not exist.

use std::sync::atomic::Ordering;

use super::client::{Client, Connect, Packet, publish, subscribe};
use super::house::House;

const GRANTED: u8 = 1;
const DENIED: u8 = 0x87;
/// To whom no token is good.
const NOBODY: u8 = 0x86;

/// Own patient, another's, one of whom nobody knows; the same of sensors and of consultations; all alerts, all commands,
/// everything.
const FILTERS: [&str; 12] = [
    "fajma/patient/p1/alerts/critical",
    "fajma/patient/p2/alerts/critical",
    "fajma/patient/p9/alerts/critical",
    "fajma/sensor/s1/command",
    "fajma/sensor/s2/command",
    "fajma/sensor/s9/command",
    // Whose a consultation is, is found out once it is followed: of another's nothing is told.
    "fajma/consultation/7/realtime",
    "fajma/consultation/8/realtime",
    "fajma/consultation/9/realtime",
    "fajma/patient/+/alerts/critical",
    "fajma/sensor/+/command",
    "#",
];

/// Own sensor on one's own patient, on another's, on one of whom nobody knows; another's sensor, an unknown one; status.
const TOPICS: [&str; 7] = [
    "fajma/patient/p1/sensor/s1/data",
    "fajma/patient/p2/sensor/s1/data",
    "fajma/patient/p9/sensor/s1/data",
    "fajma/patient/p1/sensor/s2/data",
    "fajma/patient/p1/sensor/s9/data",
    "fajma/patient/p1/sensor/s1/status",
    "fajma/patient/p1/sensor/s9/status",
];

/// Which of [`FILTERS`] are granted; a dot where one is not.
async fn listens(client: &mut Client) -> String {
    let mut heard = String::new();
    for (n, filter) in FILTERS.iter().enumerate() {
        client.send(&subscribe(5, n as u16 + 1, filter, 1)).await;
        // What was granted may be told at once.
        let suback = loop {
            match client.next().await.unwrap() {
                Packet(0x90, suback) => break suback,
                Packet(first, _) => assert_eq!(first >> 4, 3, "{filter}"),
            }
        };
        heard.push(match suback.last() {
            Some(&GRANTED) => 'y',
            Some(&DENIED) => '.',
            other => panic!("{filter}: {other:?}"),
        });
    }
    heard
}

/// On which of [`TOPICS`] something is taken.
async fn writes(client: &mut Client) -> String {
    let mut taken = String::new();
    for (n, topic) in TOPICS.iter().enumerate() {
        let payload = if topic.ends_with("data") {
            r#"{"type":"heart_rate","value":70}"#
        } else {
            r#"{"state":"active"}"#
        };
        client.send(&publish(5, topic, 1, n as u16 + 1, payload)).await;
        let puback = loop {
            match client.next().await.unwrap() {
                Packet(0x40, puback) => break puback,
                Packet(first, _) => assert_eq!(first >> 4, 3, "{topic}"),
            }
        };
        taken.push(match puback.get(2) {
            None | Some(0) => 'y',
            Some(&DENIED) => '.',
            other => panic!("{topic}: {other:?}"),
        });
    }
    taken
}

#[tokio::test]
async fn every_topic_answers_every_role_about_own_others_and_unknown_ones_as_it_should() {
    let house = House::new().await;
    for (token, hears, sends) in [
        ("admin", "yyyyyyyyyyyy", "yyyyyyy"),
        ("auditor", "yyy...yyyy.y", "......."),
        ("doctor", "y.....yyyy.y", "......."),
        ("patient", "y.....yyyy.y", "......."),
        ("analyst", "............", "......."),
        ("device", "...y......yy", "y....y."),
        ("gateway", "...y......yy", "yyy..y."),
    ] {
        let (mut client, _) = house.enter(&Connect::new(5, token, token)).await;
        assert_eq!(listens(&mut client).await, hears, "{token} subscribes");
        let (mut client, _) = house.enter(&Connect::new(5, token, token)).await;
        assert_eq!(writes(&mut client).await, sends, "{token} publishes");
    }
}

/// The same when it has ended: the token ran out, it was revoked, the care team is another.
#[tokio::test]
async fn every_role_is_refused_everything_once_its_right_has_ended() {
    let house = House::new().await;
    for role in ["admin", "auditor", "doctor", "patient", "analyst", "device", "gateway"] {
        let (expired, revoked) = (format!("expired {role}"), format!("taken {role}"));
        let connack = house.dial().await.login(&Connect::new(5, role, &expired)).await;
        assert_eq!((connack.0, connack.1[1]), (0x20, NOBODY), "{expired}");
        house.tokens.1.revoked.store(false, Ordering::SeqCst);
        let packets = FILTERS.iter().map(|filter| subscribe(5, 1, filter, 1));
        for packet in packets.chain(TOPICS.iter().map(|topic| publish(5, topic, 1, 1, "{}"))) {
            let (mut client, _) = house.enter(&Connect::new(5, role, &revoked)).await;
            house.tokens.1.revoked.store(true, Ordering::SeqCst);
            client.send(&packet).await;
            assert_eq!(client.rest().await, [Packet(0xe0, vec![DENIED])], "{revoked}");
            let connack = house.dial().await.login(&Connect::new(5, role, &revoked)).await;
            assert_eq!((connack.0, connack.1[1]), (0x20, NOBODY), "{revoked}");
            house.tokens.1.revoked.store(false, Ordering::SeqCst);
        }
    }
    assert!(house.log.journal().is_empty());
    // By care team: what was granted while it was so is told no more, and nothing is granted.
    house.tokens.1.cares.store(true, Ordering::SeqCst);
    let (mut client, _) = house.enter(&Connect::new(5, "ba", "dr.ba")).await;
    assert_eq!(listens(&mut client).await, "y.....yyyy.y");
    house.tokens.1.cares.store(false, Ordering::SeqCst);
    let (mut client, _) = house.enter(&Connect::new(5, "ba", "dr.ba")).await;
    assert_eq!(listens(&mut client).await, "......yyyy.y");
    assert_eq!(writes(&mut client).await, ".......");
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
