//! The rules of the house that a test can check: who may know whom, where the clock and the network may be touched,
//! how long a file may be.

use std::fs;
use std::path::{Path, PathBuf};

/// Each crate and the crates of ours that it may depend on.
const ARROWS: &[(&str, &[&str])] = &[
    ("schemas", &[]),
    ("eventlog", &["schemas"]),
    ("ingest", &["eventlog", "schemas"]),
    ("processors", &["eventlog", "schemas"]),
    ("projections", &["eventlog", "schemas"]),
    ("api", &["projections", "eventlog", "schemas"]),
    (
        "app",
        &["api", "ingest", "processors", "projections", "eventlog", "schemas"],
    ),
    (
        "benches",
        &[
            "app",
            "api",
            "ingest",
            "processors",
            "projections",
            "eventlog",
            "schemas",
        ],
    ),
];

/// Vendors' crates and the places (beginnings of paths) where their names may appear in source.
const HOMES: &[(&str, &[&str])] = &[
    (
        "fjall",
        &["eventlog/src/embedded", "projections/src/embedded", "processors/src/"],
    ),
    // And the client alone, which the log is compared with.
    ("rdkafka", &["eventlog/src/kafka", "benches/src/engines/bare"]),
    ("scylla", &["projections/src/scylla"]),
    ("apache_avro", &["schemas/src/", "ingest/src/"]),
    ("axum", &["ingest/src/", "api/src/", "app/src/"]),
    ("mqtt_protocol_core", &["ingest/src/mqtt"]),
    ("rumqttc", &["app/src/simulate/"]),
    ("datafusion", &["api/sql/"]),
];

/// Shells, by beginnings of paths: here `tokio` may be used. Everything else is pure.
const SHELLS: &[&str] = &[
    "eventlog/src/embedded",
    "eventlog/src/kafka",
    "eventlog/src/faulty",
    "eventlog/src/conformance",
    "eventlog/src/model",
    "eventlog/src/follow.rs",
    "eventlog/src/moving",
    "eventlog/src/raw.rs",
    "ingest/src/",
    "processors/src/engine/runner",
    "processors/src/runner",
    "processors/src/run",
    "projections/src/embedded",
    "projections/src/scylla",
    "projections/src/conformance",
    "projections/src/run",
    "api/src/",
    "app/src/",
    "benches/",
];

/// Files of shells that are pure all the same: what decides, without a clock and without a network.
const PURE_IN_SHELLS: &[&str] = &[
    "ingest/src/accept",
    "app/src/simulate/course",
    "app/src/simulate/patient",
];

/// The longest a source file may be, in lines.
const LONGEST: usize = 600;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// Files under `folder` (of the root) that end in `ending`, with their paths from the root.
fn files(folder: &str, ending: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut folders = vec![PathBuf::from(folder)];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(root().join(&folder)) else {
            continue;
        };
        for entry in entries.flatten() {
            let path = folder.join(entry.file_name());
            let name = path.to_string_lossy().into_owned();
            if entry.path().is_dir() {
                if !matches!(entry.file_name().to_str(), Some("node_modules" | "target" | "dist")) {
                    folders.push(path);
                }
            } else if name.ends_with(ending) {
                let text = fs::read_to_string(entry.path()).unwrap_or_default();
                found.push((name, text));
            }
        }
    }
    found.sort();
    found
}

/// Every Rust file of every crate.
fn sources() -> Vec<(String, String)> {
    ARROWS.iter().flat_map(|(name, _)| files(name, ".rs")).collect()
}

/// Code without comments and without the tests at its foot.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines()
        .enumerate()
        .take_while(|(_, line)| line.trim() != "#[cfg(test)]" || line.starts_with(' '))
        .map(|(n, line)| (n + 1, line.split("//").next().unwrap_or(line)))
}

fn starts_with_any(path: &str, beginnings: &[&str]) -> bool {
    beginnings.iter().any(|b| path.starts_with(b))
}

/// Whether `word` stands in `line` as a word of its own.
fn names(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let part = |c: char| c.is_alphanumeric() || c == '_';
        !line[..at].ends_with(part) && !line[at + word.len()..].starts_with(part)
    })
}

fn none(found: Vec<String>) {
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

#[test]
fn crates_depend_along_the_arrows_only() {
    let mut wrong = Vec::new();
    for (name, allowed) in ARROWS {
        let manifest: toml::Table = read(&format!("{name}/Cargo.toml")).parse().unwrap();
        let empty = toml::Table::new();
        let dependencies = manifest
            .get("dependencies")
            .and_then(toml::Value::as_table)
            .unwrap_or(&empty);
        for (ours, _) in ARROWS {
            if dependencies.contains_key(*ours) && !allowed.contains(ours) {
                wrong.push(format!("{name}/Cargo.toml depends on {ours}"));
            }
            for (path, text) in files(&format!("{name}/src"), ".rs") {
                let used = code(&text).any(|(_, line)| {
                    let line = line.trim_start();
                    line.starts_with(&format!("use {ours}::")) || line.contains(&format!(" ::{ours}::"))
                });
                if used && ours != name && !allowed.contains(ours) {
                    wrong.push(format!("{path} uses {ours}"));
                }
            }
        }
    }
    none(wrong);
}

#[test]
fn a_vendors_crate_stays_in_its_home() {
    let mut wrong = Vec::new();
    for (path, text) in sources() {
        if !path.contains("/src/") {
            continue;
        }
        for (vendor, homes) in HOMES {
            if !starts_with_any(&path, homes) {
                wrong.extend(
                    code(&text)
                        // A home of ours may bear the name of what it stands on.
                        .map(|(n, line)| (n, line.replace(&format!("projections::{vendor}"), "")))
                        .filter(|(_, line)| names(line, vendor) && line.contains(&format!("{vendor}::")))
                        .map(|(n, _)| format!("{path}:{n} names {vendor}")),
                );
            }
        }
    }
    none(wrong);
}

#[test]
fn only_shells_know_the_network_and_nobody_but_the_clock_reads_the_time() {
    let mut wrong = Vec::new();
    for (path, text) in sources() {
        let pure = !starts_with_any(&path, SHELLS) || starts_with_any(&path, PURE_IN_SHELLS);
        if !path.contains("/src/") || !pure {
            continue;
        }
        let clock = path == "eventlog/src/clock.rs";
        for (n, line) in code(&text) {
            if names(line, "tokio") {
                wrong.push(format!("{path}:{n} uses tokio"));
            }
            let reads = ["SystemTime", "Instant"].iter().any(|w| names(line, w)) || line.contains("::now()");
            if reads && !clock {
                wrong.push(format!("{path}:{n} reads the time"));
            }
        }
    }
    none(wrong);
}

#[test]
fn no_file_is_longer_than_one_can_read() {
    let long = |(path, text): (String, String)| {
        let lines = text.lines().count();
        (lines > LONGEST).then(|| format!("{path} has {lines} lines, at most {LONGEST}"))
    };
    none(sources().into_iter().filter_map(long).collect());
}

#[test]
fn nothing_is_left_to_be_done_in_the_code() {
    let markers = [
        concat!("todo", "!("),
        concat!("unimplemented", "!("),
        concat!("FIX", "ME"),
    ];
    let mut wrong = Vec::new();
    for (path, text) in sources() {
        let lines = text.lines().enumerate();
        let found = lines.filter(|(_, line)| markers.iter().any(|m| line.contains(m)));
        wrong.extend(found.map(|(n, _)| format!("{path}:{}", n + 1)));
    }
    none(wrong);
}

#[test]
fn every_crate_goes_by_the_lints_of_the_house() {
    let workspace: toml::Table = read("Cargo.toml").parse().unwrap();
    let lints = &workspace["workspace"]["lints"];
    for (group, lint) in [
        ("rust", "missing_docs"),
        ("rust", "unsafe_code"),
        ("clippy", "unwrap_used"),
        ("clippy", "expect_used"),
        ("clippy", "disallowed_methods"),
    ] {
        assert!(
            lints[group].get(lint).is_some(),
            "{group}::{lint} is not in the workspace"
        );
    }
    for (name, _) in ARROWS {
        let manifest: toml::Table = read(&format!("{name}/Cargo.toml")).parse().unwrap();
        let inherited = manifest.get("lints").and_then(|l| l.get("workspace"));
        assert_eq!(inherited, Some(&toml::Value::Boolean(true)), "{name}");
    }
}

#[test]
fn every_member_of_the_workspace_has_its_arrows_here() {
    let workspace: toml::Table = read("Cargo.toml").parse().unwrap();
    let members = workspace["workspace"]["members"].as_array().unwrap();
    for member in members.iter().filter_map(toml::Value::as_str) {
        assert!(
            member == "api/sql" || ARROWS.iter().any(|(name, _)| *name == member),
            "{member}"
        );
    }
}

#[test]
fn the_readme_names_the_two_targets_that_do_everything() {
    let readme = read("README.md");
    let makefile = read("Makefile");
    for target in ["up", "test"] {
        assert!(readme.contains(&format!("make {target}")), "README: make {target}");
        assert!(
            makefile.lines().any(|line| line.starts_with(&format!("{target}:"))),
            "Makefile: {target}"
        );
    }
}

#[test]
fn every_schema_has_its_golden_bytes() {
    let mut missing = Vec::new();
    for (path, text) in files("schemas/avro", ".avsc") {
        let schema: serde_json::Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{path}: {e}"));
        let name = schema["name"].as_str().unwrap_or_default();
        if files(&format!("schemas/golden/{name}"), ".hex").is_empty() {
            missing.push(format!("{path} has no golden bytes in schemas/golden/{name}"));
        }
    }
    none(missing);
}

#[test]
fn unsafe_code_is_in_one_file_alone() {
    let unsafe_files: Vec<String> = sources()
        .into_iter()
        .filter(|(path, text)| path != "app/tests/tidy.rs" && text.contains("unsafe_code"))
        .map(|(path, _)| path)
        .collect();
    assert_eq!(unsafe_files, ["eventlog/src/kafka/native.rs"]);
}
