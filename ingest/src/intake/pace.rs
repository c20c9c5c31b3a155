//! Doors go no faster than processors: who sends more than can be evaluated waits for the answer, so that no alert
//! stands behind a queue that only grows.
//!
//! Per partition, a message waits while more than so many records are recorded and not yet evaluated. What is not live but may
//! still page somebody waits at half of that. What is past waits at an eighth, comes in small pieces, and while something live
//! comes only so many of them a second (`past.rs`), so that live values overtake a backlog that is being drained, and feel
//! nothing of it. A device's alarm never waits. Recording comes before evaluating: a processor that stands still (stopped, not
//! running, starting) holds nobody up, and no message waits longer than
//! [`Limits::held_at_most`](super::Limits::held_at_most).

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use eventlog::{EventLog, Offset, Partition, Topic};
use schemas::journal::Fact;
use schemas::policy::Policy;
use schemas::time::Span;
use tokio::sync::{Mutex as Turn, Notify};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::Pending;
use super::past::Past;
use crate::metrics;

/// How often it is looked how far processors are.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// A processor that has not come on for so long is not waited for.
const STANDS_STILL: Duration = Duration::from_secs(3);
/// The past waits at this part of what live values wait at.
const PAST_PART: i64 = 8;
/// So many records of the past go at once while something live comes, which has its place in between.
const PAST_AT_ONCE: usize = 8;
/// What was measured so long before it came is not live any more.
const LIVE: Span = Span::seconds(120);
/// What is not live and may page waits at this part of what live values wait at.
const RECENT_PART: i64 = 2;

/// What a message is to those who wait for alerts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Urgency {
    /// It holds a device's alarm.
    Alarm,
    /// It holds something that was measured just now.
    Live,
    /// It holds nothing that was measured just now, and something that may still page somebody.
    Recent,
    /// It holds nothing but the past.
    Past,
}

impl Urgency {
    /// `pages`: how old data may be that pages.
    pub(super) fn of(facts: &[Pending], pages: Span) -> Self {
        if facts.iter().any(|it| matches!(it.envelope.fact, Fact::DeviceAlarm(_))) {
            return Self::Alarm;
        }
        match facts.iter().map(age).min() {
            Some(youngest) if youngest <= LIVE => Self::Live,
            Some(youngest) if youngest <= pages => Self::Recent,
            _ => Self::Past,
        }
    }
}

fn age(fact: &Pending) -> Span {
    fact.envelope.received_at - fact.envelope.measured_at
}

/// How old data may be that pages somebody, whatever its zone: a door does not know where each sensor is.
pub(super) fn pages(policy: &Policy) -> Span {
    let zones = policy.zones.iter().map(|rule| rule.fresh_for);
    zones.chain([policy.fresh_for, LIVE]).max().unwrap_or(LIVE)
}

/// How far a partition is recorded, and evaluated.
#[derive(Debug, Default)]
struct Place {
    /// One past the last record that this process knows of.
    end: Offset,
    /// Records of this process on their way into the log.
    coming: i64,
    /// How far each processor is, and when it last came on.
    readers: Vec<(Topic, Offset, Option<Instant>)>,
}

impl Place {
    /// Records that wait to be evaluated by the slowest processor that comes on.
    fn behind(&self, now: Instant) -> i64 {
        let moves = |moved: Option<Instant>| moved.is_some_and(|at| now.duration_since(at) < STANDS_STILL);
        let slowest = self.readers.iter().filter(|r| moves(r.2)).map(|r| r.1).min();
        slowest.map_or(0, |reached| self.end.saturating_sub(reached).max(0) + self.coming)
    }

    fn reached(&mut self, topic: Topic, reached: Offset, now: Instant) {
        let end = self.end;
        match self.readers.iter_mut().find(|reader| reader.0 == topic) {
            Some((_, known, moved)) => {
                if *known != reached || reached >= end {
                    (*known, *moved) = (reached, Some(now));
                }
            }
            None => self.readers.push((topic, reached, (reached >= end).then_some(now))),
        }
    }
}

/// One partition.
#[derive(Debug, Default)]
struct Lane {
    place: Mutex<Place>,
    /// Who waits is served in the order of coming: each urgency apart from the others.
    live: Turn<()>,
    recent: Turn<()>,
    past: Turn<()>,
    came_on: Notify,
}

impl Lane {
    fn place(&self) -> MutexGuard<'_, Place> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes room for so many records where fewer than `limit` wait.
    fn enter(&self, records: usize, limit: i64) -> bool {
        let mut place = self.place();
        let room = place.behind(Instant::now()) < limit;
        if room {
            place.coming += counted(records);
        }
        room
    }
}

fn counted(records: usize) -> i64 {
    i64::try_from(records).unwrap_or(i64::MAX)
}

/// The pace of all doors of one process.
#[derive(Debug)]
pub(super) struct Pace {
    limit: i64,
    held_at_most: Duration,
    past: Past,
    lanes: Vec<Lane>,
}

/// Room for a message, until its records are in the log or given up.
#[derive(Debug)]
pub(super) struct Admitted<'a> {
    pace: &'a Pace,
    records: Vec<(Partition, usize)>,
}

impl Drop for Admitted<'_> {
    fn drop(&mut self) {
        for (partition, records) in &self.records {
            if let Some(lane) = self.pace.lanes.get(usize::from(*partition)) {
                lane.place().coming -= counted(*records);
            }
        }
    }
}

impl Pace {
    /// `limit`: records of a partition that may wait to be evaluated; 0 for any number. `past`: records of the past a second,
    /// while something live comes; 0 for any number.
    pub(super) fn new(partitions: u16, limit: usize, past: usize, held_at_most: Duration) -> Self {
        Self {
            limit: if limit == 0 { i64::MAX } else { counted(limit) },
            held_at_most,
            past: Past::new(past),
            lanes: (0..partitions).map(|_| Lane::default()).collect(),
        }
    }

    /// Records of a partition that may wait to be evaluated where the past is still let in.
    fn past_limit(&self) -> i64 {
        (self.limit / PAST_PART).max(1)
    }

    /// What of a large message goes into the log at once, one piece after the other: what may page first, then the past, a
    /// little at a time, so that others find room in between. A message with an alarm goes whole. `pages`: how old data may
    /// be that pages.
    pub(super) fn pieces<'f>(&self, mut facts: &'f mut [Pending], pages: Span) -> Vec<(Urgency, &'f mut [Pending])> {
        let urgency = Urgency::of(facts, pages);
        let most = usize::try_from(self.past_limit()).unwrap_or(usize::MAX);
        if urgency == Urgency::Alarm || facts.len() <= most.min(PAST_AT_ONCE) {
            return vec![(urgency, facts)];
        }
        let at_once = if self.past.waits() {
            most.min(PAST_AT_ONCE)
        } else {
            most
        };
        if facts.len() <= at_once {
            return vec![(urgency, facts)];
        }
        let mut pieces = Vec::new();
        if urgency != Urgency::Past {
            let is_past = |fact: &Pending| age(fact) > pages;
            facts.sort_by_key(is_past);
            let young = facts.partition_point(|fact| !is_past(fact));
            let (now, rest) = facts.split_at_mut(young);
            pieces.push((urgency, now));
            facts = rest;
        }
        pieces.extend(facts.chunks_mut(at_once).map(|piece| (Urgency::Past, piece)));
        pieces
    }

    /// Waits until there is room for a message's records (so many each partition, in order of partitions).
    /// None waits longer than since `began`.
    pub(super) async fn admit(
        &self,
        records: Vec<(Partition, usize)>,
        urgency: Urgency,
        began: Instant,
    ) -> Admitted<'_> {
        let mut admitted = Admitted {
            pace: self,
            records: Vec::with_capacity(records.len()),
        };
        let deadline = began + self.held_at_most;
        match urgency {
            Urgency::Alarm => return admitted,
            Urgency::Live | Urgency::Recent => self.past.is_live(),
            Urgency::Past => {
                let turn = self.past.turn(records.iter().map(|(_, n)| n).sum());
                tokio::time::sleep_until(turn.min(deadline)).await;
            }
        }
        if self.limit == i64::MAX {
            return admitted;
        }
        for (partition, records) in records {
            let Some(lane) = self.lanes.get(usize::from(partition)) else {
                continue;
            };
            let entering = self.enter(lane, records, urgency);
            if tokio::time::timeout_at(deadline, entering).await.is_err() {
                metrics::held_too_long();
                break;
            }
            admitted.records.push((partition, records));
        }
        admitted
    }

    async fn enter(&self, lane: &Lane, records: usize, urgency: Urgency) {
        let (turn, limit) = match urgency {
            Urgency::Past => (&lane.past, self.past_limit()),
            Urgency::Recent => (&lane.recent, (self.limit / RECENT_PART).max(1)),
            Urgency::Live | Urgency::Alarm => (&lane.live, self.limit),
        };
        if let Ok(_mine) = turn.try_lock()
            && lane.enter(records, limit)
        {
            return;
        }
        let began = Instant::now();
        let _mine = turn.lock().await;
        loop {
            let mut came_on = std::pin::pin!(lane.came_on.notified());
            came_on.as_mut().enable();
            if lane.enter(records, limit) {
                break;
            }
            came_on.await;
        }
        metrics::held(urgency != Urgency::Past, began.elapsed());
    }

    /// A record is in the log.
    pub(super) fn landed(&self, partition: Partition, offset: Offset) {
        if let Some(lane) = self.lanes.get(usize::from(partition)) {
            let mut place = lane.place();
            place.end = place.end.max(offset.saturating_add(1));
        }
    }

    /// Looks how far processors are, until `stop`.
    pub(super) async fn follow(&self, log: &dyn EventLog, stop: CancellationToken) {
        let mut look = tokio::time::interval(LOOK_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                _ = look.tick() => {}
            }
            for (partition, lane) in (0_u16..).zip(&self.lanes) {
                for topic in Topic::ALL.into_iter().filter(|topic| topic.is_derived()) {
                    // What cannot be asked does not come on.
                    if let Ok(reached) = log.reached(topic, partition).await {
                        lane.place().reached(topic, reached.journal, Instant::now());
                    }
                }
                lane.came_on.notify_waiters();
            }
        }
        // Nobody looks any more: nobody is held.
        for lane in &self.lanes {
            lane.place().readers.clear();
            lane.came_on.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use schemas::facts::{ClockTicked, TickedBy};
    use schemas::ids::{EventId, Key};
    use schemas::journal::{ClockQuality, Envelope};
    use schemas::time::Timestamp;

    use super::*;
    use crate::intake::memory::Known;

    const LIMIT: usize = 100;
    const PAGES: Span = Span::seconds(400);

    fn pace() -> Pace {
        Pace::new(2, LIMIT, 0, Duration::from_secs(30))
    }

    /// Processors of a partition are so far.
    fn reached(pace: &Pace, partition: usize, offset: Offset) {
        let lane = &pace.lanes[partition];
        for topic in [Topic::Windows, Topic::Alerts] {
            lane.place().reached(topic, offset, Instant::now());
        }
        lane.came_on.notify_waiters();
    }

    async fn admitted(pace: &Pace, partition: Partition, urgency: Urgency) -> bool {
        let admit = pace.admit(vec![(partition, 10)], urgency, Instant::now());
        tokio::time::timeout(Duration::from_millis(1), admit).await.is_ok()
    }

    #[tokio::test(start_paused = true)]
    async fn who_sends_more_than_is_evaluated_waits_and_goes_on_when_processors_do() {
        let pace = pace();
        reached(&pace, 0, 0);
        assert!(admitted(&pace, 0, Urgency::Live).await);
        pace.landed(0, 99);
        assert!(!admitted(&pace, 0, Urgency::Live).await, "100 wait");
        assert!(admitted(&pace, 1, Urgency::Live).await, "another partition has room");
        assert!(admitted(&pace, 0, Urgency::Alarm).await, "an alarm never waits");
        let (waiting, ()) = tokio::join!(pace.admit(vec![(0, 10)], Urgency::Live, Instant::now()), async {
            tokio::task::yield_now().await;
            reached(&pace, 0, 1);
        });
        assert_eq!(waiting.records, [(0, 10)]);
        assert!(!admitted(&pace, 0, Urgency::Live).await, "99 wait and 10 are coming");
        drop(waiting);
        assert!(admitted(&pace, 0, Urgency::Live).await);
    }

    #[tokio::test(start_paused = true)]
    async fn live_values_overtake_a_backlog() {
        let pace = pace();
        reached(&pace, 0, 0);
        pace.landed(0, 49);
        assert!(!admitted(&pace, 0, Urgency::Past).await);
        assert!(admitted(&pace, 0, Urgency::Live).await);
        let (past, live) = (
            pace.admit(vec![(0, 10)], Urgency::Past, Instant::now()),
            admitted(&pace, 0, Urgency::Live),
        );
        tokio::pin!(past);
        tokio::select! {
            biased;
            _ = &mut past => panic!("the backlog came first"),
            live = live => assert!(live, "not even behind a backlog that came before"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_may_still_page_waits_behind_no_backlog_and_overtakes_nothing_live() {
        let pages = pages(&Policy::standard());
        assert_eq!(pages, Span::hours(1), "of a sensor in a rural zone");
        let of = |ages: &[i64]| {
            let facts: Vec<Pending> = ages.iter().enumerate().map(|(n, age)| fact(n, *age)).collect();
            Urgency::of(&facts, pages)
        };
        let (live, recent, past) = (Urgency::Live, Urgency::Recent, Urgency::Past);
        for (ages, urgency) in [
            (&[120, 9_000][..], live),
            (&[121], recent),
            (&[9_000, 3_600], recent),
            (&[3_601, 9_000], past),
        ] {
            assert_eq!(of(ages), urgency, "{ages:?}");
        }
        let pace = pace();
        reached(&pace, 0, 0);
        pace.landed(0, 29);
        let backlog = pace.admit(vec![(0, 10)], past, Instant::now());
        tokio::pin!(backlog);
        tokio::select! {
            biased;
            _ = &mut backlog => panic!("the backlog came first"),
            recent = admitted(&pace, 0, recent) => assert!(recent),
        }
        pace.landed(0, 69);
        assert!(!admitted(&pace, 0, recent).await);
        assert!(admitted(&pace, 0, live).await);
    }

    /// Something measured so many seconds before it came.
    fn fact(receipt: usize, seconds: i64) -> Pending {
        Pending {
            receipt,
            envelope: Envelope {
                id: EventId::of("test", &[&receipt.to_be_bytes()]),
                key: Key::Nobody,
                measured_at: Timestamp(0) - Span::seconds(seconds),
                gateway_at: None,
                received_at: Timestamp(0),
                clock: ClockQuality::Device,
                cause: None,
                fact: Fact::ClockTicked(ClockTicked { by: TickedBy::Ingest }),
            },
            partition: 0,
            key: Bytes::new(),
            value: Bytes::new(),
            known: Known::NotYet,
        }
    }

    #[test]
    fn of_a_large_message_live_values_go_first_and_the_past_follows_in_pieces() {
        let pace = pace();
        let pieces = |ages: &[i64]| {
            let mut facts: Vec<Pending> = ages.iter().enumerate().map(|(n, age)| fact(n, *age)).collect();
            let pieces = pace.pieces(&mut facts, PAGES);
            let told = |(urgency, piece): &(Urgency, &mut [Pending])| {
                (*urgency, piece.iter().map(|fact| fact.receipt).collect::<Vec<_>>())
            };
            pieces.iter().map(told).collect::<Vec<_>>()
        };
        assert_eq!(pieces(&[]), [(Urgency::Past, vec![])]);
        assert_eq!(
            pieces(&[500, 0]),
            [(Urgency::Live, vec![0, 1])],
            "a small one goes whole"
        );
        let mut ages = [500; 30];
        let past = pieces(&ages);
        assert!(past.iter().all(|(urgency, _)| *urgency == Urgency::Past));
        assert_eq!(
            past.iter().map(|(_, piece)| piece.len()).collect::<Vec<_>>(),
            [12, 12, 6]
        );
        assert!(past.iter().flat_map(|(_, piece)| piece).copied().eq(0..30), "in order");
        (ages[7], ages[20]) = (1, 300);
        let mixed = pieces(&ages);
        assert_eq!(mixed[0], (Urgency::Live, vec![7, 20]));
        assert_eq!(
            mixed[1..].iter().map(|(_, piece)| piece.len()).collect::<Vec<_>>(),
            [12, 12, 4]
        );
        let unlimited = Pace::new(1, 0, 0, Duration::from_secs(30));
        let mut facts: Vec<Pending> = (0..1000).map(|n| fact(n, 500)).collect();
        assert_eq!(unlimited.pieces(&mut facts, PAGES).len(), 1);
        let slow = Pace::new(1, 0, 1_000, Duration::from_secs(30));
        slow.past.is_live();
        assert_eq!(slow.pieces(&mut facts, PAGES).len(), 1000_usize.div_ceil(PAST_AT_ONCE));
    }

    #[tokio::test(start_paused = true)]
    async fn a_processor_that_stands_still_holds_nobody_up() {
        let pace = pace();
        assert!(admitted(&pace, 0, Urgency::Live).await, "none was ever seen");
        pace.landed(0, 5_000);
        reached(&pace, 0, 0);
        assert!(admitted(&pace, 0, Urgency::Live).await, "it has not come on yet");
        reached(&pace, 0, 10);
        assert!(!admitted(&pace, 0, Urgency::Live).await, "it comes on");
        tokio::time::sleep(STANDS_STILL).await;
        reached(&pace, 0, 10);
        assert!(admitted(&pace, 0, Urgency::Live).await, "it stands still");
        pace.lanes[0].place().reached(Topic::Alerts, 20, Instant::now());
        assert!(!admitted(&pace, 0, Urgency::Live).await, "one of them comes on");
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_waits_for_ever() {
        let pace = pace();
        reached(&pace, 0, 0);
        pace.landed(0, 5_000);
        let slow = async {
            for offset in 0.. {
                reached(&pace, 0, offset);
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        };
        let began = Instant::now();
        tokio::select! {
            () = slow => {}
            admitted = pace.admit(vec![(0, 10)], Urgency::Live, Instant::now()) => assert!(admitted.records.is_empty()),
        }
        assert_eq!(began.elapsed().as_secs(), 30);
    }
}
