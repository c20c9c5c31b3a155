//! A row's value as bytes: the version first, so that of two values of a key the greater bytes are the one that stays.
//!
//! Eight bytes of version (sign bit flipped, big-endian), one byte that is `00` for a row and `FF` for a removal, then
//! the cells, each a tag and its bytes; nulls at the end take no room.

use bytes::Bytes;
use schemas::avro::{self, Avro};
use schemas::time::Timestamp;
use smol_str::SmolStr;

use crate::key::{self, ordered_int};
use crate::view::{Cell, View};

const ROW: u8 = 0;
const REMOVED: u8 = 0xff;
/// Version and kind.
const HEAD: usize = 9;

const NULL: u8 = 0;
const TEXT: u8 = 1;
const INT: u8 = 2;
const DOUBLE: u8 = 3;
const FALSE: u8 = 4;
const TRUE: u8 = 5;
const TIME: u8 = 6;
const BLOB: u8 = 7;

/// Appends a value; false where the cells do not fit the view.
#[must_use]
pub(super) fn write(view: &View, version: i64, cells: Option<&[Cell]>, out: &mut Vec<u8>) -> bool {
    out.extend_from_slice(&ordered_int(version).to_be_bytes());
    let Some(cells) = cells else {
        out.push(REMOVED);
        return true;
    };
    out.push(ROW);
    if cells.len() != view.columns.len() {
        return false;
    }
    let used = cells.iter().rposition(|c| *c != Cell::Null).map_or(0, |last| last + 1);
    cells.iter().zip(view.columns).take(used).all(|(cell, column)| {
        write_cell(cell, out);
        cell.fits(column.kind)
    })
}

fn write_cell(cell: &Cell, out: &mut Vec<u8>) {
    match cell {
        Cell::Null => out.push(NULL),
        Cell::Text(text) => {
            out.push(TEXT);
            avro::write_text(text, out);
        }
        Cell::Int(n) => {
            out.push(INT);
            n.write(out);
        }
        Cell::Double(x) => {
            out.push(DOUBLE);
            x.write(out);
        }
        Cell::Bool(false) => out.push(FALSE),
        Cell::Bool(true) => out.push(TRUE),
        Cell::Time(at) => {
            out.push(TIME);
            at.write(out);
        }
        Cell::Blob(bytes) => {
            out.push(BLOB);
            bytes.write(out);
        }
    }
}

/// The version of a value.
pub(super) fn version(value: &[u8]) -> i64 {
    value
        .first_chunk()
        .map_or(i64::MIN, |head| key::int_of(u64::from_be_bytes(*head)))
}

/// Whether the value is a removal.
pub(super) fn is_removal(value: &[u8]) -> bool {
    value.get(HEAD - 1) == Some(&REMOVED)
}

/// The cells of a row; `None` where the bytes are none.
pub(super) fn read(view: &View, value: &[u8]) -> Option<Vec<Cell>> {
    let mut from = value.get(HEAD..)?;
    let mut cells = Vec::with_capacity(view.columns.len());
    while !from.is_empty() {
        cells.push(read_cell(&mut from)?);
    }
    if cells.len() > view.columns.len() {
        return None;
    }
    cells.resize(view.columns.len(), Cell::Null);
    Some(cells)
}

fn read_cell(from: &mut &[u8]) -> Option<Cell> {
    let (tag, rest) = from.split_first()?;
    *from = rest;
    Some(match *tag {
        NULL => Cell::Null,
        TEXT => Cell::Text(SmolStr::read(from).ok()?),
        INT => Cell::Int(i64::read(from).ok()?),
        DOUBLE => Cell::Double(f64::read(from).ok()?),
        FALSE => Cell::Bool(false),
        TRUE => Cell::Bool(true),
        TIME => Cell::Time(Timestamp::read(from).ok()?),
        BLOB => Cell::Blob(Bytes::read(from).ok()?),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::{Type, column};

    static VIEW: View = View {
        name: "v",
        partition: &[column("k", Type::Text)],
        clustering: &[],
        columns: &[column("a", Type::Int), column("b", Type::Text), column("c", Type::Bool)],
        grows: false,
    };

    fn bytes(version: i64, cells: Option<&[Cell]>) -> Vec<u8> {
        let mut out = Vec::new();
        assert!(write(&VIEW, version, cells, &mut out));
        out
    }

    #[test]
    fn the_greater_version_is_the_greater_bytes_and_a_removal_beats_a_row() {
        let (small, large) = (
            [Cell::Int(-9), Cell::Null, Cell::Null],
            [Cell::Int(9), "z".into(), true.into()],
        );
        let sorted = [
            bytes(i64::MIN, None),
            bytes(-1, Some(&large)),
            bytes(0, Some(&small)),
            bytes(0, None),
            bytes(1, Some(&small)),
        ];
        assert!(sorted.is_sorted());
        assert!(is_removal(&sorted[3]) && !is_removal(&sorted[4]));
        assert_eq!([version(&sorted[0]), version(&sorted[1])], [i64::MIN, -1]);
    }

    #[test]
    fn nulls_at_the_end_take_no_room_and_read_back() {
        for (cells, length) in [
            ([Cell::Null, Cell::Null, Cell::Null], HEAD),
            ([Cell::Null, "x".into(), Cell::Null], HEAD + 4),
            ([Cell::Int(1), Cell::Null, false.into()], HEAD + 4),
        ] {
            let written = bytes(7, Some(&cells));
            assert_eq!((read(&VIEW, &written), written.len()), (Some(cells.to_vec()), length));
        }
    }

    #[test]
    fn damaged_or_misfitting_cells_are_refused() {
        for bad in [
            &b"short"[..],
            b"012345678\x09",
            b"012345678\x01\x08ab",
            b"012345678\0\0\0\0",
        ] {
            assert_eq!(read(&VIEW, bad), None, "{bad:?}");
        }
        for bad in [vec![], vec![Cell::Int(1)], vec!["x".into(), Cell::Null, Cell::Null]] {
            assert!(!write(&VIEW, 1, Some(&bad), &mut Vec::new()), "{bad:?}");
        }
    }
}
