//! A file as rows, each with its line.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::ops::Range;
use std::path::Path;

use api::RefusedRow;
use schemas::registry::Register;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use super::wrong;
use crate::failure::Failure;

/// One row.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) line: u64,
    pub(super) register: Register,
    pub(super) fields: Map<String, Value>,
}

/// A row that can be judged, or its line and what is wrong with it.
type Read = Result<Row, (u64, RefusedRow)>;

/// Where in a text a row stands, and the register whose list it is in.
type Place = (Range<usize>, Option<Register>);

/// The rows of a file.
pub(super) struct Rows {
    kind: Option<Register>,
    source: Source,
}

enum Source {
    Csv {
        reader: Box<csv::Reader<File>>,
        header: Vec<String>,
        record: csv::StringRecord,
    },
    /// A whole text, and where in it rows stand, each with the list it is in.
    Json {
        text: String,
        places: std::vec::IntoIter<Place>,
        counted: (usize, u64),
    },
    Lines {
        reader: BufReader<File>,
        line: u64,
    },
}

impl Rows {
    /// Opens a file; its ending says how it is read.
    pub(super) fn open(path: &Path, kind: Option<Register>) -> Result<Self, Failure> {
        let wrong = |e: &dyn std::fmt::Display| Failure::WrongUse(format!("{}: {e}", path.display()));
        let ending = path
            .extension()
            .and_then(|e| e.to_str())
            .unwrap_or_default()
            .to_lowercase();
        let source = match ending.as_str() {
            "csv" => {
                let mut reader = csv::ReaderBuilder::new()
                    .trim(csv::Trim::All)
                    .from_path(path)
                    .map_err(|e| wrong(&e))?;
                let header = reader.headers().map_err(|e| wrong(&e))?;
                let header: Vec<String> = header
                    .iter()
                    .map(|name| name.trim_start_matches('\u{feff}').to_lowercase())
                    .collect();
                check(&header, kind).map_err(|e| wrong(&e))?;
                Source::Csv {
                    reader: Box::new(reader),
                    header,
                    record: csv::StringRecord::new(),
                }
            }
            "json" => {
                let text = std::fs::read_to_string(path).map_err(|e| wrong(&e))?;
                let places = places(&text).map_err(|e| wrong(&e))?.into_iter();
                Source::Json {
                    text,
                    places,
                    counted: (0, 1),
                }
            }
            "jsonl" | "ndjson" => Source::Lines {
                reader: BufReader::new(File::open(path).map_err(|e| wrong(&e))?),
                line: 0,
            },
            _ => return Err(wrong(&"its name ends in .csv, .json or .jsonl")),
        };
        Ok(Self { kind, source })
    }

    /// The next row; `None` at the end.
    ///
    /// # Errors
    /// Where the file cannot be read on.
    pub(super) fn next(&mut self) -> Result<Option<Read>, Failure> {
        let kind = self.kind;
        match &mut self.source {
            Source::Csv { reader, header, record } => match reader.read_record(record) {
                Ok(false) => Ok(None),
                Ok(true) => {
                    let line = record.position().map_or(0, csv::Position::line);
                    Ok(Some(of_csv(line, header, record, kind)))
                }
                Err(e) if matches!(e.kind(), csv::ErrorKind::Io(_)) => Err(Failure::because("the file", e)),
                Err(e) => {
                    let line = e.position().map_or(0, csv::Position::line);
                    Ok(Some(Err((line, unreadable(&e)))))
                }
            },
            Source::Json { text, places, counted } => {
                let Some((place, list)) = places.next() else {
                    return Ok(None);
                };
                let before = text.get(counted.0..place.start).unwrap_or_default();
                *counted = (place.start, counted.1 + newlines(before));
                let row = text.get(place).unwrap_or_default();
                Ok(Some(of_json(counted.1, row, list.or(kind))))
            }
            Source::Lines { reader, line } => loop {
                let mut text = String::new();
                let n = reader
                    .read_line(&mut text)
                    .map_err(|e| Failure::because("the file", e))?;
                if n == 0 {
                    return Ok(None);
                }
                *line += 1;
                if !text.trim().is_empty() {
                    return Ok(Some(of_json(*line, &text, kind)));
                }
            },
        }
    }
}

fn newlines(text: &str) -> u64 {
    text.bytes().filter(|b| *b == b'\n').count() as u64
}

fn unreadable(error: &dyn std::fmt::Display) -> RefusedRow {
    wrong(None, &format!("unreadable: {error}"), &format!("illisible : {error}"))
}

/// Columns that no row could fill are a mistake in the first line, not in each.
fn check(header: &[String], kind: Option<Register>) -> Result<(), String> {
    let known = |name: &str| match kind {
        Some(register) => register.fields().contains(&name),
        None => matches!(name, "kind" | "sensor_kind") || Register::ALL.iter().any(|r| r.fields().contains(&name)),
    };
    if !header.iter().any(|name| name == "id") {
        return Err("there is no column id".to_owned());
    }
    if kind.is_none() && !header.iter().any(|name| name == "kind") {
        return Err("there is no column kind: say what the rows are with --kind".to_owned());
    }
    match header.iter().find(|name| *name != "id" && !known(name)) {
        Some(name) => Err(format!("nothing is registered in a column {name}")),
        None => Ok(()),
    }
}

/// Where the rows of a JSON text stand.
fn places(text: &str) -> Result<Vec<Place>, String> {
    let place = |row: &RawValue| {
        // The row is borrowed from the text.
        let start = row.get().as_ptr() as usize - text.as_ptr() as usize;
        start..start + row.get().len()
    };
    let mut found = Vec::new();
    if text.trim_start().starts_with('[') {
        let rows: Vec<&RawValue> = serde_json::from_str(text).map_err(|e| e.to_string())?;
        found.extend(rows.into_iter().map(|row| (place(row), None)));
    } else {
        let lists: BTreeMap<&str, Vec<&RawValue>> = serde_json::from_str(text).map_err(|e| e.to_string())?;
        for (name, rows) in lists {
            let register = Register::parse(name).ok_or_else(|| format!("nothing is registered under {name}"))?;
            found.extend(rows.into_iter().map(|row| (place(row), Some(register))));
        }
        found.sort_by_key(|(place, _)| place.start);
    }
    Ok(found)
}

fn of_json(line: u64, text: &str, kind: Option<Register>) -> Read {
    let mut fields: Map<String, Value> = serde_json::from_str(text).map_err(|e| (line, unreadable(&e)))?;
    let register = match kind {
        Some(register) => register,
        None => {
            let kind = fields.remove("kind");
            let register = named(kind.as_ref().and_then(Value::as_str)).map_err(|why| (line, why))?;
            if let Some(own) = fields.remove("sensor_kind") {
                fields.insert("kind".to_owned(), own);
            }
            register
        }
    };
    Ok(Row { line, register, fields })
}

/// The register that a row names, in the singular or plural.
fn named(kind: Option<&str>) -> Result<Register, RefusedRow> {
    let kind = kind.unwrap_or_default().trim().to_lowercase();
    let found = Register::ALL
        .iter()
        .find(|register| register.as_str() == kind || register.as_str().trim_end_matches('s') == kind);
    found.copied().ok_or_else(|| {
        wrong(
            Some("kind"),
            "patients, practitioners or sensors",
            "patients, practitioners ou sensors",
        )
    })
}

fn of_csv(line: u64, header: &[String], record: &csv::StringRecord, kind: Option<Register>) -> Read {
    let cells = || header.iter().map(String::as_str).zip(record);
    let register = match kind {
        Some(register) => register,
        None => named(cells().find(|(name, _)| *name == "kind").map(|(_, cell)| cell)).map_err(|why| (line, why))?,
    };
    let mut fields = Map::new();
    for (name, cell) in cells() {
        let field = match name {
            "kind" if kind.is_none() => continue,
            "sensor_kind" if kind.is_none() => "kind",
            name => name,
        };
        // One header serves rows of several kinds: what is empty in a column of another kind says nothing.
        if cell.is_empty() && !register.fields().contains(&field) {
            continue;
        }
        fields.insert(field.to_owned(), value(field, cell));
    }
    Ok(Row { line, register, fields })
}

/// A cell as JSON has it; lists have `;` between their items.
fn value(field: &str, cell: &str) -> Value {
    match field {
        _ if cell.is_empty() => Value::Null,
        "conditions" | "care_team" => {
            let items = cell.split(';').map(str::trim).filter(|item| !item.is_empty());
            items.collect::<Vec<_>>().into()
        }
        "expected_every" | "location_lat" | "location_lng" => {
            // What is no number stays a text, and is refused as such.
            cell.parse::<f64>().map_or_else(|_| json!(cell), |number| json!(number))
        }
        _ => json!(cell),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &str, text: &str, kind: Option<Register>) -> Result<Vec<(u64, String)>, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        let mut rows = Rows::open(&path, kind).map_err(|e| e.to_string())?;
        let mut found = Vec::new();
        while let Some(row) = rows.next().map_err(|e| e.to_string())? {
            found.push(match row {
                Ok(row) => (row.line, format!("{} {}", row.register, Value::Object(row.fields))),
                Err((line, why)) => (line, format!("{} {}", why.code, why.field.unwrap_or_default())),
            });
        }
        Ok(found)
    }

    #[test]
    fn every_form_of_the_same_rows_is_read_alike_with_its_lines() {
        let p1 = r#"patients {"conditions":["I10","asthma"],"id":"p1","name":"Awa, Diop"}"#.to_owned();
        let s1 = r#"sensors {"expected_every":30.0,"id":"s1","kind":"ecg"}"#.to_owned();
        let csv = "kind,id,name,conditions,sensor_kind,expected_every\npatient,p1,\"Awa, Diop\",I10; asthma,,\n\
                   sensor,s1,,,ecg,30\n";
        assert_eq!(read("x.csv", csv, None), Ok(vec![(2, p1.clone()), (3, s1.clone())]));
        let lists = "{\"patients\": [\n {\"id\":\"p1\",\"name\":\"Awa, Diop\",\"conditions\":[\"I10\",\"asthma\"]}],\n\
                     \"sensors\": [{\"id\":\"s1\",\"kind\":\"ecg\",\"expected_every\":30.0}]}";
        assert_eq!(read("x.json", lists, None), Ok(vec![(2, p1.clone()), (3, s1.clone())]));
        let lines = "{\"kind\":\"patients\",\"id\":\"p1\",\"name\":\"Awa, Diop\",\"conditions\":[\"I10\",\"asthma\"]}\n\n\
                     {\"kind\":\"sensors\",\"sensor_kind\":\"ecg\",\"id\":\"s1\",\"expected_every\":30.0}\n";
        assert_eq!(read("x.jsonl", lines, None), Ok(vec![(1, p1), (3, s1.clone())]));
        let list = "[\n\n{\"id\":\"s1\",\"kind\":\"ecg\",\"expected_every\":30.0}]";
        assert_eq!(read("x.json", list, Some(Register::Sensors)), Ok(vec![(3, s1.clone())]));
        let csv = "id,kind,expected_every\ns1,ecg,30\n";
        assert_eq!(read("x.csv", csv, Some(Register::Sensors)), Ok(vec![(2, s1)]));
    }

    #[test]
    fn a_bad_row_is_named_and_the_next_is_read() {
        let csv = "id,name\np1,A\np2\np3,\n";
        let read_rows = read("x.csv", csv, Some(Register::Patients)).unwrap();
        assert_eq!(read_rows[1], (3, "invalid ".to_owned()));
        assert_eq!(read_rows[2], (4, r#"patients {"id":"p3","name":null}"#.to_owned()));
        let lines = "{\"id\":\n{\"id\":\"p1\"}\n{\"kind\":\"patient\",\"id\":\"p1\"}\n";
        let read_rows = read("x.jsonl", lines, None).unwrap();
        assert_eq!(read_rows[0], (1, "invalid ".to_owned()));
        assert_eq!(read_rows[1], (2, "invalid kind".to_owned()));
        assert_eq!(read_rows.len(), 3);
    }

    #[test]
    fn a_file_that_cannot_be_meant_is_refused_whole() {
        for (name, text, kind) in [
            ("x.txt", "id\n", None),
            ("x.csv", "name\n", Some(Register::Patients)),
            ("x.csv", "id,colour\n", Some(Register::Patients)),
            ("x.csv", "id,name\n", None),
            ("x.json", "[{]", None),
            ("x.json", "{\"beds\":[]}", None),
        ] {
            assert!(read(name, text, kind).is_err(), "{name} {text}");
        }
    }
}
