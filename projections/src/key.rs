//! Keys as bytes whose order is the order of their cells, and cursors made of them.
//!
//! Text: its bytes, `00` as `00 FF`, then `00 01`. Integers and moments: big-endian with the sign bit flipped. Floats:
//! IEEE 754 total order. Booleans: one byte. Bytes: as text. So a shorter key sorts before every key that it begins.

use bytes::Bytes;
use schemas::time::Timestamp;
use smol_str::SmolStr;

use crate::view::{Cell, Column, Type};

const SIGN: u64 = 1 << 63;
const ESCAPED: u8 = 0xff;
const END: u8 = 0x01;

/// A number whose big-endian bytes sort as the integer does.
pub(crate) const fn ordered_int(n: i64) -> u64 {
    n.cast_unsigned() ^ SIGN
}

/// The integer of such a number.
pub(crate) const fn int_of(ordered: u64) -> i64 {
    (ordered ^ SIGN).cast_signed()
}

/// A number whose big-endian bytes sort as `f64::total_cmp` does.
const fn ordered_double(x: f64) -> u64 {
    let bits = x.to_bits();
    if bits & SIGN == 0 { bits | SIGN } else { !bits }
}

const fn double_of(ordered: u64) -> f64 {
    f64::from_bits(if ordered & SIGN == 0 { !ordered } else { ordered & !SIGN })
}

/// Appends a cell; false where it has no place in a key (null).
#[must_use]
pub fn write_cell(cell: &Cell, out: &mut Vec<u8>) -> bool {
    match cell {
        Cell::Null => return false,
        Cell::Text(text) => write_bytes(text.as_bytes(), out),
        Cell::Blob(bytes) => write_bytes(bytes, out),
        Cell::Int(n) | Cell::Time(Timestamp(n)) => out.extend_from_slice(&ordered_int(*n).to_be_bytes()),
        Cell::Double(x) => out.extend_from_slice(&ordered_double(*x).to_be_bytes()),
        Cell::Bool(b) => out.push(u8::from(*b)),
    }
    true
}

/// Appends cells; false where one of them is not of its column's type, is null, or there are more cells than columns.
#[must_use]
pub fn write_cells(cells: &[Cell], columns: impl IntoIterator<Item = &'static Column>, out: &mut Vec<u8>) -> bool {
    let mut columns = columns.into_iter();
    cells
        .iter()
        .all(|cell| columns.next().is_some_and(|c| cell.fits(c.kind)) && write_cell(cell, out))
}

fn write_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    let mut rest = bytes;
    while let Some(at) = rest.iter().position(|b| *b == 0) {
        out.extend_from_slice(&rest[..=at]);
        out.push(ESCAPED);
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
    out.extend_from_slice(&[0, END]);
}

/// Takes cells of these columns from the front; `None` where the bytes are not such cells.
pub fn read_cells(from: &mut &[u8], columns: impl IntoIterator<Item = &'static Column>) -> Option<Vec<Cell>> {
    columns.into_iter().map(|column| read_cell(from, column.kind)).collect()
}

fn read_cell(from: &mut &[u8], kind: Type) -> Option<Cell> {
    Some(match kind {
        Type::Text => {
            let raw = read_raw(from)?;
            Cell::Text(SmolStr::new(std::str::from_utf8(&raw).ok()?))
        }
        Type::Blob => Cell::Blob(Bytes::copy_from_slice(&read_raw(from)?)),
        Type::Int => Cell::Int(int_of(read_number(from)?)),
        Type::Time => Cell::Time(Timestamp(int_of(read_number(from)?))),
        Type::Double => Cell::Double(double_of(read_number(from)?)),
        Type::Bool => {
            let (first, rest) = from.split_first()?;
            *from = rest;
            Cell::Bool(*first != 0)
        }
    })
}

fn read_number(from: &mut &[u8]) -> Option<u64> {
    let (head, tail) = from.split_first_chunk::<8>()?;
    *from = tail;
    Some(u64::from_be_bytes(*head))
}

/// The bytes before the end mark, borrowed unless there was something escaped.
fn read_raw<'a>(from: &mut &'a [u8]) -> Option<std::borrow::Cow<'a, [u8]>> {
    let all = *from;
    let mut unescaped = Vec::new();
    let (mut start, mut search) = (0, 0);
    loop {
        let nul = search + all.get(search..)?.iter().position(|b| *b == 0)?;
        match *all.get(nul + 1)? {
            END => {
                *from = &all[nul + 2..];
                if start == 0 {
                    return Some(all[..nul].into());
                }
                unescaped.extend_from_slice(&all[start..nul]);
                return Some(unescaped.into());
            }
            ESCAPED => {
                unescaped.extend_from_slice(&all[start..=nul]);
                start = nul + 2;
                search = start;
            }
            _ => return None,
        }
    }
}

/// The least bytes greater than everything that begins with these; `None` where there is nothing greater.
#[must_use]
pub fn after_prefix(mut prefix: Vec<u8>) -> Option<Vec<u8>> {
    while let Some(last) = prefix.last_mut() {
        if *last < u8::MAX {
            *last += 1;
            return Some(prefix);
        }
        prefix.pop();
    }
    None
}

/// A cursor: an opaque text that holds cells of these columns.
pub(crate) fn cursor(cells: &[Cell]) -> String {
    let mut bytes = Vec::with_capacity(64);
    for cell in cells {
        // A null cannot be part of a key, so it never is part of a cursor.
        let _ = write_cell(cell, &mut bytes);
    }
    bytes
        .iter()
        .fold(String::with_capacity(2 * bytes.len()), |mut text, b| {
            for digit in [b >> 4, b & 15] {
                text.push(char::from(b"0123456789abcdef"[usize::from(digit)]));
            }
            text
        })
}

/// The cells in a cursor; `None` where it is not of these columns.
pub(crate) fn read_cursor(cursor: &str, columns: &'static [Column]) -> Option<Vec<Cell>> {
    let digit = |b: &u8| char::from(*b).to_digit(16);
    let bytes: Option<Vec<u8>> = cursor
        .as_bytes()
        .chunks(2)
        .map(|pair| match pair {
            [high, low] => u8::try_from(digit(high)? * 16 + digit(low)?).ok(),
            _ => None,
        })
        .collect();
    let bytes = bytes?;
    let mut from = bytes.as_slice();
    let cells = read_cells(&mut from, columns)?;
    from.is_empty().then_some(cells)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::column;

    const COLUMNS: &[Column] = &[
        column("t", Type::Text),
        column("i", Type::Int),
        column("d", Type::Double),
    ];

    fn bytes(cells: &[Cell]) -> Vec<u8> {
        let mut out = Vec::new();
        for cell in cells {
            assert!(write_cell(cell, &mut out));
        }
        out
    }

    #[test]
    fn bytes_sort_as_cells_do() {
        let text = |s: &str| Cell::Text(SmolStr::new(s));
        for sorted in [
            ["", "\0", "\0\0", "\0a", "a", "a\0", "a\0b", "aa", "b", "é"]
                .map(text)
                .to_vec(),
            [i64::MIN, -2, -1, 0, 1, 255, 256, i64::MAX].map(Cell::Int).to_vec(),
            [
                f64::NEG_INFINITY,
                -1.5,
                -0.0,
                0.0,
                f64::MIN_POSITIVE,
                1.0,
                1e300,
                f64::INFINITY,
            ]
            .map(Cell::Double)
            .to_vec(),
            [false, true].map(Cell::Bool).to_vec(),
        ] {
            for pair in sorted.windows(2) {
                for next in [Cell::Int(i64::MIN), Cell::Int(i64::MAX)] {
                    let (low, high) = (
                        bytes(&[pair[0].clone(), next]),
                        bytes(&[pair[1].clone(), Cell::Int(i64::MIN)]),
                    );
                    assert!(low < high, "{pair:?}");
                }
            }
        }
    }

    #[test]
    fn cells_read_back_as_they_were_written() {
        for text in ["", "plain", "\0", "a\0\0b", "\0\u{1}"] {
            let cells = vec![Cell::Text(SmolStr::new(text)), Cell::Int(-7), Cell::Double(-2.5)];
            let written = cursor(&cells);
            assert_eq!(read_cursor(&written, COLUMNS), Some(cells));
        }
    }

    #[test]
    fn a_foreign_cursor_is_refused() {
        for bad in ["zz", "0", "00", "61", "6100", "610001ff", "é"] {
            assert_eq!(read_cursor(bad, &COLUMNS[..1]), None, "{bad}");
        }
    }

    #[test]
    fn what_follows_a_prefix_is_after_all_that_begins_with_it() {
        assert_eq!(after_prefix(vec![1, 2]), Some(vec![1, 3]));
        assert_eq!(after_prefix(vec![1, 0xff]), Some(vec![2]));
        assert_eq!(after_prefix(vec![0xff, 0xff]), None);
    }
}
