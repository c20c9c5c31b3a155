//! Alerts on their way out.

use schemas::derived::{Derived, Origin, Outcome};
use schemas::facts::{AlertChange, AlertChanged, AlertClass, AlertState, Severity};
use schemas::ids::{EventId, Key, PatientId};
use schemas::time::Timestamp;

use super::ALERTS;
use super::client::{Client, Connect, Packet, answer, subscribe, unsubscribe};
use super::house::House;

fn alert(patient: &str, offset: i64, change: AlertChange) -> Derived {
    let id = EventId::of("alert", &[&offset.to_be_bytes()]);
    Derived {
        id,
        key: Key::Patient(PatientId::new(patient).unwrap()),
        origin: Origin {
            incarnation: EventId::of("test", &[]),
            offset,
            key: patient.into(),
            n: 0,
        },
        recorded_at: Timestamp::default(),
        outcome: Outcome::Alert(AlertChanged {
            alert_id: id,
            change,
            sensor_id: None,
            metric: None,
            rule: format!("rule{offset}").into(),
            subject: patient.into(),
            class: AlertClass::Clinical,
            severity: Severity::Critical,
            state: AlertState::Open,
            retrospective: false,
            message: "m".into(),
            message_fr: "m".into(),
            value: None,
            limit: None,
            started_at: Timestamp::default(),
            raised_at: Timestamp::default(),
            acknowledged_at: None,
            acknowledged_by: None,
            resolved_at: None,
            by: None,
            text: None,
            until: None,
        }),
    }
}

fn raised(patient: &str, offset: i64) -> Derived {
    alert(patient, offset, AlertChange::Raised)
}

/// The alert in a PUBLISH, by its rule.
fn rule(packet: &Packet) -> String {
    let text = String::from_utf8_lossy(&packet.1).into_owned();
    let json: serde_json::Value = serde_json::from_str(&text[text.find('{').unwrap()..]).unwrap();
    json["rule"].as_str().unwrap().to_owned()
}

async fn listening(house: &House, connect: &Connect<'_>, filter: &str, qos: u8) -> Client {
    let (mut client, _) = house.enter(connect).await;
    client.send(subscribe(connect.v, 1, filter, qos)).await;
    let suback = client.next().await.unwrap();
    assert_eq!(suback.1.last(), Some(&qos));
    client
}

#[tokio::test]
async fn a_doctor_hears_of_critical_alerts_of_own_patients_as_asked() {
    for v in [4, 5] {
        for qos in 0..=2 {
            let house = House::new().await;
            let doctor = Connect::new(v, "d", "doctor");
            let mut client = listening(&house, &doctor, "fajma/patient/+/alerts/critical", qos).await;
            house.log.derive(&raised("p2", 1));
            house.log.derive(&alert("p1", 2, AlertChange::Acknowledged));
            house.log.derive(&raised("p1", 3));
            house.log.derive(&raised("p1", 3));
            for n in [3, 4] {
                if n == 4 {
                    house.log.derive(&alert("p1", 4, AlertChange::Escalated));
                }
                let got = client.next().await.unwrap();
                assert_eq!((got.0, rule(&got)), (0x30 | qos << 1, format!("rule{n}")));
                assert_eq!(&got.1[2..2 + ALERTS.len()], ALERTS.as_bytes());
                match qos {
                    1 => client.send(answer(0x40, got.id())).await,
                    2 => {
                        client.send(answer(0x50, got.id())).await;
                        assert_eq!(client.next().await.map(|p| (p.0, p.id())), Some((0x62, got.id())));
                        client.send(answer(0x70, got.id())).await;
                    }
                    _ => {}
                }
            }
        }
    }
}

#[tokio::test]
async fn who_ends_the_subscription_hears_no_more() {
    let house = House::new().await;
    let mut client = listening(&house, &Connect::new(5, "d", "doctor"), ALERTS, 1).await;
    client.send(unsubscribe(5, 2, ALERTS)).await;
    assert_eq!(client.next().await.map(|p| p.0), Some(0xb0));
    let mut admin = listening(&house, &Connect::new(5, "a", "admin"), "#", 0).await;
    house.log.derive(&raised("p1", 1));
    assert_eq!(admin.next().await.map(|p| rule(&p)).as_deref(), Some("rule1"));
    client.send(super::client::PING).await;
    assert_eq!(client.next().await, Some(Packet(0xd0, vec![])));
}

#[tokio::test]
async fn alerts_wait_for_a_session_and_what_was_not_finished_is_finished() {
    for v in [4, 5] {
        let house = House::new().await;
        let lasting = Connect::lasting(v, "d", "doctor");
        let mut client = listening(&house, &lasting, ALERTS, 2).await;
        house.log.derive(&raised("p1", 1));
        house.log.derive(&raised("p1", 2));
        let first = client.next().await.unwrap();
        let second = client.next().await.unwrap();
        client.send(answer(0x50, first.id())).await;
        assert_eq!(client.next().await.map(|p| p.0), Some(0x62));
        drop(client);
        // Who listens too knows that the third one is queued.
        let mut admin = listening(&house, &Connect::new(v, "a", "admin"), ALERTS, 0).await;
        house.log.derive(&raised("p1", 3));
        assert_eq!(admin.next().await.map(|p| rule(&p)).as_deref(), Some("rule3"));

        let (mut client, connack) = house.enter(&lasting).await;
        assert_eq!(connack.1[0], 1);
        assert_eq!(client.next().await.map(|p| (p.0, p.id())), Some((0x62, first.id())));
        let again = client.next().await.unwrap();
        assert_eq!(
            (again.0, again.id(), rule(&again)),
            (0x3c, second.id(), "rule2".to_owned())
        );
        let third = client.next().await.unwrap();
        assert_eq!((third.0, rule(&third)), (0x34, "rule3".to_owned()));
        for id in [again.id(), third.id()] {
            client.send(answer(0x50, id)).await;
            assert_eq!(client.next().await.map(|p| p.0), Some(0x62));
            client.send(answer(0x70, id)).await;
        }
        client.send(answer(0x70, first.id())).await;
        client.send(super::client::PING).await;
        assert_eq!(client.next().await, Some(Packet(0xd0, vec![])));
    }
}

#[tokio::test]
async fn no_more_is_sent_than_the_client_takes_at_once() {
    let house = House::new().await;
    let narrow = Connect {
        props: b"\x21\0\x02",
        ..Connect::new(5, "d", "doctor")
    };
    let mut client = listening(&house, &narrow, ALERTS, 1).await;
    for n in 1..=3 {
        house.log.derive(&raised("p1", n));
    }
    let first = client.next().await.unwrap();
    client.next().await.unwrap();
    client.send(super::client::PING).await;
    assert_eq!(client.next().await, Some(Packet(0xd0, vec![])), "a third one came");
    client.send(answer(0x40, first.id())).await;
    assert_eq!(client.next().await.map(|p| rule(&p)).as_deref(), Some("rule3"));
}
