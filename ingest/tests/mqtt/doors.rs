//! Ways in: TLS, WebSocket, and how many may come.

use std::sync::Arc;
use std::time::Duration;

use futures::{SinkExt, StreamExt};
use ingest::mqtt::MqttLimits;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

use super::client::{Client, Connect, PING, publish};
use super::house::{House, limits};
use super::{DATA, reading};

fn certified() -> (Arc<ServerConfig>, Arc<ClientConfig>) {
    let pair = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let certificate = pair.cert.der().clone();
    let key = PrivateKeyDer::Pkcs8(pair.signing_key.serialize_der().into());
    let server = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key)
        .unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(certificate).unwrap();
    let client = ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    (Arc::new(server), Arc::new(client))
}

#[tokio::test]
async fn a_sensor_may_speak_through_tls_1_3_and_through_nothing_older() {
    let (server, client) = certified();
    let house = House::with(limits(), Some(server)).await;
    let stream = TcpStream::connect(house.address).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let stream = TlsConnector::from(client).connect(name, stream).await.unwrap();
    let mut sensor = Client::over(stream);
    assert_eq!(sensor.login(&Connect::new(5, "tls", "device")).await.1[1], 0);
    sensor.send(publish(5, DATA, 1, 7, reading(1))).await;
    assert_eq!(sensor.next().await.map(|p| p.id()), Some(7));

    // A ClientHello that offers TLS 1.2 only is answered by an alert: protocol_version.
    let mut old = TcpStream::connect(house.address).await.unwrap();
    let body = [b"\x03\x03".as_slice(), &[7; 32], b"\0\0\x02\xc0\x2f\x01\0\0\0"].concat();
    let hello = [&[1, 0, 0, body.len() as u8][..], &body].concat();
    old.write_all(&[&[0x16, 3, 1, 0, hello.len() as u8][..], &hello].concat())
        .await
        .unwrap();
    let mut said = Vec::new();
    let _ = old.read_to_end(&mut said).await;
    assert_eq!(said.first(), Some(&0x15), "{said:x?}");

    // Who speaks no TLS at all is not listened to.
    let mut plain = house.dial().await;
    plain.send(Connect::new(5, "c", "device").bytes()).await;
    let mut said = Vec::new();
    let _ = plain.io.read_to_end(&mut said).await;
    assert_ne!(said.first(), Some(&0x20));
}

async fn upgrade(
    house: &House,
    path: &str,
    protocol: Option<&str>,
) -> Result<tokio_tungstenite::WebSocketStream<TcpStream>, u16> {
    let stream = TcpStream::connect(house.address).await.unwrap();
    let mut request = format!("ws://localhost{path}").into_client_request().unwrap();
    if let Some(protocol) = protocol {
        request
            .headers_mut()
            .insert("sec-websocket-protocol", protocol.parse().unwrap());
    }
    match tokio_tungstenite::client_async(request, stream).await {
        Ok((socket, response)) => {
            assert_eq!(response.headers()["sec-websocket-protocol"], "mqtt");
            Ok(socket)
        }
        Err(tokio_tungstenite::tungstenite::Error::Http(response)) => Err(response.status().as_u16()),
        Err(other) => panic!("{other}"),
    }
}

#[tokio::test]
async fn a_packet_may_come_in_several_web_socket_frames() {
    let house = House::new().await;
    let mut socket = upgrade(&house, "/mqtt", Some("mqtt")).await.unwrap();
    let bytes = [
        Connect::new(5, "ws", "device").bytes(),
        publish(5, DATA, 1, 7, reading(1)),
    ]
    .concat();
    for part in bytes.chunks(11) {
        socket.send(Message::binary(part.to_vec())).await.unwrap();
    }
    let mut said = Vec::new();
    while said.len() < 6 || said[said.len() - 4..] != [0x40, 2, 0, 7] {
        match socket.next().await.unwrap().unwrap() {
            Message::Binary(bytes) => said.extend_from_slice(&bytes),
            other => panic!("{other}"),
        }
    }
    assert_eq!(said[0], 0x20);
    socket.send(Message::text("hello")).await.unwrap();
    while let Some(Ok(message)) = socket.next().await {
        assert!(message.is_close(), "{message}");
    }
}

#[tokio::test]
async fn a_web_socket_that_is_for_something_else_is_refused() {
    let house = House::new().await;
    for (path, protocol, status) in [
        ("/mqtt", Some("mqttv3.1"), 400),
        ("/mqtt", None, 400),
        ("/ws/alerts", Some("mqtt"), 404),
    ] {
        assert_eq!(
            upgrade(&house, path, protocol).await.err(),
            Some(status),
            "{path} {protocol:?}"
        );
    }
}

#[tokio::test]
async fn no_more_connections_are_let_in_than_there_is_room_for() {
    for bounds in [
        MqttLimits {
            connections: 1,
            ..limits()
        },
        MqttLimits {
            connections_per_address: 1,
            ..limits()
        },
    ] {
        let house = House::with(bounds, None).await;
        let mut first = house.device(5, "one").await;
        let mut second = house.dial().await;
        second.send(Connect::new(5, "two", "device").bytes()).await;
        assert_eq!(second.next().await, None);
        first.send(PING).await;
        assert!(first.next().await.is_some());
        drop(first);
        // The place is free as soon as the first one is known to be gone.
        loop {
            let mut third = house.dial().await;
            third.send(Connect::new(5, "three", "device").bytes()).await;
            if third.next().await.is_some() {
                break;
            }
        }
    }
}

#[tokio::test]
async fn a_client_that_reads_nothing_is_not_written_to_for_ever() {
    let bounds = MqttLimits {
        write_timeout: Duration::from_millis(300),
        unsent_bytes: 4096,
        ..limits()
    };
    let house = House::with(bounds, None).await;
    let mut client = house.device(5, "deaf").await;
    let pings = PING.repeat(50_000);
    let flood = async { while client.io.write_all(&pings).await.is_ok() {} };
    tokio::time::timeout(super::SOON, flood)
        .await
        .expect("the door went on for ever");
}
