//! When a sensor is silent: one rule for alerts and for the view of devices.
//!
//! A sensor is expected as often as it is registered with; else it promises a rhythm with its first status message, that of
//! its zone, one message every 30 s where it has none; a last will is no message of its own. It is offline after three times that (or as often as its
//! zone says) without any message,
//! counted on ticks of doors, from when it was attached, and never across a time when all doors were down. One of which
//! nothing is known is never called offline, nor is one that the patient wears no more. What was said later to be the
//! patient's is no message: it tells how the patient was, not how the sensor is.

use schemas::facts::{Liveness, SensorAttached, Zone};
use schemas::journal::{Envelope, Fact};
use schemas::time::{Span, Timestamp};
use serde::{Deserialize, Serialize};

use crate::engine::Context;
use crate::engine::task::RHYTHM;

/// So many times its rhythm may a sensor be silent.
pub const PATIENCE: i64 = 3;

/// Whether somebody has said later whose this is: it did not come from its sensor when it was recorded.
#[must_use]
pub const fn is_reattributed(fact: &Envelope) -> bool {
    fact.fact.sensor().is_some() && fact.cause.is_some()
}

/// What is known about a sensor's silence.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Silence {
    /// Recorded time of its last message; until there was one, of what was first known of it.
    heard: Timestamp,
    /// Whether it ever said anything.
    ever: bool,
    /// Recorded time from which silence is counted.
    from: Timestamp,
    /// Not to be looked at again before.
    look: Timestamp,
    promised: bool,
    registered: Option<Span>,
    /// What is expected where it is, as of its last message: rhythm, and how many times that it may be silent.
    zone: Option<(Span, i32)>,
    /// The patient wears it no more.
    gone: bool,
    /// The order of what was last told of who wears it.
    told: Option<i64>,
    offline: bool,
    /// Since when it is as it is.
    since: Timestamp,
}

impl Silence {
    /// A sensor first heard of now.
    #[must_use]
    pub const fn new(now: Timestamp) -> Self {
        Self {
            heard: now,
            ever: false,
            from: Timestamp::MIN,
            look: Timestamp::MIN,
            promised: false,
            registered: None,
            zone: None,
            gone: false,
            told: None,
            offline: false,
            since: now,
        }
    }

    /// It said something; whether its liveness changed.
    pub fn hear(&mut self, fact: &Envelope, zone: Option<Zone>, ctx: &Context) -> bool {
        let promises = match &fact.fact {
            Fact::SensorStatus(status) if status.last_will => return false,
            Fact::SensorStatus(_) => true,
            _ => false,
        };
        let before = self.liveness();
        let now = ctx.recorded_or(fact);
        self.heard = self.heard.max(now);
        self.ever = true;
        self.offline = false;
        self.promised |= promises;
        self.is_at(zone, ctx);
        self.count();
        self.changed(before, now)
    }

    /// Who wears it was told: whether its liveness or its rhythm changed. What is over already changes nothing.
    pub fn tell(&mut self, fact: &Envelope, zone: Option<Zone>, ctx: &Context) -> bool {
        let (order, open, attached) = match &fact.fact {
            Fact::SensorAttached(it) => (it.order, it.until.is_none(), Some(it)),
            Fact::SensorDetached(it) => (it.order, it.until.is_none(), None),
            _ => return false,
        };
        if self.told.is_some_and(|told| order <= told) {
            return false;
        }
        self.told = Some(order);
        if !open {
            return false;
        }
        let before = (self.liveness(), self.rhythm());
        let now = ctx.recorded_or(fact);
        self.is_at(zone, ctx);
        self.wear(attached, now);
        self.changed(before.0, now) || self.rhythm() != before.1
    }

    fn is_at(&mut self, zone: Option<Zone>, ctx: &Context) {
        self.zone = ctx.zone(zone).map(|rule| (rule.expected_every, rule.patience));
    }

    /// It is worn from now on, or no more.
    fn wear(&mut self, attached: Option<&SensorAttached>, now: Timestamp) {
        self.gone = attached.is_none();
        self.registered = attached.and_then(|it| it.expected_every);
        self.offline = false;
        self.from = now;
        self.count();
    }

    const fn rhythm(&self) -> Option<Span> {
        match (self.gone, self.registered) {
            (true, _) => None,
            (false, Some(registered)) => Some(registered),
            (false, None) if self.promised => Some(self.usual()),
            (false, None) => None,
        }
    }

    /// How often a sensor is expected that promises a rhythm and is registered with none.
    const fn usual(&self) -> Span {
        match self.zone {
            Some((every, _)) => every,
            None => RHYTHM,
        }
    }

    /// How long it may be silent.
    #[must_use]
    pub fn patience(&self) -> Span {
        let times = self.zone.map_or(PATIENCE, |(_, times)| i64::from(times));
        Span(self.rhythm().unwrap_or_else(|| self.usual()).0.saturating_mul(times))
    }

    fn count(&mut self) {
        self.look = self.heard.max(self.from) + self.patience();
    }

    fn changed(&mut self, before: Liveness, now: Timestamp) -> bool {
        let changed = self.liveness() != before;
        if changed {
            self.since = now;
        }
        changed
    }

    /// When its silence must be looked at, by ticks of doors.
    #[must_use]
    pub fn deadline(&self) -> Option<Timestamp> {
        (self.rhythm().is_some() && !self.offline).then_some(self.look)
    }

    /// Looks whether it has been silent for too long; whether it went offline now.
    pub fn look(&mut self, ctx: &Context) -> bool {
        if self.rhythm().is_none() || self.offline {
            return false;
        }
        self.look = self.heard.max(self.from).max(ctx.silence_from) + self.patience();
        self.offline = ctx.ingest >= self.look;
        if self.offline {
            self.since = ctx.recorded;
        }
        self.offline
    }

    /// Whether it is heard.
    #[must_use]
    pub const fn liveness(&self) -> Liveness {
        match (self.rhythm(), self.offline) {
            (None, _) => Liveness::Unknown,
            (Some(_), true) => Liveness::Offline,
            (Some(_), false) if self.ever => Liveness::Online,
            (Some(_), false) => Liveness::Unknown,
        }
    }

    /// Since when it is as it is, by recorded time.
    #[must_use]
    pub const fn since(&self) -> Timestamp {
        self.since
    }

    /// Recorded time of its last message.
    #[must_use]
    pub const fn heard(&self) -> Timestamp {
        self.heard
    }

    /// Whether the patient wears it no more.
    #[must_use]
    pub const fn is_gone(&self) -> bool {
        self.gone
    }

    /// The rhythm it goes by.
    #[must_use]
    pub const fn expected_every(&self) -> Option<Span> {
        self.rhythm()
    }
}
