//! Messages from sensors and their answers.

use super::client::{Connect, answer, packet, publish, publish_as};
use super::house::House;
use super::{BAD, DATA, STATUS, reading};

#[tokio::test]
async fn each_message_hears_what_became_of_its_records() {
    let house = House::new().await;
    let two = format!("[{},{BAD}]", reading(7));
    for (name, topic, payload, code, rejected) in [
        ("good", DATA, reading(1), 0, None),
        ("all refused", DATA, BAD.to_owned(), 0x99, Some("1")),
        ("all of two refused", DATA, format!("[{BAD},{BAD}]"), 0x99, Some("2")),
        ("one of two refused", DATA, two, 0, Some("1")),
        ("no JSON", DATA, "{".to_owned(), 0x99, Some("1")),
        ("a repeat", DATA, reading(1), 0, None),
        ("a status", STATUS, r#"{"state":"active"}"#.to_owned(), 0, None),
        (
            "another's sensor",
            "fajma/patient/p1/sensor/s2/data",
            reading(2),
            0x87,
            None,
        ),
        (
            "another patient",
            "fajma/patient/p2/sensor/s1/data",
            reading(2),
            0x87,
            None,
        ),
        ("no topic of ours", "sensors/1", reading(2), 0x90, None),
        (
            "an id that is none",
            "fajma/patient/a b/sensor/s1/data",
            reading(2),
            0x90,
            None,
        ),
    ] {
        for (qos, first) in [(1, 0x40), (2, 0x50)] {
            let mut client = house.device(5, "r").await;
            client.send(publish(5, topic, qos, 9, &payload)).await;
            let got = client.next().await.unwrap();
            assert_eq!((got.0, got.id(), got.code()), (first, 9, code), "{name}");
            let property = rejected.map(|n| [b"\x26\0\x08rejected\0\x01", n.as_bytes()].concat());
            assert_eq!(got.1.get(4..).filter(|p| !p.is_empty()), property.as_deref(), "{name}");
        }
    }
    for refused in ["{", "sensors/1", "unauthorised"] {
        let found = house
            .log
            .rejected()
            .into_iter()
            .any(|r| r.bytes == refused || r.detail.contains(refused) || r.code.as_str() == refused);
        assert!(found, "{refused} is kept");
    }
    // Two readings, and a status that, without a time of its own, is news each time.
    assert_eq!(house.log.journal().len(), 4);
}

#[tokio::test]
async fn an_older_client_is_acknowledged_whatever_became_of_it() {
    let house = House::new().await;
    let mut client = house.device(4, "old").await;
    client.send(publish(4, DATA, 1, 1, BAD)).await;
    client.send(publish(4, "sensors/1", 1, 2, BAD)).await;
    client
        .send(publish(4, "fajma/patient/p9/sensor/s9/data", 1, 3, reading(1)))
        .await;
    // Retain says nothing here, and MQTT 3.1.1 could not be told so.
    client.send(publish_as(4, 0x33, DATA, 4, b"", reading(1))).await;
    for id in 1..=4 {
        assert_eq!(client.next().await.map(|p| (p.0, p.1)), Some((0x40, vec![0, id])));
    }
    assert_eq!(house.log.rejected().len(), 3);
    assert_eq!(house.log.journal().len(), 1);
}

#[tokio::test]
async fn a_client_that_wants_no_details_gets_none() {
    let house = House::new().await;
    let terse = Connect {
        props: b"\x17\0",
        ..Connect::new(5, "t", "device")
    };
    let (mut client, _) = house.enter(&terse).await;
    client.send(publish(5, DATA, 1, 1, BAD)).await;
    assert_eq!(client.next().await.map(|p| p.1), Some(vec![0, 1, 0x99]));
}

#[tokio::test]
async fn a_thousand_in_flight_are_answered_in_order_and_stand_in_order() {
    for v in [4, 5] {
        let house = House::new().await;
        let mut client = house.device(v, "many").await;
        let all: Vec<u8> = (1..=1000)
            .flat_map(|i| publish(v, DATA, 1, i, reading(i.into())))
            .collect();
        client.send(all).await;
        for id in 1..=1000 {
            assert_eq!(client.next().await.map(|p| p.id()), Some(id));
        }
        let seqs: Vec<i64> = house.log.journal().iter().filter_map(seq).collect();
        assert_eq!(seqs, (1..=1000).collect::<Vec<_>>());
    }
}

fn seq(envelope: &schemas::journal::Envelope) -> Option<i64> {
    match &envelope.fact {
        schemas::journal::Fact::Reading(r) => r.seq,
        _ => None,
    }
}

#[tokio::test]
async fn qos_2_takes_its_four_steps_and_its_ids_are_used_again() {
    for v in [4, 5] {
        let house = House::new().await;
        let mut client = house.device(v, "q2").await;
        for n in 0..60_u16 {
            let id = n % 20 + 1;
            client.send(publish(v, DATA, 2, id, reading(n.into()))).await;
            assert_eq!(client.next().await.map(|p| (p.0, p.1)), Some((0x50, vec![0, id as u8])));
            client.send(answer(0x62, id)).await;
            assert_eq!(client.next().await.map(|p| (p.0, p.1)), Some((0x70, vec![0, id as u8])));
        }
        assert_eq!(house.log.journal().len(), 60);
    }
}

#[tokio::test]
async fn a_refused_qos_2_message_gives_its_id_back() {
    let house = House::new().await;
    let mut client = house.device(5, "q2r").await;
    client.send(publish(5, DATA, 2, 7, BAD)).await;
    assert_eq!(client.next().await.map(|p| p.code()), Some(0x99));
    client.send(publish(5, DATA, 2, 7, reading(1))).await;
    assert_eq!(client.next().await.map(|p| (p.0, p.code())), Some((0x50, 0)));
    assert_eq!(house.log.journal().len(), 1);
}

#[tokio::test]
async fn releasing_what_was_never_received_is_answered_so() {
    let house = House::new().await;
    for (v, expected) in [(5, vec![0, 4, 0x92]), (4, vec![0, 4])] {
        let mut client = house.device(v, "rel").await;
        client.send(answer(0x62, 4)).await;
        assert_eq!(client.next().await.map(|p| p.1), Some(expected));
    }
}

#[tokio::test]
async fn an_alias_stands_for_its_topic_and_a_label_for_its_format() {
    let house = House::new().await;
    let mut client = house.device(5, "al").await;
    client
        .send(publish_as(5, 0x32, DATA, 1, b"\x23\0\x03", reading(1)))
        .await;
    client.send(publish_as(5, 0x32, "", 2, b"\x23\0\x03", reading(2))).await;
    let senml = br#"[{"n":"heart_rate","u":"/min","v":72,"t":1767600000}]"#;
    let label = [b"\x03\0\x16", &b"application/senml+json"[..]].concat();
    client.send(publish_as(5, 0x32, DATA, 3, &label, senml)).await;
    for id in 1..=3 {
        assert_eq!(client.next().await.map(|p| (p.id(), p.code())), Some((id, 0)), "{id}");
    }
    assert_eq!(house.log.journal().len(), 3);
}

#[tokio::test]
async fn qos_0_is_taken_even_when_the_client_leaves_at_once() {
    let house = House::new().await;
    let mut client = house.device(4, "q0").await;
    client
        .send([publish(4, DATA, 0, 0, reading(1)), packet(0xe0, b"")].concat())
        .await;
    house.log.until(|log| log.journal().len() == 1).await;
}
