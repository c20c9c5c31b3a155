//! Tokens: taken back, and of another issuer.

use std::path::Path;
use std::time::Duration;

use app::client;
use app::config::{Config, Sources};
use app::up::{Duties, Server, start};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use eventlog::{Append, Clock, SystemClock, Topic};
use futures::StreamExt;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::{AsyncClient, MqttOptions};
use schemas::access::{Principal, Role};
use schemas::facts::TokensRevoked;
use schemas::ids::{Key, SensorId};
use schemas::journal::Fact;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

use super::house::{House, PATIENCE, ago, config, config_alone, fajma, heart_rate, prepare, principal};

fn token(house: &House, principal: &Principal) -> String {
    house.server.token(principal, Duration::from_secs(600)).unwrap()
}

async fn good(address: &str, token: &str) -> bool {
    client::get(address, "/v1/me", token).await.is_ok()
}

/// Asks until the token is good, or is not.
async fn until(address: &str, token: &str, is_good: bool) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while good(address, token).await != is_good {
        assert!(tokio::time::Instant::now() < deadline, "good: {}", !is_good);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_taken_back_is_good_for_nothing_on_what_is_open_too() {
    let house = House::new().await;
    house.send(json!([heart_rate("p1", 80.0, ago(2))])).await;
    let (one, other) = (
        token(&house, &principal(Role::Admin)),
        token(&house, &principal(Role::Auditor)),
    );
    house
        .until("/v1/patients/p1/latest", |answer| answer["readings"].is_array())
        .await;

    let device = Principal {
        sensors: vec![SensorId::new("p1-ecg").unwrap()],
        ..principal(Role::Device)
    };
    let device = token(&house, &device);
    let address = house.server.mqtt.unwrap();
    let mut options = MqttOptions::new("pump", address.ip().to_string(), address.port());
    options.set_credentials("device", &device);
    let (mqtt, mut events) = AsyncClient::new(options, 10);
    let topic = "fajma/patient/p1/sensor/p1-ecg/data";
    let publish = || json!({"type": "heart_rate", "value": 71}).to_string();
    mqtt.publish(topic, QoS::AtLeastOnce, false, publish()).await.unwrap();
    loop {
        if let rumqttc::v5::Event::Incoming(rumqttc::v5::mqttbytes::v5::Packet::PubAck(_)) =
            events.poll().await.unwrap()
        {
            break;
        }
    }
    let opened = async |path: &str| {
        let mut request = format!("ws://{}{path}", house.http).into_client_request().unwrap();
        request
            .headers_mut()
            .insert("authorization", format!("Bearer {one}").parse().unwrap());
        let (mut socket, _) = tokio_tungstenite::connect_async(request).await.unwrap();
        socket.next().await.unwrap().unwrap();
        socket
    };
    let (mut socket, mut ward) = (opened("/ws/patients/p1/").await, opened("/ws/alerts").await);
    let (status, ticket) = client::post(&house.http, "/v1/tickets", &one, &Value::Null)
        .await
        .unwrap();
    assert_eq!(status, 200);

    for body in [json!({ "token": one }), json!({ "subject": "device" })] {
        let (status, answer) = client::post(&house.http, "/v1/tokens/revoke", &house.token, &body)
            .await
            .unwrap();
        assert_eq!(status, 200, "{answer}");
    }
    until(&house.http, &one, false).await;
    until(&house.http, &device, false).await;
    assert!(good(&house.http, &other).await && good(&house.http, &house.token).await);
    let ticket = ticket["ticket"].as_str().unwrap();
    let by_ticket = format!("ws://{}/ws/patients/p1/?ticket={ticket}", house.http);
    assert!(
        tokio_tungstenite::connect_async(by_ticket).await.is_err(),
        "a ticket of it"
    );
    house.send(json!([heart_rate("p1", 81.0, ago(0))])).await;
    let ended = async {
        loop {
            match socket.next().await {
                Some(Ok(Message::Close(frame))) => return frame.unwrap(),
                Some(Ok(Message::Text(text))) => {
                    let frame: Value = serde_json::from_str(&text).unwrap();
                    let told = frame["sensor_data"].as_array().unwrap();
                    assert!(
                        told.iter().all(|reading| reading["value"] != 81.0),
                        "told after it was taken back"
                    );
                }
                Some(Ok(_)) => {}
                other => panic!("{other:?}"),
            }
        }
    };
    let close = tokio::time::timeout(PATIENCE, ended).await.unwrap();
    assert_eq!(u16::from(close.code), 4403, "{close:?}");
    // A list of alerts that went on without any would look like a quiet night.
    let ended = async {
        while let Some(Ok(message)) = ward.next().await {
            if let Message::Close(frame) = message {
                return frame.map(|frame| u16::from(frame.code));
            }
        }
        None
    };
    assert_eq!(tokio::time::timeout(PATIENCE, ended).await.unwrap(), Some(4403));
    mqtt.publish(topic, QoS::AtLeastOnce, false, publish()).await.unwrap();
    let cut_off = async { while events.poll().await.is_ok() {} };
    tokio::time::timeout(PATIENCE, cut_off)
        .await
        .expect("the device is sent away");

    // The command line does the same, and a restart forgets nothing.
    let dir = house.dir.path().to_str().unwrap().to_owned();
    let taken = other.clone();
    let revoke = move || fajma(&["token", "revoke", "--token", &taken, "--data", &dir]);
    let (status, told, error) = tokio::task::spawn_blocking(revoke).await.unwrap();
    assert_eq!(status, Some(0), "{told}{error}");
    until(&house.http, &other, false).await;
    let house = House::on(house.stop().await).await;
    assert!(!good(&house.http, &one).await && !good(&house.http, &other).await && !good(&house.http, &device).await);
}

/// One request, as it is written; what is answered.
async fn raw(address: &str, request: &str) -> String {
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

/// The cookie of a browser that signs in with a token.
async fn signed_in(address: &str, token: &str) -> String {
    let request = format!(
        "POST /login HTTP/1.1\r\nhost: {address}\r\nsec-fetch-site: same-origin\r\nauthorization: Bearer {token}\r\n\
         content-length: 0\r\nconnection: close\r\n\r\n"
    );
    let answer = raw(address, &request).await;
    let cookie = answer.lines().find_map(|line| line.strip_prefix("set-cookie: "));
    cookie.unwrap().split(';').next().unwrap().to_owned()
}

/// The status of a question with a cookie.
async fn by_cookie(address: &str, cookie: &str) -> u16 {
    let request = format!("GET /v1/me HTTP/1.1\r\nhost: {address}\r\ncookie: {cookie}\r\nconnection: close\r\n\r\n");
    let answer = raw(address, &request).await;
    answer.split(' ').nth(1).unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_only_processes_or_projects_refuses_what_was_revoked_too() {
    let house = House::alone().await;
    let (one, other) = (
        token(&house, &principal(Role::Admin)),
        token(&house, &principal(Role::Auditor)),
    );
    let body = json!({ "token": one });
    let (status, answer) = client::post(&house.http, "/v1/tokens/revoke", &house.token, &body)
        .await
        .unwrap();
    assert_eq!(status, 200, "{answer}");
    until(&house.http, &one, false).await;
    let dir = house.stop().await;
    let process = Duties {
        process: true,
        ..Duties::NONE
    };
    let project = Duties {
        project: true,
        ..Duties::NONE
    };
    for duties in [process, project] {
        let server = Box::pin(start(&config_alone(dir.path()), duties)).await.unwrap();
        let http = server.http.to_string();
        let runs = async |token: &str| client::get(&http, "/v1/stats", token).await.is_ok();
        let becomes = async |token: &str, good: bool| {
            let deadline = tokio::time::Instant::now() + PATIENCE;
            while runs(token).await != good {
                assert!(tokio::time::Instant::now() < deadline, "good: {}", !good);
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        // Nobody is let in before it is known what was revoked.
        assert!(!runs(&one).await, "{duties:?}");
        becomes(&other, true).await;
        assert!(!runs(&one).await, "{duties:?}");
        // And what is revoked while it runs.
        let late = server.token(&principal(Role::Admin), Duration::from_secs(600)).unwrap();
        becomes(&late, true).await;
        let fact = Fact::TokensRevoked(TokensRevoked {
            token: api::token::id_of(&late).map(Into::into),
            subject: None,
            by: "test".into(),
        });
        let log = &server.house.log;
        let append = Append::of(
            &api::decided(Key::Nobody, fact, SystemClock.now()),
            log.layout().partitions,
        );
        log.append(Topic::Journal, vec![append]).await.unwrap();
        becomes(&late, false).await;
        assert!(runs(&other).await);
        assert!(server.stop().await);
    }
}

/// A key of another issuer's.
struct Pair(jsonwebtoken::EncodingKey, Value);

fn pair(kid: &str) -> Pair {
    let rng = aws_lc_rs::rand::SystemRandom::new();
    let pkcs8 = Ed25519KeyPair::generate_pkcs8v1(&rng).unwrap();
    let public = Ed25519KeyPair::from_pkcs8(pkcs8.as_ref()).unwrap();
    let x = URL_SAFE_NO_PAD.encode(public.public_key().as_ref());
    let jwk = json!({"kty": "OKP", "crv": "Ed25519", "kid": kid, "use": "sig", "x": x});
    Pair(jsonwebtoken::EncodingKey::from_ed_der(pkcs8.as_ref()), jwk)
}

fn signed(pair: &Pair, kid: &str, subject: &str, groups: &[&str]) -> String {
    let now = SystemClock.now().0 / 1_000_000;
    let claims = json!({"iss": "https://login.example", "aud": "fajma", "sub": subject, "iat": now, "exp": now + 600,
                        "groups": groups});
    let mut header = jsonwebtoken::Header::new(jsonwebtoken::Algorithm::EdDSA);
    header.kid = Some(kid.to_owned());
    jsonwebtoken::encode(&header, &claims, &pair.0).unwrap()
}

async fn up(dir: &Path, jwks: &str) -> Server {
    let options = [
        ("issuer.name", "https://login.example"),
        ("issuer.jwks", jwks),
        ("issuer.role_claim", "groups"),
        ("issuer.roles", "physician=doctor,ops=admin"),
    ];
    let flags = options
        .into_iter()
        .map(|(name, value)| (name, value.to_owned(), "test"));
    let mut options = config(dir);
    let issuer = Config::load(Sources {
        flags: flags.collect(),
        ..Sources::default()
    });
    options.issuer = issuer.unwrap().issuer;
    prepare(&options).await;
    let server = start(&options, Duties::ALL).await.unwrap();
    server.ready(PATIENCE).await.unwrap();
    server
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_of_a_configured_issuer_are_good_as_far_as_its_keys_and_its_claims_go() {
    let dir = tempfile::tempdir().unwrap();
    let jwks = dir.path().join("jwks.json");
    let (old, new) = (pair("old"), pair("new"));
    std::fs::write(&jwks, json!({"keys": [old.1]}).to_string()).unwrap();
    let server = up(&dir.path().join("data"), jwks.to_str().unwrap()).await;
    let http = server.http.to_string();
    let admin = signed(&old, "old", "ops@example", &["ops"]);
    let me = client::get(&http, "/v1/me", &admin).await.unwrap();
    assert_eq!((&me["subject"], &me["role"]), (&json!("ops@example"), &json!("admin")));
    assert!(!good(&http, &signed(&old, "old", "cook", &["kitchen"])).await);
    assert!(
        !good(&http, &signed(&new, "old", "ops@example", &["ops"])).await,
        "another key"
    );
    // A doctor of theirs sees the patients of a care team of ours.
    let patient = ("application/json", json!({"care_team": ["dr.ba"]}).to_string().into());
    let answer = client::call(&http, axum::http::Method::PUT, "/v1/patients/p1", &admin, patient)
        .await
        .unwrap();
    assert_eq!(answer.0, 200, "{answer:?}");
    let doctor = signed(&old, "old", "dr.ba", &["staff", "physician"]);
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while client::get(&http, "/v1/patients/p1", &doctor).await.is_err() {
        assert!(tokio::time::Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // What was begun with it: a browser's session, and streams by either.
    let session = signed_in(&http, &admin).await;
    assert_eq!(by_cookie(&http, &session).await, 200);
    let mut streams = Vec::new();
    for (header, value) in [
        ("authorization", format!("Bearer {admin}")),
        ("cookie", session.clone()),
    ] {
        let mut request = format!("ws://{http}/ws/alerts").into_client_request().unwrap();
        let headers = request.headers_mut();
        headers.insert(header, value.parse().unwrap());
        headers.insert("origin", format!("http://{http}").parse().unwrap());
        let (mut socket, _) = tokio_tungstenite::connect_async(request).await.unwrap();
        socket.next().await.unwrap().unwrap();
        streams.push(socket);
    }
    // The keys are changed: a token by the new one is asked for once, then taken; the old ones are good no more.
    std::fs::write(&jwks, json!({"keys": [new.1]}).to_string()).unwrap();
    until(&http, &signed(&new, "new", "ops@example", &["ops"]), true).await;
    assert!(!good(&http, &admin).await);
    assert_eq!(
        by_cookie(&http, &session).await,
        401,
        "a session does not outlive the key"
    );
    for mut socket in streams {
        let ended = async {
            loop {
                match socket.next().await {
                    Some(Ok(Message::Close(frame))) => return u16::from(frame.unwrap().code),
                    Some(Ok(_)) => {}
                    other => panic!("{other:?}"),
                }
            }
        };
        assert_eq!(tokio::time::timeout(PATIENCE, ended).await.unwrap(), 4403);
    }
    let body = json!({ "subject": "ops@example" });
    let by_new = signed(&new, "new", "ops@example", &["ops"]);
    let (status, answer) = client::post(&http, "/v1/tokens/revoke", &by_new, &body).await.unwrap();
    assert_eq!(status, 200, "{answer}");
    until(&http, &by_new, false).await;
    assert!(server.stop().await);
}
