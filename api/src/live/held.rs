//! A consultation that is watched: from which record of the journal to which it is held.

use eventlog::{Offset, Topic};
use projections::query::{self, Consultation};
use schemas::ids::{ConsultationId, PatientId};
use schemas::partition;
use tokio::time::{Duration, Instant};

use super::item::{Item, List};
use crate::problem::Problem;
use crate::read_after::projected;
use crate::state::State;

/// The longest wait for the views to show an opening that the log has already.
const PATIENCE: Duration = Duration::from_secs(5);

/// Whose it is, and where it begins and ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) patient: PatientId,
    id: ConsultationId,
    opened: Option<Offset>,
    closed: Option<Offset>,
}

impl Held {
    pub(super) fn of(consultation: &Consultation) -> Self {
        Self {
            patient: consultation.patient_id.clone(),
            id: consultation.id.clone(),
            opened: consultation.opened.as_ref().map(|happened| happened.position),
            closed: consultation.closed.as_ref().map(|happened| happened.position),
        }
    }

    /// Whether an item belongs to it; an opening or a closing is taken note of.
    pub(super) fn take(&mut self, item: &Item) -> bool {
        let own = *item.json == *self.id.as_str();
        match item.list {
            List::Opened if own => {
                self.opened.get_or_insert(item.offset);
                false
            }
            List::Closed if own && self.opened.is_some() => {
                self.closed.get_or_insert(item.offset);
                false
            }
            List::Opened | List::Closed => false,
            _ => {
                let position = item.position();
                self.opened.is_some_and(|opened| position > opened)
                    && self.closed.is_none_or(|closed| position < closed)
            }
        }
    }

    /// Whether it has been closed before this place of the journal.
    pub(super) fn is_over(&self, next: Offset) -> bool {
        self.closed.is_some_and(|closed| next > closed)
    }

    /// Looks again once the views show all that the log has now: what comes after that is seen in the log itself.
    pub(super) async fn look_again(&mut self, state: &State) -> Result<(), Problem> {
        let log = &state.parts.log;
        let partition = partition::of_bytes(self.patient.as_str().as_bytes(), log.layout().partitions);
        let end = log.bounds(Topic::Journal, partition).await?.end;
        let views = &*state.parts.views;
        projected(views, Topic::Journal, partition, end, Instant::now() + PATIENCE).await?;
        if let Some(found) = query::consultation(views, &self.id).await? {
            *self = Self::of(&found);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use schemas::ids::{EventId, Key};

    use super::*;

    fn item(list: List, offset: Offset, json: &str) -> Item {
        Item {
            offset,
            key: Key::Nobody,
            origin: None,
            list,
            json: json.into(),
        }
    }

    #[test]
    fn what_follows_from_its_opening_and_not_from_its_closing_belongs_to_a_consultation() {
        let mut held = Held {
            patient: PatientId::new("p").unwrap(),
            id: ConsultationId::new("7").unwrap(),
            opened: None,
            closed: None,
        };
        let derived = |offset| {
            let mut item = item(List::Alerts, 99, "{}");
            item.origin = Some(schemas::derived::Origin {
                incarnation: EventId([0; 16]),
                offset,
                key: "k".into(),
                n: 0,
            });
            item
        };
        for (item, told) in [
            (item(List::Readings, 1, "{}"), false),
            (item(List::Closed, 2, "7"), false),
            (item(List::Opened, 3, "8"), false),
            (item(List::Readings, 4, "{}"), false),
            (item(List::Opened, 5, "7"), false),
            (item(List::Readings, 6, "{}"), true),
            (derived(4), false),
            (derived(6), true),
            (item(List::Opened, 7, "7"), false),
            (item(List::Closed, 8, "7"), false),
            (item(List::Readings, 9, "{}"), false),
            (derived(7), true),
            (derived(9), false),
        ] {
            assert_eq!(held.take(&item), told, "{item:?}");
        }
        assert!(!held.is_over(8) && held.is_over(9));
    }
}
