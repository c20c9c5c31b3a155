//! What a view is made of: one declaration gives the embedded key, the CQL table and the columns that queries see.

use bytes::Bytes;
use schemas::time::Timestamp;
use smol_str::SmolStr;

/// The type of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Type {
    /// UTF-8 text without NUL.
    Text,
    /// 64-bit integer.
    Int,
    /// 64-bit float.
    Double,
    /// Boolean.
    Bool,
    /// Microseconds since 1970 (CQL: `timestamp` in ms plus what is in the id).
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

/// A view: name, key and columns.
#[derive(Debug, PartialEq, Eq)]
pub struct View {
    /// The table's name.
    pub name: &'static str,
    /// Columns of the partition key, in order; never null.
    pub partition: &'static [Column],
    /// Columns that order rows inside a partition, ascending as stored; never null.
    pub clustering: &'static [Column],
    /// The other columns.
    pub columns: &'static [Column],
}

impl View {
    /// How many columns make the key.
    #[must_use]
    pub const fn key_len(&self) -> usize {
        self.partition.len() + self.clustering.len()
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
