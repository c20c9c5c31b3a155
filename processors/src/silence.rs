//! When a sensor is silent: one rule for alerts and for the view of devices.
//!
//! A sensor promises a rhythm, one message every 30 s, with its first status message; a last will is no message of its
//! own. It is offline after three times that without any message, counted on ticks of doors and never across a time when
//! all doors were down. One that never promised is never called offline.

use schemas::facts::Liveness;
use schemas::journal::{Envelope, Fact};
use schemas::time::{Span, Timestamp};
use serde::{Deserialize, Serialize};

use crate::engine::Context;
use crate::engine::task::RHYTHM;

/// So many times its rhythm may a sensor be silent.
pub const PATIENCE: i64 = 3;

/// What is known about a sensor's silence.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Silence {
    /// Recorded time of its last message.
    heard: Timestamp,
    /// Not to be looked at again before.
    look: Timestamp,
    promised: Option<Span>,
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
            look: Timestamp::MIN,
            promised: None,
            offline: false,
            since: now,
        }
    }

    /// It said something; whether its liveness changed.
    pub fn hear(&mut self, fact: &Envelope, ctx: &Context) -> bool {
        let promises = match &fact.fact {
            Fact::SensorStatus(status) if status.last_will => return false,
            Fact::SensorStatus(_) => true,
            _ => false,
        };
        let before = self.liveness();
        let now = ctx.recorded_or(fact);
        self.heard = self.heard.max(now);
        self.look = self.heard + patience(self.promised.unwrap_or(RHYTHM));
        self.offline = false;
        if promises {
            self.promised = Some(RHYTHM);
        }
        let changed = self.liveness() != before;
        if changed {
            self.since = now;
        }
        changed
    }

    /// When its silence must be looked at, by ticks of doors.
    #[must_use]
    pub fn deadline(&self) -> Option<Timestamp> {
        (self.promised.is_some() && !self.offline).then_some(self.look)
    }

    /// Looks whether it has been silent for too long; whether it went offline now.
    pub fn look(&mut self, ctx: &Context) -> bool {
        let (Some(promised), false) = (self.promised, self.offline) else {
            return false;
        };
        self.look = self.heard.max(ctx.silence_from) + patience(promised);
        self.offline = ctx.ingest >= self.look;
        if self.offline {
            self.since = ctx.recorded;
        }
        self.offline
    }

    /// Whether it is heard.
    #[must_use]
    pub const fn liveness(&self) -> Liveness {
        match (self.promised, self.offline) {
            (None, _) => Liveness::Unknown,
            (Some(_), false) => Liveness::Online,
            (Some(_), true) => Liveness::Offline,
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

    /// The rhythm it promised.
    #[must_use]
    pub const fn promised(&self) -> Option<Span> {
        self.promised
    }
}

const fn patience(rhythm: Span) -> Span {
    Span(rhythm.0.saturating_mul(PATIENCE))
}
