//! Care teams as they are registered now: which practitioner sees which patients.
//!
//! Begun from the views, kept up from the journal: a registration counts for requests, streams and subscriptions of this
//! process a fraction of a second after it is durable. A registration that has ended, the patient's or the practitioner's
//! own, gives no right.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use eventlog::{EventLog, Limit, LogError, Offset, Partition, Topic};
use projections::query::{self, Paging, Registered};
use projections::store::{ViewError, ViewStore};
use schemas::access;
use schemas::codec::{self, Catalogue};
use schemas::ids::{Key, PatientId, StaffId};
use schemas::journal::Fact;
use schemas::registry::{Record, Register};
use smol_str::SmolStr;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// So long more gathers before the journal is read on.
const GATHER: Duration = Duration::from_millis(100);
/// Records read at once: most are none of ours.
const AT_ONCE: Limit = Limit {
    records: 16_384,
    bytes: 4 << 20,
};

/// Why the teams are not known.
#[derive(Debug, thiserror::Error)]
pub enum CareError {
    /// The views cannot be read: try again.
    #[error("the registrations cannot be read: {0}")]
    Views(#[from] ViewError),
    /// The log cannot be read: try again.
    #[error("the journal cannot be read: {0}")]
    Log(#[from] LogError),
}

/// The care teams of one log, as this process knows them.
#[derive(Debug)]
pub struct CareTeams {
    log: Arc<dyn EventLog>,
    known: RwLock<Known>,
    /// The next offset of each partition.
    places: std::sync::Mutex<Vec<Offset>>,
}

#[derive(Debug, Default)]
struct Known {
    /// The revision and team of each patient.
    teams: HashMap<PatientId, (i32, Vec<StaffId>)>,
    /// The patients of each practitioner.
    patients: HashMap<SmolStr, BTreeSet<PatientId>>,
    /// The revision of each practitioner's registration, and those that have ended.
    staff: HashMap<SmolStr, i32>,
    gone: HashSet<SmolStr>,
}

impl Known {
    /// A patient's registration as of a revision; an earlier one than is known is no news.
    fn patient(&mut self, id: &PatientId, revision: i32, team: Vec<StaffId>) {
        let (known, before) = self.teams.remove(id).unwrap_or_default();
        if revision < known {
            self.teams.insert(id.clone(), (known, before));
            return;
        }
        for staff in before {
            if let Some(patients) = self.patients.get_mut(staff.as_str()) {
                patients.remove(id);
            }
        }
        for staff in &team {
            let patients = self.patients.entry(SmolStr::new(staff.as_str())).or_default();
            patients.insert(id.clone());
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

    fn fact(&mut self, key: &Key, fact: Fact) {
        match (key, fact) {
            (Key::Patient(id), Fact::PatientRecorded(it)) => {
                let team = if it.ended { Vec::new() } else { it.patient.care_team };
                self.patient(id, it.revision, team);
            }
            (Key::Staff(id), Fact::PractitionerRecorded(it)) => self.practitioner(id.as_str(), it.revision, it.ended),
            _ => {}
        }
    }

    fn row(&mut self, row: Registered) {
        match row.record {
            Record::Patient(patient) => {
                if let Ok(id) = PatientId::new(&row.id) {
                    let team = if row.ended { Vec::new() } else { patient.care_team };
                    self.patient(&id, row.revision, team);
                }
            }
            Record::Practitioner(_) => self.practitioner(&row.id, row.revision, row.ended),
            Record::Sensor(_) => {}
        }
    }
}

impl CareTeams {
    /// Knows nothing yet: [`begin`](Self::begin), where there are views, and [`follow`](Self::follow).
    #[must_use]
    pub fn new(log: Arc<dyn EventLog>) -> Arc<Self> {
        let partitions = usize::from(log.layout().partitions);
        Arc::new(Self {
            log,
            known: RwLock::default(),
            places: std::sync::Mutex::new(vec![0; partitions]),
        })
    }

    /// Reads the registrations that the views show, and the journal from there to its end.
    ///
    /// # Errors
    /// [`CareError`].
    pub async fn begin(&self, views: &dyn ViewStore) -> Result<(), CareError> {
        // First the places, then the rows: what comes between is read twice, nothing is left out.
        for partition in self.partitions() {
            let shown = views.progress(Topic::Journal, partition).await?;
            self.reached(partition, shown.map_or(0, |progress| progress.next));
        }
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
        for partition in self.partitions() {
            self.catch_up(partition, &registrations()).await?;
        }
        Ok(())
    }

    /// Follows the journal until `stop`. After an error it may be called again.
    ///
    /// # Errors
    /// [`CareError`].
    pub async fn follow(self: Arc<Self>, stop: CancellationToken) -> Result<(), CareError> {
        let mut following = JoinSet::new();
        for partition in self.partitions() {
            let teams = Arc::clone(&self);
            following.spawn(async move { teams.follow_one(partition).await });
        }
        tokio::select! {
            () = stop.cancelled() => Ok(()),
            Some(ended) = following.join_next() => match ended {
                Ok(ended) => ended,
                Err(error) => Err(LogError::Unavailable(error.to_string()).into()),
            },
        }
    }

    async fn follow_one(&self, partition: Partition) -> Result<(), CareError> {
        let ours = registrations();
        loop {
            self.catch_up(partition, &ours).await?;
            self.log.wait(Topic::Journal, partition, self.place(partition)).await?;
            tokio::time::sleep(GATHER).await;
        }
    }

    async fn catch_up(&self, partition: Partition, ours: &[u32]) -> Result<(), CareError> {
        let catalogue = Catalogue::builtin();
        loop {
            let bounds = self.log.bounds(Topic::Journal, partition).await?;
            let from = self.place(partition).max(bounds.start);
            if from >= bounds.end {
                return Ok(());
            }
            let batch = self.log.read(Topic::Journal, partition, from, AT_ONCE).await?;
            let Some(next) = batch.next() else { return Ok(()) };
            for entry in batch.entries() {
                if codec::unframe(&entry.value).is_ok_and(|(schema, _)| ours.contains(&schema))
                    && let Ok(envelope) = codec::decode(&entry.value, &catalogue)
                {
                    self.change(|known| known.fact(&envelope.key, envelope.fact));
                }
            }
            self.reached(partition, next);
        }
    }

    fn partitions(&self) -> std::ops::Range<Partition> {
        0..self.log.layout().partitions
    }

    fn place(&self, partition: Partition) -> Offset {
        let places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        places.get(usize::from(partition)).copied().unwrap_or(0)
    }

    fn reached(&self, partition: Partition, next: Offset) {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(place) = places.get_mut(usize::from(partition)) {
            *place = next;
        }
    }

    fn change(&self, change: impl FnOnce(&mut Known)) {
        change(&mut self.known.write().unwrap_or_else(PoisonError::into_inner));
    }
}

impl access::CareTeams for CareTeams {
    fn cares(&self, staff: &str, patient: &PatientId) -> bool {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let cares = known
            .patients
            .get(staff)
            .is_some_and(|patients| patients.contains(patient));
        cares && !known.gone.contains(staff)
    }

    fn patients(&self, staff: &str) -> Vec<PatientId> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        match known.patients.get(staff) {
            Some(patients) if !known.gone.contains(staff) => patients.iter().cloned().collect(),
            _ => Vec::new(),
        }
    }
}

/// The schemas of registrations: only those records are decoded.
fn registrations() -> Vec<u32> {
    let ours = |name: &str| matches!(name, "PatientRecorded" | "PractitionerRecorded");
    codec::KINDS
        .iter()
        .filter(|kind| ours(kind.name))
        .map(|kind| kind.id)
        .collect()
}

#[cfg(test)]
mod tests {
    use eventlog::Clock;
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
        let fresh = CareTeams::new(Arc::clone(&house.log));
        fresh.begin(&*house.state.parts.views).await.unwrap();
        let follower = CareTeams::new(Arc::clone(&house.log));
        for partition in follower.partitions() {
            follower.catch_up(partition, &registrations()).await.unwrap();
        }
        for teams in [&fresh, &follower] {
            assert_eq!(cares(teams, "ba"), ["p2", "p3"]);
            assert_eq!(cares(teams, "sow"), ["p1"]);
            assert!(teams.cares("sow", &patient("p1")) && !teams.cares("ba", &patient("p1")));
            assert_eq!(cares(teams, "nobody"), [""; 0]);
        }
        register(&house, "p2", 2, true, &["ba"]).await;
        let stop = CancellationToken::new();
        let following = tokio::spawn(Arc::clone(&fresh).follow(stop.clone()));
        while fresh.cares("ba", &patient("p2")) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        stop.cancel();
        following.await.unwrap().unwrap();
        assert_eq!(cares(&fresh, "ba"), ["p3"]);
    }

    #[test]
    fn what_is_older_than_what_is_known_is_no_news_and_who_is_gone_cares_for_nobody() {
        let mut known = Known::default();
        let (p, ba) = (patient("p1"), StaffId::new("ba").unwrap());
        known.patient(&p, 3, vec![ba.clone()]);
        known.patient(&p, 2, Vec::new());
        assert!(known.patients["ba"].contains(&p));
        known.practitioner("ba", 2, true);
        known.practitioner("ba", 1, false);
        assert!(known.gone.contains("ba"));
        known.practitioner("ba", 3, false);
        assert!(!known.gone.contains("ba"));
    }
}
