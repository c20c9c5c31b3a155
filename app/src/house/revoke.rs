//! Tokens are taken back.

use bytes::Bytes;
use eventlog::{Append, Topic};
use schemas::codec;
use schemas::facts::TokensRevoked;
use schemas::ids::{EventId, Key};
use schemas::journal::{ClockQuality, Envelope, Fact};
use schemas::partition;
use serde_json::{Value, json};
use smol_str::SmolStr;

use super::House;

impl House {
    pub(super) async fn revoke(
        &self,
        token: Option<String>,
        subject: Option<String>,
        by: &str,
    ) -> Result<Value, String> {
        let now = self.now();
        let mut envelope = Envelope {
            id: EventId([0; 16]),
            key: Key::Nobody,
            measured_at: now,
            gateway_at: None,
            received_at: now,
            clock: ClockQuality::Server,
            cause: None,
            fact: Fact::TokensRevoked(TokensRevoked {
                token: token.map(SmolStr::from),
                subject: subject.map(SmolStr::from),
                by: SmolStr::new(by),
            }),
        };
        let mut value = Vec::new();
        codec::encode(&envelope, &mut value);
        envelope.id = EventId::of("fajma.command", &[&value]);
        value.clear();
        codec::encode(&envelope, &mut value);
        let partition = partition::of(&envelope.key, self.log.layout().partitions);
        let append = Append {
            partition,
            key: Bytes::new(),
            value: value.into(),
        };
        let offsets = self
            .log
            .append(Topic::Journal, vec![append])
            .await
            .map_err(|e| e.to_string())?;
        let offset = offsets.first().copied().unwrap_or_default();
        Ok(json!({"position": format!("journal:{partition}:{offset}")}))
    }
}
