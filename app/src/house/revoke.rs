//! Tokens are taken back.

use api::decided;
use eventlog::{Append, Topic};
use schemas::facts::TokensRevoked;
use schemas::ids::Key;
use schemas::journal::Fact;
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
        let fact = Fact::TokensRevoked(TokensRevoked {
            token: token.map(SmolStr::from),
            subject: subject.map(SmolStr::from),
            by: SmolStr::new(by),
        });
        let append = Append::of(&decided(Key::Nobody, fact, self.now()), self.log.layout().partitions);
        let partition = append.partition;
        let appended = self.log.append(Topic::Journal, vec![append]).await;
        let offset = appended
            .map_err(|e| e.to_string())?
            .first()
            .copied()
            .unwrap_or_default();
        Ok(json!({"position": format!("journal:{partition}:{offset}")}))
    }
}
