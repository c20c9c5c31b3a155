//! The only owner of some partitions is killed (-9) again and again under a steady load of device alarms: how long the next
//! alert takes, by who is there to take over; and that nothing is missing then, nor there twice.

use std::time::Duration;

use eventlog::{Clock, SystemClock};
use schemas::time::{Span, Timestamp};
use tokio::time::sleep;

use super::rebalance::Stretch;
use super::{Outcome, Plan, Shared, Ward};

/// Longer than a group waits for a member, and what follows from that.
const OVER: Duration = Duration::from_secs(12);
/// A group hears of its members every 1.5 s and waits 6 s: a partition whose next alert came sooner was another's.
const ITS_OWN: Span = Span::seconds(4);
/// How likely a device alarms at a beat.
const ALARMS: f64 = 0.075;

/// Who takes over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waiting {
    /// A standby beside it.
    Standby,
    /// A second member of its group, which has the other half of the partitions.
    Member,
    /// Nobody: it is started again at once, under the name that it had.
    Itself,
}

impl Waiting {
    /// Each of them.
    pub const ALL: [Self; 3] = [Self::Standby, Self::Member, Self::Itself];

    /// In words.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Standby => "a standby beside it",
            Self::Member => "a second member of the group (the partitions of the one that was killed)",
            Self::Itself => "nobody: started again at once under its name",
        }
    }

    fn plan(self, plan: &Plan) -> Plan {
        let name = format!("{self:?}").to_lowercase();
        let shared = plan.shared.as_ref().map(|shared| Shared {
            log: format!("{}_{name}", shared.log),
            views: format!("{}_{name}", shared.views),
        });
        Plan {
            data: plan.data.join(name),
            shared,
            processors: if self == Self::Member { 2 } else { 1 },
            alarms: ALARMS,
            named: self == Self::Itself,
            ..plan.clone()
        }
    }
}

/// Kills it [`Plan::kills`] times, with `each` between; a stretch for each partition, and one for all.
///
/// # Errors
/// The promises that were broken, or what kept them from being looked at.
pub async fn run(plan: &Plan, waiting: Waiting, each: Duration) -> Result<(Outcome, Vec<Stretch>), String> {
    let plan = waiting.plan(plan);
    let mut ward = Ward::open(&plan).await?;
    if waiting == Waiting::Standby {
        ward.fleet.add(&plan, "standby", None)?;
    }
    let mut kills = Vec::new();
    for kill in 1..=plan.kills {
        sleep(each).await;
        ward.fleet.kill("process")?;
        kills.push(SystemClock.now());
        tracing::info!(kill, "processor killed");
        if waiting != Waiting::Itself {
            sleep(OVER).await;
        }
        ward.fleet.again("process").await?;
        sleep(OVER).await;
    }
    let (outcome, evidence) = ward.close().await?;
    let mut all = Vec::new();
    let mut stretches = Vec::new();
    for (partition, part) in evidence.parts.iter().enumerate() {
        let mut took: Vec<Span> = kills.iter().filter_map(|at| next(*at, &part.took)).collect();
        if waiting == Waiting::Member {
            took.retain(|took| *took >= ITS_OWN);
        }
        took.sort();
        all.extend_from_slice(&took);
        let name = format!("partition {partition}");
        stretches.push(Stretch { name, took });
    }
    all.sort();
    let name = "all of them".to_owned();
    stretches.push(Stretch { name, took: all });
    Ok((outcome, stretches))
}

/// From a moment on until there is an alert of what the log took since then.
fn next(since: Timestamp, took: &[(Timestamp, Span)]) -> Option<Span> {
    let later = took.iter().filter(|(at, _)| *at > since);
    later.map(|(at, took)| *at + *took - since).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_alert_is_of_what_came_after() {
        let at = |seconds| Timestamp::default() + Span::seconds(seconds);
        let took = [
            (at(1), Span::seconds(9)),
            (at(5), Span::seconds(4)),
            (at(6), Span::seconds(1)),
            (at(7), Span::seconds(3)),
        ];
        assert_eq!(next(at(3), &took), Some(Span::seconds(4)));
        assert_eq!(next(at(6), &took), Some(Span::seconds(4)));
        assert_eq!(next(at(7), &took), None);
    }
}
