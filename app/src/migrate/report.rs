//! What a move comes to, for people and for programs.

use std::time::Duration;

use eventlog::Layout;
use eventlog::moving::{Carried, Part};
use serde_json::{Value, json};

use super::place::Home;

/// The first half of a hash: enough to tell two apart by eye.
fn hex(hash: &[u8; 32]) -> String {
    hash[..16].iter().map(|byte| format!("{byte:02x}")).collect()
}

fn total(carried: &Carried) -> (u64, u64) {
    let sums = carried.parts.iter().map(|part| &part.sum);
    sums.fold((0, 0), |(records, bytes), sum| {
        (records + sum.records, bytes + sum.bytes)
    })
}

/// Prints it.
pub(super) fn print(carried: &Carried, layout: Layout, took: Duration, as_json: bool) {
    let (records, bytes) = total(carried);
    let rate = (records as f64 / took.as_secs_f64().max(0.001)) as u64;
    if as_json {
        let parts: Vec<Value> = carried.parts.iter().map(value).collect();
        let seconds = (took.as_secs_f64() * 1000.0).round() / 1000.0;
        println!(
            "{}",
            json!({"journal": layout.incarnation, "partitions": parts, "records": records, "bytes": bytes,
                   "states": carried.states, "seconds": seconds})
        );
        return;
    }
    println!("journal {}\n", layout.incarnation);
    println!(
        "{:<24} {:>9} {:>12}  {:<23} BLAKE3 (first half)",
        "topic", "partition", "records", "offsets"
    );
    let (full, empty): (Vec<_>, Vec<_>) = carried.parts.iter().partition(|part| part.sum.records > 0);
    for Part { topic, partition, sum } in full {
        let offsets = match (sum.first, sum.last) {
            (Some(first), Some(last)) => format!("{first} to {last}"),
            // Of `fajma.control`.
            _ => "its own".to_owned(),
        };
        let (name, hash) = (topic.name(), hex(&sum.hash));
        println!("{name:<24} {partition:>9} {:>12}  {offsets:<23} {hash}", sum.records);
    }
    println!(
        "and {} partitions without records\n\n{records} records, {bytes} bytes and {} states of processors were carried, read \
         back and found equal in {:.1} s ({rate} records/s)",
        empty.len(),
        carried.states,
        took.as_secs_f64()
    );
}

fn value(Part { topic, partition, sum }: &Part) -> Value {
    let hash: String = sum.hash.iter().map(|byte| format!("{byte:02x}")).collect();
    json!({"topic": topic.name(), "partition": partition, "records": sum.records, "bytes": sum.bytes,
           "first": sum.first, "last": sum.last, "blake3": hash})
}

/// What is to be done next.
pub(super) fn next(from: &Home, to: &Home, copy: bool) -> String {
    if copy {
        let (before, data) = match to.dir() {
            Some(dir) => (String::new(), dir.display().to_string()),
            None => (format!("FAJMA_LOG_URL={to} "), "DIR".to_owned()),
        };
        return format!(
            "{to} is a copy; {from} goes on serving.\n  its views:  {before}fajma views rebuild --data {data}\n  \
             look at it: {before}fajma verify --data {data}"
        );
    }
    let mut text = format!("{to} serves from now on; {from} is left as it was, and nothing starts on it any more.\n");
    if let Some(dir) = from.dir() {
        text += &format!(
            "  carry by hand: {}/token.key, fajma.toml, certificates\n",
            dir.display()
        );
    }
    text += &match to.dir() {
        Some(dir) => format!("  then:          fajma up --data {}", dir.display()),
        None => format!(
            "  then:          fajma views apply --views scylla://…, and the roles with --log {to} --views scylla://…"
        ),
    };
    text
}
