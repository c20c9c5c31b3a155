//! Two doors and two desks, each a process of its own, with Kafka and a database between them and nothing else: what is
//! done at one counts at the others, on what is open already too. How long each took is printed, never judged.

use std::io::Write;
use std::pin::pin;

use app::client;
use futures::StreamExt;
use hyper::Method;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::Packet;
use rumqttc::v5::{AsyncClient, Event, EventLoop, MqttOptions};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::{Duration, Instant, sleep, timeout};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use super::house::{PATIENCE, ago, config, fajma, heart_rate, on_engines, prepare};
use super::program::Program;

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// All processes of an installation.
struct Roles {
    dir: tempfile::TempDir,
    doors: [Program; 2],
    desks: [Program; 2],
    behind: [Program; 2],
    /// Where log and views are, for more of them.
    variables: [(&'static str, String); 2],
}

impl Roles {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let shared = config(dir.path());
        prepare(&shared).await;
        let variables = [("FAJMA_LOG_URL", shared.log.url), ("FAJMA_VIEWS_URL", shared.views.url)];
        let named = |role, name| Program::named(role, name, dir.path(), &variables);
        // The journal is begun by who processes it.
        let behind = [named("process", "process"), named("project", "project")];
        let roles = Self {
            doors: [named("ingest", "ingest-1"), named("ingest", "ingest-2")],
            desks: [named("serve", "serve-1"), named("serve", "serve-2")],
            behind,
            dir,
            variables,
        };
        for program in roles.doors.iter().chain(&roles.desks).chain(&roles.behind) {
            let ready = async |program: &Program| program.ask("/readyz").await["status"].clone();
            program.until("ready", ready, |status| status == "ready").await;
        }
        roles
    }

    /// A token of the key that all share.
    fn token(&self, more: &[&str]) -> String {
        let key = self.dir.path().join("token.key").display().to_string();
        let arguments = [&["token", "issue", "--key", &key], more].concat();
        let (status, token, error) = fajma(&arguments);
        assert_eq!(status, Some(0), "{error}");
        token.trim().to_owned()
    }

    /// Sends by one of the doors.
    async fn send(&self, door: usize, readings: Value) {
        let door = &self.doors[door];
        let body = json!({ "readings": readings });
        let (status, answer) = client::post(&door.http, "/v1/readings", &door.token, &body)
            .await
            .unwrap();
        assert_eq!((status, &answer["rejected"]), (200, &json!(0)), "{answer}");
    }

    /// Changes something at the first desk.
    async fn change(&self, method: Method, path: &str, body: Value) -> Value {
        let desk = &self.desks[0];
        let body = ("application/json", body.to_string().into());
        let (status, answer) = client::call(&desk.http, method, path, &desk.token, body).await.unwrap();
        assert!(matches!(status, 200 | 201), "{path}: {status} {answer}");
        answer
    }

    async fn stop(self) {
        for program in self.doors.into_iter().chain(self.desks).chain(self.behind) {
            program.stop().await;
        }
    }
}

/// Waits for something and says how long after `since` it came.
async fn came<T>(what: &str, since: Instant, it: impl Future<Output = T>) -> T {
    let came = timeout(PATIENCE, it)
        .await
        .unwrap_or_else(|_| panic!("{what} did not come"));
    // Past the test's own capture: figures of a test that went well are worth as much.
    let _ = writeln!(
        std::io::stderr(),
        "roles: {what} after {} ms",
        since.elapsed().as_millis()
    );
    came
}

/// Asks as somebody until they are answered, or not.
async fn may(desk: &Program, token: &str, path: &str, may: bool) {
    while client::get(&desk.http, path, token).await.is_ok() != may {
        sleep(Duration::from_millis(10)).await;
    }
}

async fn watch(desk: &Program, path: &str, token: &str) -> Socket {
    let mut request = format!("ws://{}{path}", desk.http).into_client_request().unwrap();
    let bearer = format!("Bearer {token}").parse().unwrap();
    request.headers_mut().insert("authorization", bearer);
    let (mut socket, _) = tokio_tungstenite::connect_async(request).await.unwrap();
    // The first frame says from where on it tells.
    socket.next().await.unwrap().unwrap();
    socket
}

/// The code with which a stream is closed.
async fn closed(socket: &mut Socket) -> u16 {
    loop {
        match socket.next().await {
            Some(Ok(Message::Close(Some(frame)))) => return frame.code.into(),
            Some(Ok(_)) => {}
            other => panic!("{other:?}"),
        }
    }
}

/// The id of the next alert that a stream tells of.
async fn alerted(socket: &mut Socket) -> String {
    loop {
        let Some(Ok(message)) = socket.next().await else {
            panic!("the stream ended")
        };
        let Message::Text(text) = message else { continue };
        let frame: Value = serde_json::from_str(&text).unwrap();
        if let Some(id) = frame["alerts"][0]["id"].as_str() {
            return id.to_owned();
        }
    }
}

fn connect(door: &Program, sensor: &str, token: &str) -> (AsyncClient, EventLoop) {
    let (host, port) = door.mqtt.rsplit_once(':').unwrap();
    let mut options = MqttOptions::new(sensor, host, port.parse().unwrap());
    options.set_credentials("device", token);
    AsyncClient::new(options, 10)
}

async fn publish(client: &AsyncClient, path: &str, payload: Value) {
    let (topic, payload) = (format!("fajma/patient/p1/sensor/{path}"), payload.to_string());
    client.publish(topic, QoS::AtLeastOnce, false, payload).await.unwrap();
}

async fn told(events: &mut EventLoop, there: impl Fn(&Packet) -> bool) -> Packet {
    loop {
        if let Event::Incoming(packet) = events.poll().await.unwrap()
            && there(&packet)
        {
            return packet;
        }
    }
}

/// Sends now and then, until the door has hung up.
async fn sent_away((client, events): &mut (AsyncClient, EventLoop)) {
    let mut saying = pin!(async {
        loop {
            // The door may be gone already.
            let _ = client.try_publish(
                "fajma/patient/p1/sensor/pump/data",
                QoS::AtLeastOnce,
                false,
                r#"{"type":"heart_rate","value":70}"#,
            );
            sleep(Duration::from_millis(20)).await;
        }
    });
    let mut hanging_up = pin!(async { while events.poll().await.is_ok() {} });
    tokio::select! {
        () = &mut saying => {}
        () = &mut hanging_up => {}
    }
}

async fn an_alert_is_seen_at_both_desks(roles: &Roles) {
    let [one, other] = &roles.desks;
    let mut one = watch(one, "/ws/alerts", &one.token).await;
    let mut other = watch(other, "/ws/alerts", &other.token).await;
    let since = Instant::now();
    let alarm = json!({"patient_id": "p1", "sensor_id": "p1-ecg", "type": "alarm", "code": "asystole", "at": ago(0)});
    roles.send(1, json!([alarm])).await;
    let (first, second) = tokio::join!(
        came(
            "an alarm at the second ingest, on the first serve's WebSocket,",
            since,
            alerted(&mut one)
        ),
        came("the same on the second's", since, alerted(&mut other)),
    );
    assert_eq!(first, second);
}

async fn a_care_team_begins_and_ends_at_the_other_desk(roles: &Roles) {
    let doctor = roles.token(&["--role", "doctor", "--subject", "dr.ba"]);
    let (other, path) = (&roles.desks[1], "/v1/patients/p1/latest");
    assert!(client::get(&other.http, path, &doctor).await.is_err());
    let since = Instant::now();
    let team = |team: &[&str]| json!({"name": "Awa Diop", "care_team": team});
    roles.change(Method::PUT, "/v1/patients/p1", team(&["dr.ba"])).await;
    came(
        "a doctor of a new care team, at the other serve,",
        since,
        may(other, &doctor, path, true),
    )
    .await;
    let mut socket = watch(other, "/ws/patients/p1", &doctor).await;
    let since = Instant::now();
    roles.change(Method::PUT, "/v1/patients/p1", team(&[])).await;
    let (code, ()) = tokio::join!(
        came(
            "a care team's end, on a WebSocket of the other serve,",
            since,
            closed(&mut socket)
        ),
        came("the same for requests there", since, may(other, &doctor, path, false)),
    );
    assert_eq!(code, 4403);
}

async fn what_is_taken_back_at_one_desk_is_good_nowhere(roles: &Roles) {
    let auditor = roles.token(&["--role", "auditor", "--subject", "inspector"]);
    let device = roles.token(&["--role", "device", "--subject", "pump", "--sensor", "pump"]);
    let [_, other] = &roles.desks;
    let mut socket = watch(other, "/ws/patients/p1", &auditor).await;
    let mut sensor = connect(&roles.doors[1], "pump", &device);
    publish(&sensor.0, "pump/data", json!({"type": "heart_rate", "value": 70})).await;
    let taken = timeout(
        PATIENCE,
        told(&mut sensor.1, |packet| matches!(packet, Packet::PubAck(_))),
    );
    taken.await.unwrap();
    let since = Instant::now();
    for taken in [json!({ "token": auditor }), json!({"subject": "pump"})] {
        roles.change(Method::POST, "/v1/tokens/revoke", taken).await;
    }
    let (code, (), ()) = tokio::join!(
        came(
            "a token taken back, on a WebSocket of the other serve,",
            since,
            closed(&mut socket)
        ),
        came(
            "the same for requests there",
            since,
            may(other, &auditor, "/v1/me", false)
        ),
        came(
            "a device's token taken back, at the second ingest,",
            since,
            sent_away(&mut sensor)
        ),
    );
    assert_eq!(code, 4403);
}

async fn a_command_reaches_its_sensor_wherever_that_is(roles: &Roles) {
    let device = roles.token(&["--role", "device", "--subject", "patch", "--sensor", "patch"]);
    let (sensor, mut events) = connect(&roles.doors[1], "patch", &device);
    let topic = "fajma/sensor/patch/command";
    sensor.subscribe(topic, QoS::AtLeastOnce).await.unwrap();
    let subscribed = timeout(
        PATIENCE,
        told(&mut events, |packet| matches!(packet, Packet::SubAck(_))),
    );
    subscribed.await.unwrap();
    let since = Instant::now();
    let given = roles
        .change(Method::POST, "/v1/sensors/patch/commands", json!({"name": "identify"}))
        .await;
    let order = told(&mut events, |packet| matches!(packet, Packet::Publish(_)));
    let what = "a command given at the first serve, at the second ingest,";
    let Packet::Publish(order) = came(what, since, order).await else {
        unreachable!("told waits for one")
    };
    let order: Value = serde_json::from_slice(&order.payload).unwrap();
    assert_eq!(order["command_id"], given["id"], "{order}");
    let since = Instant::now();
    publish(
        &sensor,
        "patch/status",
        json!({"command_id": given["id"], "result": "ok"}),
    )
    .await;
    let acknowledged = timeout(
        PATIENCE,
        told(&mut events, |packet| matches!(packet, Packet::PubAck(_))),
    );
    acknowledged.await.unwrap();
    let confirmed = async {
        let other = &roles.desks[1];
        let state = async |desk: &Program| desk.ask("/v1/sensors/patch/commands").await["commands"][0]["state"].clone();
        other.until("its answer", state, |state| state == "confirmed").await
    };
    came("its answer, at the other serve,", since, confirmed).await;
}

/// Doors that start now: from the views, and where these do not answer, from the journal.
async fn a_door_knows_who_is_who_with_and_without_the_views(roles: &Roles) {
    let body = json!({"patient_id": "p1", "from": ago(60)});
    roles.change(Method::PUT, "/v1/sensors/cuff", json!({})).await;
    roles.change(Method::PUT, "/v1/sensors/cuff/assignment", body).await;
    let worn = async |desk: &Program| desk.ask("/v1/sensors/cuff").await["patient_id"].clone();
    roles.desks[0].until("the assignment", worn, |it| it == "p1").await;
    let nowhere = "scylla://127.0.0.1:1/nowhere";
    for (name, views) in [("ingest-3", roles.variables[1].1.as_str()), ("ingest-4", nowhere)] {
        let variables = [roles.variables[0].clone(), ("FAJMA_VIEWS_URL", views.to_owned())];
        let since = Instant::now();
        let door = Program::named("ingest", name, roles.dir.path(), &variables);
        let unnamed = json!({"readings": [{"sensor_id": "cuff", "type": "heart_rate", "value": 71, "at": ago(0)}]});
        let sent = client::post(&door.http, "/v1/readings", &door.token, &unnamed);
        let (status, answer) = came(&format!("a reading of a new door, {name}, taken"), since, sent)
            .await
            .unwrap();
        assert_eq!((status, &answer["accepted"]), (200, &json!(1)), "{name}: {answer}");
        door.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_done_at_one_process_counts_at_all_of_them() {
    if !on_engines() {
        println!("NOT RUN: roles as processes of their own (make test-engines)");
        return;
    }
    let roles = Roles::start().await;
    roles.send(0, json!([heart_rate("p1", 70.0, ago(1))])).await;
    for desk in &roles.desks {
        timeout(PATIENCE, may(desk, &desk.token, "/v1/patients/p1/latest", true))
            .await
            .unwrap();
    }
    an_alert_is_seen_at_both_desks(&roles).await;
    a_care_team_begins_and_ends_at_the_other_desk(&roles).await;
    what_is_taken_back_at_one_desk_is_good_nowhere(&roles).await;
    a_command_reaches_its_sensor_wherever_that_is(&roles).await;
    a_door_knows_who_is_who_with_and_without_the_views(&roles).await;
    roles.stop().await;
}
