//! Alerts on their way out: the tail of the log's alerts, made into messages for whoever asked for them.

use std::cmp::Ordering;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use eventlog::{Batch, EventLog, Limit, LogError, Offset, Partition, Topic};
use schemas::codec::{self, Catalogue};
use schemas::derived::{Derived, Origin, Outcome};
use schemas::facts::{AlertChange, AlertChanged, AlertClass, AlertState, Severity};
use schemas::ids::{EventId, Key, PatientId, SensorId};
use schemas::metric::Metric;
use schemas::time::Timestamp;
use serde::Serialize;

use super::metrics;
use super::session::{About, Notice};
use super::sessions::Sessions;

/// An alert as people and scripts read it; the keys are those of `GET /v1/alerts`.
#[derive(Debug, Serialize)]
struct AlertMessage<'a> {
    id: EventId,
    patient_id: &'a PatientId,
    sensor_id: Option<&'a SensorId>,
    metric: Option<Metric>,
    rule: &'a str,
    class: AlertClass,
    severity: Severity,
    state: AlertState,
    retrospective: bool,
    message: &'a str,
    message_fr: &'a str,
    value: Option<f64>,
    limit: Option<f64>,
    started_at: Timestamp,
    raised_at: Timestamp,
    acknowledged_at: Option<Timestamp>,
    acknowledged_by: Option<&'a str>,
    resolved_at: Option<Timestamp>,
    /// What happened now; what happened before is at `GET /v1/alerts/{id}`.
    history: [Happened<'a>; 1],
}

/// One change of an alert.
#[derive(Debug, Serialize)]
struct Happened<'a> {
    at: Timestamp,
    change: AlertChange,
    severity: Severity,
    state: AlertState,
    by: Option<&'a str>,
    text: Option<&'a str>,
}

/// The message that a derived record asks for: a CRITICAL alert that began, grew or came to hold, seen live.
fn notice(derived: &Derived) -> Option<Notice> {
    let (Key::Patient(patient), Outcome::Alert(alert)) = (&derived.key, &derived.outcome) else {
        return None;
    };
    let news = matches!(
        alert.change,
        AlertChange::Raised | AlertChange::Escalated | AlertChange::BecameCurrent
    );
    if !news || alert.severity != Severity::Critical || alert.retrospective {
        return None;
    }
    let payload = serde_json::to_vec(&message(patient, alert, derived.recorded_at)).ok()?;
    Some(Notice {
        about: About::Patient(patient.clone()),
        topic: format!("fajma/patient/{patient}/alerts/critical"),
        payload: Bytes::from(payload),
        live: false,
    })
}

fn message<'a>(patient: &'a PatientId, alert: &'a AlertChanged, at: Timestamp) -> AlertMessage<'a> {
    AlertMessage {
        id: alert.alert_id,
        patient_id: patient,
        sensor_id: alert.sensor_id.as_ref(),
        metric: alert.metric,
        rule: &alert.rule,
        class: alert.class,
        severity: alert.severity,
        state: alert.state,
        retrospective: alert.retrospective,
        message: &alert.message,
        message_fr: &alert.message_fr,
        value: alert.value,
        limit: alert.limit,
        started_at: alert.started_at,
        raised_at: alert.raised_at,
        acknowledged_at: alert.acknowledged_at,
        acknowledged_by: alert.acknowledged_by.as_deref(),
        resolved_at: alert.resolved_at,
        history: [Happened {
            at,
            change: alert.change,
            severity: alert.severity,
            state: alert.state,
            by: alert.by.as_deref(),
            text: alert.text.as_deref(),
        }],
    }
}

/// Where one partition's tail stands.
#[derive(Debug)]
struct Tail {
    partition: Partition,
    /// The next offset to read.
    next: Offset,
    /// Records of journal offsets below this were in the log before the tail began.
    since: Offset,
    /// The last origin that was accepted.
    last: Option<Origin>,
}

impl Tail {
    /// Whether a record is new: its origin is greater than all that were accepted (the origin rule).
    fn accepts(&mut self, origin: &Origin) -> bool {
        let new = match &self.last {
            Some(last) => origin.partial_cmp(last) == Some(Ordering::Greater),
            None => origin.offset >= self.since,
        };
        if new {
            self.last = Some(origin.clone());
        }
        new
    }

    /// Queues the alerts of a batch, and moves on past it.
    fn hand_out(&mut self, batch: &Batch, catalogue: &Catalogue, sessions: &Sessions, limit: usize) {
        for entry in batch.entries() {
            match codec::decode_derived(&entry.value, catalogue) {
                Ok(Some(derived)) => {
                    if self.accepts(&derived.origin)
                        && let Some(notice) = notice(&derived)
                    {
                        sessions.deliver(&Arc::new(notice), limit);
                    }
                }
                Ok(None) => {}
                Err(error) => {
                    // Alerts that come after it must not wait for someone to repair it.
                    metrics::alerts("unreadable", 1);
                    tracing::error!(partition = self.partition, offset = entry.offset, %error, "an alert cannot be read");
                }
            }
            self.next = entry.offset + 1;
        }
    }
}

/// Hands out the alerts of one partition for as long as it is polled.
pub(super) async fn tail(
    (log, catalogue): (Arc<dyn EventLog>, Arc<Catalogue>),
    partition: Partition,
    sessions: Arc<Sessions>,
    limit: usize,
) {
    const PAUSE: Duration = Duration::from_secs(1);
    let mut tail = None;
    loop {
        if let Err(error) = follow(log.as_ref(), partition, &mut tail, &catalogue, &sessions, limit).await {
            tracing::warn!(partition, %error, "alerts cannot be read: trying again");
            if matches!(error, LogError::OutOfRange { .. } | LogError::OtherIncarnation { .. }) {
                // The log is not the one it was: only what comes from now on can be known to be new.
                tail = None;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

async fn follow(
    log: &dyn EventLog,
    partition: Partition,
    tail: &mut Option<Tail>,
    catalogue: &Catalogue,
    sessions: &Sessions,
    limit: usize,
) -> Result<(), LogError> {
    if tail.is_none() {
        // Sessions do not outlive the process: nobody has asked for what is there already.
        let reached = log.reached(Topic::Alerts, partition).await?;
        let bounds = log.bounds(Topic::Alerts, partition).await?;
        *tail = Some(Tail {
            partition,
            next: reached.end.max(bounds.start).min(bounds.end),
            since: reached.journal,
            last: None,
        });
    }
    while let Some(tail) = tail {
        log.wait(Topic::Alerts, partition, tail.next).await?;
        let batch = log.read(Topic::Alerts, partition, tail.next, Limit::default()).await?;
        for entry in batch.entries() {
            // What cannot be read all the same is said where it is handed out.
            let _ = eventlog::follow::told(catalogue, &entry.value).await;
        }
        tail.hand_out(&batch, catalogue, sessions, limit);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn derived(offset: i64, change: AlertChange, severity: Severity, retrospective: bool) -> Derived {
        let id = EventId::of("t", &[&offset.to_be_bytes()]);
        Derived {
            id,
            key: Key::Patient(PatientId::new("p1").unwrap()),
            origin: Origin {
                incarnation: EventId::of("i", &[]),
                offset,
                key: "p1".into(),
                n: 0,
            },
            recorded_at: Timestamp::from_millis(2000),
            outcome: Outcome::Alert(AlertChanged {
                alert_id: id,
                change,
                sensor_id: Some(SensorId::new("s1").unwrap()),
                metric: Some(Metric::HeartRate),
                rule: "heart_rate_high".into(),
                subject: "p1".into(),
                class: AlertClass::Clinical,
                severity,
                state: AlertState::Open,
                retrospective,
                message: "Heart rate 140".into(),
                message_fr: "Fréquence cardiaque 140".into(),
                value: Some(140.0),
                limit: Some(130.0),
                started_at: Timestamp::from_millis(1000),
                raised_at: Timestamp::from_millis(2000),
                acknowledged_at: None,
                acknowledged_by: None,
                resolved_at: None,
                by: None,
                text: None,
                until: None,
            }),
        }
    }

    #[test]
    fn only_live_news_of_critical_alerts_are_handed_out() {
        use AlertChange::{Acknowledged, BecameCurrent, Escalated, Raised, Resolved};
        for (change, severity, retrospective, expected) in [
            (Raised, Severity::Critical, false, true),
            (Escalated, Severity::Critical, false, true),
            (BecameCurrent, Severity::Critical, false, true),
            (Raised, Severity::Critical, true, false),
            (Raised, Severity::Warning, false, false),
            (Acknowledged, Severity::Critical, false, false),
            (Resolved, Severity::Critical, false, false),
        ] {
            let got = notice(&derived(1, change, severity, retrospective));
            assert_eq!(got.is_some(), expected, "{change:?} {severity:?} {retrospective}");
        }
    }

    #[test]
    fn an_alert_has_the_keys_that_people_depend_on() {
        let notice = notice(&derived(1, AlertChange::Raised, Severity::Critical, false)).unwrap();
        assert_eq!(notice.topic, "fajma/patient/p1/alerts/critical");
        let json: serde_json::Value = serde_json::from_slice(&notice.payload).unwrap();
        let keys: Vec<&str> = json.as_object().unwrap().keys().map(String::as_str).collect();
        let mut expected = vec![
            "id",
            "patient_id",
            "sensor_id",
            "metric",
            "rule",
            "class",
            "severity",
            "state",
            "retrospective",
            "message",
            "message_fr",
            "value",
            "limit",
            "started_at",
            "raised_at",
            "acknowledged_at",
            "acknowledged_by",
            "resolved_at",
            "history",
        ];
        expected.sort_unstable();
        let mut keys = keys;
        keys.sort_unstable();
        assert_eq!(keys, expected);
        assert_eq!(json["severity"], "CRITICAL");
        assert_eq!(json["started_at"], "1970-01-01T00:00:01.000Z");
        assert_eq!(json["history"][0]["change"], "raised");
    }

    #[test]
    fn a_repeat_is_handed_out_once_and_what_was_there_before_never() {
        let mut tail = Tail {
            partition: 0,
            next: 0,
            since: 5,
            last: None,
        };
        let origin = |offset| derived(offset, AlertChange::Raised, Severity::Critical, false).origin;
        let seen: Vec<bool> = [4, 5, 5, 7, 6, 8].map(|o| tail.accepts(&origin(o))).into();
        assert_eq!(seen, [false, true, false, true, false, true]);
    }
}
