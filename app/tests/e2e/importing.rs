//! `fajma import` beside a running server.

use std::fmt::Write;
use std::path::Path;
use std::process::Stdio;

use app::client;
use app::control::{Request, ask};
use serde_json::{Value, json};

use super::house::{House, config, fajma, program};

fn import(file: &Path, more: &[&str]) -> (Option<i32>, Value) {
    let dir = file.parent().unwrap().to_str().unwrap();
    let mut arguments = vec![
        "import",
        file.to_str().unwrap(),
        "--data",
        dir,
        "--json",
        "--by",
        "clerk",
    ];
    arguments.extend(more);
    let (status, out, errors) = fajma(&arguments);
    let report = serde_json::from_str(&out).unwrap_or_else(|_| panic!("{out} {errors}"));
    (status, report)
}

fn counts(report: &Value) -> [u64; 4] {
    let refused = report["refused"].as_array().unwrap().len() as u64;
    let count = |name: &str| report[name].as_u64().unwrap();
    [count("created"), count("changed"), count("unchanged"), refused]
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_rows_are_named_the_others_taken_and_a_second_run_changes_nothing() {
    let house = House::new().await;
    house
        .send(json!([super::house::heart_rate("heard", 80.0, super::house::ago(5))]))
        .await;
    let dir = house.dir.path();
    let patients = dir.join("patients.jsonl");
    let rows = r#"{"kind":"patient","id":"p1","name":"Awa Diop","birth_date":"1961-04-12","care_team":["dr.ba"]}
{"kind":"patient","id":"p2","birth_date":"12/04/1961"}
{"kind":"patient","id":"p 3"}

{"kind":"practitioner","id":"dr.ba","name":"Moussa Ba","profession":"doctor"}
{"kind":"patient","id":"p1","name":"again"}
{"kind":"patient","id":"heard","name":"Fatou Sow"}
"#;
    std::fs::write(&patients, rows).unwrap();

    let (status, report) = import(&patients, &["--dry-run"]);
    assert_eq!((status, counts(&report)), (Some(1), [3, 0, 0, 3]), "{report:#}");
    let there = client::get(&house.http, "/v1/patients/p1", &house.token).await;
    assert!(there.is_err(), "a dry run registers nobody: {there:?}");

    let (status, report) = import(&patients, &[]);
    assert_eq!((status, counts(&report)), (Some(1), [3, 0, 0, 3]), "{report:#}");
    let named: Vec<_> = report["refused"].as_array().unwrap().iter().collect();
    let lines: Vec<_> = named.iter().map(|r| (&r["line"], &r["field"])).collect();
    assert_eq!(lines[0], (&json!(2), &json!("birth_date")), "{report:#}");
    assert_eq!(lines[1], (&json!(3), &json!("id")), "{report:#}");
    assert_eq!(lines[2], (&json!(6), &json!("id")), "{report:#}");
    assert!(
        named
            .iter()
            .all(|r| r["detail_fr"].as_str().is_some_and(|t| !t.is_empty()))
    );
    let awa = house.until("/v1/patients/p1", |p| p["name"] == "Awa Diop").await;
    assert_eq!(
        (&awa["care_team"], &awa["recorded_by"]),
        (&json!(["dr.ba"]), &json!("clerk"))
    );
    house.until("/v1/patients/heard", |p| p["registered"] == true).await;

    let (_, report) = import(&patients, &[]);
    assert_eq!(counts(&report), [0, 0, 3, 3], "{report:#}");
    let again = house.get("/v1/patients/p1").await;
    assert_eq!(again["revision"], awa["revision"]);

    let sensors = dir.join("sensors.csv");
    std::fs::write(
        &sensors,
        "id,kind,mac_address\ns1,ecg,AA:BB:CC:00:00:01\ns2,ecg,aa-bb-cc-00-00-01\ns3,oximeter,zz\ns4,oximeter,\n",
    )
    .unwrap();
    let (_, report) = import(&sensors, &["--kind", "sensors"]);
    assert_eq!(counts(&report), [2, 0, 0, 2], "{report:#}");

    // What people register changes nothing that processors concluded.
    let verified = ask(&config(dir), Request::Verify).await.unwrap();
    assert_eq!(verified["equal"], true, "{verified:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_that_was_killed_is_run_again_whole() {
    const ROWS: u64 = 20_000;
    let house = House::new().await;
    let file = house.dir.path().join("many.csv");
    let mut text = "id,name\n".to_owned();
    for n in 0..ROWS {
        writeln!(text, "m{n},Patient {n}").unwrap();
    }
    std::fs::write(&file, text).unwrap();
    let (path, dir) = (file.to_str().unwrap(), house.dir.path().to_str().unwrap());
    let mut first = program()
        .args(["import", path, "--kind", "patients", "--data", dir])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    house.until("/v1/patients/m0", |p| p["name"] == "Patient 0").await;
    first.kill().unwrap();
    assert!(!first.wait().unwrap().success(), "it was killed before its end");

    let (status, report) = import(&file, &["--kind", "patients"]);
    let [created, changed, unchanged, refused] = counts(&report);
    assert_eq!((status, changed, refused), (Some(0), 0, 0), "{report:#}");
    assert!(
        created > 0 && unchanged > 0 && created + unchanged == ROWS,
        "{report:#}"
    );
    let last = format!("/v1/patients/m{}", ROWS - 1);
    house.until(&last, |p| p["registered"] == true).await;
}
