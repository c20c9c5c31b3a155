//! The table over MQTT, in packets written by hand.

use ingest::bad::{CASES, Case, PATIENT, SENSOR, Via};
use schemas::facts::Door;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::super::house::{House, PATIENCE};
use super::Account;

/// One connection; `version` is 4 for MQTT 3.1.1, and 5.
struct Client {
    stream: TcpStream,
    version: u8,
    qos: u8,
    id: u16,
}

fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![first];
    let mut left = body.len();
    loop {
        let low = (left % 128) as u8;
        left /= 128;
        out.push(if left > 0 { low | 128 } else { low });
        if left == 0 {
            break;
        }
    }
    out.extend_from_slice(body);
    out
}

fn text(text: &str) -> Vec<u8> {
    [&(text.len() as u16).to_be_bytes()[..], text.as_bytes()].concat()
}

impl Client {
    async fn connect(house: &House, version: u8, qos: u8) -> Self {
        let stream = TcpStream::connect(house.server.mqtt.unwrap()).await.unwrap();
        let mut client = Self {
            stream,
            version,
            qos,
            id: 0,
        };
        let mut body = [&text("MQTT")[..], &[version, 0xc2, 0, 60]].concat();
        if version == 5 {
            body.push(0);
        }
        for part in [&format!("bad-{version}-{qos}"), "anyone", &house.token] {
            body.extend(text(part));
        }
        client.stream.write_all(&packet(0x10, &body)).await.unwrap();
        let (first, answer) = client.next().await;
        assert_eq!((first, answer[1]), (0x20, 0));
        client
    }

    async fn next(&mut self) -> (u8, Vec<u8>) {
        let read = async {
            let first = self.stream.read_u8().await?;
            let (mut length, mut shift) = (0, 0);
            loop {
                let byte = self.stream.read_u8().await?;
                length |= usize::from(byte & 127) << shift;
                shift += 7;
                if byte & 128 == 0 {
                    break;
                }
            }
            let mut body = vec![0; length];
            self.stream.read_exact(&mut body).await?;
            Ok::<_, std::io::Error>((first, body))
        };
        tokio::time::timeout(PATIENCE, read).await.unwrap().unwrap()
    }

    /// Publishes and waits until the door has taken it; the reason of its first answer (0 in 3.1.1).
    async fn publish(&mut self, kind: &str, label: Option<&str>, payload: &[u8]) -> u8 {
        self.id += 1;
        let id = self.id.to_be_bytes();
        let mut body = text(&format!("fajma/patient/{PATIENT}/sensor/{SENSOR}/{kind}"));
        body.extend(id);
        if self.version == 5 {
            let label = label.map(|l| [&[3][..], &text(l)].concat()).unwrap_or_default();
            body.push(label.len() as u8);
            body.extend(label);
        }
        body.extend_from_slice(payload);
        self.stream
            .write_all(&packet(0x30 | self.qos << 1, &body))
            .await
            .unwrap();
        let (first, answer) = self.next().await;
        assert_eq!(
            (first, &answer[..2]),
            (if self.qos == 1 { 0x40 } else { 0x50 }, &id[..])
        );
        let reason = answer.get(2).copied().unwrap_or(0);
        // A PUBREC with a reason of 0x80 or more ends the exchange.
        if self.qos == 2 && reason < 0x80 {
            self.stream.write_all(&packet(0x62, &id)).await.unwrap();
            let (first, answer) = self.next().await;
            assert_eq!((first, &answer[..2]), (0x70, &id[..]));
        }
        reason
    }
}

fn topic(case: &Case) -> Option<&'static str> {
    match case.via {
        Via::All | Via::MqttData => Some("data"),
        Via::MqttStatus => Some("status"),
        Via::Http => None,
    }
}

/// Each of the table, and a good reading after it, over one connection that stays.
pub(super) async fn send_all(house: &House, version: u8, qos: u8, account: &mut Account) {
    let mut client = Client::connect(house, version, qos).await;
    // MQTT 3.1.1 has no labels.
    let labelled = |case: &&Case| version == 5 || case.content_type.is_none();
    for case in CASES.iter().filter(labelled) {
        let Some(kind) = topic(case) else { continue };
        let reason = client.publish(kind, case.content_type, case.bytes).await;
        assert_eq!(reason, if version == 5 { 0x99 } else { 0 }, "{}", case.name);
        account.bad(&format!("MQTT {version}, QoS {qos}"), Door::Mqtt, case, case.bytes);
        let good = account.good();
        assert_eq!(
            client.publish("data", None, good.as_bytes()).await,
            0,
            "after {}",
            case.name
        );
    }
}
