//! A log in memory whose writing can be held back or made to fail.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::Mutex;

use async_trait::async_trait;
use eventlog::{
    Append, Batch, Bounds, Entry, EventLog, Layout, Limit, LogError, Offset, Partition, Reached, Topic, Workspace,
};
use schemas::codec::{self, Catalogue};
use schemas::derived::Derived;
use schemas::ids::EventId;
use schemas::journal::Envelope;
use schemas::refused::Rejection;
use schemas::time::Timestamp;
use tokio::sync::watch;

/// What happens to whoever appends.
#[derive(Debug, Clone, Default)]
pub(crate) enum Gate {
    #[default]
    Open,
    Closed,
    Failing(LogError),
}

type Records = BTreeMap<(Topic, Partition), Vec<Entry>>;

#[derive(Debug)]
pub(crate) struct TestLog {
    records: Mutex<Records>,
    grown: watch::Sender<u64>,
    pub(crate) gate: watch::Sender<Gate>,
}

impl TestLog {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            records: Mutex::default(),
            grown: watch::Sender::new(0),
            gate: watch::Sender::new(Gate::Open),
        })
    }

    /// Every journal fact, in the order of its partition.
    pub(crate) fn journal(&self) -> Vec<Envelope> {
        let catalogue = Catalogue::builtin();
        let decode = |e: &Entry| codec::decode(&e.value, &catalogue).unwrap();
        self.all(Topic::Journal).iter().map(decode).collect()
    }

    pub(crate) fn rejected(&self) -> Vec<Rejection> {
        let catalogue = Catalogue::builtin();
        let decode = |e: &Entry| codec::decode_plain(&e.value, &catalogue).unwrap().unwrap();
        self.all(Topic::Rejected).iter().map(decode).collect()
    }

    fn all(&self, topic: Topic) -> Vec<Entry> {
        let records = self.records.lock().unwrap();
        records
            .iter()
            .filter(|((t, _), _)| *t == topic)
            .flat_map(|(_, e)| e.clone())
            .collect()
    }

    /// Writes what a processor would.
    pub(crate) fn derive(&self, derived: &Derived) {
        let mut value = Vec::new();
        codec::encode_derived(derived, &mut value);
        let partition = schemas::partition::of(&derived.key, self.layout().partitions);
        let append = Append {
            partition,
            key: derived.key.text().as_bytes().to_vec().into(),
            value: value.into(),
        };
        self.write(Topic::Alerts, vec![append]);
    }

    fn write(&self, topic: Topic, appends: Vec<Append>) -> Vec<Offset> {
        let mut records = self.records.lock().unwrap();
        let mut offsets = Vec::new();
        for append in appends {
            let entries = records.entry((topic, append.partition)).or_default();
            offsets.push(entries.len() as Offset);
            entries.push(Entry {
                offset: entries.len() as Offset,
                appended_at: Timestamp::default(),
                key: append.key,
                value: append.value,
            });
        }
        drop(records);
        self.grown.send_modify(|n| *n += 1);
        offsets
    }

    /// Waits until `holds` is true of the log.
    pub(crate) async fn until(&self, holds: impl Fn(&Self) -> bool) {
        let mut grown = self.grown.subscribe();
        let wait = async {
            while !holds(self) {
                grown.changed().await.unwrap();
            }
        };
        tokio::time::timeout(super::SOON, wait)
            .await
            .expect("the log never came to hold it");
    }
}

#[async_trait]
impl EventLog for TestLog {
    fn layout(&self) -> Layout {
        Layout {
            partitions: 2,
            incarnation: EventId::of("test", &[]),
        }
    }

    async fn append(&self, topic: Topic, records: Vec<Append>) -> Result<Vec<Offset>, LogError> {
        let mut gate = self.gate.subscribe();
        let gate = gate.wait_for(|g| !matches!(g, Gate::Closed)).await.unwrap().clone();
        match gate {
            Gate::Failing(error) => Err(error),
            _ => Ok(self.write(topic, records)),
        }
    }

    async fn read(&self, topic: Topic, partition: Partition, from: Offset, _: Limit) -> Result<Arc<Batch>, LogError> {
        let records = self.records.lock().unwrap();
        let entries = records
            .get(&(topic, partition))
            .map(|e| e[from as usize..].to_vec())
            .unwrap_or_default();
        Ok(Arc::new(Batch::new(topic, partition, entries)))
    }

    async fn wait(&self, topic: Topic, partition: Partition, from: Offset) -> Result<(), LogError> {
        let mut grown = self.grown.subscribe();
        while self.bounds(topic, partition).await?.end <= from {
            grown.changed().await.unwrap();
        }
        Ok(())
    }

    async fn bounds(&self, topic: Topic, partition: Partition) -> Result<Bounds, LogError> {
        let records = self.records.lock().unwrap();
        let end = records.get(&(topic, partition)).map_or(0, Vec::len);
        Ok(Bounds {
            start: 0,
            end: end as Offset,
        })
    }

    async fn offset_at(&self, _: Topic, _: Partition, _: Timestamp) -> Result<Offset, LogError> {
        Ok(0)
    }

    async fn claim(&self, _: &str, _: Topic, _: Partition) -> Result<Box<dyn Workspace>, LogError> {
        Err(LogError::Unavailable("nothing is processed here".to_owned()))
    }

    async fn reached(&self, _: Topic, _: Partition) -> Result<Reached, LogError> {
        Ok(Reached { journal: 0, end: 0 })
    }
}
