//! Care teams as they are registered now: which practitioner sees which patients.
//!
//! Begun from the views, kept up from the journal: a registration counts for requests, streams and subscriptions of this
//! process a fraction of a second after it is durable. A registration that has ended, the patient's or the practitioner's
//! own, gives no right.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, PoisonError, RwLock};

use eventlog::Clock;
use eventlog::follow::Follows;
use projections::query::{self, Paging, Registered};
use projections::store::{ViewError, ViewStore};
use schemas::access;
use schemas::alias::Aliases;
use schemas::facts::Patient;
use schemas::ids::{Key, PatientId, StaffId};
use schemas::journal::{Envelope, Fact};
use schemas::registry::{Record, Register};
use schemas::time::Timestamp;
use smol_str::SmolStr;

/// The care teams of one log, as this process knows them.
#[derive(Debug)]
pub struct CareTeams {
    clock: Arc<dyn Clock>,
    known: RwLock<Known>,
}

/// A member of a team, from when until when.
type Member = (StaffId, Timestamp, Timestamp);

/// Everybody in a patient's team.
fn members(patient: &Patient) -> Vec<Member> {
    let always = patient
        .care_team
        .iter()
        .map(|id| (id.clone(), Timestamp::MIN, Timestamp::MAX));
    let terms = patient.care_terms.iter().map(|term| {
        let (from, until) = (
            term.from.unwrap_or(Timestamp::MIN),
            term.until.unwrap_or(Timestamp::MAX),
        );
        (term.staff_id.clone(), from, until)
    });
    always.chain(terms).collect()
}

#[derive(Debug, Default)]
struct Known {
    /// The revision and team of each patient.
    teams: HashMap<PatientId, (i32, Vec<Member>)>,
    /// The patients of each practitioner, with when.
    patients: HashMap<SmolStr, BTreeMap<PatientId, Vec<(Timestamp, Timestamp)>>>,
    /// The revision of each practitioner's registration, and those that have ended.
    staff: HashMap<SmolStr, i32>,
    gone: HashSet<SmolStr>,
    aliases: Aliases,
}

impl Known {
    /// A patient's registration as of a revision; an earlier one than is known is no news.
    fn patient(&mut self, id: &PatientId, revision: i32, team: Vec<Member>) {
        let (known, before) = self.teams.remove(id).unwrap_or_default();
        if revision < known {
            self.teams.insert(id.clone(), (known, before));
            return;
        }
        for (staff, ..) in before {
            if let Some(patients) = self.patients.get_mut(staff.as_str()) {
                patients.remove(id);
            }
        }
        for (staff, from, until) in &team {
            let patients = self.patients.entry(SmolStr::new(staff.as_str())).or_default();
            patients.entry(id.clone()).or_default().push((*from, *until));
        }
        self.teams.insert(id.clone(), (revision, team));
    }

    fn practitioner(&mut self, id: &str, revision: i32, ended: bool) {
        let known = self.staff.entry(id.into()).or_default();
        if revision < *known {
            return;
        }
        *known = revision;
        if ended {
            self.gone.insert(id.into());
        } else {
            self.gone.remove(id);
        }
    }

    fn fact(&mut self, key: &Key, fact: &Fact) {
        match (key, fact) {
            (Key::Patient(id), Fact::PatientRecorded(it)) => {
                let team = if it.ended { Vec::new() } else { members(&it.patient) };
                self.patient(id, it.revision, team);
            }
            (Key::Patient(id), Fact::PatientMerged(it)) => self.aliases.merge(id, it.into.clone()),
            (Key::Staff(id), Fact::PractitionerRecorded(it)) => self.practitioner(id.as_str(), it.revision, it.ended),
            _ => {}
        }
    }

    fn row(&mut self, row: Registered) {
        match row.record {
            Record::Patient(patient) => {
                if let Ok(id) = PatientId::new(&row.id) {
                    let team = if row.ended { Vec::new() } else { members(&patient) };
                    self.patient(&id, row.revision, team);
                }
            }
            Record::Practitioner(_) => self.practitioner(&row.id, row.revision, row.ended),
            Record::Sensor(_) => {}
        }
    }
}

impl CareTeams {
    /// Knows nothing yet.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Arc<Self> {
        Arc::new(Self {
            clock,
            known: RwLock::default(),
        })
    }

    /// Reads the registrations that the views show. What comes later is told by whoever follows the journal.
    ///
    /// # Errors
    /// [`ViewError`].
    pub async fn begin(&self, views: &dyn ViewStore) -> Result<(), ViewError> {
        for register in [Register::Practitioners, Register::Patients] {
            let mut cursor: Option<String> = None;
            loop {
                let paging = Paging {
                    limit: query::MOST,
                    cursor: cursor.as_deref(),
                };
                let page = query::register(views, register, "", paging).await?;
                self.change(|known| page.items.into_iter().for_each(|row| known.row(row)));
                cursor = page.next_cursor;
                if cursor.is_none() {
                    break;
                }
            }
        }
        let merged = query::merged(views, ..).await?;
        self.change(|known| {
            merged
                .into_iter()
                .for_each(|(id, into)| known.aliases.merge(&id, Some(into)))
        });
        Ok(())
    }

    fn change(&self, change: impl FnOnce(&mut Known)) {
        change(&mut self.known.write().unwrap_or_else(PoisonError::into_inner));
    }
}

impl Follows for CareTeams {
    fn kinds(&self) -> &'static [&'static str] {
        &["PatientRecorded", "PatientMerged", "PractitionerRecorded"]
    }

    fn fact(&self, envelope: &Envelope) {
        self.change(|known| known.fact(&envelope.key, &envelope.fact));
    }
}

impl access::CareTeams for CareTeams {
    fn cares(&self, staff: &str, patient: &PatientId) -> bool {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let terms = known.patients.get(staff).and_then(|patients| patients.get(patient));
        terms.is_some_and(|terms| are_now(terms, self.clock.now())) && !known.gone.contains(staff)
    }

    fn patients(&self, staff: &str) -> Vec<PatientId> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let now = self.clock.now();
        match known.patients.get(staff) {
            Some(patients) if !known.gone.contains(staff) => {
                let now = patients.iter().filter(|(_, terms)| are_now(terms, now));
                now.map(|(patient, _)| patient.clone()).collect()
            }
            _ => Vec::new(),
        }
    }

    fn person(&self, patient: &PatientId) -> PatientId {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.aliases.person(patient)
    }

    fn also_known_as(&self, patient: &PatientId) -> Vec<PatientId> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.aliases.also_known_as(patient)
    }
}

/// Whether one of these is under way.
fn are_now(terms: &[(Timestamp, Timestamp)], now: Timestamp) -> bool {
    terms.iter().any(|(from, until)| (*from..*until).contains(&now))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use eventlog::follow::Follower;
    use schemas::access::CareTeams as _;
    use schemas::time::Span;
    use serde_json::json;

    use super::*;
    use crate::testing::{House, patient};

    fn cares(known: &CareTeams, staff: &str) -> Vec<String> {
        known.patients(staff).iter().map(ToString::to_string).collect()
    }

    async fn register(house: &House, id: &str, revision: i32, ended: bool, team: &[&str]) {
        let recorded = schemas::facts::PatientRecorded {
            revision,
            ended,
            patient: schemas::facts::Patient {
                care_team: team.iter().map(|s| StaffId::new(s).unwrap()).collect(),
                ..Default::default()
            },
            by: "clerk".into(),
        };
        let at = house.clock.now() + Span::seconds(revision.into());
        house.fact(id, at, Fact::PatientRecorded(recorded)).await;
    }

    #[tokio::test]
    async fn teams_are_those_of_the_newest_registration_from_views_and_journal_alike() {
        let house = House::new().await;
        house
            .registered(Register::Patients, "p1", json!({ "care_team": ["ba", "sow"] }))
            .await;
        house
            .registered(Register::Patients, "p2", json!({ "care_team": ["ba"] }))
            .await;
        house.settled().await;
        register(&house, "p1", 2, false, &["sow"]).await;
        register(&house, "p3", 1, false, &["ba"]).await;
        let fresh = CareTeams::new(Arc::clone(&house.clock) as Arc<dyn Clock>);
        let follows = Follower::new(Arc::clone(&house.log), vec![Arc::clone(&fresh) as Arc<dyn Follows>]);
        // How far the views are, before they are read: they may go on meanwhile.
        let views = &*house.state.parts.views;
        for partition in 0..house.log.layout().partitions {
            let shown = views.progress(eventlog::Topic::Journal, partition).await.unwrap();
            follows.known(partition, shown.map_or(0, |progress| progress.next));
        }
        fresh.begin(views).await.unwrap();
        follows.catch_up().await.unwrap();
        let anew = CareTeams::new(Arc::clone(&house.clock) as Arc<dyn Clock>);
        let from_the_start = vec![Arc::clone(&anew) as Arc<dyn Follows>];
        Follower::new(Arc::clone(&house.log), from_the_start)
            .catch_up()
            .await
            .unwrap();
        for teams in [&fresh, &anew] {
            assert_eq!(cares(teams, "ba"), ["p2", "p3"]);
            assert_eq!(cares(teams, "sow"), ["p1"]);
            assert!(teams.cares("sow", &patient("p1")) && !teams.cares("ba", &patient("p1")));
            assert_eq!(cares(teams, "nobody"), [""; 0]);
        }
        register(&house, "p2", 2, true, &["ba"]).await;
        let following = tokio::spawn(follows.follow());
        while fresh.cares("ba", &patient("p2")) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        following.abort();
        assert_eq!(cares(&fresh, "ba"), ["p3"]);
    }

    #[test]
    fn what_is_older_than_what_is_known_is_no_news_and_who_is_gone_cares_for_nobody() {
        let mut known = Known::default();
        let (p, ba) = (patient("p1"), StaffId::new("ba").unwrap());
        let always = (ba.clone(), Timestamp::MIN, Timestamp::MAX);
        known.patient(&p, 3, vec![always]);
        known.patient(&p, 2, Vec::new());
        assert!(known.patients["ba"].contains_key(&p));
        known.practitioner("ba", 2, true);
        known.practitioner("ba", 1, false);
        assert!(known.gone.contains("ba"));
        known.practitioner("ba", 3, false);
        assert!(!known.gone.contains("ba"));
    }

    #[test]
    fn a_term_of_care_begins_and_ends_by_the_clock() {
        let clock = Arc::new(eventlog::ManualClock::at(Timestamp(50)));
        let teams = CareTeams::new(Arc::clone(&clock) as Arc<dyn Clock>);
        let (p, ba) = (patient("p1"), StaffId::new("ba").unwrap());
        let terms = vec![
            (ba.clone(), Timestamp(100), Timestamp(200)),
            (ba, Timestamp(300), Timestamp::MAX),
        ];
        teams.change(|known| known.patient(&p, 1, terms));
        for (now, cares_then) in [(50, false), (100, true), (199, true), (200, false), (300, true)] {
            clock.set(Timestamp(now));
            assert_eq!(teams.cares("ba", &p), cares_then, "at {now}");
            assert_eq!(teams.patients("ba").len(), usize::from(cares_then), "at {now}");
        }
    }
}
