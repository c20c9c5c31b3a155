//! Who of several processes works on which partitions: a consumer group of Kafka hands them out.
//!
//! Only the handing out is used: positions are where processors and views keep them (what the group shows as committed is
//! a [mirror](super::mirror)), and a process that still works on a
//! partition for a moment after another has got it does no harm (the origin rule).

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rdkafka::client::{ClientContext, OAuthToken};
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext, Rebalance};
use rdkafka::error::KafkaError;
use tokio::sync::watch;

use super::contact::Contact;
use super::mirror::Mirror;
use super::{Kafka, failed};
use crate::{LogError, Partition, Topic};

/// How often the group is looked after.
const POLL: Duration = Duration::from_millis(100);

/// The partitions that are this process's now.
#[derive(Debug)]
pub struct Share {
    /// Changes whenever the group hands out anew.
    pub partitions: watch::Receiver<BTreeSet<Partition>>,
    left: Arc<AtomicBool>,
}

impl Drop for Share {
    fn drop(&mut self) {
        self.left.store(true, Ordering::Release);
    }
}

struct Member {
    contact: Contact,
    mine: watch::Sender<BTreeSet<Partition>>,
    journal: String,
    /// Told only where it differs.
    last: Mutex<BTreeSet<Partition>>,
}

impl Member {
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
        if let Ok(mut last) = self.last.lock()
            && *last != mine
        {
            last.clone_from(&mine);
            self.mine.send_replace(mine);
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
}

impl ConsumerContext for Member {
    fn post_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        if let Rebalance::Error(error) = rebalance {
            tracing::warn!(%error, "Kafka's group");
        }
        self.tell(consumer);
    }
}

impl Kafka {
    /// Joins those who share the partitions of the journal under this name. The share is empty until the group has
    /// handed out; leaving is dropping it. Where they are processors the group's committed offsets follow how far these
    /// have come, for tools that show lag.
    ///
    /// # Errors
    /// [`LogError::Unavailable`].
    pub fn share(&self, name: &str, processors: bool) -> Result<Share, LogError> {
        let options = &self.0.options;
        let (mine, partitions) = watch::channel(BTreeSet::new());
        let left = Arc::new(AtomicBool::new(false));
        let journal = options.topic(Topic::Journal);
        let contact = Contact::new(&options.access);
        let member = Member {
            contact: contact.clone(),
            mine,
            journal: journal.clone(),
            last: Mutex::default(),
        };
        let group = format!("{}-{name}", options.prefix);
        let mut config = options.member(&group);
        options.access.apply(&mut config)?;
        let consumer: BaseConsumer<Member> = config.create_with_context(member).map_err(|e| failed(&e))?;
        contact.introduce(consumer.client())?;
        consumer.subscribe(&[&journal]).map_err(|e| failed(&e))?;
        let gone = Arc::clone(&left);
        let mirror = processors.then(|| Mirror::new(Arc::clone(&self.0.progress), journal));
        let shared = partitions.clone();
        std::thread::Builder::new()
            .name(format!("kafka-{name}"))
            .spawn(move || look_after(&consumer, &gone, mirror, &shared))
            .map_err(|e| LogError::Unavailable(e.to_string()))?;
        Ok(Share { partitions, left })
    }
}

fn look_after(
    consumer: &BaseConsumer<Member>,
    left: &AtomicBool,
    mut mirror: Option<Mirror>,
    mine: &watch::Receiver<BTreeSet<Partition>>,
) {
    while !left.load(Ordering::Acquire) {
        // Nothing is delivered through it; what is wrong is told by the client, with its reason.
        drop(consumer.poll(POLL));
        if let Some(mirror) = &mut mirror {
            mirror.tell(consumer, &mine.borrow());
        }
    }
    // Leaving at once hands the partitions on at once.
    consumer.unsubscribe();
}
