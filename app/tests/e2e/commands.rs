//! Commands beside a running server, and without one.

use app::control::{Replay, Request, ask};
use app::simulate::course::Scenario;
use app::simulate::delivery::{Delivery, Target};
use app::simulate::plan::{Plan, World};
use eventlog::{Clock, SystemClock};
use schemas::time::Span;
use serde_json::{Value, json};

use super::house::{House, PATIENCE, ago, config, config_alone, fajma, heart_rate, with_rule};

#[tokio::test(flavor = "multi_thread")]
async fn policy_verify_and_replay_work_beside_a_running_server_and_without_one() {
    let house = House::new().await;
    let readings: Vec<Value> = (0..120).map(|n| heart_rate("p1", 150.0, ago(130 - n))).collect();
    house.send(json!(readings)).await;
    house
        .until("/v1/patients/p1/alerts", |a| {
            !with_rule(a, "heart_rate_high").is_empty()
        })
        .await;
    let there = config(house.dir.path());

    let mut policy = ask(&there, Request::PolicyShow).await.unwrap();
    policy["allowed_skew_s"] = json!(60.0);
    let by = "test".to_owned();
    let apply = Request::PolicyApply {
        policy: policy.clone(),
        by,
    };
    assert_eq!(ask(&there, apply.clone()).await.unwrap()["applied"], true);
    assert_eq!(
        ask(&there, apply).await.unwrap()["applied"],
        false,
        "it was in force already"
    );
    assert_eq!(ask(&there, Request::PolicyShow).await.unwrap()["allowed_skew_s"], 60.0);
    let wrong = Request::PolicyApply {
        policy: json!({"rules": {}}),
        by: "test".to_owned(),
    };
    assert!(ask(&there, wrong).await.is_err());

    let verified = ask(&there, Request::Verify).await.unwrap();
    assert_eq!(verified["equal"], true, "{verified:#}");
    let dir = house.stop().await;
    let verified = ask(&there, Request::Verify).await.unwrap();
    assert_eq!(verified["equal"], true, "{verified:#}");
    let implied: u64 = verified["topics"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|t| t["equal"].as_u64())
        .sum();
    assert!(implied > 0, "{verified:#}");

    let into = dir.path().join("replayed");
    let replay = Request::Replay(Replay {
        into: into.clone(),
        patient: Some("p1".parse().unwrap()),
        from: None,
        until: None,
    });
    let done = ask(&there, replay.clone()).await.unwrap();
    assert!(done["derived"]["fajma.alerts"].as_u64() > Some(0), "{done}");
    let alerts = std::fs::read_to_string(into.join("fajma.alerts.jsonl")).unwrap();
    assert!(alerts.lines().any(|line| line.contains("heart_rate_high")), "{alerts}");
    assert!(
        ask(&there, replay).await.is_err(),
        "a place that is not empty is refused"
    );
    assert_eq!(ask(&there, Request::RebuildViews).await.unwrap()["used"], "now");
    let verified = ask(&there, Request::Verify).await.unwrap();
    assert_eq!(verified["equal"], true, "{verified:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_simulation_gets_an_answer_to_everything_through_both_doors() {
    let house = House::new().await;
    let doors = [
        (true, house.server.mqtt.unwrap().to_string()),
        (false, house.http.clone()),
    ];
    for (mqtt, address) in doors {
        let world = World {
            patients: 4,
            scenarios: vec![Scenario::Stable, Scenario::SensorOff],
            rate: 40.0,
            speed: 600.0,
            length: Some(Span::minutes(10)),
            onset: 60.0,
            seed: 3,
            prefix: if mqtt { "m".into() } else { "h".into() },
        };
        let delivery = Delivery {
            target: Target {
                mqtt,
                tls: false,
                address,
            },
            tls: None,
            token: Some(house.token.clone()),
            connections: 2,
            window: 64,
            batch: 10,
            patience: PATIENCE,
        };
        let plan = Plan::new(world, SystemClock.now());
        let bar = indicatif::ProgressBar::hidden();
        let (tally, reason) = app::simulate::send(plan, delivery, &bar, std::future::pending())
            .await
            .unwrap();
        assert_eq!(reason, None);
        assert!(tally.adds_up(), "{tally:?}");
        assert!(
            tally.refused_in_all() > 0,
            "zeros without contact are refused: {tally:?}"
        );
        assert!(tally.acknowledged > 1000, "{tally:?}");
    }
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_server_says_in_one_line_why_it_does_not_start() {
    let house = House::alone().await;
    let data = house.dir.path().display().to_string();
    let other = tempfile::tempdir().unwrap();
    let elsewhere = other.path().display().to_string();
    let run = move |arguments: Vec<String>| {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        fajma(&arguments)
    };
    let up = |data: &str, listen: &str| {
        ["up", "--data", data, "--listen", listen, "--mqtt", ""]
            .map(str::to_owned)
            .to_vec()
    };
    for (arguments, part) in [
        (up(&data, "127.0.0.1:0"), "the log in"),
        (up(&elsewhere, &house.http), "is taken"),
    ] {
        let (status, _, told) = tokio::task::spawn_blocking(move || run(arguments)).await.unwrap();
        assert_eq!(status, Some(1), "{told}");
        let last = told.lines().last().unwrap_or_default();
        assert!(last.starts_with("fajma: ") && last.contains(part), "{told}");
    }
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_operator_skips_is_passed_over_in_every_replay_and_nothing_that_is_not_there_can_be_skipped() {
    let house = House::new().await;
    let both = json!([heart_rate("p1", 190.0, ago(11)), heart_rate("p1", 190.0, ago(1))]);
    let answer = house.send(both).await;
    let position = answer["results"][1]["position"].as_str().unwrap().to_owned();
    let position = api::Position::parse(&position).unwrap();
    house
        .until("/v1/patients/p1/alerts", |a| {
            !with_rule(a, "heart_rate_high").is_empty()
        })
        .await;
    let there = config(house.dir.path());
    let skip = |processor: &str, offset: i64| Request::Skip {
        processor: processor.to_owned(),
        partition: position.partition,
        offset,
        by: "test".to_owned(),
        reason: "a test".to_owned(),
    };
    for (wrong, part) in [
        (skip("alarms", position.offset), "there is no processor"),
        (skip("alerts", 1_000_000), "there is no record"),
    ] {
        let told = ask(&there, wrong).await.unwrap_err().to_string();
        assert!(told.contains(part), "{told}");
    }
    let done = ask(&there, skip("alerts", position.offset)).await.unwrap();
    assert_eq!(done["processor"], "alerts", "{done}");
    let dir = house.stop().await;
    let into = dir.path().join("replayed");
    let replay = Request::Replay(Replay {
        into: into.clone(),
        patient: None,
        from: None,
        until: None,
    });
    ask(&there, replay).await.unwrap();
    let alerts = std::fs::read_to_string(into.join("fajma.alerts.jsonl")).unwrap_or_default();
    assert!(
        !alerts.contains("heart_rate_high"),
        "one reading alone raises nothing: {alerts}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_no_record_implies_is_found() {
    use projections::embedded::{EmbeddedViews, Options};
    use projections::store::{Change, ViewStore};
    use projections::view::Cell;
    let house = House::alone().await;
    house.send(json!([heart_rate("p1", 70.0, ago(1))])).await;
    house
        .until("/v1/patients/p1/readings?metric=heart_rate", |a| {
            a["readings"].as_array().is_some_and(|r| r.len() == 1)
        })
        .await;
    let dir = house.stop().await;
    let there = config_alone(dir.path());
    {
        let views = EmbeddedViews::open(&dir.path().join("views"), Options::default()).unwrap();
        let view = projections::views::ALL.iter().find(|v| v.name == "readings").unwrap();
        let counts = views.count().await.unwrap();
        assert_eq!(counts["readings"], 1);
        let mut cells = vec![Cell::Null; view.columns.len()];
        cells[0] = Cell::Double(1.0);
        let forged = Change {
            view,
            key: vec![
                Cell::Text("ghost".into()),
                "heart_rate".into(),
                Cell::Int(1),
                Cell::Time(ago(0)),
                Cell::Text("s".into()),
                Cell::Blob(hyper::body::Bytes::from_static(&[7; 16])),
            ],
            version: 1,
            cells: Some(cells),
        };
        views.apply(&[forged], None).await.unwrap();
        views.persist().await.unwrap();
    }
    let verified = ask(&there, Request::Verify).await.unwrap();
    assert_eq!(verified["equal"], false, "{verified:#}");
    assert_eq!(verified["views"]["differing"]["readings"], 1, "{verified:#}");
}

#[test]
fn tokens_and_options_are_printed_alone_and_wrong_use_has_a_status_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().display().to_string();
    let (status, token, _) = fajma(&["token", "issue", "--role", "admin", "--data", &data]);
    assert_eq!((status, token.trim().split('.').count()), (Some(0), 3), "{token}");
    let (_, again, _) = fajma(&["token", "issue", "--role", "device", "--sensor", "s1", "--data", &data]);
    assert_ne!(token, again);
    assert_eq!(
        fajma(&["token", "issue", "--role", "doctor", "--data", &data]).0,
        Some(2)
    );
    assert_eq!(fajma(&["verify", "--data", &data]).0, Some(1), "there is no log");
    let (status, options, _) = fajma(&["config"]);
    assert!(status == Some(0) && options.contains("[http]"));
}
