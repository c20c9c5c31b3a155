//! The commands that ask the house: policy, skip, replay, verify, views.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use schemas::ids::PatientId;
use schemas::time::Timestamp;
use serde_json::Value;

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

/// `fajma views …`.
#[derive(Debug, Clone, Subcommand)]
pub enum ViewsCommand {
    /// Make the views anew from the log; a running server uses them from its next start on.
    Rebuild {
        /// Where things are.
        #[command(flatten)]
        place: Place,
    },
}

async fn ask(place: &Place, request: Request) -> Result<Value, Failure> {
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
    let ViewsCommand::Rebuild { place } = command;
    println!("{}", ask(&place, Request::RebuildViews).await?);
    Ok(())
}
