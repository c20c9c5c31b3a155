//! Judges a message record by record. Pure: bytes and circumstances in, verdicts out.
//!
//! One bad record never costs its neighbours. A message that cannot be taken apart is one refusal that keeps all its
//! bytes. What the sender says about ids and times of arrival is never trusted: both are made here.

mod alarm;
mod any;
mod avro;
mod cbor;
mod circumstances;
mod json;
mod judge;
mod pressure;
mod reading;
pub(crate) mod scan;
mod senml;
mod status;
mod time;
mod waveform;

use bytes::Bytes;
use schemas::access::Principal;
use schemas::codec::Catalogue;
use schemas::facts::Door;
use schemas::ids::{EventId, PatientId};
use schemas::journal::Envelope;
use schemas::policy::Policy;
use schemas::refused::Rejection;
use schemas::time::Timestamp;
use smol_str::SmolStr;

use crate::refusal::{Fault, Refusal, Refused};
use crate::roster::Roster;

/// What a message may hold, by the way it came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Kind {
    /// Readings and alarms (MQTT `…/data`).
    Data,
    /// Status (MQTT `…/status`).
    Status,
    /// Either: a record with a `state` or `command_id` and no `type` is a status.
    #[default]
    Mixed,
}

/// A place that keeps what it gave us and may give it again: then with the same origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin {
    /// The message's place there, unlike any other for ever.
    pub id: EventId,
    /// When that place took it, by its clock; `None` where it does not say.
    pub at: Option<Timestamp>,
}

/// The circumstances of a message.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// Which door it came through.
    pub door: Door,
    /// The patient named by the topic; `None` where the records say it themselves.
    pub patient: Option<&'a str>,
    /// The sensor named by the topic; `None` where the records say it themselves.
    pub sensor: Option<&'a str>,
    /// What the message may hold.
    pub kind: Kind,
    /// How it was labelled; without a label the first bytes tell.
    pub content_type: Option<&'a str>,
    /// When it reached our door, by our clock.
    pub received_at: Timestamp,
    /// Sent by the door itself in a device's name because its connection broke.
    pub last_will: bool,
    /// Who sends: records they may not write are refused. `None` where that was checked before (a topic's owner).
    pub principal: Option<&'a Principal>,
    /// Somebody has said whose it is, whatever else is known.
    pub said: Option<&'a PatientId>,
    /// The place of the message's first record, for messages that are part of a larger one; else 0.
    pub first_index: i32,
    /// Where it was kept before it came to us, where it was.
    pub origin: Option<Origin>,
}

impl<'a> Context<'a> {
    /// A message that names patient and sensor in its records, unlabelled.
    #[must_use]
    pub const fn new(door: Door, received_at: Timestamp) -> Self {
        Self {
            door,
            patient: None,
            sensor: None,
            kind: Kind::Mixed,
            content_type: None,
            received_at,
            last_will: false,
            principal: None,
            said: None,
            first_index: 0,
            origin: None,
        }
    }

    /// When it came to us, or to the place that kept it for us: the same however often it is read there.
    #[must_use]
    pub fn came_at(&self) -> Timestamp {
        self.origin.and_then(|origin| origin.at).unwrap_or(self.received_at)
    }

    /// The same message from a topic that names patient and sensor.
    #[must_use]
    pub const fn on_topic(mut self, patient: &'a str, sensor: &'a str, kind: Kind) -> Self {
        self.patient = Some(patient);
        self.sensor = Some(sensor);
        self.kind = kind;
        self
    }
}

/// How large things may be. Reaching a bound refuses the record (`too_large`), never the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Bytes of one record.
    pub record_bytes: usize,
    /// Records in one message.
    pub records: usize,
    /// Objects and arrays within each other.
    pub depth: usize,
    /// Samples of one waveform.
    pub samples: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            record_bytes: 256 << 10,
            records: 10_000,
            depth: 16,
            samples: 32_768,
        }
    }
}

/// What judging goes by, beside the message.
#[derive(Debug, Clone, Copy)]
pub struct Rules<'a> {
    /// How far a clock may be ahead.
    pub policy: &'a Policy,
    /// Avro schemas that are known.
    pub catalogue: &'a Catalogue,
    /// Which sensors are registered, and whose they are.
    pub roster: &'a Roster,
    /// How large things may be.
    pub bounds: Bounds,
}

/// What became of a record.
#[derive(Debug, Clone, PartialEq)]
#[expect(
    clippy::large_enum_variant,
    reason = "nearly every record is a fact: a box for each would cost more"
)]
pub enum Outcome {
    /// It is a fact, ready for the journal.
    Fact(Envelope),
    /// It is refused, bytes whole.
    Refused(Box<Rejection>),
}

/// The verdict on one record. A record that says several things (a blood pressure) has several verdicts with one
/// index, all of them facts: it is accepted or refused as a whole.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    /// Place of the record in its message, from [`Context::first_index`].
    pub index: i32,
    /// What became of it.
    pub outcome: Outcome,
}

impl Verdict {
    /// The fact, where it is one.
    #[must_use]
    pub const fn fact(&self) -> Option<&Envelope> {
        match &self.outcome {
            Outcome::Fact(envelope) => Some(envelope),
            Outcome::Refused(_) => None,
        }
    }

    /// The refusal, where it is one.
    #[must_use]
    pub fn refused(&self) -> Option<&Rejection> {
        match &self.outcome {
            Outcome::Fact(_) => None,
            Outcome::Refused(rejection) => Some(rejection),
        }
    }
}

/// Judges a message (already unpacked): one verdict per record at least, in the order of its records.
#[must_use]
pub fn accept(bytes: &Bytes, context: &Context<'_>, rules: &Rules<'_>) -> Vec<Verdict> {
    let mut bench = Bench {
        context,
        rules,
        verdicts: Vec::new(),
    };
    let judged = match format_of(bytes, context.content_type) {
        Format::Json => json::message(bytes, &mut bench),
        Format::SenmlJson => senml::json(bytes, &mut bench),
        Format::SenmlCbor => senml::cbor(bytes, &mut bench),
        Format::Avro => avro::message(bytes, &mut bench),
    };
    if let Err(refused) = judged {
        // Nothing is accepted from a message that cannot be taken apart: the sender will send it again, whole.
        bench.verdicts.clear();
        bench.refuse(context.first_index, bytes.clone(), (None, None), *refused);
    } else if bench.verdicts.is_empty() {
        bench.refuse(
            context.first_index,
            bytes.clone(),
            (None, None),
            *Fault::Empty.whole(""),
        );
    }
    bench.verdicts
}

/// Numbers the records of one message on from `last`, so that several messages go to the log together and each record has a
/// receipt of its own. Returns how many records they are.
pub(crate) fn number_on(verdicts: &mut [Verdict], last: &mut i32) -> usize {
    let (before, mut own) = (*last, None);
    for verdict in verdicts {
        if own != Some(verdict.index) {
            own = Some(verdict.index);
            *last = last.wrapping_add(1);
        }
        verdict.index = *last;
    }
    usize::try_from(last.wrapping_sub(before)).unwrap_or_default()
}

/// The refusal of bytes that no format could take: what a door itself found wrong (size, encoding, rights).
#[must_use]
pub fn refuse(bytes: Bytes, context: &Context<'_>, refusal: Refusal) -> Verdict {
    Verdict {
        index: context.first_index,
        outcome: Outcome::Refused(Box::new(rejection(
            bytes,
            context,
            (None, None),
            context.first_index,
            refusal,
        ))),
    }
}

/// How a message is written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Json,
    SenmlJson,
    SenmlCbor,
    Avro,
}

/// The format by label, else by first bytes. A label that says nothing about the format (`application/octet-stream`)
/// counts as none.
fn format_of(bytes: &[u8], content_type: Option<&str>) -> Format {
    let label = content_type.map_or("", |c| c.split(';').next().unwrap_or_default().trim());
    let is = |name: &str| label.eq_ignore_ascii_case(name);
    if is("application/json") {
        Format::Json
    } else if is("application/senml+json") {
        Format::SenmlJson
    } else if is("application/senml+cbor") {
        Format::SenmlCbor
    } else if is("avro/binary") || is("application/avro") || is("application/vnd.apache.avro+binary") {
        Format::Avro
    } else {
        match bytes.first() {
            Some(0) => Format::Avro,
            Some(0x80..=0x9f) => Format::SenmlCbor,
            _ if senml::looks_like(bytes) => Format::SenmlJson,
            _ => Format::Json,
        }
    }
}

/// Patient and sensor as a record names them, before anyone knows whether they are ids.
type Named<'a> = (Option<&'a str>, Option<&'a str>);

/// Where verdicts are made and gathered.
struct Bench<'a> {
    context: &'a Context<'a>,
    rules: &'a Rules<'a>,
    verdicts: Vec<Verdict>,
}

impl Bench<'_> {
    fn fact(&mut self, index: i32, envelope: Envelope) {
        self.verdicts.push(Verdict {
            index,
            outcome: Outcome::Fact(envelope),
        });
    }

    fn refuse(&mut self, index: i32, bytes: Bytes, named: Named<'_>, refusal: Refusal) {
        let rejection = rejection(bytes, self.context, named, index, refusal);
        self.verdicts.push(Verdict {
            index,
            outcome: Outcome::Refused(Box::new(rejection)),
        });
    }
}

fn rejection(bytes: Bytes, context: &Context<'_>, named: Named<'_>, index: i32, refusal: Refusal) -> Rejection {
    let text = |t: &str| SmolStr::new(t.get(..t.len().min(256)).unwrap_or_default());
    // What is read again where it was kept is refused again: under the same id, at the same time, so that it is listed once.
    let received_at = context.came_at().min(context.received_at);
    let arrival = received_at.0.to_be_bytes();
    let place = context.origin.as_ref().map_or(&arrival[..], |origin| &origin.id.0[..]);
    let door = context.door.as_str().as_bytes();
    Rejection {
        id: EventId::of("fajma.rejection", &[door, place, &index.to_be_bytes(), &bytes]),
        received_at,
        door: context.door,
        patient_id: context.patient.or(named.0).map(text),
        sensor_id: context.sensor.or(named.1).map(text),
        code: refusal.code,
        field: refusal.field,
        detail: refusal.detail,
        detail_fr: refusal.detail_fr,
        index,
        bytes,
        content_type: context.content_type.map(text),
    }
}

/// The verdict of a check.
type Checked<T> = Result<T, Refused>;
