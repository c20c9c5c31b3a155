//! `fajma simulate`: patients with a course, or a recording, sent to a door.

pub mod course;
pub mod delivery;
mod http;
pub mod listening;
mod mqtt;
pub mod patient;
pub mod plan;
pub mod record;
pub mod recording;
pub mod report;

use std::io::IsTerminal;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use eventlog::{Clock, SystemClock};
use indicatif::{ProgressBar, ProgressStyle};
use schemas::time::Span;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use crate::config::Time;
use crate::failure::Failure;
use course::Scenario;
use delivery::{Answered, Delivery, Sender, Target, Verdict};
use plan::{Due, Plan, World};
use report::Tally;

/// What `fajma simulate` takes.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// The door: mqtt://host:1883 or http://host:8080; with TLS mqtts://host:8883 or https://host:443.
    #[arg(long, value_parser = Target::parse)]
    pub to: Target,
    /// Whom to trust as the door: certificates in PEM, or the door's own; else whom this machine trusts.
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// How many patients.
    #[arg(long, default_value_t = 10)]
    pub patients: usize,
    /// Readings per second of measured time, of all patients together.
    #[arg(long, default_value_t = 20.0, value_parser = above_zero)]
    pub rate: f64,
    /// How many seconds of measured time pass per second; other than 1, it is a backlog that ends now.
    #[arg(long, default_value_t = 1.0, value_parser = above_zero)]
    pub speed: f64,
    /// How much measured time, like 10m; at speed 1 until interrupted, else an hour.
    #[arg(long, value_parser = Time::parse)]
    pub duration: Option<Time>,
    /// The course that the patients take; several are dealt out in turn.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "mixed")]
    pub scenario: Vec<Scenario>,
    /// Measured time until a course begins, about.
    #[arg(long, default_value = "60s", value_parser = Time::parse)]
    pub onset: Time,
    /// The same seed makes the same patients.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// What ids of patients begin with.
    #[arg(long, default_value = "sim")]
    pub prefix: String,
    /// Send a recording instead: CSV with patient_id,sensor_id,at,type,value,unit[,quality,seq].
    #[arg(long)]
    pub file: Option<PathBuf>,
    /// Send the recording's times as they are.
    #[arg(long, requires = "file")]
    pub keep_time: bool,
    /// How many records go together in one request or message.
    #[arg(long, default_value_t = 1)]
    pub batch: usize,
    /// How many connections.
    #[arg(long, default_value_t = 4)]
    pub connections: usize,
    /// How many MQTT messages may be under way on one connection.
    #[arg(long, default_value_t = 256)]
    pub window: usize,
    /// How long to wait for an answer, connecting anew included.
    #[arg(long, default_value = "30s", value_parser = Time::parse)]
    pub patience: Time,
    /// The token to show; better in FAJMA_TOKEN, which `ps` does not show.
    #[arg(long, env = "FAJMA_TOKEN", hide_env_values = true)]
    pub token: Option<String>,
    /// Print one JSON object instead of a table.
    #[arg(long)]
    pub json: bool,
}

fn above_zero(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if number.is_finite() && number > 0.0 => Ok(number),
        _ => Err("a number above 0".to_owned()),
    }
}

/// Sends, prints progress on a terminal and a closing table.
///
/// # Errors
/// Where something got no answer, or the recording cannot be read.
pub async fn run(options: Options) -> Result<(), Failure> {
    let begun = Instant::now();
    let (dues, total) = records(&options)?;
    let bar = progress(total);
    let (tally, reason) = send(dues, options.delivery()?, &bar, interrupted()).await?;
    bar.finish_and_clear();
    let took = begun.elapsed();
    if options.json {
        println!("{}", tally.json(took));
    } else {
        print!("{}", tally.table(took));
    }
    match reason {
        Some(reason) => Err(Failure::because("not everything was answered", reason)),
        None if tally.adds_up() => Ok(()),
        None => Err(Failure::Failed(
            "sent is not acknowledged and refused together".to_owned(),
        )),
    }
}

impl Options {
    fn delivery(&self) -> Result<Delivery, Failure> {
        let tls = match (&self.to.tls, &self.ca) {
            (true, ca) => Some(crate::tls::client(ca.as_deref())?),
            (false, None) => None,
            (false, Some(_)) => return Err(Failure::WrongUse("--ca is for mqtts:// and https://".to_owned())),
        };
        Ok(Delivery {
            target: self.to.clone(),
            tls,
            token: self.token.clone(),
            connections: self.connections,
            window: self.window,
            batch: self.batch,
            patience: self.patience.0,
        })
    }
}

type Dues = Box<dyn Iterator<Item = Due> + Send>;

fn records(options: &Options) -> Result<(Dues, Option<u64>), Failure> {
    let now = SystemClock.now();
    if let Some(path) = &options.file {
        let timing = recording::Timing {
            speed: options.speed,
            keep: options.keep_time,
            now,
        };
        let dues = recording::read(path, timing)?;
        let total = dues.len() as u64;
        return Ok((Box::new(dues.into_iter()), Some(total)));
    }
    let backlog = (options.speed != 1.0).then_some(Time(Duration::from_secs(3600)));
    let length = options.duration.or(backlog).map(|time| span(time.0));
    let world = World {
        patients: options.patients,
        scenarios: options.scenario.clone(),
        rate: options.rate,
        speed: options.speed,
        length,
        onset: options.onset.0.as_secs_f64(),
        seed: options.seed,
        prefix: options.prefix.as_str().into(),
    };
    Ok((Box::new(Plan::new(world, now)), None))
}

fn span(time: Duration) -> Span {
    Span(i64::try_from(time.as_micros()).unwrap_or(i64::MAX))
}

fn progress(total: Option<u64>) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let (bar, form) = match total {
        Some(total) => (
            ProgressBar::new(total),
            "{bar:30} {pos}/{len} answered, {per_sec}, {eta} left",
        ),
        None => (
            ProgressBar::new_spinner(),
            "{spinner} {pos} answered, {per_sec}, {elapsed}",
        ),
    };
    ProgressStyle::with_template(form).map_or_else(|_| bar.clone(), |style| bar.clone().with_style(style))
}

async fn interrupted() {
    let _ = tokio::signal::ctrl_c().await;
}

/// Sends records when they are due until there are no more or `stop` comes, then waits for every answer. Gives the
/// counts, and why something was not answered.
///
/// # Errors
/// Where the sending itself broke down.
pub async fn send(
    dues: impl Iterator<Item = Due> + Send,
    delivery: Delivery,
    bar: &ProgressBar,
    stop: impl Future<Output = ()>,
) -> Result<(Tally, Option<String>), Failure> {
    let (mut sender, answers) = delivery.start();
    let counting = tokio::spawn(count(answers, bar.clone()));
    tokio::select! {
        paced = pace(dues, &mut sender) => paced?,
        () = stop => {}
    }
    sender.finish().await?;
    counting.await.map_err(|e| Failure::because("counting", e))
}

async fn pace(dues: impl Iterator<Item = Due>, sender: &mut Sender) -> Result<(), Failure> {
    const LOOK: Duration = Duration::from_millis(100);
    let start = Instant::now();
    for due in dues {
        let at = start + Duration::from_micros(u64::try_from(due.after.0).unwrap_or(0));
        while Instant::now() < at {
            sender.flush(false).await?;
            sleep_until(at.min(Instant::now() + LOOK)).await;
        }
        sender.send(due.record).await?;
    }
    Ok(())
}

async fn count(mut answers: mpsc::Receiver<Answered>, bar: ProgressBar) -> (Tally, Option<String>) {
    let (mut tally, mut reason) = (Tally::default(), None);
    while let Some(answered) = answers.recv().await {
        tally.count(&answered);
        bar.inc(answered.message.records.len() as u64);
        if let Verdict::Unanswered(why) = answered.verdict {
            reason.get_or_insert(why);
        }
    }
    (tally, reason)
}
