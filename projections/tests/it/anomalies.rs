//! What was out of order in a stretch of time, whatever came later.

use crate::house::{Views, alert, alert_id, at, rejection};
use projections::query::{self, Anomalies, Anomaly, Range};
use schemas::derived::{Derived, Outcome};
use schemas::facts::{AlertClass, AlertState, Severity};
use schemas::ids::PatientId;
use schemas::refused::Rejection;
use schemas::time::Timestamp;

const OPEN: AlertState = AlertState::Open;

async fn told(views: &Views, from: i64, to: i64) -> Anomalies {
    let patient = PatientId::new("p1").unwrap();
    let range = Range {
        from: at(from),
        to: at(to),
    };
    query::anomalies(&*views.store, &patient, range, Vec::new(), Timestamp::MAX)
        .await
        .unwrap()
}

fn refused(second: i64) -> Rejection {
    Rejection {
        patient_id: Some("p1".into()),
        ..rejection(second, None)
    }
}

/// When each began.
fn moments(told: &Anomalies) -> Vec<Timestamp> {
    told.all.iter().map(Anomaly::at).collect()
}

#[tokio::test]
async fn what_comes_after_it_drives_nothing_out() {
    let views = Views::new().await;
    views.rejected(&[refused(150), refused(160)]).await;
    views
        .derived(&[alert("p1", "in it", 170, 1, OPEN, Severity::Warning)])
        .await;
    let before = told(&views, 100, 200).await;
    assert_eq!(
        (moments(&before), before.complete),
        (vec![at(150), at(160), at(170)], true)
    );
    let later: Vec<Rejection> = (0..1_500).map(|n| refused(300 + n)).collect();
    views.rejected(&later).await;
    let later: Vec<Derived> = (0..2_500)
        .map(|n| alert("p1", &format!("later {n}"), 300 + n, 2 + n, OPEN, Severity::Info))
        .collect();
    views.derived(&later).await;
    assert_eq!(told(&views, 100, 200).await, before);
    let many = told(&views, 100, 2_000).await;
    assert!(!many.complete, "1,502 were refused");
}

#[tokio::test]
async fn what_is_found_later_in_data_of_that_time_belongs_to_it() {
    let views = Views::new().await;
    let found = |name: &str, started: i64, retrospective: bool, class: AlertClass| {
        let mut it = alert("p1", name, 500, started, OPEN, Severity::Critical);
        if let Outcome::Alert(alert) = &mut it.outcome {
            (alert.started_at, alert.retrospective, alert.class) = (at(started), retrospective, class);
        }
        it
    };
    let (clinical, technical) = (AlertClass::Clinical, AlertClass::Technical);
    views
        .derived(&[
            found("before", 99, true, clinical),
            found("in it", 150, true, clinical),
            found("in it, and holds now", 160, false, clinical),
            found("switched off", 170, false, technical),
            found("after", 200, true, clinical),
        ])
        .await;
    let found = told(&views, 100, 200).await;
    let mut ids: Vec<_> = found
        .all
        .iter()
        .map(|it| match it {
            Anomaly::Alert(alert) => alert.id,
            other => panic!("{other:?}"),
        })
        .collect();
    ids.sort();
    let mut wanted = ["in it", "in it, and holds now"].map(alert_id);
    wanted.sort();
    assert_eq!(ids, wanted);
}
