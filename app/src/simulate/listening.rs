//! Listening to what a door hands out by MQTT, across its restarts.

use std::time::Duration;

use bytes::Bytes;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::Packet;
use rumqttc::v5::{AsyncClient, Event, MqttOptions};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

/// Subscribes to `filter` at `address` (host:port) and gives every message to `heard`, until `stop`.
///
/// # Errors
/// An address without a port.
pub async fn listen(
    address: &str,
    token: &str,
    filter: &str,
    heard: impl Fn(Bytes) + Send + Sync,
    stop: CancellationToken,
) -> Result<(), String> {
    let (host, port) = address
        .rsplit_once(':')
        .and_then(|(host, port)| Some((host, port.parse::<u16>().ok()?)))
        .ok_or_else(|| format!("{address} is no host:port"))?;
    let mut options = MqttOptions::new(format!("fajma-listens-{}", std::process::id()), host, port);
    options.set_credentials("listens", token);
    let (client, mut events) = AsyncClient::new(options, 10);
    let listening = async {
        loop {
            match events.poll().await {
                Ok(Event::Incoming(Packet::ConnAck(_))) => {
                    // One that cannot be asked is asked at the next connection.
                    let _ = client.try_subscribe(filter, QoS::AtLeastOnce);
                }
                Ok(Event::Incoming(Packet::Publish(message))) => heard(message.payload),
                Ok(_) => {}
                Err(_) => sleep(Duration::from_millis(200)).await,
            }
        }
    };
    stop.run_until_cancelled(listening).await;
    Ok(())
}
