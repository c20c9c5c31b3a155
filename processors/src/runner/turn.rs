//! One turn of a task: what there is to read is handled and what follows is committed; where there is nothing, it waits.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use eventlog::{Limit, Offset, Topic};
use schemas::journal::Recorded;
use tokio::time::Instant;

use super::place::{Bad, End, Keeper, Life};

/// A batch is small below this part of what is read at once.
const FEW: usize = 4;

impl Keeper {
    /// Reads and handles what there is, or waits.
    pub(super) async fn turn(&self, life: &mut Life) -> Result<(), End> {
        let reading = self
            .log
            .read(Topic::Journal, self.partition, life.cursor, self.options.read);
        let batch = self.unless_shutdown(reading).await?;
        let Some(next) = batch.next() else {
            return self.idle(life).await;
        };
        match batch.facts(&self.options.catalogue) {
            Ok(records) => self.advance(life, records, next).await?,
            Err(unreadable) if life.decided.skips.contains(&unreadable.offset) || unreadable.offset > life.cursor => {
                let before = batch
                    .entries()
                    .iter()
                    .take_while(|e| e.offset < unreadable.offset)
                    .count();
                if before == 0 {
                    life.cursor = unreadable.offset + 1;
                } else {
                    let limit = Limit {
                        records: before,
                        ..self.options.read
                    };
                    let part = self
                        .log
                        .read(Topic::Journal, self.partition, life.cursor, limit)
                        .await?;
                    if let (Ok(records), Some(next)) = (part.facts(&self.options.catalogue), part.next()) {
                        self.advance(life, records, next).await?;
                    }
                }
            }
            Err(unreadable) => {
                return Err(End::Stopped(Bad {
                    offset: unreadable.offset,
                    unread: true,
                    reason: unreadable.to_string(),
                }));
            }
        }
        self.look(life).await;
        if batch.entries().len() < self.options.read.records / FEW {
            self.gather().await?;
        }
        Ok(())
    }

    /// Handles as many of the records as it may now; `next` comes behind them.
    async fn advance(&self, life: &mut Life, records: &[Recorded], next: Offset) -> Result<(), End> {
        let may = self.may_handle(life, records).await?;
        self.handle(life, &records[..may]).await?;
        let rest = records.get(may).map(|first| first.offset);
        life.cursor = rest.unwrap_or_else(|| next.max(life.task.position()));
        Ok(())
    }

    /// Lets more records come where nobody is waiting for what follows from them: many at once cost little more than one.
    async fn gather(&self) -> Result<(), End> {
        if self.kind.urgent || self.options.gather.is_zero() {
            return Ok(());
        }
        let pause = async {
            tokio::time::sleep(self.options.gather).await;
            Ok(())
        };
        self.unless_shutdown(pause).await
    }

    /// Hands records to the task and commits what follows, at once.
    async fn handle(&self, life: &mut Life, records: &[Recorded]) -> Result<(), End> {
        let stop_at = life.bad.as_ref().map_or(Offset::MAX, |bad| bad.offset);
        let mut rest = &records[..records.partition_point(|r| r.offset < stop_at)];
        let reaches_bad = rest.len() < records.len();
        while !rest.is_empty() {
            let work = match catch_unwind(AssertUnwindSafe(|| life.task.handle(rest))) {
                Ok(work) => work?,
                Err(panic) => {
                    return Err(End::Panicked(Bad {
                        offset: life.task.at_hand(),
                        unread: false,
                        reason: format!("the processor panicked: {}", said(&*panic)),
                    }));
                }
            };
            let done = rest.partition_point(|r| r.offset < work.reached);
            metrics::counter!(crate::metrics::HANDLED, "processor" => self.kind.name).increment(done as u64);
            rest = &rest[done..];
            if work.checkpoint.is_some() {
                self.saved(life).await?;
            }
            self.commit(life, work, false).await?;
            self.save(life).await?;
            tokio::task::yield_now().await;
        }
        match life.bad.take_if(|_| reaches_bad) {
            Some(bad) => Err(End::Stopped(bad)),
            None => Ok(()),
        }
    }

    /// Nothing to read: takes the word if it is not ours yet, saves what is due, waits.
    async fn idle(&self, life: &mut Life) -> Result<(), End> {
        self.options
            .board
            .change(self.kind.name, self.partition, |status| status.lag = 0);
        if !life.task.speaks() && !self.options.standby && !life.asked {
            self.ask_for_the_word(life).await?;
            return Ok(());
        }
        self.save(life).await?;
        let wait = self.log.wait(Topic::Journal, self.partition, life.cursor);
        let wait = tokio::time::timeout(self.options.checkpoint_every, wait);
        self.unless_shutdown(async { wait.await.unwrap_or(Ok(())) }).await
    }

    /// About once a second: how far behind.
    async fn look(&self, life: &mut Life) {
        if life.looked.elapsed() < Duration::from_secs(1) {
            return;
        }
        life.looked = Instant::now();
        let (processor, partition) = (self.kind.name, self.partition);
        let Ok(bounds) = self.log.bounds(Topic::Journal, partition).await else {
            return;
        };
        let lag = u64::try_from(bounds.end - life.cursor).unwrap_or(0);
        self.options
            .board
            .change(processor, partition, |status| status.lag = lag);
        metrics::gauge!(crate::metrics::LAG, "processor" => processor, "partition" => partition.to_string())
            .set(lag as f64);
        metrics::gauge!(crate::metrics::RESIDENT, "processor" => processor, "partition" => partition.to_string())
            .set(life.task.resident() as f64);
    }
}

fn said(panic: &(dyn std::any::Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("without a word")
}
