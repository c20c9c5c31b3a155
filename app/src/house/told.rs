//! Schemas that the log tells of itself, in `fajma.control`: what this build writes by is told before the first record of
//! it, so that builds that came before it read it by Avro's rules; what newer builds tell is learnt.

use std::collections::BTreeMap;

use bytes::Bytes;
use eventlog::{Append, Limit, LogError, Offset, Topic};
use schemas::codec::{self, KINDS, Plain};
use schemas::known::SchemaRecorded;
use smol_str::SmolStr;
use tokio_util::sync::CancellationToken;

use super::House;

/// What the log tells of schemas.
#[derive(Debug, Clone, Default)]
pub struct Told {
    /// The last word on each, by our own id.
    pub schemas: BTreeMap<u32, SchemaRecorded>,
    /// Where the control topic goes on.
    next: Offset,
}

impl Told {
    /// The ids that a registry gave, by ours, as far as they are told.
    #[must_use]
    pub fn ids(&self, registry: &str) -> BTreeMap<u32, u32> {
        let of_it = |(id, told): (&u32, &SchemaRecorded)| {
            let same = told.registry.as_deref() == Some(registry);
            Some((*id, u32::try_from(told.registry_id.filter(|_| same)?).ok()?))
        };
        self.schemas.iter().filter_map(of_it).collect()
    }

    fn take(&mut self, value: &[u8], house: &House) {
        // Only its own kind is of interest here: the others are read by processors.
        if codec::unframe(value).map(|(id, _)| id) != Ok(SchemaRecorded::SCHEMA) {
            return;
        }
        let told = match codec::decode_plain::<SchemaRecorded>(value, &house.catalogue) {
            Ok(Some(told)) => told,
            Ok(None) => return,
            Err(error) => return tracing::warn!(%error, "what is told of a schema cannot be read"),
        };
        let Ok(id) = u32::try_from(told.schema_id) else { return };
        if !house.catalogue.knows(id) {
            match house.catalogue.learn(id, &told.text) {
                Ok(()) => tracing::info!(schema = id, "learnt from a newer build"),
                Err(error) => tracing::warn!(%error, "a newer build's schema cannot be read"),
            }
        }
        self.schemas.insert(id, told);
    }
}

impl House {
    /// Reads and learns what has been told since.
    ///
    /// # Errors
    /// As [`eventlog::EventLog::read`].
    pub async fn learn(&self, told: &mut Told) -> Result<(), LogError> {
        let bounds = self.log.bounds(Topic::Control, 0).await?;
        told.next = told.next.max(bounds.start);
        while told.next < bounds.end {
            let batch = self.log.read(Topic::Control, 0, told.next, Limit::default()).await?;
            let Some(next) = batch.next() else { break };
            batch.entries().iter().for_each(|entry| told.take(&entry.value, self));
            told.next = next;
        }
        Ok(())
    }

    /// Learns what is told from now on, until `stop`.
    ///
    /// # Errors
    /// As [`eventlog::EventLog::read`].
    pub async fn keep_learning(&self, mut told: Told, stop: CancellationToken) -> Result<(), LogError> {
        loop {
            self.learn(&mut told).await?;
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                came = self.log.wait(Topic::Control, 0, told.next) => came?,
            }
        }
    }

    /// Tells of every schema of this build that nobody has told of, and of the ids that a registry gave, where these are
    /// news. Returns how many were told.
    ///
    /// # Errors
    /// As [`eventlog::EventLog::append`].
    pub async fn tell(&self, told: &Told, registry: Option<(&str, &BTreeMap<u32, u32>)>) -> Result<usize, LogError> {
        let record = |kind: &codec::Kind| {
            let known = told.schemas.get(&kind.id);
            let there = registry.and_then(|(name, ids)| Some((name, *ids.get(&kind.id)?)));
            let news = there.is_some_and(|(name, id)| told.ids(name).get(&kind.id) != Some(&id));
            (known.is_none() || news).then(|| self.schema(kind, there))
        };
        let records: Vec<Append> = KINDS.iter().filter_map(record).collect();
        let count = records.len();
        if count > 0 {
            self.log.append(Topic::Control, records).await?;
        }
        Ok(count)
    }

    fn schema(&self, kind: &codec::Kind, there: Option<(&str, u32)>) -> Append {
        let mut value = Vec::new();
        let told = SchemaRecorded {
            schema_id: i32::try_from(kind.id).unwrap_or_default(),
            text: SmolStr::new(kind.text),
            registry: there.map(|(name, _)| SmolStr::new(name)),
            registry_id: there.and_then(|(_, id)| i32::try_from(id).ok()),
            at: self.now(),
        };
        codec::encode_plain(&told, &mut value);
        Append {
            partition: 0,
            key: Bytes::from(format!("schema/{}", kind.id)),
            value: Bytes::from(value),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Sources};

    async fn house(dir: &std::path::Path) -> House {
        let config = Config::load(Sources {
            flags: vec![("data.dir", dir.display().to_string(), "--data")],
            ..Sources::default()
        });
        House::open(&config.unwrap()).await.unwrap()
    }

    async fn told(house: &House) -> Told {
        let mut told = Told::default();
        house.learn(&mut told).await.unwrap();
        told
    }

    #[tokio::test]
    async fn every_schema_is_told_once_and_a_registrys_ids_when_they_are_news() {
        let dir = tempfile::tempdir().unwrap();
        let house = house(dir.path()).await;
        assert_eq!(house.tell(&told(&house).await, None).await.unwrap(), KINDS.len());
        assert_eq!(house.tell(&told(&house).await, None).await.unwrap(), 0);
        let ids = BTreeMap::from([(1, 12), (2, 1)]);
        let one = Some(("http://one", &ids));
        assert_eq!(house.tell(&told(&house).await, one).await.unwrap(), 2);
        let known = told(&house).await;
        assert_eq!(house.tell(&known, one).await.unwrap(), 0);
        assert_eq!(
            (known.ids("http://one"), known.ids("http://two")),
            (ids, BTreeMap::new())
        );
    }

    #[tokio::test]
    async fn what_a_newer_build_tells_is_learnt() {
        let dir = tempfile::tempdir().unwrap();
        let house = house(dir.path()).await;
        let newer = codec::Kind {
            id: 4_712,
            name: "BedMoved",
            version: 1,
            text: r#"{"type":"record","name":"BedMoved","namespace":"fajma","fajma.ignorable":true,"fields":[]}"#,
        };
        assert!(!house.catalogue.knows(newer.id));
        house
            .log
            .append(Topic::Control, vec![house.schema(&newer, None)])
            .await
            .unwrap();
        told(&house).await;
        assert!(house.catalogue.knows(newer.id));
        assert_eq!(house.catalogue.kind(newer.id), None, "no kind of this build");
    }
}
