//! What judging costs: nanoseconds per reading, for messages of 100 readings and of one.
//!
//! `cargo run --release -p ingest --example accept_speed`

use std::fmt::Write;
use std::hint::black_box;

use bytes::Bytes;
use ingest::{Context, Kind, accept};
use schemas::codec::Catalogue;
use schemas::facts::Door;
use schemas::policy::Policy;
use schemas::time::Timestamp;

fn main() {
    let mut list = String::from("[");
    for n in 0..100 {
        let comma = if n == 0 { "" } else { "," };
        let _ = write!(
            list,
            r#"{comma}{{"type":"heart_rate","value":{}.5,"unit":"/min","at":"2026-01-05T08:{:02}:{:02}.250Z","quality":97,"contact":true,"seq":{n},"epoch":3}}"#,
            60 + n % 40,
            n / 60,
            n % 60
        );
    }
    list.push(']');
    let one = r#"{"type":"heart_rate","value":72.5,"unit":"/min","at":"2026-01-05T08:00:00.250Z","quality":97,"contact":true,"seq":1,"epoch":3}"#;
    measure("100 readings in one JSON list", &Bytes::from(list), 100);
    measure("one reading in one JSON object", &Bytes::from(one), 1);
}

fn measure(what: &str, message: &Bytes, readings: u32) {
    let (policy, catalogue, roster) = (Policy::standard(), Catalogue::builtin(), ingest::Roster::default());
    let rules = accept::Rules {
        policy: &policy,
        catalogue: &catalogue,
        roster: &roster,
        bounds: accept::Bounds::default(),
    };
    let context =
        Context::new(Door::Mqtt, Timestamp(1_767_600_200_000_000)).on_topic("p-1017", "sensor-2231", Kind::Data);
    let rounds = 400_000 / readings;
    let mut best = f64::MAX;
    for _ in 0..10 {
        let began = tokio::time::Instant::now();
        for _ in 0..rounds {
            black_box(accept::accept(black_box(message), &context, &rules));
        }
        best = best.min(began.elapsed().as_nanos() as f64 / f64::from(rounds * readings));
    }
    println!("{what}: {best:.0} ns per reading ({} bytes)", message.len());
}
