//! The texts of statements, from the declaration of a view. Pure.

use std::fmt::Write;
use std::ops::Bound;

use crate::store::Scan;
use crate::view::{Cell, Column, Type, View};

/// Which set of tables. The first bears the views' own names; a rebuilt one has its number behind them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Generation(i32);

impl Generation {
    pub(super) const FIRST: Self = Self(1);

    pub(super) const fn of(number: i32) -> Self {
        Self(number)
    }

    pub(super) const fn number(self) -> i32 {
        self.0
    }

    pub(super) const fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// The table of a view.
    pub(super) fn table(self, view: &View) -> String {
        if self == Self::FIRST {
            view.name.to_owned()
        } else {
            format!("{}_{}", view.name, self.0)
        }
    }

    /// The type of what a row's columns say as one value.
    pub(super) fn said(self, view: &View) -> String {
        format!("{}_{SAID}", self.table(view))
    }
}

/// The column that holds them.
pub(super) const SAID: &str = "said";

/// A name as it may stand in a statement.
pub(super) fn name(name: &str) -> Result<&str, String> {
    let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    let begins = name.starts_with(|c: char| c.is_ascii_lowercase());
    if begins && name.len() <= 48 && name.chars().all(good) {
        Ok(name)
    } else {
        Err(format!(
            "{name:?} is no name of a keyspace: a letter, then letters, digits and _ (lower case)"
        ))
    }
}

/// The type of a column.
pub(super) const fn of(kind: Type) -> &'static str {
    match kind {
        Type::Text => "text",
        Type::Int | Type::Time => "bigint",
        Type::Double => "double",
        Type::Bool => "boolean",
        Type::Blob => "blob",
    }
}

fn list<'c>(columns: impl IntoIterator<Item = &'c Column>, each: impl Fn(&Column) -> String) -> String {
    columns.into_iter().map(each).collect::<Vec<_>>().join(", ")
}

fn quoted(column: &Column) -> String {
    format!("\"{}\"", column.name)
}

/// The table's columns: the key, what stands apart, the rest as one.
fn names(view: &View) -> Vec<String> {
    let (apart, one) = view.split();
    let said = (!one.is_empty()).then(|| SAID.to_owned());
    view.key_columns().chain(apart).map(quoted).chain(said).collect()
}

/// The type of what the columns that do not stand apart say, where there are such: the database takes one of two writes of
/// one timestamp cell by cell, and such a value is one cell.
pub(super) fn create_type(keyspace: &str, generation: Generation, view: &View) -> Option<String> {
    let (_, one) = view.split();
    let fields = list(one, |c| format!("{} {}", quoted(c), of(c.kind)));
    let name = generation.said(view);
    (!one.is_empty()).then(|| format!("CREATE TYPE IF NOT EXISTS {keyspace}.{name} ({fields})"))
}

/// The table of a view. Raw readings are compacted by the day they were written; what is rewritten, by size.
pub(super) fn create(keyspace: &str, generation: Generation, view: &View) -> String {
    let (apart, one) = view.split();
    let mut columns = list(view.key_columns().chain(apart), |c| {
        format!("{} {}", quoted(c), of(c.kind))
    });
    if !one.is_empty() {
        let _ = write!(columns, ", {SAID} frozen<{}>", generation.said(view));
    }
    let partition = format!("({})", list(view.partition, quoted));
    let key = std::iter::once(partition).chain(view.clustering.iter().map(quoted));
    let mut text = format!(
        "CREATE TABLE IF NOT EXISTS {keyspace}.{} ({columns}, PRIMARY KEY ({}))",
        generation.table(view),
        key.collect::<Vec<_>>().join(", ")
    );
    if view.grows {
        text += " WITH compaction = {'class': 'TimeWindowCompactionStrategy', 'compaction_window_unit': 'DAYS', \
                 'compaction_window_size': 1}";
    }
    text
}

/// Values: key, cells that stand apart, the others as one where there are such, version.
pub(super) fn put(keyspace: &str, generation: Generation, view: &View) -> String {
    let names = names(view);
    format!(
        "INSERT INTO {keyspace}.{} ({}) VALUES ({}) USING TIMESTAMP ?",
        generation.table(view),
        names.join(", "),
        vec!["?"; names.len()].join(", ")
    )
}

/// Values: version, key.
pub(super) fn remove(keyspace: &str, generation: Generation, view: &View) -> String {
    format!(
        "DELETE FROM {keyspace}.{} USING TIMESTAMP ? WHERE {}",
        generation.table(view),
        equal(view.key_columns())
    )
}

fn equal(columns: impl IntoIterator<Item = &'static Column>) -> String {
    let mut text = String::new();
    for column in columns {
        let and = if text.is_empty() { "" } else { " AND " };
        let _ = write!(text, "{and}{} = ?", quoted(column));
    }
    text
}

fn select(keyspace: &str, generation: Generation, view: &View) -> String {
    let columns = names(view).join(", ");
    format!("SELECT {columns} FROM {keyspace}.{}", generation.table(view))
}

/// Values: key.
pub(super) fn get(keyspace: &str, generation: Generation, view: &View) -> String {
    let key = equal(view.key_columns());
    format!("{} WHERE {key}", select(keyspace, generation, view))
}

/// A statement and the cells in it.
#[derive(Debug, PartialEq)]
pub(super) struct Asked<'s> {
    pub(super) text: String,
    pub(super) values: Vec<&'s Cell>,
}

/// Values: partition, bounds, limit. `None` where cells do not fit the view.
pub(super) fn scan<'s>(
    keyspace: &str,
    generation: Generation,
    view: &'static View,
    scan: &'s Scan,
) -> Option<Asked<'s>> {
    let fit = |cells: &[Cell], columns: &[Column]| {
        let fits = |(cell, column): (&Cell, &Column)| *cell != Cell::Null && cell.fits(column.kind);
        cells.len() <= columns.len() && cells.iter().zip(columns).all(fits)
    };
    if scan.partition.len() != view.partition.len() || !fit(&scan.partition, view.partition) {
        return None;
    }
    let mut values: Vec<&Cell> = scan.partition.iter().collect();
    let mut text = format!("{} WHERE {}", select(keyspace, generation, view), equal(view.partition));
    for (bound, including, excluding) in [(&scan.from, ">=", ">"), (&scan.to, "<=", "<")] {
        let (cells, relation) = match bound {
            Bound::Unbounded => continue,
            Bound::Included(cells) => (cells, including),
            Bound::Excluded(cells) => (cells, excluding),
        };
        if cells.is_empty() || !fit(cells, view.clustering) {
            return None;
        }
        let columns = &view.clustering[..cells.len()];
        let marks = list(columns, |_| "?".to_owned());
        let _ = write!(text, " AND ({}) {relation} ({marks})", list(columns, quoted));
        values.extend(cells);
    }
    if scan.descending && !view.clustering.is_empty() {
        let _ = write!(
            text,
            " ORDER BY {}",
            list(view.clustering, |c| format!("{} DESC", quoted(c)))
        );
    }
    text += " LIMIT ?";
    Some(Asked { text, values })
}

/// How far topics have been projected, per set of tables.
pub(super) fn create_progress(keyspace: &str) -> String {
    format!(
        "CREATE TABLE IF NOT EXISTS {keyspace}.progress (generation int, topic text, \"partition\" int, \
         incarnation blob, next bigint, last_origin blob, PRIMARY KEY ((generation, topic, \"partition\")))"
    )
}

/// Which set of tables is in use, and by which declarations it was made.
pub(super) fn create_current(keyspace: &str) -> String {
    format!(
        "CREATE TABLE IF NOT EXISTS {keyspace}.current_views (name text PRIMARY KEY, generation int, declared blob)"
    )
}

/// Values: generation, topic, partition.
pub(super) fn read_progress(keyspace: &str) -> String {
    format!(
        "SELECT incarnation, next, last_origin FROM {keyspace}.progress \
         WHERE generation = ? AND topic = ? AND \"partition\" = ?"
    )
}

/// Values: generation, topic, partition, incarnation, next, last origin.
pub(super) fn write_progress(keyspace: &str) -> String {
    format!(
        "INSERT INTO {keyspace}.progress (generation, topic, \"partition\", incarnation, next, last_origin) \
         VALUES (?, ?, ?, ?, ?, ?)"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::views::alerts::OPEN_ALERTS;
    use crate::views::days::DAYS;
    use crate::views::revocations::REVOCATIONS;

    #[test]
    fn a_rebuilt_view_is_a_new_table() {
        let text = |generation| create("fajma", generation, &DAYS);
        assert_eq!(
            text(Generation::FIRST),
            "CREATE TABLE IF NOT EXISTS fajma.days (\"list\" text, \"of\" text, \"day\" bigint, \"part\" text, \
             PRIMARY KEY ((\"list\", \"of\"), \"day\", \"part\"))"
        );
        assert!(text(Generation::FIRST.next()).contains("fajma.days_2 ("));
    }

    #[test]
    fn what_may_be_said_twice_in_one_version_is_one_value() {
        let second = Generation::FIRST.next();
        assert_eq!(create_type("k", second, &DAYS), None);
        assert_eq!(
            create_type("k", second, &REVOCATIONS).unwrap(),
            "CREATE TYPE IF NOT EXISTS k.revocations_2_said (\"revoked_at\" bigint, \"revoked_by\" text)"
        );
        assert_eq!(
            create("k", second, &REVOCATIONS),
            "CREATE TABLE IF NOT EXISTS k.revocations_2 (\"list\" text, \"what\" text, said frozen<revocations_2_said>, \
             PRIMARY KEY ((\"list\"), \"what\"))"
        );
        assert_eq!(
            put("k", second, &REVOCATIONS),
            "INSERT INTO k.revocations_2 (\"list\", \"what\", said) VALUES (?, ?, ?) USING TIMESTAMP ?"
        );
    }

    #[test]
    fn bounds_are_tuples_of_as_many_columns_as_they_have_cells() {
        let asked = Scan::of(vec![Cell::Int(3)], 5)
            .from(Bound::Excluded(vec![Cell::Time(schemas::time::Timestamp(7))]))
            .descending();
        let asked = scan("k", Generation::FIRST, &OPEN_ALERTS, &asked)
            .map(|asked| asked.text)
            .unwrap();
        let (_, condition) = asked.split_once(" WHERE ").unwrap();
        assert_eq!(
            condition,
            "\"shard\" = ? AND (\"raised_at\") > (?) ORDER BY \"raised_at\" DESC, \"alert_id\" DESC LIMIT ?"
        );
        let foreign = Scan::of(vec![Cell::Bool(true)], 5);
        assert_eq!(scan("k", Generation::FIRST, &OPEN_ALERTS, &foreign), None);
    }
}
