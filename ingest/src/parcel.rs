//! Messages that we fetch from elsewhere: nobody waits for an answer, so whatever is wrong with one must end as a refusal
//! in `fajma.rejected`, and never hold up those behind it.

use bytes::Bytes;
use eventlog::LogError;
use schemas::facts::Door;
use schemas::ids::{PatientId, SensorId};

use crate::accept::{self, Context, Kind, Origin, Verdict};
use crate::intake::Intake;
use crate::refusal::Fault;

/// What a message is about, by where it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// An MQTT topic that a sensor writes to.
    Sensor {
        /// The patient's level.
        patient: PatientId,
        /// The sensor's level.
        sensor: SensorId,
        /// What may be written there.
        kind: Kind,
    },
    /// Its records have to say it themselves.
    Unsaid,
    /// An MQTT topic, or what should have been one, on which nothing is taken.
    Nowhere(String),
    /// It was larger than is read at all; what is here is its beginning.
    TooLarge,
}

/// A message from elsewhere.
#[derive(Debug, Clone)]
pub(crate) struct Parcel {
    pub(crate) bytes: Bytes,
    pub(crate) place: Place,
    pub(crate) content_type: Option<String>,
    pub(crate) origin: Option<Origin>,
}

impl Parcel {
    /// Judges it. Who can write where it was found is trusted with every sensor: rights end at the other's own door.
    fn judge(&self, door: Door, intake: &Intake) -> Vec<Verdict> {
        let context = self.context(door, intake);
        let refuse = |fault: crate::refusal::Refused| vec![accept::refuse(self.bytes.clone(), &context, *fault)];
        match &self.place {
            Place::Sensor { patient, sensor, kind } => {
                let context = context.on_topic(patient.as_str(), sensor.as_str(), *kind);
                intake.judge(&self.bytes, &context)
            }
            Place::Unsaid => intake.judge(&self.bytes, &context),
            Place::Nowhere(topic) => refuse(Fault::UnknownTopic.about("topic", topic)),
            Place::TooLarge => refuse(Fault::RecordTooLarge.whole(intake.limits().bounds.record_bytes)),
        }
    }

    fn context<'a>(&'a self, door: Door, intake: &Intake) -> Context<'a> {
        let mut context = Context::new(door, intake.clock().now());
        context.content_type = self.content_type.as_deref();
        context.origin = self.origin;
        context
    }
}

/// Makes messages durable, in order, the refused as well. One that the log does not take is refused in its stead.
///
/// # Errors
/// As [`Intake::submit`]: nothing may be acknowledged; they can all be given again.
pub(crate) async fn keep(intake: &Intake, door: Door, parcels: &[Parcel]) -> Result<(), LogError> {
    let mut last = 0;
    let mut together = Vec::new();
    for parcel in parcels {
        let mut verdicts = parcel.judge(door, intake);
        accept::number_on(&mut verdicts, &mut last);
        together.append(&mut verdicts);
    }
    match intake.submit(together).await {
        Err(LogError::TooLarge { .. }) => {}
        done => return done.map(drop),
    }
    for parcel in parcels {
        match intake.submit(parcel.judge(door, intake)).await {
            Err(LogError::TooLarge { .. }) => {
                let larger = Parcel {
                    place: Place::TooLarge,
                    ..parcel.clone()
                };
                intake.submit(larger.judge(door, intake)).await?;
            }
            done => drop(done?),
        }
    }
    Ok(())
}
