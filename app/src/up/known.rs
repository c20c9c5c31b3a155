//! What a process knows of people and sensors beside its views: who cares for whom, whose tokens were
//! taken back, and whose each sensor is. Begun from the
//! views where there are some, kept up from the journal.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use api::{CareTeams, Revoked, SaidOf};
use eventlog::follow::{Follower, Follows};
use eventlog::{Clock, EventLog, LogError, Topic};
use ingest::{Commands, Context, Intake, Outcome, Roster};
use projections::query::{self, MOST, Paging, RejectedRow};
use projections::store::{ViewError, ViewStore};
use schemas::codec::Catalogue;
use schemas::facts::CommandIssued;
use schemas::ids::{Key, PatientId, SensorId};
use schemas::journal::Envelope;
use schemas::partition;
use schemas::registry::Register;

/// What is known, and who keeps it up.
#[derive(Debug, Clone)]
pub(super) struct Known {
    pub(super) teams: Arc<CareTeams>,
    pub(super) revoked: Arc<Revoked>,
    pub(super) roster: Arc<Roster>,
    pub(super) commands: Arc<Commands>,
    follower: Arc<Follower>,
    /// Whether it has been read once.
    pub(super) begun: Arc<AtomicBool>,
    /// Whether tokens are all that is followed.
    tokens_alone: bool,
}

/// Why it cannot be known.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotKnown {
    #[error("the views cannot be read: {0}")]
    Views(#[from] ViewError),
    #[error("the journal cannot be read: {0}")]
    Log(#[from] LogError),
}

impl Known {
    /// Knows nothing yet.
    pub(super) fn new(log: &Arc<dyn EventLog>, clock: &Arc<dyn Clock>, catalogue: &Arc<Catalogue>) -> Self {
        Self::following(log, clock, catalogue, false)
    }

    /// For a process that is asked how it runs and nothing else: what was revoked is all that it has to know.
    pub(super) fn of_tokens_alone(log: &Arc<dyn EventLog>, clock: &Arc<dyn Clock>, catalogue: &Arc<Catalogue>) -> Self {
        Self::following(log, clock, catalogue, true)
    }

    fn following(
        log: &Arc<dyn EventLog>,
        clock: &Arc<dyn Clock>,
        catalogue: &Arc<Catalogue>,
        tokens_alone: bool,
    ) -> Self {
        let teams = CareTeams::new(Arc::clone(clock));
        let (revoked, roster): (Arc<Revoked>, Arc<Roster>) = Default::default();
        let commands: Arc<Commands> = Arc::default();
        let mut readers: Vec<Arc<dyn Follows>> = vec![Arc::clone(&revoked) as _];
        let log = Arc::clone(log);
        let follower = if tokens_alone {
            // Nobody in particular is meant by them, so they are all in one partition.
            let alone = partition::of(&Key::Nobody, log.layout().partitions);
            Follower::of_partition(log, readers, Arc::clone(catalogue), alone)
        } else {
            readers.extend([
                Arc::clone(&teams) as Arc<dyn Follows>,
                Arc::clone(&roster) as _,
                Arc::clone(&commands) as _,
            ]);
            Follower::learning(log, readers, Arc::clone(catalogue))
        };
        Self {
            follower,
            begun: Arc::default(),
            tokens_alone,
            teams,
            revoked,
            roster,
            commands,
        }
    }

    /// Reads what the views show, and the journal from there to its end; without views the whole of it.
    pub(super) async fn begin(&self, log: &dyn EventLog, views: Option<&dyn ViewStore>) -> Result<(), NotKnown> {
        if let Some(views) = views {
            // First the places, then the rows: what comes between is read twice, nothing is left out.
            for partition in 0..log.layout().partitions {
                let shown = views.progress(Topic::Journal, partition).await?;
                self.follower
                    .known(partition, shown.map_or(0, |progress| progress.next));
            }
            self.revoked.begin(views).await?;
            if self.tokens_alone {
                return self.caught_up().await;
            }
            self.teams.begin(views).await?;
            self.registered(views).await?;
            self.attached(views).await?;
            for (patient, into) in query::merged(views, ..).await? {
                self.roster.merged(&patient, Some(into));
            }
            self.commanded(views).await?;
        }
        self.caught_up().await
    }

    async fn caught_up(&self) -> Result<(), NotKnown> {
        self.follower.catch_up().await?;
        self.begun.store(true, Ordering::Release);
        Ok(())
    }

    /// Reads on for as long as it is let. After an error it may be called again.
    pub(super) async fn follow(self) -> Result<(), NotKnown> {
        self.caught_up().await?;
        Ok(self.follower.follow().await?)
    }

    async fn registered(&self, views: &dyn ViewStore) -> Result<(), ViewError> {
        let mut cursor: Option<String> = None;
        loop {
            let page = query::register(views, Register::Sensors, "", page(cursor.as_deref())).await?;
            for row in page.items {
                if let Ok(sensor) = SensorId::new(&row.id) {
                    self.roster.registered(&sensor, row.revision, row.ended);
                }
            }
            cursor = page.next_cursor;
            if cursor.is_none() {
                return Ok(());
            }
        }
    }

    async fn commanded(&self, views: &dyn ViewStore) -> Result<(), ViewError> {
        for it in query::commands(views).await? {
            let issued = CommandIssued {
                command_id: it.id.clone(),
                name: it.name,
                metric: it.metric,
                offset: it.offset,
                every: it.every,
                expires_at: it.expires_at,
                by: it.by,
            };
            self.roster.calibrating(&it.sensor_id, &issued, it.issued_at);
            match it.answered {
                Some((confirmed, _, at)) => self.roster.answered(&it.sensor_id, &it.id, confirmed, at),
                None if it.expired_at.is_none() => {
                    self.commands.issued(&it.sensor_id, &issued, it.issued_at);
                    let attempt = it.sent.and_then(|(attempt, _)| i32::try_from(attempt).ok());
                    self.commands.attempted(&it.sensor_id, &it.id, attempt.unwrap_or(0));
                }
                None => {}
            }
        }
        Ok(())
    }

    async fn attached(&self, views: &dyn ViewStore) -> Result<(), ViewError> {
        let mut cursor: Option<String> = None;
        loop {
            let page = query::attachments(views, page(cursor.as_deref())).await?;
            for row in page.items {
                self.roster.told(&Key::Patient(row.patient_id.clone()), &row.fact());
            }
            cursor = page.next_cursor;
            if cursor.is_none() {
                return Ok(());
            }
        }
    }
}

const fn page(cursor: Option<&str>) -> Paging<'_> {
    Paging { limit: MOST, cursor }
}

/// The doors of this process, as commands need them.
pub(super) struct Doors {
    pub(super) intake: Arc<Intake>,
    pub(super) roster: Arc<Roster>,
}

impl api::Doors for Doors {
    fn know<'a>(&'a self, sensor: &'a SensorId, said: SaidOf) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
        Box::pin(async move {
            match said {
                SaidOf::Registration(revision) => self.roster.knows_registration(sensor, revision).await,
                SaidOf::Assignment(order) => self.roster.knows_assignment(sensor, order).await,
            }
        })
    }

    fn know_merged<'a>(
        &'a self,
        patient: &'a PatientId,
        into: Option<&'a PatientId>,
    ) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
        Box::pin(self.roster.knows_merged(patient, into))
    }

    fn judge_again(&self, refused: &RejectedRow, patient: &PatientId) -> Vec<Envelope> {
        // The view shows the beginning of what is long: that is no whole record.
        if usize::try_from(refused.size).ok() != Some(refused.start.len()) {
            return Vec::new();
        }
        let context = Context {
            patient: refused.patient_id.as_deref(),
            sensor: refused.sensor_id.as_deref(),
            content_type: refused.content_type.as_deref(),
            said: Some(patient),
            first_index: i32::try_from(refused.index).unwrap_or_default(),
            ..Context::new(refused.door, refused.received_at)
        };
        let verdicts = self.intake.judge_again(&refused.start, &context);
        let facts = verdicts.into_iter().filter_map(|verdict| match verdict.outcome {
            Outcome::Fact(envelope) => Some(envelope),
            Outcome::Refused(_) => None,
        });
        facts.collect()
    }
}
