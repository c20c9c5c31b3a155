//! Topics: made where they are missing, compared where they are there.

use std::collections::BTreeMap;

use rdkafka::admin::{AlterConfig, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::consumer::Consumer;
use rdkafka::metadata::MetadataTopic;
use schemas::ids::EventId;

use super::admin::{self, PAUSE};
use super::lineage::{self, Lineage};
use super::{Options, blocking, contact, native};
use crate::{Layout, LogError, Standing, Topic};

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

/// With `carrying` as long as a log is carried here: the moments of its records are those of the log it comes from, and
/// nothing of it is compacted before it was read back.
fn wanted(options: &Options, journal: u16, carrying: bool) -> Vec<Wanted> {
    let settings = |compacted: bool, carrying: bool| {
        let compacted = compacted && !carrying;
        let mut settings = vec![
            // Facts are kept for ever; states, each in its newest form.
            (
                "cleanup.policy",
                if compacted { "compact" } else { "delete" }.to_owned(),
            ),
            // The broker's word on when: doors' clocks may be wrong.
            (
                "message.timestamp.type",
                if carrying { "CreateTime" } else { "LogAppendTime" }.to_owned(),
            ),
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
        settings: settings(topic == Topic::Control, carrying),
    });
    let states = Topic::ALL
        .into_iter()
        .filter(|topic| topic.is_derived())
        .map(|output| Wanted {
            name: options.states(output),
            partitions: i32::from(journal),
            settings: settings(true, false),
        });
    let mut progress = Wanted {
        name: options.progress(),
        partitions: i32::from(journal),
        settings: settings(true, false),
    };
    // Small, so that most of it can be cleaned away: whoever opens the log reads all of it.
    progress.settings.push(("segment.bytes", "1048576".to_owned()));
    topics.chain(states).chain([progress]).collect()
}

/// What is there: topics with their partitions, and the journal's id.
pub(super) struct Found {
    partitions: BTreeMap<String, i32>,
    /// The id of the journal's topic.
    pub(super) journal: Option<EventId>,
    /// Copies of the journal's partitions.
    pub(super) replication: u8,
    /// What is said of a log that was carried here or from here.
    pub(super) lineage: Option<Lineage>,
}

impl Found {
    /// Where the log stands.
    pub(super) fn standing(&self) -> Standing {
        self.lineage
            .as_ref()
            .map(|lineage| lineage.standing.clone())
            .unwrap_or_default()
    }

    /// Those of our topics that are there, with their partitions.
    pub(super) fn ours(&self, options: &Options) -> Vec<(String, i32)> {
        let ours = wanted(options, 1, false).into_iter();
        ours.filter_map(|wanted| {
            self.partitions
                .get_key_value(&wanted.name)
                .map(|(name, n)| (name.clone(), *n))
        })
        .collect()
    }

    /// The layout, where all topics are there with the same number of partitions.
    pub(super) fn layout(&self, options: &Options) -> Result<Layout, LogError> {
        let missing = |what: String| LogError::Unavailable(format!("{what}: fajma topics apply"));
        let journal = options.topic(Topic::Journal);
        let (Some(partitions), Some(topic)) = (self.partitions.get(&journal), self.journal) else {
            return Err(missing(format!("there is no topic {journal}")));
        };
        let incarnation = match &self.lineage {
            None => topic,
            Some(lineage) => lineage.incarnation_of(topic, options)?,
        };
        let partitions =
            u16::try_from(*partitions).map_err(|_| missing(format!("{journal} has too many partitions")))?;
        for wanted in wanted(options, partitions, false) {
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

/// Copies of a topic's partitions.
fn topics_copies(topics: &[MetadataTopic], name: &str) -> u8 {
    let partitions = topics
        .iter()
        .filter(|topic| topic.name() == name)
        .flat_map(MetadataTopic::partitions);
    let copies = partitions.map(|partition| partition.replicas().len()).min();
    copies.map_or(0, |copies| u8::try_from(copies).unwrap_or(u8::MAX))
}

/// Asks the brokers what is there.
pub(super) async fn look(options: &Options) -> Result<Found, LogError> {
    let options = options.clone();
    blocking(move || {
        let client = contact::reader(&options, options.consumer())?;
        let metadata = contact::first(&client, options.timeout, |patience| {
            client.fetch_metadata(None, patience)
        })?;
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
        let copies = topics_copies(metadata.topics(), &journal);
        let id = if partitions.contains_key(&journal) {
            Some(native::topic_id(&client, &journal, options.timeout)?)
        } else {
            None
        };
        let lineage = if partitions.contains_key(&options.lineage()) {
            lineage::read(&client, &options)?
        } else {
            None
        };
        Ok(Found {
            partitions,
            journal: id,
            replication: copies,
            lineage,
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
    let wanted = wanted(options, partitions, false);
    make(options, &wanted, &found).await?;
    drift(options, &wanted, &look(options).await?).await
}

/// Makes all topics for a log that is carried here. There are none yet.
pub(super) async fn make_for_arrival(options: &Options, journal: u16) -> Result<Found, LogError> {
    let wanted = wanted(options, journal, true);
    make(options, &wanted, &look(options).await?).await?;
    look(options).await
}

/// Gives the topics of a log that was carried here the settings of one that serves.
pub(super) async fn settle(options: &Options, journal: u16) -> Result<(), LogError> {
    let wanted = wanted(options, journal, false);
    let settings: Vec<AlterConfig<'_>> = wanted
        .iter()
        .map(|topic| {
            let change = AlterConfig::new(ResourceSpecifier::Topic(&topic.name));
            let settings = topic.settings.iter();
            settings.fold(change, |change, (name, value)| change.set(name, value))
        })
        .collect();
    let settings = settings.as_slice();
    let altered = admin::ask(options, |it| async move {
        it.client.alter_configs(settings, &it.asking).await
    });
    for altered in altered.await? {
        altered.map_err(|(topic, code)| LogError::Unavailable(format!("the settings of {topic:?}: {code}")))?;
    }
    let until = tokio::time::Instant::now() + options.failover;
    loop {
        let drift = drift(options, &wanted, &look(options).await?).await?;
        match drift.first() {
            None => return Ok(()),
            Some(drift) if tokio::time::Instant::now() > until => return Err(LogError::Unavailable(drift.to_string())),
            Some(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}

/// Deletes topics, and waits until they are gone.
pub(super) async fn delete(options: &Options, names: &[String]) -> Result<(), LogError> {
    if names.is_empty() {
        return Ok(());
    }
    admin::delete(options, names).await?;
    let gone = |found: &Found| names.iter().all(|name| !found.partitions.contains_key(name));
    until(options, gone, "deleted topics do not go").await
}

async fn make(options: &Options, wanted: &[Wanted], found: &Found) -> Result<(), LogError> {
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
        admin::create(options, &missing).await?;
        let whole = |found: &Found| {
            let mut wanted = wanted.iter();
            wanted.all(|w| found.partitions.get(&w.name) == Some(&w.partitions))
        };
        until(options, whole, "new topics do not appear").await?;
    }
    Ok(())
}

/// How often in a row a change must be found: each time another broker may be asked, and some hear of it later.
const FOUND: usize = 6;

/// Waits until the brokers asked know of a change.
async fn until(options: &Options, done: impl Fn(&Found) -> bool, late: &str) -> Result<(), LogError> {
    let looking = async {
        let mut found = 0;
        while found < FOUND {
            found = if look(options).await.as_ref().is_ok_and(&done) {
                found + 1
            } else {
                0
            };
            tokio::time::sleep(PAUSE).await;
        }
    };
    let late = |_| LogError::Unavailable(late.to_owned());
    tokio::time::timeout(options.failover, looking).await.map_err(late)
}

async fn drift(options: &Options, wanted: &[Wanted], found: &Found) -> Result<Vec<Drift>, LogError> {
    let names: Vec<ResourceSpecifier<'_>> = wanted.iter().map(|w| ResourceSpecifier::Topic(&w.name)).collect();
    let names = names.as_slice();
    let described = admin::ask(options, |it| async move {
        it.client.describe_configs(names, &it.asking).await
    });
    let described = described.await?;
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
