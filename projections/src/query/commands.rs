//! What sensors were told to do, and what became of it.

use std::ops::Bound;

use schemas::facts::CommandName;
use schemas::ids::SensorId;
use schemas::metric::Metric;
use schemas::time::{Span, Timestamp};
use smol_str::SmolStr;

use super::fields::Fields;
use super::walk::clustering;
use crate::store::{Scan, ViewError, ViewStore};
use crate::view::{Cell, Row};
use crate::views::commands::{ANSWERED, COMMANDS, EXPIRED, ISSUED, SENT};
use crate::views::{SHARDS, shard};

/// Rows of one sensor that are read: of its newest commands.
const ROWS: usize = 4_000;

/// An answer: whether it was done, what the sensor said, when.
pub type Answered = (bool, Option<SmolStr>, Timestamp);

/// A command.
#[derive(Debug, Clone, PartialEq)]
pub struct Command {
    /// Which.
    pub id: SmolStr,
    /// To whom.
    pub sensor_id: SensorId,
    /// What.
    pub name: CommandName,
    /// `calibrate`: which metric.
    pub metric: Option<Metric>,
    /// `calibrate`: what is added, canonical unit.
    pub offset: Option<f64>,
    /// `set_interval`: how often.
    pub every: Option<Span>,
    /// When it was given.
    pub issued_at: Timestamp,
    /// By whom.
    pub by: SmolStr,
    /// When it is given up.
    pub expires_at: Timestamp,
    /// How often it was handed to the sensor, as far as is known, and when last.
    pub sent: Option<(i64, Timestamp)>,
    /// What the sensor answered first.
    pub answered: Option<Answered>,
    /// When it was given up.
    pub expired_at: Option<Timestamp>,
}

/// Rows of commands, one after another.
#[derive(Debug, Default)]
struct Folded {
    whole: Vec<Command>,
    /// What happened to a command whose row of issue comes later: rows are in the order of their names.
    answered: Option<(SmolStr, Answered)>,
    expired: Option<(SmolStr, Timestamp)>,
}

impl Folded {
    /// `answered`, `expired`, `issued`, `sent`: in this order rows of one command stand.
    fn take(&mut self, row: Row) -> Result<(), ViewError> {
        let mut f = Fields::of(&COMMANDS, row);
        f.skip(1);
        let sensor_id = f.named(|text| SensorId::new(text).ok())?;
        let (id, happened, at) = (f.text(), f.text(), f.time());
        let (id, happened, at) = (f.need(id)?, f.need(happened)?, f.need(at)?);
        let of = format!("{sensor_id}/{id}").into();
        match happened.as_str() {
            ANSWERED => {
                f.skip(7);
                let (confirmed, result) = (f.bool(), f.text());
                self.answered = Some((of, (f.need(confirmed)?, result, at)));
            }
            EXPIRED => self.expired = Some((of, at)),
            ISSUED => {
                let name = f.named(CommandName::parse)?;
                let (metric, offset, every) = (f.text(), f.double(), f.int());
                let (expires_at, by) = (f.time(), f.text());
                self.whole.push(Command {
                    id,
                    sensor_id,
                    name,
                    metric: metric.as_deref().and_then(Metric::parse),
                    offset,
                    every: every.map(Span),
                    issued_at: at,
                    by: f.need(by)?,
                    expires_at: f.need(expires_at)?,
                    sent: None,
                    answered: self.answered.take().filter(|(whose, _)| *whose == of).map(|(_, it)| it),
                    expired_at: self.expired.take().filter(|(whose, _)| *whose == of).map(|(_, at)| at),
                });
            }
            SENT => {
                f.skip(6);
                let attempt = f.int().unwrap_or(1);
                if let Some(last) = self
                    .whole
                    .last_mut()
                    .filter(|last| last.id == id && last.sensor_id == sensor_id)
                {
                    last.sent = Some((attempt, at));
                }
            }
            _ => {}
        }
        Ok(())
    }
}

/// The commands of a sensor, newest first: those of its newest rows.
///
/// # Errors
/// [`ViewError`].
pub async fn commands_of(store: &dyn ViewStore, sensor: &SensorId) -> Result<Vec<Command>, ViewError> {
    let this = || Bound::Included(vec![Cell::Text(sensor.clone().into())]);
    let scan = Scan::of(vec![shard(sensor.as_str())], ROWS)
        .descending()
        .from(this())
        .to(this());
    let mut rows = store.scan(&COMMANDS, scan).await?;
    rows.reverse();
    let mut folded = Folded::default();
    rows.into_iter().try_for_each(|row| folded.take(row))?;
    folded.whole.reverse();
    Ok(folded.whole)
}

/// The commands of all sensors, by sensor and age.
///
/// # Errors
/// [`ViewError`].
pub async fn commands(store: &dyn ViewStore) -> Result<Vec<Command>, ViewError> {
    let mut folded = Folded::default();
    for n in 0..SHARDS {
        let mut from = Bound::Unbounded;
        loop {
            let scan = Scan::of(vec![Cell::Int(n)], ROWS).from(from);
            let rows = store.scan(&COMMANDS, scan).await?;
            let full = rows.len() == ROWS;
            from = rows
                .last()
                .map_or(Bound::Unbounded, |row| Bound::Excluded(clustering(&COMMANDS, row)));
            rows.into_iter().try_for_each(|row| folded.take(row))?;
            if !full {
                break;
            }
        }
    }
    Ok(folded.whole)
}
