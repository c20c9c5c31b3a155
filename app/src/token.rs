//! `fajma token issue`: a signed token, alone on standard output.

use std::path::PathBuf;
use std::time::Duration;

use api::token::{Keys, issue};
use clap::{Args, Subcommand};
use eventlog::{Clock, SystemClock};
use schemas::access::{Principal, Role};
use schemas::ids::{PatientId, SensorId};
use schemas::time::{Span, Timestamp};
use smol_str::SmolStr;

use crate::cli::Place;
use crate::commands;
use crate::config::Time;
use crate::control::Request;
use crate::failure::Failure;
use crate::house::dir::DataDir;

/// `fajma token …`.
#[derive(Debug, Clone, Subcommand)]
pub enum TokenCommand {
    /// Print a signed token, alone on standard output.
    Issue(Issue),
    /// Take tokens back: within a second they are good for nothing, on connections that are open as well.
    Revoke(Revoke),
}

/// What `fajma token issue` takes.
#[derive(Debug, Clone, Args)]
pub struct Issue {
    /// admin, doctor, patient, analyst, auditor, device or gateway.
    #[arg(long, value_parser = role)]
    pub role: Role,
    /// Who: appears wherever something was done with the token. Else, the role's name. A doctor sees the patients in
    /// whose care team this id is.
    #[arg(long)]
    pub subject: Option<String>,
    /// A patient whom a doctor or a patient may see, or for whom a device may write; may be repeated.
    #[arg(long = "patient", value_parser = PatientId::new)]
    pub patients: Vec<PatientId>,
    /// A sensor for which a device or gateway may write; may be repeated.
    #[arg(long = "sensor", value_parser = SensorId::new)]
    pub sensors: Vec<SensorId>,
    /// How long it is good, like 12h or 30d.
    #[arg(long = "for", default_value = "12h", value_parser = Time::parse)]
    pub lifetime: Time,
    /// The key, where it is not in the data directory.
    #[arg(long, conflicts_with = "data")]
    pub key: Option<PathBuf>,
    /// Where things are.
    #[command(flatten)]
    pub place: Place,
}

/// What `fajma token revoke` takes: one of `--token` and `--subject`.
#[derive(Debug, Clone, Args)]
pub struct Revoke {
    /// A token of this installation, and the sessions that were begun with it; - reads it from standard input.
    #[arg(long, conflicts_with = "subject", required_unless_present = "subject")]
    pub token: Option<String>,
    /// All tokens that this subject was given up to now, whoever issued them.
    #[arg(long)]
    pub subject: Option<String>,
    /// Who takes them back: stands in the journal.
    #[arg(long, env = "USER", default_value = "operator")]
    pub by: String,
    /// Where things are.
    #[command(flatten)]
    pub place: Place,
}

fn role(text: &str) -> Result<Role, String> {
    let roles: Vec<&str> = Role::ALL.iter().map(|role| role.as_str()).collect();
    Role::parse(text).ok_or_else(|| format!("one of {}", roles.join(", ")))
}

/// Signs and prints.
///
/// # Errors
/// [`Failure::WrongUse`] where the role needs patients or sensors, [`Failure::Failed`] where there is no usable key.
pub fn run(options: Issue) -> Result<(), Failure> {
    check(&options)?;
    let path = match &options.key {
        Some(path) => path.clone(),
        None => {
            let dir = DataDir::new(options.place.config(Vec::new())?.data.dir);
            dir.make()?;
            dir.token_key()
        }
    };
    let keys = Keys::load_or_create(&path).map_err(|e| Failure::Failed(e.to_string()))?;
    let subject = options.subject.unwrap_or_else(|| options.role.as_str().to_owned());
    let principal = Principal {
        live: schemas::access::Live::default(),
        subject: SmolStr::new(subject),
        role: options.role,
        patients: options.patients,
        sensors: options.sensors,
    };
    println!("{}", sign(&keys, &principal, options.lifetime.0, SystemClock.now())?);
    Ok(())
}

/// Takes tokens back.
///
/// # Errors
/// [`Failure::WrongUse`] where what is given is no token; as the house answers.
pub async fn revoke(options: Revoke) -> Result<(), Failure> {
    let given = match options.token.as_deref() {
        Some("-") => {
            Some(std::io::read_to_string(std::io::stdin()).map_err(|e| Failure::because("standard input", e))?)
        }
        token => token.map(str::to_owned),
    };
    let token = match given {
        Some(token) => Some(api::token::id_of(token.trim()).ok_or_else(|| {
            Failure::WrongUse("that is no token with an id of its own: take back all of its subject's".to_owned())
        })?),
        None => None,
    };
    let (subject, by) = (options.subject, options.by);
    let done = commands::ask(&options.place, Request::Revoke { token, subject, by }).await?;
    println!("{done}");
    Ok(())
}

fn check(options: &Issue) -> Result<(), Failure> {
    let wrong = |what: &str| {
        Err(Failure::WrongUse(format!(
            "a token for role {} {what}",
            options.role.as_str()
        )))
    };
    match options.role {
        Role::Patient if options.patients.is_empty() => wrong("needs --patient"),
        Role::Doctor if options.patients.is_empty() && options.subject.is_none() => {
            wrong("needs --subject, the id under which the practitioner is registered, or --patient")
        }
        Role::Patient if options.patients.len() > 1 => wrong("is for one --patient"),
        Role::Device | Role::Gateway if options.sensors.is_empty() => wrong("needs --sensor"),
        _ => Ok(()),
    }
}

/// A token for `principal`, good from `now` on.
///
/// # Errors
/// [`Failure::Failed`] where the key does not sign.
pub fn sign(keys: &Keys, principal: &Principal, lifetime: Duration, now: Timestamp) -> Result<String, Failure> {
    let lifetime = Span(i64::try_from(lifetime.as_micros()).unwrap_or(i64::MAX));
    issue(keys, principal, lifetime, now).map_err(|e| Failure::Failed(e.to_string()))
}
