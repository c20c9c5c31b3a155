//! An episode: one alert from its raise to its end, and what people answer to it.

use schemas::derived::Outcome;
use schemas::facts::{AlertAnswered, AlertChange, AlertChanged, AlertClass, AlertState, Answer, Severity};
use schemas::ids::SensorId;
use schemas::metric::Metric;
use schemas::time::Timestamp;
use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

use super::message::Message;
use crate::engine::Context;
use crate::engine::task::alert_id;

/// Which samples an episode lives by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Lane {
    /// Those that came in order.
    Now,
    /// Those that came after newer ones of the same sensor.
    Late,
}

/// An episode that has not ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Episode {
    pub(super) lane: Lane,
    /// The alert as it stands, written whole at each change.
    pub(super) row: Box<AlertChanged>,
}

/// What an episode begins with.
#[derive(Debug)]
pub(super) struct Raise {
    pub(super) rule: SmolStr,
    pub(super) sensor_id: Option<SensorId>,
    pub(super) metric: Option<Metric>,
    pub(super) class: AlertClass,
    pub(super) severity: Severity,
    pub(super) retrospective: bool,
    pub(super) message: Message,
    pub(super) value: Option<f64>,
    pub(super) limit: Option<f64>,
    pub(super) started_at: Timestamp,
    /// Recorded time.
    pub(super) now: Timestamp,
}

/// The part of a state key that an answer names: after the kind and the patient.
pub(super) fn subject(key: &str) -> &str {
    key.splitn(3, '/').nth(2).unwrap_or_default()
}

impl Episode {
    /// Begins; its start and the place of its raise are in its id.
    pub(super) fn raise(key: &str, lane: Lane, raise: Raise, ctx: &Context) -> Self {
        let row = AlertChanged {
            alert_id: alert_id(key, &raise.rule, raise.started_at, ctx),
            change: AlertChange::Raised,
            sensor_id: raise.sensor_id,
            metric: raise.metric,
            rule: raise.rule,
            subject: SmolStr::new(subject(key)),
            class: raise.class,
            severity: raise.severity,
            state: AlertState::Open,
            retrospective: raise.retrospective,
            message: raise.message.en,
            message_fr: raise.message.fr,
            value: raise.value,
            limit: raise.limit,
            started_at: raise.started_at,
            raised_at: raise.now,
            acknowledged_at: None,
            acknowledged_by: None,
            resolved_at: None,
            by: None,
            text: None,
            until: None,
        };
        Self {
            lane,
            row: Box::new(row),
        }
    }

    /// The alert as it stands, as a conclusion.
    pub(super) fn told(&self) -> Outcome {
        Outcome::Alert((*self.row).clone())
    }

    /// Something happened to it that no person did.
    pub(super) fn change(&mut self, change: AlertChange) -> Outcome {
        self.row.change = change;
        (self.row.by, self.row.text) = (None, None);
        self.told()
    }

    /// It got worse: whoever took or silenced it is asked again.
    pub(super) fn escalate(&mut self, severity: Severity) -> Outcome {
        self.row.severity = severity;
        self.ask_again();
        self.change(AlertChange::Escalated)
    }

    /// It was found in old data and holds now: who took it then took something that was over.
    pub(super) fn become_current(&mut self) -> Outcome {
        self.row.retrospective = false;
        self.ask_again();
        self.change(AlertChange::BecameCurrent)
    }

    /// Nobody has taken it as it is now.
    fn ask_again(&mut self) {
        self.row.state = AlertState::Open;
        self.row.until = None;
        (self.row.acknowledged_at, self.row.acknowledged_by) = (None, None);
    }

    /// Its condition ended. The caller lets it go.
    pub(super) fn resolve(&mut self, now: Timestamp) -> Outcome {
        self.row.state = AlertState::Resolved;
        self.row.resolved_at = Some(now);
        self.row.until = None;
        self.change(AlertChange::Resolved)
    }

    /// When its silence ends.
    pub(super) fn deadline(&self) -> Option<Timestamp> {
        (self.row.state == AlertState::Snoozed)
            .then_some(self.row.until)
            .flatten()
    }

    /// Its silence has ended.
    pub(super) fn wake(&mut self) -> Outcome {
        self.row.state = match self.row.acknowledged_at {
            Some(_) => AlertState::Acknowledged,
            None => AlertState::Open,
        };
        self.row.until = None;
        self.change(AlertChange::Woke)
    }

    /// What a person answers; nothing where it changes nothing. The caller lets a resolved one go.
    pub(super) fn answer(&mut self, answer: &AlertAnswered, now: Timestamp) -> Option<Outcome> {
        let row = &mut *self.row;
        row.change = match answer.answer {
            Answer::Acknowledge if row.state == AlertState::Acknowledged => return None,
            Answer::Acknowledge => {
                row.state = AlertState::Acknowledged;
                row.acknowledged_at = Some(now);
                row.acknowledged_by = Some(answer.by.clone());
                row.until = None;
                AlertChange::Acknowledged
            }
            Answer::Snooze => {
                row.until = Some(answer.until.filter(|until| *until > now)?);
                row.state = AlertState::Snoozed;
                AlertChange::Snoozed
            }
            Answer::Comment => AlertChange::Commented,
            Answer::Resolve => {
                row.state = AlertState::Resolved;
                row.resolved_at = Some(now);
                row.until = None;
                AlertChange::Resolved
            }
        };
        row.by = Some(answer.by.clone());
        row.text.clone_from(&answer.text);
        Some(self.told())
    }

    /// Whether it is over.
    pub(super) fn is_over(&self) -> bool {
        self.row.state == AlertState::Resolved
    }
}
