//! Live streams over real sockets, and what happens to slow, resuming and unwelcome clients.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::http::Request;
use futures::{SinkExt, StreamExt};
use schemas::access::{Grant, Live, Principal, Revocations, Role};
use schemas::facts::AlertState;
use schemas::time::Span;
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

use super::STREAMS;
use super::feed::{Feed, Frame, Scope};
use crate::server::{ServerLimits, serve};
use crate::testing::{House, NOW, alert_id, patient};

const PATIENCE: Duration = Duration::from_secs(30);

type Socket = WebSocketStream<TcpStream>;

async fn served(house: &House) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    let shutdown = house.state.parts.shutdown.clone();
    tokio::spawn(serve(listener, house.app(), None, ServerLimits::default(), shutdown));
    at
}

/// Opens a WebSocket with these headers; the HTTP status where it is refused.
async fn open(at: SocketAddr, path: &str, headers: &[(&str, &str)]) -> Result<Socket, u16> {
    let stream = TcpStream::connect(at).await.unwrap();
    let mut request = Request::builder()
        .uri(format!("ws://{at}{path}"))
        .header("host", at.to_string())
        .header("connection", "Upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", generate_key());
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    match client_async(request.body(()).unwrap(), stream).await {
        Ok((socket, _)) => Ok(socket),
        Err(Error::Http(response)) => Err(response.status().as_u16()),
        Err(error) => panic!("{error}"),
    }
}

async fn with_token(at: SocketAddr, path: &str, token: &str) -> Result<Socket, u16> {
    open(at, path, &[("authorization", &format!("Bearer {token}"))]).await
}

/// The next frame; the close code where there is none.
async fn frame(socket: &mut Socket) -> Result<Value, CloseCode> {
    loop {
        match timeout(PATIENCE, socket.next()).await.expect("a frame in time") {
            Some(Ok(Message::Text(text))) => return Ok(serde_json::from_str(&text).unwrap()),
            Some(Ok(Message::Close(close))) => return Err(close.map_or(CloseCode::Status, |c| c.code)),
            Some(Ok(_)) => {}
            other => panic!("{other:?}"),
        }
    }
}

fn values(frame: &Value) -> Vec<i64> {
    let readings = frame["sensor_data"].as_array().unwrap();
    readings.iter().map(|r| r["value"].as_f64().unwrap() as i64).collect()
}

#[tokio::test]
async fn a_frame_tells_readings_windows_and_alerts_of_the_patient_and_of_nobody_else() {
    let house = House::new().await;
    let at = served(&house).await;
    let token = house.token(Role::Doctor, &["p1"], Span::hours(1));
    for path in ["/ws/patients/p1", "/ws/patients/p1/"] {
        let mut socket = with_token(at, path, &token).await.unwrap();
        let first = frame(&mut socket).await.unwrap();
        assert!(first["cursor"].is_string() && values(&first).is_empty());
        house.reading("p2", "s", 1.0, NOW).await;
        house.reading("p1", "s", 72.0, NOW).await;
        house.window("p1", 1).await;
        house.alert("p1", path, AlertState::Open).await;
        house.alert("p2", path, AlertState::Open).await;
        let mut told = [0; 3];
        while told != [1, 1, 1] {
            let next = frame(&mut socket).await.unwrap();
            let mut keys: Vec<_> = next.as_object().unwrap().keys().collect();
            keys.sort();
            assert_eq!(keys, ["alerts", "cursor", "sensor_data", "windows"]);
            for (told, list) in told.iter_mut().zip(["sensor_data", "windows", "alerts"]) {
                for item in next[list].as_array().unwrap() {
                    *told += 1;
                    assert_eq!(item["patient_id"], "p1");
                }
            }
            assert!(told.iter().all(|n| *n <= 1), "{told:?}");
        }
    }
}

#[tokio::test]
async fn the_alert_stream_is_cut_to_what_the_caller_may_see() {
    let house = House::new().await;
    let at = served(&house).await;
    let doctor = house.token(Role::Doctor, &["p1"], Span::hours(1));
    let admin = house.token(Role::Admin, &[], Span::hours(1));
    let mut own = with_token(at, "/ws/alerts/", &doctor).await.unwrap();
    let mut all = with_token(at, "/ws/alerts", &admin).await.unwrap();
    for socket in [&mut own, &mut all] {
        frame(socket).await.unwrap();
    }
    for (of, name) in [("p2", "a"), ("p3", "b"), ("p1", "c")] {
        house.alert(of, name, AlertState::Open).await;
    }
    let next = frame(&mut own).await.unwrap();
    assert_eq!(next["alerts"].as_array().unwrap().len(), 1);
    assert_eq!(next["alerts"][0]["id"], alert_id("c").to_string());
    // The cursor of somebody who sees one patient names no other.
    use base64::Engine;
    let cursor = next["cursor"].as_str().unwrap();
    let plain = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(cursor).unwrap();
    let plain = String::from_utf8(plain).unwrap();
    assert!(
        plain.contains("p1") && !plain.contains("p2") && !plain.contains("p3"),
        "{plain}"
    );
    let mut seen = 0;
    while seen < 3 {
        seen += frame(&mut all).await.unwrap()["alerts"].as_array().unwrap().len();
    }
    let analyst = house.token(Role::Analyst, &[], Span::hours(1));
    assert_eq!(with_token(at, "/ws/alerts", &analyst).await.err(), Some(403));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_comes_back_with_a_cursor_loses_nothing_and_hears_nothing_twice() {
    const READINGS: i64 = 600;
    let house = std::sync::Arc::new(House::new().await);
    let at = served(&house).await;
    let token = house.token(Role::Patient, &["p1"], Span::hours(1));
    let mut socket = with_token(at, "/ws/patients/p1", &token).await.unwrap();
    let mut cursor = frame(&mut socket).await.unwrap()["cursor"].as_str().unwrap().to_owned();
    let writer = {
        let house = std::sync::Arc::clone(&house);
        tokio::spawn(async move {
            for n in 0..READINGS {
                house.reading("p2", "s", -1.0, NOW).await;
                house.reading("p1", "s", n as f64, NOW + Span::millis(n)).await;
                if n % 10 == 0 {
                    house.alert("p1", &n.to_string(), AlertState::Open).await;
                }
            }
        })
    };
    let (mut readings, mut alerts, mut frames, mut returns) = (Vec::new(), Vec::new(), 0_u32, 0);
    while readings.len() < READINGS as usize || alerts.len() < READINGS as usize / 10 {
        let next = frame(&mut socket).await.unwrap();
        readings.extend(values(&next));
        alerts.extend(
            next["alerts"]
                .as_array()
                .unwrap()
                .iter()
                .map(|a| a["id"].as_str().unwrap().to_owned()),
        );
        next["cursor"].as_str().unwrap().clone_into(&mut cursor);
        frames += 1;
        if frames % 7 == 3 {
            // What has been sent meanwhile is lost with the connection, and told again.
            drop(socket);
            returns += 1;
            socket = with_token(at, &format!("/ws/patients/p1?since={cursor}"), &token)
                .await
                .unwrap();
        }
    }
    writer.await.unwrap();
    assert_eq!(readings, (0..READINGS).collect::<Vec<_>>());
    let expected: Vec<_> = (0..READINGS)
        .step_by(10)
        .map(|n| alert_id(&n.to_string()).to_string())
        .collect();
    assert_eq!(alerts, expected);
    assert!(returns > 3, "{returns}");
}

/// What a frame tells, read back.
fn told(frame: &Frame) -> Vec<i64> {
    values(&serde_json::from_str(&frame.json("c")).unwrap())
}

#[tokio::test]
async fn a_client_that_is_too_slow_is_caught_up_from_the_log_and_holds_up_nobody() {
    const READINGS: usize = 1000;
    let house = House::new().await;
    let scope = || Scope::Patient(patient("p1"));
    let mut slow = Feed::begin(&house.state.hub, scope(), None).await.unwrap();
    let mut quick = Feed::begin(&house.state.hub, scope(), None).await.unwrap();
    let mut heard = Vec::new();
    for n in 0..READINGS {
        house.reading("p1", "s", n as f64, NOW).await;
        // The quick one is told each reading while the slow one takes nothing.
        heard.extend(told(&timeout(PATIENCE, quick.next()).await.unwrap().unwrap()));
    }
    let all: Vec<i64> = (0..READINGS as i64).collect();
    assert_eq!(heard, all);
    assert!(slow.has_missed(), "more deltas than an inbox holds");
    let mut heard = Vec::new();
    while heard.len() < READINGS {
        heard.extend(told(&timeout(PATIENCE, slow.next()).await.unwrap().unwrap()));
    }
    assert_eq!(heard, all);
    // And it is told live again.
    house.reading("p1", "s", 5000.0, NOW).await;
    assert_eq!(told(&timeout(PATIENCE, slow.next()).await.unwrap().unwrap()), [5000]);
}

#[tokio::test]
async fn the_cursor_moves_over_what_concerns_others() {
    let house = House::new().await;
    let mut feed = Feed::begin(&house.state.hub, Scope::Patient(patient("p1")), None)
        .await
        .unwrap();
    let before = feed.cursor();
    // Somebody else in the same partition.
    let other = (0..)
        .map(|n| format!("x{n}"))
        .find(|id| House::partition(id) == House::partition("p1"))
        .unwrap();
    house.reading(&other, "s", 1.0, NOW).await;
    let moved = async {
        while !feed.refresh().await {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(PATIENCE, moved).await.unwrap();
    assert_ne!(feed.cursor(), before);
    house.reading("p1", "s", 2.0, NOW).await;
    assert_eq!(told(&timeout(PATIENCE, feed.next()).await.unwrap().unwrap()), [2]);
}

#[tokio::test]
async fn only_who_may_is_let_in() {
    let house = House::new().await;
    let at = served(&house).await;
    let token = house.token(Role::Doctor, &["p1"], Span::hours(1));
    let path = "/ws/patients/p1";
    assert_eq!(open(at, path, &[]).await.err(), Some(401));
    assert_eq!(with_token(at, "/ws/patients/p2", &token).await.err(), Some(404));
    let cookie = format!("fajma={token}");
    let host = format!("http://{at}");
    for (origin, good) in [(host.as_str(), true), ("https://evil.example", false), ("null", false)] {
        let opened = open(at, path, &[("cookie", &cookie), ("origin", origin)]).await;
        assert_eq!(opened.err(), (!good).then_some(403), "{origin}");
    }
    assert_eq!(
        open(at, path, &[("cookie", &cookie)]).await.err(),
        Some(403),
        "no page at all"
    );
    let (_, _, ticket) = house
        .ask(crate::testing::request("POST", "/v1/tickets", &token, None))
        .await;
    let with_ticket = format!("{path}?ticket={}", ticket["ticket"].as_str().unwrap());
    assert!(open(at, &with_ticket, &[]).await.is_ok());
    assert_eq!(
        open(at, &with_ticket, &[]).await.err(),
        Some(401),
        "a ticket is good once"
    );
}

/// Who gets what: every stream, every role, about one's own, another's, and what does not exist; with a token that is
/// good, with one that has ended, with none. 101 is a stream.
#[tokio::test]
async fn every_stream_answers_every_role_about_own_others_and_unknown_patients_as_it_should() {
    let house = House::new().await;
    for (p, c) in [("p-own", "c-own"), ("p-other", "c-other")] {
        house.reading(p, "s", 72.0, NOW).await;
        house.consultation(p, c).await;
    }
    house.processed().await;
    house.settled().await;
    let at = served(&house).await;
    // Own, other's, unknown. A stream of one who is not known yet is opened for whoever sees everybody.
    const ALL: [[u16; 3]; 3] = [[101, 101, 101], [101, 101, 404], [101; 3]];
    const OWN: [[u16; 3]; 3] = [[101, 404, 404], [101, 404, 404], [101; 3]];
    const NONE: [[u16; 3]; 3] = [[404; 3], [404; 3], [403; 3]];
    for (role, answers) in [
        (Role::Admin, ALL),
        (Role::Auditor, ALL),
        (Role::Doctor, OWN),
        (Role::Patient, OWN),
        (Role::Analyst, NONE),
        (Role::Device, NONE),
        (Role::Gateway, NONE),
    ] {
        let token = house.token(role, &["p-own"], Span::hours(1));
        let ended = house.token(role, &["p-own"], Span::seconds(-60));
        for (stream, answers) in STREAMS.iter().zip(answers) {
            for (whose, expected) in ["own", "other", "none"].iter().zip(answers) {
                for slash in ["", "/"] {
                    let path = stream
                        .replace("{patient_id}", &format!("p-{whose}"))
                        .replace("{consultation_id}", &format!("c-{whose}"));
                    let path = format!("{path}{slash}");
                    let status = |opened: Result<Socket, u16>| opened.err().unwrap_or(101);
                    assert_eq!(status(with_token(at, &path, &token).await), expected, "{role} {path}");
                    assert_eq!(status(with_token(at, &path, &ended).await), 401, "{role} {path}, ended");
                    assert_eq!(status(open(at, &path, &[]).await), 401, "{path}, nobody");
                }
            }
        }
    }
}

#[tokio::test]
async fn a_stream_ends_with_a_reason() {
    let house = House::new().await;
    let at = served(&house).await;
    let token = house.token(Role::Doctor, &["p1"], Span::hours(1));
    let mut foreign = with_token(at, "/ws/patients/p1?since=abc", &token).await.unwrap();
    assert_eq!(frame(&mut foreign).await, Err(CloseCode::from(4400)));
    let brief = Principal {
        live: schemas::access::Live::default(),
        subject: "b".into(),
        role: Role::Admin,
        patients: Vec::new(),
        sensors: Vec::new(),
    };
    let (ticket, _) = house.state.tickets.give(brief, NOW + Span::millis(300), NOW).unwrap();
    let mut brief = open(at, &format!("/ws/alerts?ticket={ticket}"), &[]).await.unwrap();
    frame(&mut brief).await.unwrap();
    assert_eq!(frame(&mut brief).await, Err(CloseCode::from(4401)), "the token ends");
    let mut talks = with_token(at, "/ws/patients/p1", &token).await.unwrap();
    frame(&mut talks).await.unwrap();
    talks.send(Message::Text("x".repeat(10_000).into())).await.unwrap();
    let ended = timeout(PATIENCE, async {
        while !matches!(talks.next().await, None | Some(Err(_) | Ok(Message::Close(_)))) {}
    });
    ended.await.expect("who says too much is closed");
    let mut stays = with_token(at, "/ws/patients/p1", &token).await.unwrap();
    frame(&mut stays).await.unwrap();
    house.state.parts.shutdown.cancel();
    assert_eq!(frame(&mut stays).await, Err(CloseCode::Away));
}

/// Everything was revoked, once that is said.
#[derive(Debug, Default)]
struct Taken(AtomicBool);

impl Revocations for Taken {
    fn is_revoked(&self, _: &str, _: &Grant) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

#[tokio::test]
async fn every_stream_is_closed_when_its_token_is_revoked() {
    let house = House::new().await;
    house.consultation("p1", "7").await;
    house.settled().await;
    let at = served(&house).await;
    let streams = ["/ws/patients/p1", "/ws/consultation/7", "/ws/alerts"];
    for role in [Role::Admin, Role::Auditor, Role::Doctor, Role::Patient] {
        let taken = Arc::new(Taken::default());
        let who = Principal {
            live: Live::default().with_revocations(Arc::clone(&taken) as Arc<dyn Revocations>),
            subject: "b".into(),
            role,
            patients: vec![patient("p1")],
            sensors: Vec::new(),
        };
        let mut open_ones = Vec::new();
        for path in streams {
            let far = NOW + Span::hours(1);
            let (ticket, _) = house.state.tickets.give(who.clone(), far, NOW).unwrap();
            let mut socket = open(at, &format!("{path}?ticket={ticket}"), &[]).await.unwrap();
            frame(&mut socket).await.unwrap();
            open_ones.push((path, socket));
        }
        taken.0.store(true, Ordering::SeqCst);
        for (path, mut socket) in open_ones {
            assert_eq!(frame(&mut socket).await, Err(CloseCode::from(4403)), "{role} {path}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_alert_is_told_as_soon_as_the_log_has_it() {
    let house = House::new().await;
    let at = served(&house).await;
    let mut socket = with_token(at, "/ws/alerts", &house.token(Role::Admin, &[], Span::hours(1)))
        .await
        .unwrap();
    frame(&mut socket).await.unwrap();
    let mut took = Vec::new();
    for n in 0..50 {
        house.alert("p1", &n.to_string(), AlertState::Open).await;
        let appended = tokio::time::Instant::now();
        frame(&mut socket).await.unwrap();
        took.push(appended.elapsed());
    }
    took.sort();
    println!(
        "alert durable in the log -> frame at the client: p50 {:?}, p99 {:?}",
        took[25], took[49]
    );
}

/// The readings of the next frame that has any; the close code where there is none.
async fn next_values(socket: &mut Socket) -> Result<Vec<i64>, CloseCode> {
    loop {
        let values = values(&frame(socket).await?);
        if !values.is_empty() {
            return Ok(values);
        }
    }
}

#[tokio::test]
async fn a_consultation_is_told_while_it_is_open_and_then_ends() {
    let house = House::new().await;
    let at = served(&house).await;
    let token = house.token(Role::Doctor, &["p1"], Span::hours(1));
    house.consultation("p1", "7").await;
    house.settled().await;
    let post = async |verb: &str| {
        let path = format!("/v1/consultations/7/{verb}");
        let (status, _, answer) = house.ask(crate::testing::request("POST", &path, &token, None)).await;
        assert_eq!(status, 200, "{answer}");
    };
    // A page may be there before the doctor opens it.
    let mut early = with_token(at, "/ws/consultation/7/", &token).await.unwrap();
    let start = frame(&mut early).await.unwrap()["cursor"].as_str().unwrap().to_owned();
    house.reading("p1", "s", 60.0, NOW).await;
    post("open").await;
    let mut socket = with_token(at, "/ws/consultation/7", &token).await.unwrap();
    frame(&mut socket).await.unwrap();
    house.reading("p2", "s", 1.0, NOW).await;
    house.reading("p1", "s", 72.0, NOW).await;
    for socket in [&mut early, &mut socket] {
        assert_eq!(next_values(socket).await, Ok(vec![72]));
    }
    let other = house.token(Role::Doctor, &["p2"], Span::hours(1));
    assert_eq!(with_token(at, "/ws/consultation/7", &other).await.err(), Some(404));
    post("close").await;
    house.reading("p1", "s", 80.0, NOW).await;
    for socket in [&mut early, &mut socket] {
        assert_eq!(next_values(socket).await, Err(CloseCode::Normal));
    }
    house.settled().await;
    assert_eq!(with_token(at, "/ws/consultation/7", &token).await.err(), Some(409));
    // Who was away is told what was missed.
    let mut back = with_token(at, &format!("/ws/consultation/7?since={start}"), &token)
        .await
        .unwrap();
    assert_eq!(next_values(&mut back).await, Ok(vec![72]));
    assert_eq!(next_values(&mut back).await, Err(CloseCode::Normal));
}
