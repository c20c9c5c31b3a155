//! Tokens: taken back, and of another issuer.

use std::path::Path;
use std::time::Duration;

use app::client;
use app::config::{Config, Sources};
use app::up::{Duties, Server, start};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use eventlog::{Clock, SystemClock};
use futures::StreamExt;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::{AsyncClient, MqttOptions};
use schemas::access::{Principal, Role};
use schemas::ids::SensorId;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

use super::house::{House, PATIENCE, ago, config, fajma, heart_rate, prepare, principal};

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
    let mut request = format!("ws://{}/ws/patients/p1/", house.http)
        .into_client_request()
        .unwrap();
    request
        .headers_mut()
        .insert("authorization", format!("Bearer {one}").parse().unwrap());
    let (mut socket, _) = tokio_tungstenite::connect_async(request).await.unwrap();
    socket.next().await.unwrap().unwrap();
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
    // The keys are changed: a token by the new one is asked for once, then taken; the old ones are good no more.
    std::fs::write(&jwks, json!({"keys": [new.1]}).to_string()).unwrap();
    until(&http, &signed(&new, "new", "ops@example", &["ops"]), true).await;
    assert!(!good(&http, &admin).await);
    let body = json!({ "subject": "ops@example" });
    let by_new = signed(&new, "new", "ops@example", &["ops"]);
    let (status, answer) = client::post(&http, "/v1/tokens/revoke", &by_new, &body).await.unwrap();
    assert_eq!(status, 200, "{answer}");
    until(&http, &by_new, false).await;
    assert!(server.stop().await);
}
