//! Facts in, answers out, through the embedded home.

use crate::house::{Views, alert, alert_id, at, device, envelope, measured, reading, recorded, rejection, window};
use projections::query::{self, AlertFilter, Page, Paging, Range};
use projections::store::ViewError;
use schemas::facts::{
    AlertState, Limits, Liveness, Mark, MetricLimits, Samples, Sent, Severity, ThresholdsSet, WindowSize,
};
use schemas::ids::{PatientId, SensorId};
use schemas::journal::Fact;
use schemas::metric::Metric;
use schemas::time::{Span, Timestamp};

const DAY: i64 = 86_400;
const HR: Metric = Metric::HeartRate;

fn few<'a>(limit: usize, cursor: Option<&'a str>) -> Paging<'a> {
    Paging { limit, cursor }
}

/// Values of readings of one page and its cursor.
fn values(page: &Page<query::ReadingRow>) -> Vec<f64> {
    page.items.iter().map(|r| r.value).collect()
}

#[tokio::test]
async fn readings_come_newest_first_page_by_page_across_days_and_metrics() {
    let views = Views::new().await;
    let mut facts = Vec::new();
    for n in 0..40 {
        let metric = [HR, Metric::Spo2, Metric::Weight][n % 3];
        facts.push(measured("p1", "s1", metric, n as i64 * DAY / 5, n as f64));
    }
    facts.push(measured("p2", "s1", HR, 3, -1.0));
    views.facts(&facts).await;

    let (mut seen, mut cursor) = (Vec::new(), None);
    loop {
        let page = query::readings(&*views.store, "p1", None, Range::ALL, few(7, cursor.as_deref()))
            .await
            .unwrap();
        assert!(page.items.len() <= 7);
        seen.extend(values(&page));
        cursor = page.next_cursor;
        if cursor.is_none() {
            break;
        }
        // What comes in meanwhile is newer, and belongs to no later page.
        views
            .facts(&[measured("p1", "s2", HR, 100 * DAY + seen.len() as i64, 500.0)])
            .await;
    }
    assert_eq!(seen, (0..40).rev().map(f64::from).collect::<Vec<_>>());
}

#[tokio::test]
async fn readings_can_be_of_one_metric_and_a_stretch_of_time() {
    let views = Views::new().await;
    let facts: Vec<_> = (0..10)
        .flat_map(|n| {
            [
                measured("p1", "s1", HR, n, n as f64),
                measured("p1", "s1", Metric::Spo2, n, 90.0),
            ]
        })
        .collect();
    views.facts(&facts).await;
    for (from, to, wanted) in [
        (3, 6, &[5.0, 4.0, 3.0][..]),
        (9, 99, &[9.0]),
        (10, 99, &[]),
        (6, 3, &[]),
    ] {
        let range = Range {
            from: at(from),
            to: at(to),
        };
        let page = query::readings(&*views.store, "p1", Some(HR), range, Paging::default())
            .await
            .unwrap();
        assert_eq!(
            (values(&page).as_slice(), page.next_cursor),
            (wanted, None),
            "{from}..{to}"
        );
    }
    let bad = query::readings(&*views.store, "p1", None, Range::ALL, few(1, Some("zz"))).await;
    assert!(matches!(bad, Err(ViewError::Cursor)));
}

#[tokio::test]
async fn a_reading_sent_twice_is_one_row_that_says_everything() {
    let views = Views::new().await;
    let mut full = reading("s1", Metric::Ppg, 0.5);
    full.sent = Some(Sent {
        value: 50.0,
        unit: "%".into(),
    });
    full.contact = Some(true);
    full.epoch = Some(3);
    full.samples = Some(Samples {
        rate: 25.0,
        values: vec![0.25, -1.5],
    });
    full.marks = vec![Mark::Suspect, Mark::Censored];
    let mut envelope = envelope("sensor:s1", at(1), at(2), Fact::Reading(full));
    envelope.gateway_at = Some(at(1));
    let first = recorded(7, envelope.clone());
    envelope.received_at = at(9);
    let again = recorded(8, envelope);
    views.facts(&[again.clone(), first]).await;
    let page = query::readings(&*views.store, "sensor:s1", None, Range::ALL, Paging::default())
        .await
        .unwrap();
    let [row] = page.items.as_slice() else {
        panic!("{page:?}")
    };
    assert_eq!((row.id, row.position, row.received_at), (again.envelope.id, 8, at(9)));
    assert_eq!(
        (row.patient_id.as_str(), row.sensor_id.as_str(), row.metric),
        ("sensor:s1", "s1", Metric::Ppg)
    );
    assert_eq!(
        (row.value, row.quality, row.contact, row.seq, row.epoch),
        (0.5, Some(97), Some(true), Some(1), Some(3))
    );
    assert_eq!(
        (row.rate, row.samples.as_slice(), row.gateway_at),
        (Some(25.0), &[0.25, -1.5][..], Some(at(1)))
    );
    assert_eq!(row.marks, [Mark::Suspect, Mark::Censored]);
    assert_eq!(row.sent.as_ref().map(|s| (s.value, s.unit.as_str())), Some((50.0, "%")));
    assert_eq!(query::latest(&*views.store, "sensor:s1").await.unwrap(), page.items);
}

#[tokio::test]
async fn a_late_backlog_never_looks_newest() {
    let views = Views::new().await;
    views
        .facts(&[measured("p1", "s1", HR, 100, 80.0), measured("p1", "s2", HR, 50, 70.0)])
        .await;
    let backlog: Vec<_> = (0..50)
        .map(|n| {
            recorded(
                200 + n,
                envelope("p1", at(n), at(500), Fact::Reading(reading("s1", HR, 60.0))),
            )
        })
        .collect();
    views.facts(&backlog).await;
    let latest = query::latest(&*views.store, "p1").await.unwrap();
    let seen: Vec<_> = latest.iter().map(|r| (r.sensor_id.as_str(), r.at, r.value)).collect();
    assert_eq!(seen, [("s1", at(100), 80.0), ("s2", at(50), 70.0)]);
}

#[tokio::test]
async fn of_two_values_of_one_moment_the_newest_is_one_of_them_whole_in_any_order() {
    for turned in [false, true] {
        let views = Views::new().await;
        let mut facts = vec![measured("p1", "s1", HR, 5, 80.0), measured("p1", "s1", HR, 5, 130.5)];
        facts[0].offset = 8_200;
        facts[0].envelope.gateway_at = Some(at(6));
        facts[1].offset = 64;
        facts[1].envelope.received_at = at(9);
        let greatest = facts.iter().map(|fact| fact.envelope.id).max().unwrap();
        if turned {
            facts.reverse();
        }
        for fact in facts {
            views.facts(&[fact]).await;
        }
        let all = Range {
            from: at(0),
            to: at(60),
        };
        let both = query::readings(&*views.store, "p1", Some(HR), all, few(9, None))
            .await
            .unwrap();
        assert_eq!(both.items.len(), 2);
        let wanted: Vec<_> = both.items.into_iter().filter(|row| row.id == greatest).collect();
        assert_eq!(query::latest(&*views.store, "p1").await.unwrap(), wanted);
    }
}

/// It was received when it was received, whoever said what about it since.
#[tokio::test]
async fn of_a_reading_told_twice_as_of_one_moment_what_the_journal_has_last_is_shown() {
    for turned in [false, true] {
        let views = Views::new().await;
        let mut again = measured("p1", "s1", HR, 5, 80.0);
        let mut facts = vec![again.clone()];
        facts[0].offset = 100;
        again.offset = 8_200;
        again.envelope.cause = Some(crate::house::INCARNATION);
        facts.push(again);
        if turned {
            facts.reverse();
        }
        for fact in facts {
            views.facts(&[fact]).await;
        }
        let seen = query::latest(&*views.store, "p1").await.unwrap();
        let seen: Vec<_> = seen.iter().map(|row| (row.position, row.reattributed)).collect();
        assert_eq!(seen, [(8_200, true)]);
    }
}

#[tokio::test]
async fn of_a_window_the_newest_revision_is_shown_whatever_the_order() {
    let views = Views::new().await;
    let start = |n: i64| at(0) + Span::minutes(n);
    views
        .facts(&[
            measured("p1", "s1", HR, 0, 1.0),
            measured("p1", "s1", HR, 14 * DAY, 1.0),
        ])
        .await;
    let minute = WindowSize::Minute;
    views
        .derived(&[
            window("p1", minute, start(0), 9, 60, 75.0),
            window("p1", minute, start(0), 2, 10, 70.0),
        ])
        .await;
    views.derived(&[window("p1", minute, start(1), 3, 60, 71.0)]).await;
    views
        .derived(&[window("p1", minute, start(14 * 1440), 4, 60, 72.0)])
        .await;
    views
        .derived(&[window("p1", WindowSize::Hour, start(0), 5, 60, 73.0)])
        .await;
    let ask = async |from, to, limit, cursor: Option<&str>| {
        let range = Range { from, to };
        query::windows(&*views.store, "p1", HR, minute, range, few(limit, cursor))
            .await
            .unwrap()
    };
    let means = |page: &Page<query::WindowRow>| page.items.iter().map(|w| w.mean).collect::<Vec<_>>();
    assert_eq!(
        means(&ask(Timestamp::MIN, Timestamp::MAX, 9, None).await),
        [72.0, 71.0, 75.0]
    );
    let touched = ask(start(0) + Span::seconds(30), start(1), 9, None).await;
    assert_eq!((means(&touched), touched.items[0].revision), (vec![75.0], 9));
    let first = ask(Timestamp::MIN, Timestamp::MAX, 2, None).await;
    assert_eq!(means(&first), [72.0, 71.0]);
    let second = ask(Timestamp::MIN, Timestamp::MAX, 2, first.next_cursor.as_deref()).await;
    assert_eq!((means(&second), second.next_cursor), (vec![75.0], None));
}

#[tokio::test]
async fn a_series_has_the_asked_points_from_readings_or_windows() {
    let views = Views::new().await;
    let facts: Vec<_> = (0..60).map(|n| measured("p1", "s1", HR, n, n as f64)).collect();
    views.facts(&facts).await;
    let range = Range {
        from: at(0),
        to: at(60),
    };
    let series = query::series(&*views.store, "p1", HR, range, 3).await.unwrap();
    let seen: Vec<_> = series.iter().map(|p| (p.count, p.min, p.max, p.mean.round())).collect();
    assert_eq!(
        seen,
        [(20, 0.0, 19.0, 10.0), (20, 20.0, 39.0, 30.0), (20, 40.0, 59.0, 50.0)]
    );

    let windows: Vec<_> = (0..4)
        .map(|n| {
            window(
                "p1",
                WindowSize::Minute,
                at(0) + Span::minutes(n),
                n as i32 + 1,
                30 * (n + 1),
                n as f64,
            )
        })
        .collect();
    views.derived(&windows).await;
    let range = Range {
        from: at(0),
        to: at(240),
    };
    let series = query::series(&*views.store, "p1", HR, range, 2).await.unwrap();
    let seen: Vec<_> = series.iter().map(|p| (p.at, p.count, p.min, p.max)).collect();
    assert_eq!((seen.len(), seen[0]), (2, (at(0), 90, -1.0, 2.0)));
    assert!(
        (series[0].mean - 2.0 / 3.0).abs() < 1e-9,
        "weighted by count: {}",
        series[0].mean
    );
}

#[tokio::test]
async fn alerts_are_found_by_patient_by_state_and_by_severity() {
    let views = Views::new().await;
    let (open, ended) = (AlertState::Open, AlertState::Resolved);
    views
        .derived(&[
            alert("p1", "a", 10, 1, open, Severity::Warning),
            alert("p1", "b", 20, 2, open, Severity::Critical),
            alert("p2", "c", 3 * DAY, 1, open, Severity::Critical),
            alert("p2", "d", 5 * DAY, 2, open, Severity::Info),
        ])
        .await;
    // The end of one came before its beginning was seen, the other the usual way.
    views
        .derived(&[
            alert("p1", "e", 30, 9, ended, Severity::Warning),
            alert("p1", "e", 30, 8, open, Severity::Info),
        ])
        .await;
    views
        .derived(&[alert("p1", "a", 10, 7, ended, Severity::Warning)])
        .await;
    let names = |page: &Page<query::Alert>| {
        let name = |a: &query::Alert| {
            ["a", "b", "c", "d", "e"]
                .into_iter()
                .find(|n| alert_id(n) == a.id)
                .unwrap()
        };
        page.items.iter().map(name).collect::<String>()
    };
    let all = async |state, severity, paging: Paging<'_>| {
        query::alerts_all(&*views.store, AlertFilter { state, severity }, paging)
            .await
            .unwrap()
    };
    let page = Paging::default;
    assert_eq!(names(&all(Some(open), None, page()).await), "dcb");
    assert_eq!(names(&all(Some(open), Some(Severity::Critical), page()).await), "cb");
    assert_eq!(names(&all(Some(ended), None, page()).await), "ea");
    assert_eq!(names(&all(None, None, page()).await), "dceba");
    let first = all(None, None, few(2, None)).await;
    let second = all(None, None, few(2, first.next_cursor.as_deref())).await;
    let third = all(None, None, few(2, second.next_cursor.as_deref())).await;
    assert_eq!([names(&first), names(&second), names(&third)], ["dc", "eb", "a"]);
    assert_eq!(third.next_cursor, None);
    let first = all(Some(open), None, few(2, None)).await;
    assert_eq!(
        names(&all(Some(open), None, few(2, first.next_cursor.as_deref())).await),
        "b"
    );
    let of_patient = async |state| {
        let filter = AlertFilter { state, severity: None };
        names(
            &query::alerts(&*views.store, "p1", filter, Paging::default())
                .await
                .unwrap(),
        )
    };
    assert_eq!(
        (of_patient(None).await, of_patient(Some(open)).await),
        ("eba".to_owned(), "b".to_owned())
    );
}

#[tokio::test]
async fn one_alert_comes_with_its_history_oldest_first() {
    let views = Views::new().await;
    let states = [
        (1, AlertState::Open),
        (5, AlertState::Acknowledged),
        (9, AlertState::Resolved),
    ];
    for (offset, state) in states.into_iter().rev() {
        views
            .derived(&[alert("p1", "a", 10, offset, state, Severity::Critical)])
            .await;
    }
    let found = query::alert_with_history(&*views.store, alert_id("a"))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        (found.state, found.changed_at, found.raised_at),
        (AlertState::Resolved, at(9), at(10))
    );
    assert_eq!(
        (found.patient_id.as_str(), found.limit, found.metric),
        ("p1", Some(131.0), Some(HR))
    );
    let history: Vec<_> = found.history.iter().map(|h| (h.at, h.state)).collect();
    assert_eq!(history, states.map(|(offset, state)| (at(offset), state)));
    assert_eq!(query::alert(&*views.store, alert_id("none")).await.unwrap(), None);
}

#[tokio::test]
async fn a_sensor_is_where_it_was_heard_last() {
    let views = Views::new().await;
    let mut devices: Vec<_> = (0..30)
        .map(|n| device("p1", &format!("s{n:02}"), n, n, Liveness::Online))
        .collect();
    // s05 moved to p2; then p1's processor notices that it is silent there.
    devices.push(device("p2", "s05", 3, 50, Liveness::Online));
    devices.push(device("p1", "s05", 70, 5, Liveness::Offline));
    views.derived(&devices).await;
    let id = SensorId::new("s05").unwrap();
    let found = query::sensor(&*views.store, &id).await.unwrap().unwrap();
    let patient = PatientId::new("p2").unwrap();
    assert_eq!(
        (found.patient_id, found.liveness, found.last_heard),
        (Some(patient), Liveness::Online, at(50))
    );
    let (mut seen, mut cursor) = (Vec::new(), None);
    loop {
        let page = query::sensors(&*views.store, "", few(4, cursor.as_deref()))
            .await
            .unwrap();
        seen.extend(page.items.iter().map(|s| s.id.to_string()));
        cursor = page.next_cursor;
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!(seen, (0..30).map(|n| format!("s{n:02}")).collect::<Vec<_>>());
    let page = query::sensors(&*views.store, "s1", Paging::default()).await.unwrap();
    assert_eq!(page.items.len(), 10);
}

#[tokio::test]
async fn patients_are_listed_by_prefix_and_age() {
    let views = Views::new().await;
    let facts: Vec<_> = (0..25)
        .map(|n| measured(&format!("icu-{n:02}"), "s1", HR, n * 60, 1.0))
        .collect();
    views.facts(&facts).await;
    views
        .facts(&[measured("icu", "s1", HR, 0, 1.0), measured("z", "s1", HR, 0, 1.0)])
        .await;
    let first = query::patients(&*views.store, "icu-", few(20, None)).await.unwrap();
    let rest = query::patients(&*views.store, "icu-", few(20, first.next_cursor.as_deref()))
        .await
        .unwrap();
    let ids: Vec<_> = first
        .items
        .iter()
        .chain(&rest.items)
        .map(|p| p.id.to_string())
        .collect();
    assert_eq!(ids, (0..25).map(|n| format!("icu-{n:02}")).collect::<Vec<_>>());
    assert_eq!((first.items.len(), rest.next_cursor), (20, None));
    let one = query::patient(&*views.store, &PatientId::new("icu-07").unwrap())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(one.last_heard, at(7 * 60));
}

#[tokio::test]
async fn what_is_set_for_a_patient_is_the_newest_whole() {
    let views = Views::new().await;
    let set = |offset, metrics: &[Metric], by: &str| {
        let limits = Limits {
            critical_high: Some(131.0),
            ..Limits::default()
        };
        let thresholds = metrics.iter().map(|m| MetricLimits { metric: *m, limits }).collect();
        let fact = Fact::ThresholdsSet(ThresholdsSet {
            thresholds,
            by: by.into(),
        });
        recorded(offset, envelope("p1", at(offset), at(offset), fact))
    };
    views
        .facts(&[set(5, &[Metric::Spo2], "dr-b"), set(3, &[HR, Metric::Weight], "dr-a")])
        .await;
    let patient = PatientId::new("p1").unwrap();
    let found = query::thresholds(&*views.store, &patient).await.unwrap().unwrap();
    assert_eq!(
        (found.set_by.as_str(), found.since, found.thresholds.len()),
        ("dr-b", at(5), 1)
    );
    assert_eq!(found.thresholds[0].limits.critical_high, Some(131.0));
    assert_eq!(
        query::thresholds(&*views.store, &PatientId::new("p2").unwrap())
            .await
            .unwrap(),
        None
    );
}

#[tokio::test]
async fn refused_input_is_listed_newest_first_and_by_sensor() {
    let views = Views::new().await;
    let rejections: Vec<_> = (0..6)
        .map(|n| rejection(n * DAY, [Some("s1"), None][n as usize % 2]))
        .collect();
    views.rejected(&rejections).await;
    let ask =
        async |sensor, since, paging: Paging<'_>| query::rejected(&*views.store, sensor, since, paging).await.unwrap();
    let times = |page: &Page<query::RejectedRow>| page.items.iter().map(|r| r.received_at).collect::<Vec<_>>();
    let first = ask(None, Timestamp::MIN, few(4, None)).await;
    let rest = ask(None, Timestamp::MIN, few(4, first.next_cursor.as_deref())).await;
    assert_eq!(
        [times(&first), times(&rest)].concat(),
        [5, 4, 3, 2, 1, 0].map(|n| at(n * DAY))
    );
    assert_eq!(
        times(&ask(Some("s1"), at(DAY), Paging::default()).await),
        [at(4 * DAY), at(2 * DAY)]
    );
    let row = &rest.items[1];
    assert_eq!(
        (row.start.len(), row.size, row.sensor_id.as_deref()),
        (1_024, 2_000, Some("s1"))
    );
}

#[tokio::test]
async fn what_is_left_of_an_ended_alert_is_kept_for_one_sweep_and_then_cleaned_away() {
    // A database cleans up by itself.
    let views = Views::embedded();
    let open = || alert("p1", "a", 10, 1, AlertState::Open, Severity::Critical);
    let count = async || {
        let filter = AlertFilter {
            state: Some(AlertState::Open),
            severity: None,
        };
        query::alerts_all(&*views.store, filter, Paging::default())
            .await
            .unwrap()
            .items
            .len()
    };
    views
        .derived(&[alert("p1", "a", 10, 5, AlertState::Resolved, Severity::Critical)])
        .await;
    views.store.sweep().await.unwrap();
    views.derived(&[open()]).await;
    assert_eq!(count().await, 0, "the end still stands");
    views.store.sweep().await.unwrap();
    assert_eq!(count().await, 0);
    views.derived(&[open()]).await;
    assert_eq!(count().await, 1, "nothing is left that would say otherwise");
}
