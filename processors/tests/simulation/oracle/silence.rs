//! When a sensor is silent, and when it is not.

use schemas::facts::Liveness;
use schemas::journal::{Envelope, Fact, Recorded};
use schemas::time::{Span, Timestamp};

use super::House;

/// One sensor's signs of life.
#[derive(Debug, Clone)]
pub(crate) struct Life {
    pub(crate) heard: Timestamp,
    ever: bool,
    /// Silence counts from here at the earliest.
    worn_from: Option<Timestamp>,
    promised: bool,
    registered: Option<Span>,
    /// Rhythm and patience where it was when it was last heard.
    zone: Option<(Span, i64)>,
    pub(crate) gone: bool,
    order: Option<i64>,
    offline: bool,
    pub(crate) since: Timestamp,
}

impl Life {
    pub(crate) const fn new(now: Timestamp) -> Self {
        Self {
            heard: now,
            ever: false,
            worn_from: None,
            promised: false,
            registered: None,
            zone: None,
            gone: false,
            order: None,
            offline: false,
            since: now,
        }
    }

    /// As often as it is registered with, else as its zone says (every 30 s without one) once it has promised; never where it is worn no more.
    pub(crate) fn every(&self) -> Option<Span> {
        let usual = self.zone.map_or(Span::seconds(30), |(every, _)| every);
        let promised = self.promised.then_some(usual);
        self.registered.or(promised).filter(|_| !self.gone)
    }

    pub(crate) fn liveness(&self) -> Liveness {
        match (self.every(), self.offline, self.ever) {
            (Some(_), true, _) => Liveness::Offline,
            (Some(_), false, true) => Liveness::Online,
            _ => Liveness::Unknown,
        }
    }

    fn was(&mut self, before: Liveness, now: Timestamp) -> bool {
        if self.liveness() != before {
            self.since = now;
        }
        self.liveness() != before
    }

    /// Any message but a last will is a sign of life; the first status message promises one every 30 s.
    pub(crate) fn hear(&mut self, record: &Recorded, house: &House, now: Timestamp) -> bool {
        let before = self.liveness();
        match &record.envelope.fact {
            Fact::SensorStatus(status) if status.last_will => return false,
            Fact::SensorStatus(_) => self.promised = true,
            _ => {}
        }
        self.heard = now.max(self.heard);
        self.ever = true;
        self.offline = false;
        self.zone = house
            .zone(&record.envelope)
            .map(|rule| (rule.expected_every, i64::from(rule.patience)));
        self.was(before, now)
    }

    /// It is worn from now on, or no more, where that is not over already.
    pub(crate) fn tell(&mut self, fact: &Envelope, house: &House, now: Timestamp) -> bool {
        let (order, until, attached) = match &fact.fact {
            Fact::SensorAttached(it) => (it.order, it.until, Some(it.expected_every)),
            Fact::SensorDetached(it) => (it.order, it.until, None),
            _ => return false,
        };
        if Some(order) <= self.order {
            return false;
        }
        self.order = Some(order);
        if until.is_some() {
            return false;
        }
        let before = (self.liveness(), self.every());
        self.zone = house
            .zone(fact)
            .map(|rule| (rule.expected_every, i64::from(rule.patience)));
        (self.gone, self.registered) = (attached.is_none(), attached.flatten());
        (self.offline, self.worn_from) = (false, Some(now));
        self.was(before.0, now) || self.every() != before.1
    }

    /// At a tick: whether it is silent for three times its rhythm (or as its zone says) now, by ticks of doors since it was heard, since it was
    /// worn and since doors were up.
    pub(crate) fn goes_silent(&mut self, house: &House) -> bool {
        let (Some(ingest), Some(now), Some(every)) = (house.ingest, house.recorded, self.every()) else {
            return false;
        };
        let from = [house.silence_from, self.worn_from]
            .into_iter()
            .flatten()
            .fold(self.heard, Timestamp::max);
        if self.offline || ingest < from + Span(self.zone.map_or(3, |(_, times)| times) * every.0) {
            return false;
        }
        (self.offline, self.since) = (true, now);
        true
    }
}
