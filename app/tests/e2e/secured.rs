//! TLS 1.3 on every door, tried as a user would.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use app::config::{Config, Sources};
use app::tls;
use app::up::{Duties, Server, start};
use schemas::access::Role;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::house::{PATIENCE, config, prepare, principal};

/// A house with a certificate of its own for `localhost` and 127.0.0.1; the certificate's file.
async fn secured(dir: &Path) -> (Server, std::path::PathBuf) {
    let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
    let made = rcgen::generate_simple_self_signed(names).unwrap();
    let (certificate, key) = (dir.join("certificate.pem"), dir.join("key.pem"));
    std::fs::write(&certificate, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let mut options: Config = config(dir);
    options.tls.certificate.clone_from(&certificate);
    options.tls.key = key;
    prepare(&options).await;
    let server = start(&options, Duties::ALL).await.unwrap();
    server.ready(PATIENCE).await.unwrap();
    (server, certificate)
}

/// What a request over TLS brings, head and body.
async fn ask(server: &Server, trust: &Path, request: &str) -> String {
    let trust = tls::client(Some(trust)).unwrap();
    let address = format!("localhost:{}", server.http.port());
    let mut stream = tls::connect(&address, Some(&trust)).await.unwrap();
    let head = format!("{request}host: {address}\r\nconnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    let read = timeout(PATIENCE, stream.read_to_string(&mut answer)).await.unwrap();
    read.unwrap();
    answer
}

/// What comes back for bytes without TLS, until the door closes.
async fn raw(address: std::net::SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    // Closed hard or softly: both are a refusal.
    let _ = timeout(PATIENCE, stream.read_to_end(&mut answer)).await.unwrap();
    answer
}

/// A ClientHello of somebody who knows TLS 1.2 and nothing newer (RFC 5246): no `supported_versions`.
fn hello_of_tls_1_2() -> Vec<u8> {
    let mut hello = vec![3, 3];
    hello.extend([7; 32]);
    hello.push(0);
    hello.extend([0, 4, 0xC0, 0x2F, 0xC0, 0x2B]);
    hello.extend([1, 0]);
    let extensions: &[u8] = &[
        0, 10, 0, 4, 0, 2, 0, 23, 0, 11, 0, 2, 1, 0, 0, 13, 0, 6, 0, 4, 4, 3, 8, 4,
    ];
    hello.extend((extensions.len() as u16).to_be_bytes());
    hello.extend(extensions);
    let mut record = vec![22, 3, 1];
    record.extend((hello.len() as u16 + 4).to_be_bytes());
    record.extend([1, 0]);
    record.extend((hello.len() as u16).to_be_bytes());
    record.extend(hello);
    record
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_certificate_every_door_speaks_tls_1_3_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let (mut server, certificate) = secured(dir.path()).await;
    let login = server.login_link().unwrap();
    assert!(login.starts_with("https://"), "{login}");
    let path = login.splitn(4, '/').nth(3).unwrap();
    let answer = ask(&server, &certificate, &format!("GET /{path} HTTP/1.1\r\n")).await;
    let cookie = answer
        .lines()
        .find(|l| l.to_lowercase().starts_with("set-cookie: __host-"));
    assert!(cookie.is_some_and(|c| c.contains("Secure")), "{answer}");
    assert!(answer.to_lowercase().contains("strict-transport-security"), "{answer}");

    let mqtt = server.mqtt.unwrap();
    for (door, hello) in [
        (server.http, &b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n"[..]),
        (mqtt, b"\x10\x0f\x00\x04MQTT\x05\x02\x00\x3c\x00\x00\x02ab"),
    ] {
        let answer = raw(door, hello).await;
        assert!(answer.first().is_none_or(|kind| *kind == 21), "{answer:?}");
        // An alert: fatal, protocol_version.
        assert_eq!(raw(door, &hello_of_tls_1_2()).await, [21, 3, 3, 0, 2, 2, 70]);
    }

    let token = server.token(&principal(Role::Admin), Duration::from_secs(600)).unwrap();
    for (scheme, port, trusted) in [
        ("https", server.http.port(), true),
        ("mqtts", mqtt.port(), true),
        ("mqtts", mqtt.port(), false),
    ] {
        let (to, ca, token) = (
            format!("{scheme}://localhost:{port}"),
            certificate.clone(),
            token.clone(),
        );
        let output = tokio::task::spawn_blocking(move || {
            let mut command = Command::new(env!("CARGO_BIN_EXE_fajma"));
            command.args(["simulate", "--speed", "600", "--duration", "1m", "--patients", "2"]);
            command.args(["--connections", "1", "--json", "--to", &to]);
            if trusted {
                command.arg("--ca").arg(ca);
            } else {
                command.args(["--patience", "1s"]);
            }
            command.env("FAJMA_TOKEN", token).output().unwrap()
        })
        .await
        .unwrap();
        let told = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.success(), trusted, "{scheme}: {output:?}");
        if trusted {
            let told: Value = serde_json::from_str(&told).unwrap();
            assert!(told["acknowledged"].as_u64() > Some(100), "{scheme}: {told}");
        }
    }

    // Simulated patients of the server itself come in through the same door, whatever names its certificate has.
    server.add_demo(1).unwrap();
    let came = async {
        let request = format!("GET /v1/patients/demo-0001 HTTP/1.1\r\nauthorization: Bearer {token}\r\n");
        while !ask(&server, &certificate, &request).await.starts_with("HTTP/1.1 200") {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(PATIENCE, came).await.unwrap();
    assert!(server.stop().await);
}

#[test]
fn half_of_a_certificate_is_wrong_use() {
    let flags = vec![("tls.key", "k.pem".to_owned(), "--key")];
    let wrong = Config::load(Sources {
        flags,
        ..Sources::default()
    });
    assert!(wrong.unwrap_err().to_string().contains("tls.certificate"));
}
