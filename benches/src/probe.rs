//! How long it takes from a reading to its alert on a WebSocket, while the load is on.
//!
//! Each probe is a patient of its own whose heart rate is 190/min: a first reading, measured 11 s ago, prepares the
//! alert; the second, measured now, raises it. Timed from when the second should have been sent to the arrival of the
//! frame.

use std::collections::BTreeMap;
use std::net::TcpStream;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use eventlog::{Clock, SystemClock};
use schemas::time::{Span, Timestamp};
use tokio::time::Instant;
use tungstenite::client::IntoClientRequest;
use tungstenite::{Message, WebSocket};

use crate::http::Connection;
use crate::load::{Door, Load, sleep_until};
use crate::mqtt::Publisher;
use crate::{Latencies, Result, latencies, note};

/// Between the first reading of a probe and the second.
const BETWEEN: Duration = Duration::from_millis(500);
/// How long after the last reading its alert may come.
const PATIENCE: Duration = Duration::from_secs(10);
/// What the ids of probes begin with.
const PREFIX: &str = "probe-";

/// What the probes found.
#[derive(Debug)]
pub struct Probed {
    /// Probes sent.
    pub sent: usize,
    /// From when the reading should have been sent to its alert.
    pub latencies: Latencies,
}

type Arrivals = Arc<Mutex<BTreeMap<u64, Instant>>>;

/// Sends `per_second` probes while the load lasts, and watches for their alerts. `first` is the number of the first
/// probe, so that no patient comes twice.
///
/// # Errors
/// Where a connection breaks.
pub fn run(load: &Load, first: u64, per_second: f64) -> Result<Probed> {
    let arrivals: Arrivals = Arc::default();
    let socket = watch(load)?;
    let stop = socket.get_ref().try_clone()?;
    let watcher = {
        let arrivals = Arc::clone(&arrivals);
        std::thread::spawn(move || listen(socket, &arrivals))
    };
    let intended = send(load, first, per_second)?;
    let until = Instant::now() + PATIENCE;
    let arrived = || arrivals.lock().unwrap_or_else(PoisonError::into_inner);
    while arrived().len() < intended.len() && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(5));
    }
    let _ = stop.shutdown(std::net::Shutdown::Both);
    watcher.join().map_err(|_| "the watching thread panicked")?;
    let mut latencies = latencies()?;
    let arrived = arrived();
    for (number, at) in &intended {
        if let Some(seen) = arrived.get(number) {
            note(&mut latencies, *seen - *at);
        }
    }
    Ok(Probed {
        sent: intended.len(),
        latencies,
    })
}

/// Sends probes; when each should have been sent, by number.
fn send(load: &Load, first: u64, per_second: f64) -> Result<BTreeMap<u64, Instant>> {
    let mut sender = Sender::open(load)?;
    let began = Instant::now() + Duration::from_millis(50);
    let every = Duration::from_secs_f64(1.0 / per_second);
    let probes = (load.lasting.saturating_sub(BETWEEN).as_secs_f64() * per_second) as u64;
    let mut turns: Vec<(Instant, u64, bool)> = Vec::new();
    for n in 0..probes {
        let at = began + every.mul_f64(n as f64);
        turns.extend([(at, first + n, false), (at + BETWEEN, first + n, true)]);
    }
    turns.sort_unstable();
    let mut intended = BTreeMap::new();
    for (at, number, second) in turns {
        sleep_until(at);
        let now = SystemClock.now();
        sender.reading(number, if second { now } else { now - Span::seconds(11) }, at)?;
        if second {
            intended.insert(number, at);
        }
    }
    sender.finish()?;
    Ok(intended)
}

/// A connection of their own, through the same door as the load.
enum Sender {
    Http(Box<Connection>),
    Mqtt(Box<Publisher>),
}

impl Sender {
    fn open(load: &Load) -> Result<Self> {
        Ok(match load.door {
            Door::Http { .. } => Self::Http(Box::new(Connection::open(load.ways.http, &load.ways.token)?)),
            Door::Mqtt { window } => Self::Mqtt(Box::new(Publisher::open(
                load.ways.mqtt,
                "probe",
                &load.ways.token,
                window,
            )?)),
        })
    }

    fn reading(&mut self, number: u64, at: Timestamp, intended: Instant) -> Result<()> {
        let reading = format!(r#""type":"heart_rate","value":190,"unit":"/min","at":"{at}","quality":97}}"#);
        match self {
            Self::Http(connection) => {
                let ids = format!(r#"{{"patient_id":"{PREFIX}{number}","sensor_id":"{PREFIX}{number}","#);
                let answer =
                    connection.post("/v1/readings", format!(r#"{{"readings":[{ids}{reading}]}}"#).as_bytes())?;
                if answer.body.starts_with(br#"{"accepted":1,"#) {
                    Ok(())
                } else {
                    Err(format!("a probe was not accepted: {}", String::from_utf8_lossy(answer.body)).into())
                }
            }
            Self::Mqtt(publisher) => {
                publisher.wait_for_room(1)?;
                let topic = format!("fajma/patient/{PREFIX}{number}/sensor/{PREFIX}{number}/data");
                publisher.publish(topic.as_bytes(), format!("{{{reading}").as_bytes(), intended);
                publisher.flush()
            }
        }
    }

    fn finish(self) -> Result<()> {
        match self {
            Self::Http(_) => Ok(()),
            Self::Mqtt(publisher) => publisher.finish().map(|_| ()),
        }
    }
}

/// Opens the stream of all alerts; its first frame tells the place and has come.
fn watch(load: &Load) -> Result<WebSocket<TcpStream>> {
    let mut request = format!("ws://{}/ws/alerts", load.ways.desk).into_client_request()?;
    let bearer = format!("Bearer {}", load.ways.token).parse()?;
    request.headers_mut().insert("authorization", bearer);
    let stream = TcpStream::connect(load.ways.desk)?;
    stream.set_nodelay(true)?;
    let (mut socket, _) = tungstenite::client(request, stream).map_err(|e| format!("/ws/alerts: {e}"))?;
    socket.read()?;
    Ok(socket)
}

/// Notes when each probe's first alert comes, until the connection is shut.
fn listen(mut socket: WebSocket<TcpStream>, arrivals: &Arrivals) {
    while let Ok(message) = socket.read() {
        let now = Instant::now();
        let Message::Text(frame) = message else { continue };
        let mut arrivals = arrivals.lock().unwrap_or_else(PoisonError::into_inner);
        for number in probes_in(&frame) {
            arrivals.entry(number).or_insert(now);
        }
    }
}

/// Numbers of the probes whose alerts are in a frame.
fn probes_in(frame: &str) -> impl Iterator<Item = u64> {
    frame
        .split(r#""patient_id":"probe-"#)
        .skip(1)
        .filter_map(|rest| rest.split('"').next()?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probes_are_found_in_a_frame() {
        let frame = r#"{"cursor":"x","alerts":[{"id":"a","patient_id":"probe-7","sensor_id":"probe-7"},
            {"id":"b","patient_id":"p-1"},{"id":"c","patient_id":"probe-12"}]}"#;
        assert_eq!(probes_in(frame).collect::<Vec<_>>(), [7, 12]);
    }
}
