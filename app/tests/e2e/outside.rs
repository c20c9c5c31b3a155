//! What lies with others, fetched by a program that is killed: topics that others fill, a broker that devices use already.

mod bridge;
mod mosquitto;
mod raw;

use std::collections::BTreeSet;
use std::path::Path;

use app::config::{Config, Sources};
use eventlog::{Limit, Topic};
use schemas::codec;
use schemas::journal::Fact;
use serde_json::Value;

use super::house::program;
use super::program::Program;

impl Program {
    /// How many readings of each patient there are, whatever has been said twice.
    async fn readings(&self, patients: &[String]) -> Vec<i64> {
        let mut counts = Vec::new();
        for patient in patients {
            let answer = self
                .ask(&format!(
                    "/v1/patients/{patient}/readings?metric=heart_rate&limit=10000"
                ))
                .await;
            let ids = answer["readings"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(|row| row["id"].as_str());
            counts.push(ids.collect::<BTreeSet<_>>().len() as i64);
        }
        counts
    }

    /// How many readings the minutes of each patient have counted. Under load they are written late.
    async fn counted(&self, patients: &[String]) -> Vec<i64> {
        let mut counts = Vec::new();
        for patient in patients {
            let path = format!("/v1/patients/{patient}/windows?metric=heart_rate&size=1m&limit=1000");
            let answer = self.ask(&path).await;
            let windows = answer["windows"].as_array().into_iter().flatten();
            counts.push(windows.filter_map(|window| window["count"].as_i64()).sum());
        }
        counts
    }

    /// Waits until every reading is there, and counted once.
    async fn counts(&self, patients: &[String], each: &[i64]) {
        let readings = async |program: &Self| program.readings(patients).await;
        self.until("every reading", readings, |n| n == each).await;
        let counted = async |program: &Self| program.counted(patients).await;
        self.until("each counted once", counted, |n| n == each).await;
    }

    /// Codes and beginnings of what was refused at a door, sorted.
    async fn refused(&self, door: &str) -> Vec<(String, String)> {
        let answer = self.ask("/v1/rejected?limit=1000").await;
        let all = answer["rejected"].as_array().into_iter().flatten();
        let text = |row: &Value, name: &str| row[name].as_str().unwrap_or_default().to_owned();
        let mut refused: Vec<_> = all
            .filter(|row| row["door"] == door)
            .map(|row| (text(row, "code"), text(row, "start")))
            .collect();
        refused.sort();
        refused
    }
}

/// How many readings stand in the journal of a stopped program, and how many different ones.
async fn journal(dir: &Path) -> (usize, usize) {
    let flags = vec![
        ("data.dir", dir.join("up").display().to_string(), "test"),
        ("log.partitions", "2".to_owned(), "test"),
    ];
    let config = Config::load(Sources {
        flags,
        ..Sources::default()
    });
    let house = app::house::House::open(&config.unwrap()).await.unwrap();
    let (mut all, mut different) = (0, BTreeSet::new());
    for partition in 0..house.log.layout().partitions {
        let bounds = house.log.bounds(Topic::Journal, partition).await.unwrap();
        let mut from = bounds.start;
        while from < bounds.end {
            let batch = house
                .log
                .read(Topic::Journal, partition, from, Limit::default())
                .await
                .unwrap();
            for entry in batch.entries() {
                let envelope = codec::decode(&entry.value, &house.catalogue).unwrap();
                if let Fact::Reading(_) = envelope.fact {
                    all += 1;
                    different.insert(envelope.id);
                }
            }
            from = batch.next().unwrap_or(bounds.end);
        }
    }
    (all, different.len())
}

/// Recomputes what the stopped program recorded.
fn verify(dir: &Path, variables: &[(&str, String)]) {
    let output = program()
        .args(["verify", "--data"])
        .arg(dir.join("up"))
        .envs(variables.iter().map(|(name, value)| (*name, value)))
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
}
