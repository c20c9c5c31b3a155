//! A doctor who answers alerts, sometimes twice, sometimes too late, sometimes with a wrong name.

use std::collections::BTreeMap;

use eventlog::prng::Prng;
use schemas::derived::Outcome;
use schemas::facts::{AlertAnswered, AlertState, Answer};
use schemas::ids::{AlertId, Key};
use schemas::time::{Span, Timestamp};
use smol_str::SmolStr;

use crate::reader::Accepted;

/// An alert as the doctor sees it.
#[derive(Debug, Clone)]
struct Seen {
    key: Key,
    subject: SmolStr,
    over: bool,
}

/// What the doctor knows.
#[derive(Debug, Default)]
pub(crate) struct Doctor(BTreeMap<AlertId, Seen>);

impl Doctor {
    /// Looks at one more record of the alerts.
    pub(crate) fn look(&mut self, accepted: &Accepted) {
        if let Outcome::Alert(alert) = &accepted.derived.outcome {
            let seen = Seen {
                key: accepted.derived.key.clone(),
                subject: alert.subject.clone(),
                over: matches!(alert.state, AlertState::Resolved | AlertState::Withdrawn),
            };
            self.0.insert(alert.alert_id, seen);
        }
    }

    /// Perhaps an answer to one of the alerts, mostly an open one.
    pub(crate) fn answer(&self, now: Timestamp, chance: &mut Prng) -> Option<(Key, AlertAnswered, &'static str)> {
        let over = chance.percent(10);
        let those: Vec<_> = self.0.iter().filter(|(_, seen)| seen.over == over).collect();
        let (id, seen) = *those.get(chance.below(those.len() as u64) as usize)?;
        let (answer, what) = match chance.below(10) {
            0..=3 => (Answer::Acknowledge, "an alert acknowledged"),
            4..=6 => (Answer::Snooze, "an alert snoozed"),
            7 => (Answer::Comment, "an alert commented"),
            _ => (Answer::Resolve, "an alert resolved by a person"),
        };
        let until = (answer == Answer::Snooze).then(|| now + Span::seconds(chance.below(200) as i64 - 5));
        let mut alert_id = *id;
        if chance.percent(3) {
            alert_id.0[0] ^= 1;
        }
        let answered = AlertAnswered {
            alert_id,
            subject: seen.subject.clone(),
            answer,
            by: SmolStr::new_static("dr-b"),
            text: chance.percent(50).then(|| SmolStr::new_static("seen")),
            until,
        };
        Some((seen.key.clone(), answered, what))
    }
}
