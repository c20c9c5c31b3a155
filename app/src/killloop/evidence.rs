//! What stands in the log of a stopped server, read as any reader of it would: the journal as it is, what was derived by
//! the strict reader.

use std::sync::Arc;

use eventlog::embedded::{Embedded, Options};
use eventlog::kafka::{self, Kafka};
use eventlog::origin::Reader;
use eventlog::{EventLog, Limit, Partition, SystemClock, Topic};
use schemas::codec::Catalogue;
use schemas::derived::Derived;
use schemas::ids::EventId;
use schemas::journal::Recorded;

use super::Plan;
use crate::house::dir::DataDir;

/// One partition.
#[derive(Debug)]
pub(super) struct Part {
    /// The journal, as far as the alerts' processor has come.
    pub(super) journal: Vec<Recorded>,
    pub(super) alerts: Vec<Derived>,
    pub(super) windows: Vec<Derived>,
}

/// All of it.
#[derive(Debug)]
pub(super) struct Evidence {
    pub(super) incarnation: EventId,
    pub(super) parts: Vec<Part>,
    /// Derived records that the strict reader passed over.
    pub(super) repeats: usize,
}

/// Reads the log.
pub(super) async fn read(plan: &Plan) -> Result<Evidence, String> {
    let log: Arc<dyn EventLog> = match &plan.shared {
        None => {
            let dir = DataDir::new(&plan.data).log();
            Embedded::open(&dir, Options::default(), Arc::new(SystemClock)).map_err(|e| e.to_string())?
        }
        Some(shared) => {
            let options = kafka::Options::parse(&shared.log)?;
            Kafka::open(options).await.map_err(|e| e.to_string())?
        }
    };
    let log = &*log;
    let catalogue = Catalogue::builtin();
    let layout = log.layout();
    let (mut parts, mut repeats) = (Vec::new(), 0);
    for partition in 0..layout.partitions {
        let reached = log.reached(Topic::Alerts, partition).await.map_err(|e| e.to_string())?;
        let also = log
            .reached(Topic::Windows, partition)
            .await
            .map_err(|e| e.to_string())?;
        // Processes that stop one after the other have not all seen the last ticks.
        let upto = reached.journal.min(also.journal);
        if plan.shared.is_none() && reached.journal != also.journal {
            return Err(format!(
                "partition {partition}: alerts have come to {}, windows to {}",
                reached.journal, also.journal
            ));
        }
        let mut journal = read_journal(log, &catalogue, partition).await?;
        journal.retain(|fact| fact.offset < upto);
        let mut derived = async |topic| -> Result<Vec<Derived>, String> {
            let all = read_derived(log, &catalogue, topic, partition).await?;
            let mut reader = Reader::new(layout.incarnation, None);
            let mut news = Vec::new();
            for record in all {
                if reader.accept(&record.origin).map_err(|e| e.to_string())? {
                    news.push(record);
                } else {
                    repeats += 1;
                }
            }
            news.retain(|record| record.origin.offset < upto);
            Ok(news)
        };
        let alerts = derived(Topic::Alerts).await?;
        let windows = derived(Topic::Windows).await?;
        parts.push(Part {
            journal,
            alerts,
            windows,
        });
    }
    Ok(Evidence {
        incarnation: layout.incarnation,
        parts,
        repeats,
    })
}

async fn read_journal(
    log: &dyn EventLog,
    catalogue: &Catalogue,
    partition: Partition,
) -> Result<Vec<Recorded>, String> {
    let (mut all, mut from) = (Vec::new(), 0);
    loop {
        let batch = log
            .read(Topic::Journal, partition, from, Limit::default())
            .await
            .map_err(|e| e.to_string())?;
        let Some(next) = batch.next() else { return Ok(all) };
        all.extend_from_slice(batch.facts(catalogue).map_err(|e| e.to_string())?);
        from = next;
    }
}

async fn read_derived(
    log: &dyn EventLog,
    catalogue: &Catalogue,
    topic: Topic,
    partition: Partition,
) -> Result<Vec<Derived>, String> {
    let (mut all, mut from) = (Vec::new(), 0);
    loop {
        let batch = log
            .read(topic, partition, from, Limit::default())
            .await
            .map_err(|e| e.to_string())?;
        let Some(next) = batch.next() else { return Ok(all) };
        let records = batch.derived(catalogue).map_err(|e| e.to_string())?;
        all.extend(records.into_iter().map(|(_, record)| record));
        from = next;
    }
}
