//! What a client and the door remember of each other beyond a connection: subscriptions, alerts on their way out, and
//! which QoS 2 messages are durable but not yet released. A value: no clock, no sockets.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use mqtt_protocol_core::mqtt::packet::Qos;
use schemas::access::{Action, Principal, Role};
use schemas::ids::{PatientId, SensorId};

use super::packet::{Answer, Version};
use super::topic;
use super::wire::{Message, PUBREL, Wire};

/// An alert, a command, or a frame of a consultation, to be handed out.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Notice {
    pub(super) about: About,
    pub(super) topic: String,
    pub(super) payload: Bytes,
    /// A frame: the next one comes soon, so it never takes an alert's place.
    pub(super) live: bool,
}

/// Whom a notice is about: who may see it follows from that.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum About {
    Patient(PatientId),
    /// A command.
    Sensor(SensorId),
}

impl Notice {
    fn is_for(&self, who: &Principal) -> bool {
        match &self.about {
            About::Patient(patient) => who.may(Action::SeePatient(patient)),
            About::Sensor(sensor) => who.may(Action::ReceiveCommands(sensor)),
        }
    }
}

/// An alert on its way to one subscriber.
#[derive(Debug)]
struct Flight {
    id: u16,
    notice: Arc<Notice>,
    qos: Qos,
    /// The client has it (PUBREC came): only PUBREL and PUBCOMP are left.
    released: bool,
}

/// A client's session.
#[derive(Debug)]
pub(super) struct Session {
    /// Who holds it, as of the last login.
    pub(super) principal: Principal,
    /// QoS 2 ids whose message is durable and that the client has not released.
    pub(super) received: HashSet<u16>,
    subscriptions: Vec<(String, Qos)>,
    queue: VecDeque<(Arc<Notice>, Qos)>,
    flights: VecDeque<Flight>,
    last_id: u16,
}

/// How much may be sent to a client at once.
#[derive(Debug, Clone, Copy)]
pub(super) struct Window {
    /// Alerts sent and not yet acknowledged.
    pub(super) flights: usize,
    /// Bytes written and not yet taken.
    pub(super) unsent: usize,
}

impl Session {
    pub(super) fn new(principal: Principal) -> Self {
        Self {
            principal,
            received: HashSet::new(),
            subscriptions: Vec::new(),
            queue: VecDeque::new(),
            flights: VecDeque::new(),
            last_id: 0,
        }
    }

    /// Takes the session up again as `principal`, who may see less than before.
    pub(super) fn resumed_by(&mut self, principal: Principal) {
        self.principal = principal;
        let who = &self.principal;
        self.subscriptions
            .retain(|(filter, _)| topic::grant(filter, who) == topic::Grant::Yes);
        self.queue.retain(|(notice, _)| notice.is_for(who));
        // What was delivered but for its last handshake keeps its handshake; the rest is seen again only by right.
        self.flights.retain(|f| f.released || f.notice.is_for(who));
    }

    /// Enters a subscription, or changes its QoS; `false` where there are `limit` already.
    pub(super) fn subscribe(&mut self, filter: String, qos: Qos, limit: usize) -> bool {
        if let Some(known) = self.subscriptions.iter_mut().find(|(f, _)| *f == filter) {
            known.1 = qos;
        } else if self.subscriptions.len() < limit {
            self.subscriptions.push((filter, qos));
        } else {
            return false;
        }
        true
    }

    /// Ends a subscription; `false` where there was none.
    pub(super) fn unsubscribe(&mut self, filter: &str) -> bool {
        let before = self.subscriptions.len();
        self.subscriptions.retain(|(f, _)| f != filter);
        before != self.subscriptions.len()
    }

    /// Whether anything is to be handed out to it at all.
    pub(super) fn listens(&self) -> bool {
        !self.subscriptions.is_empty()
    }

    /// What it asks for.
    pub(super) fn filters(&self) -> impl Iterator<Item = &str> {
        self.subscriptions.iter().map(|(filter, _)| filter.as_str())
    }

    /// Whether it asks for what comes on a topic.
    pub(super) fn asks_for(&self, topic: &str) -> bool {
        self.subscriptions
            .iter()
            .any(|(filter, _)| topic::matches(filter, topic))
    }

    /// Whether a sensor itself, or the gateway that it is behind, listens here for its commands: it is one of the holder's
    /// own, and they ask for what comes on its topic. Who may see everything is no sensor.
    pub(super) fn hears(&self, sensor: &SensorId) -> bool {
        let who = &self.principal;
        who.sensors.contains(sensor)
            && matches!(who.role, Role::Device | Role::Gateway)
            && who.may(Action::ReceiveCommands(sensor))
            && self.asks_for(&topic::command(sensor))
    }

    /// Queues an alert where the session asks for it and its holder may see it. `None` where not; else how many of
    /// the oldest had to go, because `limit` were waiting. A frame goes itself where half as many are.
    pub(super) fn offer(&mut self, notice: &Arc<Notice>, limit: usize) -> Option<usize> {
        let asked = |(filter, qos): &(String, Qos)| topic::matches(filter, &notice.topic).then_some(*qos);
        let qos = self.subscriptions.iter().filter_map(asked).max()?;
        if !notice.is_for(&self.principal) {
            return None;
        }
        if notice.live && self.queue.len() >= limit / 2 {
            return Some(1);
        }
        let mut dropped = 0;
        while self.queue.len() >= limit.max(1) {
            self.queue.pop_front();
            dropped += 1;
        }
        self.queue.push_back((Arc::clone(notice), qos));
        Some(dropped)
    }

    /// Writes again what an earlier connection left unfinished, in the order in which it was first sent.
    pub(super) fn resume(&mut self, wire: &Wire, out: &mut BytesMut) {
        self.flights.retain(|flight| {
            if flight.released {
                wire.answer(PUBREL, flight.id, 0, 0, out);
                true
            } else {
                wire.publish(&message(flight, true), out)
            }
        });
    }

    /// Writes queued alerts as far as the window allows, those that its holder still may see; returns how many, and how
    /// many were too large for the client.
    pub(super) fn drain(&mut self, wire: &Wire, window: Window, out: &mut BytesMut) -> (usize, usize) {
        let (mut sent, mut too_large) = (0, 0);
        while let Some((_, qos)) = self.queue.front() {
            let full = *qos != Qos::AtMostOnce && self.flights.len() >= window.flights;
            if full || out.len() >= window.unsent {
                break;
            }
            let Some((notice, qos)) = self.queue.pop_front() else {
                break;
            };
            if !notice.is_for(&self.principal) {
                continue;
            }
            let id = if qos == Qos::AtMostOnce { 0 } else { self.next_id() };
            let flight = Flight {
                id,
                notice,
                qos,
                released: false,
            };
            if !wire.publish(&message(&flight, false), out) {
                too_large += 1;
                continue;
            }
            sent += 1;
            if qos != Qos::AtMostOnce {
                self.flights.push_back(flight);
            }
        }
        (sent, too_large)
    }

    /// The next id that no alert on its way has.
    fn next_id(&mut self) -> u16 {
        loop {
            self.last_id = self.last_id.checked_add(1).unwrap_or(1);
            if self.flights.iter().all(|f| f.id != self.last_id) {
                return self.last_id;
            }
        }
    }

    /// A client's PUBACK, PUBREC or PUBCOMP. Those for nothing we sent are answered where the protocol asks for it and
    /// otherwise ignored: they are left over from a session that ended.
    pub(super) fn answered(&mut self, answer: Answer, wire: &Wire, out: &mut BytesMut) {
        const NOT_FOUND: u8 = 0x92;
        let place = self.flights.iter().position(|f| f.id == answer.id);
        let flight = place.and_then(|at| self.flights.get_mut(at));
        match (answer.kind, flight) {
            (4, Some(flight)) if flight.qos == Qos::AtLeastOnce => self.end(place),
            (5, Some(flight)) if flight.qos == Qos::ExactlyOnce && answer.failed => self.end(place),
            (5, Some(flight)) if flight.qos == Qos::ExactlyOnce => {
                flight.released = true;
                wire.answer(PUBREL, answer.id, 0, 0, out);
            }
            (5, _) if !answer.failed => {
                let code = if wire.version == Version::V5 { NOT_FOUND } else { 0 };
                wire.answer(PUBREL, answer.id, code, 0, out);
            }
            (7, Some(flight)) if flight.released => self.end(place),
            _ => {}
        }
    }

    fn end(&mut self, place: Option<usize>) {
        if let Some(at) = place {
            self.flights.remove(at);
        }
    }
}

fn message(flight: &Flight, dup: bool) -> Message<'_> {
    Message {
        topic: &flight.notice.topic,
        payload: &flight.notice.payload,
        qos: flight.qos,
        dup,
        id: flight.id,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WIRE: Wire = Wire {
        version: Version::V3,
        packet_bytes: usize::MAX,
        problem_information: true,
    };
    const WINDOW: Window = Window {
        flights: 2,
        unsent: 1000,
    };

    fn doctor(patients: &[&str]) -> Principal {
        Principal {
            live: schemas::access::Live::default(),
            subject: "d".into(),
            role: Role::Doctor,
            patients: patients.iter().map(|p| PatientId::new(p).unwrap()).collect(),
            sensors: Vec::new(),
        }
    }

    fn notice(patient: &str) -> Arc<Notice> {
        Arc::new(Notice {
            about: About::Patient(PatientId::new(patient).unwrap()),
            topic: format!("fajma/patient/{patient}/alerts/critical"),
            payload: Bytes::from_static(b"{}"),
            live: false,
        })
    }

    fn session(patients: &[&str], qos: Qos) -> Session {
        let mut session = Session::new(doctor(patients));
        assert!(session.subscribe("fajma/patient/+/alerts/critical".to_owned(), qos, 9));
        session
    }

    /// The first bytes and ids of the packets in `out`.
    fn heads(out: &mut BytesMut) -> Vec<(u8, u16)> {
        let mut seen = Vec::new();
        while let Some(frame) = super::super::frame::take(out, usize::MAX).unwrap() {
            let at = if frame.kind() == 3 {
                2 + usize::from(frame.body[1])
            } else {
                0
            };
            seen.push((frame.first, u16::from_be_bytes([frame.body[at], frame.body[at + 1]])));
        }
        seen
    }

    #[test]
    fn a_wildcard_gives_only_what_its_holder_may_see() {
        let mut session = session(&["p1"], Qos::AtLeastOnce);
        assert_eq!(session.offer(&notice("p1"), 9), Some(0));
        assert_eq!(session.offer(&notice("p2"), 9), None);
        session.resumed_by(doctor(&["p2"]));
        assert_eq!(session.drain(&WIRE, WINDOW, &mut BytesMut::new()), (0, 0));
    }

    #[test]
    fn a_full_queue_loses_its_oldest_and_says_so() {
        let mut session = session(&["p1"], Qos::AtLeastOnce);
        assert_eq!(session.offer(&notice("p1"), 2), Some(0));
        assert_eq!(session.offer(&notice("p1"), 2), Some(0));
        assert_eq!(session.offer(&notice("p1"), 2), Some(1));
    }

    #[test]
    fn qos_2_is_resumed_where_it_stopped() {
        let mut session = session(&["p1"], Qos::ExactlyOnce);
        let mut out = BytesMut::new();
        for _ in 0..3 {
            session.offer(&notice("p1"), 9);
        }
        assert_eq!(session.drain(&WIRE, WINDOW, &mut out), (2, 0));
        assert_eq!(heads(&mut out), [(0x34, 1), (0x34, 2)]);
        session.answered(
            Answer {
                kind: 5,
                id: 1,
                failed: false,
            },
            &WIRE,
            &mut out,
        );
        assert_eq!(heads(&mut out), [(PUBREL, 1)]);
        session.resume(&WIRE, &mut out);
        assert_eq!(heads(&mut out), [(PUBREL, 1), (0x3c, 2)]);
        session.answered(
            Answer {
                kind: 7,
                id: 1,
                failed: false,
            },
            &WIRE,
            &mut out,
        );
        assert_eq!(session.drain(&WIRE, WINDOW, &mut out), (1, 0));
        assert_eq!(heads(&mut out), [(0x34, 3)]);
    }

    #[test]
    fn answers_to_nothing_do_no_harm() {
        let mut session = session(&["p1"], Qos::AtLeastOnce);
        let mut out = BytesMut::new();
        session.offer(&notice("p1"), 9);
        session.drain(&WIRE, WINDOW, &mut out);
        out.clear();
        for kind in 4..=7 {
            for id in [1, 7] {
                if (kind, id) != (4, 1) {
                    session.answered(
                        Answer {
                            kind,
                            id,
                            failed: false,
                        },
                        &WIRE,
                        &mut out,
                    );
                }
            }
        }
        assert_eq!(heads(&mut out), [(PUBREL, 1), (PUBREL, 7)]);
        assert_eq!(session.flights.len(), 1);
        session.answered(
            Answer {
                kind: 4,
                id: 1,
                failed: false,
            },
            &WIRE,
            &mut out,
        );
        assert!(session.flights.is_empty());
    }

    #[derive(Debug)]
    struct Team(std::sync::atomic::AtomicBool);

    impl schemas::access::CareTeams for Team {
        fn cares(&self, _: &str, _: &PatientId) -> bool {
            self.0.load(std::sync::atomic::Ordering::SeqCst)
        }

        fn patients(&self, _: &str) -> Vec<PatientId> {
            Vec::new()
        }

        fn person(&self, patient: &PatientId) -> PatientId {
            patient.clone()
        }

        fn also_known_as(&self, _: &PatientId) -> Vec<PatientId> {
            Vec::new()
        }
    }

    #[test]
    fn what_waits_when_a_doctor_leaves_a_care_team_is_not_handed_out() {
        let team = Arc::new(Team(true.into()));
        let mut session = Session::new(Principal {
            live: schemas::access::Live::default().with_teams(Arc::clone(&team) as Arc<dyn schemas::access::CareTeams>),
            ..doctor(&["own"])
        });
        session.subscribe("fajma/patient/+/alerts/critical".to_owned(), Qos::AtLeastOnce, 9);
        let mut out = BytesMut::new();
        assert_eq!(session.offer(&notice("p1"), 9), Some(0));
        assert_eq!(session.drain(&WIRE, WINDOW, &mut out), (1, 0), "while in the team");
        assert_eq!(session.offer(&notice("p1"), 9), Some(0));
        assert_eq!(session.offer(&notice("own"), 9), Some(0));
        team.0.store(false, std::sync::atomic::Ordering::SeqCst);
        out.clear();
        assert_eq!(
            session.drain(&WIRE, WINDOW, &mut out),
            (1, 0),
            "the own patient's alone"
        );
        assert!(String::from_utf8_lossy(&out).contains("fajma/patient/own/alerts"));
        assert_eq!(session.offer(&notice("p1"), 9), None);
    }

    #[test]
    fn a_frame_never_takes_an_alerts_place() {
        let mut session = session(&["p1"], Qos::AtMostOnce);
        session.subscribe("#".to_owned(), Qos::AtMostOnce, 9);
        let frame = Arc::new(Notice {
            about: About::Patient(PatientId::new("p1").unwrap()),
            topic: "fajma/consultation/7/realtime".to_owned(),
            payload: Bytes::from_static(b"{}"),
            live: true,
        });
        let dropped: Vec<_> = (0..4).map(|_| session.offer(&frame, 4)).collect();
        assert_eq!(
            dropped,
            [Some(0), Some(0), Some(1), Some(1)],
            "half of the room is for alerts"
        );
        let dropped: Vec<_> = (0..3).map(|_| session.offer(&notice("p1"), 4)).collect();
        assert_eq!(dropped, [Some(0), Some(0), Some(1)]);
        assert_eq!(session.queue.iter().filter(|(notice, _)| !notice.live).count(), 3);
    }
}
