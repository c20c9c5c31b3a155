//! Filling a target, reading it back, and letting it take over.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::sum::Summing;
use super::{Arriving, Carriable, Sum};
use crate::{Bounds, Limit, LogError, Partition, Standing, Topic};

/// So many partitions are under way at once.
const AT_ONCE: usize = 4;
/// How much of a partition is read and put at once.
const PIECE: Limit = Limit {
    records: 32_768,
    bytes: 8 << 20,
};

type At = (Topic, Partition);

/// How many records have been put, and how many read back, while it goes on.
#[derive(Debug, Default)]
pub struct Counters {
    /// Put into the target.
    pub put: AtomicU64,
    /// Read back from it.
    pub read_back: AtomicU64,
}

/// One partition of a topic, as it was carried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// The topic.
    pub topic: Topic,
    /// The partition.
    pub partition: Partition,
    /// What it holds, equal in both places.
    pub sum: Sum,
}

/// What was carried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Carried {
    /// Every partition of every topic.
    pub parts: Vec<Part>,
    /// States of processors.
    pub states: u64,
}

/// Fills `to` with all that `from` holds, reads it back, and compares. The target is whole then, and still
/// [`Standing::Arriving`].
///
/// # Errors
/// Those of both logs; [`LogError::Misuse`] where somebody still appends to `from`; [`LogError::Corrupt`] where what is
/// read back is not what was put.
pub async fn carry(
    from: Arc<dyn Carriable>,
    to: Arc<dyn Arriving>,
    counters: Arc<Counters>,
) -> Result<(Arc<dyn Carriable>, Carried), LogError> {
    let began = Instant::now();
    let ends = ends(&*from).await?;
    let put = {
        let (from, to, counters) = (Arc::clone(&from), Arc::clone(&to), Arc::clone(&counters));
        each(&ends, move |at, bounds| {
            let (from, to, counters) = (Arc::clone(&from), Arc::clone(&to), Arc::clone(&counters));
            async move { put(&*from, &*to, at, bounds, &counters.put).await }
        })
        .await?
    };
    let mut states = 0;
    for (output, partition) in derived(&ends) {
        let saved = from.saved(output, partition).await?;
        states += saved.places.iter().map(|place| place.states.len() as u64).sum::<u64>();
        to.save(output, partition, saved).await?;
    }
    tokio::time::sleep(from.rest().saturating_sub(began.elapsed())).await;
    at_rest(&*from, &ends).await?;

    let arrived = to.open().await?;
    let back = {
        let arrived = Arc::clone(&arrived);
        each(&ends, move |at, _| {
            let (arrived, counters) = (Arc::clone(&arrived), Arc::clone(&counters));
            async move { read_back(&*arrived, at, &counters.read_back).await }
        })
        .await?
    };
    compare(&*from, &*arrived, &ends, (&put, &back)).await?;
    let parts = back
        .into_iter()
        .map(|((topic, partition), sum)| Part { topic, partition, sum });
    let parts = parts.collect();
    Ok((arrived, Carried { parts, states }))
}

/// Lets what arrived take over: first the old place says that it has left, so that at no moment two of them serve. With
/// `copy` the old one goes on serving, and the new one is a copy.
///
/// # Errors
/// [`LogError::Unavailable`], [`LogError::Full`]. Neither may serve then: carry again.
pub async fn hand_over(
    (from, its_name): (&dyn Carriable, &str),
    (to, new_name): (&dyn Carriable, &str),
    copy: bool,
) -> Result<(), LogError> {
    if copy {
        let of = its_name.to_owned();
        return to.stand(Standing::Copy { of }).await;
    }
    let left = new_name.to_owned();
    from.stand(Standing::Left { to: left }).await?;
    to.stand(Standing::Serving).await
}

async fn ends(log: &dyn Carriable) -> Result<BTreeMap<At, Bounds>, LogError> {
    let mut ends = BTreeMap::new();
    for topic in Topic::ALL {
        for partition in 0..topic.partitions(log.layout().partitions) {
            ends.insert((topic, partition), log.bounds(topic, partition).await?);
        }
    }
    Ok(ends)
}

fn derived(ends: &BTreeMap<At, Bounds>) -> impl Iterator<Item = At> {
    ends.keys().copied().filter(|(topic, _)| topic.is_derived())
}

async fn at_rest(log: &dyn Carriable, ends_then: &BTreeMap<At, Bounds>) -> Result<(), LogError> {
    let now = ends(log).await?;
    match now.iter().find(|(at, bounds)| ends_then.get(at) != Some(bounds)) {
        None => Ok(()),
        Some(((topic, partition), _)) => Err(LogError::Misuse(format!(
            "{}/{partition} has changed meanwhile: stop all that writes to it first",
            topic.name()
        ))),
    }
}

/// Does something with every partition, a few at once.
async fn each<F: Future<Output = Result<Sum, LogError>> + Send + 'static>(
    ends: &BTreeMap<At, Bounds>,
    work: impl Fn(At, Bounds) -> F,
) -> Result<BTreeMap<At, Sum>, LogError> {
    let turns = Arc::new(Semaphore::new(AT_ONCE));
    let mut tasks = JoinSet::new();
    for (at, bounds) in ends {
        let (turns, at, work) = (Arc::clone(&turns), *at, work(*at, *bounds));
        tasks.spawn(async move {
            let _turn = turns.acquire().await;
            work.await.map(|sum| (at, sum))
        });
    }
    let mut sums = BTreeMap::new();
    while let Some(done) = tasks.join_next().await {
        let (at, sum) = done.map_err(|e| LogError::Unavailable(e.to_string()))??;
        sums.insert(at, sum);
    }
    Ok(sums)
}

async fn put(
    from: &dyn Carriable,
    to: &dyn Arriving,
    (topic, partition): At,
    bounds: Bounds,
    counter: &AtomicU64,
) -> Result<Sum, LogError> {
    let start = if topic == Topic::Control { 0 } else { bounds.start };
    to.begin(topic, partition, start).await?;
    let mut sum = Summing::of(topic);
    let mut batch = from.read(topic, partition, bounds.start, PIECE).await?;
    while let Some(next) = batch.next() {
        let within = batch.entries().partition_point(|entry| entry.offset < bounds.end);
        let entries = &batch.entries()[..within];
        sum.take(entries);
        let ((), following) = tokio::try_join!(
            to.put(topic, partition, entries),
            from.read(topic, partition, next.min(bounds.end), PIECE)
        )?;
        counter.fetch_add(within as u64, Ordering::Relaxed);
        if next >= bounds.end {
            break;
        }
        batch = following;
    }
    Ok(sum.finish())
}

async fn read_back(log: &dyn Carriable, (topic, partition): At, counter: &AtomicU64) -> Result<Sum, LogError> {
    let bounds = log.bounds(topic, partition).await?;
    let (mut sum, mut from) = (Summing::of(topic), bounds.start);
    while from < bounds.end {
        let batch = log.read(topic, partition, from, PIECE).await?;
        let Some(next) = batch.next() else { break };
        sum.take(batch.entries());
        counter.fetch_add(batch.entries().len() as u64, Ordering::Relaxed);
        from = next;
    }
    Ok(sum.finish())
}

/// Whether the target holds what the source does: records, where partitions begin and end, what was saved.
async fn compare(
    from: &dyn Carriable,
    to: &dyn Carriable,
    ends_there: &BTreeMap<At, Bounds>,
    (put, back): (&BTreeMap<At, Sum>, &BTreeMap<At, Sum>),
) -> Result<(), LogError> {
    let differs = |(topic, partition): At, what: String| {
        let place = topic.name();
        Err(LogError::Corrupt(format!(
            "{place}/{partition} did not arrive as it was: {what}"
        )))
    };
    if from.layout() != to.layout() {
        return Err(LogError::Corrupt(format!(
            "{:?} arrived as {:?}",
            from.layout(),
            to.layout()
        )));
    }
    let ends_here = ends(to).await?;
    for (at, sum) in put {
        if back.get(at) != Some(sum) {
            return differs(*at, format!("{sum:?} was put, {:?} is there", back.get(at)));
        }
        if at.0 != Topic::Control && ends_here.get(at) != ends_there.get(at) {
            return differs(*at, format!("{:?}, not {:?}", ends_here.get(at), ends_there.get(at)));
        }
    }
    for at in derived(ends_there) {
        let (there, here) = (from.saved(at.0, at.1).await?, to.saved(at.0, at.1).await?);
        if (&there.places, there.reached) != (&here.places, here.reached) {
            return differs(at, "what its processors have saved".to_owned());
        }
    }
    Ok(())
}
