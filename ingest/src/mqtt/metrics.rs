//! Every metric of the MQTT door.

use metrics::{Unit, counter, describe_counter, describe_gauge, gauge};

const CONNECTIONS: &str = "fajma_mqtt_connections";
const SESSIONS: &str = "fajma_mqtt_sessions_offline";
const TURNED_AWAY: &str = "fajma_mqtt_connections_refused_total";
const ENDED: &str = "fajma_mqtt_connections_ended_total";
const MESSAGES: &str = "fajma_mqtt_messages_total";
const REFUSED: &str = "fajma_mqtt_messages_refused_total";
const WILLS: &str = "fajma_mqtt_wills_total";
const ALERTS: &str = "fajma_mqtt_alerts_total";
const STALLS: &str = "fajma_mqtt_stalls_total";
const BRIDGED: &str = "fajma_bridge_connected";
const BRIDGE_MESSAGES: &str = "fajma_bridge_messages_total";

/// Says what each metric means.
pub(super) fn describe() {
    describe_gauge!(CONNECTIONS, Unit::Count, "Open connections");
    describe_gauge!(SESSIONS, Unit::Count, "Sessions kept without a connection");
    describe_counter!(TURNED_AWAY, Unit::Count, "Connections that were not let in, by reason");
    describe_counter!(ENDED, Unit::Count, "Connections that ended, by reason");
    describe_counter!(MESSAGES, Unit::Count, "Messages taken, by QoS");
    describe_counter!(
        REFUSED,
        Unit::Count,
        "Messages of which nothing was accepted, by reason"
    );
    describe_counter!(WILLS, Unit::Count, "Last wills, by what became of them");
    describe_counter!(ALERTS, Unit::Count, "Alerts handed out, by what became of them");
    describe_counter!(
        STALLS,
        Unit::Count,
        "Times a connection was not read from because too much was on its way"
    );
}

/// Counts a connection as open until it is dropped.
#[derive(Debug)]
pub(super) struct Open;

impl Open {
    pub(super) fn new() -> Self {
        gauge!(CONNECTIONS).increment(1.0);
        Self
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        gauge!(CONNECTIONS).decrement(1.0);
    }
}

pub(super) fn offline(sessions: usize) {
    gauge!(SESSIONS).set(sessions as f64);
}

pub(super) fn turned_away(reason: impl ToString) {
    counter!(TURNED_AWAY, "reason" => reason.to_string()).increment(1);
}

pub(super) fn ended(reason: impl ToString) {
    counter!(ENDED, "reason" => reason.to_string()).increment(1);
}

pub(super) fn messages(by_qos: [u64; 3]) {
    for (n, qos) in by_qos.into_iter().zip(["0", "1", "2"]) {
        if n > 0 {
            counter!(MESSAGES, "qos" => qos).increment(n);
        }
    }
}

pub(super) fn refused(reason: &'static str) {
    counter!(REFUSED, "reason" => reason).increment(1);
}

pub(super) fn will(outcome: &'static str) {
    counter!(WILLS, "outcome" => outcome).increment(1);
}

pub(super) fn alerts(outcome: &'static str, n: usize) {
    if n > 0 {
        counter!(ALERTS, "outcome" => outcome).increment(n as u64);
    }
}

pub(super) fn stalled() {
    counter!(STALLS).increment(1);
}

/// Says what the metrics of the bridge mean.
pub(super) fn describe_bridge() {
    describe_gauge!(BRIDGED, Unit::Count, "Connections to the other broker: 1 or 0");
    describe_counter!(
        BRIDGE_MESSAGES,
        Unit::Count,
        "Messages of the other broker, by what they were: taken, again or retained"
    );
}

/// Counts the bridge as connected until it is dropped.
#[derive(Debug)]
pub(super) struct Bridged;

pub(super) fn bridged() -> Bridged {
    gauge!(BRIDGED).set(1.0);
    Bridged
}

impl Drop for Bridged {
    fn drop(&mut self) {
        gauge!(BRIDGED).set(0.0);
    }
}

pub(super) fn bridge_message(what: &'static str) {
    counter!(BRIDGE_MESSAGES, "what" => what).increment(1);
}
