//! Last wills: what is said in a sensor's name when its connection breaks. Only its own status topic takes one.

use std::sync::Arc;
use std::time::Duration;

use eventlog::LogError;
use mqtt_protocol_core::mqtt::result_code::ConnectReasonCode;
use schemas::access::{Action, Principal};
use schemas::facts::Door;
use schemas::ids::{PatientId, SensorId};
use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::connect::Will;
use super::packet::Version;
use super::sessions::Fate;
use super::{metrics, topic};
use crate::accept::{Context, Kind, Verdict};
use crate::intake::Intake;

/// A last will that may be sent.
#[derive(Debug, Clone)]
pub(super) struct Testament {
    patient: PatientId,
    sensor: SensorId,
    will: Will,
}

impl Testament {
    /// Checks a will at login.
    ///
    /// # Errors
    /// Why the client is not let in with it.
    pub(super) fn checked(
        will: Will,
        version: Version,
        who: &Principal,
        limit: usize,
    ) -> Result<Self, ConnectReasonCode> {
        if will.retain && version == Version::V5 {
            return Err(ConnectReasonCode::RetainNotSupported);
        }
        if will.payload.len() > limit {
            return Err(ConnectReasonCode::PacketTooLarge);
        }
        let place = topic::inward(&will.topic).filter(|t| t.kind == Kind::Status);
        let place = place.ok_or(ConnectReasonCode::TopicNameInvalid)?;
        let (Ok(patient), Ok(sensor)) = (PatientId::new(place.patient), SensorId::new(place.sensor)) else {
            return Err(ConnectReasonCode::TopicNameInvalid);
        };
        if who.may(Action::Publish(&patient, &sensor)) {
            Ok(Self { patient, sensor, will })
        } else {
            Err(ConnectReasonCode::NotAuthorized)
        }
    }

    /// How long it waits for the client to come back.
    pub(super) const fn delay(&self) -> Duration {
        self.will.delay
    }

    /// Waits for its moment, and sends it unless the client has come back. A door that stops does not wait: the
    /// connection did break.
    pub(super) async fn wait(
        self,
        fate: oneshot::Receiver<Fate>,
        intake: Arc<Intake>,
        retry: Duration,
        stop: CancellationToken,
    ) {
        let resumed = tokio::select! {
            fate = fate => fate == Ok(Fate::Resumed),
            () = tokio::time::sleep(self.will.delay) => false,
            () = stop.cancelled() => false,
        };
        if resumed {
            metrics::will("resumed");
        } else {
            self.send(&intake, retry).await;
        }
    }

    /// Makes it durable as a status with `last_will`, trying again while the log is unavailable or our clock wrong.
    pub(super) async fn send(self, intake: &Intake, retry: Duration) {
        const FIRST_PAUSE: Duration = Duration::from_millis(200);
        const LONGEST_PAUSE: Duration = Duration::from_secs(10);
        let give_up = Instant::now() + retry;
        let mut verdicts = None;
        let mut pause = FIRST_PAUSE;
        loop {
            let sent = match intake.hindrance() {
                Some(why) => Err(LogError::Unavailable(why)),
                // Once, so that a repeat is the same fact.
                None => {
                    intake
                        .submit(verdicts.get_or_insert_with(|| self.judge(intake)).clone())
                        .await
                }
            };
            match sent {
                Ok(_) => return metrics::will("sent"),
                Err(error) if Instant::now() + pause >= give_up => {
                    tracing::error!(sensor = %self.sensor, %error, "a last will is lost: the log did not take it");
                    return metrics::will("lost");
                }
                Err(error) => {
                    tracing::warn!(sensor = %self.sensor, %error, "a last will waits for the log");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
    }

    fn judge(&self, intake: &Intake) -> Vec<Verdict> {
        let mut context = Context::new(Door::Mqtt, intake.clock().now());
        context.content_type = self.will.content_type.as_deref();
        context.last_will = true;
        let context = context.on_topic(self.patient.as_str(), self.sensor.as_str(), Kind::Status);
        intake.judge(&self.will.payload, &context)
    }
}
