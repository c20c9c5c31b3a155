//! How far places have come, told to every process.
//!
//! A commit without conclusions leaves no trace in a derived topic, and positions are saved only from time to time; so
//! whoever waits for a processor that runs elsewhere is told through a small compacted topic, a record per derived
//! partition, a few times a second. It is news, not memory: losing some of it, or hearing an older word from an owner
//! that was late, promises less than is true and never more.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak};
use std::time::Duration;

use rdkafka::consumer::Consumer;
use rdkafka::error::KafkaError;
use rdkafka::message::Message as _;
use rdkafka::topic_partition_list::TopicPartitionList;
use schemas::derived::Incarnation;
use tokio::time::Instant;

use super::contact::{self, Reader};
use super::produce::{Message, Senders};
use super::{Options, blocking, failed, is_not_reached, patiently};
use crate::{Layout, LogError, Offset, Partition, Reached, Standing, Topic};

/// How often news is told and heard.
const BEAT: Duration = Duration::from_millis(50);
/// At most so much news is taken in at once.
const BURST: usize = 4096;

type At = (Topic, Partition);

/// What is known, and what is still to be told.
#[derive(Debug)]
pub(super) struct Progress {
    incarnation: Incarnation,
    /// Whose word ours is.
    me: [u8; 8],
    /// The last word of other processes, and when it came.
    others: Mutex<HashMap<At, (Offset, Instant)>>,
    known: Mutex<HashMap<At, Reached>>,
    untold: Mutex<BTreeMap<At, Reached>>,
    /// Where the log stands: told to those who have it open while it is carried away.
    standing: Arc<RwLock<Standing>>,
}

fn kept<T>(what: &Mutex<T>) -> MutexGuard<'_, T> {
    what.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Progress {
    /// Hears all that was told so far; then goes on telling and hearing until it is dropped.
    pub(super) async fn open(
        options: &Options,
        layout: Layout,
        senders: Arc<Senders>,
        standing: Arc<RwLock<Standing>>,
    ) -> Result<Arc<Self>, LogError> {
        let progress = Arc::new(Self {
            incarnation: layout.incarnation,
            me: RandomState::new().hash_one(std::process::id()).to_be_bytes(),
            others: Mutex::default(),
            known: Mutex::default(),
            untold: Mutex::default(),
            standing,
        });
        let (hearing, theirs) = (Arc::clone(&progress), options.clone());
        let consumer = blocking(move || hearing.catch_up(&theirs, layout.partitions)).await?;
        tokio::spawn(run(Arc::downgrade(&progress), senders, consumer, options.progress()));
        Ok(progress)
    }

    /// The furthest that is known.
    pub(super) fn of(&self, at: At) -> Reached {
        let unknown = Reached { journal: 0, end: 0 };
        kept(&self.known).get(&at).copied().unwrap_or(unknown)
    }

    /// How far another process has come, and when it said so.
    pub(super) fn others(&self, at: At) -> Option<(Offset, Instant)> {
        kept(&self.others).get(&at).copied()
    }

    /// A place of this process has come so far.
    pub(super) fn advance(&self, at: At, reached: Reached) {
        if self.hear(at, reached) {
            kept(&self.untold).insert(at, reached);
        }
    }

    /// Whether it is news.
    fn hear(&self, at: At, reached: Reached) -> bool {
        let mut known = kept(&self.known);
        let news = known
            .get(&at)
            .is_none_or(|known| *known != reached && reached.journal >= known.journal);
        if news {
            known.insert(at, reached);
        }
        news
    }

    fn catch_up(&self, options: &Options, partitions: u16) -> Result<Reader, LogError> {
        let consumer = contact::reader(options, options.consumer())?;
        let (topic, mut all) = (options.progress(), TopicPartitionList::new());
        let mut behind: BTreeSet<i32> = (0..i32::from(partitions)).collect();
        for partition in &behind {
            let (start, _) = patiently(options.failover, |left| {
                consumer.fetch_watermarks(&topic, *partition, left)
            })
            .map_err(|e| failed(&e))?;
            all.add_partition_offset(&topic, *partition, rdkafka::Offset::Offset(start))
                .map_err(|e| failed(&e))?;
        }
        consumer.assign(&all).map_err(|e| failed(&e))?;
        let mut heard = Instant::now();
        while !behind.is_empty() {
            match consumer.poll(options.failover) {
                Some(Ok(message)) => {
                    heard = Instant::now();
                    self.take(message.key(), message.payload(), message.partition());
                }
                Some(Err(KafkaError::PartitionEOF(partition))) => drop(behind.remove(&partition)),
                Some(Err(error)) if is_not_reached(&error) && heard.elapsed() < options.failover => {}
                Some(Err(error)) => return Err(failed(&error)),
                None if heard.elapsed() >= options.failover => {
                    return Err(LogError::Unavailable(format!("{topic} is not delivered")));
                }
                None => {}
            }
        }
        Ok(consumer)
    }

    /// Takes in where the log stands now. What was told before this process opened it, the lineage says better.
    fn take_standing(&self, key: Option<&[u8]>, value: Option<&[u8]>) {
        let told = value.and_then(|value| std::str::from_utf8(value).ok());
        if let (Some(STANDING), Some(Ok(standing))) = (key, told.map(Standing::parse)) {
            tracing::warn!(%standing, "the log was carried: it stands otherwise now");
            *self.standing.write().unwrap_or_else(PoisonError::into_inner) = standing;
        }
    }

    /// Takes in a record; one that is not understood, or of another journal, says nothing to us.
    fn take(&self, key: Option<&[u8]>, value: Option<&[u8]>, partition: i32) {
        let output = Topic::ALL
            .into_iter()
            .find(|topic| key == Some(topic.name().as_bytes()));
        if let (Some(output), Some(reached), Ok(partition)) = (
            output,
            value.and_then(|value| unpack(self.incarnation, value)),
            Partition::try_from(partition),
        ) {
            let at = (output, partition);
            self.hear(at, reached);
            if value.is_some_and(|value| !value.ends_with(&self.me)) {
                kept(&self.others).insert(at, (reached.journal, Instant::now()));
            }
        }
    }
}

/// The key under which is told where the log stands from now on.
pub(super) const STANDING: &[u8] = b"standing";

pub(super) fn pack(incarnation: Incarnation, reached: Reached, by: [u8; 8]) -> Vec<u8> {
    [
        &incarnation.0[..],
        &reached.journal.to_be_bytes(),
        &reached.end.to_be_bytes(),
        &by,
    ]
    .concat()
}

fn unpack(ours: Incarnation, value: &[u8]) -> Option<Reached> {
    let (incarnation, rest) = value.split_first_chunk::<16>()?;
    let (journal, rest) = rest.split_first_chunk::<8>()?;
    let (end, _) = rest.split_first_chunk::<8>()?;
    (*incarnation == ours.0).then(|| Reached {
        journal: Offset::from_be_bytes(*journal),
        end: Offset::from_be_bytes(*end),
    })
}

/// Tells and hears, as long as somebody may ask.
async fn run(progress: Weak<Progress>, senders: Arc<Senders>, consumer: Reader, topic: String) {
    loop {
        let Some(ours) = progress.upgrade() else { return };
        for _ in 0..BURST {
            match consumer.poll(Duration::ZERO) {
                Some(Ok(message)) => {
                    ours.take(message.key(), message.payload(), message.partition());
                    ours.take_standing(message.key(), message.payload());
                }
                Some(Err(KafkaError::PartitionEOF(_))) => {}
                // Told by the client already, with its reason.
                Some(Err(_)) => break,
                None => break,
            }
        }
        let told = std::mem::take(&mut *kept(&ours.untold));
        let (incarnation, me) = (ours.incarnation, ours.me);
        // While we wait for brokers the log may be closed.
        drop(ours);
        if let Err(error) = tell(&senders, &topic, (incarnation, me), &told).await {
            tracing::debug!(%error, "progress is told later");
            if let Some(ours) = progress.upgrade() {
                let mut untold = kept(&ours.untold);
                for (at, reached) in told {
                    untold.entry(at).or_insert(reached);
                }
            }
        }
        tokio::time::sleep(BEAT).await;
    }
}

async fn tell(
    senders: &Senders,
    topic: &str,
    (incarnation, me): (Incarnation, [u8; 8]),
    told: &BTreeMap<At, Reached>,
) -> Result<(), LogError> {
    let records: Vec<_> = told
        .iter()
        .map(|(at, reached)| (*at, pack(incarnation, *reached, me)))
        .collect();
    let messages = records.iter().map(|((output, partition), value)| Message {
        topic,
        partition: *partition,
        key: output.name().as_bytes(),
        value: Some(value),
        origin: None,
        appended_at: None,
        schema: None,
    });
    senders.now()?.send(messages).await.map(drop)
}

#[cfg(test)]
mod tests {
    use schemas::ids::EventId;

    use super::*;

    const AT: At = (Topic::Alerts, 3);

    fn reached(journal: Offset, end: Offset) -> Reached {
        Reached { journal, end }
    }

    #[test]
    fn only_what_is_further_is_news_and_only_our_own_is_told() {
        let ours = EventId([1; 16]);
        let (me, another) = ([7; 8], [8; 8]);
        let pack = |incarnation, reached| super::pack(incarnation, reached, another);
        let progress = Progress {
            incarnation: ours,
            me,
            others: Mutex::default(),
            known: Mutex::default(),
            untold: Mutex::default(),
            standing: Arc::default(),
        };
        let key = Some(Topic::Alerts.name().as_bytes());
        assert_eq!(progress.of(AT), reached(0, 0));
        progress.take(key, Some(&pack(ours, reached(7, 2))), 3);
        progress.take(key, Some(&pack(ours, reached(5, 1))), 3);
        progress.take(key, Some(&pack(EventId([2; 16]), reached(90, 9))), 3);
        progress.take(Some(b"fajma.else"), Some(&pack(ours, reached(90, 9))), 3);
        progress.take(key, Some(b"short"), 3);
        progress.take(key, None, 3);
        assert_eq!(progress.of(AT), reached(7, 2));
        // The last word of somebody else, be it less; our own comes back too.
        assert_eq!(progress.others(AT).map(|(word, _)| word), Some(5));
        progress.take(key, Some(&super::pack(ours, reached(7, 2), me)), 3);
        assert_eq!(progress.others(AT).map(|(word, _)| word), Some(5));
        assert!(kept(&progress.untold).is_empty());
        for (told, known) in [((6, 2), (7, 2)), ((8, 4), (8, 4)), ((8, 5), (8, 5)), ((9, 5), (9, 5))] {
            progress.advance(AT, reached(told.0, told.1));
            assert_eq!(progress.of(AT), reached(known.0, known.1));
        }
        assert_eq!(kept(&progress.untold).get(&AT), Some(&reached(9, 5)));
    }

    #[test]
    fn where_the_log_stands_is_heard_by_those_who_have_it_open() {
        let progress = Progress {
            incarnation: EventId([1; 16]),
            me: [7; 8],
            others: Mutex::default(),
            known: Mutex::default(),
            untold: Mutex::default(),
            standing: Arc::default(),
        };
        let standing = || progress.standing.read().unwrap().clone();
        progress.take_standing(Some(STANDING), Some(b"neither this nor that"));
        progress.take_standing(Some(b"fajma.alerts"), Some(b"left x"));
        assert_eq!(standing(), Standing::Serving);
        progress.take_standing(Some(STANDING), Some(b"left x"));
        assert_eq!(standing(), Standing::Left { to: "x".to_owned() });
    }
}
