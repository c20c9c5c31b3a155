//! `fajma import`: patients, practitioners and sensors from a file.
//!
//! A row gives the fields of one registration; a field that is not there stays as it is registered, an empty one is
//! registered no more. Rows that say what is registered already change nothing, so an import that was cut off is run
//! again, whole. Bad rows are named, the others taken.

mod rows;

use std::collections::HashSet;
use std::path::PathBuf;

use api::{Imported, Problem, RefusedRow};
use clap::Args;
use eventlog::{Clock, SystemClock};
use schemas::registry::{self, Register};
use schemas::time::Timestamp;
use serde::Serialize;
use serde_json::{Map, Value};
use smol_str::{SmolStr, ToSmolStr, format_smolstr};

use crate::cli::Place;
use crate::control::{Conversation, Request};
use crate::failure::Failure;
use rows::{Row, Rows};

/// What `fajma import` takes.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// The file: .csv, .json (a list, or lists under patients, practitioners, sensors) or .jsonl (one object per line).
    pub file: PathBuf,
    /// What the rows are: patients, practitioners or sensors; else each says so in a field `kind`, and a sensor's own
    /// kind is in `sensor_kind`.
    #[arg(long, value_parser = register)]
    pub kind: Option<Register>,
    /// Judge every row, change nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Who: stands in the journal.
    #[arg(long, env = "USER", default_value = "operator")]
    pub by: String,
    /// Print one JSON object.
    #[arg(long)]
    pub json: bool,
    /// Where things are.
    #[command(flatten)]
    pub place: Place,
}

fn register(text: &str) -> Result<Register, String> {
    Register::parse(text).ok_or_else(|| "patients, practitioners or sensors".to_owned())
}

/// Rows sent at once at most.
const BATCH_ROWS: usize = 1_000;
/// Their bytes at most, as JSON: half of the longest request.
const BATCH_BYTES: usize = 512 * 1024;

/// A row that was not taken.
#[derive(Debug, Serialize)]
struct Refused {
    line: u64,
    field: Option<String>,
    code: String,
    detail: String,
    detail_fr: String,
}

impl Refused {
    fn new(line: u64, why: RefusedRow) -> Self {
        Self {
            line,
            field: why.field,
            code: why.code,
            detail: why.detail,
            detail_fr: why.detail_fr,
        }
    }
}

#[derive(Debug, Default, Serialize)]
struct Report {
    created: usize,
    changed: usize,
    unchanged: usize,
    refused: Vec<Refused>,
    dry_run: bool,
}

/// Rows that go together.
#[derive(Default)]
struct Batch {
    register: Option<Register>,
    lines: Vec<u64>,
    rows: Vec<Map<String, Value>>,
    bytes: usize,
}

struct Import<'a> {
    options: &'a Options,
    house: Conversation,
    report: Report,
    batch: Batch,
    /// Ids and addresses of the file so far.
    seen: HashSet<SmolStr>,
}

/// `fajma import`.
///
/// # Errors
/// Where the file cannot be read, rows were refused, or the house cannot be asked: what was taken until then stays.
pub async fn run(options: Options) -> Result<(), Failure> {
    let begun = SystemClock.now();
    let mut rows = Rows::open(&options.file, options.kind)?;
    let mut import = Import {
        house: Conversation::new(options.place.config(Vec::new())?),
        options: &options,
        report: Report {
            dry_run: options.dry_run,
            ..Report::default()
        },
        batch: Batch::default(),
        seen: HashSet::new(),
    };
    let done = import.all(&mut rows).await;
    import.house.close().await;
    done?;
    tell(&options, &import.report, begun);
    if import.report.refused.is_empty() {
        Ok(())
    } else {
        Err(Failure::Failed(format!(
            "{} rows were not taken",
            import.report.refused.len()
        )))
    }
}

impl Import<'_> {
    async fn all(&mut self, rows: &mut Rows) -> Result<(), Failure> {
        while let Some(next) = rows.next()? {
            match next.and_then(|row| self.once(row)) {
                Ok(row) => self.take(row).await?,
                Err((line, why)) => self.report.refused.push(Refused::new(line, why)),
            }
        }
        self.send().await?;
        self.report.refused.sort_by_key(|refused| refused.line);
        Ok(())
    }

    /// A row whose id and address no earlier one has.
    fn once(&mut self, row: Row) -> Result<Row, (u64, RefusedRow)> {
        let text = |field: &str| row.fields.get(field).and_then(Value::as_str).map(str::trim);
        let id = text("id").map(|id| format_smolstr!("{} {id}", row.register));
        let mac = text("mac_address").and_then(registry::mac);
        for (field, name) in [("id", id), ("mac_address", mac)] {
            if name.is_some_and(|name| !self.seen.insert(name)) {
                return Err((row.line, RefusedRow::new(0, &Problem::Repeated { field })));
            }
        }
        Ok(row)
    }

    async fn take(&mut self, row: Row) -> Result<(), Failure> {
        let bytes = serde_json::to_vec(&row.fields).map_or(usize::MAX, |json| json.len());
        if bytes > BATCH_BYTES {
            let why = RefusedRow::new(0, &Problem::TooLarge);
            self.report.refused.push(Refused::new(row.line, why));
            return Ok(());
        }
        let full = self.batch.rows.len() == BATCH_ROWS || self.batch.bytes + bytes > BATCH_BYTES;
        if full || self.batch.register.is_some_and(|register| register != row.register) {
            self.send().await?;
        }
        self.batch.register = Some(row.register);
        self.batch.lines.push(row.line);
        self.batch.rows.push(row.fields);
        self.batch.bytes += bytes;
        Ok(())
    }

    async fn send(&mut self) -> Result<(), Failure> {
        let Batch {
            register: Some(register),
            lines,
            rows,
            ..
        } = std::mem::take(&mut self.batch)
        else {
            return Ok(());
        };
        let request = Request::Import {
            register,
            rows,
            by: self.options.by.clone(),
            dry_run: self.options.dry_run,
        };
        let answer = self.house.ask(request).await?;
        let imported: Imported =
            serde_json::from_value(answer).map_err(|e| Failure::because("the server's answer", e))?;
        self.report.created += imported.created;
        self.report.changed += imported.changed;
        self.report.unchanged += imported.unchanged;
        let refused = imported.refused.into_iter();
        self.report
            .refused
            .extend(refused.map(|why| Refused::new(lines.get(why.row).copied().unwrap_or_default(), why)));
        Ok(())
    }
}

fn tell(options: &Options, report: &Report, begun: Timestamp) {
    if options.json {
        if let Ok(json) = serde_json::to_string(report) {
            println!("{json}");
        }
        return;
    }
    for refused in &report.refused {
        let field = refused
            .field
            .as_deref()
            .map(|field| format!("{field}: "))
            .unwrap_or_default();
        eprintln!("line {}: {field}{}: {}", refused.line, refused.code, refused.detail);
    }
    let seconds = (SystemClock.now() - begun).as_seconds();
    let rows = report.created + report.changed + report.unchanged + report.refused.len();
    let rate = (rows as f64 / seconds.max(0.001)).round();
    let would = if report.dry_run { "would be " } else { "" };
    println!(
        "{rows} rows in {seconds:.1} s ({rate}/s): {} {would}created, {} {would}changed, {} unchanged, {} refused",
        report.created,
        report.changed,
        report.unchanged,
        report.refused.len()
    );
}

/// What is wrong with a row as a whole.
fn wrong(field: Option<&str>, detail: &str, detail_fr: &str) -> RefusedRow {
    let problem = Problem::Invalid {
        field: field.map(str::to_owned),
        detail: detail.to_smolstr().into(),
        detail_fr: detail_fr.to_smolstr().into(),
    };
    RefusedRow::new(0, &problem)
}
