//! A backlog of 100,000 readings, one per MQTT message (QoS 1), over one connection into the embedded log: how many a
//! second, and what each costs. Or, with `serve ADDR`, the door by itself for a client of your own (token `device` for
//! sensor s1 of patient p1, `doctor` for that patient), with a made-up CRITICAL alert every two seconds.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "an example that cannot go on stops"
)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Instant;

use eventlog::embedded::{Embedded, Options};
use eventlog::{EventLog, Output, SystemClock, Topic, Work};
use ingest::mqtt::{Entrance, MqttDoor, MqttLimits};
use ingest::{Intake, Limits};
use schemas::access::{Authenticate, Principal, Refused, Role};
use schemas::derived::{Derived, Origin, Outcome};
use schemas::facts::{AlertChange, AlertChanged, AlertClass, AlertState, Severity};
use schemas::ids::{EventId, Key, PatientId, SensorId};
use schemas::policy::Policy;
use schemas::time::Timestamp;
use tokio_util::sync::CancellationToken;

const MESSAGES: usize = 100_000;

struct Tokens;

impl Authenticate for Tokens {
    fn authenticate(&self, token: &str, _: Timestamp) -> Result<Principal, Refused> {
        let role = match token {
            "device" => Role::Device,
            "doctor" => Role::Doctor,
            _ => return Err(Refused),
        };
        Ok(Principal {
            live: schemas::access::Live::default(),
            subject: token.into(),
            role,
            patients: vec![PatientId::new("p1").unwrap()],
            sensors: vec![SensorId::new("s1").unwrap()],
        })
    }
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let dir = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let log = Embedded::open(dir.path(), Options::default(), Arc::new(SystemClock)).unwrap();
    let address = args.get(1).map_or("127.0.0.1:0", String::as_str);
    let listener = runtime.block_on(tokio::net::TcpListener::bind(address)).unwrap();
    let address = listener.local_addr().unwrap();
    let (_policy, in_force) = tokio::sync::watch::channel(Arc::new(Policy::standard()));
    let as_log: Arc<dyn EventLog> = Arc::clone(&log) as _;
    let intake = Intake::new(
        Arc::clone(&as_log),
        Arc::new(SystemClock),
        in_force,
        Arc::default(),
        Limits::default(),
    );
    let stop = CancellationToken::new();
    let door = MqttDoor::new(
        intake,
        Arc::clone(&as_log),
        Arc::new(Tokens),
        (None, Arc::default()),
        MqttLimits::default(),
        stop.clone(),
    );
    let served = runtime.spawn(door.serve(vec![Entrance { listener, tls: None }]));
    if args.first().is_some_and(|a| a == "serve") {
        println!("mqtt://{address}");
        runtime.block_on(alarm(as_log));
    } else {
        for version in [4, 5] {
            let client = std::thread::spawn(move || backlog(address, version));
            let (seconds, door_cpu) = client.join().unwrap();
            let rate = MESSAGES as f64 / seconds;
            let each = door_cpu / MESSAGES as f64 * 1e6;
            println!("MQTT {version}: {MESSAGES} messages, {rate:.0}/s, {each:.2} us of CPU each (door, judging, log)");
        }
        let mut stored = 0;
        for partition in 0..as_log.layout().partitions {
            stored += runtime.block_on(as_log.bounds(Topic::Journal, partition)).unwrap().end;
        }
        println!("{stored} facts in the journal");
    }
    stop.cancel();
    runtime.block_on(served).unwrap();
}

/// CPU seconds of this process and of the calling thread.
fn cpu() -> (f64, f64) {
    let of = |path: std::path::PathBuf| -> f64 {
        let text = std::fs::read_to_string(path.join("schedstat")).unwrap_or_default();
        text.split(' ')
            .next()
            .and_then(|n| n.parse::<f64>().ok())
            .unwrap_or(0.0)
            / 1e9
    };
    let all = std::fs::read_dir("/proc/self/task")
        .unwrap()
        .map(|t| of(t.unwrap().path()))
        .sum();
    (all, of("/proc/thread-self".into()))
}

/// Sends everything as fast as the door's Receive Maximum allows; returns seconds, and CPU seconds of all but itself.
fn backlog(address: SocketAddr, version: u8) -> (f64, f64) {
    const WINDOW: usize = 8_000;
    const AT_ONCE: usize = 200;
    let messages: Vec<Vec<u8>> = (0..MESSAGES).map(|n| message(version, n)).collect();
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.write_all(&connect(version)).unwrap();
    let mut buffer = vec![0; 1 << 16];
    let n = stream.read(&mut buffer).unwrap();
    assert_eq!((buffer[0], buffer[3]), (0x20, 0), "{:x?}", &buffer[..n]);
    let (before, began) = (cpu(), Instant::now());
    let (mut sent, mut acknowledged, mut rest) = (0, 0, 0);
    while acknowledged < MESSAGES {
        while sent < MESSAGES && sent - acknowledged + AT_ONCE <= WINDOW {
            stream.write_all(&messages[sent..sent + AT_ONCE].concat()).unwrap();
            sent += AT_ONCE;
        }
        let n = stream.read(&mut buffer).unwrap();
        assert!(n > 0, "closed after {acknowledged}");
        // Every answer is a PUBACK of four bytes.
        acknowledged += (rest + n) / 4;
        rest = (rest + n) % 4;
    }
    let seconds = began.elapsed().as_secs_f64();
    let after = cpu();
    (seconds, (after.0 - before.0) - (after.1 - before.1))
}

fn connect(version: u8) -> Vec<u8> {
    let properties: &[u8] = if version == 5 { b"\0" } else { b"" };
    let body = [
        b"\0\x04MQTT",
        &[version, 0xc2, 0, 60][..],
        properties,
        b"\0\x01b\0\x01u\0\x06device",
    ]
    .concat();
    [&[0x10, body.len() as u8], &body[..]].concat()
}

fn message(version: u8, n: usize) -> Vec<u8> {
    const TOPIC: &[u8] = b"fajma/patient/p1/sensor/s1/data";
    let at = Timestamp::from_millis(1_767_600_000_000 + n as i64 * 1000);
    let value = 60 + n % 40;
    let payload = format!(
        r#"{{"type":"heart_rate","value":{value},"unit":"/min","at":"{at}","quality":97,"seq":{n},"epoch":{version}}}"#
    );
    let id = ((n % 65_000 + 1) as u16).to_be_bytes();
    let properties: &[u8] = if version == 5 { b"\0" } else { b"" };
    let body = [&[0, TOPIC.len() as u8], TOPIC, &id, properties, payload.as_bytes()].concat();
    let length = [(body.len() % 128) as u8 | 128, (body.len() / 128) as u8];
    [&[0x32], &length[..], &body].concat()
}

/// Raises an alert every two seconds, as a processor would.
async fn alarm(log: Arc<dyn EventLog>) {
    let key = Key::Patient(PatientId::new("p1").unwrap());
    let partition = schemas::partition::of(&key, log.layout().partitions);
    let mut place = log.claim("alerts", Topic::Alerts, partition).await.unwrap();
    for offset in 1.. {
        tokio::time::sleep(std::time::Duration::from_secs(2)).await;
        let origin = Origin {
            incarnation: log.layout().incarnation,
            offset,
            key: "p1".into(),
            n: 0,
        };
        let derived = alert(&key, origin.clone());
        let mut value = Vec::new();
        schemas::codec::encode_derived(&derived, &mut value);
        let output = Output {
            origin,
            key: "p1".into(),
            value: value.into(),
        };
        place
            .commit(Work {
                outputs: vec![output],
                reached: offset + 1,
                checkpoint: None,
            })
            .await
            .unwrap();
    }
}

fn alert(key: &Key, origin: Origin) -> Derived {
    let id = Derived::id_of("alerts", 1, &origin);
    Derived {
        id,
        key: key.clone(),
        recorded_at: Timestamp::default(),
        outcome: Outcome::Alert(AlertChanged {
            alert_id: EventId::of("example", &[&origin.offset.to_be_bytes()]),
            change: AlertChange::Raised,
            sensor_id: SensorId::new("s1").ok(),
            metric: None,
            rule: "asystole".into(),
            subject: "p1".into(),
            class: AlertClass::Clinical,
            severity: Severity::Critical,
            state: AlertState::Open,
            retrospective: false,
            message: "Asystole (made up)".into(),
            message_fr: "Asystolie (fictive)".into(),
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
        origin,
    }
}
