//! `registered_patients`, `practitioners`, `registered_sensors`: who is registered; `names` and `mac_addresses`: how they
//! are found.
//!
//! What is registered and what was heard stand in views of their own, so that neither writes over the other.

use schemas::journal::Recorded;
use schemas::registry::{Entry, Register};
use smol_str::{SmolStr, ToSmolStr};
use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;

use super::{owned, shard};
use crate::store::Change;
use crate::view::Type::{Bool, Int, Text, Time};
use crate::view::{APART, Cell, Column, View, column};

const COLUMNS: &[Column] = &[
    column("revision", Int),
    column("ended", Bool),
    // JSON: the fields of the registration.
    column("record", Text),
    column("recorded_by", Text),
    column("since", Time),
];

/// One row per patient ever registered.
pub static REGISTERED_PATIENTS: View = View {
    name: "registered_patients",
    partition: &[column("shard", Int)],
    clustering: &[column("patient_id", Text)],
    columns: COLUMNS,
    apart: APART,
    grows: false,
};

/// One row per practitioner ever registered.
pub static PRACTITIONERS: View = View {
    name: "practitioners",
    partition: &[column("shard", Int)],
    clustering: &[column("practitioner_id", Text)],
    columns: COLUMNS,
    apart: APART,
    grows: false,
};

/// One row per sensor ever registered.
pub static REGISTERED_SENSORS: View = View {
    name: "registered_sensors",
    partition: &[column("shard", Int)],
    clustering: &[column("sensor_id", Text)],
    columns: COLUMNS,
    apart: APART,
    grows: false,
};

/// Every name somebody was ever registered under, as [`entries`] has it. Rows stay when a name changes: whoever finds
/// one looks at the registration.
pub static NAMES: View = View {
    name: "names",
    partition: &[column("register", Text), column("shard", Int)],
    clustering: &[column("name", Text), column("id", Text)],
    columns: &[column("since", Time)],
    apart: APART,
    grows: false,
};

/// Every sensor that was ever registered with an address. Rows stay when an address changes: whoever finds one looks at
/// the registration.
pub static MAC_ADDRESSES: View = View {
    name: "mac_addresses",
    partition: &[column("mac_address", Text)],
    clustering: &[column("sensor_id", Text)],
    columns: &[column("since", Time)],
    apart: APART,
    grows: false,
};

/// The view of a register.
#[must_use]
pub fn view(register: Register) -> &'static View {
    match register {
        Register::Patients => &REGISTERED_PATIENTS,
        Register::Practitioners => &PRACTITIONERS,
        Register::Sensors => &REGISTERED_SENSORS,
    }
}

/// The newest in the journal wins.
pub fn project(fact: &Recorded, out: &mut Vec<Change>) {
    let envelope = &fact.envelope;
    let (Some(entry), Some((register, id))) = (Entry::of(&envelope.fact), Register::of(&envelope.key)) else {
        return;
    };
    let since = Cell::Time(envelope.received_at);
    let mut put = |view, key, cells| {
        out.push(Change {
            view,
            key,
            version: owned(fact.offset, 0),
            cells: Some(cells),
        });
    };
    // Texts, numbers and lists always have a JSON form.
    let record = serde_json::to_string(&entry.record.to_json()).unwrap_or_default();
    put(
        view(register),
        vec![shard(&id), Cell::Text(id.clone())],
        vec![
            Cell::Int(i64::from(entry.revision)),
            Cell::Bool(entry.ended),
            Cell::Text(SmolStr::from(record)),
            Cell::Text(entry.by),
            since.clone(),
        ],
    );
    for name in entry.record.name().into_iter().flat_map(|name| entries(name)) {
        put(
            &NAMES,
            vec![
                register.as_str().into(),
                shard(&id),
                Cell::Text(name),
                Cell::Text(id.clone()),
            ],
            vec![since.clone()],
        );
    }
    if let Some(mac) = entry.record.mac_address() {
        put(
            &MAC_ADDRESSES,
            vec![Cell::Text(mac.clone()), Cell::Text(id)],
            vec![since],
        );
    }
}

/// Words of a name by which it is found at most.
const WORDS: usize = 6;

/// A name as it is looked for: small letters without accents, one blank between words.
#[must_use]
pub fn folded(name: &str) -> String {
    let plain: String = name.nfd().filter(|c| !is_combining_mark(*c)).collect();
    let words: Vec<String> = plain.split_whitespace().map(str::to_lowercase).collect();
    words.join(" ")
}

/// What a name is found by: itself, and what stands from each further word on, so that every word of it finds it.
#[must_use]
pub fn entries(name: &str) -> Vec<SmolStr> {
    let folded = folded(name);
    let blanks = folded.match_indices(' ').map(|(at, _)| at + 1);
    let starts = std::iter::once(0).chain(blanks).take(WORDS);
    starts
        .filter_map(|at| folded.get(at..))
        .filter(|entry| !entry.is_empty())
        .map(|entry| entry.to_smolstr())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_found_by_each_of_its_words_without_accents() {
        assert_eq!(
            entries(" Aïssatou  N’Diaye Bâ"),
            ["aissatou n’diaye ba", "n’diaye ba", "ba"]
        );
        assert_eq!(entries("  "), [""; 0]);
        assert_eq!(entries("a b c d e f g h").len(), WORDS);
    }
}
