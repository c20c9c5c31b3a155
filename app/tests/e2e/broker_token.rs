//! A house whose log wants a token, which the house fetches and renews: on a real Kafka, where there is one.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use app::client;
use app::up::{Duties, start};
use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use eventlog::{Clock, SystemClock};
use schemas::access::Role;
use serde_json::json;
use tokio::net::TcpListener;

use super::house::{PATIENCE, ago, config, heart_rate, prepare, principal};

/// How long a token is good, in seconds.
const LIFE: i64 = 6;

/// Gives tokens as the test broker takes them, unsigned, to whom it knows; counts them.
async fn give(State(given): State<Arc<AtomicU64>>, headers: HeaderMap, body: String) -> (StatusCode, String) {
    let login = format!("Basic {}", STANDARD.encode("ward%207:two%20words"));
    if headers.get("authorization").is_none_or(|sent| sent != login.as_str()) {
        return (StatusCode::UNAUTHORIZED, json!({"error": "invalid_client"}).to_string());
    }
    assert_eq!(body, "grant_type=client_credentials&scope=log");
    given.fetch_add(1, Ordering::AcqRel);
    let now = SystemClock.now().0 / 1_000_000;
    let part = |claims: serde_json::Value| URL_SAFE_NO_PAD.encode(claims.to_string());
    let claims = json!({"sub": "ward", "iat": now, "exp": now + LIFE});
    let token = format!("{}.{}.", part(json!({"alg": "none"})), part(claims));
    (
        StatusCode::OK,
        json!({"access_token": token, "token_type": "Bearer", "expires_in": LIFE}).to_string(),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_house_fetches_its_token_and_renews_it_while_readings_come() {
    let (Ok(broker), Ok(secrets)) = (
        std::env::var("ENGINES_KAFKA_NAMED"),
        std::env::var("ENGINES_KAFKA_SECRETS"),
    ) else {
        eprintln!("NOT RUN: a broker that wants tokens (docker/engines/engines run)");
        return;
    };
    let given = Arc::new(AtomicU64::new(0));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let issuer = listener.local_addr().unwrap();
    let router = Router::new()
        .route("/realms/ward/token", post(give))
        .with_state(Arc::clone(&given));
    tokio::spawn(async move { axum::serve(listener, router).await });

    let dir = tempfile::tempdir().unwrap();
    let secret = dir.path().join("secret");
    let mut config = config(dir.path());
    config.views.url = String::new();
    config.log.url = format!("kafka://{broker}/token_{}", std::process::id());
    config.log.tls = true;
    config.log.tls_ca = format!("{secrets}/ca.pem").into();
    config.log.sasl = "oauthbearer".to_owned();
    config.log.user = "ward 7".to_owned();
    config.log.password_file.clone_from(&secret);
    config.log.token_file = dir.path().join("token");
    config.log.token_scope = "log".to_owned();
    config.log.token_url = format!("http://{issuer}/realms/ward/token");
    std::fs::write(&secret, "wrong\n").unwrap();
    let refused = app::broker_token::begin(&config).await.unwrap_err().to_string();
    assert!(
        refused.contains("401 invalid_client") && !refused.contains("wrong"),
        "{refused}"
    );
    std::fs::write(&secret, "two words\n").unwrap();
    app::broker_token::begin(&config).await.unwrap();
    prepare(&config).await;

    let server = Box::pin(start(&config, Duties::ALL)).await.unwrap();
    server.ready(PATIENCE).await.unwrap();
    let token = server.token(&principal(Role::Admin), Duration::from_secs(600)).unwrap();
    let (began, mut sent) = (given.load(Ordering::Acquire), 0);
    let until = tokio::time::Instant::now() + 2 * PATIENCE;
    // Through several lives of a token.
    while given.load(Ordering::Acquire) < began + 6 {
        assert!(tokio::time::Instant::now() < until, "nobody renews it");
        let reading = heart_rate("p1", 70.0 + f64::from(sent % 20), ago(1));
        let body = json!({ "readings": [reading] });
        let (status, answer) = client::post(&server.http.to_string(), "/v1/readings", &token, &body)
            .await
            .unwrap();
        assert_eq!(status, 200, "{answer}");
        sent += 1;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(sent > 20, "{sent}");
    assert!(server.running.stuck(&config.supervisor).is_none());
    assert!(server.stop().await);
}
