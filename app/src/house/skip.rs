//! An operator's decision that a processor passes over a record.

use bytes::Bytes;
use eventlog::{Append, Limit, Topic};
use schemas::codec;
use schemas::refused::Skip;
use serde_json::{Value, json};
use smol_str::SmolStr;

use super::House;

impl House {
    pub(super) async fn skip(
        &self,
        processor: &str,
        (partition, offset): (u16, i64),
        by: &str,
        reason: &str,
    ) -> Result<Value, String> {
        let names: Vec<&str> = processors::all().iter().map(|kind| kind.name).collect();
        if !names.contains(&processor) {
            return Err(format!(
                "there is no processor {processor}: there are {}",
                names.join(", ")
            ));
        }
        let one = Limit { records: 1, bytes: 1 };
        let batch = match self.log.read(Topic::Journal, partition, offset, one).await {
            Ok(batch) => batch,
            Err(e) => return Err(format!("there is no record {partition}:{offset} in the journal: {e}")),
        };
        if batch.entries().first().is_none_or(|entry| entry.offset != offset) {
            return Err(format!("there is no record {partition}:{offset} in the journal"));
        }
        let skip = Skip {
            processor: SmolStr::new(processor),
            partition,
            offset,
            by: SmolStr::new(by),
            reason: SmolStr::new(reason),
            at: self.now(),
        };
        let mut value = Vec::new();
        codec::encode_plain(&skip, &mut value);
        let record = Append {
            partition: 0,
            key: Bytes::from(format!("{processor}/{partition}/{offset}")),
            value: Bytes::from(value),
        };
        match self.log.append(Topic::Control, vec![record]).await {
            Ok(_) => Ok(json!({"skipped": format!("{partition}:{offset}"), "processor": processor})),
            Err(e) => Err(e.to_string()),
        }
    }
}
