//! What a reading costs in the views: `cargo run --release -p projections --features embedded --example speed [memtable MiB]`.
//!
//! Patients with five metrics each, one reading per metric and second, in batches as the runner reads them.

use projections::embedded::{EmbeddedViews, Options};
use projections::query::{self, Paging, Range};
use projections::store::ViewStore;
use projections::views;
use schemas::facts::{Door, Reading};
use schemas::ids::{EventId, Key, PatientId, SensorId};
use schemas::journal::{ClockQuality, Envelope, Fact, Recorded};
use schemas::metric::Metric;
use schemas::time::{Span, Timestamp};
use tokio::time::Instant;

const PATIENTS: i64 = 2_000;
const METRICS: [Metric; 5] = [
    Metric::HeartRate,
    Metric::Spo2,
    Metric::RespiratoryRate,
    Metric::Systolic,
    Metric::BodyTemperature,
];
const READINGS: i64 = 1_000_000;
const BATCH: i64 = 2_048;
/// 2026-01-05T08:00:00Z.
const START: Timestamp = Timestamp(1_767_600_000_000_000);

fn recorded(n: i64) -> Result<Recorded, schemas::ids::IdError> {
    let series = n % (PATIENTS * 5);
    let at = START + Span::seconds(n / (PATIENTS * 5));
    let sensor_id = SensorId::new(&format!("sensor-{series:06}"))?;
    let metric = METRICS[usize::try_from(series % 5).unwrap_or(0)];
    let reading = Reading {
        sensor_id,
        metric,
        value: 72.5,
        sent: None,
        quality: Some(97),
        contact: None,
        seq: Some(n),
        epoch: Some(3),
        samples: None,
        marks: Vec::new(),
        door: Door::Mqtt,
    };
    let envelope = Envelope {
        id: EventId::of("speed", &[&n.to_be_bytes()]),
        key: Key::Patient(PatientId::new(&format!("patient-{:05}", series / 5))?),
        measured_at: at,
        gateway_at: None,
        received_at: at + Span::millis(30),
        clock: ClockQuality::Device,
        cause: None,
        fact: Fact::Reading(reading),
    };
    Ok(Recorded {
        offset: n,
        appended_at: at,
        envelope,
    })
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let mut options = Options::default();
    if let Some(mib) = std::env::args().nth(1) {
        options.memtable_bytes = mib.parse::<u64>()? << 20;
    }
    let store = EmbeddedViews::open(folder.path(), options)?;
    let (mut projecting, mut applying) = (Span::ZERO, Span::ZERO);
    let mut slowest = Span::ZERO;
    for start in (0..READINGS).step_by(usize::try_from(BATCH)?) {
        let facts = (start..start + BATCH).map(recorded).collect::<Result<Vec<_>, _>>()?;
        let begin = Instant::now();
        let mut changes = Vec::with_capacity(facts.len() * 4);
        for fact in &facts {
            views::project_fact(fact, &mut changes);
        }
        projecting = since(begin, projecting)?;
        let begin = Instant::now();
        store.apply(&changes, None).await?;
        slowest = slowest.max(since(begin, Span::ZERO)?);
        applying = since(begin, applying)?;
    }
    let per = |span: Span| span.0 as f64 / READINGS as f64;
    println!(
        "project {:.2} us, apply {:.2} us per reading",
        per(projecting),
        per(applying)
    );
    println!(
        "slowest apply of {BATCH} readings: {:.1} ms",
        slowest.as_seconds() * 1e3
    );
    println!(
        "disk {:.0} bytes per reading",
        store.disk_bytes()? as f64 / READINGS as f64
    );

    let begin = Instant::now();
    let page = query::readings(&*store, "patient-00042", None, Range::ALL, Paging::default()).await?;
    println!(
        "page of {} readings of all metrics: {:?}",
        page.items.len(),
        begin.elapsed()
    );
    let begin = Instant::now();
    println!(
        "latest of {} series: {:?}",
        query::latest(&*store, "patient-00042").await?.len(),
        begin.elapsed()
    );
    Ok(())
}

fn since(begin: Instant, total: Span) -> Result<Span, std::num::TryFromIntError> {
    Ok(Span(total.0 + i64::try_from(begin.elapsed().as_micros())?))
}
