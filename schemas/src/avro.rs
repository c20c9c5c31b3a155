//! Avro's binary encoding for our own records, written straight into bytes.
//!
//! `apache-avro` parses schemas, resolves old ones and checks compatibility; this module is the hot path, because going
//! through its generic `Value` costs several times more than everything else a reading needs. A test holds every
//! record here against its `.avsc` through `apache-avro`, so the two cannot drift apart.
//!
//! One reading of 100 bytes, on one core of a 2-core virtual machine, November 2026
//! (`cargo run --release -p schemas --example codec_speed`):
//!
//! | | write | read |
//! |---|---|---|
//! | this module | 65 ns | 159 ns |
//! | `apache-avro` 0.22, through `Value` | 1,979 ns | 1,492 ns |
//! | a record of another version, resolved by Avro's rules | – | 10,180 ns |

use bytes::Bytes;
use smol_str::SmolStr;

use crate::ids::{ConsultationId, EventId, Key, PatientId, SensorId, StaffId};
use crate::time::{Span, Timestamp};

/// Bytes that are not the record they should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// The record ends too early.
    #[error("the record ends too early")]
    Short,
    /// A length, index or text that cannot be.
    #[error("{0} is not valid here")]
    Invalid(&'static str),
    /// Bytes are left over.
    #[error("{0} bytes are left over")]
    LeftOver(usize),
}

/// A value with an Avro binary form.
pub trait Avro: Sized {
    /// Appends the value's bytes.
    fn write(&self, out: &mut Vec<u8>);
    /// Takes the value from the front of `from`.
    ///
    /// # Errors
    /// [`Malformed`] where the bytes are no such value.
    fn read(from: &mut &[u8]) -> Result<Self, Malformed>;
}

/// Takes `n` bytes from the front.
fn take<'a>(from: &mut &'a [u8], n: usize) -> Result<&'a [u8], Malformed> {
    let (head, tail) = from.split_at_checked(n).ok_or(Malformed::Short)?;
    *from = tail;
    Ok(head)
}

/// A length in bytes or items, bounded by what is left, so that a lie allocates nothing.
fn length(from: &mut &[u8]) -> Result<usize, Malformed> {
    let n = i64::read(from)?;
    usize::try_from(n)
        .ok()
        .filter(|n| *n <= from.len())
        .ok_or(Malformed::Invalid("a length"))
}

impl Avro for i64 {
    fn write(&self, out: &mut Vec<u8>) {
        let mut n = ((*self << 1) ^ (*self >> 63)) as u64;
        while n >= 0x80 {
            out.push(n as u8 | 0x80);
            n >>= 7;
        }
        out.push(n as u8);
    }

    fn read(from: &mut &[u8]) -> Result<Self, Malformed> {
        let mut n = 0_u64;
        for (i, byte) in from.iter().enumerate().take(10) {
            n |= u64::from(byte & 0x7f) << (7 * i);
            if byte & 0x80 == 0 {
                *from = &from[i + 1..];
                return Ok((n >> 1) as Self ^ -((n & 1) as Self));
            }
        }
        Err(if from.len() < 10 {
            Malformed::Short
        } else {
            Malformed::Invalid("a number")
        })
    }
}

macro_rules! small_int {
    ($($type:ty),*) => {$(
        impl Avro for $type {
            fn write(&self, out: &mut Vec<u8>) {
                i64::from(*self).write(out);
            }
            fn read(from: &mut &[u8]) -> Result<Self, Malformed> {
                Self::try_from(i64::read(from)?).map_err(|_| Malformed::Invalid("a number"))
            }
        }
    )*};
}
small_int!(u8, u16, i32, u32);

impl Avro for bool {
    fn write(&self, out: &mut Vec<u8>) {
        out.push(u8::from(*self));
    }
    fn read(from: &mut &[u8]) -> Result<Self, Malformed> {
        match take(from, 1)?[0] {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Malformed::Invalid("a boolean")),
        }
    }
}

impl Avro for f64 {
    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.to_le_bytes());
    }
    fn read(from: &mut &[u8]) -> Result<Self, Malformed> {
        let bytes = take(from, 8)?.try_into().map_err(|_| Malformed::Short)?;
        Ok(Self::from_le_bytes(bytes))
    }
}

impl Avro for f32 {
    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.to_le_bytes());
    }
    fn read(from: &mut &[u8]) -> Result<Self, Malformed> {
        let bytes = take(from, 4)?.try_into().map_err(|_| Malformed::Short)?;
        Ok(Self::from_le_bytes(bytes))
    }
}

/// Appends a text.
pub fn write_text(text: &str, out: &mut Vec<u8>) {
    (text.len() as i64).write(out);
    out.extend_from_slice(text.as_bytes());
}

/// Takes a text without copying it.
///
/// # Errors
/// [`Malformed`] where there is none.
pub fn read_text<'a>(from: &mut &'a [u8]) -> Result<&'a str, Malformed> {
    let n = length(from)?;
    std::str::from_utf8(take(from, n)?).map_err(|_| Malformed::Invalid("a text"))
}

impl Avro for SmolStr {
    fn write(&self, out: &mut Vec<u8>) {
        write_text(self, out);
    }
    fn read(from: &mut &[u8]) -> Result<Self, Malformed> {
        read_text(from).map(Self::new)
    }
}

macro_rules! named {
    ($($type:ty),*) => {$(
        impl Avro for $type {
            fn write(&self, out: &mut Vec<u8>) {
                write_text(self.as_str(), out);
            }
            fn read(from: &mut &[u8]) -> Result<Self, Malformed> {
                Self::new(read_text(from)?).map_err(|_| Malformed::Invalid("an id"))
            }
        }
    )*};
}
named!(PatientId, SensorId, StaffId, ConsultationId);

impl Avro for Key {
    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Patient(id) => write_text(id.as_str(), out),
            other => write_text(&other.text(), out),
        }
    }
    fn read(from: &mut &[u8]) -> Result<Self, Malformed> {
        Self::parse(read_text(from)?).map_err(|_| Malformed::Invalid("a key"))
    }
}

impl Avro for EventId {
    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0);
    }
    fn read(from: &mut &[u8]) -> Result<Self, Malformed> {
        take(from, 16)?.try_into().map(Self).map_err(|_| Malformed::Short)
    }
}

impl Avro for Timestamp {
    fn write(&self, out: &mut Vec<u8>) {
        self.0.write(out);
    }
    fn read(from: &mut &[u8]) -> Result<Self, Malformed> {
        i64::read(from).map(Self)
    }
}

impl Avro for Span {
    fn write(&self, out: &mut Vec<u8>) {
        self.0.write(out);
    }
    fn read(from: &mut &[u8]) -> Result<Self, Malformed> {
        i64::read(from).map(Self)
    }
}

impl Avro for Bytes {
    fn write(&self, out: &mut Vec<u8>) {
        (self.len() as i64).write(out);
        out.extend_from_slice(self);
    }
    fn read(from: &mut &[u8]) -> Result<Self, Malformed> {
        let n = length(from)?;
        take(from, n).map(Self::copy_from_slice)
    }
}

/// A union of null and `T`, in that order.
impl<T: Avro> Avro for Option<T> {
    fn write(&self, out: &mut Vec<u8>) {
        match self {
            None => out.push(0),
            Some(value) => {
                out.push(2);
                value.write(out);
            }
        }
    }
    fn read(from: &mut &[u8]) -> Result<Self, Malformed> {
        match i64::read(from)? {
            0 => Ok(None),
            1 => T::read(from).map(Some),
            _ => Err(Malformed::Invalid("a union's branch")),
        }
    }
}

/// An array: one block, then the empty block that ends it. Blocks with sizes, as others write them, are read too.
impl<T: Avro> Avro for Vec<T> {
    fn write(&self, out: &mut Vec<u8>) {
        if !self.is_empty() {
            (self.len() as i64).write(out);
            for item in self {
                item.write(out);
            }
        }
        out.push(0);
    }
    fn read(from: &mut &[u8]) -> Result<Self, Malformed> {
        let mut items = Self::new();
        loop {
            let mut n = i64::read(from)?;
            if n == 0 {
                return Ok(items);
            }
            if n < 0 {
                i64::read(from)?;
                n = n.checked_neg().ok_or(Malformed::Invalid("an array's length"))?;
            }
            if n as u64 > from.len() as u64 {
                return Err(Malformed::Invalid("an array's length"));
            }
            for _ in 0..n {
                items.push(T::read(from)?);
            }
        }
    }
}

/// Reads a whole value and refuses what is left over.
///
/// # Errors
/// [`Malformed`] where the bytes are not exactly one such value.
pub fn whole<T: Avro>(mut bytes: &[u8]) -> Result<T, Malformed> {
    let value = T::read(&mut bytes)?;
    if bytes.is_empty() {
        Ok(value)
    } else {
        Err(Malformed::LeftOver(bytes.len()))
    }
}

/// Declares a struct whose fields are written in the order in which they stand, which is the order of its `.avsc`.
macro_rules! record {
    ($(#[$doc:meta])* pub struct $name:ident { $($(#[$fdoc:meta])* pub $field:ident: $type:ty),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
        pub struct $name { $($(#[$fdoc])* pub $field: $type),* }

        impl $crate::avro::Avro for $name {
            fn write(&self, out: &mut Vec<u8>) {
                $( $crate::avro::Avro::write(&self.$field, out); )*
            }
            fn read(from: &mut &[u8]) -> Result<Self, $crate::avro::Malformed> {
                $( let $field = <$type as $crate::avro::Avro>::read(from)?; )*
                Ok(Self { $($field),* })
            }
        }
    };
}
pub(crate) use record;

/// Declares an enum of plain symbols: its Avro index is its place in the list, its text (JSON, messages) the symbol.
macro_rules! symbols {
    ($(#[$doc:meta])* pub enum $name:ident { $($(#[$vdoc:meta])* $variant:ident = $text:literal),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
        pub enum $name { $($(#[$vdoc])* #[serde(rename = $text)] $variant),* }

        impl $name {
            /// Every symbol, in the schema's order.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The symbol as text.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),* }
            }

            /// The symbol of a text.
            #[must_use]
            pub fn parse(text: &str) -> Option<Self> {
                match text { $($text => Some(Self::$variant),)* _ => None }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl $crate::avro::Avro for $name {
            fn write(&self, out: &mut Vec<u8>) {
                $crate::avro::Avro::write(&(*self as i64), out);
            }
            fn read(from: &mut &[u8]) -> Result<Self, $crate::avro::Malformed> {
                let index = <i64 as $crate::avro::Avro>::read(from)?;
                usize::try_from(index).ok().and_then(|i| Self::ALL.get(i)).copied()
                    .ok_or($crate::avro::Malformed::Invalid(stringify!($name)))
            }
        }
    };
}
pub(crate) use symbols;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_zigzag_varints_as_avro_says() {
        for (n, bytes) in [(0, &[0][..]), (-1, &[1]), (1, &[2]), (-64, &[0x7f]), (64, &[0x80, 1])] {
            let mut out = Vec::new();
            i64::write(&n, &mut out);
            assert_eq!(out, bytes);
        }
        for n in [i64::MIN, i64::MAX, 0, -1, 1 << 40] {
            let mut out = Vec::new();
            n.write(&mut out);
            assert_eq!(whole::<i64>(&out), Ok(n));
        }
    }

    #[test]
    fn a_length_that_lies_is_refused_before_anything_is_allocated() {
        let mut out = Vec::new();
        i64::MAX.write(&mut out);
        assert!(whole::<SmolStr>(&out).is_err());
        assert!(whole::<Vec<bool>>(&out).is_err());
        assert!(whole::<Bytes>(&out).is_err());
        assert_eq!(whole::<i64>(&[0x80]), Err(Malformed::Short));
        assert_eq!(whole::<bool>(&[1, 1]), Err(Malformed::LeftOver(1)));
    }

    #[test]
    fn an_array_in_sized_blocks_is_read() {
        // two blocks: (-1 item, 1 byte) [true], (1 item) [false], end
        assert_eq!(whole::<Vec<bool>>(&[1, 2, 1, 2, 0, 0]), Ok(vec![true, false]));
    }
}
