//! Cells as values of CQL, both ways.

use bytes::Bytes;
use schemas::time::Timestamp;
use scylla::cluster::metadata::ColumnType;
use scylla::errors::SerializationError;
use scylla::response::query_result::QueryResult;
use scylla::serialize::value::SerializeValue;
use scylla::serialize::writers::{CellOverflowError, CellWriter, WrittenCellProof};
use scylla::value::CqlValue;
use smol_str::SmolStr;

use crate::store::ViewError;
use crate::view::{Cell, Column, Row, Type, View};

/// A value in a statement.
#[derive(Debug, Clone, Copy)]
pub(super) enum Bind<'a> {
    Cell(&'a Cell),
    /// Cells as one value.
    Said(&'a [Cell]),
    /// Leaves the column as it is.
    Unset,
    /// A version, as write timestamp.
    Version(i64),
    Limit(i32),
}

impl SerializeValue for Bind<'_> {
    fn serialize<'b>(
        &self,
        _: &ColumnType<'_>,
        writer: CellWriter<'b>,
    ) -> Result<WrittenCellProof<'b>, SerializationError> {
        match self {
            Self::Unset => return Ok(writer.set_unset()),
            Self::Limit(n) => writer.set_value(&n.to_be_bytes()),
            Self::Version(version) => writer.set_value(&timestamp(*version).to_be_bytes()),
            Self::Cell(cell) => write(cell, writer),
            Self::Said(cells) => {
                let mut said = writer.into_value_builder();
                for cell in *cells {
                    write(cell, said.make_sub_writer()).map_err(SerializationError::new)?;
                }
                said.finish()
            }
        }
        .map_err(SerializationError::new)
    }
}

fn write<'b>(cell: &Cell, writer: CellWriter<'b>) -> Result<WrittenCellProof<'b>, CellOverflowError> {
    match cell {
        Cell::Null => Ok(writer.set_null()),
        Cell::Text(text) => writer.set_value(text.as_bytes()),
        Cell::Int(n) | Cell::Time(Timestamp(n)) => writer.set_value(&n.to_be_bytes()),
        Cell::Double(x) => writer.set_value(&x.to_be_bytes()),
        Cell::Bool(b) => writer.set_value(&[u8::from(*b)]),
        Cell::Blob(bytes) => writer.set_value(bytes),
    }
}

/// The write timestamp of a version. The least number means "none" to the database.
const fn timestamp(version: i64) -> i64 {
    if version == i64::MIN { i64::MIN + 1 } else { version }
}

/// The rows of an answer whose columns are those of the view's table, key first.
pub(super) fn rows(view: &'static View, found: QueryResult) -> Result<Vec<Row>, ViewError> {
    let corrupt = |why: String| ViewError::Corrupt(format!("a row of {}: {why}", view.name));
    let found = found.into_rows_result().map_err(|e| corrupt(e.to_string()))?;
    let mut rows = Vec::with_capacity(found.rows_num());
    for row in found.rows::<scylla::value::Row>().map_err(|e| corrupt(e.to_string()))? {
        let mut columns = row.map_err(|e| corrupt(e.to_string()))?.columns;
        if !view.split().1.is_empty() {
            let said = columns.pop().flatten();
            columns.extend(said_of(said).ok_or_else(|| corrupt("what it says".to_owned()))?);
        }
        let wanted = view.key_columns().chain(view.columns);
        let mut key = columns
            .into_iter()
            .zip(wanted)
            .map(|(value, column)| cell(value, column).ok_or_else(|| corrupt(column.name.to_owned())))
            .collect::<Result<Vec<Cell>, ViewError>>()?;
        let cells = key.split_off(view.key_len().min(key.len()));
        rows.push(Row { key, cells });
    }
    Ok(rows)
}

/// The cells of one value.
fn said_of(value: Option<CqlValue>) -> Option<impl Iterator<Item = Option<CqlValue>>> {
    match value? {
        CqlValue::UserDefinedType { fields, .. } => Some(fields.into_iter().map(|(_, value)| value)),
        _ => None,
    }
}

fn cell(value: Option<CqlValue>, column: &Column) -> Option<Cell> {
    let Some(value) = value else { return Some(Cell::Null) };
    Some(match (value, column.kind) {
        (CqlValue::Text(text), Type::Text) => Cell::Text(SmolStr::from(text)),
        (CqlValue::BigInt(n), Type::Int) => Cell::Int(n),
        (CqlValue::BigInt(n), Type::Time) => Cell::Time(Timestamp(n)),
        (CqlValue::Double(x), Type::Double) => Cell::Double(x),
        (CqlValue::Boolean(b), Type::Bool) => Cell::Bool(b),
        (CqlValue::Blob(bytes), Type::Blob) => Cell::Blob(Bytes::from(bytes)),
        // What has no bytes at all is given as such, whatever its type.
        (CqlValue::Empty, Type::Text) => Cell::Text(SmolStr::default()),
        (CqlValue::Empty, Type::Blob) => Cell::Blob(Bytes::new()),
        _ => return None,
    })
}
