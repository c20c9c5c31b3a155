//! Two tables: end to end, and beside the bare client; a column for each number of processors.

use std::collections::BTreeSet;
use std::fmt::Write;

use super::catching_up::CaughtUp;
use super::{Figures, Plan};
use crate::house::Cpu;
use crate::phases::Phases;
use crate::report::{count, probes, spread, time, title};

/// The machine, the commit and the tables.
#[must_use]
pub fn tables(plan: &Plan, figures: &Figures, machine: &str, commit: &str) -> String {
    let mut out = format!(
        "{machine}; commit {commit}\n{} patients x 5 metrics, {}; engines, roles and generator share all cores; load before \
         each part {}\n",
        plan.phases.world.patients,
        title(plan.door),
        figures.loads.join(", "),
    );
    if !figures.ends.is_empty() {
        table(
            &mut out,
            "end to end, by number of processors",
            &figures.ends,
            |(n, _)| *n,
            &ends(figures),
        );
    }
    let _ = write!(
        out,
        "\none ingest alone: {} readings/s durable\n",
        count(figures.door_alone)
    );
    let head = "catching up, by number of processors";
    table(
        &mut out,
        head,
        &figures.caught_up,
        |one| one.processors,
        &caught_up(figures),
    );
    out
}

type Row<T> = (String, Box<dyn Fn(&T) -> String>);

fn table<T>(out: &mut String, head: &str, columns: &[T], number: fn(&T) -> usize, rows: &[Row<T>]) {
    out.push('\n');
    let mut row = |name: &str, cells: Vec<String>| {
        let _ = writeln!(out, "| {name} | {} |", cells.join(" | "));
    };
    row(head, columns.iter().map(|column| number(column).to_string()).collect());
    row("---", vec!["---".to_owned(); columns.len()]);
    for (name, cell) in rows {
        row(name, columns.iter().map(cell).collect());
    }
}

fn row<T>(name: impl Into<String>, cell: impl Fn(&T) -> String + 'static) -> Row<T> {
    (name.into(), Box::new(cell))
}

/// A row for each who used CPU time, ours first.
fn cpu_rows<T: 'static>(indent: &str, columns: &[T], cpu: fn(&T) -> &Cpu) -> Vec<Row<T>> {
    let ours: BTreeSet<_> = columns.iter().flat_map(|one| cpu(one).ours.keys().copied()).collect();
    let engines: BTreeSet<_> = columns
        .iter()
        .flat_map(|one| cpu(one).engines.keys().copied())
        .collect();
    let rows = ours.into_iter().chain(engines).map(|who| {
        row(format!("{indent}{who}"), move |one: &T| {
            let cpu = cpu(one);
            let used = cpu.ours.get(who).or_else(|| cpu.engines.get(who));
            used.map_or_else(|| "?".to_owned(), |used| format!("{used:.1}"))
        })
    });
    rows.collect()
}

fn ends(figures: &Figures) -> Vec<Row<(usize, Phases)>> {
    type End = (usize, Phases);
    let mut rows: Vec<Row<End>> = vec![
        row("accepted, readings/s (closed loop)", |(_, p): &End| {
            count(p.sustained.accepted)
        }),
        row("durable, readings/s", |(_, p): &End| count(p.sustained.durable)),
        row("evaluated by all processors, readings/s", |(_, p): &End| {
            count(p.sustained.evaluated)
        }),
        row("queryable, readings/s: what is sustained", |(_, p): &End| {
            count(p.sustained.queryable)
        }),
        row("conclusions written per reading", |(_, p): &End| {
            format!("{:.2}", p.sustained.conclusions)
        }),
        row("reading to alert on WebSocket, p50 / p99 / max", |(_, p): &End| {
            probes(&p.sustained.alerts)
        }),
        row("CPU s per million readings, ours", |(_, p): &End| {
            format!("{:.1}", p.sustained.cpu_per_million.of_ours())
        }),
    ];
    rows.extend(cpu_rows("- ", &figures.ends, |(_, p)| &p.sustained.cpu_per_million));
    rows.extend([
        row("open loop, readings/s", |(_, p): &End| count(p.steady.rate)),
        row("- acknowledged, p50 / p99 / max", |(_, p): &End| {
            spread(&p.steady.acknowledged)
        }),
        row("- reading to alert on WebSocket, p50 / p99 / max", |(_, p): &End| {
            probes(&p.steady.alerts)
        }),
        row("- CPU s per million readings, ours", |(_, p): &End| {
            format!("{:.1}", p.steady.cpu_per_million.of_ours())
        }),
    ]);
    rows.extend(cpu_rows("- - ", &figures.ends, |(_, p)| &p.steady.cpu_per_million));
    rows.extend([
        row("- all rooms done after the end of load", |(_, p): &End| {
            time(p.steady.drain)
        }),
        row("peak memory of all roles so far, MB", |(_, p): &End| {
            format!("{:.0}", p.peak_memory as f64 / 1e6)
        }),
    ]);
    rows
}

fn caught_up(figures: &Figures) -> Vec<Row<CaughtUp>> {
    let mut rows: Vec<Row<CaughtUp>> = vec![
        row("records of the journal", |c: &CaughtUp| count(c.records as f64)),
        row(
            "bare consumer and producer, records/s, before / after",
            |c: &CaughtUp| {
                let [before, after] = c.copies.map(|copied| count(copied.rate()));
                format!("{before} / {after}")
            },
        ),
        row("processors, records/s", |c: &CaughtUp| count(c.processed.rate)),
        row("- in the middle alone", |c: &CaughtUp| count(c.processed.in_the_middle)),
        row("share of the bare copy", |c: &CaughtUp| {
            format!("{:.1} %", c.share() * 100.0)
        }),
        row("from their start to the end of the journal", |c: &CaughtUp| {
            time(c.processed.took)
        }),
        row("conclusions written per record", |c: &CaughtUp| {
            format!("{:.2}", c.conclusions)
        }),
        row("CPU s per million records, processing", |_: &CaughtUp| String::new()),
    ];
    rows.extend(cpu_rows("- ", &figures.caught_up, |c| &c.processed.cpu));
    rows.push(row("CPU s per million records, bare copy", |c: &CaughtUp| {
        let [first, _] = c.copies;
        format!("{:.1}", first.cpu * 1e6 / first.records.max(1) as f64)
    }));
    rows.extend(cpu_rows("- beside it ", &figures.caught_up, |c| &c.copying));
    rows.push(row("peak memory of the processors, MB", |c: &CaughtUp| {
        format!("{:.0}", c.processed.peak_memory as f64 / 1e6)
    }));
    rows
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::engines::bare::Copied;
    use crate::engines::catching_up::Processed;

    fn caught_up(processors: usize) -> CaughtUp {
        let copied = |seconds| Copied {
            records: 1_000_000,
            took: Duration::from_secs(seconds),
            cpu: 3.0,
        };
        CaughtUp {
            processors,
            records: 1_000_000,
            copies: [copied(1), copied(3)],
            copying: Cpu::default(),
            processed: Processed {
                rate: 125_000.0,
                in_the_middle: 150_000.0,
                took: Duration::from_secs(9),
                cpu: Cpu {
                    ours: [("process", 8.5)].into(),
                    engines: [("kafka", 4.25)].into(),
                },
                peak_memory: 200_000_000,
            },
            conclusions: 0.4,
        }
    }

    #[test]
    fn a_column_for_each_number_and_the_share_of_both_copies() {
        let columns = [caught_up(1), caught_up(2)];
        let mut out = String::new();
        let figures = Figures {
            caught_up: columns.into(),
            ..Figures::default()
        };
        let rows = super::caught_up(&figures);
        table(&mut out, "catching up", &figures.caught_up, |one| one.processors, &rows);
        let rows: Vec<_> = out.lines().filter(|line| line.starts_with('|')).collect();
        assert!(rows.iter().all(|row| row.matches('|').count() == 4), "{out}");
        for expected in [
            "| catching up | 1 | 2 |",
            "1,000,000 / 333,333",
            "| 25.0 % |",
            "| - kafka | 4.2 |",
        ] {
            assert!(out.contains(expected), "{expected} in {out}");
        }
    }
}
