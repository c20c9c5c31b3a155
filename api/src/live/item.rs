//! One thing told in a live frame, made from a record of the log once, however many watch.

use std::sync::Arc;

use eventlog::{Entry, Offset, Topic};
use schemas::codec::{self, Catalogue, DecodeError};
use schemas::derived::{Origin, Outcome};
use schemas::ids::Key;
use schemas::journal::Fact;

use crate::wire;

/// Which list of a frame an item belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum List {
    Readings,
    Alerts,
    Windows,
    /// A consultation began: none of a frame's lists; the form is its id.
    Opened,
    /// A consultation ended: the same.
    Closed,
}

/// A record as watchers see it.
#[derive(Debug, Clone)]
pub(super) struct Item {
    pub(super) offset: Offset,
    pub(super) key: Key,
    /// Present on derived records.
    pub(super) origin: Option<Origin>,
    pub(super) list: List,
    /// The wire form.
    pub(super) json: Arc<str>,
}

impl Item {
    /// The offset of the journal's record that it is, or follows from.
    pub(super) fn position(&self) -> Offset {
        self.origin.as_ref().map_or(self.offset, |origin| origin.offset)
    }
}

/// What a record is to watchers; `None` where it is nothing they are told of.
///
/// # Errors
/// [`DecodeError`].
pub(super) fn read(topic: Topic, entry: &Entry, catalogue: &Catalogue) -> Result<Option<Item>, DecodeError> {
    if topic == Topic::Journal {
        return journal(entry, catalogue);
    }
    let Some(derived) = codec::decode_derived(&entry.value, catalogue)? else {
        return Ok(None);
    };
    let (list, json) = match &derived.outcome {
        Outcome::Alert(alert) => (List::Alerts, json(&wire::Alert::of(&derived, alert))),
        Outcome::Window(window) => (List::Windows, json(&wire::Window::of(&derived.key, window))),
        Outcome::Device(_) | Outcome::Consultation(_) | Outcome::Assignment(_) => return Ok(None),
    };
    Ok(Some(Item {
        offset: entry.offset,
        key: derived.key,
        origin: Some(derived.origin),
        list,
        json,
    }))
}

fn journal(entry: &Entry, catalogue: &Catalogue) -> Result<Option<Item>, DecodeError> {
    let envelope = codec::decode(&entry.value, catalogue)?;
    let (list, json) = match &envelope.fact {
        Fact::Reading(reading) => (List::Readings, json(&wire::Reading::of(&envelope, reading))),
        Fact::ConsultationOpened(it) => (List::Opened, it.consultation_id.as_str().into()),
        Fact::ConsultationClosed(it) => (List::Closed, it.consultation_id.as_str().into()),
        _ => return Ok(None),
    };
    Ok(Some(Item {
        offset: entry.offset,
        origin: None,
        list,
        json,
        key: envelope.key,
    }))
}

fn json<T: serde::Serialize>(value: &T) -> Arc<str> {
    // Texts, numbers and lists always have a JSON form.
    serde_json::to_string(value).unwrap_or_default().into()
}
