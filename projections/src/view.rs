//! What a view is made of: one declaration gives the embedded key, the CQL table and the columns that queries see.

use bytes::Bytes;
use schemas::time::Timestamp;
use smol_str::SmolStr;

/// The type of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Type {
    /// UTF-8 text.
    Text,
    /// 64-bit integer.
    Int,
    /// 64-bit float.
    Double,
    /// Boolean.
    Bool,
    /// Microseconds since 1970 (CQL: `bigint`, because `timestamp` has milliseconds only).
    Time,
    /// Bytes.
    Blob,
}

/// A column: its name and type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: &'static str,
    /// Its type.
    pub kind: Type,
}

/// A column of a type: for declarations.
#[must_use]
pub(crate) const fn column(name: &'static str, kind: Type) -> Column {
    Column { name, kind }
}

/// A value in a row.
#[derive(Debug, Clone, PartialEq)]
pub enum Cell {
    /// Nothing.
    Null,
    /// Text.
    Text(SmolStr),
    /// Integer.
    Int(i64),
    /// Float.
    Double(f64),
    /// Boolean.
    Bool(bool),
    /// Moment.
    Time(Timestamp),
    /// Bytes.
    Blob(Bytes),
}

impl Cell {
    /// Whether it may stand in a column of this type; null may stand in any.
    #[must_use]
    pub const fn fits(&self, kind: Type) -> bool {
        matches!(
            (self, kind),
            (Self::Null, _)
                | (Self::Text(_), Type::Text)
                | (Self::Int(_), Type::Int)
                | (Self::Double(_), Type::Double)
                | (Self::Bool(_), Type::Bool)
                | (Self::Time(_), Type::Time)
                | (Self::Blob(_), Type::Blob)
        )
    }

    /// The text in it.
    #[must_use]
    pub const fn text(&self) -> Option<&SmolStr> {
        if let Self::Text(text) = self { Some(text) } else { None }
    }

    /// The integer in it.
    #[must_use]
    pub const fn int(&self) -> Option<i64> {
        if let Self::Int(n) = self { Some(*n) } else { None }
    }

    /// The float in it.
    #[must_use]
    pub const fn double(&self) -> Option<f64> {
        if let Self::Double(x) = self { Some(*x) } else { None }
    }

    /// The boolean in it.
    #[must_use]
    pub const fn bool(&self) -> Option<bool> {
        if let Self::Bool(b) = self { Some(*b) } else { None }
    }

    /// The moment in it.
    #[must_use]
    pub const fn time(&self) -> Option<Timestamp> {
        if let Self::Time(at) = self { Some(*at) } else { None }
    }

    /// The bytes in it.
    #[must_use]
    pub const fn blob(&self) -> Option<&Bytes> {
        if let Self::Blob(bytes) = self {
            Some(bytes)
        } else {
            None
        }
    }
}

/// Something that is a cell, or nothing at all.
macro_rules! cell_from {
    ($($type:ty => $variant:ident),*) => {$(
        impl From<$type> for Cell {
            fn from(value: $type) -> Self {
                Self::$variant(value)
            }
        }
    )*};
}
cell_from!(SmolStr => Text, i64 => Int, f64 => Double, bool => Bool, Timestamp => Time, Bytes => Blob);

impl From<&'static str> for Cell {
    fn from(text: &'static str) -> Self {
        Self::Text(SmolStr::new_static(text))
    }
}

impl<T: Into<Self>> From<Option<T>> for Cell {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

/// A view: name, key and columns.
#[derive(Debug, PartialEq, Eq)]
pub struct View {
    /// The table's name: lower-case letters and `_`.
    pub name: &'static str,
    /// Columns of the partition key, in order; never null.
    pub partition: &'static [Column],
    /// Columns that order rows inside a partition, ascending as stored; never null.
    pub clustering: &'static [Column],
    /// The other columns. Those that are mostly null stand last: they then take no room.
    pub columns: &'static [Column],
    /// How many of the columns stand apart ([`APART`]: all). What those say follows from the key, or no two facts give the
    /// row in one version. Where two may (a sensor that says two values of one moment), the rest of the columns are one
    /// value in every home: a row is then the one fact's or the other's, never some of each.
    pub apart: usize,
    /// Whether rows are added at the end of partitions and seldom written again: a hint to homes.
    pub grows: bool,
}

/// All of a view's columns stand apart.
pub const APART: usize = usize::MAX;

impl View {
    /// How many columns make the key.
    #[must_use]
    pub const fn key_len(&self) -> usize {
        self.partition.len() + self.clustering.len()
    }

    /// The columns that stand apart, and those that are one value.
    #[must_use]
    pub fn split(&self) -> (&'static [Column], &'static [Column]) {
        self.columns.split_at(self.apart.min(self.columns.len()))
    }

    /// The columns of the key, in order.
    pub fn key_columns(&self) -> impl Iterator<Item = &'static Column> + use<> {
        self.partition.iter().chain(self.clustering)
    }
}

/// A whole row.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// Partition and clustering cells, in order.
    pub key: Vec<Cell>,
    /// The other cells, in the order of [`View::columns`].
    pub cells: Vec<Cell>,
}
