//! Work on the partitions that are this process's: all of them where it is alone, else those that the group hands it.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::sync::Arc;

use eventlog::kafka::Kafka;
use eventlog::{LogError, Partition};
use tokio::task::{Id, JoinSet};
use tokio_util::sync::CancellationToken;

/// Works on some partitions (`None`: all) until it is told to end.
pub(super) type Work = Arc<dyn Fn(Option<Vec<Partition>>, CancellationToken) -> Working + Send + Sync>;
type Working = Pin<Box<dyn Future<Output = Result<(), String>> + Send>>;

/// Partitions under way.
#[derive(Default)]
struct UnderWay {
    tasks: JoinSet<Result<(), String>>,
    stops: BTreeMap<Partition, (CancellationToken, Id)>,
}

impl UnderWay {
    /// Works on these and no others.
    fn change(&mut self, to: &BTreeSet<Partition>, work: &Work, until: &CancellationToken) {
        self.stops.retain(|partition, (stop, _)| {
            let stays = to.contains(partition);
            if !stays {
                stop.cancel();
            }
            stays
        });
        for partition in to {
            if !self.stops.contains_key(partition) {
                let stop = until.child_token();
                let task = self.tasks.spawn(work(Some(vec![*partition]), stop.clone()));
                self.stops.insert(*partition, (stop, task.id()));
            }
        }
    }

    /// Ends everything, and waits for it.
    async fn end(&mut self) -> Result<(), String> {
        self.stops.values().for_each(|(stop, _)| stop.cancel());
        let mut ended = Ok(());
        while let Some(one) = self.tasks.join_next().await {
            let one = one.map_err(|e| e.to_string()).and_then(|one| one);
            ended = ended.and(one);
        }
        ended
    }
}

/// Works until `until`, or until a partition's work fails.
///
/// # Errors
/// The work's, or why there is no group.
pub(super) async fn run(
    name: &'static str,
    kafka: Option<Arc<Kafka>>,
    work: Work,
    until: CancellationToken,
) -> Result<(), String> {
    let Some(kafka) = kafka else {
        return work(None, until).await;
    };
    let mut share = kafka.share(name, name == "process").map_err(|error| match error {
        LogError::Fenced => "another process has this one's name in the group (log.instance)".to_owned(),
        other => other.to_string(),
    })?;
    let mut under_way = UnderWay::default();
    loop {
        let mine = share.partitions.borrow_and_update().clone();
        tracing::info!(role = name, partitions = ?mine, "works on");
        under_way.change(&mine, &work, &until);
        let failed = loop {
            tokio::select! {
                () = until.cancelled() => break Some(Ok(())),
                changed = share.partitions.changed() => match changed {
                    Ok(()) => break None,
                    Err(_) => break Some(Err(share.why_ended())),
                },
                Some(ended) = under_way.tasks.join_next_with_id() => match ended {
                    // One that was taken from us, and ended well.
                    Ok((id, Ok(()))) if under_way.stops.values().all(|(_, known)| *known != id) => {}
                    Ok((_, Ok(()))) => break Some(Err("the work on a partition ended".to_owned())),
                    Ok((_, Err(why))) => break Some(Err(why)),
                    Err(died) => break Some(Err(died.to_string())),
                },
            }
        };
        if let Some(ended) = failed {
            let others = under_way.end().await;
            return ended.and(others);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[tokio::test]
    async fn what_is_kept_goes_on_while_others_change_hands() {
        let begun = Arc::new(Mutex::new(Vec::new()));
        let told = Arc::clone(&begun);
        let work: Work = Arc::new(move |partitions, until| {
            told.lock().unwrap().push(partitions.unwrap()[0]);
            Box::pin(async move {
                until.cancelled().await;
                Ok(())
            })
        });
        let until = CancellationToken::new();
        let mut under_way = UnderWay::default();
        for to in [&[0, 1, 2][..], &[1, 2, 3], &[1], &[0, 1]] {
            under_way.change(&to.iter().copied().collect(), &work, &until);
            assert_eq!(under_way.stops.keys().copied().collect::<Vec<_>>(), to);
        }
        assert_eq!(*begun.lock().unwrap(), [0, 1, 2, 3, 0]);
        under_way.end().await.unwrap();
        assert!(under_way.tasks.is_empty());
    }
}
