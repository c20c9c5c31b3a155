//! A processor's place in the model.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use async_trait::async_trait;
use bytes::Bytes;
use schemas::derived::Origin;
use smol_str::SmolStr;

use super::cluster::{Claimed, PlaceName};
use super::{Model, Rules, check_size};
use crate::origin::{self, Step};
use crate::{LogError, Offset, Partition, Shelf, Stored, Topic, Work, Workspace};

/// States by key.
type States = RwLock<BTreeMap<SmolStr, Stored>>;

#[derive(Debug)]
pub(super) struct Place {
    model: Model,
    name: PlaceName,
    writer: u64,
    states: Arc<States>,
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
            states: Arc::new(RwLock::new(claimed.states)),
            position: claimed.position,
            context: claimed.context,
            last: claimed.last,
            broken: false,
        }
    }

    fn check(&self, work: &Work) -> Result<(), LogError> {
        let ours = self.model.0.layout.incarnation;
        for output in &work.outputs {
            if output.origin.incarnation != ours {
                return Err(LogError::OtherIncarnation {
                    expected: output.origin.incarnation,
                    found: ours,
                });
            }
            check_size(&output.key, &output.value)?;
        }
        if work.outputs.is_sorted_by(|a, b| a.origin < b.origin) {
            Ok(())
        } else {
            Err(LogError::Misuse("outputs are not in origin order".to_owned()))
        }
    }

    fn write(&mut self, work: Work) -> Result<(), LogError> {
        self.check(&work)?;
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
            let mut known = self.states.write().unwrap_or_else(PoisonError::into_inner);
            known.extend(states);
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
        Arc::new(Restored(Arc::clone(&self.states)))
    }

    async fn commit(&mut self, work: Work) -> Result<(), LogError> {
        if self.broken {
            return Err(LogError::Misuse(
                "nothing may be committed after an error: claim again".to_owned(),
            ));
        }
        let done = self.write(work);
        self.broken = done.is_err();
        done
    }
}

/// States as of this owner's last checkpoint.
struct Restored(Arc<States>);

impl Shelf for Restored {
    fn get(&self, key: &str) -> Result<Option<Stored>, LogError> {
        let states = self.0.read().unwrap_or_else(PoisonError::into_inner);
        Ok(states.get(key).cloned())
    }

    fn visit(&self, each: &mut dyn FnMut(&str, Stored)) -> Result<(), LogError> {
        // A copy: `each` may come back to this shelf.
        let states = self.0.read().unwrap_or_else(PoisonError::into_inner).clone();
        for (key, stored) in states {
            each(&key, stored);
        }
        Ok(())
    }
}
