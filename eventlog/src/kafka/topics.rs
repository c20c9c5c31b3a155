//! Topics: made where they are missing, compared where they are there.

use std::collections::BTreeMap;

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::types::RDKafkaErrorCode;
use schemas::derived::Incarnation;

use super::{Options, blocking, failed, topic_id};
use crate::{Layout, LogError, Topic};

/// A topic as it should be.
struct Wanted {
    name: String,
    partitions: i32,
    settings: Vec<(&'static str, String)>,
}

/// In what a topic differs from what it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drift {
    /// The topic.
    pub topic: String,
    /// What of it.
    pub setting: String,
    /// As it should be.
    pub wanted: String,
    /// As it is.
    pub found: String,
}

impl std::fmt::Display for Drift {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            topic,
            setting,
            wanted,
            found,
        } = self;
        write!(f, "{topic}: {setting} is {found}, not {wanted}")
    }
}

fn wanted(options: &Options, journal: u16) -> Vec<Wanted> {
    let settings = |compacted: bool| {
        let mut settings = vec![
            // Facts are kept for ever; states, each in its newest form.
            (
                "cleanup.policy",
                if compacted { "compact" } else { "delete" }.to_owned(),
            ),
            // The broker's word on when: doors' clocks may be wrong.
            ("message.timestamp.type", "LogAppendTime".to_owned()),
            ("max.message.bytes", (options.max_record_bytes + 64_000).to_string()),
        ];
        if options.replication > 2 {
            // With one copy away it goes on; what is acknowledged is on two.
            settings.push(("min.insync.replicas", "2".to_owned()));
        }
        if compacted {
            // A restore reads all of it.
            settings.push(("segment.ms", "600000".to_owned()));
            settings.push(("min.cleanable.dirty.ratio", "0.2".to_owned()));
        } else {
            settings.push(("retention.ms", "-1".to_owned()));
            settings.push(("retention.bytes", "-1".to_owned()));
        }
        settings
    };
    let topics = Topic::ALL.into_iter().map(|topic| Wanted {
        name: options.topic(topic),
        partitions: i32::from(topic.partitions(journal)),
        settings: settings(topic == Topic::Control),
    });
    let states = Topic::ALL
        .into_iter()
        .filter(|topic| topic.is_derived())
        .map(|output| Wanted {
            name: options.states(output),
            partitions: i32::from(journal),
            settings: settings(true),
        });
    let mut progress = Wanted {
        name: options.progress(),
        partitions: i32::from(journal),
        settings: settings(true),
    };
    // Small, so that most of it can be cleaned away: whoever opens the log reads all of it.
    progress.settings.push(("segment.bytes", "1048576".to_owned()));
    topics.chain(states).chain([progress]).collect()
}

/// What is there: topics with their partitions, and the journal's id.
pub(super) struct Found {
    partitions: BTreeMap<String, i32>,
    incarnation: Option<Incarnation>,
}

impl Found {
    /// The layout, where all topics are there with the same number of partitions.
    pub(super) fn layout(&self, options: &Options) -> Result<Layout, LogError> {
        let missing = |what: String| LogError::Unavailable(format!("{what}: fajma topics apply"));
        let journal = options.topic(Topic::Journal);
        let (Some(partitions), Some(incarnation)) = (self.partitions.get(&journal), self.incarnation) else {
            return Err(missing(format!("there is no topic {journal}")));
        };
        let partitions =
            u16::try_from(*partitions).map_err(|_| missing(format!("{journal} has too many partitions")))?;
        for wanted in wanted(options, partitions) {
            let found = self.partitions.get(&wanted.name).copied().unwrap_or(0);
            if found != wanted.partitions {
                let (name, wanted) = (wanted.name, wanted.partitions);
                return Err(missing(format!("{name} has {found} partitions, not {wanted}")));
            }
        }
        Ok(Layout {
            partitions,
            incarnation,
        })
    }
}

/// Asks the brokers what is there.
pub(super) async fn look(options: &Options) -> Result<Found, LogError> {
    let options = options.clone();
    blocking(move || {
        let client: BaseConsumer = options.consumer().create().map_err(|e| failed(&e))?;
        let metadata = client.fetch_metadata(None, options.timeout).map_err(|e| failed(&e))?;
        let topics = metadata.topics().iter();
        let partitions: BTreeMap<String, i32> = topics
            .map(|topic| {
                (
                    topic.name().to_owned(),
                    i32::try_from(topic.partitions().len()).unwrap_or(0),
                )
            })
            .collect();
        let journal = options.topic(Topic::Journal);
        let incarnation = if partitions.contains_key(&journal) {
            Some(topic_id::of(&client, &journal, options.timeout)?)
        } else {
            None
        };
        Ok(Found {
            partitions,
            incarnation,
        })
    })
    .await
}

/// Makes the topics that are missing, and compares those that are there. Doing it again changes nothing; what drifted is
/// told, never altered.
///
/// # Errors
/// [`LogError::Unavailable`].
pub async fn apply(options: &Options) -> Result<Vec<Drift>, LogError> {
    let found = look(options).await?;
    let journal = found.partitions.get(&options.topic(Topic::Journal));
    let partitions = journal
        .and_then(|n| u16::try_from(*n).ok())
        .unwrap_or(options.partitions);
    let wanted = wanted(options, partitions);
    let mut config = options.consumer();
    config.remove("enable.partition.eof");
    let admin: AdminClient<DefaultClientContext> = config.create().map_err(|e| failed(&e))?;
    let asking = AdminOptions::new()
        .request_timeout(Some(options.timeout))
        .operation_timeout(Some(options.timeout));
    let missing: Vec<NewTopic<'_>> = wanted
        .iter()
        .filter(|topic| !found.partitions.contains_key(&topic.name))
        .map(|topic| {
            let copies = TopicReplication::Fixed(i32::from(options.replication));
            let new = NewTopic::new(&topic.name, topic.partitions, copies);
            topic
                .settings
                .iter()
                .fold(new, |new, (name, value)| new.set(name, value))
        })
        .collect();
    if !missing.is_empty() {
        for made in admin.create_topics(&missing, &asking).await.map_err(|e| failed(&e))? {
            match made {
                // Another process made it at the same moment.
                Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
                Err((name, code)) => return Err(LogError::Unavailable(format!("{name} cannot be made: {code}"))),
            }
        }
        settled(options, &wanted).await?;
    }
    drift(&admin, &asking, &wanted, &look(options).await?).await
}

/// How often in a row they must be found: each time another broker may be asked, and some hear of them later.
const FOUND: usize = 6;

/// Waits until every broker asked knows the new topics.
async fn settled(options: &Options, wanted: &[Wanted]) -> Result<(), LogError> {
    let look = async {
        let mut found = 0;
        while found < FOUND {
            let there = look(options).await;
            let whole = |found: &Found| {
                wanted
                    .iter()
                    .all(|w| found.partitions.get(&w.name) == Some(&w.partitions))
            };
            found = if there.as_ref().is_ok_and(whole) { found + 1 } else { 0 };
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    let late = |_| LogError::Unavailable("new topics do not appear".to_owned());
    tokio::time::timeout(options.timeout, look).await.map_err(late)
}

async fn drift(
    admin: &AdminClient<DefaultClientContext>,
    asking: &AdminOptions,
    wanted: &[Wanted],
    found: &Found,
) -> Result<Vec<Drift>, LogError> {
    let names: Vec<ResourceSpecifier<'_>> = wanted.iter().map(|w| ResourceSpecifier::Topic(&w.name)).collect();
    let described = admin.describe_configs(&names, asking).await.map_err(|e| failed(&e))?;
    let mut drift = Vec::new();
    for (wanted, described) in wanted.iter().zip(described) {
        let config = described.map_err(|code| LogError::Unavailable(format!("{}: {code}", wanted.name)))?;
        let there = found.partitions.get(&wanted.name).copied().unwrap_or(0).to_string();
        let partitions = ("partitions", wanted.partitions.to_string(), Some(there));
        let settings = wanted.settings.iter().map(|(name, value)| {
            let found = config.get(name).and_then(|entry| entry.value.clone());
            (*name, value.clone(), found)
        });
        for (setting, wanted_value, found) in std::iter::once(partitions).chain(settings) {
            let found = found.unwrap_or_default();
            if found != wanted_value {
                drift.push(Drift {
                    topic: wanted.name.clone(),
                    setting: setting.to_owned(),
                    wanted: wanted_value,
                    found,
                });
            }
        }
    }
    Ok(drift)
}
