//! One table: what was measured, and the budget beside it (DESIGN §7).

use std::fmt::Write;
use std::time::Duration;

use crate::Latencies;
use crate::load::Door;
use crate::phases::Phases;
use crate::probe::Probed;
use crate::run::{Figures, Plan};

/// A sensor that promises nothing else speaks every 30 s: the live rate that replays are compared with.
const LIVE_EVERY_SECONDS: f64 = 30.0;

/// The machine, the commit and the table.
#[must_use]
pub fn table(plan: &Plan, figures: &Figures, machine: &str, commit: &str, pinned: bool) -> String {
    let mut out = format!(
        "{machine}; commit {commit}\n{} patients x 5 metrics; server and generator {}; {} readings in the log at the end\n\n",
        plan.phases.world.patients,
        if pinned { "on a core each" } else { "share all cores" },
        figures.readings,
    );
    let mut row = |cells: &[String]| {
        let _ = writeln!(out, "| {} |", cells.join(" | "));
    };
    let mut titles = vec!["figure".to_owned()];
    titles.extend(figures.doors.iter().map(|phases| title(phases.door)));
    titles.push("budget".to_owned());
    row(&titles);
    row(&vec!["---".to_owned(); titles.len()]);
    for (name, budget, value) in BY_DOOR {
        let mut cells = vec![(*name).to_owned()];
        cells.extend(figures.doors.iter().map(value));
        cells.push((*budget).to_owned());
        row(&cells);
    }
    for (name, value, budget) in whole(plan, figures) {
        let mut cells = vec![name, value];
        cells.resize(titles.len() - 1, String::new());
        cells.push(budget.to_owned());
        row(&cells);
    }
    out
}

pub(crate) fn title(door: Door) -> String {
    match door {
        Door::Http { batch } => format!("HTTP, {batch} per request"),
        Door::Mqtt { .. } => "MQTT QoS 1, one per message".to_owned(),
    }
}

type Row = (&'static str, &'static str, fn(&Phases) -> String);

const BY_DOOR: &[Row] = &[
    ("accepted, readings/s (closed loop)", "", |p| {
        count(p.sustained.accepted)
    }),
    ("durable, readings/s", "", |p| count(p.sustained.durable)),
    ("evaluated by all processors, readings/s", "", |p| {
        count(p.sustained.evaluated)
    }),
    ("queryable, readings/s: what is sustained", "", |p| {
        count(p.sustained.queryable)
    }),
    ("server CPU s per million readings", "10 (HTTP), 40 (MQTT)", |p| {
        format!("{:.1}", p.sustained.cpu_per_million.of_ours())
    }),
    (
        "sustained readings/s per core (10^6 / CPU s)",
        ">= 100,000 (HTTP), >= 25,000 (MQTT)",
        |p| count(1e6 / p.sustained.cpu_per_million.of_ours()),
    ),
    ("conclusions written per reading", "", |p| {
        format!("{:.2}", p.sustained.conclusions)
    }),
    ("- reading to alert on WebSocket, p50 / p99 / max", "", |p| {
        probes(&p.sustained.alerts)
    }),
    ("open loop, readings/s", "70 % of sustained", |p| count(p.steady.rate)),
    ("- server CPU s per million readings", "", |p| {
        format!("{:.1}", p.steady.cpu_per_million.of_ours())
    }),
    ("- conclusions written per reading", "", |p| {
        format!("{:.2}", p.steady.conclusions)
    }),
    ("- acknowledged, p50 / p99 / max", "", |p| {
        spread(&p.steady.acknowledged)
    }),
    (
        "- reading to alert on WebSocket, p50 / p99 / max",
        "p50 <= 5 ms, p99 <= 20 ms",
        |p| probes(&p.steady.alerts),
    ),
    ("- all rooms done after the end of load", "", |p| time(p.steady.drain)),
    ("peak memory so far, MB", "<= 300", |p| {
        format!("{:.0}", p.peak_memory as f64 / 1e6)
    }),
];

fn whole(plan: &Plan, figures: &Figures) -> Vec<(String, String, &'static str)> {
    let per_reading = figures.disk_bytes as f64 / figures.readings.max(1) as f64;
    let millions = figures.readings as f64 / 1e6;
    let mut rows = vec![
        (
            "peak memory in all, MB".to_owned(),
            format!("{:.0}", figures.peak_memory as f64 / 1e6),
            "<= 300",
        ),
        ("disk, bytes per reading".to_owned(), format!("{per_reading:.0}"), ""),
        ("first start, nothing there".to_owned(), time(figures.first_start), ""),
        (
            format!("cold start, {millions:.1} M readings in the log"),
            time(figures.cold_start),
            "<= 5 s with 10 M events",
        ),
    ];
    if let Some(took) = figures.replay {
        let rate = figures.readings as f64 / took.as_secs_f64();
        let live = plan.phases.world.series() as f64 / LIVE_EVERY_SECONDS;
        rows.push((
            format!("replay and compare (`fajma verify`), against live = every {LIVE_EVERY_SECONDS} s"),
            format!("{} readings/s = {:.0}x live", count(rate), rate / live),
            ">= 50x",
        ));
    }
    rows
}

/// A number with commas.
pub(crate) fn count(n: f64) -> String {
    let digits = format!("{n:.0}");
    let mut out = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

pub(crate) fn spread(latencies: &Latencies) -> String {
    let at = |quantile| time(Duration::from_micros(latencies.value_at_quantile(quantile)));
    format!("{} / {} / {}", at(0.5), at(0.99), at(1.0))
}

pub(crate) fn probes(probes: &Probed) -> String {
    let missing = probes.sent as u64 - probes.latencies.len();
    let missing = if missing > 0 {
        format!(", {missing} of {} missing", probes.sent)
    } else {
        String::new()
    };
    spread(&probes.latencies) + &missing
}

pub(crate) fn time(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    if seconds >= 1.0 {
        format!("{seconds:.2} s")
    } else {
        format!("{:.1} ms", seconds * 1e3)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::house::Cpu;
    use crate::phases::{self, Steady, Sustained};
    use crate::world::World;
    use crate::{latencies, note};

    fn cpu(seconds: f64) -> Cpu {
        Cpu {
            ours: [("up", seconds)].into(),
            ..Cpu::default()
        }
    }

    #[test]
    fn every_row_has_as_many_cells_as_the_head() {
        let door = Door::Http { batch: 100 };
        let plan = Plan {
            phases: phases::Plan {
                world: World { patients: 10_000 },
                http_connections: 1,
                mqtt_connections: 1,
                closed: Duration::ZERO,
                open: Duration::ZERO,
                part: 0.7,
                probes: 1.0,
            },
            doors: vec![door],
            fill: 0,
            fill_by: door,
            replay: true,
        };
        let mut alerts = latencies().unwrap();
        note(&mut alerts, Duration::from_millis(3));
        let phases = Phases {
            door,
            sustained: Sustained {
                accepted: 123_456.0,
                durable: 123_456.0,
                evaluated: 100_000.0,
                queryable: 90_000.0,
                cpu_per_million: cpu(12.5),
                conclusions: 0.4,
                alerts: Probed {
                    sent: 1,
                    latencies: latencies().unwrap(),
                },
            },
            steady: Steady {
                rate: 63_000.0,
                acknowledged: latencies().unwrap(),
                alerts: Probed {
                    sent: 2,
                    latencies: alerts,
                },
                cpu_per_million: cpu(13.0),
                conclusions: 0.5,
                drain: Duration::from_millis(20),
            },
            peak_memory: 200_000_000,
        };
        let figures = Figures {
            doors: vec![phases],
            readings: 2_000_000,
            disk_bytes: 400_000_000,
            first_start: Duration::from_millis(90),
            cold_start: Duration::from_secs(2),
            peak_memory: 250_000_000,
            replay: Some(Duration::from_secs(10)),
        };
        let table = table(&plan, &figures, "machine", "abc", true);
        let rows: Vec<_> = table.lines().filter(|line| line.starts_with('|')).collect();
        assert!(
            rows.len() > 12 && rows.iter().all(|row| row.matches('|').count() == 4),
            "{table}"
        );
        for expected in [
            "123,456",
            "| 80,000 |",
            "1 of 2 missing",
            "200,000 readings/s = 120x live",
        ] {
            assert!(table.contains(expected), "{expected} in {table}");
        }
    }
}
