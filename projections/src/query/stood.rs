//! An alert as it stood at a moment, by its history.

use schemas::facts::AlertChange;
use schemas::time::Timestamp;
use smol_str::{SmolStr, format_smolstr};

use super::Alert;

impl Alert {
    /// As it stood at a moment, where it comes with its history; `None` where it had not been raised by then.
    ///
    /// The history does not have sentences and limits: where the alert has got worse or eased since, its sentence is the
    /// value that decided then, without a limit.
    #[must_use]
    pub fn as_it_stood(mut self, moment: Timestamp) -> Option<Self> {
        let later = self.history.partition_point(|event| event.at <= moment);
        let since = self.history.split_off(later);
        let last = self.history.last()?;
        (self.state, self.severity, self.until) = (last.state, last.severity, last.until);
        self.changed_at = last.at;
        self.resolved_at = self.resolved_at.filter(|at| *at <= moment);
        (self.acknowledged_at, self.acknowledged_by) = (None, None);
        for event in &self.history {
            match event.change {
                AlertChange::Acknowledged => {
                    (self.acknowledged_at, self.acknowledged_by) = (Some(event.at), event.by.clone());
                }
                // Whoever had taken it is asked again.
                AlertChange::Escalated | AlertChange::BecameCurrent => {
                    (self.acknowledged_at, self.acknowledged_by) = (None, None);
                }
                _ => {}
            }
        }
        let happened = |change| since.iter().any(|event| event.change == change);
        self.retrospective |= happened(AlertChange::BecameCurrent);
        if happened(AlertChange::Escalated) || happened(AlertChange::Eased) {
            (self.value, self.limit) = (last.value, None);
            (self.message, self.message_fr) = self.sentences();
        }
        self.history.clear();
        Some(self)
    }

    /// What was measured.
    fn sentences(&self) -> (SmolStr, SmolStr) {
        let (Some(metric), Some(value)) = (self.metric, self.value) else {
            return (self.message.clone(), self.message_fr.clone());
        };
        let info = metric.info();
        let value = format!("{value:.2}");
        let value = value.trim_end_matches('0').trim_end_matches('.');
        let space = if info.symbol.is_empty() || info.symbol.starts_with('/') {
            ""
        } else {
            " "
        };
        let unit = info.symbol;
        (
            format_smolstr!("{} {value}{space}{unit}", info.label),
            format_smolstr!("{} : valeur {}{space}{unit}", info.label_fr, value.replace('.', ",")),
        )
    }
}

#[cfg(test)]
mod tests {
    use schemas::facts::{AlertClass, AlertState, Severity};
    use schemas::ids::EventId;
    use schemas::metric::Metric;

    use super::super::AlertEvent;
    use super::*;

    fn event(change: AlertChange, at: i64, state: AlertState, severity: Severity, value: f64) -> AlertEvent {
        AlertEvent {
            change,
            at: Timestamp(at),
            severity,
            state,
            by: (change == AlertChange::Acknowledged).then(|| "dr.b".into()),
            text: None,
            until: None,
            value: Some(value),
        }
    }

    #[test]
    fn what_happened_later_is_not_in_it() {
        use AlertChange::{Acknowledged, BecameCurrent, Escalated, Raised, Resolved};
        use AlertState::Open;
        use Severity::{Critical, Warning};
        let history = vec![
            event(Raised, 10, Open, Warning, 120.0),
            event(Acknowledged, 20, AlertState::Acknowledged, Warning, 120.0),
            event(BecameCurrent, 30, Open, Warning, 120.0),
            event(Acknowledged, 40, AlertState::Acknowledged, Warning, 120.0),
            event(Escalated, 50, Open, Critical, 140.5),
            event(Resolved, 60, AlertState::Resolved, Critical, 140.5),
        ];
        let alert = Alert {
            id: EventId::of("test", &[]),
            patient_id: "p".into(),
            sensor_id: None,
            metric: Some(Metric::HeartRate),
            rule: "heart_rate_high".into(),
            subject: "heart_rate".into(),
            class: AlertClass::Clinical,
            severity: Critical,
            state: AlertState::Resolved,
            retrospective: false,
            message: "Heart rate 140.5/min, at or above 131/min".into(),
            message_fr: "…".into(),
            value: Some(140.5),
            limit: Some(131.0),
            started_at: Timestamp(5),
            raised_at: Timestamp(10),
            changed_at: Timestamp(60),
            acknowledged_at: None,
            acknowledged_by: None,
            resolved_at: Some(Timestamp(60)),
            until: None,
            history,
        };
        let at = |moment| alert.clone().as_it_stood(Timestamp(moment));
        assert_eq!(at(9), None);
        let told = |moment| {
            let it = at(moment).unwrap();
            let taken = it.acknowledged_at.map(|at| at.0);
            (it.state, it.severity, it.retrospective, taken, it.resolved_at.is_some())
        };
        assert_eq!(told(10), (Open, Warning, true, None, false));
        assert_eq!(told(25), (AlertState::Acknowledged, Warning, true, Some(20), false));
        assert_eq!(told(30), (Open, Warning, false, None, false));
        assert_eq!(told(49), (AlertState::Acknowledged, Warning, false, Some(40), false));
        assert_eq!(told(50), (Open, Critical, false, None, false));
        assert_eq!(told(99), (AlertState::Resolved, Critical, false, None, true));
        let (before, after) = (at(49).unwrap(), at(50).unwrap());
        assert_eq!(
            (before.message.as_str(), before.value, before.limit),
            ("Heart rate 120/min", Some(120.0), None)
        );
        assert_eq!(before.message_fr, "Fréquence cardiaque : valeur 120/min");
        assert_eq!((after.message, after.limit), (alert.message.clone(), Some(131.0)));
    }
}
