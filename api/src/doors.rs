//! What doors know and do that a command needs: a port that `app` fills, because `api` knows no door.

use std::pin::Pin;
use std::time::Duration;

use projections::query::RejectedRow;
use schemas::ids::{PatientId, SensorId};
use schemas::journal::Envelope;

/// The longest wait for doors to go by what was said.
pub(crate) const IN_FORCE: Duration = Duration::from_secs(2);

/// What was said of a sensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SaidOf {
    /// Its registration, as of a revision.
    Registration(i32),
    /// Who wears it, at a place in its journal.
    Assignment(i64),
}

/// The doors of this process.
pub trait Doors: Send + Sync + 'static {
    /// Waits until they go by what was said of a sensor.
    fn know<'a>(&'a self, sensor: &'a SensorId, said: SaidOf) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

    /// Waits until they go by what a registration was merged into.
    fn know_merged<'a>(
        &'a self,
        patient: &'a PatientId,
        into: Option<&'a PatientId>,
    ) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

    /// Judges a record that was refused anew, now that somebody has said whose it is. Nothing where it is still to be
    /// refused, or is not whole.
    fn judge_again(&self, refused: &RejectedRow, patient: &PatientId) -> Vec<Envelope>;
}

/// Where there are none.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoDoors;

impl Doors for NoDoors {
    fn know<'a>(&'a self, _: &'a SensorId, _: SaidOf) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
        Box::pin(std::future::ready(()))
    }

    fn know_merged<'a>(
        &'a self,
        _: &'a PatientId,
        _: Option<&'a PatientId>,
    ) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
        Box::pin(std::future::ready(()))
    }

    fn judge_again(&self, _: &RejectedRow, _: &PatientId) -> Vec<Envelope> {
        Vec::new()
    }
}
