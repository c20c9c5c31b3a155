//! Who may see and do what: the one place that says so.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

use crate::avro::symbols;
use crate::ids::{PatientId, SensorId, StaffId};
use crate::time::Timestamp;

symbols! {
    /// What somebody is to the house.
    pub enum Role {
        /// Runs it: may do everything.
        Admin = "admin",
        /// Sees and answers for the patients in whose care team they are, and those named in the token.
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

/// Who cares for whom, as it is registered at the moment of asking.
pub trait CareTeams: fmt::Debug + Send + Sync {
    /// Whether a practitioner is in a patient's care team.
    fn cares(&self, staff: &str, patient: &PatientId) -> bool;

    /// The patients in whose care team a practitioner is, by id.
    fn patients(&self, staff: &str) -> Vec<PatientId>;

    /// The registration that stands for the person that a patient is.
    fn person(&self, patient: &PatientId) -> PatientId;

    /// Further registrations of the person that a patient is: what holds for one of them holds for all.
    fn also_known_as(&self, patient: &PatientId) -> Vec<PatientId>;
}

/// What was revoked, or has lost what it was given by, as it stands at the moment of asking.
pub trait Revocations: fmt::Debug + Send + Sync {
    /// Whether what somebody was given holds no more.
    fn is_revoked(&self, subject: &str, grant: &Grant) -> bool;
}

/// What somebody's token was given by.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Grant {
    /// The token's id (`jti`); a session that was begun with a token has that token's. Empty where it has none.
    pub id: SmolStr,
    /// When it was issued.
    pub issued_at: Timestamp,
    /// The key of another issuer that it goes back to, and does not outlive; empty where it is our own.
    pub key: SmolStr,
}

/// What somebody's rights go by that may change while they hold them. It is asked each time, so that a right ends
/// everywhere when it does: on connections that are open as well.
#[derive(Clone, Default)]
pub struct Live {
    grant: Grant,
    teams: Option<Arc<dyn CareTeams>>,
    revocations: Option<Arc<dyn Revocations>>,
}

impl Live {
    /// What somebody was given with their token.
    #[must_use]
    pub fn granted(grant: Grant) -> Self {
        Self {
            grant,
            ..Self::default()
        }
    }

    /// By these care teams.
    #[must_use]
    pub fn with_teams(mut self, teams: Arc<dyn CareTeams>) -> Self {
        self.teams = Some(teams);
        self
    }

    /// Until it is revoked.
    #[must_use]
    pub fn with_revocations(mut self, revocations: Arc<dyn Revocations>) -> Self {
        self.revocations = Some(revocations);
        self
    }

    /// What somebody was given with their token.
    #[must_use]
    pub const fn grant(&self) -> &Grant {
        &self.grant
    }
}

impl fmt::Debug for Live {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Live")
            .field("grant", &self.grant)
            .finish_non_exhaustive()
    }
}

/// Who somebody is does not depend on what is registered, nor on which of their tokens they show.
impl PartialEq for Live {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Live {}

/// Somebody whose token was good.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Principal {
    /// Who: goes into `by` of what they do.
    pub subject: SmolStr,
    /// As what.
    pub role: Role,
    /// The patients a doctor or a patient may see, by token.
    #[serde(default)]
    pub patients: Vec<PatientId>,
    /// Where a doctor's further patients are registered, and what was revoked.
    #[serde(skip)]
    pub live: Live,
    /// The sensors a device or gateway may write for; `patients`, where it is not empty, bounds it further.
    #[serde(default)]
    pub sensors: Vec<SensorId>,
}

/// What somebody wants to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action<'a> {
    /// Write a reading, alarm or status of a sensor on a patient.
    Publish(&'a PatientId, &'a SensorId),
    /// Write something of a sensor that names no patient: whose it is, assignments say.
    PublishOf(&'a SensorId),
    /// See a patient's data.
    SeePatient(&'a PatientId),
    /// See data of all patients at once, or of nobody in particular (lists are cut to what one may see).
    SeeAll,
    /// Answer a patient's alert.
    AnswerAlert(&'a PatientId),
    /// Answer an alert that is about no patient: a sensor that is nobody's.
    AnswerHouseAlert,
    /// Set a patient's thresholds.
    SetThresholds(&'a PatientId),
    /// Plan, open and close a patient's consultations, and write notes to them.
    Consult(&'a PatientId),
    /// See a practitioner's registration.
    SeeStaff(&'a StaffId),
    /// Register patients, practitioners and sensors, change and end registrations.
    Register,
    /// Take tokens back.
    Revoke,
    /// Give sensors commands.
    Command,
    /// See how the house runs: statistics, refused input.
    SeeOperations,
    /// Receive the commands of a sensor.
    ReceiveCommands(&'a SensorId),
}

/// Which practitioners somebody may see: what their list is cut to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StaffSight {
    /// All.
    All,
    /// Themselves.
    Own(StaffId),
    /// None.
    None,
}

/// Whose data somebody may see: what a list is cut to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sight<'a> {
    /// Everybody's, and that of sensors without a patient.
    All,
    /// These patients'.
    Only(Cow<'a, [PatientId]>),
    /// Nobody's: a list is refused, not empty, so that a wrong token does not look like a quiet night.
    None,
}

impl Principal {
    /// Whether they may.
    #[must_use]
    pub fn may(&self, action: Action<'_>) -> bool {
        use Action as A;
        if self.is_revoked() {
            return false;
        }
        match self.role {
            Role::Admin => true,
            Role::Auditor => matches!(action, A::SeePatient(_) | A::SeeAll | A::SeeStaff(_) | A::SeeOperations),
            Role::Doctor => match action {
                A::SeePatient(p) | A::AnswerAlert(p) | A::SetThresholds(p) | A::Consult(p) => self.cares_for(p),
                A::SeeStaff(staff) => self.subject == staff.as_str(),
                _ => false,
            },
            Role::Patient => matches!(action, A::SeePatient(p) if self.names(p)),
            Role::Device | Role::Gateway => match action {
                A::Publish(p, s) => self.sensors.contains(s) && (self.patients.is_empty() || self.names(p)),
                A::PublishOf(s) | A::ReceiveCommands(s) => self.sensors.contains(s),
                _ => false,
            },
            Role::Analyst => false,
        }
    }

    /// Whether what they hold was revoked: then they may do nothing.
    #[must_use]
    pub fn is_revoked(&self) -> bool {
        let revocations = self.live.revocations.as_ref();
        revocations.is_some_and(|revocations| revocations.is_revoked(&self.subject, &self.live.grant))
    }

    /// Whether a patient is this doctor's: by token, or by care team. A doctor is registered under the token's subject.
    fn cares_for(&self, patient: &PatientId) -> bool {
        let registered = |teams: &Arc<dyn CareTeams>| {
            teams.cares(&self.subject, patient)
                || teams
                    .also_known_as(patient)
                    .iter()
                    .any(|patient| teams.cares(&self.subject, patient))
        };
        self.names(patient) || self.live.teams.as_ref().is_some_and(registered)
    }

    /// Whether their token names a patient, under whichever registration.
    fn names(&self, patient: &PatientId) -> bool {
        let other = |teams: &Arc<dyn CareTeams>| {
            let known_as = teams.also_known_as(patient);
            known_as.iter().any(|patient| self.patients.contains(patient))
        };
        self.patients.contains(patient) || self.live.teams.as_ref().is_some_and(other)
    }

    /// Whether a registration stands for its person, as far as is known: what is told of a person is told under that one.
    #[must_use]
    pub fn stands(&self, patient: &PatientId) -> bool {
        let teams = self.live.teams.as_ref();
        teams.is_none_or(|teams| teams.person(patient) == *patient)
    }

    /// These patients, under all their registrations, by id.
    fn everywhere(&self, mut patients: Vec<PatientId>) -> Vec<PatientId> {
        if let Some(teams) = &self.live.teams {
            let others: Vec<_> = patients
                .iter()
                .flat_map(|patient| teams.also_known_as(patient))
                .collect();
            patients.extend(others);
        }
        patients.sort_unstable();
        patients.dedup();
        patients
    }

    /// Whether they hold consultations at all; of whom, [`Action::Consult`] says.
    #[must_use]
    pub fn consults(&self) -> bool {
        matches!(self.role, Role::Admin | Role::Doctor) && !self.is_revoked()
    }

    /// Which practitioners they may see: a doctor is registered under the token's subject.
    #[must_use]
    pub fn staff_sight(&self) -> StaffSight {
        match self.role {
            _ if self.is_revoked() => StaffSight::None,
            Role::Admin | Role::Auditor => StaffSight::All,
            Role::Doctor => StaffId::new(&self.subject).map_or(StaffSight::None, StaffSight::Own),
            Role::Patient | Role::Analyst | Role::Device | Role::Gateway => StaffSight::None,
        }
    }

    /// Whose data they may see.
    #[must_use]
    pub fn sight(&self) -> Sight<'_> {
        match self.role {
            _ if self.is_revoked() => Sight::None,
            Role::Admin | Role::Auditor => Sight::All,
            Role::Doctor => {
                let mut own = self.patients.clone();
                own.extend(
                    self.live
                        .teams
                        .as_ref()
                        .map_or_else(Vec::new, |teams| teams.patients(&self.subject)),
                );
                Sight::Only(Cow::Owned(self.everywhere(own)))
            }
            Role::Patient => Sight::Only(Cow::Owned(self.everywhere(self.patients.clone()))),
            Role::Analyst | Role::Device | Role::Gateway => Sight::None,
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

    /// The same, and when the token ends: a connection that outlives its token is closed then.
    ///
    /// # Errors
    /// [`Refused`], whatever is wrong with it.
    fn authenticate_until(&self, token: &str, now: Timestamp) -> Result<(Principal, Timestamp), Refused> {
        self.authenticate(token, now)
            .map(|principal| (principal, Timestamp::MAX))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    fn somebody(role: Role) -> Principal {
        Principal {
            live: Live::default(),
            subject: "x".into(),
            role,
            patients: vec![PatientId::new("own").unwrap()],
            sensors: vec![SensorId::new("mine").unwrap()],
        }
    }

    #[test]
    fn who_may_do_what() {
        use Action as A;
        let (own, other) = (PatientId::new("own").unwrap(), PatientId::new("other").unwrap());
        let (mine, theirs) = (SensorId::new("mine").unwrap(), SensorId::new("theirs").unwrap());
        let (me, colleague) = (StaffId::new("x").unwrap(), StaffId::new("y").unwrap());
        let actions = [
            A::Publish(&own, &mine),
            A::Publish(&other, &mine),
            A::Publish(&own, &theirs),
            A::SeePatient(&own),
            A::SeePatient(&other),
            A::SeeAll,
            A::AnswerAlert(&own),
            A::AnswerAlert(&other),
            A::AnswerHouseAlert,
            A::SetThresholds(&own),
            A::SetThresholds(&other),
            A::Consult(&own),
            A::Consult(&other),
            A::SeeStaff(&me),
            A::SeeStaff(&colleague),
            A::Register,
            A::Revoke,
            A::Command,
            A::SeeOperations,
            A::ReceiveCommands(&mine),
            A::ReceiveCommands(&theirs),
            A::PublishOf(&mine),
            A::PublishOf(&theirs),
        ];
        for (role, may) in [
            (Role::Admin, "yyyyyyyyyyyyyyyyyyyyyyy"),
            (Role::Auditor, "...yyy.......yy...y...."),
            (Role::Doctor, "...y..y..y.y.y........."),
            (Role::Patient, "...y..................."),
            (Role::Analyst, "......................."),
            (Role::Device, "y..................y.y."),
            (Role::Gateway, "y..................y.y."),
        ] {
            let who = somebody(role);
            let answers: String = actions.iter().map(|a| if who.may(*a) { 'y' } else { '.' }).collect();
            assert_eq!(answers, may, "{role}");
        }
    }

    #[test]
    fn what_is_seen_in_lists_is_what_may_be_seen_one_by_one() {
        let (own, other) = (PatientId::new("own").unwrap(), PatientId::new("other").unwrap());
        for role in Role::ALL {
            let who = somebody(*role);
            for patient in [&own, &other] {
                let listed = match who.sight() {
                    Sight::All => true,
                    Sight::Only(patients) => patients.contains(patient),
                    Sight::None => false,
                };
                assert_eq!(listed, who.may(Action::SeePatient(patient)), "{role} {patient}");
            }
        }
    }

    #[test]
    fn practitioners_in_a_list_are_those_seen_one_by_one() {
        let (me, colleague) = (StaffId::new("x").unwrap(), StaffId::new("y").unwrap());
        for role in Role::ALL {
            let who = somebody(*role);
            for staff in [&me, &colleague] {
                let listed = match who.staff_sight() {
                    StaffSight::All => true,
                    StaffSight::Own(own) => own == *staff,
                    StaffSight::None => false,
                };
                assert_eq!(listed, who.may(Action::SeeStaff(staff)), "{role} {staff}");
            }
        }
    }

    #[derive(Debug)]
    struct One(Mutex<bool>);

    impl CareTeams for One {
        fn cares(&self, staff: &str, patient: &PatientId) -> bool {
            *self.0.lock().unwrap() && staff == "x" && patient.as_str() == "cared"
        }

        fn patients(&self, staff: &str) -> Vec<PatientId> {
            let cared = PatientId::new("cared").unwrap();
            if self.cares(staff, &cared) {
                vec![cared]
            } else {
                Vec::new()
            }
        }

        fn person(&self, patient: &PatientId) -> PatientId {
            let stands = if patient.as_str() == "again" {
                "cared"
            } else {
                patient.as_str()
            };
            PatientId::new(stands).unwrap()
        }

        fn also_known_as(&self, patient: &PatientId) -> Vec<PatientId> {
            let known = [("cared", "again"), ("again", "cared"), ("own", "twin"), ("twin", "own")];
            let other = known.iter().find(|(id, _)| *id == patient.as_str());
            other
                .map(|(_, other)| PatientId::new(other).unwrap())
                .into_iter()
                .collect()
        }
    }

    #[test]
    fn a_person_is_seen_under_every_registration_by_who_sees_one() {
        let team = Arc::new(One(Mutex::new(true)));
        let seen = |role| {
            let who = Principal {
                live: Live::default().with_teams(Arc::clone(&team) as Arc<dyn CareTeams>),
                ..somebody(role)
            };
            let sees = |id: &&str| who.may(Action::SeePatient(&PatientId::new(id).unwrap()));
            let seen: Vec<&str> = ["again", "cared", "other", "own", "twin"]
                .into_iter()
                .filter(sees)
                .collect();
            if let Sight::Only(listed) = who.sight() {
                assert!(listed.iter().map(PatientId::as_str).eq(seen.iter().copied()), "{role}");
            }
            seen.join(" ")
        };
        assert_eq!(seen(Role::Doctor), "again cared own twin");
        assert_eq!(seen(Role::Patient), "own twin");
        for role in [Role::Analyst, Role::Device, Role::Gateway] {
            assert_eq!(seen(role), "");
        }
    }

    #[test]
    fn a_care_team_gives_its_doctors_rights_for_as_long_as_it_is_registered() {
        let (own, cared) = (PatientId::new("own").unwrap(), PatientId::new("cared").unwrap());
        let team = Arc::new(One(Mutex::new(true)));
        let with_team = |role, subject: &str| Principal {
            subject: subject.into(),
            live: Live::default().with_teams(Arc::clone(&team) as Arc<dyn CareTeams>),
            ..somebody(role)
        };
        let (doctor, colleague) = (with_team(Role::Doctor, "x"), with_team(Role::Doctor, "y"));
        assert!(doctor.may(Action::SeePatient(&cared)) && doctor.may(Action::AnswerAlert(&cared)));
        assert!(doctor.may(Action::SeePatient(&own)), "by token");
        let lists = |doctor: &Principal, id: &PatientId| matches!(doctor.sight(), Sight::Only(own) if own.contains(id));
        assert!(lists(&doctor, &cared) && lists(&doctor, &own));
        assert!(!colleague.may(Action::SeePatient(&cared)));
        for role in [Role::Patient, Role::Analyst, Role::Device, Role::Gateway] {
            assert!(!with_team(role, "x").may(Action::SeePatient(&cared)), "{role}");
        }
        *team.0.lock().unwrap() = false;
        assert!(!doctor.may(Action::SeePatient(&cared)), "the same doctor, later");
        assert!(!lists(&doctor, &cared) && lists(&doctor, &own));
    }

    #[derive(Debug)]
    struct Taken(Mutex<bool>);

    impl Revocations for Taken {
        fn is_revoked(&self, subject: &str, grant: &Grant) -> bool {
            *self.0.lock().unwrap() && subject == "x" && grant.id == "one"
        }
    }

    #[test]
    fn what_was_revoked_holds_no_more_for_any_role() {
        let (own, mine, me) = (
            PatientId::new("own").unwrap(),
            SensorId::new("mine").unwrap(),
            StaffId::new("x").unwrap(),
        );
        let taken = Arc::new(Taken(Mutex::new(false)));
        for (role, action) in [
            (Role::Admin, Action::Register),
            (Role::Auditor, Action::SeeAll),
            (Role::Doctor, Action::AnswerAlert(&own)),
            (Role::Patient, Action::SeePatient(&own)),
            (Role::Device, Action::Publish(&own, &mine)),
            (Role::Gateway, Action::ReceiveCommands(&mine)),
            (Role::Gateway, Action::PublishOf(&mine)),
            (Role::Admin, Action::PublishOf(&mine)),
        ] {
            let holding = |id: &str| {
                let grant = Grant {
                    id: id.into(),
                    ..Grant::default()
                };
                let revocations = Arc::clone(&taken) as Arc<dyn Revocations>;
                Principal {
                    live: Live::granted(grant).with_revocations(revocations),
                    ..somebody(role)
                }
            };
            let (one, other) = (holding("one"), holding("other"));
            *taken.0.lock().unwrap() = false;
            assert!(one.may(action), "{role}");
            *taken.0.lock().unwrap() = true;
            assert!(!one.may(action) && other.may(action), "{role}, while it is held");
            assert!(!one.may(Action::SeeStaff(&me)) && !one.consults(), "{role}");
            assert_eq!(
                (one.sight(), one.staff_sight()),
                (Sight::None, StaffSight::None),
                "{role}"
            );
        }
    }

    #[test]
    fn a_device_bound_to_no_patient_writes_for_any_of_them() {
        let mut device = somebody(Role::Device);
        device.patients.clear();
        let (other, mine) = (PatientId::new("other").unwrap(), SensorId::new("mine").unwrap());
        assert!(device.may(Action::Publish(&other, &mine)));
    }
}
