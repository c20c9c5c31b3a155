//! How long one reading takes each processor, in memory, checkpoints included:
//! `cargo run --release -p processors --example per_reading`.

use std::time::Duration;

use processors::testing::{Journal, MemoryShelf, fresh};
use schemas::metric::Metric;
use schemas::time::Span;

#[expect(clippy::disallowed_methods, reason = "it measures")]
fn now() -> std::time::Instant {
    std::time::Instant::now()
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (patients, seconds) = (1_000, 200);
    let mut journal = Journal::start();
    for second in 0..seconds {
        for patient in 0..patients {
            let value = 60.0 + f64::from((patient * 7 + second * 3) % 40);
            let (patient, sensor) = (format!("patient-{patient:05}"), format!("sensor-{patient:05}"));
            journal.reading(
                &patient,
                &sensor,
                Metric::HeartRate,
                Span::seconds(i64::from(second)),
                value,
            );
        }
        journal.tick(Span::seconds(i64::from(second)));
    }
    let readings = f64::from(patients * seconds);
    for kind in processors::all() {
        let mut task = (kind.restore)(fresh(MemoryShelf::default()))?;
        let (mut outputs, mut bytes, mut saving) = (0, 0, Duration::ZERO);
        let began = now();
        for (n, records) in journal.records.chunks(1_000).enumerate() {
            let mut rest = records;
            while !rest.is_empty() {
                let work = task.handle(rest)?;
                outputs += work.outputs.len();
                rest = &rest[rest.partition_point(|r| r.offset < work.reached)..];
            }
            if n % 50 == 49 {
                let at = now();
                let states = task.checkpoint().states;
                bytes += states
                    .iter()
                    .filter_map(|(_, s)| s.value.as_ref())
                    .map(bytes::Bytes::len)
                    .sum::<usize>();
                saving += at.elapsed();
            }
        }
        let took = began.elapsed();
        println!(
            "{:8} {:.2} us per reading (of which checkpoints {:.2}), {:.2} outputs per reading, {} MB resident, {} MB saved",
            kind.name,
            took.as_secs_f64() * 1e6 / readings,
            saving.as_secs_f64() * 1e6 / readings,
            outputs as f64 / readings,
            task.resident() >> 20,
            bytes >> 20,
        );
    }
    Ok(())
}
