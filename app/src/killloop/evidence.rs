//! What stands in the log of a stopped server: the journal as it is, and every record that was derived, of which the first
//! of each place counts ([`raw`](super::raw) looks at the others).

use std::collections::BTreeMap;
use std::sync::Arc;

use eventlog::embedded::{Embedded, Options};
use eventlog::kafka::{self, Kafka};
use eventlog::{EventLog, Limit, Partition, SystemClock, Topic};
use schemas::codec::Catalogue;
use schemas::derived::Derived;
use schemas::ids::EventId;
use schemas::journal::{Fact, Recorded};
use schemas::time::{Span, Timestamp};

use super::Plan;
use super::raw::Raw;
use crate::house::dir::DataDir;

/// One partition.
#[derive(Debug)]
pub(super) struct Part {
    /// The journal, as far as the alerts' processor has come.
    pub(super) journal: Vec<Recorded>,
    pub(super) alerts: Vec<Derived>,
    pub(super) windows: Vec<Derived>,
    pub(super) devices: Vec<Derived>,
    /// Of each change of an alert that a reading or an alarm led to: when the log took that, and how much later the change.
    pub(super) took: Vec<(Timestamp, Span)>,
}

/// All of it.
#[derive(Debug)]
pub(super) struct Evidence {
    pub(super) incarnation: EventId,
    pub(super) parts: Vec<Part>,
    /// Derived records that readers pass over.
    pub(super) repeats: usize,
    /// What lies in derived topics and must not.
    pub(super) wrong: Vec<String>,
}

/// A derived record and when the log took it.
type News = (Timestamp, Derived);

/// Opens the log of a run.
pub(super) async fn open(plan: &Plan) -> Result<Arc<dyn EventLog>, String> {
    Ok(match &plan.shared {
        None => {
            let dir = DataDir::new(&plan.data).log();
            Embedded::open(&dir, Options::default(), Arc::new(SystemClock)).map_err(|e| e.to_string())?
        }
        Some(shared) => {
            let options = kafka::Options::parse(&shared.log)?;
            Kafka::open(options).await.map_err(|e| e.to_string())?
        }
    })
}

/// Reads the log.
pub(super) async fn read(plan: &Plan) -> Result<Evidence, String> {
    let log = open(plan).await?;
    let log = &*log;
    let catalogue = Catalogue::builtin();
    let layout = log.layout();
    let (mut parts, mut repeats, mut wrong) = (Vec::new(), 0, Vec::new());
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
        let mut derived: BTreeMap<&str, Vec<News>> = BTreeMap::new();
        for topic in Topic::ALL.into_iter().filter(|topic| topic.is_derived()) {
            let mut raw = Raw::new(format!("{}/{partition}", topic.name()), layout.incarnation);
            let mut news = read_derived(log, &catalogue, topic, partition, &mut raw).await?;
            repeats += raw.repeats;
            wrong.append(&mut raw.wrong);
            news.retain(|(_, record)| record.origin.offset < upto);
            derived.insert(topic.name(), news);
        }
        let mut of = |topic: Topic| derived.remove(topic.name()).unwrap_or_default();
        let bare = |news: Vec<News>| news.into_iter().map(|(_, record)| record).collect();
        let alerts = of(Topic::Alerts);
        parts.push(Part {
            took: took(&journal, &alerts),
            journal,
            alerts: bare(alerts),
            windows: bare(of(Topic::Windows)),
            devices: bare(of(Topic::Devices)),
        });
    }
    Ok(Evidence {
        incarnation: layout.incarnation,
        parts,
        repeats,
        wrong,
    })
}

/// From the log's word on when it took a reading to its word on when it took what followed.
fn took(journal: &[Recorded], alerts: &[News]) -> Vec<(Timestamp, Span)> {
    let of = |(at, alert): &News| {
        let place = journal.binary_search_by_key(&alert.origin.offset, |fact| fact.offset);
        let fact = journal.get(place.ok()?)?;
        let measured = matches!(fact.envelope.fact, Fact::Reading(_) | Fact::DeviceAlarm(_));
        measured.then(|| (fact.appended_at, *at - fact.appended_at))
    };
    alerts.iter().filter_map(of).collect()
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

/// The first record of each place; the others are looked at by `raw`.
async fn read_derived(
    log: &dyn EventLog,
    catalogue: &Catalogue,
    topic: Topic,
    partition: Partition,
    raw: &mut Raw,
) -> Result<Vec<News>, String> {
    let (mut all, mut from) = (Vec::new(), 0);
    loop {
        let batch = log
            .read(topic, partition, from, Limit::default())
            .await
            .map_err(|e| e.to_string())?;
        let Some(next) = batch.next() else { return Ok(all) };
        let mut entries = batch.entries().iter();
        for (offset, record) in batch.derived(catalogue).map_err(|e| e.to_string())? {
            // Every record that these processors write can be read: none is left out.
            let entry = entries.next().filter(|entry| entry.offset == offset);
            let entry =
                entry.ok_or_else(|| format!("{}/{partition}: no known record before {offset}", topic.name()))?;
            if raw.see(entry, &record.origin) {
                all.push((entry.appended_at, record));
            }
        }
        from = next;
    }
}
