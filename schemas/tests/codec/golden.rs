//! Bytes of every version of every kind ever written, read for ever.
//!
//! `golden/<Kind>/v<n>.form` is the schema's canonical form, `.hex` framed records, `.json` what they say. A new version
//! gets its files by `FAJMA_WRITE_GOLDEN=1 cargo test -p schemas golden`; files that are there are never written again.

use std::path::{Path, PathBuf};

use schemas::codec::{self, Catalogue, KINDS, Kind};
use serde_json::Value as Json;

use crate::sample::{self, Tape};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden")
}

/// The file's text; written first if it is missing and `FAJMA_WRITE_GOLDEN` is set.
fn golden(kind: &Kind, extension: &str, fresh: impl FnOnce() -> String) -> String {
    let path = folder().join(kind.name).join(format!("v{}.{extension}", kind.version));
    if !path.exists() && std::env::var_os("FAJMA_WRITE_GOLDEN").is_some() {
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder that can be made");
        std::fs::write(&path, fresh()).expect("a file that can be written");
    }
    std::fs::read_to_string(&path)
        .unwrap_or_else(|e| panic!("{}: {e}; FAJMA_WRITE_GOLDEN=1 writes what is missing", path.display()))
}

/// Everything absent or zero, everything present, and three mixtures.
fn fresh_records(kind: &Kind) -> Vec<Vec<u8>> {
    let schema = sample::parse(kind);
    let full = sample::scrambled(0).iter().map(|n| n | 1).collect();
    let tapes = [
        vec![],
        full,
        sample::scrambled(1_000),
        sample::scrambled(2_000),
        sample::scrambled(3_000),
    ];
    tapes
        .iter()
        .map(|tape| {
            sample::framed(
                kind.id,
                &sample::write(&schema, &sample::value(&schema, &mut Tape(tape))),
            )
        })
        .collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn unhex(line: &str) -> Vec<u8> {
    let digits = (0..line.len()).step_by(2);
    digits
        .map(|i| u8::from_str_radix(&line[i..i + 2], 16).expect("hex digits"))
        .collect()
}

/// Whether all that `old` says is said by `new`, which may have fields that did not exist then.
fn says_as_much(new: &Json, old: &Json) -> bool {
    match (new, old) {
        (Json::Object(new), Json::Object(old)) => old
            .iter()
            .all(|(name, value)| new.get(name).is_some_and(|found| says_as_much(found, value))),
        (Json::Array(new), Json::Array(old)) => {
            new.len() == old.len() && new.iter().zip(old).all(|(new, old)| says_as_much(new, old))
        }
        // A reader of JSON may miss the last bit of a number; the bytes hold it exactly.
        (Json::Number(new), Json::Number(old)) => new == old || nearly(new.as_f64(), old.as_f64()),
        _ => new == old,
    }
}

fn nearly(new: Option<f64>, old: Option<f64>) -> bool {
    matches!((new, old), (Some(new), Some(old)) if (new - old).abs() <= old.abs() * 1e-15)
}

#[test]
fn a_schema_that_has_been_written_never_changes_its_form() {
    for kind in KINDS {
        let form = sample::parse(kind).canonical_form();
        let golden = golden(kind, "form", || format!("{form}\n"));
        assert_eq!(
            form,
            golden.trim_end(),
            "{} v{}: a change needs a new version",
            kind.name,
            kind.version
        );
    }
}

#[test]
fn bytes_of_every_version_are_read_for_ever_and_the_newest_is_written() {
    let catalogue = Catalogue::builtin();
    for kind in KINDS {
        let lines = golden(kind, "hex", || {
            fresh_records(kind).iter().map(|bytes| hex(bytes) + "\n").collect()
        });
        let read = |line: &str| {
            sample::through_ours(&unhex(line), &catalogue)
                .unwrap_or_else(|e| panic!("{} v{}: {e}", kind.name, kind.version))
        };
        let said = golden(kind, "json", || {
            let records: Vec<Json> = lines.lines().map(|line| read(line).0).collect();
            serde_json::to_string_pretty(&records).expect("JSON") + "\n"
        });
        let said: Vec<Json> = serde_json::from_str(&said).expect("JSON");
        assert_eq!(said.len(), lines.lines().count(), "{}", kind.name);
        let newest = codec::newest(kind.name).expect("a kind");
        for (line, old) in lines.lines().zip(&said) {
            let (json, again) = read(line);
            assert!(
                says_as_much(&json, old),
                "{} v{}: {json} is not {old}",
                kind.name,
                kind.version
            );
            assert_eq!(codec::unframe(&unhex(line)).map(|(id, _)| id), Ok(kind.id));
            assert_eq!(codec::unframe(&again).map(|(id, _)| id), Ok(newest.id));
            if newest.id == kind.id {
                assert_eq!(
                    hex(&again),
                    line,
                    "{}: other bytes than it has always written",
                    kind.name
                );
            }
        }
    }
}

#[test]
fn no_version_is_forgotten() {
    for kind in std::fs::read_dir(folder()).expect("the golden folder") {
        let kind = kind.expect("a folder").path();
        let name = kind.file_name().and_then(|n| n.to_str()).expect("a name").to_owned();
        for file in std::fs::read_dir(&kind).expect("a folder") {
            let file = file.expect("a file").path();
            let version = file.file_stem().and_then(|n| n.to_str()).expect("a name").to_owned();
            assert!(
                KINDS
                    .iter()
                    .any(|k| k.name == name && format!("v{}", k.version) == version),
                "{} has no schema any more, but logs may hold its bytes",
                file.display()
            );
        }
    }
}
