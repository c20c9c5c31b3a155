//! A walk through several partitions of a view at once, in the order of their clustering cells.

use std::ops::{Bound, RangeInclusive};

use bytes::Bytes;

use super::Page;
use crate::key;
use crate::store::{Scan, ViewError, ViewStore};
use crate::view::{Cell, Row, View};
use crate::views::days::DAYS;
use crate::views::start_of;

/// Rows looked at for one page at most: a filter that lets little through gives a short page, not a long wait.
const PATIENCE: usize = 20_000;
/// Rows read from one partition at a time at most.
const STRIDE: usize = 1_024;

/// Where to walk.
pub(super) struct Walk {
    pub(super) view: &'static View,
    /// Partition keys; no clustering key stands in two of them.
    pub(super) partitions: Vec<Vec<Cell>>,
    pub(super) from: Bound<Vec<Cell>>,
    pub(super) to: Bound<Vec<Cell>>,
    pub(super) descending: bool,
}

/// A page being filled by one walk after another.
pub(super) struct Filling {
    view: &'static View,
    limit: usize,
    seen: usize,
    rows: Vec<Row>,
    next: Option<Vec<Cell>>,
}

impl Filling {
    pub(super) const fn new(view: &'static View, limit: usize) -> Self {
        Self {
            view,
            limit,
            seen: 0,
            rows: Vec::new(),
            next: None,
        }
    }

    /// Adds what `keep` lets through; true once the page is full, so that the next walk would be for another page.
    pub(super) async fn add(
        &mut self,
        store: &dyn ViewStore,
        mut walk: Walk,
        keep: impl Fn(&Row) -> bool + Send,
    ) -> Result<bool, ViewError> {
        loop {
            // One more than is missing tells whether there is a next page.
            let missing = (self.limit + 1 - self.rows.len()).min(STRIDE);
            let Stretch { rows, end } = walk.stretch(store, missing).await?;
            self.seen += rows.len();
            for row in rows.into_iter().filter(&keep) {
                if self.rows.len() == self.limit {
                    self.next = self.rows.last().map(|row| clustering(self.view, row));
                    return Ok(true);
                }
                self.rows.push(row);
            }
            let Some(end) = end else { return Ok(false) };
            if self.seen >= PATIENCE {
                self.stop_at(end);
                return Ok(true);
            }
            walk.go_on_after(end);
        }
    }

    /// The next page begins after these clustering cells, although this one may not be full.
    pub(super) fn stop_at(&mut self, cells: Vec<Cell>) {
        self.next = Some(cells);
    }

    /// The page, each row as `read` has it.
    pub(super) fn page<T>(self, read: impl FnMut(Row) -> Result<T, ViewError>) -> Result<Page<T>, ViewError> {
        let items = self.rows.into_iter().map(read).collect::<Result<_, _>>()?;
        Ok(Page {
            items,
            next_cursor: self.next.map(|cells| key::cursor(&cells)),
        })
    }
}

impl Walk {
    /// Goes on after a row or after every row that begins with these cells.
    fn go_on_after(&mut self, cells: Vec<Cell>) {
        if self.descending {
            self.to = Bound::Excluded(cells);
        } else {
            self.from = Bound::Excluded(cells);
        }
    }

    /// The next rows of all partitions, in order, as far as all of them have been read.
    async fn stretch(&self, store: &dyn ViewStore, limit: usize) -> Result<Stretch, ViewError> {
        let mut rows: Vec<(Vec<u8>, Row)> = Vec::new();
        let mut frontier: Option<Vec<u8>> = None;
        for partition in &self.partitions {
            let scan = Scan {
                partition: partition.clone(),
                from: self.from.clone(),
                to: self.to.clone(),
                descending: self.descending,
                limit,
            };
            let read = store.scan(self.view, scan).await?;
            let full = read.len() == limit;
            rows.extend(read.into_iter().map(|row| (self.order(&row), row)));
            if let (true, Some((last, _))) = (full, rows.last())
                && frontier.as_ref().is_none_or(|f| self.before(last, f))
            {
                frontier = Some(last.clone());
            }
        }
        rows.sort_by(|(a, _), (b, _)| if self.descending { b.cmp(a) } else { a.cmp(b) });
        let Some(frontier) = frontier else {
            return Ok(Stretch {
                rows: rows.into_iter().map(|(_, row)| row).collect(),
                end: None,
            });
        };
        let rows: Vec<Row> = rows
            .into_iter()
            .take_while(|(key, _)| !self.before(&frontier, key))
            .map(|(_, row)| row)
            .collect();
        let end = rows.last().map(|row| clustering(self.view, row));
        Ok(Stretch { rows, end })
    }

    /// Whether `a` comes before `b` on this walk.
    fn before(&self, a: &[u8], b: &[u8]) -> bool {
        if self.descending { a > b } else { a < b }
    }

    fn order(&self, row: &Row) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(48);
        for cell in row.key.iter().skip(self.view.partition.len()) {
            // Cells of a key that was read are never null.
            let _ = key::write_cell(cell, &mut bytes);
        }
        bytes
    }
}

/// The clustering cells of a row.
pub(super) fn clustering(view: &View, row: &Row) -> Vec<Cell> {
    row.key.get(view.partition.len()..).unwrap_or_default().to_vec()
}

struct Stretch {
    rows: Vec<Row>,
    /// Where it ends; `None` where every partition has been read to its end.
    end: Option<Vec<Cell>>,
}

/// Days looked at for one page at most.
const DAYS_WALKED: usize = 400;

/// Fills a page of a list that is kept by day and ordered by (moment, id): from the newest of `days` back.
pub(super) async fn by_day(
    store: &dyn ViewStore,
    list: Vec<Cell>,
    days: RangeInclusive<i64>,
    page: &mut Filling,
    walk: impl Fn(Cell) -> Walk + Send,
    keep: impl Fn(&Row) -> bool + Send + Sync,
) -> Result<(), ViewError> {
    let (oldest, newest) = days.into_inner();
    let scan = Scan::of(list, DAYS_WALKED)
        .descending()
        .from(Bound::Included(vec![Cell::Int(oldest)]))
        .to(Bound::Included(vec![Cell::Int(newest)]));
    let days = store.scan(&DAYS, scan).await?;
    let more = days.len() == DAYS_WALKED;
    let mut oldest = None;
    for row in days {
        oldest = row.key.get(DAYS.partition.len()).and_then(Cell::int);
        if page
            .add(store, walk(oldest.map_or(Cell::Null, Cell::Int)), &keep)
            .await?
        {
            return Ok(());
        }
    }
    if let (true, Some(day)) = (more, oldest) {
        page.stop_at(vec![Cell::Time(start_of(day)), Cell::Blob(Bytes::new())]);
    }
    Ok(())
}
