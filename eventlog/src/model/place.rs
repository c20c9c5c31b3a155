//! A processor's place in the model.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use schemas::derived::Origin;

use super::cluster::{Claimed, PlaceName};
use super::{Model, Rules, check_size};
use crate::origin::{self, Step};
use crate::{LogError, MemoryShelf, Offset, Partition, Shelf, Shelving, Topic, Work, Workspace, check};

#[derive(Debug)]
pub(super) struct Place {
    model: Model,
    name: PlaceName,
    writer: u64,
    states: MemoryShelf,
    position: Offset,
    context: Bytes,
    last: Option<Origin>,
    broken: bool,
}

impl Place {
    pub(super) fn new(
        model: Model,
        (processor, output, partition): (&str, Topic, Partition),
        claimed: Claimed,
    ) -> Self {
        Self {
            model,
            name: PlaceName {
                processor: processor.into(),
                output,
                partition,
            },
            writer: claimed.writer,
            states: MemoryShelf::new(claimed.states),
            position: claimed.position,
            context: claimed.context,
            last: claimed.last,
            broken: false,
        }
    }

    fn write(&mut self, work: Work) -> Result<(), LogError> {
        work.check(self.model.0.layout.incarnation, |key, value| check_size(key, value))?;
        let reached = work.reached;
        let last = work.outputs.last().map(|output| output.origin.clone());
        let saved = work
            .checkpoint
            .as_ref()
            .map(|c| (c.position, c.context.clone(), c.states.clone()));
        let now = self.model.0.clock.now();
        let mut cluster = self.model.tick();
        let steps = broken_plan(work, &cluster.rules);
        cluster.run(&self.name, self.writer, steps, now)?;
        cluster.advance(&self.name, reached);
        drop(cluster);
        self.model.0.written.send_modify(|n| *n += 1);
        if last > self.last {
            self.last = last;
        }
        if let Some((position, context, states)) = saved {
            (self.position, self.context) = (position, context);
            self.states
                .put(states.into_iter().map(|(key, stored)| (key, Some(stored))).collect())?;
        }
        Ok(())
    }
}

/// The plan of a commit, with what `rules` leaves out done wrongly.
fn broken_plan(work: Work, rules: &Rules) -> Vec<Step> {
    let mut plan = origin::plan(work);
    let outputs = plan.partition_point(|step| step.stage() == 0);
    if !rules.in_order {
        plan[..outputs].reverse();
    }
    if !rules.states_first && plan.len() > outputs {
        plan[outputs..].rotate_right(1);
    }
    if !rules.outputs_first {
        plan.rotate_left(outputs);
    }
    plan
}

#[async_trait]
impl Workspace for Place {
    fn position(&self) -> Offset {
        self.position
    }

    fn context(&self) -> Bytes {
        self.context.clone()
    }

    fn last_origin(&self) -> Option<&Origin> {
        self.last.as_ref()
    }

    fn shelf(&self) -> Arc<dyn Shelf> {
        Arc::new(self.states.clone())
    }

    async fn commit(&mut self, work: Work) -> Result<(), LogError> {
        check::unbroken(self.broken)?;
        let done = self.write(work);
        self.broken = done.is_err();
        done
    }
}
