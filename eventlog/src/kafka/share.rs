//! Who of several processes works on which partitions: a consumer group of Kafka hands them out.
//!
//! Only the handing out is used: positions are where processors and views keep them (what the group shows as committed is
//! a [mirror](super::mirror)), and a process that still works on a
//! partition for a moment after another has got it does no harm (the origin rule).
//!
//! A member that has a name ([`Options::instance`](super::Options)) does not leave when it ends: whoever comes back under it
//! before the group's patience is over finds its partitions as they were. Of two processes with one name the group knows the
//! later one; the earlier is told so, works no further and does not join again, or the two would take turns for ever.
//!
//! A client that has lost its group may stay outside without a word, with brokers that are well: its partitions would be
//! nobody's. So it says every second how it stands, and one that has not been in its group for long is given up for another.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use rdkafka::Statistics;
use rdkafka::client::{ClientContext, OAuthToken};
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext, Rebalance};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use tokio::sync::watch;
use tokio::time::Instant;

use super::contact::Contact;
use super::mirror::Mirror;
use super::{Inner, Kafka, failed};
use crate::{LogError, Partition, Topic};

/// How often the group is looked after.
const POLL: Duration = Duration::from_millis(100);
/// A look that took longer counts for no more: the process stood still, and so did what it could have heard.
const LOOK: Duration = Duration::from_secs(1);

/// The partitions that are this process's now.
#[derive(Debug)]
pub struct Share {
    /// Changes whenever the group hands out anew.
    pub partitions: watch::Receiver<BTreeSet<Partition>>,
    left: Arc<AtomicBool>,
    ended: Arc<OnceLock<String>>,
    handed: Arc<AtomicU64>,
}

impl Share {
    /// Why the group hands out nothing any more, once [`partitions`](Self::partitions) is closed.
    #[must_use]
    pub fn why_ended(&self) -> String {
        self.ended.get().map_or("the group is gone", String::as_str).to_owned()
    }

    /// How often the group has handed out to this member, or taken from it, be it nothing.
    #[must_use]
    pub fn handed_out(&self) -> u64 {
        self.handed.load(Ordering::Acquire)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.left.store(true, Ordering::Release);
    }
}

struct Member {
    contact: Contact,
    /// Nobody, once the member is given up: the client itself may take long to end.
    mine: Mutex<Option<watch::Sender<BTreeSet<Partition>>>>,
    handed: Arc<AtomicU64>,
    journal: String,
    stands: Mutex<Stands>,
}

/// How a member stands in its group.
#[derive(Default)]
struct Stands {
    /// How long it has been looked after since it was last known to be in it.
    outside: Duration,
    /// What the client said last.
    said: String,
}

impl Stands {
    fn hear(&mut self, state: &str, join_state: &str) {
        if (state, join_state) == ("up", "steady") {
            self.outside = Duration::ZERO;
        }
        self.said = format!("{state}, {join_state}");
    }

    /// Why it is to be given up, where it is, after another look.
    fn outside(&mut self, look: Duration, patience: Duration) -> Option<String> {
        self.outside += look.min(LOOK);
        (self.outside >= patience).then(|| {
            format!(
                "this process has not been in its group for {} s (the client: {}): it joins again",
                self.outside.as_secs(),
                self.said
            )
        })
    }
}

impl Member {
    fn stands(&self) -> MutexGuard<'_, Stands> {
        self.stands.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn mine(&self) -> MutexGuard<'_, Option<watch::Sender<BTreeSet<Partition>>>> {
        self.mine.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, consumer: &BaseConsumer<Self>) {
        let Ok(assigned) = consumer.assignment() else { return };
        // Nothing is read through the group.
        if let Err(error) = consumer.pause(&assigned) {
            tracing::warn!(%error, "Kafka");
        }
        let mine: BTreeSet<Partition> = assigned
            .elements_for_topic(&self.journal)
            .iter()
            .filter_map(|element| Partition::try_from(element.partition()).ok())
            .collect();
        if let Some(told) = &*self.mine() {
            // Only where it differs.
            told.send_if_modified(|known| {
                let differs = *known != mine;
                *known = mine;
                differs
            });
        }
    }
}

impl ClientContext for Member {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn error(&self, error: KafkaError, reason: &str) {
        self.contact.error(error, reason);
    }

    fn generate_oauth_token(&self, config: Option<&str>) -> Result<OAuthToken, Box<dyn std::error::Error>> {
        self.contact.generate_oauth_token(config)
    }

    fn stats(&self, statistics: Statistics) {
        if let Some(group) = &statistics.cgrp {
            self.stands().hear(&group.state, &group.join_state);
        }
    }
}

impl ConsumerContext for Member {
    fn post_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        if let Rebalance::Error(error) = rebalance {
            tracing::warn!(%error, "Kafka's group");
        }
        self.handed.fetch_add(1, Ordering::AcqRel);
        self.tell(consumer);
    }
}

impl Kafka {
    /// Joins those who share the partitions of the journal under this name. The share is empty until the group has
    /// handed out; leaving is dropping it. Where they are processors the group's committed offsets follow how far these
    /// have come, for tools that show lag.
    ///
    /// # Errors
    /// [`LogError::Unavailable`]; [`LogError::Fenced`] where another process has taken our name in this group.
    pub fn share(&self, name: &str, processors: bool) -> Result<Share, LogError> {
        let options = &self.0.options;
        let fenced = self.0.fenced.lock().unwrap_or_else(PoisonError::into_inner);
        if fenced.contains(name) {
            return Err(LogError::Fenced);
        }
        drop(fenced);
        let (mine, partitions) = watch::channel(BTreeSet::new());
        let (left, handed, ended) = (Arc::new(AtomicBool::new(false)), Arc::default(), Arc::default());
        let journal = options.topic(Topic::Journal);
        let contact = Contact::new(&options.access);
        let member = Member {
            contact: contact.clone(),
            mine: Mutex::new(Some(mine)),
            handed: Arc::clone(&handed),
            journal: journal.clone(),
            stands: Mutex::default(),
        };
        let group = format!("{}-{name}", options.prefix);
        let mut config = options.member(&group);
        options.access.apply(&mut config)?;
        let consumer: BaseConsumer<Member> = config.create_with_context(member).map_err(|e| failed(&e))?;
        contact.introduce(consumer.client())?;
        consumer.subscribe(&[&journal]).map_err(|e| failed(&e))?;
        let mirror = processors.then(|| Mirror::new(Arc::clone(&self.0.progress), journal));
        let look = Look {
            consumer,
            left: Arc::clone(&left),
            mirror,
            mine: partitions.clone(),
            inner: Arc::clone(&self.0),
            ended: Arc::clone(&ended),
            name: name.to_owned(),
        };
        std::thread::Builder::new()
            .name(format!("kafka-{name}"))
            .spawn(move || look.after())
            .map_err(|e| LogError::Unavailable(e.to_string()))?;
        Ok(Share {
            partitions,
            left,
            ended,
            handed,
        })
    }
}

/// What the thread needs that looks after a membership.
struct Look {
    consumer: BaseConsumer<Member>,
    left: Arc<AtomicBool>,
    mirror: Option<Mirror>,
    mine: watch::Receiver<BTreeSet<Partition>>,
    inner: Arc<Inner>,
    ended: Arc<OnceLock<String>>,
    name: String,
}

impl Look {
    fn after(mut self) {
        while !self.left.load(Ordering::Acquire) {
            // Nothing is delivered through it; what is wrong is told by the client, with its reason.
            let began = Instant::now();
            drop(self.consumer.poll(POLL));
            if let Some((code, reason)) = self.consumer.client().fatal_error() {
                return self.end(self.fenced(code).unwrap_or(reason));
            }
            let patience = self.inner.options.failover;
            let outside = self.consumer.context().stands().outside(began.elapsed(), patience);
            if let Some(why) = outside {
                return self.end(why);
            }
            if let Some(mirror) = &mut self.mirror {
                mirror.tell(&self.consumer, &self.mine.borrow());
            }
        }
        if self.inner.options.instance.is_none() {
            // Leaving at once hands the partitions on at once; whoever has a name is expected back.
            self.consumer.unsubscribe();
        }
    }

    /// Why it ends, where another process has its name; notes it, so that it does not join again.
    fn fenced(&self, code: RDKafkaErrorCode) -> Option<String> {
        if code != RDKafkaErrorCode::FencedInstanceId {
            return None;
        }
        let mut fenced = self.inner.fenced.lock().unwrap_or_else(PoisonError::into_inner);
        fenced.insert(self.name.clone());
        Some(format!(
            "another process has joined the group {}-{} as {:?} and has our partitions: give each process a name of its own \
             (log.instance) and start this one again",
            self.inner.options.prefix,
            self.name,
            self.inner.options.instance.as_deref().unwrap_or_default(),
        ))
    }

    fn end(&self, why: String) {
        tracing::error!("Kafka's group: {why}");
        drop(self.ended.set(why));
        drop(self.consumer.context().mine().take());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_that_is_not_in_its_group_for_long_is_given_up_and_one_that_stood_still_is_not() {
        let (patience, mut stands) = (3 * LOOK, Stands::default());
        stands.hear("up", "steady");
        assert_eq!(stands.outside(60 * LOOK, patience), None, "one look");
        stands.hear("up", "wait-join");
        assert_eq!(stands.outside(LOOK, patience), None);
        stands.hear("up", "steady");
        assert_eq!(stands.outside(LOOK, patience), None);
        stands.hear("wait-broker-transport", "init");
        assert_eq!(stands.outside(LOOK, patience), None);
        let why = stands.outside(LOOK, patience).unwrap_or_default();
        assert!(
            why.contains("3 s") && why.contains("wait-broker-transport, init"),
            "{why}"
        );
    }
}
