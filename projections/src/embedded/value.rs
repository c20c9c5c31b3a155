//! A row's value as bytes: the version first, so that of two values of a key the greater bytes are the one that stays.
//!
//! Eight bytes of version (sign bit flipped, big-endian), one byte that is `00` for a row and `FF` for a removal, then
//! the cells, each a tag and its bytes; for nulls at the end one byte stands.
//!
//! Of equal versions the cells' bytes decide, and they are in the order of the same cells as one value of CQL: a null is
//! greatest, a longer text or number is greater than a shorter, equally long ones are compared byte by byte, unsigned. So
//! both homes show the same row.

use bytes::Bytes;
use schemas::time::Timestamp;
use smol_str::SmolStr;

use crate::key::{self, ordered_int};
use crate::view::{Cell, View};

const ROW: u8 = 0;
const REMOVED: u8 = 0xff;
/// Version and kind.
const HEAD: usize = 9;

/// Tags of numbers and of lengths say in their lower half how many bytes follow.
const TEXT: u8 = 0x10;
const INT: u8 = 0x20;
const TIME: u8 = 0x30;
const BLOB: u8 = 0x40;
const DOUBLE: u8 = 0x50;
const FALSE: u8 = 0x60;
const TRUE: u8 = 0x61;
const NULL: u8 = 0xfe;
/// Nulls to the end.
const REST: u8 = 0xff;

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
    let fit = cells.iter().zip(view.columns).take(used).all(|(cell, column)| {
        write_cell(cell, out);
        cell.fits(column.kind)
    });
    if used < cells.len() {
        out.push(REST);
    }
    fit
}

fn write_cell(cell: &Cell, out: &mut Vec<u8>) {
    match cell {
        Cell::Null => out.push(NULL),
        Cell::Text(text) => {
            write_number(TEXT, text.len() as u64, out);
            out.extend_from_slice(text.as_bytes());
        }
        Cell::Int(n) => write_number(INT, n.cast_unsigned(), out),
        Cell::Double(x) => {
            out.push(DOUBLE);
            out.extend_from_slice(&x.to_be_bytes());
        }
        Cell::Bool(false) => out.push(FALSE),
        Cell::Bool(true) => out.push(TRUE),
        Cell::Time(Timestamp(at)) => write_number(TIME, at.cast_unsigned(), out),
        Cell::Blob(bytes) => {
            write_number(BLOB, bytes.len() as u64, out);
            out.extend_from_slice(bytes);
        }
    }
}

/// In as few bytes as it takes: so fewer bytes are less.
fn write_number(tag: u8, n: u64, out: &mut Vec<u8>) {
    let bytes = n.to_be_bytes();
    let used = bytes.len() - n.leading_zeros() as usize / 8;
    // At most eight.
    out.push(tag | used as u8);
    out.extend_from_slice(&bytes[bytes.len() - used..]);
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
    while !from.is_empty() && from != [REST] {
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
    Some(match (*tag, tag & 0xf0) {
        (NULL, _) => Cell::Null,
        (FALSE, _) => Cell::Bool(false),
        (TRUE, _) => Cell::Bool(true),
        (DOUBLE, _) => Cell::Double(f64::from_be_bytes(take(from, 8)?.try_into().ok()?)),
        (tag, TEXT) => Cell::Text(SmolStr::new(std::str::from_utf8(read_bytes(tag, from)?).ok()?)),
        (tag, BLOB) => Cell::Blob(Bytes::copy_from_slice(read_bytes(tag, from)?)),
        (tag, INT) => Cell::Int(read_number(tag, from)?.cast_signed()),
        (tag, TIME) => Cell::Time(Timestamp(read_number(tag, from)?.cast_signed())),
        _ => return None,
    })
}

fn read_bytes<'a>(tag: u8, from: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = usize::try_from(read_number(tag, from)?).ok()?;
    take(from, length)
}

fn read_number(tag: u8, from: &mut &[u8]) -> Option<u64> {
    let used = usize::from(tag & 0x0f);
    let mut bytes = [0; 8];
    let start = bytes.len().checked_sub(used)?;
    bytes[start..].copy_from_slice(take(from, used)?);
    Some(u64::from_be_bytes(bytes))
}

fn take<'a>(from: &mut &'a [u8], n: usize) -> Option<&'a [u8]> {
    let (head, tail) = from.split_at_checked(n)?;
    *from = tail;
    Some(head)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::{APART, Type, column};

    static VIEW: View = View {
        name: "v",
        partition: &[column("k", Type::Text)],
        clustering: &[],
        columns: &[column("a", Type::Int), column("b", Type::Text), column("c", Type::Bool)],
        apart: APART,
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
    fn nulls_at_the_end_take_one_byte_and_read_back() {
        for (cells, length) in [
            ([Cell::Null, Cell::Null, Cell::Null], HEAD + 1),
            ([Cell::Null, "x".into(), Cell::Null], HEAD + 5),
            ([Cell::Int(1), Cell::Null, false.into()], HEAD + 4),
            ([Cell::Int(0), "".into(), true.into()], HEAD + 3),
            ([Cell::Int(-1), Cell::Null, Cell::Null], HEAD + 10),
        ] {
            let written = bytes(7, Some(&cells));
            assert_eq!((read(&VIEW, &written), written.len()), (Some(cells.to_vec()), length));
        }
    }

    #[test]
    fn of_equal_versions_bytes_are_in_the_order_of_one_value_of_cql() {
        let long: SmolStr = "a".repeat(300).into();
        let sorted = [
            [Cell::Int(0), "z".into(), true.into()],
            [Cell::Int(1), "".into(), Cell::Null],
            [Cell::Int(1), "b".into(), false.into()],
            [Cell::Int(1), "aa".into(), true.into()],
            [Cell::Int(1), long.into(), true.into()],
            [Cell::Int(1), Cell::Null, false.into()],
            [Cell::Int(1), Cell::Null, Cell::Null],
            [Cell::Int(255), "".into(), true.into()],
            [Cell::Int(256), "".into(), true.into()],
            [Cell::Int(i64::MAX), "".into(), true.into()],
            [Cell::Int(-1), "".into(), true.into()],
            [Cell::Null, "".into(), true.into()],
            [Cell::Null, Cell::Null, true.into()],
            [Cell::Null, Cell::Null, Cell::Null],
        ];
        let written: Vec<_> = sorted.iter().map(|cells| bytes(7, Some(cells))).collect();
        for (pair, cells) in written.windows(2).zip(sorted.windows(2)) {
            assert!(pair[0] < pair[1], "{cells:?}");
        }
    }

    #[test]
    fn damaged_or_misfitting_cells_are_refused() {
        for bad in [
            &b"short"[..],
            b"012345678\x0f",
            b"012345678\x11\x05ab",
            b"012345678\x29123456789",
            b"012345678\x60\x60\x60\x60",
            b"012345678\xff\x60",
        ] {
            assert_eq!(read(&VIEW, bad), None, "{bad:?}");
        }
        for bad in [vec![], vec![Cell::Int(1)], vec!["x".into(), Cell::Null, Cell::Null]] {
            assert!(!write(&VIEW, 1, Some(&bad), &mut Vec::new()), "{bad:?}");
        }
    }
}
