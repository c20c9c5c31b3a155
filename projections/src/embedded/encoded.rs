//! Changes as bytes: sorted, each key once.

use bytes::Bytes;

use super::value;
use crate::key;
use crate::store::{Change, ViewError};
use crate::view::{Cell, View};

/// Changes as bytes, in one piece of memory that the store's own tables share.
pub(super) struct Encoded {
    pub(super) bytes: Bytes,
    pub(super) spans: Vec<Span>,
}

/// Where one change's bytes are.
pub(super) struct Span {
    /// Of the key.
    pub(super) start: usize,
    /// Where its partition ends.
    pub(super) partition: usize,
    /// Of the value.
    pub(super) middle: usize,
    pub(super) end: usize,
    pub(super) version: i64,
    pub(super) grows: bool,
}

/// One change's bytes.
pub(super) struct Encoding<'a> {
    pub(super) span: &'a Span,
    pub(super) key: &'a [u8],
    pub(super) partition: &'a [u8],
    pub(super) value: &'a [u8],
}

impl Encoded {
    pub(super) fn of(changes: &[Change]) -> Result<Self, ViewError> {
        let mut bytes = Vec::with_capacity(changes.len() * 128);
        let mut spans = Vec::with_capacity(changes.len());
        for change in changes {
            let (view, start) = (change.view, bytes.len());
            let (partition, clustering) = change
                .key
                .split_at_checked(view.partition.len())
                .ok_or(ViewError::Misfit(view.name))?;
            write_key(view, partition, &mut bytes)?;
            let partition = bytes.len();
            if clustering.len() != view.clustering.len() || !key::write_cells(clustering, view.clustering, &mut bytes) {
                return Err(ViewError::Misfit(view.name));
            }
            let middle = bytes.len();
            if !value::write(view, change.version, change.cells.as_deref(), &mut bytes) {
                return Err(ViewError::Misfit(view.name));
            }
            let end = bytes.len();
            spans.push(Span {
                start,
                partition,
                middle,
                end,
                version: change.version,
                grows: view.grows,
            });
        }
        spans.sort_unstable_by(|a, b| {
            let order = bytes[a.start..a.middle].cmp(&bytes[b.start..b.middle]);
            order.then_with(|| bytes[a.middle..a.end].cmp(&bytes[b.middle..b.end]))
        });
        Ok(Self {
            bytes: bytes.into(),
            spans,
        })
    }

    /// Each key once, in order, with the greatest of its values.
    pub(super) fn best(&self) -> impl Iterator<Item = Encoding<'_>> {
        let key = |span: &Span| &self.bytes[span.start..span.middle];
        let next = self.spans.iter().skip(1).map(Some).chain(std::iter::once(None));
        let last = self
            .spans
            .iter()
            .zip(next)
            .filter(move |(span, next)| next.is_none_or(|n| key(n) != key(span)));
        last.map(|(span, _)| Encoding {
            span,
            key: &self.bytes[span.start..span.middle],
            partition: &self.bytes[span.start..span.partition],
            value: &self.bytes[span.middle..span.end],
        })
    }
}

/// Appends the cells of a key, or of its beginning, after the view's name.
pub(super) fn write_key(view: &View, cells: &[Cell], out: &mut Vec<u8>) -> Result<(), ViewError> {
    out.extend_from_slice(view.name.as_bytes());
    out.push(0);
    if key::write_cells(cells, view.key_columns(), out) {
        Ok(())
    } else {
        Err(ViewError::Misfit(view.name))
    }
}
