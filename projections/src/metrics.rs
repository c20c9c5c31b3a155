//! What is counted here.

use metrics::{counter, describe_counter, describe_gauge, gauge};

/// Says what each metric means; once per process.
pub fn describe() {
    describe_counter!("fajma_projected_records_total", "records turned into rows, by topic");
    describe_counter!(
        "fajma_view_changes_total",
        "rows written or removed, repeats included, by topic"
    );
    describe_counter!(
        "fajma_projection_repeats_total",
        "derived records passed over because they came before"
    );
    describe_counter!(
        "fajma_projection_retries_total",
        "attempts that failed and were made again, by topic"
    );
    describe_gauge!(
        "fajma_projection_stopped_partitions",
        "partitions that need a person before views go on"
    );
}

pub(crate) fn projected(topic: &'static str, records: usize, changes: usize, repeats: usize) {
    counter!("fajma_projected_records_total", "topic" => topic).increment(records as u64);
    counter!("fajma_view_changes_total", "topic" => topic).increment(changes as u64);
    if repeats > 0 {
        counter!("fajma_projection_repeats_total", "topic" => topic).increment(repeats as u64);
    }
}

pub(crate) fn retried(topic: &'static str) {
    counter!("fajma_projection_retries_total", "topic" => topic).increment(1);
}

pub(crate) fn stopped(partitions: usize) {
    gauge!("fajma_projection_stopped_partitions").set(partitions as f64);
}
