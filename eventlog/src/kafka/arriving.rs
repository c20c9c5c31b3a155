//! A log in the making: topics made for it, and filled with what another home holds, each record at its own offset.
//!
//! Kafka counts from 0 and leaves nothing out. Where retention has let go of a partition's beginning, so many empty
//! records are put in its place and deleted; so every record keeps its offset here too.
//!
//! The lineage says [`Standing::Arriving`] before any topic is made, so nobody takes half a log for a whole one. Whoever
//! begins again where that stands deletes what there is.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use rdkafka::topic_partition_list::TopicPartitionList;
use schemas::avro::Avro;
use schemas::codec::{self, Catalogue};

use super::lineage::{self, Lineage, NO_TOPIC};
use super::produce::{Message, Sender};
use super::{Kafka, Options, admin, blocking, contact, failed, progress, states, topics, watermarks};
use crate::moving::{self, Carriable, Saved};
use crate::shelf::InMemory;
use crate::{Entry, Layout, LogError, Offset, Partition, Standing, Topic};

/// Whose word it is how far everything had come: nobody's who still speaks.
const CARRIED: [u8; 8] = [0; 8];
/// So many empty records are put at once.
const EMPTY_AT_ONCE: Offset = 200_000;

/// A log in the making.
pub struct Arriving {
    options: Options,
    layout: Layout,
    sender: Sender,
    catalogue: Catalogue,
    /// Where each partition goes on.
    ends: Mutex<HashMap<(Topic, Partition), Offset>>,
}

impl std::fmt::Debug for Arriving {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Arriving")
            .field("layout", &self.layout)
            .finish_non_exhaustive()
    }
}

impl Arriving {
    /// Begins under a prefix that holds no log yet (topics that are there are empty), or one of the same journal that did
    /// not arrive whole. Topics are made anew, with as many copies as the options say, or as those had that were there.
    ///
    /// # Errors
    /// [`LogError::Unavailable`]; [`LogError::Elsewhere`] where there is a log already.
    pub async fn begin(mut options: Options, layout: Layout, from: &str) -> Result<Arc<Self>, LogError> {
        let found = topics::look(&options).await?;
        let there = found.ours(&options);
        match &found.lineage {
            Some(there) if !matches!(there.standing, Standing::Arriving { .. }) => {
                return Err(LogError::Elsewhere(format!(
                    "there is a log already, journal {}",
                    there.incarnation
                )));
            }
            Some(there) if there.incarnation != layout.incarnation => {
                return Err(LogError::Elsewhere(format!(
                    "another journal, {}, did not arrive whole there: delete its topics, or name another prefix",
                    there.incarnation
                )));
            }
            Some(_) => {}
            None => empty(&options, there.clone()).await?,
        }
        options.partitions = layout.partitions;
        options.replication = options.replication.max(found.replication);
        let mut lineage = Lineage {
            topic: NO_TOPIC,
            incarnation: layout.incarnation,
            standing: Standing::Arriving { from: from.to_owned() },
        };
        lineage::write(&options, &lineage, options.replication).await?;
        let names: Vec<String> = there.into_iter().map(|(name, _)| name).collect();
        topics::delete(&options, &names).await?;
        let made = topics::make_for_arrival(&options, layout.partitions).await?;
        lineage.topic = made.journal.unwrap_or(NO_TOPIC);
        lineage::write(&options, &lineage, options.replication).await?;
        Ok(Arc::new(Self {
            sender: Sender::open(&options.access, options.carrier())?,
            options,
            layout,
            catalogue: Catalogue::builtin(),
            ends: Mutex::default(),
        }))
    }

    /// Sends records that follow each other, and looks where they came to stand.
    async fn send<'a>(
        &self,
        (topic, partition): (Topic, Partition),
        messages: impl Iterator<Item = Message<'a>>,
    ) -> Result<(), LogError> {
        let offsets = self.sender.send(messages).await?;
        let mut ends = self.ends.lock().unwrap_or_else(PoisonError::into_inner);
        let end = ends.entry((topic, partition)).or_insert(0);
        if let Some((_, stray)) = (*end..).zip(&offsets).find(|(expected, offset)| expected != *offset) {
            let name = topic.name();
            return Err(LogError::Misuse(format!(
                "a record of {name}/{partition} came to stand at {stray}: somebody else writes there"
            )));
        }
        *end += offsets.len() as Offset;
        Ok(())
    }

    fn end(&self, at: (Topic, Partition)) -> Offset {
        let ends = self.ends.lock().unwrap_or_else(PoisonError::into_inner);
        ends.get(&at).copied().unwrap_or(0)
    }

    /// Puts empty records up to an offset, and lets go of them.
    async fn skip_to(&self, (topic, partition): (Topic, Partition), start: Offset) -> Result<(), LogError> {
        let name = self.options.topic(topic);
        while self.end((topic, partition)) < start {
            let some = EMPTY_AT_ONCE.min(start - self.end((topic, partition)));
            let empty = (0..some).map(|_| Message::of(&name, partition, b"", b""));
            self.send((topic, partition), empty).await?;
        }
        let mut before = TopicPartitionList::new();
        let offset = rdkafka::Offset::Offset(start);
        before
            .add_partition_offset(&name, i32::from(partition), offset)
            .map_err(|e| failed(&e))?;
        let before = &before;
        let deleted = admin::ask(&self.options, |it| async move {
            it.client.delete_records(before, &it.asking).await
        });
        let deleted = deleted.await?;
        for element in deleted.elements() {
            element.error().map_err(|e| failed(&e))?;
        }
        Ok(())
    }
}

/// Whether topics that are there hold nothing.
async fn empty(options: &Options, there: Vec<(String, i32)>) -> Result<(), LogError> {
    let options = options.clone();
    blocking(move || {
        let client = contact::reader(&options, options.consumer())?;
        for (name, partitions) in there.into_iter().filter(|(name, _)| *name != options.progress()) {
            for partition in 0..Partition::try_from(partitions).unwrap_or(Partition::MAX) {
                let (_, end) = watermarks(&client, &name, partition, options.failover).map_err(|e| failed(&e))?;
                if end > 0 {
                    return Err(LogError::Elsewhere(format!(
                        "there is a log already: {name} is not empty"
                    )));
                }
            }
        }
        Ok(())
    })
    .await
}

#[async_trait]
impl moving::Arriving for Arriving {
    async fn begin(&self, topic: Topic, partition: Partition, start: Offset) -> Result<(), LogError> {
        self.layout.check(topic, partition)?;
        if start > 0 {
            self.skip_to((topic, partition), start).await?;
        }
        Ok(())
    }

    async fn put(&self, topic: Topic, partition: Partition, entries: &[Entry]) -> Result<(), LogError> {
        self.layout.check(topic, partition)?;
        let limit = self.options.max_record_bytes;
        let mut origins = Vec::with_capacity(if topic.is_derived() { entries.len() } else { 0 });
        for (expected, entry) in (self.end((topic, partition))..).zip(entries) {
            if topic != Topic::Control && entry.offset != expected {
                let (name, offset) = (topic.name(), entry.offset);
                return Err(LogError::Misuse(format!(
                    "{name}/{partition} leaves out {expected} to {offset}"
                )));
            }
            let bytes = entry.key.len() + entry.value.len();
            if bytes > limit {
                return Err(LogError::TooLarge { bytes, limit });
            }
            if topic.is_derived() {
                origins.push(self.origin(entry));
            }
        }
        let name = self.options.topic(topic);
        let messages = entries.iter().enumerate().map(|(n, entry)| Message {
            topic: &name,
            partition,
            key: &entry.key,
            value: Some(&entry.value),
            origin: origins.get(n).and_then(Option::as_deref),
            appended_at: Some(entry.appended_at),
            schema: None,
        });
        self.send((topic, partition), messages).await
    }

    async fn save(&self, output: Topic, partition: Partition, saved: Saved) -> Result<(), LogError> {
        let (topic, journal) = (self.options.states(output), self.layout.incarnation);
        for place in saved.places {
            let writer = states::new_writer();
            let records: Vec<(Vec<u8>, Vec<u8>)> = place
                .states
                .iter()
                .map(|(key, stored)| {
                    let key = states::state_key(&place.name, &writer, key);
                    (key, states::state_value(journal, stored))
                })
                .collect();
            let states = records
                .iter()
                .map(|(key, value)| Message::of(&topic, partition, key, value));
            self.sender.send(states).await?;
            let key = states::position_key(&place.name, &writer);
            let position = states::position_value(journal, place.position, &place.context);
            let last = Message::of(&topic, partition, &key, &position);
            self.sender.send(std::iter::once(last)).await?;
        }
        let (topic, reached) = (self.options.progress(), progress::pack(journal, saved.reached, CARRIED));
        let told = Message::of(&topic, partition, output.name().as_bytes(), &reached);
        self.sender.send(std::iter::once(told)).await.map(drop)
    }

    async fn open(self: Arc<Self>) -> Result<Arc<dyn Carriable>, LogError> {
        let found = topics::look(&self.options).await?;
        Ok(Kafka::connect(self.options.clone(), &found, Arc::new(InMemory)).await?)
    }
}

impl Arriving {
    /// The header of a conclusion; one that this build cannot read has none.
    fn origin(&self, entry: &Entry) -> Option<Vec<u8>> {
        let derived = codec::decode_derived(&entry.value, &self.catalogue).ok().flatten()?;
        let mut bytes = Vec::with_capacity(64);
        derived.origin.write(&mut bytes);
        Some(bytes)
    }
}
