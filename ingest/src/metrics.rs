//! Every metric of the doors.

use std::time::Duration;

use metrics::{Unit, counter, describe_counter, describe_histogram, histogram};
use schemas::facts::{AlarmCode, Door};

use crate::intake::{Receipt, Status, Tally};

const RECORDS: &str = "fajma_ingest_records_total";
const BYTES: &str = "fajma_ingest_bytes_total";
const ACK: &str = "fajma_ingest_ack_seconds";
const WAITS: &str = "fajma_ingest_waits_total";
const HELD: &str = "fajma_ingest_held_seconds";
const HELD_TOO_LONG: &str = "fajma_ingest_held_too_long_total";
const NOBODYS_ALARMS: &str = "fajma_ingest_nobodys_alarms_total";
const HINDERED: &str = "fajma_ingest_hindered_total";
const TICKS: &str = "fajma_ticks_total";
const TICKS_REFUSED: &str = "fajma_ticks_refused_total";
const RAW_WAITS: &str = "fajma_raw_waits_total";
const RAW_LOST: &str = "fajma_raw_lost_total";

/// Says what each metric means.
pub(crate) fn describe() {
    describe_counter!(RECORDS, Unit::Count, "Records judged, by door, status and code");
    describe_counter!(BYTES, Unit::Bytes, "Bytes of messages judged, unpacked, by door");
    describe_histogram!(ACK, Unit::Seconds, "From verdict to durable, per message, by door");
    describe_counter!(
        WAITS,
        Unit::Count,
        "Messages that waited because too much was on its way"
    );
    describe_histogram!(
        HELD,
        Unit::Seconds,
        "How long messages waited for processors, by what they hold: live or past"
    );
    describe_counter!(
        HELD_TOO_LONG,
        Unit::Count,
        "Messages recorded though processors were still behind"
    );
    describe_counter!(
        NOBODYS_ALARMS,
        Unit::Count,
        "Clinical alarms of sensors that nobody was said to wear, by code"
    );
    describe_counter!(
        HINDERED,
        Unit::Count,
        "Messages not taken because the clock is too far from the log's"
    );
    describe_counter!(TICKS, Unit::Count, "Clock ticks appended");
    describe_counter!(
        TICKS_REFUSED,
        Unit::Count,
        "Ticks not made because clock and log disagree"
    );
}

pub(crate) fn arrived(door: Door, bytes: usize) {
    counter!(BYTES, "door" => door.as_str()).increment(bytes as u64);
}

pub(crate) fn answered(door: Door, receipts: &[Receipt], took: Duration) {
    let tally = Tally::of(receipts);
    for (n, status) in [
        (tally.accepted, Status::Accepted),
        (tally.duplicates, Status::Duplicate),
    ] {
        if n > 0 {
            counter!(RECORDS, "door" => door.as_str(), "status" => status.as_str(), "code" => "").increment(n as u64);
        }
    }
    if tally.rejected > 0 {
        for code in receipts.iter().filter_map(Receipt::code) {
            counter!(RECORDS, "door" => door.as_str(), "status" => "rejected", "code" => code.as_str()).increment(1);
        }
    }
    histogram!(ACK, "door" => door.as_str()).record(took);
}

pub(crate) fn nobodys_alarm(code: AlarmCode) {
    counter!(NOBODYS_ALARMS, "code" => code.as_str()).increment(1);
}

pub(crate) fn waited() {
    counter!(WAITS).increment(1);
}

pub(crate) fn held(live: bool, time: Duration) {
    histogram!(HELD, "holds" => if live { "live" } else { "past" }).record(time);
}

pub(crate) fn held_too_long() {
    counter!(HELD_TOO_LONG).increment(1);
}

pub(crate) fn hindered() {
    counter!(HINDERED).increment(1);
}

pub(crate) fn ticked(n: u64) {
    counter!(TICKS).increment(n);
}

pub(crate) fn tick_refused() {
    counter!(TICKS_REFUSED).increment(1);
}

/// Says what the metrics of raw topics mean.
pub(crate) fn describe_raw() {
    describe_counter!(
        RAW_WAITS,
        Unit::Count,
        "Times raw records waited because the log did not take them"
    );
    describe_counter!(
        RAW_LOST,
        Unit::Count,
        "Raw records that their topic let go of before they were read, by topic"
    );
}

pub(crate) fn raw_waited() {
    counter!(RAW_WAITS).increment(1);
}

pub(crate) fn lost(topic: &str, records: i64) {
    counter!(RAW_LOST, "topic" => topic.to_owned()).increment(u64::try_from(records).unwrap_or_default());
}
