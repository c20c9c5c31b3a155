//! When a sensor is silent, and when it is not.

use schemas::facts::Liveness;
use schemas::journal::{Fact, Recorded};
use schemas::time::{Span, Timestamp};

use super::House;

/// One sensor's signs of life.
#[derive(Debug, Clone)]
pub(crate) struct Life {
    pub(crate) heard: Timestamp,
    pub(crate) promised: bool,
    pub(crate) offline: bool,
    pub(crate) since: Timestamp,
}

impl Life {
    pub(crate) const fn new(now: Timestamp) -> Self {
        Self {
            heard: now,
            promised: false,
            offline: false,
            since: now,
        }
    }

    pub(crate) const fn liveness(&self) -> Liveness {
        match (self.promised, self.offline) {
            (false, _) => Liveness::Unknown,
            (true, false) => Liveness::Online,
            (true, true) => Liveness::Offline,
        }
    }

    /// Any message but a last will is a sign of life; the first status message promises one every 30 s.
    pub(crate) fn hear(&mut self, record: &Recorded, now: Timestamp) -> bool {
        let before = self.liveness();
        match &record.envelope.fact {
            Fact::SensorStatus(status) if status.last_will => return false,
            Fact::SensorStatus(_) => self.promised = true,
            _ => {}
        }
        self.heard = now.max(self.heard);
        self.offline = false;
        if self.liveness() != before {
            self.since = now;
        }
        self.liveness() != before
    }

    /// At a tick: whether it is silent for 90 s now, by ticks of doors since it was heard and since doors were up.
    pub(crate) fn goes_silent(&mut self, house: &House) -> bool {
        let (Some(ingest), Some(now)) = (house.ingest, house.recorded) else {
            return false;
        };
        let from = self.heard.max(house.silence_from.unwrap_or(self.heard));
        if !self.promised || self.offline || ingest < from + Span::seconds(90) {
            return false;
        }
        (self.offline, self.since) = (true, now);
        true
    }
}
