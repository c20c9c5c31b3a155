//! Topics that others fill, read by a group: each partition by one process at a time, from where the group has come.
//!
//! The group's committed offsets are what everything before is durable of, and nothing else is kept of what was read: who
//! is killed reads some records again, and what they say has the same ids. A partition that changes hands is first
//! brought to a point: what was taken of it becomes durable, then its offset is committed, then it goes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use rdkafka::client::{ClientContext, OAuthToken};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext, Rebalance};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Headers, Message};
use rdkafka::topic_partition_list::TopicPartitionList;
use schemas::ids::EventId;
use schemas::time::Timestamp;
use smol_str::SmolStr;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::contact::{self, Contact, Reader};
use super::{Options, blocking, failed, native};
use crate::raw::{Feed, Lane, RawRecord, lane};
use crate::{LogError, Offset};

/// How long the client waits for records before it looks after its lanes.
const POLL: Duration = Duration::from_millis(20);
/// At most so many records are handed on before lanes are looked after.
const BURST: usize = 2048;
/// More partitions than a group hands to one process before it has looked at the first.
const HANDED: usize = 4096;
/// How often the group is told how far everything is durable.
const COMMIT_EVERY: Duration = Duration::from_secs(1);
/// How often it is asked whether brokers are back, and how long they may take to answer.
const ASK_EVERY: Duration = Duration::from_secs(2);
const ASK_FOR: Duration = Duration::from_millis(500);
/// How long a partition that goes to another may take until what was taken of it is durable. Afterwards the other reads
/// that again, and it is recognised.
const SETTLE: Duration = Duration::from_secs(3);

type At = (SmolStr, i32);

/// What is read, and as whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outside {
    /// The brokers.
    pub options: Options,
    /// The topics.
    pub topics: Vec<String>,
    /// The group whose members share their partitions.
    pub group: String,
    /// Bytes fetched ahead of who takes them, of each partition; beyond it the partition is not read from.
    pub ahead_bytes: usize,
}

/// A member of the group. Dropping it leaves the group; [`leave`](Self::leave) tells it how far we have come before.
#[derive(Debug)]
pub struct RawGroup {
    /// Why nothing comes, while that is so.
    pub trouble: watch::Receiver<Option<String>>,
    lanes: mpsc::Receiver<Result<Lane, LogError>>,
    left: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl RawGroup {
    /// Joins the group. The topics must be there.
    ///
    /// # Errors
    /// [`LogError::Unavailable`] where no broker answers or a topic is missing.
    pub async fn join(outside: Outside) -> Result<Self, LogError> {
        let (consumer, handing) = blocking(move || member(outside)).await?;
        let (left, (told, lanes)) = (Arc::new(AtomicBool::new(false)), handing);
        let (gone, (says, trouble)) = (Arc::clone(&left), watch::channel(None));
        let thread = std::thread::Builder::new()
            .name("kafka-raw".to_owned())
            .spawn(move || {
                if let Err(error) = hand_on(&consumer, &gone, &says) {
                    let _ = told.try_send(Err(error));
                }
            })
            .map_err(|e| LogError::Unavailable(e.to_string()))?;
        Ok(Self {
            trouble,
            lanes,
            left,
            thread: Some(thread),
        })
    }

    /// The next partition that the group hands us.
    ///
    /// # Errors
    /// [`LogError::Unavailable`]: nothing more comes; join again.
    pub async fn lane(&mut self) -> Result<Lane, LogError> {
        let ended = || Err(LogError::Unavailable("Kafka's group has ended".to_owned()));
        self.lanes.recv().await.unwrap_or_else(ended)
    }

    /// Leaves the group once it is told how far everything is durable.
    pub async fn leave(mut self) {
        self.left.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            let _ = tokio::task::spawn_blocking(move || thread.join()).await;
        }
    }
}

impl Drop for RawGroup {
    fn drop(&mut self) {
        self.left.store(true, Ordering::Release);
    }
}

type Handing = (
    mpsc::Sender<Result<Lane, LogError>>,
    mpsc::Receiver<Result<Lane, LogError>>,
);

fn member(outside: Outside) -> Result<(BaseConsumer<Member>, Handing), LogError> {
    let Outside {
        options,
        topics,
        group,
        ahead_bytes,
    } = outside;
    let mut config = options.outside(&group);
    let asking = Arc::new(contact::reader(&options, config.clone())?);
    contact::keep(&asking);
    options.access.apply(&mut config)?;
    let contact = Contact::new(&options.access);
    let mut incarnations = BTreeMap::new();
    for topic in &topics {
        let id = native::topic_id(&asking, topic, options.timeout)?;
        incarnations.insert(SmolStr::new(topic), id);
    }
    let (told, lanes) = mpsc::channel(HANDED);
    let member = Member {
        contact: contact.clone(),
        incarnations,
        ahead_bytes,
        timeout: options.timeout,
        asking,
        told: told.clone(),
        lanes: Mutex::default(),
        overrun: AtomicBool::new(false),
    };
    let consumer: BaseConsumer<Member> = config.create_with_context(member).map_err(|e| failed(&e))?;
    contact.introduce(consumer.client())?;
    let names: Vec<&str> = topics.iter().map(String::as_str).collect();
    consumer.subscribe(&names).map_err(|e| failed(&e))?;
    Ok((consumer, (told, lanes)))
}

/// What the client's callbacks need.
struct Member {
    contact: Contact,
    incarnations: BTreeMap<SmolStr, EventId>,
    ahead_bytes: usize,
    timeout: Duration,
    /// Asks about places, where the group's own client may be busy.
    asking: Arc<Reader>,
    told: mpsc::Sender<Result<Lane, LogError>>,
    lanes: Mutex<BTreeMap<At, Fetching>>,
    /// Somebody does not take what is handed to us.
    overrun: AtomicBool,
}

/// A lane as the client sees it.
struct Fetching {
    feed: Feed,
    /// One past the last record that was fetched.
    next: Offset,
    /// What the group was told.
    committed: Offset,
    paused: bool,
}

impl ClientContext for Member {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn error(&self, error: KafkaError, reason: &str) {
        self.contact.error(error, reason);
    }

    fn generate_oauth_token(&self, config: Option<&str>) -> Result<OAuthToken, Box<dyn std::error::Error>> {
        self.contact.generate_oauth_token(config)
    }
}

impl ConsumerContext for Member {
    fn pre_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        if let Rebalance::Revoke(partitions) = rebalance {
            let gone = partitions.elements();
            let gone = gone.iter().map(|e| (SmolStr::new(e.topic()), e.partition())).collect();
            self.give_back(consumer, &gone);
        }
    }

    fn post_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        match rebalance {
            Rebalance::Assign(partitions) => self.take_over(partitions),
            Rebalance::Error(error) => tracing::warn!(%error, "Kafka's group of raw topics"),
            Rebalance::Revoke(_) => {}
        }
        if let Ok(assigned) = consumer.assignment() {
            tracing::info!(partitions = assigned.count(), "raw topics: works on");
        }
    }
}

impl Member {
    fn lanes(&self) -> MutexGuard<'_, BTreeMap<At, Fetching>> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take_over(&self, partitions: &TopicPartitionList) {
        for element in partitions.elements() {
            let at: At = (SmolStr::new(element.topic()), element.partition());
            let Some(incarnation) = self.incarnations.get(&at.0) else {
                continue;
            };
            let lost = self.lost(&at);
            if lost > 0 {
                tracing::error!(topic = %at.0, partition = at.1, lost, "raw records were gone before they were read");
            }
            let (feed, lane) = lane(&at.0, at.1, *incarnation, lost);
            let fetching = Fetching {
                feed,
                next: -1,
                committed: -1,
                paused: false,
            };
            self.lanes().insert(at, fetching);
            if self.told.try_send(Ok(lane)).is_err() {
                self.overrun.store(true, Ordering::Release);
            }
        }
    }

    /// How many records the topic let go of since the group was last told where it is.
    fn lost(&self, (topic, partition): &At) -> i64 {
        let mut asked = TopicPartitionList::new();
        asked.add_partition(topic, *partition);
        let committed = self.asking.committed_offsets(asked, self.timeout);
        let place = committed.ok().and_then(|told| match told.elements().first()?.offset() {
            rdkafka::Offset::Offset(place) => Some(place),
            _ => None,
        });
        let Some(place) = place else { return 0 };
        let bounds = self.asking.fetch_watermarks(topic, *partition, self.timeout);
        bounds.map_or(0, |(start, _)| (start - place).max(0))
    }

    /// Brings partitions to a point, tells the group, and lets go of them.
    fn give_back(&self, consumer: &BaseConsumer<Self>, gone: &BTreeSet<At>) {
        let mut going: BTreeMap<At, Fetching> = BTreeMap::new();
        {
            let mut lanes = self.lanes();
            for at in gone {
                if let Some(lane) = lanes.remove(at) {
                    lane.feed.close();
                    going.insert(at.clone(), lane);
                }
            }
        }
        let until = Instant::now() + SETTLE;
        while going.values().any(|lane| !lane.feed.is_settled()) && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(5));
        }
        tell(consumer, &mut going, CommitMode::Sync);
    }
}

/// Tells the group how far everything is durable, where that is news.
fn tell(consumer: &BaseConsumer<Member>, lanes: &mut BTreeMap<At, Fetching>, mode: CommitMode) {
    let mut news = TopicPartitionList::new();
    for ((topic, partition), lane) in &mut *lanes {
        let Some(done) = lane.feed.done().filter(|done| *done > lane.committed) else {
            continue;
        };
        let offset = rdkafka::Offset::Offset(done);
        if news.add_partition_offset(topic, *partition, offset).is_ok() {
            lane.committed = done;
        }
    }
    if news.count() > 0
        && let Err(error) = consumer.commit(&news, mode)
    {
        tracing::warn!(%error, "the group of raw topics was not told how far we are: some records may be read again");
        lanes.values_mut().for_each(|lane| lane.committed = -1);
    }
}

/// Hands records on until we leave.
fn hand_on(
    consumer: &BaseConsumer<Member>,
    left: &AtomicBool,
    says: &watch::Sender<Option<String>>,
) -> Result<(), LogError> {
    let (mut told, mut asked) = (Instant::now(), Instant::now());
    while !left.load(Ordering::Acquire) {
        let mut wait = POLL;
        for _ in 0..BURST {
            let Some(message) = consumer.poll(wait) else { break };
            // What is there already is taken without waiting for more.
            wait = Duration::ZERO;
            match message {
                Ok(message) => take(consumer, &message)?,
                Err(error) if is_over(&error) => return Err(failed(&error)),
                // The client has told of it; only whether it lasts is to be seen.
                Err(error) if error.rdkafka_error_code() == Some(RDKafkaErrorCode::AllBrokersDown) => {
                    says.send_replace(Some(error.to_string()));
                }
                Err(error) => tracing::warn!(%error, "Kafka's raw topics"),
            }
        }
        let member = consumer.context();
        if member.overrun.load(Ordering::Acquire) {
            let what = "Kafka's group hands us partitions faster than they are taken";
            return Err(LogError::Unavailable(what.to_owned()));
        }
        if says.borrow().is_some() && asked.elapsed() >= ASK_EVERY {
            asked = Instant::now();
            if member.asking.fetch_metadata(None, ASK_FOR).is_ok() {
                says.send_replace(None);
            }
        }
        let mut lanes = member.lanes();
        go_on(consumer, &mut lanes, member.ahead_bytes);
        if told.elapsed() >= COMMIT_EVERY {
            told = Instant::now();
            tell(consumer, &mut lanes, CommitMode::Async);
        }
    }
    let member = consumer.context();
    let mine = member.lanes().keys().cloned().collect();
    member.give_back(consumer, &mine);
    // Leaving at once hands the partitions on at once.
    consumer.unsubscribe();
    Ok(())
}

/// Whether nothing more will come until the group is joined anew.
fn is_over(error: &KafkaError) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(
        error.rdkafka_error_code(),
        Some(
            Code::UnknownTopicOrPartition
                | Code::UnknownTopic
                | Code::UnknownPartition
                | Code::TopicAuthorizationFailed
                | Code::GroupAuthorizationFailed
                | Code::Fatal
        )
    )
}

/// Puts a record into its lane; a lane with enough ahead is not read from for a while.
fn take(consumer: &BaseConsumer<Member>, message: &BorrowedMessage<'_>) -> Result<(), LogError> {
    let member = consumer.context();
    let mut lanes = member.lanes();
    let at: At = (SmolStr::new(message.topic()), message.partition());
    let Some(lane) = lanes.get_mut(&at) else {
        return Ok(());
    };
    let offset = message.offset();
    if offset < lane.next {
        let known = member.incarnations.get(&at.0);
        return match native::topic_id(&member.asking, &at.0, member.timeout) {
            // Fetched twice: handed on already.
            Ok(now) if Some(&now) == known => Ok(()),
            // Made again under the same name while we read it: its records are others, and have other origins.
            Ok(_) => Err(LogError::Unavailable(format!("{} was made again", at.0))),
            Err(error) => Err(error),
        };
    }
    lane.next = offset + 1;
    lane.feed.put(record(message));
    if !lane.paused && lane.feed.bytes() > member.ahead_bytes {
        lane.paused = consumer.pause(&one(&at)).is_ok();
    }
    Ok(())
}

/// Reads again from lanes that have room.
fn go_on(consumer: &BaseConsumer<Member>, lanes: &mut BTreeMap<At, Fetching>, ahead_bytes: usize) {
    for (at, lane) in lanes {
        if lane.paused && lane.feed.bytes() <= ahead_bytes / 2 {
            lane.paused = consumer.resume(&one(at)).is_err();
        }
    }
}

fn one((topic, partition): &At) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    list.add_partition(topic, *partition);
    list
}

fn record(message: &BorrowedMessage<'_>) -> RawRecord {
    let header = |header: rdkafka::message::Header<'_, &[u8]>| {
        let value = header.value.map_or_else(Bytes::new, Bytes::copy_from_slice);
        (SmolStr::new(header.key), value)
    };
    RawRecord {
        offset: message.offset(),
        at: message.timestamp().to_millis().map(|millis| Timestamp(millis * 1000)),
        key: message.key().map(Bytes::copy_from_slice),
        value: message.payload().map(Bytes::copy_from_slice),
        headers: message
            .headers()
            .map_or_else(Vec::new, |headers| headers.iter().map(header).collect()),
    }
}
