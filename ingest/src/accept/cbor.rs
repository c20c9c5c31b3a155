//! SenML in CBOR: the list is taken apart here, each record read by `ciborium`.

use std::borrow::Cow;
use std::ops::Range;

use ciborium::Value;

use super::any::Any;
use super::senml::Record;
use super::{Bounds, Checked};
use crate::refusal::Fault;

/// Visits the records of a CBOR list, until one visit ends it.
pub(super) fn elements(
    bytes: &[u8],
    bounds: Bounds,
    mut each: impl FnMut(Checked<Record<'static>>, Range<usize>) -> Checked<()>,
) -> Checked<()> {
    let (mut left, mut at) = header(bytes)?;
    loop {
        let ended = match left {
            Some(n) => n == 0,
            None => bytes.get(at) == Some(&0xff),
        };
        if ended {
            at += usize::from(left.is_none());
            break;
        }
        let mut rest = bytes.get(at..).unwrap_or_default();
        let value: Value = ciborium::de::from_reader_with_recursion_limit(&mut rest, bounds.depth.saturating_add(2))
            .map_err(|_| Fault::NotCbor.whole("a record cannot be read"))?;
        let range = at..bytes.len() - rest.len();
        at = range.end;
        left = left.map(|n| n - 1);
        let record = if range.len() > bounds.record_bytes {
            Err(Fault::RecordTooLarge.whole(bounds.record_bytes))
        } else {
            record(value)
        };
        each(record, range)?;
    }
    if at == bytes.len() {
        Ok(())
    } else {
        Err(Fault::NotCbor.whole("something follows after the end"))
    }
}

/// How many elements the list has (`None`: until a break), and where the first begins.
fn header(bytes: &[u8]) -> Checked<(Option<u64>, usize)> {
    let first = bytes.first().copied().unwrap_or_default();
    let of = |n: usize| -> Checked<(Option<u64>, usize)> {
        let length = bytes
            .get(1..=n)
            .ok_or_else(|| Fault::NotCbor.whole("it ends too early"))?;
        Ok((Some(length.iter().fold(0, |sum, b| sum << 8 | u64::from(*b))), n + 1))
    };
    match first {
        0x80..=0x97 => Ok((Some(u64::from(first - 0x80)), 1)),
        0x98 => of(1),
        0x99 => of(2),
        0x9a => of(4),
        0x9b => of(8),
        0x9f => Ok((None, 1)),
        _ => Err(Fault::NotCbor.whole("it is no list of records")),
    }
}

fn record(value: Value) -> Checked<Record<'static>> {
    let Value::Map(entries) = value else {
        return Err(Fault::NotAnObject.whole(""));
    };
    let mut record = Record::default();
    for (key, value) in entries {
        let name = match &key {
            Value::Integer(label) => label_of(i128::from(*label)),
            Value::Text(text) => text,
            _ => "",
        };
        record.set(name, any(value));
    }
    Ok(record)
}

/// The JSON name of a label (RFC 8428 §6).
const fn label_of(label: i128) -> &'static str {
    match label {
        -1 => "bver",
        -2 => "bn",
        -3 => "bt",
        -4 => "bu",
        -5 => "bv",
        -6 => "bs",
        0 => "n",
        1 => "u",
        2 => "v",
        3 => "vs",
        4 => "vb",
        5 => "s",
        6 => "t",
        7 => "ut",
        8 => "vd",
        _ => "",
    }
}

fn any(value: Value) -> Any<'static> {
    match value {
        Value::Null => Any::Null,
        Value::Bool(b) => Any::Bool(b),
        Value::Integer(n) => i64::try_from(n).map_or(Any::Nested, Any::Int),
        Value::Float(n) => Any::Num(n),
        Value::Text(text) => Any::Text(Cow::Owned(text)),
        _ => Any::Nested,
    }
}
