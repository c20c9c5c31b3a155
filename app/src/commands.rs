//! The commands that ask the house: policy, skip, replay, verify, views.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use projections::scylla::Replication;
use schemas::ids::PatientId;
use schemas::time::Timestamp;
use serde_json::Value;

use crate::broker_token;
use crate::cli::Place;
use crate::control::{self, Request};
use crate::failure::Failure;

/// `fajma policy …`.
#[derive(Debug, Clone, Subcommand)]
pub enum PolicyCommand {
    /// Print the policy in force, as JSON.
    Show {
        /// Where things are.
        #[command(flatten)]
        place: Place,
    },
    /// Let processors go by another policy from now on.
    Apply {
        /// The whole policy as JSON, as `policy show` prints it; - for standard input.
        file: PathBuf,
        /// Who: stands in the journal.
        #[arg(long, env = "USER", default_value = "operator")]
        by: String,
        /// Where things are.
        #[command(flatten)]
        place: Place,
    },
}

/// What `fajma skip` takes.
#[derive(Debug, Clone, Args)]
pub struct Skip {
    /// The processor that stopped.
    #[arg(long)]
    pub processor: String,
    /// The journal partition.
    #[arg(long)]
    pub partition: u16,
    /// The offset of the record.
    #[arg(long)]
    pub offset: i64,
    /// Why: stands in the log for ever.
    #[arg(long)]
    pub reason: String,
    /// Who: stands in the log for ever.
    #[arg(long, env = "USER", default_value = "operator")]
    pub by: String,
    /// Where things are.
    #[command(flatten)]
    pub place: Place,
}

/// What `fajma replay` takes.
#[derive(Debug, Clone, Args)]
pub struct Replay {
    /// Where to: a directory that is empty or not there yet.
    #[arg(long)]
    pub into: PathBuf,
    /// Of this patient alone.
    #[arg(long, value_parser = PatientId::new)]
    pub patient: Option<PatientId>,
    /// Of what was recorded at or after this moment (RFC 3339).
    #[arg(long, value_parser = Timestamp::parse)]
    pub from: Option<Timestamp>,
    /// Of what was recorded before this moment (RFC 3339).
    #[arg(long, value_parser = Timestamp::parse)]
    pub until: Option<Timestamp>,
    /// Print one JSON object.
    #[arg(long)]
    pub json: bool,
    /// Where things are.
    #[command(flatten)]
    pub place: Place,
}

/// What `fajma verify` takes.
#[derive(Debug, Clone, Args)]
pub struct Verify {
    /// Print one JSON object.
    #[arg(long)]
    pub json: bool,
    /// Where things are.
    #[command(flatten)]
    pub place: Place,
}

/// `fajma topics …`.
#[derive(Debug, Clone, Subcommand)]
pub enum TopicsCommand {
    /// Make topics that are missing and check those that are there; what drifted is an error.
    Apply {
        /// Copies of every partition of new topics: 3 where there are three brokers or more.
        #[arg(long, value_name = "N", default_value_t = 1)]
        replication: u8,
        /// The log.
        #[arg(long, value_name = "URL")]
        log: Option<String>,
        /// Where things are.
        #[command(flatten)]
        place: Place,
    },
}

/// `fajma views …`.
#[derive(Debug, Clone, Subcommand)]
pub enum ViewsCommand {
    /// Make tables that are missing in a database and check those that are there; what drifted is an error.
    Apply {
        /// Copies of every row, where the keyspace is made: N, or dc1=N,dc2=N by datacentre.
        #[arg(long, value_name = "N", default_value = "1", value_parser = replication)]
        replication: Replication,
        /// The database.
        #[arg(long, value_name = "URL")]
        views: Option<String>,
        /// Where things are.
        #[command(flatten)]
        place: Place,
    },
    /// Make the views anew from the log; a running server uses them from its next start on.
    Rebuild {
        /// Where things are.
        #[command(flatten)]
        place: Place,
    },
}

pub(crate) async fn ask(place: &Place, request: Request) -> Result<Value, Failure> {
    control::ask(&place.config(Vec::new())?, request).await
}

/// `fajma policy`.
///
/// # Errors
/// As the house answers.
pub async fn policy(command: PolicyCommand) -> Result<(), Failure> {
    match command {
        PolicyCommand::Show { place } => {
            let policy = ask(&place, Request::PolicyShow).await?;
            println!("{policy:#}");
        }
        PolicyCommand::Apply { file, by, place } => {
            let wrong = |e: &dyn std::fmt::Display| Failure::WrongUse(format!("{}: {e}", file.display()));
            let text = if file.as_os_str() == "-" {
                std::io::read_to_string(std::io::stdin())
            } else {
                std::fs::read_to_string(&file)
            };
            let policy: Value = serde_json::from_str(&text.map_err(|e| wrong(&e))?).map_err(|e| wrong(&e))?;
            let done = ask(&place, Request::PolicyApply { policy, by }).await?;
            println!("{done}");
        }
    }
    Ok(())
}

/// `fajma skip`.
///
/// # Errors
/// As the house answers.
pub async fn skip(options: Skip) -> Result<(), Failure> {
    let request = Request::Skip {
        processor: options.processor,
        partition: options.partition,
        offset: options.offset,
        by: options.by,
        reason: options.reason,
    };
    println!("{}", ask(&options.place, request).await?);
    Ok(())
}

/// `fajma replay`.
///
/// # Errors
/// As the house answers.
pub async fn replay(options: Replay) -> Result<(), Failure> {
    let into = std::path::absolute(&options.into).map_err(|e| Failure::because(options.into.display(), e))?;
    let request = Request::Replay(control::Replay {
        into,
        patient: options.patient,
        from: options.from,
        until: options.until,
    });
    let done = ask(&options.place, request).await?;
    if options.json {
        println!("{done}");
    } else {
        println!(
            "replayed {} facts into {}",
            done["facts"],
            done["into"].as_str().unwrap_or_default()
        );
        for (topic, n) in done["derived"].as_object().into_iter().flatten() {
            println!("  {n:>10}  {topic}");
        }
    }
    Ok(())
}

/// `fajma verify`.
///
/// # Errors
/// Where what was recorded is not what the journal implies, or it could not be found out.
pub async fn verify(options: Verify) -> Result<(), Failure> {
    let found = ask(&options.place, Request::Verify).await?;
    if options.json {
        println!("{found}");
    } else {
        for topic in found["topics"].as_array().into_iter().flatten() {
            println!(
                "{:<24} {:>10} equal, {} missing, {} extra, {} different",
                topic["topic"].as_str().unwrap_or_default(),
                topic["equal"],
                topic["missing"],
                topic["extra"],
                topic["different"]
            );
            if let Some(first) = topic["first"].as_str() {
                println!("    first at {first}");
            }
        }
        println!(
            "{:<24} {:>10} rows, differing: {}",
            "views", found["views"]["rows"], found["views"]["differing"]
        );
    }
    if found["equal"] == Value::Bool(true) {
        Ok(())
    } else {
        Err(Failure::Failed(
            "what was recorded is not what the journal implies".to_owned(),
        ))
    }
}

/// `fajma views`.
///
/// # Errors
/// As the house answers.
pub async fn views(command: ViewsCommand) -> Result<(), Failure> {
    match command {
        ViewsCommand::Rebuild { place } => println!("{}", ask(&place, Request::RebuildViews).await?),
        ViewsCommand::Apply {
            replication,
            views,
            place,
        } => {
            let flags = views.map(|url| ("views.url", url, "--views"));
            let config = place.config(flags.into_iter().collect())?;
            let database = config.views.database().map_err(Failure::WrongUse)?;
            let database = database.ok_or_else(|| Failure::WrongUse("--views scylla://host:port".to_owned()))?;
            let applied = projections::scylla::apply(&database, &replication).await;
            applied.map_err(|e| Failure::because(format_args!("the views in {}", database.keyspace), e))?;
            println!("the tables of {} are as they should be", database.keyspace);
        }
    }
    Ok(())
}

/// `N` or `dc1=N,dc2=N`.
fn replication(text: &str) -> Result<Replication, String> {
    if let Ok(copies) = text.parse() {
        return Ok(Replication::Simple(copies));
    }
    let one = |part: &str| {
        let (name, copies) = part.split_once('=')?;
        Some((name.to_owned(), copies.parse().ok()?)).filter(|(name, _)| !name.is_empty())
    };
    let all: Option<Vec<(String, u8)>> = text.split(',').map(one).collect();
    all.map(Replication::Datacentres)
        .ok_or_else(|| format!("{text:?} is neither a number nor dc1=N,dc2=N"))
}

/// `fajma topics`.
///
/// # Errors
/// Where topics cannot be made, or have drifted.
pub async fn topics(command: TopicsCommand) -> Result<(), Failure> {
    let TopicsCommand::Apply {
        replication,
        log,
        place,
    } = command;
    let flags = log.map(|url| ("log.url", url, "--log"));
    let config = place.config(flags.into_iter().collect())?;
    let options = config.log.kafka().map_err(Failure::WrongUse)?;
    let options = options.ok_or_else(|| Failure::WrongUse("--log kafka://host:port".to_owned()))?;
    let options = eventlog::kafka::Options { replication, ..options };
    broker_token::begin(&config).await?;
    let drift = eventlog::kafka::apply(&options).await;
    let drift = drift.map_err(|e| Failure::because(format_args!("the log at {}", config.log.url), e))?;
    if drift.is_empty() {
        println!("the topics at {} are as they should be", options.brokers);
        return Ok(());
    }
    drift.iter().for_each(|drift| println!("{drift}"));
    Err(Failure::Failed("topics have drifted: nothing was altered".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_are_a_number_or_one_per_datacentre() {
        assert_eq!(replication("3"), Ok(Replication::Simple(3)));
        let two = Replication::Datacentres(vec![("a".to_owned(), 3), ("b".to_owned(), 1)]);
        assert_eq!(replication("a=3,b=1"), Ok(two));
        for bad in ["", "a", "a=", "=3", "300", "a=3,"] {
            assert!(replication(bad).is_err(), "{bad}");
        }
    }
}
