//! Whose record it is, when it was measured, and how it is told from the next: what readings, alarms and status share.

use schemas::access::{Action, Principal};
use schemas::ids::{EventId, Key, PatientId, SensorId};
use schemas::journal::{ClockQuality, Envelope, Fact};
use schemas::metric::Metric;
use schemas::policy::Admission;
use schemas::time::Timestamp;
use smol_str::SmolStr;

use super::any::Any;
use super::json::Raw;
use super::{Bench, Checked, Context, Origin, time};
use crate::refusal::Fault;
use crate::roster::{Standing, Whose};

/// What a record is about, which decides what becomes of it where it names another patient than wears the sensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum About {
    /// What was measured on a patient: where two say different things, nobody guesses.
    Measured,
    /// An alarm about a patient: it goes to who is said to wear the sensor, whomever it names. Where that is nobody it is the
    /// sensor's, and is heard all the same: somebody may be dying with a sensor that nobody told us of.
    Alarm,
    /// The sensor itself, or the place where it is.
    Device,
}

/// A record's circumstances, checked.
#[derive(Debug)]
pub(super) struct Circumstances {
    pub(super) sensor: SensorId,
    /// Whom the record names.
    named: Option<PatientId>,
    /// Whose it is.
    key: Key,
    /// What is added to values of calibrated metrics.
    offsets: Vec<(Metric, f64)>,
    /// When it was measured; `None` where the device did not say.
    pub(super) device_time: Option<Timestamp>,
    pub(super) seq: Option<i64>,
    pub(super) epoch: Option<i64>,
    /// The moment that stands for the device's where it has none: by our clock, or by that of who kept it for us.
    instead: Timestamp,
    received_at: Timestamp,
    origin: Option<Origin>,
    index: i32,
}

impl Circumstances {
    /// Reads and checks them.
    pub(super) fn of(raw: &Raw<'_>, index: i32, bench: &Bench<'_>) -> Checked<Self> {
        let context = bench.context;
        let sensor =
            named("sensor_id", &raw.sensor_id, context.sensor)?.ok_or_else(|| Fault::Missing.of("sensor_id"))?;
        let sensor = SensorId::new(sensor).map_err(|_| Fault::BadId.of("sensor_id"))?;
        let patient = named("patient_id", &raw.patient_id, context.patient)?
            .map(|p| PatientId::new(p).map_err(|_| Fault::BadId.of("patient_id")))
            .transpose()?;
        if !may_write(context.principal, patient.as_ref(), &sensor) {
            return Err(Fault::NotYours.of("sensor_id"));
        }
        let device_time = device_time(&raw.at, context, bench)?;
        let instead = match (raw.before_arrival, device_time) {
            (Some(moment), _) => not_ahead(moment, context, bench)?,
            (None, Some(_)) => context.received_at,
            (None, None) => not_ahead(context.came_at(), context, bench)?,
        };
        Ok(Self {
            key: Key::Sensor(sensor.clone()),
            offsets: Vec::new(),
            sensor,
            named: patient,
            device_time,
            instead,
            origin: context.origin,
            seq: count("seq", &raw.seq)?,
            epoch: count("epoch", &raw.epoch)?,
            received_at: context.received_at,
            index,
        })
    }

    /// When it was measured.
    fn measured_at(&self) -> Timestamp {
        self.device_time.unwrap_or(self.instead)
    }

    /// Finds out whose it is: the patient's whose sensor it was when it measured this. Where nothing has been said of that
    /// moment, and admission is open, it is the patient's whom the record names.
    pub(super) fn attribute(&mut self, about: About, bench: &Bench<'_>) -> Checked<()> {
        let Standing {
            registered,
            whose,
            offsets,
        } = bench.rules.roster.look(&self.sensor, self.measured_at());
        self.offsets = offsets;
        if let Some(said) = bench.context.said {
            self.key = Key::Patient(said.clone());
            return Ok(());
        }
        let by_registration = bench.rules.policy.admission == Admission::Registered;
        if by_registration && !registered && about != About::Alarm {
            return Err(Fault::UnknownSensor.of("sensor_id"));
        }
        let other = || Err(Fault::OtherPatients.of("patient_id"));
        let person = |patient| bench.rules.roster.person(patient);
        let named = self.named.clone().map(person);
        let patient = match (whose, &named) {
            (Whose::Of(owner), Some(named)) if about == About::Measured && person(owner.clone()) != *named => {
                return other();
            }
            // Under the registration whose journal was told so, whatever stands for the person.
            (Whose::Of(owner), _) => Some(owner),
            (Whose::Unsaid, Some(named)) if !by_registration => Some(named.clone()),
            (Whose::Unsaid | Whose::Nobodys, Some(_)) if about == About::Measured => return other(),
            // Of one that was taken off, something is known, registered or not.
            (Whose::Unsaid, None) if about == About::Measured && !registered => {
                return Err(Fault::Missing.of("patient_id"));
            }
            // Kept until somebody says whose it is.
            (Whose::Unsaid | Whose::Nobodys, _) => None,
        };
        if let Some(patient) = patient {
            self.key = Key::Patient(patient);
        }
        Ok(())
    }

    /// What is added to a value of a metric.
    pub(super) fn offset(&self, metric: Metric) -> Option<f64> {
        self.offsets
            .iter()
            .find(|(known, _)| *known == metric)
            .map(|(_, offset)| *offset)
    }

    /// Whether a repeat of this record cannot be told from a new one.
    pub(super) const fn at_least_once(&self) -> bool {
        self.device_time.is_none() && self.seq.is_none()
    }

    /// The id of what the device said: equal content is the same fact. Where it gave neither time nor sequence, the message's
    /// origin, or its arrival where it has none, and the place in the message keep two equal values apart.
    pub(super) fn id(&self, domain: &str, what: &[u8], content: &[u8]) -> EventId {
        let [time, epoch, seq] = [self.device_time.map(|t| t.0), self.epoch, self.seq].map(|n| n.map(i64::to_be_bytes));
        let optional = |n: &'_ Option<[u8; 8]>| -> [u8; 9] {
            let mut bytes = [0; 9];
            if let Some(n) = n {
                bytes[0] = 1;
                bytes[1..].copy_from_slice(n);
            }
            bytes
        };
        let (time, epoch, seq) = (optional(&time), optional(&epoch), optional(&seq));
        let sensor = self.sensor.as_str().as_bytes();
        if self.at_least_once() {
            let (arrival, index) = (self.received_at.0.to_be_bytes(), self.index.to_be_bytes());
            let came = self.origin.as_ref().map_or(&arrival[..], |origin| &origin.id.0[..]);
            EventId::of(domain, &[sensor, what, &time, &epoch, &seq, content, came, &index])
        } else {
            EventId::of(domain, &[sensor, what, &time, &epoch, &seq, content])
        }
    }

    /// A fact in the sensor's own journal, with these circumstances.
    pub(super) fn of_the_sensor(&self, id: EventId, fact: Fact) -> Envelope {
        Envelope {
            key: Key::Sensor(self.sensor.clone()),
            ..self.envelope(id, fact)
        }
    }

    /// The fact with these circumstances.
    pub(super) fn envelope(&self, id: EventId, fact: Fact) -> Envelope {
        Envelope {
            id,
            key: self.key.clone(),
            measured_at: self.measured_at(),
            gateway_at: self.origin.and_then(|origin| origin.at),
            received_at: self.received_at,
            clock: if self.device_time.is_some() {
                ClockQuality::Device
            } else {
                ClockQuality::Arrival
            },
            cause: None,
            fact,
        }
    }
}

/// A name from the topic, else from the record; both must agree.
fn named<'r>(field: &str, record: &'r Any<'_>, topic: Option<&'r str>) -> Checked<Option<&'r str>> {
    match (record, topic) {
        (Any::Absent | Any::Null, topic) => Ok(topic),
        (Any::Text(text), Some(topic)) if text != topic => Err(Fault::OtherThanTopic.of(field)),
        (Any::Text(text), _) => Ok(Some(text)),
        _ => Err(Fault::BadId.of(field)),
    }
}

/// Whether the sender may write for this sensor, on this patient where one is named.
fn may_write(principal: Option<&Principal>, patient: Option<&PatientId>, sensor: &SensorId) -> bool {
    match (principal, patient) {
        (None, _) => true,
        (Some(principal), Some(patient)) => principal.may(Action::Publish(patient, sensor)),
        (Some(principal), None) => principal.may(Action::PublishOf(sensor)),
    }
}

fn device_time(at: &Any<'_>, context: &Context<'_>, bench: &Bench<'_>) -> Checked<Option<Timestamp>> {
    let moment = match at {
        Any::Absent | Any::Null => return Ok(None),
        Any::Moment(moment) => *moment,
        Any::Text(text) => time::read(text).ok_or_else(|| Fault::TimeUnreadable.of("at"))?,
        _ => return Err(Fault::TimeUnreadable.of("at")),
    };
    not_ahead(moment, context, bench).map(Some)
}

fn not_ahead(moment: Timestamp, context: &Context<'_>, bench: &Bench<'_>) -> Checked<Timestamp> {
    let ahead = moment - context.received_at;
    if ahead > bench.rules.policy.allowed_skew {
        return Err(Fault::TimeAhead.about("at", ahead.as_seconds().round()));
    }
    Ok(moment)
}

/// A whole number, 0 or greater.
pub(super) fn count(field: &str, any: &Any<'_>) -> Checked<Option<i64>> {
    match any {
        Any::Absent | Any::Null => Ok(None),
        Any::Int(n) if *n >= 0 => Ok(Some(*n)),
        Any::Num(n) if n.fract() == 0.0 && (0.0..9_007_199_254_740_992.0).contains(n) => Ok(Some(*n as i64)),
        _ => Err(Fault::BadCount.of(field)),
    }
}

/// A finite number. -0 is 0: they are one value, and must be one fact.
pub(super) fn number(field: &str, any: &Any<'_>) -> Checked<f64> {
    match any {
        Any::Int(n) => Ok(*n as f64),
        Any::Num(n) if n.is_finite() => Ok(*n + 0.0),
        Any::Absent => Err(Fault::Missing.of(field)),
        _ => Err(Fault::NotANumber.of(field)),
    }
}

/// An optional number between two bounds.
pub(super) fn within(field: &str, any: &Any<'_>, low: f64, high: f64) -> Checked<Option<f64>> {
    if any.is_none() {
        return Ok(None);
    }
    let n = number(field, any)?;
    if (low..=high).contains(&n) {
        Ok(Some(n))
    } else {
        Err(Fault::Implausible.about(field, n))
    }
}

/// An optional text of at most `limit` characters.
pub(super) fn text(field: &str, any: &Any<'_>, limit: usize) -> Checked<Option<SmolStr>> {
    match any {
        Any::Absent | Any::Null => Ok(None),
        Any::Text(text) if text.chars().count() <= limit => Ok(Some(SmolStr::new(text))),
        _ => Err(Fault::BadText.about(field, limit)),
    }
}

/// An optional truth.
pub(super) fn flag(field: &str, any: &Any<'_>) -> Checked<Option<bool>> {
    match any {
        Any::Absent | Any::Null => Ok(None),
        Any::Bool(b) => Ok(Some(*b)),
        _ => Err(Fault::BadFlag.of(field)),
    }
}
