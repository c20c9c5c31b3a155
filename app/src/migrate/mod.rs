//! `fajma migrate`: carries an installation's log from a directory to Kafka, or back (docs/migrate.md).

mod place;
mod report;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use clap::Args;
use eventlog::Standing;
use eventlog::moving::{Carriable, Carried, Counters, carry, hand_over};

use crate::cli::Place;
use crate::failure::Failure;
use place::Home;

/// How often is said how far it has come.
const TELL: Duration = Duration::from_secs(5);

/// What `fajma migrate` takes: `--from` with `--to`, or `--take-back`.
#[derive(Debug, Clone, Args)]
pub struct Migrate {
    /// The log as it is: a data directory, or kafka://host:port,…/prefix. Nothing may run on it.
    #[arg(long, value_name = "PLACE", requires = "to", required_unless_present = "take_back")]
    pub from: Option<String>,
    /// Where it goes: a data directory without a log, or kafka://host:port,…/prefix without topics, or with empty ones.
    #[arg(long, value_name = "PLACE", requires = "from")]
    pub to: Option<String>,
    /// The old place goes on serving; the new one is a copy to be read and verified, which doors do not start on.
    #[arg(long, requires = "from")]
    pub copy: bool,
    /// Copies of every partition in Kafka: 3 where there are three brokers or more; else as many as topics have that are
    /// there already.
    #[arg(long, value_name = "N", default_value_t = 1, requires = "from")]
    pub replication: u8,
    /// Let a log that was moved away, or is a copy, serve again. What was recorded elsewhere since is not in it.
    #[arg(long, value_name = "PLACE", conflicts_with_all = ["from", "to"])]
    pub take_back: Option<String>,
    /// Print one JSON object.
    #[arg(long)]
    pub json: bool,
    /// The file of options; else fajma.toml here, where there is one.
    #[arg(long, env = "FAJMA_CONFIG")]
    pub config: Option<PathBuf>,
}

/// Carries, or takes back.
///
/// # Errors
/// [`Failure`] with what to do, in one line.
pub async fn run(options: Migrate) -> Result<(), Failure> {
    let settings = Place {
        data: None,
        config: options.config.clone(),
    };
    match (&options.from, &options.to, &options.take_back) {
        (Some(from), Some(to), None) => {
            let (from, to) = (Home::parse(from, &settings)?, Home::parse(to, &settings)?);
            Box::pin(migrate(&options, &from, &to)).await
        }
        (None, None, Some(place)) => take_back(&Home::parse(place, &settings)?).await,
        _ => Err(Failure::WrongUse(
            "--from PLACE --to PLACE, or --take-back PLACE".to_owned(),
        )),
    }
}

async fn migrate(options: &Migrate, from: &Home, to: &Home) -> Result<(), Failure> {
    if from.name == to.name {
        return Err(Failure::WrongUse(format!("{from} is where it is already")));
    }
    let source = from.open().await?;
    may_leave(&*source, from, to, options.copy)?;
    let arriving = to.begin((source.layout(), &from.name), options.replication).await?;
    let counters = Arc::new(Counters::default());
    let telling = tokio::spawn(tell(Arc::clone(&counters)));
    let began = tokio::time::Instant::now();
    let carried = carry(Arc::clone(&source), arriving, counters).await;
    telling.abort();
    let failed = |e| {
        let what = format!("from {from} to {to}, nothing has changed for {from}; the same command begins anew");
        Failure::because(what, e)
    };
    let (target, carried): (Arc<dyn Carriable>, Carried) = carried.map_err(failed)?;
    let half = |e| Failure::because("the move must be ended by the same command", e);
    hand_over((&*source, &from.name), (&*target, &to.name), options.copy)
        .await
        .map_err(half)?;
    let layout = target.layout();
    report::print(&carried, layout, began.elapsed(), options.json);
    if !options.json {
        println!("{}", report::next(from, to, options.copy));
    }
    Ok(())
}

/// Whether the log there is the one to carry.
fn may_leave(source: &dyn Carriable, from: &Home, to: &Home, copy: bool) -> Result<(), Failure> {
    match source.standing() {
        Standing::Serving => Ok(()),
        // The last word of this very move was lost.
        Standing::Left { to: there } if there == to.name => Ok(()),
        _ if copy => Ok(()),
        other => other.check_serving().map_err(|e| Failure::because(from, e)),
    }
}

async fn take_back(home: &Home) -> Result<(), Failure> {
    let log = home.open().await?;
    if log.standing() == Standing::Serving {
        println!("{home} serves already");
        return Ok(());
    }
    let stood = log.standing();
    let serving = log.stand(Standing::Serving).await;
    serving.map_err(|e| Failure::because(home, e))?;
    println!(
        "{home} serves again; it was: {stood}. What was recorded elsewhere since is not in it: never start that place again, \
         and give views that were made from it away."
    );
    Ok(())
}

/// Says how far it has come.
async fn tell(counters: Arc<Counters>) {
    loop {
        tokio::time::sleep(TELL).await;
        let (put, back) = (&counters.put, &counters.read_back);
        let (put, back) = (put.load(Ordering::Relaxed), back.load(Ordering::Relaxed));
        eprintln!("fajma: {put} records carried, {back} read back");
    }
}
