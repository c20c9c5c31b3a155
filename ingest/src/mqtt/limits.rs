//! Every bound of the door, with its unit. Reaching one pushes back on the sender and is counted.

use std::time::Duration;

/// The door's bounds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MqttLimits {
    /// Connections at once, in all.
    pub connections: usize,
    /// Connections at once from one address (a hospital may stand behind one).
    pub connections_per_address: usize,
    /// From the first byte to a whole CONNECT, TLS and WebSocket included.
    pub connect_timeout: Duration,
    /// Bytes of one packet (told to MQTT 5 clients as Maximum Packet Size).
    pub packet_bytes: usize,
    /// Messages of one connection that wait for the log (told to MQTT 5 clients as Receive Maximum; a 3.1.1 client is
    /// simply not read from any further). At most 65535.
    pub messages_in_flight: u16,
    /// Memory of one connection's messages that wait for the log, in bytes; above it the connection is not read from.
    pub bytes_in_flight: usize,
    /// The same of all connections together; above it none is read from.
    pub total_bytes_in_flight: usize,
    /// Topic aliases that an MQTT 5 client may set.
    pub topic_aliases: u16,
    /// Bytes written but not yet taken by a slow client; above it the client is not read from and gets no more alerts.
    pub unsent_bytes: usize,
    /// How long a client may take nothing of what is written to it.
    pub write_timeout: Duration,
    /// Filters that one session may hold.
    pub subscriptions: usize,
    /// Alerts waiting for one subscriber; above it the oldest is dropped and counted.
    pub queued_alerts: usize,
    /// Alerts sent to one subscriber and not yet acknowledged, even where the client would take more.
    pub alerts_in_flight: u16,
    /// The longest a session is kept without a connection; what 3.1.1 clients with a lasting session get.
    pub session_expiry: Duration,
    /// Sessions kept without a connection; above it a client's session ends with its connection.
    pub sessions: usize,
    /// How long a closed connection waits for the log's word on what it had sent, before its session is free.
    pub settle: Duration,
    /// How often a connection's token is judged again: an expired one ends the connection.
    pub reauthenticate: Duration,
    /// Bytes of a last will.
    pub will_bytes: usize,
    /// How long a last will is tried again while the log is unavailable.
    pub will_retry: Duration,
    /// A TCP connection that has been silent so long is probed by the system.
    pub tcp_keepalive: Duration,
}

impl Default for MqttLimits {
    fn default() -> Self {
        Self {
            connections: 20_000,
            connections_per_address: 5_000,
            connect_timeout: Duration::from_secs(10),
            packet_bytes: 1 << 20,
            messages_in_flight: 8_192,
            bytes_in_flight: 8 << 20,
            total_bytes_in_flight: 128 << 20,
            topic_aliases: 32,
            unsent_bytes: 256 << 10,
            write_timeout: Duration::from_secs(20),
            subscriptions: 64,
            queued_alerts: 1_000,
            alerts_in_flight: 64,
            session_expiry: Duration::from_secs(24 * 3600),
            sessions: 50_000,
            settle: Duration::from_secs(10),
            reauthenticate: Duration::from_secs(60),
            will_bytes: 16 << 10,
            will_retry: Duration::from_secs(300),
            tcp_keepalive: Duration::from_secs(60),
        }
    }
}
