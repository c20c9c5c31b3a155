//! Every metric of the embedded log.

use std::time::Duration;

use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};

use crate::Topic;

const RECORDS: &str = "fajma_log_records_total";
const BYTES: &str = "fajma_log_bytes_total";
const COMMIT: &str = "fajma_log_commit_seconds";
const GROUP: &str = "fajma_log_group_requests";
const REPEATS: &str = "fajma_log_repeats_total";
const FENCED: &str = "fajma_log_fenced_total";
const MEMORY: &str = "fajma_log_memory_bytes";
const DISK_READS: &str = "fajma_log_disk_reads_total";
const FAILED: &str = "fajma_log_failed";

/// Says what each metric means.
pub(super) fn describe() {
    describe_counter!(RECORDS, Unit::Count, "Records made durable, by topic");
    describe_counter!(BYTES, Unit::Bytes, "Bytes of blocks made durable, by topic");
    describe_histogram!(COMMIT, Unit::Seconds, "One group commit, sync included");
    describe_histogram!(GROUP, Unit::Count, "Requests that one group commit answered");
    describe_counter!(REPEATS, Unit::Count, "Outputs computed again and not written again");
    describe_counter!(
        FENCED,
        Unit::Count,
        "Commits refused because another owner had taken over"
    );
    describe_gauge!(MEMORY, Unit::Bytes, "The newest records kept in memory, decoded, about");
    describe_counter!(DISK_READS, Unit::Count, "Reads that had to go to the disk");
    describe_gauge!(FAILED, Unit::Count, "1 where the log acknowledges nothing any more");
    gauge!(FAILED).set(0.0);
}

pub(super) fn committed(requests: usize, took: Duration) {
    histogram!(COMMIT).record(took.as_secs_f64());
    histogram!(GROUP).record(requests as f64);
}

pub(super) fn written(topic: Topic, records: usize, bytes: usize) {
    counter!(RECORDS, "topic" => topic.name()).increment(records as u64);
    counter!(BYTES, "topic" => topic.name()).increment(bytes as u64);
}

pub(super) fn repeats(n: usize) {
    if n > 0 {
        counter!(REPEATS).increment(n as u64);
    }
}

pub(super) fn fenced() {
    counter!(FENCED).increment(1);
}

pub(super) fn memory(bytes: usize) {
    gauge!(MEMORY).set(bytes as f64);
}

pub(super) fn disk_read() {
    counter!(DISK_READS).increment(1);
}

pub(super) fn failed() {
    gauge!(FAILED).set(1.0);
}
