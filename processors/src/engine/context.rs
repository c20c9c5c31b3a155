//! What a whole partition goes by at one offset: recorded time, policies, activations. Saved with the position.

use std::sync::Arc;

use schemas::facts::{TickedBy, Zone};
use schemas::ids::EventId;
use schemas::journal::{Envelope, Recorded};
use schemas::policy::{Admission, Policy, ZoneRule};
use schemas::time::{Span, Timestamp};
use serde::{Deserialize, Serialize};

use super::rules::Rule;

/// A tick further ahead of the log's own append time than this is not accepted.
pub const TICK_SKEW: Span = Span::seconds(2);
/// After a longer gap between ticks of doors, silence starts anew.
pub const TICK_GAP: Span = Span::seconds(5);
/// Lateness where no policy is in force yet.
const LATENESS: Span = Span::days(7);
/// How much longer than lateness bucketed states are kept, so that a replay still finds what it found the first time.
const SLACK: Span = Span::days(1);
/// So long after the horizon has passed them buckets are dropped: when all windows have been written that were waiting,
/// and later than any replay from a checkpoint begins (at most an hour back, two where one was being saved), also where a
/// policy moves the horizon far.
const DROP_AFTER: Span = Span::hours(3);
/// Load is told anew after so much recorded time.
const STRETCH: Span = Span::seconds(5);
/// How often buckets are dropped.
const DROP_EVERY: Span = Span::minutes(5);

/// The context of a partition, as of the record at hand.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Context {
    /// Recorded time: the greatest accepted tick; [`Timestamp::MIN`] before the first.
    pub recorded: Timestamp,
    /// The greatest accepted tick of a door.
    pub ingest: Timestamp,
    /// The recorded time at which silence started anew after doors had been down.
    pub silence_from: Timestamp,
    /// Nothing measured before this is applied any more; it never moves back.
    pub horizon: Timestamp,
    /// Buckets before this are dropped already.
    dropped: Timestamp,
    /// Horizons, each with the recorded time at which what lies before it is dropped, oldest first.
    drops: Vec<(Timestamp, Timestamp)>,
    /// Facts per second of recorded time, in the last completed stretch of at least 5 s: [`load`](Self::load).
    load: u32,
    /// When the stretch under way began.
    stretch: Timestamp,
    /// Facts recorded in it.
    facts: u32,
    /// The version of this processor that speaks.
    pub active: Option<u16>,
    /// The partition's journals have been told of sensors that were attached or detached.
    pub assigned: bool,
    /// The partition's journals have been told of zones.
    pub zoned: bool,
    /// Policies, each with the recorded time since when it is in force, oldest first.
    policies: Vec<(Timestamp, Arc<Policy>)>,
    /// The offset of the record at hand.
    #[serde(skip)]
    pub offset: i64,
    /// The journal at hand.
    #[serde(skip, default = "nowhere")]
    pub incarnation: EventId,
}

const fn nowhere() -> EventId {
    EventId([0; 16])
}

impl Context {
    /// The context at a journal's start.
    #[must_use]
    pub const fn new(incarnation: EventId) -> Self {
        Self {
            recorded: Timestamp::MIN,
            ingest: Timestamp::MIN,
            silence_from: Timestamp::MIN,
            horizon: Timestamp::MIN,
            dropped: Timestamp::MIN,
            drops: Vec::new(),
            load: 0,
            stretch: Timestamp::MIN,
            facts: 0,
            active: None,
            assigned: false,
            zoned: false,
            policies: Vec::new(),
            offset: -1,
            incarnation,
        }
    }

    /// Whether this tick is accepted.
    #[must_use]
    pub fn accepts(&self, tick: &Recorded) -> bool {
        tick.envelope.measured_at <= tick.appended_at + TICK_SKEW || Rule::TickSkew.is_out()
    }

    /// Takes an accepted tick.
    pub fn tick(&mut self, at: Timestamp, by: TickedBy) {
        self.recorded = self.recorded.max(at);
        if (by == TickedBy::Ingest || Rule::SilenceOnIngest.is_out()) && at > self.ingest {
            if (self.ingest == Timestamp::MIN || at - self.ingest > TICK_GAP) && !Rule::SilenceAnew.is_out() {
                self.silence_from = at;
            }
            self.ingest = at;
        }
        if self.recorded > Timestamp::MIN {
            let horizon = self.recorded - self.lateness() - SLACK;
            self.horizon = if Rule::HorizonStays.is_out() {
                horizon
            } else {
                self.horizon.max(horizon)
            };
        }
        self.measure();
        let horizon = self.horizon;
        let needed = self.policies.partition_point(|(since, _)| *since <= horizon);
        self.policies.drain(..needed.saturating_sub(1));
    }

    /// Counts a fact that the partition has recorded.
    pub const fn count(&mut self) {
        self.facts = self.facts.saturating_add(1);
    }

    /// How busy the partition is: facts per second of recorded time, over the last completed stretch of at least 5 s.
    #[must_use]
    pub const fn load(&self) -> u32 {
        self.load
    }

    fn measure(&mut self) {
        let passed = self.recorded - self.stretch;
        if self.stretch > Timestamp::MIN && passed < STRETCH {
            return;
        }
        if self.stretch > Timestamp::MIN {
            let load = i64::from(self.facts).saturating_mul(Span::seconds(1).0) / passed.0.max(1);
            self.load = u32::try_from(load).unwrap_or(u32::MAX);
        }
        (self.stretch, self.facts) = (self.recorded, 0);
    }

    /// The stretch of measured time whose buckets are to be dropped now, where there is one.
    pub fn drop_now(&mut self) -> Option<(Timestamp, Timestamp)> {
        let after = if Rule::DropLate.is_out() {
            Span::ZERO
        } else {
            DROP_AFTER
        };
        let at = self.recorded + after;
        let last = self.drops.last().copied().unwrap_or((self.dropped, Timestamp::MIN));
        if self.horizon > last.0 && at >= last.1 + DROP_EVERY {
            self.drops.push((self.horizon, at));
        }
        let due = self.drops.partition_point(|(_, at)| *at <= self.recorded);
        let (to, _) = self.drops.drain(..due).next_back()?;
        let from = std::mem::replace(&mut self.dropped, to);
        Some((from, to))
    }

    /// Takes a policy; the first one holds for everything before it too.
    pub fn change_policy(&mut self, policy: Policy) {
        self.policies.push((self.recorded, Arc::new(policy)));
    }

    /// The policy in force at a moment; the oldest known where the moment lies before it; none at the journal's start.
    #[must_use]
    pub fn policy_at(&self, at: Timestamp) -> Option<&Arc<Policy>> {
        if Rule::InForceWhenMeasured.is_out() {
            return self.policy();
        }
        let after = self.policies.partition_point(|(since, _)| *since <= at);
        self.policies.get(after.saturating_sub(1)).map(|(_, policy)| policy)
    }

    /// The policy in force now.
    #[must_use]
    pub fn policy(&self) -> Option<&Arc<Policy>> {
        self.policies.last().map(|(_, policy)| policy)
    }

    /// How long late data is applied.
    #[must_use]
    pub fn lateness(&self) -> Span {
        self.policy().map_or(LATENESS, |policy| policy.lateness)
    }

    /// What is expected in a zone, where one is known and the policy says something of it.
    #[must_use]
    pub fn zone(&self, zone: Option<Zone>) -> Option<&ZoneRule> {
        self.policy().and_then(|policy| policy.zone(zone))
    }

    /// How old data in a zone may be and still say how the patient is now.
    #[must_use]
    pub fn fresh_for(&self, zone: Option<Zone>) -> Option<Span> {
        let by_zone = self.zone(zone).map(|rule| rule.fresh_for);
        by_zone.or_else(|| self.policy().map(|policy| policy.fresh_for))
    }

    /// Whether only what a patient is known to wear counts.
    #[must_use]
    pub fn only_registered(&self) -> bool {
        self.policy()
            .is_some_and(|policy| policy.admission == Admission::Registered)
    }

    /// Whether something measured then is too old to be applied.
    #[must_use]
    pub fn is_old(&self, measured_at: Timestamp) -> bool {
        self.recorded > Timestamp::MIN && measured_at < self.horizon.max(self.recorded - self.lateness())
    }

    /// Recorded time; before the first tick, when the fact reached the door.
    #[must_use]
    pub fn recorded_or(&self, fact: &Envelope) -> Timestamp {
        if self.recorded == Timestamp::MIN {
            fact.received_at
        } else {
            self.recorded
        }
    }

    /// As bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        postcard::to_stdvec(self).unwrap_or_default()
    }

    /// From bytes; no bytes are a journal's start.
    ///
    /// # Errors
    /// Where the bytes are not a context.
    pub fn decode(bytes: &[u8], incarnation: EventId) -> Result<Self, postcard::Error> {
        if bytes.is_empty() {
            return Ok(Self::new(incarnation));
        }
        let mut context: Self = postcard::from_bytes(bytes)?;
        context.incarnation = incarnation;
        Ok(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp(1_800_000_000_000_000) + Span::seconds(seconds)
    }

    fn policy(lateness: Span) -> Policy {
        Policy {
            catalogue: 1,
            allowed_skew: Span::minutes(1),
            lateness,
            fresh_for: Span::minutes(5),
            rules: Vec::new(),
            admission: Admission::Open,
            zones: Vec::new(),
        }
    }

    #[test]
    fn silence_starts_anew_only_after_a_gap_between_ticks_of_doors() {
        let mut ctx = Context::new(nowhere());
        for (t, by, silence_from) in [
            (0, TickedBy::Ingest, 0),
            (4, TickedBy::Ingest, 0),
            (9, TickedBy::Ingest, 0),
            (20, TickedBy::Process, 0),
            (21, TickedBy::Ingest, 21),
            (3, TickedBy::Ingest, 21),
        ] {
            ctx.tick(at(t), by);
            assert_eq!(ctx.silence_from, at(silence_from), "tick at {t}");
        }
        assert_eq!((ctx.recorded, ctx.ingest), (at(21), at(21)));
    }

    #[test]
    fn late_data_is_judged_by_the_policy_in_force_when_it_was_measured() {
        let mut ctx = Context::new(nowhere());
        assert!(ctx.policy_at(at(0)).is_none());
        ctx.change_policy(policy(Span::days(1)));
        ctx.tick(at(100), TickedBy::Process);
        ctx.change_policy(policy(Span::days(2)));
        let lateness = |ctx: &Context, t| ctx.policy_at(at(t)).map(|p| p.lateness);
        assert_eq!(lateness(&ctx, -1000), Some(Span::days(1)));
        assert_eq!(lateness(&ctx, 99), Some(Span::days(1)));
        assert_eq!(lateness(&ctx, 100), Some(Span::days(2)));
        ctx.tick(at(100 + 3 * 86_400), TickedBy::Process);
        assert_eq!(ctx.policies.len(), 1, "a policy that nothing can ask for is let go");
    }

    #[test]
    fn what_was_too_old_once_stays_so_when_lateness_is_raised() {
        let mut ctx = Context::new(nowhere());
        assert!(!ctx.is_old(Timestamp::MIN), "before the first tick nothing is old");
        ctx.change_policy(policy(Span::hours(1)));
        ctx.tick(at(0), TickedBy::Process);
        assert!(ctx.is_old(at(-3_601)) && !ctx.is_old(at(-3_600)));
        ctx.change_policy(policy(Span::days(30)));
        assert!(ctx.is_old(at(-90_001)), "its states are gone");
        assert!(!ctx.is_old(at(-90_000)));
    }

    #[test]
    fn what_lies_before_the_horizon_is_dropped_three_hours_later_and_once() {
        let mut ctx = Context::new(nowhere());
        let mut drop_at = |hours: i64| {
            ctx.tick(at(hours * 3_600), TickedBy::Process);
            ctx.drop_now()
        };
        let horizon = |hours: i64| at(hours * 3_600) - Span::days(8);
        assert_eq!(drop_at(0), None);
        assert_eq!(drop_at(2), None);
        assert_eq!(drop_at(3), Some((Timestamp::MIN, horizon(0))));
        assert_eq!(drop_at(3), None);
        assert_eq!(drop_at(9), Some((horizon(0), horizon(3))));
        assert_eq!(drop_at(12), Some((horizon(3), horizon(9))));
    }

    #[test]
    fn load_is_told_once_per_stretch_of_recorded_time_and_ends_with_the_facts() {
        let mut ctx = Context::new(nowhere());
        for (t, facts, load) in [
            (0, 900, 0),
            (4, 600, 0),
            (6, 0, 250),
            (3, 50, 250),
            (10, 200, 250),
            (11, 0, 50),
            (16, 9, 0),
            (3_616, 0, 0),
        ] {
            ctx.tick(at(t), TickedBy::Process);
            assert_eq!(ctx.load(), load, "tick at {t}");
            (0..facts).for_each(|_| ctx.count());
        }
    }

    #[test]
    fn a_context_reads_back() {
        let mut ctx = Context::new(nowhere());
        ctx.change_policy(policy(Span::days(7)));
        ctx.tick(at(5), TickedBy::Ingest);
        let back = Context::decode(&ctx.encode(), nowhere()).unwrap();
        assert_eq!(back.policies, ctx.policies);
        assert_eq!(
            (back.recorded, back.ingest, back.horizon),
            (ctx.recorded, ctx.ingest, ctx.horizon)
        );
    }
}
