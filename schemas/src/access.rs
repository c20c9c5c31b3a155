//! Who may see and do what: the one place that says so.

use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

use crate::avro::symbols;
use crate::ids::{PatientId, SensorId};
use crate::time::Timestamp;

symbols! {
    /// What somebody is to the house.
    pub enum Role {
        /// Runs it: may do everything.
        Admin = "admin",
        /// Sees and answers for the patients named in the token.
        Doctor = "doctor",
        /// Sees the patient named in the token.
        Patient = "patient",
        /// Asks SQL.
        Analyst = "analyst",
        /// Reads everything, changes nothing.
        Auditor = "auditor",
        /// Writes for the sensors named in the token.
        Device = "device",
        /// Writes for the sensors named in the token.
        Gateway = "gateway",
    }
}

/// Somebody whose token was good.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Principal {
    /// Who: goes into `by` of what they do.
    pub subject: SmolStr,
    /// As what.
    pub role: Role,
    /// The patients a doctor or a patient may see.
    #[serde(default)]
    pub patients: Vec<PatientId>,
    /// The sensors a device or gateway may write for; `patients`, where it is not empty, bounds it further.
    #[serde(default)]
    pub sensors: Vec<SensorId>,
}

/// What somebody wants to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action<'a> {
    /// Write a reading, alarm or status of a sensor on a patient.
    Publish(&'a PatientId, &'a SensorId),
    /// See a patient's data.
    SeePatient(&'a PatientId),
    /// See data of all patients at once, or of nobody in particular (lists are cut to what one may see).
    SeeAll,
    /// Answer a patient's alert.
    AnswerAlert(&'a PatientId),
    /// Set a patient's thresholds.
    SetThresholds(&'a PatientId),
    /// See how the house runs: statistics, refused input.
    SeeOperations,
    /// Receive the commands of a sensor.
    ReceiveCommands(&'a SensorId),
}

impl Principal {
    /// Whether they may.
    #[must_use]
    pub fn may(&self, action: Action<'_>) -> bool {
        use Action as A;
        match self.role {
            Role::Admin => true,
            Role::Auditor => matches!(action, A::SeePatient(_) | A::SeeAll | A::SeeOperations),
            Role::Doctor => match action {
                A::SeePatient(p) | A::AnswerAlert(p) | A::SetThresholds(p) => self.patients.contains(p),
                _ => false,
            },
            Role::Patient => matches!(action, A::SeePatient(p) if self.patients.contains(p)),
            Role::Device | Role::Gateway => match action {
                A::Publish(p, s) => self.sensors.contains(s) && (self.patients.is_empty() || self.patients.contains(p)),
                A::ReceiveCommands(s) => self.sensors.contains(s),
                _ => false,
            },
            Role::Analyst => false,
        }
    }
}

/// Why a token was not accepted. One answer for all: a prober learns nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the token is missing, altered, expired or not for this house")]
pub struct Refused;

/// Whoever can tell a good token from a bad one.
pub trait Authenticate: Send + Sync {
    /// Who holds this token at `now`.
    ///
    /// # Errors
    /// [`Refused`], whatever is wrong with it.
    fn authenticate(&self, token: &str, now: Timestamp) -> Result<Principal, Refused>;
}
