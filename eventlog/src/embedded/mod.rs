//! The log in one process, with no server beside it: fjall on the local disk, one writer, group commit.
//!
//! A record is acknowledged and readable once one `fdatasync` has made its group durable. A processor's outputs are
//! durable before its states, and those before its position; a long checkpoint is saved in pieces, so that appends go on
//! beside it. A later claim of the same place fences the earlier one.
//!
//! Layout: a key space per partition holds blocks of records by base offset; `places` holds positions, states and
//! where derived topics end; `meta` what the log is made of.

mod arriving;
mod block;
#[cfg(feature = "embedded")]
mod journal_check;
mod memory;
mod metrics;
mod options;
mod queue;
mod reading;
mod retention;
mod rows;
mod shared;
#[cfg(feature = "embedded")]
mod shelves;
#[cfg(feature = "conformance")]
mod sim_disk;
mod standing;
mod storage;
#[cfg(feature = "embedded")]
mod store;
mod workspace;
mod writer;

pub use arriving::Arriving;
pub use options::Options;
use shared::{Log, Shared};
#[cfg(feature = "embedded")]
pub use shelves::LocalShelves;
#[cfg(feature = "conformance")]
pub use sim_disk::{SimDisk, Trouble};

use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use async_trait::async_trait;
use schemas::time::Timestamp;
use smol_str::SmolStr;
use tokio::sync::oneshot;

use queue::{Request, closed};
use storage::Storage;
use workspace::Owned;
use writer::Writer;

use crate::{
    Append, Batch, Bounds, Clock, EventLog, Layout, Limit, LogError, Offset, Partition, Reached, Topic, Workspace,
};

/// The embedded log. Closed when the last handle, workspace and shelf is dropped.
pub struct Embedded {
    shared: Arc<Shared>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl std::fmt::Debug for Embedded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Embedded")
            .field("layout", &self.shared.layout)
            .finish_non_exhaustive()
    }
}

impl Embedded {
    /// Opens the log in `dir`, or creates it there: `options.partitions` counts only then.
    ///
    /// What a crash left unfinished is cut away; it was never acknowledged.
    ///
    /// # Errors
    /// [`LogError::Unavailable`] where another process has it open, [`LogError::Corrupt`] where acknowledged records
    /// are damaged, [`LogError::Full`], [`LogError::Misuse`] where the options make no sense, [`LogError::Elsewhere`]
    /// where it has not arrived whole.
    #[cfg(feature = "embedded")]
    pub fn open(dir: &std::path::Path, options: Options, clock: Arc<dyn Clock>) -> Result<Arc<Self>, LogError> {
        options.check()?;
        let store = store::Store::open(dir, options.disk_cache_bytes, options.memtable_bytes)?;
        standing::read(&store)?.check_whole()?;
        Self::start(Arc::new(store), options, clock)
    }

    /// The same log on a simulated disk.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    #[cfg(feature = "conformance")]
    pub fn on_disk(disk: &SimDisk, options: Options, clock: Arc<dyn Clock>) -> Result<Arc<Self>, LogError> {
        options.check()?;
        standing::read(disk)?.check_whole()?;
        Self::start(Arc::new(disk.clone()), options, clock)
    }

    fn start(storage: Arc<dyn Storage>, options: Options, clock: Arc<dyn Clock>) -> Result<Arc<Self>, LogError> {
        metrics::describe();
        let (shared, ends) = Shared::recover(storage, options, clock)?;
        let shared = Arc::new(shared);
        let writer = Writer::new(Arc::clone(&shared), ends);
        let writer = std::thread::Builder::new()
            .name("log writer".to_owned())
            .spawn(move || writer.run())
            .map_err(|e| LogError::Unavailable(format!("start the log's writer: {e}")))?;
        Ok(Arc::new(Self {
            shared,
            writer: Mutex::new(Some(writer)),
        }))
    }

    /// Lets go of what is older or more than the options keep; also done from time to time by itself.
    ///
    /// # Errors
    /// [`LogError::Unavailable`], [`LogError::Full`], [`LogError::Corrupt`].
    pub async fn retain(&self) -> Result<(), LogError> {
        let (answer, answered) = oneshot::channel();
        self.shared.ask(Request::Retain { answer })?;
        self.answer(answered).await
    }

    async fn answer<T>(&self, answered: oneshot::Receiver<Result<T, LogError>>) -> Result<T, LogError> {
        match answered.await {
            Ok(answer) => answer,
            Err(_) => Err(self.shared.failure().err().unwrap_or_else(closed)),
        }
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        self.shared.queue.close();
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(writer) = writer {
            // A panic of the writer has already been told to everyone who waited for it.
            let _ = writer.join();
        }
    }
}

#[async_trait]
impl EventLog for Embedded {
    fn layout(&self) -> Layout {
        self.shared.layout
    }

    async fn append(&self, topic: Topic, records: Vec<Append>) -> Result<Vec<Offset>, LogError> {
        topic.check_append()?;
        self.shared.check_serving()?;
        let mut bytes = 0;
        for record in &records {
            self.shared.log(topic, record.partition)?;
            self.shared.check_size(&record.key, &record.value)?;
            bytes += record.key.len() + record.value.len();
        }
        if records.is_empty() {
            return Ok(Vec::new());
        }
        self.shared.failure()?;
        let room = self.shared.queue.room(bytes).await?;
        let (answer, answered) = oneshot::channel();
        self.shared.ask(Request::Append {
            topic,
            records,
            answer,
            room,
        })?;
        self.answer(answered).await
    }

    async fn read(
        &self,
        topic: Topic,
        partition: Partition,
        from: Offset,
        limit: Limit,
    ) -> Result<Arc<Batch>, LogError> {
        Shared::read(&self.shared, topic, partition, from, limit).await
    }

    async fn wait(&self, topic: Topic, partition: Partition, from: Offset) -> Result<(), LogError> {
        self.shared.wait(topic, partition, from).await
    }

    async fn bounds(&self, topic: Topic, partition: Partition) -> Result<Bounds, LogError> {
        Ok(self.shared.log(topic, partition)?.bounds())
    }

    async fn offset_at(&self, topic: Topic, partition: Partition, at: Timestamp) -> Result<Offset, LogError> {
        let shared = Arc::clone(&self.shared);
        reading::off_the_runtime(move || shared.first_since(shared.log(topic, partition)?, at)).await
    }

    async fn claim(
        &self,
        processor: &str,
        output: Topic,
        partition: Partition,
    ) -> Result<Box<dyn Workspace>, LogError> {
        self.shared.log(output, partition)?;
        output.check_claim(processor)?;
        self.shared.check_serving()?;
        self.shared.failure()?;
        let (answer, answered) = oneshot::channel();
        self.shared.ask(Request::Claim {
            processor: SmolStr::new(processor),
            output,
            partition,
            answer,
        })?;
        let claimed = self.answer(answered).await?;
        let bounds = self.shared.log(Topic::Journal, partition)?.bounds();
        if !(bounds.start..=bounds.end).contains(&claimed.position) {
            return Err(LogError::OutOfRange {
                topic: Topic::Journal,
                partition,
                asked: claimed.position,
                bounds,
            });
        }
        Ok(Box::new(Owned::new(Arc::clone(&self.shared), claimed)))
    }

    async fn reached(&self, output: Topic, partition: Partition) -> Result<Reached, LogError> {
        Ok(self.shared.log(output, partition)?.reached())
    }
}

#[cfg(all(test, feature = "embedded"))]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;

    use super::*;
    use crate::ManualClock;

    /// Whoever were given a record whose end is not shown yet would be told, on going on, that there is no such place.
    #[test]
    fn no_record_can_be_had_before_its_end_is_shown() {
        let dir = tempfile::tempdir().unwrap();
        let log = Embedded::open(dir.path(), Options::default(), Arc::new(ManualClock::default())).unwrap();
        let shared = Arc::clone(&log.shared);
        let partition = shared.log(Topic::Journal, 0).unwrap();
        // While it is looked at, the writer can show no new end.
        let shown = partition.view.borrow();
        let appending = std::thread::spawn(move || {
            let record = Append {
                partition: 0,
                key: Bytes::new(),
                value: Bytes::from_static(b"new"),
            };
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(log.append(Topic::Journal, vec![record])).unwrap()
        });
        // It stands at the door, with the tail in its hand: for as long as fifty looks in a row.
        let mut held = 0;
        while held < 50 {
            match partition.try_tail() {
                Some(mut tail) => {
                    held = 0;
                    assert!(
                        tail.read(0, Limit::default()).is_none(),
                        "given before its end is shown"
                    );
                }
                None => held += 1,
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(shown.bounds.end, 0);
        drop(shown);
        assert_eq!(appending.join().unwrap(), [0]);
        assert!(partition.tail().read(0, Limit::default()).is_some());
        assert_eq!(partition.bounds().end, 1);
    }
}
