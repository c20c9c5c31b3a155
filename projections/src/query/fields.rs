//! Rows taken apart, cell by cell in the order of the view's columns.

use bytes::Bytes;
use schemas::ids::EventId;
use schemas::time::Timestamp;
use smol_str::SmolStr;

use crate::store::ViewError;
use crate::view::{Cell, Row, View};

/// The cells of a row that are still to be taken.
pub(super) struct Fields {
    view: &'static View,
    cells: std::iter::Chain<std::vec::IntoIter<Cell>, std::vec::IntoIter<Cell>>,
}

impl Fields {
    /// Key first, then the other columns.
    pub(super) fn of(view: &'static View, row: Row) -> Self {
        Self {
            view,
            cells: row.key.into_iter().chain(row.cells),
        }
    }

    fn next(&mut self) -> Cell {
        self.cells.next().unwrap_or(Cell::Null)
    }

    /// Passes over cells.
    pub(super) fn skip(&mut self, n: usize) {
        for _ in 0..n {
            self.next();
        }
    }

    /// What must be there.
    pub(super) fn need<T>(&self, value: Option<T>) -> Result<T, ViewError> {
        value.ok_or_else(|| ViewError::Corrupt(format!("a row of {} lacks a value", self.view.name)))
    }

    pub(super) fn text(&mut self) -> Option<SmolStr> {
        if let Cell::Text(text) = self.next() {
            Some(text)
        } else {
            None
        }
    }

    pub(super) fn int(&mut self) -> Option<i64> {
        self.next().int()
    }

    pub(super) fn double(&mut self) -> Option<f64> {
        self.next().double()
    }

    pub(super) fn bool(&mut self) -> Option<bool> {
        self.next().bool()
    }

    pub(super) fn time(&mut self) -> Option<Timestamp> {
        self.next().time()
    }

    pub(super) fn blob(&mut self) -> Option<Bytes> {
        if let Cell::Blob(bytes) = self.next() {
            Some(bytes)
        } else {
            None
        }
    }

    /// An id of 16 bytes.
    pub(super) fn id(&mut self) -> Option<EventId> {
        self.blob().and_then(|b| b.as_ref().try_into().ok()).map(EventId)
    }

    /// A text that must be there and be a name of something.
    pub(super) fn named<T>(&mut self, parse: impl FnOnce(&str) -> Option<T>) -> Result<T, ViewError> {
        let parsed = self.text().and_then(|text| parse(&text));
        self.need(parsed)
    }
}
