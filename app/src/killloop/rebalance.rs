//! One processor, four, two, under a steady load: that every reading was evaluated once, and how long an alert took meanwhile.

use std::time::Duration;

use eventlog::{Clock, SystemClock};
use schemas::time::{Span, Timestamp};
use tokio::time::sleep;

use super::{Outcome, Plan, Ward};

/// After a change, so long counts as during it.
const DURING: Span = Span::seconds(15);

/// How long alerts took in a stretch of time.
#[derive(Debug, Clone)]
pub struct Stretch {
    /// Which.
    pub name: String,
    /// From the log's word on when it took a reading to its word on when it took the change of an alert that followed,
    /// shortest first.
    pub took: Vec<Span>,
}

impl Stretch {
    /// The least time within which that part of them was there.
    #[must_use]
    pub fn within(&self, part: f64) -> Option<Span> {
        let place = (self.took.len() as f64 * part).ceil() as usize;
        self.took.get(place.max(1) - 1).copied()
    }
}

/// Stays so long with each number of processors.
///
/// # Errors
/// The promises that were broken, or what kept them from being looked at.
pub async fn run(plan: &Plan, each: Duration) -> Result<(Outcome, Vec<Stretch>), String> {
    let mut ward = Ward::open(plan).await?;
    sleep(each).await;
    let more = SystemClock.now();
    for _ in 0..3 {
        ward.fleet.add(plan, "process", None)?;
    }
    sleep(each).await;
    let fewer = SystemClock.now();
    ward.fleet.remove("process", 2).await?;
    sleep(each).await;
    let (outcome, evidence) = ward.close().await?;
    let took: Vec<(Timestamp, Span)> = evidence.parts.into_iter().flat_map(|part| part.took).collect();
    let end = Timestamp(i64::MAX);
    let stretches = [
        ("1 processor", Timestamp::MIN, more),
        ("1 → 4, the first 15 s", more, more + DURING),
        ("4 processors", more + DURING, fewer),
        ("4 → 2, the first 15 s", fewer, fewer + DURING),
        ("2 processors", fewer + DURING, end),
    ];
    let of = |(name, from, until): (&'static str, Timestamp, Timestamp)| {
        let within = took.iter().filter(|(at, _)| (from..until).contains(at));
        let mut took: Vec<Span> = within.map(|(_, took)| *took).collect();
        took.sort();
        let name = name.to_owned();
        Stretch { name, took }
    };
    Ok((outcome, stretches.map(of).into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_and_nearly_all_are_counted_from_the_shortest() {
        let stretch = Stretch {
            name: String::new(),
            took: (1..=200).map(Span).collect(),
        };
        assert_eq!(stretch.within(0.5), Some(Span(100)));
        assert_eq!(stretch.within(0.99), Some(Span(198)));
        let none = Stretch {
            took: Vec::new(),
            ..stretch
        };
        assert_eq!(none.within(0.99), None);
    }
}
