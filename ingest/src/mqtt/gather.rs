//! Messages of one connection, judged and gathered for the log, and the answers that are due for them.
//!
//! One batch is with the log while the next is gathered: a backlog needs no round trip per message, and the journal
//! has a connection's messages in the order in which they were sent.

use std::collections::{HashMap, HashSet};

use mqtt_protocol_core::mqtt::packet::Qos;
use mqtt_protocol_core::mqtt::result_code::DisconnectReasonCode as Reason;
use schemas::access::{Action, Principal};
use schemas::facts::Door;
use schemas::ids::{PatientId, SensorId};
use tokio::sync::OwnedSemaphorePermit;

use super::metrics;
use super::packet::{Publish, Version};
use super::topic;
use crate::accept::{self, Context, Kind, Verdict};
use crate::intake::{Intake, Receipt, Status};
use crate::refusal::Fault;

/// What judging a message costs in memory beside its bytes, about.
const OVERHEAD: usize = 512;
/// Topics that are remembered taken apart.
const KNOWN_TOPICS: usize = 256;

/// The answer that is due for one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Due {
    pub(super) id: u16,
    pub(super) qos: Qos,
    /// How many receipts are its own.
    records: usize,
    /// Why it was refused as a whole, before its records were looked at.
    refused: Option<Whole>,
}

/// Why a message was refused as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whole {
    NotAuthorized = 0x87,
    TopicNameInvalid = 0x90,
}

/// A due answer, now that the log has spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Answered {
    pub(super) due: Due,
    /// The reason, as in MQTT 5.
    pub(super) code: u8,
    /// How many of its records were refused.
    pub(super) rejected: usize,
}

/// Messages on their way to the log together.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) verdicts: Vec<Verdict>,
    pub(super) dues: Vec<Due>,
    /// What it costs in memory, bytes.
    pub(super) cost: usize,
    /// The share of the door's memory that it holds.
    pub(super) permit: Option<OwnedSemaphorePermit>,
    by_qos: [u64; 3],
    records: i32,
}

impl Batch {
    pub(super) fn is_empty(&self) -> bool {
        self.dues.is_empty()
    }

    /// The answers, in the order of the messages.
    pub(super) fn answers(dues: Vec<Due>, receipts: &[Receipt]) -> impl Iterator<Item = Answered> {
        let mut rest = receipts;
        dues.into_iter().map(move |due| {
            let (mine, others) = rest.split_at(due.records.min(rest.len()));
            rest = others;
            let rejected = mine.iter().filter(|r| r.status == Status::Rejected).count();
            let code = match due.refused {
                Some(why) => why as u8,
                None if rejected > 0 && rejected == mine.len() => Reason::PayloadFormatInvalid as u8,
                None => 0,
            };
            let rejected = if due.refused.is_some() { 0 } else { rejected };
            Answered { due, code, rejected }
        })
    }

    /// Counts the batch as taken, once it has gone to the log.
    pub(super) fn count(&self) {
        metrics::messages(self.by_qos);
    }
}

/// A topic taken apart: that is done once. Who may write there is asked for each message, because that changes while a
/// connection is open.
#[derive(Debug, Clone)]
struct Place {
    patient: PatientId,
    sensor: SensorId,
    kind: Kind,
}

/// A connection's incoming messages.
#[derive(Debug)]
pub(super) struct Gather {
    version: Version,
    principal: Principal,
    /// What is gathered for the log.
    pub(super) batch: Batch,
    /// QoS 2 ids whose message is gathered or with the log.
    pub(super) waiting: HashSet<u16>,
    aliases: Vec<Option<String>>,
    /// `None` where nothing is taken.
    places: HashMap<String, Option<Place>>,
    /// Messages with QoS 1 or 2 that the client may not yet forget.
    open: usize,
    open_limit: usize,
}

impl Gather {
    pub(super) fn new(version: Version, principal: Principal, aliases: u16, open_limit: u16) -> Self {
        Self {
            version,
            principal,
            batch: Batch::default(),
            waiting: HashSet::new(),
            aliases: vec![None; if version == Version::V5 { aliases.into() } else { 0 }],
            places: HashMap::new(),
            open: 0,
            open_limit: open_limit.max(1).into(),
        }
    }

    /// Whether a QoS 2 message is a repeat of one that is gathered or with the log: it is answered once.
    pub(super) fn is_waiting(&self, publish: &Publish<'_>) -> bool {
        publish.qos == Qos::ExactlyOnce && self.waiting.contains(&publish.id)
    }

    /// Judges a message and adds it to the batch. `known` says that it is a QoS 2 message which is durable already:
    /// it is only answered again, in its turn.
    ///
    /// # Errors
    /// Why the connection has to end.
    pub(super) fn take(&mut self, publish: Publish<'_>, known: bool, intake: &Intake) -> Result<(), Reason> {
        let topic = self.resolve(&publish)?;
        let topic = topic.as_deref().unwrap_or(publish.topic);
        if !topic::is_name(topic) || topic.len() > topic::LONGEST {
            return Err(Reason::TopicNameInvalid);
        }
        if publish.retain && self.version == Version::V5 {
            return Err(Reason::RetainNotSupported);
        }
        if publish.qos != Qos::AtMostOnce && !known {
            self.open += 1;
            if self.version == Version::V5 && self.open > self.open_limit {
                return Err(Reason::ReceiveMaximumExceeded);
            }
        }
        let mut due = Due {
            id: publish.id,
            qos: publish.qos,
            records: 0,
            refused: None,
        };
        if !known {
            self.judge(topic, &publish, &mut due, intake);
        }
        self.batch.by_qos[publish.qos as usize] += 1;
        self.batch.cost += publish.payload.len() + OVERHEAD;
        self.batch.dues.push(due);
        if publish.qos == Qos::ExactlyOnce && !known {
            self.waiting.insert(publish.id);
        }
        Ok(())
    }

    /// The topic that an alias stands for; `None` where the packet names it itself.
    fn resolve(&mut self, publish: &Publish<'_>) -> Result<Option<String>, Reason> {
        let Some(alias) = publish.alias else {
            return if publish.topic.is_empty() {
                Err(Reason::TopicAliasInvalid)
            } else {
                Ok(None)
            };
        };
        let slot = usize::from(alias).checked_sub(1).and_then(|i| self.aliases.get_mut(i));
        let slot = slot.ok_or(Reason::TopicAliasInvalid)?;
        if publish.topic.is_empty() {
            return slot.clone().map(Some).ok_or(Reason::TopicAliasInvalid);
        }
        if slot.as_deref() != Some(publish.topic) && publish.topic.len() <= topic::LONGEST {
            *slot = Some(publish.topic.to_owned());
        }
        Ok(None)
    }

    fn judge(&mut self, topic: &str, publish: &Publish<'_>, due: &mut Due, intake: &Intake) {
        let mut context = Context::new(Door::Mqtt, intake.clock().now());
        context.content_type = publish.content_type.as_deref();
        let place = self.place(topic);
        let may = |place: &Place| self.principal.may(Action::Publish(&place.patient, &place.sensor));
        let verdicts = match &place {
            Some(place) => {
                let context = context.on_topic(place.patient.as_str(), place.sensor.as_str(), place.kind);
                if may(place) {
                    intake.judge(&publish.payload, &context)
                } else {
                    due.refused = Some(Whole::NotAuthorized);
                    metrics::refused("not_authorised");
                    let refusal = *Fault::NotYours.whole("");
                    vec![accept::refuse(publish.payload.clone(), &context, refusal)]
                }
            }
            None => {
                due.refused = Some(Whole::TopicNameInvalid);
                metrics::refused("topic");
                let refusal = *Fault::UnknownTopic.about("topic", topic);
                vec![accept::refuse(publish.payload.clone(), &context, refusal)]
            }
        };
        due.records = self.batch.add(verdicts);
    }

    fn place(&mut self, topic: &str) -> Option<Place> {
        if let Some(place) = self.places.get(topic) {
            return place.clone();
        }
        let place = place_of(topic);
        if self.places.len() >= KNOWN_TOPICS {
            self.places.clear();
        }
        self.places.insert(topic.to_owned(), place.clone());
        place
    }

    /// The client was told that a message is settled for good.
    pub(super) fn closed(&mut self, n: usize) {
        self.open = self.open.saturating_sub(n);
    }
}

impl Batch {
    /// Adds the verdicts of one message; returns how many records they are.
    fn add(&mut self, mut verdicts: Vec<Verdict>) -> usize {
        let records = accept::number_on(&mut verdicts, &mut self.records);
        self.verdicts.append(&mut verdicts);
        records
    }
}

fn place_of(topic: &str) -> Option<Place> {
    let inward = topic::inward(topic)?;
    Some(Place {
        patient: PatientId::new(inward.patient).ok()?,
        sensor: SensorId::new(inward.sensor).ok()?,
        kind: inward.kind,
    })
}
