//! The files for Docker, held against each other and against the program's options: nothing here starts a container.

use std::path::Path;

use app::config::{Config, Sources};
use serde_json::{Map, Value};

fn read(file: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docker").join(file);
    std::fs::read_to_string(path).unwrap()
}

/// Maps are merged, all else is replaced: what Docker does with one file more, as far as these files need it.
fn lay(below: &mut Value, above: Value) {
    match (below, above) {
        (Value::Object(below), Value::Object(above)) => {
            for (name, value) in above {
                lay(below.entry(name).or_insert(Value::Null), value);
            }
        }
        (below, above) => *below = above,
    }
}

/// The services of the first file, or of both.
fn services(files: &[&str]) -> Map<String, Value> {
    let mut all = Value::Null;
    for file in files {
        lay(&mut all, serde_saphyr::from_str(&read(file)).unwrap());
    }
    all["services"].as_object().unwrap().clone()
}

const ONE: &[&str] = &["compose.yaml"];
const THREE: &[&str] = &["compose.yaml", "compose.three.yaml"];

fn waits_for<'a>(service: &'a Value, condition: &str) -> Vec<&'a str> {
    let all = service["depends_on"].as_object();
    all.into_iter()
        .flatten()
        .filter(|(_, how)| how["condition"] == condition)
        .map(|(name, _)| name.as_str())
        .collect()
}

/// Whether an image is the same tomorrow: a digest, or a version of three numbers.
fn pinned(image: &str) -> bool {
    let tag = image.rsplit('/').next().unwrap_or_default();
    let version = tag.split_once(':').map_or("", |(_, tag)| tag).trim_start_matches('v');
    let numbers = version.split('-').next().unwrap_or_default().split('.');
    image.contains("@sha256:") || numbers.filter(|part| part.parse::<u32>().is_ok()).count() == 3
}

#[test]
fn images_are_of_exact_versions_and_what_runs_comes_back() {
    for (name, service) in services(THREE) {
        let image = service["image"].as_str().unwrap();
        assert!(image == "fajma:local" || pinned(image), "{name}: {image}");
        let (ends, restart) = (["topics", "views", "key"], service["restart"].as_str().unwrap());
        assert_eq!(
            restart == "unless-stopped",
            !ends.contains(&name.as_str()),
            "{name}: {restart}"
        );
    }
    let from = read("Dockerfile");
    let images = from.lines().filter_map(|line| line.strip_prefix("FROM "));
    for image in images.map(|line| line.split(' ').next().unwrap()) {
        assert!(pinned(image), "{image}");
    }
    for loose in [
        "kafka",
        "kafka:latest",
        "scylla:2025.1",
        "a/rust:1.95-slim",
        "x:nonroot",
    ] {
        assert!(!pinned(loose), "{loose}");
    }
}

#[test]
fn topics_and_tables_wait_for_every_node_and_nobody_for_what_cannot_say_that_it_is_well() {
    for files in [ONE, THREE] {
        let all = services(files);
        let nodes = |engine: &str| -> Vec<&str> {
            let names = all.keys().map(String::as_str);
            names.filter(|name| name.starts_with(engine)).collect()
        };
        assert_eq!(nodes("kafka").len(), if files == ONE { 1 } else { 3 });
        assert_eq!(waits_for(&all["topics"], "service_healthy"), nodes("kafka"));
        assert_eq!(waits_for(&all["views"], "service_healthy"), nodes("scylla"));
        for (name, service) in &all {
            for other in waits_for(service, "service_healthy") {
                assert!(
                    all[other]["healthcheck"]["test"].is_array(),
                    "{name} waits for {other}, which has no health check"
                );
            }
        }
        for role in ["ingest", "process", "project", "serve"] {
            let first = waits_for(&all[role], "service_completed_successfully");
            assert_eq!(first.len(), 3, "{role}: {first:?}");
        }
    }
}

#[test]
fn what_the_program_is_told_are_options_of_it() {
    for files in [ONE, THREE] {
        let all = services(files);
        let registry = &all["registry"]["ports"][0];
        assert!(registry.as_str().unwrap().ends_with(":8081"), "{registry}");
        for (name, service) in all {
            if service["image"] != "fajma:local" {
                continue;
            }
            let told = service["environment"].as_object().unwrap().iter();
            let environment = told
                .map(|(name, value)| (name.clone(), value.as_str().unwrap().to_owned()))
                .collect();
            let config = Config::load(Sources {
                environment,
                ..Sources::default()
            })
            .unwrap();
            assert_eq!(config.registry.url, "http://registry:8081", "{name}");
            let nodes = if files == ONE { 1 } else { 3 };
            let brokers = config.log.kafka().unwrap().unwrap().brokers;
            assert_eq!(
                brokers.split(',').count(),
                if name == "key" { 1 } else { nodes },
                "{name}: {brokers}"
            );
        }
    }
}
