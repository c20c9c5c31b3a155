//! `revocations`: what was given and taken back.

use schemas::journal::{Fact, Recorded};
use smol_str::SmolStr;

use crate::store::Change;
use crate::view::Type::{Text, Time};
use crate::view::{Cell, View, column};

/// Tokens, and subjects all of whose tokens up to a moment are meant.
pub static REVOCATIONS: View = View {
    name: "revocations",
    partition: &[column("list", Text)],
    clustering: &[column("what", Text)],
    columns: &[column("revoked_at", Time), column("revoked_by", Text)],
    apart: 0,
    grows: false,
};

/// Single tokens.
pub const TOKENS: &str = "tokens";
/// Subjects.
pub const SUBJECTS: &str = "subjects";

/// The latest moment counts.
pub fn project(fact: &Recorded, out: &mut Vec<Change>) {
    let Fact::TokensRevoked(it) = &fact.envelope.fact else {
        return;
    };
    let mut put = |list: &'static str, what: &SmolStr| {
        out.push(Change {
            view: &REVOCATIONS,
            key: vec![list.into(), Cell::Text(what.clone())],
            version: fact.envelope.measured_at.0,
            cells: Some(vec![Cell::Time(fact.envelope.measured_at), Cell::Text(it.by.clone())]),
        });
    };
    if let Some(token) = &it.token {
        put(TOKENS, token);
    }
    if let Some(subject) = &it.subject {
        put(SUBJECTS, subject);
    }
}
